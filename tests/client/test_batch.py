"""Many executions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import itertools
import json
import os
import pickle
import re
import signal
import threading
import time
import warnings
import weakref
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest
import trio

from sandbox_api import (
    ASandbox,
    ConnectionFailed,
    ExecutionResult,
    InvalidConfig,
    InvalidEnvironment,
    Job,
    JobResult,
    Progress,
    Sandbox,
    Sandbox503,
)
from sandbox_api._batch import Answer, Batch, Run
from sandbox_api._crew import workers
from sandbox_api.sandbox import Execution

from ..conftest import tgz
from ..servers import RawServer, reply

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

TRUE: Any = {"commands": ["true"]}
DONE = reply("200 OK", '{"status": 0, "execution": [], "total_time": 0.1}')
OVERLOADED = reply("503 Service Unavailable", "Sandbox overloaded.")


class Busy:
    """Answers executions, so many at once, and refuses others; each takes a while."""

    def __init__(self, slots: int = 1000, seconds: float = 0.0) -> None:
        self.slots = slots
        self.seconds = seconds
        self.busy = self.most = self.refused = 0
        self.left = threading.Event()
        self.done: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket, request: bytes) -> None:
        with self._lock:
            self.busy += 1
            refuse = self.busy > self.slots
            self.refused += refuse
            self.most = max(self.most, self.busy)
        if not refuse and self.seconds:
            connection.settimeout(self.seconds)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    self.left.set()
            connection.settimeout(None)
        with self._lock:
            self.busy -= 1
            if not refuse:
                found = re.search(rb'"commands": \["(.*?)"', request)
                self.done.append(found[1].decode() if found else "")
        connection.sendall(OVERLOADED if refuse else DONE)

    def but_the_first(self, connection: socket.socket, request: bytes) -> None:
        """Answer the first job at once, but not before another is here."""
        if b'["0"]' not in request:
            return self(connection, request)
        until = time.monotonic() + 10
        while not self.busy and time.monotonic() < until:
            time.sleep(0.005)
        return connection.sendall(DONE)


@pytest.fixture
def busy(raw_server: RawServer) -> Busy:
    raw_server.answer = busy = Busy()
    return busy


def numbered(count: int | None = None) -> Iterator[Any]:
    numbers = itertools.count() if count is None else range(count)
    return ({"commands": [str(number)]} for number in numbers)


def test_jobs_of_all_kinds(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("folder")
    cat = {"commands": ["cat name || exit 3"]}
    jobs: list[Any] = [
        cat,
        (cat, {"name": "mapping"}),
        (cat, tgz({"name": "stream"})),
        Job("own", cat, tmp_path, {"group": 7}),
        Job(("a", 1), cat, {"name": "", "other": ""}),
        Job("slow", {"commands": [{"command": "sleep 3", "timeout": 0.1}]}),
    ]
    found = {done.id: done for done in sandbox.execute_many(jobs, concurrency=2)}
    outputs = {name: done.result.execution[0].stdout for name, done in found.items() if done.result}
    assert outputs == {0: "", 1: "mapping", 2: "stream", "own": "folder", ("a", 1): "", "slow": ""}
    assert [found[name].outcome for name in (0, 1, "slow")] == ["failed", "passed", "timed out"]
    assert (found[1].ok, found[0].ok, found["own"].meta) == (True, False, {"group": 7})
    assert all(done.attempts == 1 and done.seconds > 0 for done in found.values())


def test_results_know_their_sandbox_and_can_be_pickled(sandbox: Sandbox) -> None:
    jobs = [Job("x", {"commands": ["echo 17 > marks"], "save": True})]
    (done,) = sandbox.execute_many(jobs)
    assert done.result is not None
    assert done.result.saved is not None
    assert done.result.saved.read_text("marks") == "17\n"
    assert pickle.loads(pickle.dumps(done)) == done


def test_jobs_that_fail_stop_no_other(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = DONE
    stream = io.BytesIO(b"")
    stream.close()
    jobs: list[Any] = [TRUE, "x", (TRUE, "/no/such/folder"), (TRUE, stream), (TRUE, 7), (), TRUE]
    found = [*connect(raw_server.url).execute_many(jobs, concurrency=2, ordered=True)]
    assert [done.ok for done in found] == [True, *[False] * 5, True]
    assert [type(done.error) for done in found[1:6]] == [
        InvalidConfig,
        FileNotFoundError,
        ValueError,
        TypeError,
        InvalidConfig,
    ]
    assert found[1].outcome == "error"
    assert "closed, as where another job had it" in str(found[3].error)
    assert [done.attempts for done in found] == [1, *[0] * 5, 1]  # five were never sent


def test_job_whose_files_went_while_it_waited_was_sent_before(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()

    def refuse(connection: socket.socket, _: bytes) -> None:
        (tmp_path / "files").rmdir()
        connection.sendall(OVERLOADED)

    raw_server.answer = refuse
    (done,) = connect(raw_server.url).execute_many([(TRUE, tmp_path / "files")], concurrency=1)
    assert (type(done.error), done.attempts) == (FileNotFoundError, 1)


def test_order(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.1 if b'["0"]' in request else 0.0)
        connection.sendall(DONE)

    raw_server.answer = answer
    sandbox = connect(raw_server.url)
    ids = [done.id for done in sandbox.execute_many(numbered(30), concurrency=4)]
    assert ids != [*range(30)]
    assert sorted(ids) == [*range(30)]
    taken: list[int] = []
    jobs = (taken.append(n) or TRUE for n in range(30))  # type: ignore[func-returns-value]
    first = sandbox.execute_many(jobs, concurrency=2, ordered=True)
    raw_server.requests.clear()

    def slow_at_first(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.2 if len(raw_server.requests) == 1 else 0)
        connection.sendall(DONE)

    raw_server.answer = slow_at_first
    assert next(first).id == 0
    assert len(taken) <= 10  # and no more, however long the first takes
    assert [done.id for done in first] == [*range(1, 30)]


def test_leaving_cancels_what_runs(
    connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy
) -> None:
    busy.seconds = 30
    raw_server.answer = busy.but_the_first
    taken: list[object] = []
    jobs = (taken.append(job) or job for job in numbered())  # type: ignore[func-returns-value]
    threads = threading.active_count()
    started = time.monotonic()
    results = connect(raw_server.url).execute_many(jobs, concurrency=3)
    assert next(results).id == 0
    cast("Any", results).close()
    assert busy.left.wait(5)
    assert time.monotonic() - started < 5
    assert len(taken) <= 4
    assert not [each for each in threading.enumerate() if each.name == "sandbox job"]
    assert threads <= threading.active_count()


def test_threads_do_one_job_after_another() -> None:
    did: set[threading.Thread] = set()

    def answer(_: httpx.Request) -> httpx.Response:
        did.add(threading.current_thread())
        return httpx.Response(200, json={"status": 0, "execution": [], "total_time": 0.1})

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        Sandbox("http://sandbox", http_client=client) as sandbox,
    ):
        assert len([*sandbox.execute_many([TRUE] * 50, concurrency=3)]) == 50
    assert len(did) <= 3
    assert not any(thread.is_alive() for thread in did)


def test_overloaded_server(
    connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy
) -> None:
    busy.slots, busy.seconds = 2, 0.01
    seen: list[Progress] = []
    sandbox = connect(raw_server.url)
    found = [*sandbox.execute_many(numbered(60), concurrency=8, on_progress=seen.append)]
    assert {done.outcome for done in found} == {"passed"}
    assert sorted(busy.done, key=int) == [str(number) for number in range(60)]
    assert max(done.attempts for done in found) > 1
    assert min(progress.concurrency for progress in seen) <= 4
    assert busy.refused < 60


def test_server_that_stays_overloaded(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OVERLOADED
    (done,) = connect(raw_server.url, 0.3).execute_many([TRUE], concurrency=1)
    assert isinstance(done.error, Sandbox503)
    assert done.attempts > 2


def test_retry_after_is_obeyed(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    times: list[float] = []

    def answer(connection: socket.socket, _: bytes) -> None:
        times.append(time.monotonic())
        asks = reply("429 Too Many Requests", "", "Retry-After: 1")
        connection.sendall(asks if len(times) == 1 else DONE)

    raw_server.answer = answer
    (done,) = connect(raw_server.url).execute_many([(TRUE, tgz({"a": "b"}))], concurrency=1)
    assert (done.outcome, done.attempts) == ("passed", 2)
    assert 1 <= times[1] - times[0] < 3


def test_server_that_is_not_there(connect: Callable[..., Sandbox]) -> None:
    sandbox = connect("http://127.0.0.1:1", retries=1)
    found = [*sandbox.execute_many([TRUE, TRUE], concurrency=2)]
    assert [(type(done.error), done.attempts) for done in found] == [(ConnectionFailed, 2)] * 2


def test_concurrency_is_what_the_server_can_take(
    connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy, recordings: Any
) -> None:
    found = deepcopy(recordings["specifications"]["json"])
    found["container"]["count"] = 3
    busy.seconds = 0.02
    raw_server.answer = lambda connection, request: (
        connection.sendall(reply("200 OK", json.dumps(found)))
        if request.startswith(b"GET")
        else busy(connection, request)
    )
    sandbox = connect(raw_server.url)
    assert len([*sandbox.execute_many(numbered(12))]) == 12
    assert busy.most == 3
    with pytest.raises(ValueError, match="concurrency must be 1 or more, not 0"):
        next(sandbox.execute_many([], concurrency=0))


@pytest.mark.parametrize("jobs", [TRUE, "true", Job(1, TRUE)])
def test_one_job_is_no_jobs(connect: Callable[..., Sandbox], jobs: Any) -> None:
    with pytest.raises(TypeError, match=r"takes an iterable of jobs, as \[job\], not"):
        next(connect("http://127.0.0.1:1").execute_many(jobs, concurrency=1))


def test_jobs_are_no_asynchronous_iterable(connect: Callable[..., Sandbox]) -> None:
    async def jobs() -> AsyncIterator[Any]:
        yield TRUE

    given: Any = jobs()
    with pytest.raises(TypeError, match=r"not an asynchronous one: .*\[job async for job"):
        next(connect("http://127.0.0.1:1").execute_many(given, concurrency=1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": 5}, r"executor must have submit\(\), .*, not int"),
        ({"stop_on": 5}, "stop_on must be a function, not 5"),
        ({"on_progress": "x"}, "on_progress must be a function, not 'x'"),
    ],
)
def test_options_of_the_wrong_kind(
    options: dict[str, Any], words: str, connect: Callable[..., Sandbox]
) -> None:
    sandbox = connect("http://127.0.0.1:1")
    with pytest.raises(TypeError, match=words):
        next(sandbox.execute_many([TRUE], **{"concurrency": 1, **options}))


def test_stop_on(connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 0.05
    seen: list[Progress] = []

    def third(done: JobResult[Any]) -> bool:
        return cast("bool", done.id == 2)

    found = connect(raw_server.url).execute_many(
        numbered(), concurrency=2, stop_on=third, on_progress=seen.append
    )
    ids = [done.id for done in found]
    assert set(range(3)) <= set(ids)
    assert ids.index(2) >= len(ids) - 2
    assert (seen[-1].done, seen[-1].passed, seen[-1].running) == (len(ids), len(ids), 0)
    assert (seen[-1].total, seen[0].seconds > 0) == (None, True)


def test_what_a_job_not_done_would_come_before_is_yielded(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if b'["0"]' not in request:
            time.sleep(0.1)
        connection.sendall(OVERLOADED if b'["0"]' in request else DONE)

    raw_server.answer = answer
    results = connect(raw_server.url).execute_many(
        numbered(4), concurrency=4, ordered=True, stop_on=lambda _: True
    )
    assert [done.id for done in results] == [1, 2, 3]


def test_jobs_that_can_not_be_read_are_yielded_before_others_are_taken(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = DONE
    jobs: Iterator[Any] = ((TRUE, io.StringIO("text")) for _ in itertools.count())
    results = connect(raw_server.url).execute_many(jobs, concurrency=2)
    assert [next(results).outcome for _ in range(5)] == ["error"] * 5
    cast("Any", results).close()


def test_links_among_submissions_are_refused(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    (tmp_path / "given/alice").mkdir(parents=True)
    (tmp_path / "given/eve").symlink_to(tmp_path)
    with pytest.raises(InvalidEnvironment, match=r"given/eve' is a symbolic link"):
        [*connect(raw_server.url).grade(tmp_path / "given", TRUE, concurrency=1)]
    assert not raw_server.requests


@pytest.mark.parametrize("concurrency", ["2", 1.5, True])
def test_concurrency_that_is_no_number(
    concurrency: Any, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    with pytest.raises(TypeError, match="concurrency must be a whole number"):
        [*connect(raw_server.url).execute_many([TRUE], concurrency=concurrency)]


def test_progress_of_a_folder_knows_how_many_there_are(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    raw_server.answer = DONE
    for name in "abc":
        (tmp_path / name).mkdir()
    seen: list[Progress] = []
    sandbox = connect(raw_server.url)
    assert len([*sandbox.grade(tmp_path, TRUE, concurrency=2, on_progress=seen.append)]) == 3
    assert [each.total for each in seen] == [3, 3, 3]


def test_files_that_are_closed_when_the_next_job_is_taken(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = DONE

    def jobs() -> Iterator[Any]:
        for number in range(3):
            with tgz({"number": str(number)}) as stream:
                yield TRUE, stream

    found = connect(raw_server.url).execute_many(jobs(), concurrency=3)
    assert [done.outcome for done in found] == ["passed"] * 3


def test_reading_the_files_of_jobs_does_not_hold_up_the_event_loop(
    run: Callable[..., Any], raw_server: RawServer
) -> None:
    raw_server.answer = DONE
    started, released = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            started.set()
            assert released.wait(10)
            return super().read(size)

    async def release() -> None:
        await anyio.to_thread.run_sync(started.wait, 10)
        released.set()

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox, anyio.create_task_group() as group:
            group.start_soon(release)
            files = Slow(tgz({"a": "1"}).read())
            results = [done async for done in sandbox.execute_many([(TRUE, files)], concurrency=1)]
            assert [done.outcome for done in results] == ["passed"]

    run(main)


def test_what_was_done_is_not_kept(
    connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy
) -> None:
    class Meta:
        pass

    def answer(connection: socket.socket, request: bytes) -> None:
        busy.seconds = 30 if b'["3"]' in request else 0
        busy(connection, request)

    raw_server.answer = answer
    jobs = (Job(number, config, meta=Meta()) for number, config in enumerate(numbered(4)))
    results = connect(raw_server.url).execute_many(jobs, concurrency=3)
    done = [weakref.ref(next(results).meta) for _ in range(3)]
    kept = done[:2]  # not what was given last
    until = time.monotonic() + 5
    while any(each() is not None for each in kept) and time.monotonic() < until:
        time.sleep(0.01)
    assert [each() for each in kept] == [None, None]
    cast("Any", results).close()


class Odd(BaseException):
    """Is no Exception, as what pytest.fail raises."""


@pytest.mark.parametrize("way", ["threads", "executor"])
def test_whatever_a_hook_raises_is_a_jobs_error(way: str, raw_server: RawServer) -> None:
    def hook(_: httpx.Request) -> None:
        raise Odd

    with (
        ThreadPoolExecutor(1) as threads,
        Sandbox(raw_server.url, hooks={"request": [hook]}) as sandbox,
    ):
        executor = threads if way == "executor" else None
        (done,) = sandbox.execute_many([TRUE], concurrency=1, executor=executor)
    assert "Odd" in str(done.error)


def test_whatever_an_asynchronous_hook_raises_is_a_jobs_error(
    run: Callable[..., Any], raw_server: RawServer
) -> None:
    async def hook(_: httpx.Request) -> None:
        raise Odd

    async def main() -> list[str]:
        async with ASandbox(raw_server.url, hooks={"request": [hook]}) as sandbox:
            results = sandbox.execute_many([TRUE], concurrency=1)
            with anyio.fail_after(10):
                return [str(done.error) async for done in results]

    (error,) = run(main)
    assert "Odd" in error


def test_trio_as_a_guest_of_asyncio(raw_server: RawServer) -> None:
    raw_server.answer = DONE

    async def guest() -> list[str]:
        async with ASandbox(raw_server.url) as sandbox:
            with trio.fail_after(10):
                return [done.outcome async for done in sandbox.execute_many([TRUE], concurrency=1)]

    async def host() -> list[str]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        return cast("list[str]", (await ended).unwrap())

    assert asyncio.run(host()) == ["passed"]


def test_batch_that_is_collected_by_one_of_its_own_threads(raw_server: RawServer) -> None:
    raw_server.answer = DONE
    left, collected = threading.Event(), threading.Event()

    def hook(request: httpx.Request) -> None:
        if b'["1"]' in request.read() and left.wait(10):
            gc.collect()
            collected.set()

    def leave() -> None:
        cycle: dict[str, Any] = {}
        cycle["itself"] = cycle
        sandbox = Sandbox(raw_server.url, hooks={"request": [hook]})
        cycle["results"] = sandbox.execute_many(numbered(2), concurrency=2)
        assert next(cycle["results"]).id == 0

    leave()
    left.set()
    assert collected.wait(10)
    until = time.monotonic() + 10
    while any(each.name == "sandbox job" for each in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_iterable_that_raises(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    def jobs() -> Iterator[Any]:
        yield TRUE
        yield TRUE
        raise LookupError("no more")

    raw_server.answer = DONE
    found: list[JobResult[Any]] = []
    with pytest.raises(LookupError, match="no more"):
        found.extend(connect(raw_server.url).execute_many(jobs(), concurrency=3))
    assert sorted(done.id for done in found) == [0, 1]


def test_interrupted(raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 30
    ended = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        if b'["2"]' not in request:
            return busy(connection, request)
        connection.sendall(DONE)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        return ended.set()

    raw_server.answer = answer
    found: list[JobResult[Any]] = []
    started = time.monotonic()
    with Sandbox(raw_server.url) as sandbox, pytest.raises(KeyboardInterrupt):
        found.extend(sandbox.execute_many(numbered(), concurrency=3, ordered=True))
    assert [done.id for done in found] == [2]  # though it is not its turn
    assert ended.wait(5)
    assert busy.left.wait(5)
    assert time.monotonic() - started < 5


def test_interrupted_while_progress_is_told(raw_server: RawServer) -> None:
    together = threading.Barrier(4)

    def answer(connection: socket.socket, _: bytes) -> None:
        together.wait(10)
        connection.sendall(DONE)

    def on_progress(progress: Progress) -> None:
        if progress.done == 1:
            time.sleep(0.3)  # all end
        if progress.done == 2:
            raise KeyboardInterrupt

    raw_server.answer = answer
    found: list[object] = []
    with Sandbox(raw_server.url) as sandbox:
        results = sandbox.execute_many(numbered(4), concurrency=4, on_progress=on_progress)
        with pytest.raises(KeyboardInterrupt):
            found.extend(done.id for done in results)
    assert sorted(map(str, found)) == ["0", "1", "2", "3"]


def test_forked_child_that_leaves_a_batch_spares_its_parents(
    raw_server: RawServer, busy: Busy
) -> None:
    busy.seconds = 1.0
    raw_server.answer = busy.but_the_first
    with Sandbox(raw_server.url) as sandbox:
        results = sandbox.execute_many(numbered(3), concurrency=3)
        assert next(results).id == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if not child:
            cast("Any", results).close()
            os._exit(0)
        os.waitpid(child, 0)
        assert [done.outcome for done in results] == ["passed", "passed"]


def test_client_of_ones_own_is_not_cut(raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 0.2
    with httpx.Client() as client:
        sandbox = Sandbox(raw_server.url, http_client=client)
        for _ in sandbox.execute_many(numbered(), concurrency=2):
            break
        assert sandbox.execute(TRUE).ok
    assert not busy.left.is_set()


def test_task_that_is_cancelled(raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 30

    async def consume(sandbox: ASandbox) -> None:
        async for _ in sandbox.execute_many(numbered(), concurrency=3):
            pass

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consume(sandbox), 0.3)
            assert len(asyncio.all_tasks()) == 1

    started = time.monotonic()
    asyncio.run(main())
    assert busy.left.wait(5)
    assert time.monotonic() - started < 5


def test_in_either_event_loop(run: Callable[..., Any], raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 0.01

    async def main() -> None:
        async with ASandbox(raw_server.url) as sandbox:
            found = [done.id async for done in sandbox.execute_many(numbered(9), concurrency=3)]
            assert sorted(found) == [*range(9)]
            busy.seconds = 30
            raw_server.answer = busy.but_the_first
            results = sandbox.execute_many(numbered(), concurrency=3)
            async with contextlib.aclosing(results):  # type: ignore[type-var]
                async for _ in results:
                    break

    run(main)
    assert busy.left.wait(5)


def test_many_at_once_are_slowly_let_in_again() -> None:
    batch = Batch(
        numbered(),
        10,
        ordered=False,
        on_progress=None,
        stop_on=None,
        kind=Execution,
        sandbox=None,
        retries=0,
        patience=None,
    )
    runs = [*batch.starts()]
    assert len(runs) == 10
    for run in runs[5:]:
        batch.end(run, Answer(None, Sandbox503(httpx.Response(503)), 0.0, refused=True))
    assert not [*batch.starts()]  # but waits a moment
    assert 0 < (batch.pause() or 0) < 0.2
    done = Answer(None, ValueError(), 0.0)
    batch.end(runs[0], done)  # and then no longer
    assert batch._limit == pytest.approx(7, abs=0.2)  # lowered once for the five
    again = [*batch.starts()]
    assert [run.index for run in again] == [5, 6, 7]
    for run in [*runs[1:5], *again]:
        batch.end(run, done)
    assert 7 < batch._limit < 9
    assert len([*batch.results()]) == 8


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("connections", ["sync", "async"])
def test_executors(
    connections: str, sandbox_url: str, pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "name").write_text("by path")
    cat = {"commands": ["cat name"]}
    jobs: list[Any] = [(cat, tmp_path), (cat, tgz({"name": "by value"})), "wrong", (cat, {})]

    async def asynchronously(executor: Any) -> list[JobResult[Any]]:
        async with ASandbox(sandbox_url) as sandbox:
            return [done async for done in sandbox.execute_many(jobs, executor=executor)]

    def synchronously(executor: Any) -> list[JobResult[Any]]:
        with Sandbox(sandbox_url) as sandbox:
            return [*sandbox.execute_many(jobs, executor=executor)]

    with ThreadPoolExecutor(2) as threads:
        for executor in (threads, pool):
            jobs[1] = (cat, tgz({"name": "by value"}))
            if connections == "sync":
                found = synchronously(executor)
            else:
                found = asyncio.run(asynchronously(executor))
            by_id = {done.id: done for done in found}
            outputs = [cast("Any", by_id[n]).result.execution[0].stdout for n in (0, 1, 3)]
            assert outputs == ["by path", "by value", ""]
            assert isinstance(by_id[2].error, InvalidConfig)


def test_executor_that_breaks(raw_server: RawServer, busy: Busy, pool: ProcessPoolExecutor) -> None:
    busy.seconds = 30

    def answer(connection: socket.socket, request: bytes) -> None:
        if b'["1"]' in request:
            for process in pool._processes:
                os.kill(process, signal.SIGKILL)
        busy(connection, request)

    raw_server.answer = answer
    found: list[JobResult[Any]] = []
    with Sandbox(raw_server.url) as sandbox, pytest.raises(BrokenExecutor):
        found.extend(sandbox.execute_many(numbered(), concurrency=2, executor=pool))
    assert sorted(done.id for done in found) == [0, 1]
    assert all(isinstance(done.error, BrokenExecutor) for done in found)


def test_executor_that_is_shut_down(connect: Callable[..., Sandbox]) -> None:
    with ThreadPoolExecutor(1) as threads:
        pass
    found: list[JobResult[Any]] = []
    sandbox = connect("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="shutdown"):
        found.extend(sandbox.execute_many(numbered(), concurrency=2, executor=threads))
    assert found


def test_leaving_an_executor(raw_server: RawServer, busy: Busy) -> None:
    busy.seconds = 30
    raw_server.answer = busy.but_the_first
    with ThreadPoolExecutor(2) as threads, Sandbox(raw_server.url) as sandbox:
        for _ in sandbox.execute_many(numbered(), concurrency=4, executor=threads):
            break
    assert busy.left.wait(5)


def test_each_process_may_have_a_sandbox_of_its_own(pool: ProcessPoolExecutor) -> None:
    with Sandbox.local() as sandbox:
        host = {"commands": ["true"]}
        found = [*sandbox.execute_many([host] * 4, executor=pool)]
        sandbox._server.stop()  # type: ignore[union-attr]
        found += sandbox.execute_many([host] * 4, executor=pool)
        assert [done.outcome for done in found] == ["passed"] * 8
        with pytest.raises(ValueError, match="stored on one server"):
            next(sandbox.grade("/tmp", TRUE, base={"a": "b"}, executor=pool))


def test_how_many_an_executor_does_at_once(pool: ProcessPoolExecutor) -> None:
    class Mpi:
        num_workers = 5

    class Dask:
        class _client:  # noqa: N801
            @staticmethod
            def ncores() -> dict[str, int]:
                return {"tcp://a": 2, "tcp://b": 4}

    assert workers(pool) == 2
    assert workers(cast("Any", Mpi())) == 5
    assert workers(cast("Any", Dask())) == 6
    assert workers(cast("Any", object())) == os.cpu_count()


def test_sandbox_that_can_not_be_sent_away(pool: ProcessPoolExecutor) -> None:
    with httpx.Client() as client:
        sandbox = Sandbox("http://127.0.0.1:1", http_client=client)
        with pytest.raises(TypeError, match="can't be pickled"):
            next(sandbox.execute_many([TRUE], concurrency=1, executor=pool))

    async def main() -> None:
        async with httpx.AsyncClient() as client:
            sandbox = ASandbox("http://127.0.0.1:1", http_client=client)
            with pytest.raises(TypeError, match="can't use the http_client"):
                await anext(sandbox.execute_many([TRUE], concurrency=1, executor=pool))
            await sandbox.close()

    asyncio.run(main())


def hand_in(folder: Path) -> None:
    for name, program in {"alice": "print(49)", "bob": "print(48)", ".git": "no"}.items():
        (folder / name).mkdir()
        (folder / name / "square.py").write_text(program)
    (folder / "notes.txt").write_text("no submission")


def test_grading_a_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    hand_in(tmp_path)
    tests = {"check.sh": 'test "$(python3 square.py)" = 49', "square.py": "the teacher's"}
    graded = {
        done.id: done for done in sandbox.grade(tmp_path, {"commands": ["sh check.sh"]}, base=tests)
    }
    assert {name: done.outcome for name, done in graded.items()} == {
        "alice": "passed",
        "bob": "failed",
    }
    assert graded["alice"].meta == tmp_path / "alice"


def test_the_base_is_uploaded_once(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    hand_in(tmp_path)
    uuid = "872b604c-9cce-42e2-8888-9a0311f3a724"
    saved = (
        f'{{"status": 0, "execution": [], "total_time": 0, "environment": "{uuid}",'
        '"expire": "2030-01-01T00:00:00+00:00"}'
    )
    raw_server.answer = reply("200 OK", saved)
    sandbox = connect(raw_server.url)
    assert len([*sandbox.grade(tmp_path, TRUE, base={"a": "b"}, concurrency=2)]) == 2
    assert ['"save": true' in str(request) for request in raw_server.requests] == [
        True,
        False,
        False,
    ]
    assert [uuid in str(request) for request in raw_server.requests] == [False, True, True]
    config = {**TRUE, "environment": uuid}
    with pytest.raises(TypeError, match="either a base or an environment"):
        next(sandbox.grade(tmp_path, config, base={"a": "b"}))


def test_storing_files(sandbox: Sandbox) -> None:
    stored = sandbox.store({"data/primes": "2 3 5 7"})
    assert stored.read_text("data/primes") == "2 3 5 7"


def test_results_are_not_kept(
    connect: Callable[..., Sandbox], raw_server: RawServer, busy: Busy
) -> None:
    # scripts/bench/batch.py measures the memory of many more
    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, (ExecutionResult, Run)) for each in gc.get_objects())

    for ordered in (False, True):
        before = alive()
        results = connect(raw_server.url).execute_many(numbered(), concurrency=4, ordered=ordered)
        for _ in range(200):
            assert next(results).ok
        assert alive() - before <= 4 * 2 * 5
        cast("Any", results).close()


@pytest.mark.parametrize("flavour", [Sandbox, ASandbox])
def test_workers_have_local_sandboxes_like_this_one(
    flavour: Any, monkeypatch: pytest.MonkeyPatch, raw_server: RawServer
) -> None:
    started: list[tuple[object, ...]] = []

    class Server:
        url = raw_server.url

        def stop(self) -> None:
            """Do nothing."""

    def start(*arguments: object) -> Server:
        started.append(arguments)
        return Server()

    monkeypatch.setattr("sandbox_api._local.start", start)
    sandbox = flavour.local(7, isolation="podman", image="mine", run_time=70, headers={"X-A": "b"})
    sandbox._closed = True  # there is nothing to close
    recipe = sandbox._elsewhere()[1]() if flavour is ASandbox else sandbox._elsewhere()
    there = pickle.loads(pickle.dumps(recipe))()
    assert started == [("podman", "mine", 70)] * 2
    assert there.timeout == 7
    assert there._settings.options == {"headers": {"X-A": "b"}}
