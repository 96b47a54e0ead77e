"""The command `batch`: jobs from a file or folder, results to a file that is a journal too."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

import typer
from attrs import frozen

from sandbox_api import (
    ExecutionFailed,
    Job,
    JobResult,
    Sandbox,
    Sandbox429,
    Sandbox503,
    SandboxFailure,
)
from sandbox_api._exchange import NEVER_CONNECTED
from sandbox_api.batch import based_on, submissions

from .report import OUTCOMES, Line, Report, Summary, words
from .shared import (
    FAILED,
    INTERRUPTED,
    OVERLOADED,
    UNAVAILABLE,
    USAGE,
    fail,
    print_json,
    progress,
    told,
    uploading,
    visible,
)

# What a job may have, on a line of its own.
KEYS = {"config", "environ", "id", "meta"}

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Executor


@frozen
class Request:
    """What was asked for on the command line."""

    jobs: Path
    config: dict[str, Any]
    base: Path | None
    output: Path | None
    resume: bool
    retry_errors: bool
    concurrency: int | None
    dask: str | None
    html: Path | None
    as_json: bool


class Journal:
    """A file of results, one a line, each on disk before it counts."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        if str(path) == "-" or (path.exists() and not path.is_file()):
            fail(f"{path} is no file to keep results in; --json prints them", USAGE)
        if not resume and path.exists() and path.stat().st_size:
            fail(f"{path} has results: go on with --resume, or name another file", USAGE)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if os.name == "posix":  # the file's name is to be on disk, too
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def lines(self) -> Iterator[Line]:
        """Yield what was written before. A last line that was torn is removed."""
        end = 0
        with self._path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                whole = raw.endswith(b"\n")
                try:
                    line = json.loads(raw)
                    if not ("id" in line and line["outcome"] in OUTCOMES and line["seconds"] >= 0):
                        raise ValueError
                    yield line
                except (ValueError, TypeError, KeyError):
                    if whole:
                        fail(f"line {number} of {self._path} is no result", USAGE)
                    os.ftruncate(self._file, end)
                    return
                if not whole:
                    self._append(b"\n")
                    return
                end += len(raw)

    def drop_errors(self) -> None:
        """Take out the lines of jobs without a result: all of them, or none."""
        path = self._path.resolve()
        with tempfile.TemporaryDirectory(prefix=".sandbox-", dir=path.parent) as folder:
            kept = Path(folder, path.name)
            with kept.open("wb") as file:
                for line in self.lines():
                    if line["outcome"] != "error":
                        file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(path, kept)
            kept.replace(path)
        self.close()
        self._open()

    def write(self, line: Line) -> None:
        """Append a line, and wait until it is on disk."""
        self._append(json.dumps(line).encode() + b"\n")

    def _append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def line_of(done: JobResult[Any]) -> Line:
    """Return what is written of a result."""
    line: Line = {"id": done.id, "outcome": done.outcome}
    if done.error is None:
        line["result"] = done.result
    else:
        # What is wrong with a line tells more than what its job then lacks.
        error = done.meta if isinstance(done.meta, Exception) else done.error
        line["error"] = {"type": type(error).__name__, "message": told(error)}
    line |= {"attempts": done.attempts, "seconds": round(done.seconds, 6)}
    if not isinstance(done.meta, (Exception, NoneType)):
        line["meta"] = done.meta if not isinstance(done.meta, Path) else str(done.meta)
    return line


def shown(line: Line) -> str:
    """Return a result as a line for people, with why it did not pass."""
    cells = [line["outcome"], f"{line['seconds']:.3f} s", visible(line["id"])]
    if line["outcome"] != "passed":
        spaced = "".join(each if each.isprintable() else " " for each in why(line))
        cells.append(" ".join(spaced.split()))
    return "\t".join(cells)


def why(line: Line) -> str:
    """Return why a job did not pass."""
    if "error" in line:
        return words(line) or str(line["error"]["type"])
    return words(line) or str(ExecutionFailed(line["result"]))


def read_jobs(path: Path) -> Iterator[Job]:
    """Yield the jobs of a file, one a line; what is wrong with one is told when it is run.

    But for a key that there is not: a job without its files would only seem to have run.
    """
    folder = path.parent
    file = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    with file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        for index, (number, raw) in enumerate(lines):
            try:
                found = json.loads(raw)
            except (ValueError, RecursionError) as error:
                fault = ValueError(f"line {number} is not JSON: {error}")
                yield Job(index, cast("Any", None), meta=fault)
                continue
            keys: set[str] = {*found} if isinstance(found, dict) else set()
            if "config" in keys and (unknown := keys - KEYS):
                more, known = (", ".join(sorted(each)) for each in (unknown, KEYS))
                fail(f"{path}, line {number}: a job has no {more}, but {known}", USAGE)
            if "config" not in keys and (lost := keys & {"id", "meta"}):
                more = ", ".join(sorted(lost))
                fail(f"{path}, line {number}: {more} is for a job with a config of its own", USAGE)
            yield job_of(index, found, folder)


def job_of(index: int, found: Any, folder: Path) -> Job:
    """Return the job on a line."""
    line = cast("dict[str, Any]", found if isinstance(found, dict) else {})
    if "config" not in line:
        return Job(index, cast("Any", found))
    environ = line.get("environ")
    if isinstance(environ, str):
        environ = folder / environ
    return Job(line.get("id", index), line["config"], environ, line.get("meta"))


def pending(jobs: Iterable[Job], finished: set[str]) -> Iterator[Job]:
    """Yield the jobs that have no result yet. Of two with one id, a result could be either's."""
    seen: set[str] = set()
    for job in jobs:
        key = json.dumps(job.id, sort_keys=True)
        if key in seen:
            fail(f"two jobs have the id {key}, by which results are told apart: change one", USAGE)
        seen.add(key)
        if key not in finished:
            yield job


def not_begun(done: JobResult[Any]) -> bool:
    """Tell whether a job failed for a server that is not there, or does nothing for long."""
    error = done.error
    return isinstance(error, (Sandbox429, Sandbox503)) or (
        isinstance(error, SandboxFailure) and isinstance(error.__cause__, NEVER_CONNECTED)
    )


def run(request: Request, connect: Callable[[], Sandbox]) -> int:
    """Run the jobs that have no result yet, and return the exit code."""
    summary, finished = Summary(), set[str]()
    whole_folder = request.jobs.is_dir()
    if whole_folder and not request.config.get("commands"):
        fail("what to run for each? Give commands after the folder, or --config", USAGE)
    if whole_folder and not count(request.jobs):
        fail(f"{request.jobs} has no folders, of which each would be a job", USAGE)
    if not whole_folder and (request.config or request.base):
        fail("commands, --config and --base are for a folder: in a file, each job has them", USAGE)
    files = [each.resolve() for each in (request.jobs, request.output, request.html) if each]
    if len({*files}) < len(files):
        fail("the jobs, the results (-o) and the report (--html) must be three files", USAGE)
    report = Report(str(request.jobs), request.html) if request.html else None
    if request.resume and request.output is None:
        fail("--resume needs the file of the results: -o", USAGE)
    with contextlib.ExitStack() as stack:
        journal = None
        if request.output is not None:
            journal = Journal(request.output, resume=request.resume)
            stack.callback(journal.close)
            if request.retry_errors:
                journal.drop_errors()
            for line in journal.lines():
                finished.add(json.dumps(line["id"], sort_keys=True))
                summary.add(line)
                if report is not None:
                    report.add(line)
        if report is not None:
            report.write(summary)  # rather now than when all was run, if it can't be
        executor = stack.enter_context(cluster(request.dask))
        sandbox = stack.enter_context(connect())
        jobs = all_jobs(request, sandbox)
        if journal is not None:
            jobs = pending(jobs, finished)
        show = stack.enter_context(showing(count(request.jobs), summary))
        code = 0
        try:
            results = sandbox.execute_many(
                jobs,
                concurrency=request.concurrency,
                executor=executor,
                stop_on=not_begun,
            )
            for done in one_by_one(results):
                if not_begun(done):
                    code = code or stopped(done)
                    continue
                line = line_of(done)
                if journal is not None:
                    journal.write(line)
                summary.add(line)
                if report is not None:
                    report.add(line)
                if request.as_json:
                    print_json(line)
                elif journal is None:
                    typer.echo(shown(line), file=sys.stdout)  # above the progress
                show()
        except KeyboardInterrupt:
            code = INTERRUPTED
    typer.echo(str(summary), err=True)
    if request.output is not None and code:
        typer.echo("Run it again with --resume to go on.", err=True)
    if request.output is not None and summary.outcomes["error"]:
        typer.echo("With --retry-errors, what ended in an error is run again too.", err=True)
    if report is not None:
        report.write(summary)
    return code or (0 if summary.passed else FAILED)


def one_by_one(results: Iterator[JobResult[Any]]) -> Iterator[JobResult[Any]]:
    """Yield results, and raise no Ctrl+C while one is taken care of, but where the next begin.

    So what is on disk counts, and what has ended meanwhile is yielded first.
    """
    running = cast("Generator[JobResult[Any]]", results)
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    raises = signal.getsignal(signal.SIGINT)
    try:
        while True:
            try:
                done = running.throw(KeyboardInterrupt) if came else next(running)
            except StopIteration:
                return
            came = False
            # What shells start in the background ignores it.
            signal.signal(signal.SIGINT, note if callable(raises) else raises)
            yield done
            signal.signal(signal.SIGINT, raises)
    finally:
        signal.signal(signal.SIGINT, raises)


def stopped(done: JobResult[Any]) -> int:
    """Say why no more jobs are begun, and return the exit code."""
    typer.echo(f"sandbox-api: {done.error}", err=True)
    return OVERLOADED if isinstance(done.error, (Sandbox429, Sandbox503)) else UNAVAILABLE


def all_jobs(request: Request, sandbox: Sandbox) -> Iterator[Job]:
    """Return the jobs, once the base of a folder's is stored."""
    if not request.jobs.is_dir():
        return read_jobs(request.jobs)
    config = request.config
    if request.base is not None:
        with uploading(request.base) as stream:
            if stream is not None:
                config = based_on(config, sandbox.store(stream).uuid)
    return submissions(request.jobs, config)


def count(jobs: Path) -> int | None:
    """Return how many jobs there are, where that can be told."""
    if str(jobs) == "-":
        return None
    if jobs.is_dir():
        return sum(1 for _ in submissions(jobs, {}))
    with jobs.open("rb") as file:
        return sum(1 for line in file if line.strip())


@contextlib.contextmanager
def cluster(address: str | None) -> Generator[Executor | None]:
    """Give the executor of a Dask cluster."""
    if address is None:
        yield None
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ModuleNotFoundError:
        fail("Dask needs one more package: pip install 'sandbox-api[dask]'", USAGE)
    try:
        client = distributed.Client(address, timeout=10)
    except Exception as error:  # whatever is there, answering in whatever way
        fail(f"the scheduler at {address} can't be reached: {error!r}", UNAVAILABLE)
    with client:
        yield client.get_executor()


@contextlib.contextmanager
def showing(total: int | None, summary: Summary) -> Generator[Callable[[], None]]:
    """Show how far it is, with rate, failures and the time that is left."""
    from rich import progress as columns

    with progress(
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TextColumn("{task.fields[rate]:.1f}/s"),
        columns.TextColumn("{task.fields[failures]} not passed"),
        columns.TimeRemainingColumn(),
    ) as shows:
        before = len(summary.seconds)
        since = time.monotonic()
        task = shows.add_task("jobs", total=total, completed=before, rate=0.0, failures=0)

        def show() -> None:
            done = len(summary.seconds)
            shows.update(
                task,
                completed=done,
                rate=(done - before) / (time.monotonic() - since),
                failures=done - summary.outcomes["passed"],
            )

        yield show
