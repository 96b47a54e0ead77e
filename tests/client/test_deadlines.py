"""A call's time-out bounds the whole of it, however the server spends the time."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from sandbox_api import ASandbox, ConnectionFailed, Sandbox, TimedOut

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENV = "872b604c-9cce-42e2-8888-9a0311f3a724"
BOUND = 0.6


def drip(text: bytes) -> Callable[[socket.socket, bytes], None]:
    """Answer a byte at a time, for ever."""

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(text)
        while True:
            time.sleep(0.05)
            connection.sendall(b"x")

    return answer


SLOW: dict[str, Callable[[socket.socket, bytes], None]] = {
    "nothing": lambda *_: None,
    "status line": drip(b"HTTP/1.1 200 O"),
    "headers": drip(b"HTTP/1.1 200 OK\r\nX: "),
    "body": drip(reply("200 OK", length=10_000_000)),
    "error body": drip(reply("500 Internal Server Error", length=10_000_000)),
    "chunked body": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
}


def overdue(started: float) -> bool:
    # Generous, for machines that are busy with other tests; the next test is exact.
    return time.monotonic() - started > BOUND * 1.1 + 0.8


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_bound_is_passed_by_a_tenth_at_most(flavour: str, raw_server: RawServer) -> None:
    bound, allowance = 2.0, 0.2  # the latter for a busy machine to wake up

    def answer(connection: socket.socket, request: bytes) -> None:
        kind = next(kind for kind in SLOW if f"X-Kind: {kind}\r\n".encode() in request)
        SLOW[kind](connection, request)

    raw_server.answer = answer
    times: dict[str, float] = {}

    def late(started: float, kind: str) -> None:
        times[kind] = time.monotonic() - started

    def ask(sandbox: Sandbox, kind: str) -> None:
        started = time.monotonic()
        with pytest.raises(TimedOut):
            sandbox.libraries(headers={"X-Kind": kind})
        late(started, kind)

    async def ask_async(sandbox: ASandbox, kind: str) -> None:
        started = time.monotonic()
        with pytest.raises(TimedOut):
            await sandbox.libraries(headers={"X-Kind": kind})
        late(started, kind)

    async def ask_all() -> None:
        async with ASandbox(raw_server.url, bound) as sandbox, anyio.create_task_group() as group:
            for kind in SLOW:
                group.start_soon(ask_async, sandbox, kind)

    if flavour == "async":
        anyio.run(ask_all)
    else:
        with Sandbox(raw_server.url, bound) as sandbox, ThreadPoolExecutor(len(SLOW)) as pool:
            [*pool.map(lambda kind: ask(sandbox, kind), SLOW)]
    assert times.keys() == SLOW.keys()
    assert {kind: taken for kind, taken in times.items() if taken > bound * 1.1 + allowance} == {}


@pytest.mark.parametrize("slow", SLOW)
def test_slow_server(slow: str, connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = SLOW[slow]
    sandbox = connect(raw_server.url, BOUND)
    started = time.monotonic()
    with pytest.raises(TimedOut, match=f"no complete reply within {BOUND} s;"):
        sandbox.execute({"commands": ["true"]})
    assert not overdue(started)
    assert time.monotonic() - started > BOUND * 0.9


@pytest.mark.parametrize("slow", ["headers", "body"])
def test_slow_download(
    slow: str, connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: object
) -> None:
    raw_server.answer = SLOW[slow]
    sandbox = connect(raw_server.url, BOUND)
    for call in (
        lambda: sandbox.download(ENV),
        lambda: sandbox.download_to(f"{tmp_path}/env.tgz", ENV),
        lambda: [*sandbox.iter_download(ENV)],
    ):
        started = time.monotonic()
        with pytest.raises(TimedOut):
            call()
        assert not overdue(started)


def test_server_that_reads_no_upload(connect: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and reads nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(TimedOut):
            connect(url, BOUND).execute({"commands": ["true"]}, io.BytesIO(bytes(50_000_000)))
        assert not overdue(started)


@pytest.mark.parametrize("kind", ["json", "fields"])
def test_server_that_reads_a_large_body_slowly(
    kind: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    over = threading.Event()

    def slowly(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not over.is_set() and connection.recv(4096):
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: slowly(listener.accept()[0]))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        options: Any = {kind: {"a": "x" * 30_000_000}}
        with pytest.raises(TimedOut):
            connect(url, BOUND).request("POST", "x/", **options)
        late = overdue(started)
        over.set()
        thread.join()
    assert not late


def test_name_with_many_silent_addresses(full_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(full_server.rpartition(":")[2])
    silent = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 6
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: silent if host == b"many" else look_up(host, *a, **k),
    )
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timed out connecting"):
        Sandbox(f"http://many:{port}", BOUND, retries=0).usage()
    assert not overdue(started)


def test_resolver_that_takes_its_time(
    connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        flags = options.get("flags", arguments[4] if len(arguments) > 4 else 0)
        if host in ("slow", b"slow") and not flags & socket.AI_NUMERICHOST:
            over.wait(20)
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    started = time.monotonic()
    try:
        with pytest.raises(TimedOut, match="timed out connecting"):
            connect("http://slow:1", BOUND, retries=0).usage()
        assert not overdue(started)
    finally:
        over.set()


def test_name_that_nobody_knows(
    connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match="no such name"):
        connect("http://unknown.example", retries=0).usage()


def test_retries_are_within_the_bound(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("503 Service Unavailable", "busy", "Retry-After: 5")
    started = time.monotonic()
    with pytest.raises(Exception, match="busy"):  # there is no time to wait
        connect(raw_server.url, BOUND).usage()
    assert not overdue(started)
    assert len(raw_server.requests) == 1


def test_time_out_of_one_call(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = SLOW["body"]
    sandbox = connect(raw_server.url, 60)
    started = time.monotonic()
    with pytest.raises(TimedOut, match=f"within {BOUND} s;"):
        sandbox.usage(timeout=BOUND)
    assert not overdue(started)


@pytest.mark.parametrize("unbounded", [None, 0])
def test_no_time_out_for_one_call(
    unbounded: float | None, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.3)
        connection.sendall(reply("404 Not Found"))

    raw_server.answer = answer
    assert connect(raw_server.url, 0.1).check(ENV, timeout=unbounded) == 0


@pytest.fixture
def full_server() -> Iterator[str]:
    """A server that accepts no more connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}"


@pytest.mark.parametrize("step", ["connect", "sock_connect", "sock_read"])
def test_steps_of_the_asynchronous_client(
    step: str, run: Callable[..., object], full_server: str, raw_server: RawServer
) -> None:
    raw_server.answer = SLOW["nothing"]
    url = raw_server.url if step == "sock_read" else full_server

    async def main() -> None:
        bounds = {"connect": 0.0, "sock_connect": 0.0, "sock_read": 0.0, step: 0.2}
        async with ASandbox(url, 30, *bounds.values(), retries=0) as sandbox:
            await sandbox.usage()

    started = time.monotonic()
    with pytest.raises(
        TimedOut, match="waiting for the reply" if step == "sock_read" else "connecting"
    ):
        run(main)
    assert time.monotonic() - started < 5


def test_bound_of_a_step_does_not_lift_that_of_the_call(
    run: Callable[..., object], raw_server: RawServer
) -> None:
    raw_server.answer = drip(reply("200 OK", length=200))

    async def main() -> None:
        async with ASandbox(raw_server.url, BOUND, sock_read=0.4, retries=0) as sandbox:
            for _ in range(2):  # over a connection that is made, too
                started = time.monotonic()
                with pytest.raises(TimedOut, match="waiting for the reply"):
                    await sandbox.usage()
                assert not overdue(started)

    run(main)


def test_client_of_ones_own(raw_server: RawServer) -> None:
    raw_server.answer = SLOW["nothing"]
    with httpx.Client() as client:
        started = time.monotonic()
        with pytest.raises(TimedOut):
            Sandbox(raw_server.url, BOUND, http_client=client).usage()
        assert not overdue(started)
        assert not client.is_closed
