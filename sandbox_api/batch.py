"""Many executions: what goes in, what comes out, and how far it is.

`Sandbox.execute_many` runs them, and `Sandbox.grade` those of a folder of submissions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar

from attrs import frozen

from ._results import ExecutionResult
from .exceptions import InvalidEnvironment

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor

    from sandbox_client.models import ExecuteConfig, ExecuteConfigDict

    from .environment import EnvironmentSource

    Config: TypeAlias = ExecuteConfig | ExecuteConfigDict | Mapping[str, Any]

__all__ = ["BatchOptions", "Job", "JobResult", "Outcome", "Progress", "submissions"]

R = TypeVar("R", bound=ExecutionResult)

Outcome: TypeAlias = Literal["passed", "failed", "timed out", "error"]
"""How a job ended: its commands did well, one failed, one took too long, or there is no result."""


@frozen
class Job:
    """One execution of many.

    Examples:

        >>> job = Job("alice", {"commands": ["python3 main.py"]}, "handed-in/alice", {"group": 3})
        >>> job.meta
        {'group': 3}
    """

    id: Any
    """What to tell it by; of jobs that are no Job, their place among all, from 0."""

    config: Config
    """What to run, as for `execute`."""

    environ: EnvironmentSource | None = None
    """Files to lay into the working directory first, as for `execute`."""

    meta: Any = None
    """Whatever you want to find again in the result."""


@frozen
class JobResult(Generic[R]):
    """What became of a job: its result, or the error that took the place of one."""

    id: Any
    """The job's."""

    result: R | None
    """What its commands did; None where there is an error."""

    error: Exception | None
    """What `execute` raised; None where there is a result."""

    attempts: int
    """How often it was sent; more than once only where the server had not begun it, and 0 where its
    configuration is wrong or its files can't be read."""

    seconds: float
    """How long the last of them took, from sending it to the end of the answer."""

    meta: Any = None
    """The job's."""

    @property
    def ok(self) -> bool:
        """Whether there is a result, and all its commands did well."""
        return self.outcome == "passed"

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        if self.result is None:
            return "error"
        if self.result.ok:
            return "passed"
        return "timed out" if self.result.timed_out else "failed"


@frozen
class Progress:
    """How far many executions are."""

    passed: int
    """Jobs whose commands all did well."""

    failed: int
    """Jobs of which a command failed."""

    timed_out: int
    """Jobs of which a command took too long."""

    errors: int
    """Jobs without a result."""

    running: int
    """Jobs that are being executed."""

    concurrency: int
    """How many may be at once, as things are."""

    total: int | None
    """How many jobs there are in all, where that is known."""

    seconds: float
    """How long it has been going."""

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.passed + self.failed + self.timed_out + self.errors


class BatchOptions(TypedDict, total=False):
    """How to run many executions: see Sandbox.execute_many."""

    concurrency: int | None
    """How many at once, at most; by default what the server says it can take."""

    ordered: bool
    """Whether to yield the results in the order of the jobs."""

    on_progress: Callable[[Progress], object] | None
    """What is told how far it is, whenever a job has ended."""

    stop_on: Callable[[JobResult[Any]], object] | None
    """What says, of each result, whether to begin no more jobs."""

    executor: Executor | None
    """What runs the jobs, in place of threads of this process."""


def submissions(folder: str | os.PathLike[str], config: Config) -> Iterator[Job]:
    """Yield a job for each sub-folder, in the order of their names, which are the jobs' ids.

    Those whose name begins with a dot are left out. A job's `meta` is the path of its folder.

    Raises:
        OSError: the folder can't be read.
        InvalidEnvironment: one of them is a symbolic link, which could lead to anything of yours.

    Examples:

        >>> jobs = submissions("handed-in", {"commands": ["python3 main.py"]})
        >>> for done in sandbox.execute_many(jobs, ordered=True):
        ...     print(done.id, done.outcome)
        alice passed
        bob failed
    """
    inside = sorted(Path(folder).iterdir())
    paths = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
    for path in paths:
        if path.is_symlink():
            raise InvalidEnvironment(
                f"{str(path)!r} is a symbolic link, and could lead to what nobody handed in: put a "
                "copy there, or give execute_many a job for it"
            )
    for path in paths:
        yield Job(path.name, config, path, path)


def based_on(config: Config, environment: object) -> dict[str, Any]:
    """Return a configuration that starts from a stored environment.

    Raises:
        TypeError: it starts from another already.
    """
    if "environment" in config:
        raise TypeError("give either a base or an environment in the configuration, not both")
    return {**config, "environment": str(environment)}
