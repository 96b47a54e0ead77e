"""Networks that are made ahead: as empty as new ones, and given on only while they are."""

from __future__ import annotations

import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api.local import networks
from sandbox_api.local.networks import Network, Networks

from .test_pool import output, pooled, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox_api.local.pool import Pool


def possible() -> bool:
    """Tell whether this process may make networks."""
    try:
        Network().close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not possible(), reason="only root may make networks"
)

HELD = "readlink /proc/self/ns/net"
SENT = "exec 3<>/dev/udp/127.0.0.1/9; echo x >&3"


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


def inside(network: Network, work: Callable[[], object]) -> None:
    """Do work in a network, in a thread that ends with it."""
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            assert networks.LIBC.setns(network.descriptor, networks.NEW_NETWORK) == 0
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures


def test_a_new_network_has_a_loopback_interface_and_nothing_else(network: Network) -> None:
    def look() -> None:
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        with socket.socket() as outside, pytest.raises(OSError, match="unreachable"):
            outside.connect(("192.0.2.1", 80))

    before = socket.if_nameindex()
    inside(network, look)
    assert socket.if_nameindex() == before


def test_a_network_is_unused_until_something_was_sent(network: Network) -> None:
    assert network.unused()
    inside(network, lambda: socket.create_server(("127.0.0.1", 0)).close())
    assert network.unused()

    def send() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sending:
            sending.sendto(b"", ("127.0.0.1", 9))

    inside(network, send)
    assert not network.unused()


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET, socket.AF_INET6])
def test_a_network_with_a_socket_is_in_use(network: Network, family: int) -> None:
    opened: list[socket.socket] = []
    inside(network, lambda: opened.append(socket.socket(family)))
    assert not network.unused()
    opened.pop().close()
    assert network.unused()


def test_only_unused_networks_are_given_again() -> None:
    kept = Networks()
    first, second = kept.take(), kept.take()
    assert first
    assert second
    assert first is not second
    kept.give_back(first)
    assert kept.take() is first
    with_socket: list[socket.socket] = []
    inside(first, lambda: with_socket.append(socket.socket()))
    kept.give_back(first)
    kept.give_back(second)
    assert kept.take() is second
    kept.give_back(second)
    kept.close()
    with_socket.pop().close()
    for network in (first, second):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(network.descriptor)


def test_where_no_network_can_be_made_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(networks, "NEW_NETWORK", 1)
    assert Networks().take() is None
    assert os.listdir("/proc/self/fd") == before


def served(work: Path, *commands: str) -> list[str]:
    """Return what commands write, each run in a box of its own, one after another."""
    written: list[str] = []

    async def scenario(pool: Pool) -> None:
        for command in commands:
            async with pool.box() as box:
                written.append(await output(box, command))

    pooled(work, scenario, warm=0)
    return written


def test_boxes_have_a_network_of_their_own_while_they_run(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as one, pool.box() as other:
            held = {await output(box, HELD) for box in (one, other)}
            assert len(held | {os.readlink("/proc/self/ns/net")}) == 3

    pooled(work, scenario)


def test_a_box_that_sent_nothing_leaves_its_network_to_another(work: Path) -> None:
    first, second, _, fourth = served(work, HELD, HELD, SENT, HELD)
    assert first == second
    assert fourth != first


def test_nothing_of_what_was_sent_is_left(work: Path) -> None:
    exchange = (
        "import socket; s = socket.create_server(('127.0.0.1', 5000), reuse_port=False)\n"
        "c = socket.create_connection(s.getsockname()); a, _ = s.accept(); a.close(); c.close()"
    )
    # Without that option, nobody can listen for a minute where a connection just was.
    listen = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 5000)); print('free')"
    look = "grep lo: /proc/net/dev; cat /proc/net/sockstat"
    python = 'python3 -c "{}"'
    _, free, seen = served(work, python.format(exchange), python.format(listen), look)
    assert free == "free"
    assert re.match(r"lo:( +0)+\nsockets: used 0\n", seen)


def test_a_box_whose_driver_was_killed_leaves_its_network_too(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            held = await output(box, HELD)
            os.kill(box.pid, 9)
            await until(lambda: not box.alive)
        async with pool.box() as box:
            assert await output(box, HELD) == held

    pooled(work, scenario, warm=0)


def test_a_network_is_not_given_on_when_it_is_not_sure_that_all_are_dead(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            held = await output(box, HELD)
            monkeypatch.setattr(box, "_first", box._driver)
        async with pool.box() as box:
            assert await output(box, HELD) != held

    pooled(work, scenario, warm=0)


def test_no_box_is_left_in_the_network_of_the_host(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: Networks) -> None:
        return None

    async def scenario(pool: Pool) -> None:
        # After some that entered networks, those that make their own.
        async with pool.box() as box:
            await output(box, HELD)
        monkeypatch.setattr(Networks, "take", none)
        async with pool.box() as box:
            held = await output(box, HELD)
            assert held != os.readlink("/proc/self/ns/net")
            assert await output(box, "grep -c : /proc/net/dev") == "1"

    pooled(work, scenario, warm=0)


def test_a_launcher_that_can_not_enter_a_network_starts_nothing_in_its_place(work: Path) -> None:
    from sandbox_api.local.launcher import LaunchError

    async def scenario(pool: Pool) -> None:
        descriptor = os.open("/", os.O_RDONLY)

        class Wrong:
            def __init__(self) -> None:
                self.descriptor = descriptor

            def close(self) -> None:
                pass

        wrong: Any = Wrong()
        pool._networks.take = lambda: wrong  # type: ignore[method-assign]
        with pytest.raises(LaunchError, match="cannot be entered"):
            async with pool.box():
                pass
        os.close(descriptor)

    pooled(work, scenario, warm=0)
