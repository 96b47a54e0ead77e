"""Connections: our own, and what is below httpx's where a user brings a client or a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import select
import signal
import socket
import ssl
import struct
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx
import pytest

from sandbox_api import (
    ASandbox,
    ConnectionFailed,
    Sandbox,
    Sandbox413,
    TimedOut,
    _connection,
)
from sandbox_api._blocking import Transport, block
from sandbox_api._deadline import left
from sandbox_api._network import abandon
from sandbox_api._suspending import AsyncTransport, suspend

from ..servers import Held, RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOUND = 0.6
MIB = 1024 * 1024
OK = reply("200 OK", '{"status": 0, "execution": [], "total_time": 0.1}')
MISSING = reply("404 Not Found")
TRUE = {"commands": ["true"]}


@contextlib.contextmanager
def served(serve: Callable[[socket.socket], None], listener: socket.socket) -> Iterator[None]:
    """Serve one connection of a listener, in a thread."""

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.settimeout(20)
            serve(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A Unix socket whose server has yet to accept others, and those."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        others: list[socket.socket] = []
        code = 0
        while not code:
            others.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            others[-1].setblocking(False)
            code = others[-1].connect_ex(listener.getsockname())
        yield listener, others


def test_unix_socket_that_accepts_nobody(
    full: tuple[socket.socket, list[socket.socket]], connect: Callable[..., Sandbox]
) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timed out connecting"):
        connect(f"unix://{full[0].getsockname()}", BOUND, retries=0).check("x")
    assert BOUND <= time.monotonic() - started < BOUND * 1.1 + 0.8


def test_unix_socket_that_accepts_others_first(
    full: tuple[socket.socket, list[socket.socket]], connect: Callable[..., Sandbox]
) -> None:
    listener, others = full

    def serve() -> None:
        time.sleep(0.1)
        for other in others:
            other.close()
        while True:
            with listener.accept()[0] as connection:
                if connection.recv(65536):
                    connection.sendall(MISSING)
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    assert connect(f"unix://{listener.getsockname()}", 20, retries=0).check("x") == 0
    thread.join()


def test_where_there_is_no_poll(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")  # as on Windows
    raw_server.answer = OK
    with Sandbox(raw_server.url, 20, retries=0) as sandbox:
        assert sandbox.execute(TRUE, io.BytesIO(bytes(8_000_000))).ok
        raw_server.answer = lambda *_: None
        with pytest.raises(TimedOut):
            sandbox.check("x", timeout=0.1)


def test_server_that_shuts_its_side_and_reads_on(
    connect: Callable[..., Sandbox], listener: socket.socket
) -> None:
    received = 0

    def serve(connection: socket.socket) -> None:
        nonlocal received
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        while chunk := connection.recv(65536):
            received += len(chunk)

    with served(serve, listener):
        sandbox = connect(url_of(listener), 20, retries=0)
        with pytest.raises(ConnectionFailed, match="hung up"):
            sandbox.execute(TRUE, io.BytesIO(bytes(8_000_000)))
    assert received > 8_000_000


@pytest.mark.parametrize("size", [0, 8_000_000])
def test_hints_before_the_reply(
    size: int, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    raw_server.early = hint
    raw_server.answer = hint + OK
    sandbox = connect(raw_server.url, 20, retries=0)
    for _ in range(2):
        assert sandbox.execute(TRUE, io.BytesIO(bytes(size)) if size else None).ok
    assert len(raw_server.requests) == 2


def test_idle_connection_that_is_reset(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    been_read = threading.Semaphore(0)

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(MISSING)
        been_read.acquire(timeout=20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    raw_server.answer = answer
    sandbox = connect(raw_server.url, retries=0)
    for _ in range(3):
        assert sandbox.check("x") == 0
        been_read.release()
        time.sleep(0.1)
    assert len(raw_server.requests) == 3


def test_what_is_no_http_is_not_sent(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    with pytest.raises(ConnectionFailed, match="not valid HTTP: the method or") as caught:
        connect(raw_server.url).request("GET SECRET", "x/")
    assert caught.value.__cause__ is None
    assert raw_server.requests == []


def test_body_whose_length_is_told_twice_is_not_sent(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    with pytest.raises(ConnectionFailed, match="not valid HTTP: the length of its body is told tw"):
        connect(raw_server.url).execute(TRUE, headers={"Transfer-Encoding": "chunked"})
    assert raw_server.requests == []


@pytest.mark.parametrize(("size", "what"), [(MIB, "shorter"), (64 * MIB, "longer")])
def test_environment_that_changes_while_it_is_sent(
    size: int, what: str, connect: Callable[..., Sandbox], listener: socket.socket, tmp_path: Path
) -> None:
    path = tmp_path / "environment.tgz"

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        os.truncate(path, size)
        while connection.recv(65536):
            pass

    path.write_bytes(b"\x1f\x8b")
    os.truncate(path, 32 * MIB)
    with served(serve, listener), pytest.raises(ConnectionFailed, match=f"body became {what}"):
        connect(url_of(listener), 20, retries=0).execute(TRUE, path)


def test_oldest_idle_connection_makes_room(
    connect: Callable[..., Sandbox], raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_api._pool.LIMIT", 2)
    monkeypatch.setattr("sandbox_api._connection.CONTINUE", 0.05)
    open_now, most = 0, 0

    def answer(connection: socket.socket, _: bytes) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        connection.sendall(OK)
        connection.recv(1)  # until it hangs up
        open_now -= 1

    raw_server.asks = False  # so that each execution takes a new one
    raw_server.answer = answer
    sandbox = connect(raw_server.url)
    for _ in range(6):
        assert sandbox.execute(TRUE).ok
        time.sleep(0.02)
    assert most <= 3  # a server learns of it a little later


def test_thread_that_gets_no_connection(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_api._pool.LIMIT", 1)
    raw_server.answer = held = Held(MISSING)
    with (
        Sandbox(raw_server.url, 20, retries=0) as sandbox,
        ThreadPoolExecutor(2) as pool,
        held,
    ):
        first = pool.submit(sandbox.check, "x")
        held.wait()
        with pytest.raises(TimedOut, match="waiting for a free connection"):
            sandbox.check("x", timeout=0.1)
        second = pool.submit(sandbox.check, "x")
        held.release()
        assert (first.result(20), second.result(20)) == (0, 0)


def test_task_that_gets_no_connection(
    run: Callable[..., Any], raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_api._pool.LIMIT", 1)

    async def main() -> None:
        async with (
            ASandbox(raw_server.url, 20, 0.1, retries=0) as sandbox,
            anyio.create_task_group() as group,
        ):
            group.start_soon(sandbox.check, "x")
            await anyio.to_thread.run_sync(held.wait)
            with pytest.raises(TimedOut, match="waiting for a free connection"):
                await sandbox.check("x")
            held.release()

    with Held(MISSING) as held:
        raw_server.answer = held
        run(main)
    assert len(raw_server.requests) == 1


def test_connect_bounds_the_wait_for_a_place_too(
    run: Callable[..., Any], raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lefts: list[float] = []

    def connect(*given: Any) -> Any:
        lefts.append(left(given[-1], httpx.ConnectTimeout) or 0)
        return usual(*given)

    usual = _connection.connect
    monkeypatch.setattr("sandbox_api._pool.LIMIT", 1)
    monkeypatch.setattr("sandbox_api._pool.connect", connect)

    async def main() -> None:
        async with (
            ASandbox(raw_server.url, 30, 20, retries=0) as sandbox,
            anyio.create_task_group() as group,
        ):
            group.start_soon(sandbox.check, "x")
            await anyio.to_thread.run_sync(held.wait)
            group.start_soon(sandbox.check, "x")
            await anyio.sleep(0.3)
            held.release()

    with Held(reply("404 Not Found", "", "Connection: close")) as held:
        raw_server.answer = held
        run(main)
    first, second = lefts
    assert 15 < second < first - 0.2


def test_place_that_comes_as_its_task_is_cancelled_is_not_lost() -> None:
    async def main() -> int:
        pool = AsyncTransport(ssl.create_default_context(), None)
        pool._places = 0
        task = asyncio.create_task(suspend(pool._take_place(None)))
        await asyncio.sleep(0)
        assert pool._waiting
        pool._leave_place()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pool._places

    assert asyncio.run(main()) == 1


def test_place_that_a_collector_of_garbage_frees_as_one_is_asked_for() -> None:
    pool = Transport(ssl.create_default_context(), None)
    pool._places = 0

    class Event(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            pool._leave_place()  # as a reply does that was left half read

    pool._event = Event
    asks = threading.Thread(target=lambda: block(pool._take_place(30)), daemon=True)
    asks.start()
    asks.join(5)
    assert (asks.is_alive(), pool._places, len(pool._waiting)) == (False, 0, 0)


def test_transports_are_context_managers(run: Callable[..., Any], raw_server: RawServer) -> None:
    context = ssl.create_default_context()
    with Transport(context, None) as transport, httpx.Client(transport=transport) as client:
        assert client.get(raw_server.url).status_code == 200

    async def main() -> None:
        async with (
            AsyncTransport(context, None) as transport,
            httpx.AsyncClient(transport=transport) as client,
        ):
            assert (await client.get(raw_server.url)).status_code == 200

    run(main)


# What an event loop is told of.


def watched() -> list[int]:
    """Return the descriptors that this loop of asyncio waits for, but its own."""
    loop: Any = asyncio.get_running_loop()
    return [each for each in loop._selector.get_map() if each != loop._ssock.fileno()]


def late(connection: socket.socket, _: bytes) -> None:
    """Answer when the client surely waits."""
    time.sleep(0.05)
    connection.sendall(MISSING)


def test_loop_is_told_once_of_a_connection(raw_server: RawServer) -> None:
    raw_server.answer = late

    async def main() -> None:
        async with ASandbox(raw_server.url, retries=0) as sandbox:
            told: set[tuple[int, ...]] = set()
            for _ in range(3):
                await sandbox.check("x")
                told.add(tuple(watched()))
            assert len(told) == 1
            assert len(told.pop()) == 1
        assert not watched()
        # What is told, and was not closed, is not kept by the loop.
        sandbox = ASandbox(raw_server.url, retries=0)
        await sandbox.check("x")
        assert watched()
        with pytest.warns(ResourceWarning, match="was not closed"):
            del sandbox
        assert not watched()

    asyncio.run(main())
    assert raw_server.accepted == 2


def timers() -> list[asyncio.TimerHandle]:
    """Return the timers of this loop of asyncio that will ring."""
    loop: Any = asyncio.get_running_loop()
    return [each for each in loop._scheduled if not each.cancelled()]


def test_each_wait_over_a_connection_has_its_own_bound(raw_server: RawServer) -> None:
    delays = iter([0.05, 0.6, 3.0])

    def answer(connection: socket.socket, _: bytes) -> None:
        time.sleep(next(delays))
        connection.sendall(MISSING)

    raw_server.answer = answer

    async def main() -> None:
        async with ASandbox(raw_server.url, retries=0) as sandbox:
            # A bound that was kept, then longer than the one before, then shorter.
            await sandbox.check("x", timeout=0.3)
            assert len(timers()) == 1
            await sandbox.check("x", timeout=60)
            assert len(timers()) == 1
            started = time.monotonic()
            with pytest.raises(TimedOut):
                await sandbox.check("x", timeout=0.3)
            assert 0.3 <= time.monotonic() - started < 2.5
            assert not timers()

    asyncio.run(main())
    assert raw_server.accepted == 1


def test_no_timer_outlives_a_connection(raw_server: RawServer) -> None:
    raw_server.answer = late

    async def main() -> None:
        for _ in range(3):
            async with ASandbox(raw_server.url, retries=0) as sandbox:
                await sandbox.check("x")
                assert len(timers()) == 1
            assert not timers()

    asyncio.run(main())


@pytest.mark.parametrize("unasked", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_loop_does_not_turn_over_an_idle_connection(unasked: bytes, raw_server: RawServer) -> None:
    idle: list[socket.socket] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        idle.append(connection)
        late(connection, request)

    raw_server.answer = answer

    async def main() -> None:
        async with ASandbox(raw_server.url, retries=0) as sandbox:
            await sandbox.check("x")
            assert watched()
            idle[0].sendall(unasked)
            idle[0].shutdown(socket.SHUT_RDWR)
            for _ in range(200):
                await asyncio.sleep(0.01)
                if not watched():
                    break
            assert not watched()
            await sandbox.check("x")

    asyncio.run(main())
    assert raw_server.accepted == 2


def test_large_upload_over_a_connection_that_is_watched(raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", '{"status": 0, "execution": [], "total_time": 1}')

    async def main() -> None:
        async with ASandbox(raw_server.url, 60, retries=0) as sandbox:
            for size in (1, 16 << 20, 1):
                await sandbox.execute({"commands": ["true"]}, io.BytesIO(os.urandom(size)))
            assert len(watched()) == 1

    asyncio.run(main())
    assert raw_server.accepted == 1
    assert len(raw_server.requests[1]) > 16 << 20


def test_forked_child_spares_what_the_parents_loop_waits_for(raw_server: RawServer) -> None:
    raw_server.answer = late

    async def main() -> None:
        async with ASandbox(raw_server.url, 20, retries=0) as sandbox:
            await sandbox.check("x")
            client: Any = sandbox._client()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
                child = os.fork()
            if not child:
                try:
                    abandon(client)
                    os._exit(0)
                finally:
                    os._exit(2)
            _, status = os.waitpid(child, 0)  # noqa: ASYNC222
            assert os.waitstatus_to_exitcode(status) == 0
            await sandbox.check("x")

    asyncio.run(main())
    assert raw_server.accepted == 1


# A client of the user's own, of httpx's own connections.


@pytest.fixture
def bring(
    request: pytest.FixtureRequest, connect: Callable[..., Sandbox]
) -> Iterator[Callable[..., Sandbox]]:
    """Make a sandbox with a client of httpx, whose transport has options."""
    closing = contextlib.ExitStack()

    def bring(url: str, **options: Any) -> Sandbox:
        client: Any
        if request.node.callspec.params["connect"] == "sync":
            client = closing.enter_context(httpx.Client(transport=httpx.HTTPTransport(**options)))
            return connect(url, 20, http_client=client, retries=0)
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**options))
        sandbox: Any = connect(url, 20, http_client=client, retries=0)
        closing.callback(lambda: sandbox._runner.run(client.aclose()))
        return cast("Sandbox", sandbox)

    with closing:
        yield bring


def test_own_client_over_a_unix_socket(bring: Callable[..., Sandbox], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with served(lambda each: each.sendall(MISSING) if each.recv(65536) else None, listener):
            assert bring("http://sandbox", uds=listener.getsockname()).check("x") == 0


def test_own_client_and_a_unix_socket_that_is_not_there(
    bring: Callable[..., Sandbox], tmp_path: Path
) -> None:
    with pytest.raises(ConnectionFailed):
        bring("http://sandbox", uds=str(tmp_path / "socket")).check("x")
    gc.collect()  # a socket that was left open would be warned of, and that is an error


def test_own_client_that_tries_again(bring: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    sandbox = bring(f"http://127.0.0.1:{port}", retries=2)
    with pytest.raises(ConnectionFailed):
        sandbox.check("x")
    with contextlib.ExitStack() as stack:

        def come_up() -> None:
            server = RawServer(port)
            server.answer = MISSING
            stack.enter_context(server)

        timer = threading.Timer(0.2, come_up)
        timer.start()
        assert sandbox.check("x") == 0
        timer.join()


# Through proxies, which are reached by httpx's own connections too.


def test_early_answer_through_a_proxy(
    connect: Callable[..., Sandbox], listener: socket.socket
) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply("413 Too Large", "too big" * 10_000, "Connection: close"))
        time.sleep(0.05)

    with served(serve, listener):
        sandbox = connect("http://sandbox.example", 20, proxy=url_of(listener))
        with pytest.raises(Sandbox413, match="413 Too Large: too big"):
            sandbox.execute(TRUE, io.BytesIO(bytes(50_000_000)))


def test_forked_child_spares_what_waits_for_a_proxy(raw_server: RawServer) -> None:
    raw_server.answer = held = Held(OK)
    with (
        Sandbox("http://sandbox.example", proxy=raw_server.url, retries=0) as sandbox,
        ThreadPoolExecutor(1) as pool,
        held,
    ):
        call = pool.submit(sandbox.execute, TRUE)
        held.wait()
        (client,) = sandbox._clients.values()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                abandon(client)
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        held.release()
        assert call.result(20).ok
