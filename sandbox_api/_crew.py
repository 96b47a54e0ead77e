"""Who does the jobs of a Batch: threads, tasks, or any executor of PEP 3148."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import os
import pickle
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio
import anyio.to_thread
from attrs import evolve

from ._batch import Answer, failed
from ._pool import LIMIT
from ._suspending import in_asyncio
from .environment import open_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from ._batch import Run
    from .batch import Job
    from .sandbox import Sandbox

    Ended = tuple[Run, Answer]
    Submit = Callable[[Run], Future[Answer]]

# How long to wait, in seconds, for jobs that were cancelled: they end at once, but where a
# connection is being made, or an `http_client` was given, whose connections are not ours to cut.
FAREWELL = 1.0

# How long to wait at a time, in seconds: Ctrl+C that comes just before a wait is noticed only
# after it.
ATTENTIVE = 0.5

# How many jobs there may be at once in this process: so many connections a client makes.
MOST_HERE = LIMIT


def is_stream(job: Job) -> bool:
    """Tell whether the files of a job are a stream, which can be read just once."""
    return hasattr(job.environ, "read")


def repeatable(job: Job) -> Job:
    """Return a job that can be sent twice, and to another process: its files are no stream."""
    if not is_stream(job):
        return job
    if getattr(job.environ, "closed", False):
        raise ValueError("the stream of its files is closed, as where another job had it")
    with open_environment(job.environ) as stream:  # type: ignore[arg-type]
        return evolve(job, environ=stream.read())


def attempt(sandbox: Sandbox, job: Job) -> Answer:
    """Send a job once."""
    started = time.monotonic()
    try:
        result = sandbox.execute(job.config, job.environ, retries=0)
    except Exception as error:
        return failed(error, started)
    return Answer(result, None, time.monotonic() - started)


class Crew(Protocol):
    """What a synchronous driver needs."""

    def start(self, run: Run) -> None:
        """Have a job done."""
        ...

    def wait(self, seconds: float | None) -> list[Ended]:
        """Return what has ended; wait for it where nothing has."""
        ...

    def stop(self) -> None:
        """Cancel what runs."""
        ...


class Threads:
    """Threads that do one job after another. Cancelled, their connections are cut."""

    def __init__(self, sandbox: Sandbox, cut: Callable[[], object]) -> None:
        self._sandbox = sandbox
        self._cut = cut
        self._threads: list[threading.Thread] = []
        self._idle = 0
        """How many of them no job is meant for."""
        self._waiting: SimpleQueue[Run | None] = SimpleQueue()
        """Jobs, and None for each thread that is to end."""
        self._ended: SimpleQueue[Ended] = SimpleQueue()

    def start(self, run: Run) -> None:
        self._waiting.put(run)
        if self._idle:
            self._idle -= 1
            return
        # Daemons, for a process that ends does not wait for those.
        thread = threading.Thread(target=self._work, name="sandbox job", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while self._do_one():
            pass

    def _do_one(self) -> bool:
        """Wait for a job and do it; tell whether to go on. Of what is done, nothing is kept."""
        run = self._waiting.get()
        if run is None:
            return False
        started = time.monotonic()
        try:
            answer = attempt(self._sandbox, run.job)
        except BaseException as error:  # of a hook, perhaps; someone waits for this one
            answer = failed(error, started)
        self._ended.put((run, answer))
        return True

    def wait(self, seconds: float | None) -> list[Ended]:
        ended = drained(self._ended, seconds)
        self._idle += len(ended)
        return ended

    def stop(self) -> None:
        until = time.monotonic() + FAREWELL
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            if thread is threading.current_thread():
                continue  # which a collector of garbage had end the batch
            while thread.is_alive() and time.monotonic() < until:
                self._cut()  # again and again, for one may have been connecting
                thread.join(0.05)


def drained(queue: SimpleQueue[Ended], seconds: float | None) -> list[Ended]:
    """Return all that is in a queue; wait where it is empty."""
    found: list[Ended] = []
    until = math.inf if seconds is None else time.monotonic() + seconds
    while not found:
        left = until - time.monotonic()
        with contextlib.suppress(Empty):
            found.append(queue.get(timeout=min(max(left, 0.0), ATTENTIVE)))
        if left <= ATTENTIVE:
            break
    with contextlib.suppress(Empty):
        while True:
            found.append(queue.get_nowait())
    return found


class Futures:
    """Jobs on an executor, which is the user's."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._futures: dict[Future[Answer], Run] = {}
        self._ended: SimpleQueue[tuple[Run, Answer]] = SimpleQueue()

    def start(self, run: Run) -> None:
        future = submitted(self._submit, run)
        self._futures[future] = run
        future.add_done_callback(self._done)

    def _done(self, future: Future[Answer]) -> None:
        run = self._futures.pop(future, None)
        if run is not None:
            self._ended.put((run, answer_of(future, run)))

    def wait(self, seconds: float | None) -> list[Ended]:
        return drained(self._ended, seconds)

    def stop(self) -> None:
        while self._futures:
            future, _ = self._futures.popitem()
            future.cancel()


def submitter(executor: Executor, here: Sandbox, elsewhere: Callable[[], object]) -> Submit:
    """Return what has a job done by an executor.

    Args:
        executor: the user's.
        here: what sends a job in this process.
        elsewhere: returns what is pickled for others: a sandbox, or what makes one.

    Raises:
        TypeError: that can't be pickled, or the executor is none.
    """
    if not callable(getattr(executor, "submit", None)):
        kind = type(executor).__name__
        raise TypeError(f"executor must have submit(), as those of concurrent.futures, not {kind}")
    if isinstance(executor, ThreadPoolExecutor):
        return lambda run: executor.submit(attempt, here, run.job)
    recipe = pickle.dumps(elsewhere())
    # Dask takes calls of the same arguments for the same call, so none has.
    return lambda run: executor.submit(attempt_elsewhere, recipe, run.job, os.urandom(8))


def submitted(submit: Submit, run: Run) -> Future[Answer]:
    """Return the future of a job, be it that the executor does not take it."""
    try:
        return submit(run)
    except Exception as error:
        future: Future[Answer] = Future()
        # Shut down, it says so by a RuntimeError.
        broken = isinstance(error, RuntimeError)
        future.set_result(evolve(failed(error, run.started), broken=broken))
        return future


def answer_of(future: Future[Answer], run: Run) -> Answer:
    """Return what came of a job on an executor, which is waited for."""
    try:
        return future.result()
    except BaseException as error:  # as where its worker died, or of a hook; someone waits
        return failed(error, run.started)


_kept: dict[tuple[int, bytes], Sandbox] = {}
_making = threading.Lock()


def attempt_elsewhere(recipe: bytes, job: Job, _: bytes) -> Answer:
    """Send a job once, by a sandbox that is made by a recipe, and kept by this process."""
    key = os.getpid(), recipe
    with _making:
        if key not in _kept:
            made = pickle.loads(recipe)  # noqa: S301 (of the user's own)
            _kept[key] = made() if isinstance(made, functools.partial) else made
    return attempt(_kept[key], job)


def workers(executor: Executor) -> int:
    """Return how many jobs an executor does at once, as far as it tells."""
    client = getattr(executor, "_client", None)  # Dask's
    if client is not None:
        return sum(client.ncores().values()) or 1
    for name in ("_max_workers", "num_workers"):  # the standard library's; MPI's
        if isinstance(count := getattr(executor, name, None), int):
            return max(count, 1)
    return os.cpu_count() or 1


class Tasks:
    """A task for each job, in an event loop of asyncio or trio.

    The tasks can't be in a group of anyio's, which would have to be left by the task that entered
    it, between two of the values that a generator yields.
    """

    def __init__(self, work: Callable[[Run], Awaitable[Answer]]) -> None:
        self._work = work
        self._scopes: dict[Run, anyio.CancelScope] = {}
        self._ended: deque[Ended] = deque()
        self._changed = anyio.Event()

    @classmethod
    def on(cls, sandbox: Any) -> Self:
        """Return tasks that send the jobs themselves."""

        async def work(run: Run) -> Answer:
            started = time.monotonic()
            try:
                result = await sandbox.execute(run.job.config, run.job.environ, retries=0)
            except Exception as error:
                return failed(error, started)
            return Answer(result, None, time.monotonic() - started)

        return cls(work)

    @classmethod
    def through(cls, submit: Submit, most: int) -> Self:
        """Return tasks that wait for an executor."""
        limiter = anyio.CapacityLimiter(most)

        async def work(run: Run) -> Answer:
            future = submitted(submit, run)
            try:
                return await anyio.to_thread.run_sync(
                    answer_of, future, run, abandon_on_cancel=True, limiter=limiter
                )
            finally:
                future.cancel()

        return cls(work)

    def start(self, run: Run) -> None:
        self._scopes[run] = anyio.CancelScope()
        spawn(self._do, run)

    async def _do(self, run: Run) -> None:
        started = time.monotonic()
        try:
            with self._scopes[run] as scope:
                try:
                    answer = await self._work(run)
                except BaseException as error:  # of a hook, perhaps; someone waits for this one
                    if scope.cancel_called or isinstance(error, KeyboardInterrupt):
                        raise
                    answer = failed(error, started)
                self._ended.append((run, answer))
        finally:
            del self._scopes[run]
            self._changed.set()

    async def wait(self, seconds: float | None) -> list[Ended]:
        if not self._ended:
            self._changed = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._changed.wait()
        ended = [*self._ended]
        self._ended.clear()
        return ended

    async def stop(self) -> None:
        for scope in self._scopes.values():
            scope.cancel()
        with anyio.move_on_after(FAREWELL, shield=True):
            while self._scopes:
                self._changed = anyio.Event()
                await self._changed.wait()


_tasks: set[asyncio.Task[None]] = set()


def spawn(function: Callable[[Run], Any], run: Run) -> None:
    """Start a task that belongs to the event loop, and to no other task."""
    if in_asyncio():
        task = asyncio.get_running_loop().create_task(function(run))
        _tasks.add(task)  # the loop itself keeps none
        task.add_done_callback(_tasks.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(function, run, context=contextvars.copy_context())
