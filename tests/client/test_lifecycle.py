"""Clients in threads, forked processes, pickles and event loops."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import multiprocessing
import os
import pickle
import signal
import ssl
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

from sandbox_api import ASandbox, ConnectionFailed, LocalSandboxError, Sandbox, SandboxFailure
from sandbox_api._exchange import Exchange
from sandbox_api._network import abandon
from sandbox_api.environment import open_environment
from sandbox_api.sandbox import close_in

from ..conftest import tgz
from ..servers import Held, RawServer, reply

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

OK = reply("200 OK", json.dumps({"status": 0, "execution": [], "total_time": 0.1}))
CONFIG = {"commands": ["true"]}


def test_threads_share_a_sandbox(raw_server: RawServer) -> None:
    raw_server.answer = OK
    sandbox = Sandbox(raw_server.url)
    with ThreadPoolExecutor(16) as pool:
        results = [*pool.map(lambda _: sandbox.execute(CONFIG).ok, range(200))]
    assert results == [True] * 200
    assert len(sandbox._clients) == 1


def test_threads_share_connections(raw_server: RawServer) -> None:
    raw_server.answer = OK
    with Sandbox(raw_server.url) as sandbox, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: sandbox.execute(CONFIG), range(400)):
            pass
    assert len(raw_server.requests) == 400
    assert raw_server.accepted <= 8


def test_fork_does_not_share_connections(raw_server: RawServer) -> None:
    connections: list[int] = []

    def answer(connection: socket.socket, _: bytes) -> None:
        connections.append(connection.fileno())
        connection.sendall(reply("404 Not Found"))

    raw_server.answer = answer
    sandbox = Sandbox(raw_server.url)
    sandbox.check("x")
    (inherited,) = sandbox._clients.values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child = os.fork()
    if not child:
        try:
            fine = sandbox.check("x") == 0
            fine = fine and sandbox._clients[os.getpid()] is not inherited
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sandbox.check("x")
    assert len(connections) == 3
    assert connections[0] == connections[2] != connections[1]


@pytest.mark.parametrize("secure", [False, True])
def test_forked_child_spares_the_parents_client(
    secure: bool, raw_server: RawServer, tls_server: str, certificate: Path
) -> None:
    raw_server.answer = reply("404 Not Found")
    url = tls_server if secure else raw_server.url
    sandbox = Sandbox(url, retries=0, verify=str(certificate))
    sandbox.request("GET", "/") if secure else sandbox.check("x")
    (client,) = sandbox._clients.values()
    pool: Any = client._transport
    (kept,) = pool._connections
    connection = kept._socket
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child = os.fork()
    if not child:
        try:
            # As a thread of the parent would hold it: closing the client would wait for ever.
            pool._lock.acquire()
            close_in(os.getppid(), client)
            spared = not client.is_closed and connection.fileno() >= 0
            abandon(client)
            os._exit(0 if spared and connection.fileno() < 0 else 1)
        finally:
            os._exit(2)
    for _ in range(200):
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a lock of its parent")
    assert os.waitstatus_to_exitcode(status) == 0
    assert connection.fileno() >= 0
    sandbox.request("GET", "/") if secure else sandbox.check("x")
    assert not client.is_closed
    close_in(os.getpid(), client)
    assert client.is_closed


def test_run_time_of_a_local_sandbox() -> None:
    slow: Any = {"commands": ["sleep 9"]}

    async def main() -> None:
        async with ASandbox.local(run_time=0.3) as sandbox:
            assert (await sandbox.execute(slow)).timed_out

    with Sandbox.local(run_time=0.3) as sandbox:
        assert sandbox.execute(slow).timed_out
    asyncio.run(main())
    for flavour in (Sandbox, ASandbox):
        with pytest.raises(LocalSandboxError, match="cannot take -1 s together"):
            flavour.local(run_time=-1)


@pytest.mark.parametrize("kind", ["folder", "mapping", "stream", "archive", "file of a form"])
def test_packing_does_not_hold_up_the_event_loop(
    kind: str,
    run: Callable[..., Any],
    raw_server: RawServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw_server.answer = OK
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("1")
    (tmp_path / "env.tgz").write_bytes(tgz({"a": "1"}).read())
    source: Any = {
        "folder": tmp_path / "folder",
        "mapping": {"a": "1"},
        "stream": io.BufferedReader(io.FileIO(tmp_path / "env.tgz")),
        "archive": str(tmp_path / "env.tgz"),
        "file of a form": tmp_path / "folder",
    }
    started, released = threading.Event(), threading.Event()
    packed: list[bool] = []

    def slowly(*arguments: Any, **options: Any) -> Any:
        started.set()
        packed.append(released.wait(10))
        return open_environment(*arguments, **options)

    monkeypatch.setattr("sandbox_api.environment.open_environment", slowly)

    async def release() -> None:
        await anyio.to_thread.run_sync(started.wait, 10)
        released.set()

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox, anyio.create_task_group() as group:
            group.start_soon(release)
            if kind == "file of a form":
                await sandbox.request("POST", "x/", files={"a": source[kind]})
            else:
                await sandbox.execute(CONFIG, source[kind])

    run(main)
    if kind != "stream":
        source["stream"].close()
    assert packed == [True]


def test_pickled_sandbox_connects_anew(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = Sandbox(raw_server.url, 12, headers={"X-Course": "algorithms"}, retries=5)
    sandbox.execute(CONFIG)
    again = pickle.loads(pickle.dumps(sandbox))
    assert (again.url, again.timeout) == (raw_server.url, 12)
    assert again.execute(CONFIG).ok
    assert raw_server.requests[1].count(b"X-Course: algorithms") == 1


def test_pickled_asandbox_connects_anew(raw_server: RawServer) -> None:
    raw_server.answer = OK

    async def main() -> bytes:
        async with ASandbox(raw_server.url, 12, sock_read=3) as sandbox:
            await sandbox.execute(CONFIG)
            return pickle.dumps(sandbox)

    async def again(data: bytes) -> bool:
        async with pickle.loads(data) as sandbox:
            return bool((await sandbox.execute(CONFIG)).ok)

    assert asyncio.run(again(asyncio.run(main())))


def _execute(sandbox: Sandbox) -> bool:
    return sandbox.execute(CONFIG).ok


def test_sandbox_in_other_processes(raw_server: RawServer) -> None:
    raw_server.answer = OK
    sandbox = Sandbox(raw_server.url)
    assert sandbox.execute(CONFIG).ok
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_execute, [sandbox] * 4) == [True] * 4
        pool.close()
        pool.join()


def test_what_can_not_be_pickled_says_so(raw_server: RawServer) -> None:
    with httpx.Client() as client, pytest.raises(TypeError, match="http_client of its own"):
        pickle.dumps(Sandbox(raw_server.url, http_client=client))

    async def main() -> None:
        async with (
            httpx.AsyncClient() as client,
            ASandbox(raw_server.url, http_client=client) as asandbox,
        ):
            with pytest.raises(TypeError, match="an ASandbox with a http_client of its own"):
                pickle.dumps(asandbox)

    asyncio.run(main())


@pytest.mark.parametrize("option", ["verify", "proxy"])
def test_context_that_can_not_be_pickled_is_named(
    option: str, connect: Callable[..., Sandbox]
) -> None:
    context = ssl.create_default_context()
    options: dict[str, Any] = {
        "verify": context,
        "proxy": httpx.Proxy("https://127.0.0.1:1", ssl_context=context),
    }
    sandbox: Any = connect("https://127.0.0.1:1", **{option: options[option]})
    with pytest.raises(TypeError, match=rf"{option}.* ssl\.SSLContext.* can't be pickled"):
        getattr(sandbox, "_sandbox", sandbox).__getstate__()


def test_result_is_pickled_without_the_sandbox(raw_server: RawServer) -> None:
    raw_server.answer = reply(
        "200 OK",
        json.dumps(
            {
                "status": 0,
                "execution": [],
                "total_time": 0.1,
                "environment": "872b604c-9cce-42e2-8888-9a0311f3a724",
            }
        ),
    )
    sandbox = Sandbox(raw_server.url, auth=("user", "s3cret"))
    result = sandbox.execute(CONFIG)
    assert result.saved
    data = pickle.dumps(result)
    assert b"s3cret" not in data
    again = pickle.loads(data)
    assert again == result
    assert again.environment == result.environment
    with pytest.raises(RuntimeError, match=r"use sandbox\.environment"):
        _ = again.saved


def test_asandbox_is_made_outside_a_loop(run: Callable[..., Any], raw_server: RawServer) -> None:
    raw_server.answer = OK
    sandbox = ASandbox(raw_server.url)

    async def main() -> bool:
        async with sandbox:
            results = [await sandbox.execute(CONFIG) for _ in range(3)]
        return all(result.ok for result in results)

    assert run(main)


def test_second_event_loop_is_a_clear_error(raw_server: RawServer) -> None:
    raw_server.answer = reply(
        "200 OK", '{"status": 0, "execution": [], "total_time": 0}', "Connection: close"
    )
    sandbox = ASandbox(raw_server.url)
    assert asyncio.run(sandbox.execute(CONFIG)).ok
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(sandbox.execute(CONFIG))
    asyncio.run(sandbox.close())


def test_closing_in_another_event_loop(raw_server: RawServer) -> None:
    raw_server.answer = reply("404 Not Found")
    sandbox = ASandbox(raw_server.url)

    async def use() -> None:
        assert await sandbox.check("x") == 0  # and leaves a connection open

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a loop that ended with it
        asyncio.run(use())
        asyncio.run(sandbox.close())
        gc.collect()


def test_upload_is_closed_when_waiting_is_cut_short(raw_server: RawServer) -> None:
    raw_server.answer = reply("503 Busy", "", "Retry-After: 5")
    environ = io.BytesIO(b"archive")

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await sandbox.execute(CONFIG, environ)

    asyncio.run(main())
    assert environ.closed


def test_use_after_close(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    sandbox = connect(raw_server.url)
    sandbox.close()
    with pytest.raises(RuntimeError, match=r"<A?Sandbox http://127.* is closed"):
        sandbox.usage()


def test_sandbox_that_was_refused_leaves_nothing() -> None:
    with pytest.raises(SandboxFailure):
        ASandbox("nonsense")
    gc.collect()  # without a warning


def test_descriptors_and_threads_do_not_grow(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")

    def use() -> tuple[int, int]:
        for _ in range(5):
            sandbox = connect(raw_server.url)
            sandbox.check("x")
            sandbox.close()
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    use()
    before = use()
    after = use()
    # The server's ends are closed by its threads, when they come to it.
    assert after[0] - before[0] < 10
    assert after[1] - before[1] < 10


@pytest.mark.parametrize(
    "call",
    [
        lambda sandbox: sandbox.execute(CONFIG),
        lambda sandbox: sandbox.execute(CONFIG, {"a": "b" * 200_000}),
        lambda sandbox: sandbox.check("x"),
        lambda sandbox: sandbox.download("x"),
    ],
)
def test_what_a_call_took_is_freed_when_it_is_over(
    call: Callable[[Sandbox], object], connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    # Not only when a collector comes by, for answers may be large.
    raw_server.answer = OK
    sandbox = connect(raw_server.url)
    call(sandbox)
    gc.collect()
    gc.disable()
    try:
        before = alive(Exchange, httpx.Request, httpx.Response)  # of others' tests
        for _ in range(3):
            call(sandbox)
        assert alive(Exchange, httpx.Request, httpx.Response) == before
    finally:
        gc.enable()


def alive(*kinds: type) -> int:
    """Return how many objects of some kinds there are."""
    return sum(1 for each in gc.get_objects() if issubclass(type(each), kinds))


def test_local_sandbox_that_died_says_so() -> None:
    with Sandbox.local(retries=0) as sandbox:
        assert sandbox.execute(CONFIG).ok
        server: Any = sandbox._server
        server._process.kill()
        server._process.wait()
        with pytest.raises(LocalSandboxError, match="exit code -9"):
            sandbox.execute(CONFIG)


def test_cancelled_call_leaves_the_client_usable(raw_server: RawServer) -> None:
    raw_server.answer = lambda *_: None
    environ = io.BytesIO(b"archive")

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await sandbox.execute(CONFIG, environ)
            assert environ.closed
            raw_server.answer = OK
            assert (await sandbox.execute(CONFIG)).ok

    asyncio.run(main())


def test_local_sandbox_that_can_not_isolate_says_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho bwrap: setting up uid map: Permission denied >&2\nexit 1\n"
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for make in (Sandbox.local, ASandbox.local):
        with pytest.raises(LocalSandboxError) as caught:
            make()
        assert isinstance(caught.value, RuntimeError)
        # Not told twice.
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None
        for words in (str(refusing), "apt install bubblewrap", "sysctl", 'isolation="none"'):
            assert words in str(caught.value)


def test_local_sandbox_without_isolation_has_to_be_asked_for_by_name() -> None:
    with (
        pytest.warns(RuntimeWarning, match="WITHOUT ANY ISOLATION"),
        Sandbox.local(isolation="none") as sandbox,
    ):
        assert sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout == "4"


def test_warning_of_no_isolation_points_to_the_users_line() -> None:
    async def main() -> None:
        async with ASandbox.local(isolation="none"):
            pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Sandbox.local(isolation="none").close()
        asyncio.run(main())
    assert [(each.category, each.filename) for each in caught] == [(RuntimeWarning, __file__)] * 2


@pytest.mark.parametrize("proxied", [False, True])
def test_closing_ends_what_another_thread_waits_for(proxied: bool, raw_server: RawServer) -> None:
    if proxied:
        sandbox = Sandbox("http://sandbox.example", proxy=raw_server.url, retries=0)
    else:
        sandbox = Sandbox(raw_server.url, retries=0)
    with ThreadPoolExecutor(1) as pool, Held() as held:
        raw_server.answer = held
        call = pool.submit(sandbox.execute, CONFIG)
        held.wait()
        sandbox.close()
        with pytest.raises(ConnectionFailed, match="/execute/: the client was closed meanwhile"):
            call.result(5)


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_closing_a_local_sandbox_ends_what_others_wait_for(flavour: str) -> None:
    slow: Any = {"commands": ["sleep 9"]}

    async def ask(sandbox: ASandbox) -> None:
        with pytest.raises(ConnectionFailed, match="the client was closed meanwhile"):
            await sandbox.execute(slow)

    async def main() -> None:
        sandbox = ASandbox.local()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, sandbox)
            await anyio.sleep(1)
            await sandbox.close()

    if flavour == "async":
        asyncio.run(main())
        return
    sandbox = Sandbox.local()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(sandbox.execute, slow)
        time.sleep(1)
        sandbox.close()
        with pytest.raises(ConnectionFailed, match="the client was closed meanwhile"):
            call.result(5)


def test_what_is_asked_of_a_closed_client_is_not_asked_again(raw_server: RawServer) -> None:
    sandbox = Sandbox(raw_server.url, retries=5)
    with ThreadPoolExecutor(1) as pool, Held() as held:
        raw_server.answer = held
        call = pool.submit(sandbox.usage)
        held.wait()
        sandbox.close()
        with pytest.raises(ConnectionFailed, match="the client was closed meanwhile"):
            call.result(5)
    assert len(raw_server.requests) == 1


def test_clients_of_ones_own_are_not_closed_with_the_sandbox(
    raw_server: RawServer, run: Callable[..., Any]
) -> None:
    raw_server.answer = lambda connection, _: connection.close()
    with httpx.Client() as client:
        sandbox = Sandbox(raw_server.url, http_client=client)
        sandbox.close()
        with pytest.raises(ConnectionFailed, match="the server hung up"):
            sandbox.execute(CONFIG)

    async def main() -> None:
        async with httpx.AsyncClient() as client:
            asandbox = ASandbox(raw_server.url, http_client=client)
            await asandbox.close()
            with pytest.raises(ConnectionFailed, match="the server hung up"):
                await asandbox.execute(CONFIG)

    run(main)


def test_closing_ends_what_another_task_waits_for(
    raw_server: RawServer, run: Callable[..., Any]
) -> None:
    async def ask(sandbox: ASandbox) -> None:
        with pytest.raises(ConnectionFailed, match="/execute/: the client was closed meanwhile"):
            await sandbox.execute(CONFIG)

    async def main() -> None:
        sandbox = ASandbox(raw_server.url, retries=0)
        with anyio.fail_after(15):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, sandbox)
                await anyio.to_thread.run_sync(held.wait)
                await sandbox.close()

    with Held() as held:
        raw_server.answer = held
        run(main)
