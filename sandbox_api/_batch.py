"""Many executions: which to start when, and what to make of how they end. No I/O."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import AsyncIterable, Mapping, Sized
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
from attrs import define, frozen

from ._exchange import LONGEST_WAIT, MOST_WAIT, NEVER_CONNECTED, NOT_STARTED, retry_after
from ._results import ExecutionResult, bind
from .batch import Job, JobResult, Progress
from .exceptions import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .batch import Outcome

E = TypeVar("E", bound=ExecutionResult)

# What is left of the number of jobs at once when the server is overloaded. It grows back by one for
# as many successes as there may be jobs at once.
LESS = 0.7

# Waiting before jobs are sent again, in seconds: doubled from the first to the longest.
FIRST_WAIT = 0.1

# How many jobs may be begun, or wait to be yielded in order, for each that may run at once.
AHEAD = 4


@frozen
class Answer:
    """What came of an attempt at a job."""

    result: ExecutionResult | None
    error: Exception | None
    seconds: float
    refused: bool = False
    """Whether the server is overloaded, and did not begin it."""
    unreached: bool = False
    """Whether there was no connection to the server."""
    wait: float = 0.0
    """How long the server asks to wait, in seconds."""
    broken: bool = False
    """Whether the executor takes no more jobs."""
    unsent: bool = False
    """Whether nothing was sent, for what was to be sent is wrong or can't be read."""


def failed(error: BaseException, started: float) -> Answer:
    """Return what came of an attempt that raised."""
    seconds = time.monotonic() - started
    response = error.response if isinstance(error, SandboxError) else None
    status = getattr(response, "status_code", None)
    return Answer(
        None,
        error if isinstance(error, Exception) else RuntimeError(repr(error)),
        seconds,
        refused=status in NOT_STARTED,
        unreached=isinstance(error.__cause__, NEVER_CONNECTED),
        wait=(isinstance(response, httpx.Response) and retry_after(response)) or 0.0,
        broken=isinstance(error, BrokenExecutor),
        unsent=vars(error).get("unsent", False),
    )


@define(eq=False)
class Run:
    """A job on its way."""

    index: int
    job: Job
    attempts: int = 0
    started: float = 0.0
    """When the last attempt was, on the monotonic clock."""
    unreached: int = 0
    """How many attempts found no connection."""


class Batch(Generic[E]):
    """Jobs, and all that is decided about them. Whoever drives it waits, and runs them.

    As long as it is `going`: start what `starts()` yields, be it read or `unread()`, pass on what
    `results()` yields, wait for one to end, or for as long as `pause()` says, and tell `end()`; at
    last, `rest()` and `close()`.

    Raises:
        ValueError: `concurrency` is not positive.
        TypeError: `jobs` is one job, or another argument of the wrong kind.
    """

    def __init__(
        self,
        jobs: Iterable[Any],
        concurrency: int,
        *,
        ordered: bool,
        on_progress: Callable[[Progress], object] | None,
        stop_on: Callable[[JobResult[E]], object] | None,
        kind: type[E],
        sandbox: object,
        retries: int,
        patience: float | None,
    ) -> None:
        for name, function in (("on_progress", on_progress), ("stop_on", stop_on)):
            if not (function is None or callable(function)):
                raise TypeError(f"{name} must be a function, not {function!r}")
        if isinstance(jobs, (str, bytes, Mapping, Job)):  # some of which would be iterated over
            raise TypeError("this takes an iterable of jobs, as [job], not one by itself")
        if isinstance(jobs, AsyncIterable) and not hasattr(jobs, "__iter__"):
            raise TypeError(
                "this takes an iterable of jobs, not an asynchronous one: collect them first, as "
                "[job async for job in jobs]"
            )
        self._jobs = enumerate(jobs)
        self._total = len(jobs) if isinstance(jobs, Sized) else None
        self._most = concurrency
        self._ordered = ordered
        self._on_progress = on_progress
        self._stop_on = stop_on
        self._kind = kind
        self._sandbox = sandbox
        self._retries = retries
        self._patience = patience
        """How long the server may refuse all, in seconds."""

        self._limit = float(concurrency)
        self._running: set[Run] = set()
        self._again: deque[Run] = deque()
        self._exhausted = False
        self._failure: BaseException | None = None
        self._begun = 0
        self._ready: deque[JobResult[E]] = deque()
        self._early: dict[int, JobResult[E]] = {}
        self._in_order = 0
        """How many were made ready, where that is in order."""
        self._counts: dict[Outcome, int] = dict.fromkeys(
            ("passed", "failed", "timed out", "error"), 0
        )
        self._since = time.monotonic()
        self._lowered = self._paused = 0.0
        """When the limit was last lowered, and until when nothing is started."""
        self._asked = False
        """Whether the server asked for that pause."""
        self._refusals = 0
        """How often the limit was lowered since the server last did a job."""
        self._refused = 0.0
        """When that was first."""
        self._stopped = False

    @property
    def going(self) -> bool:
        """Whether there is, or may be, something to do."""
        return bool(self._running or self._again) or not self._exhausted

    def starts(self) -> Iterator[Run]:
        """Yield what is to be started now."""
        while len(self._running) < int(self._limit) and time.monotonic() >= self._paused:
            run = self._again.popleft() if self._again else self._following()
            if run is None:
                return
            run.attempts += 1
            run.started = time.monotonic()
            self._running.add(run)
            yield run

    def pause(self) -> float | None:
        """Return how long to wait for one to end before others start, in seconds."""
        if self._again or not (self._exhausted or self._is_ahead()):
            left = self._paused - time.monotonic()
            if left > 0:
                return left
            if len(self._running) < int(self._limit):
                return 0.0
        return None if self._running else 0.0

    def unread(self, run: Run, error: Exception) -> None:
        """Take note of a job that can't be started, for its files can't be read."""
        self._running.discard(run)
        run.attempts = 0
        self._answered(run, Answer(None, error, 0.0))

    def end(self, run: Run, answer: Answer) -> None:
        """Take note of how an attempt ended."""
        self._running.discard(run)
        run.attempts -= answer.unsent
        now = time.monotonic()
        if answer.broken:
            self._failure = answer.error
            self._stop()
        if answer.refused or answer.unreached:
            if self._stopped:
                return  # was not begun, and is not to be
            self._lower(run, answer, now)
            run.unreached += answer.unreached
            given_up = (
                run.unreached > self._retries
                if answer.unreached
                else self._patience and now - self._refused > self._patience
            )
            if not given_up:
                self._again.append(run)
                return
        else:
            self._limit = min(self._limit + 1 / self._limit, self._most)
            self._refusals = 0
            if now < self._paused and not self._asked:
                self._paused = now
        self._answered(run, answer)

    def results(self) -> Iterator[JobResult[E]]:
        """Yield what is ready."""
        while self._ready:
            yield self._ready.popleft()

    def rest(self) -> Iterator[JobResult[E]]:
        """Yield what has ended, be it out of order, for nothing is waited for any more."""
        self._stop()
        yield from self.results()
        for index in sorted(self._early):
            yield self._early.pop(index)

    def close(self) -> None:
        """Raise what ended it early, other than `stop_on`."""
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        self._exhausted = self._stopped = True
        self._again.clear()

    def _is_ahead(self) -> bool:
        return self._ordered and self._begun - self._in_order >= AHEAD * self._most

    def _following(self) -> Run | None:
        """Return a job that was not begun yet, if there is one."""
        if self._exhausted or self._is_ahead():
            return None
        try:
            index, item = next(self._jobs)
        except StopIteration:
            self._exhausted = True
            return None
        except Exception as error:
            self._exhausted = True
            self._failure = error  # once what runs has ended
            return None
        self._begun += 1
        return Run(index, job(index, item))

    def _lower(self, run: Run, answer: Answer, now: float) -> None:
        """Have fewer jobs at once, unless this one was sent before that was last done."""
        if not self._refusals:
            self._refused = now
        if run.started >= self._lowered:
            self._limit = max(min(self._limit, len(self._running) + 1) * LESS, 1.0)
            self._lowered = now
            wait = min(FIRST_WAIT * 2**self._refusals, LONGEST_WAIT)
            self._refusals += 1
            wait *= 1 - random.random() / 2  # noqa: S311 (not a secret)
            self._paused = max(self._paused, now + wait)
            self._asked = False
        if answer.wait:
            self._paused = max(self._paused, now + min(answer.wait, MOST_WAIT))
            self._asked = True

    def _answered(self, run: Run, answer: Answer) -> None:
        result = answer.result
        done = JobResult(
            run.job.id,
            bind(self._kind, result, self._sandbox) if result is not None else None,
            answer.error,
            run.attempts,
            answer.seconds,
            run.job.meta,
        )
        self._counts[done.outcome] += 1
        if self._ordered:
            self._early[run.index] = done
            while (following := self._early.pop(self._in_order, None)) is not None:
                self._ready.append(following)
                self._in_order += 1
        else:
            self._ready.append(done)
        if self._stop_on is not None and self._stop_on(done):
            self._stop()
        if self._on_progress is not None:
            self._on_progress(self._progress())

    def _progress(self) -> Progress:
        return Progress(
            passed=self._counts["passed"],
            failed=self._counts["failed"],
            timed_out=self._counts["timed out"],
            errors=self._counts["error"],
            running=len(self._running),
            concurrency=int(self._limit),
            total=self._total,
            seconds=time.monotonic() - self._since,
        )


def job(index: int, item: Any) -> Job:
    """Return what a user gave as a job: one, a configuration, or that and its files."""
    match item:
        case Job():
            return item
        case (config, environ):
            return Job(index, config, environ)
        case _:
            return Job(index, item)
