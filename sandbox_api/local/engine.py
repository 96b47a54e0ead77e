"""Execute jobs: each in a sandbox of its own, that is gone when the answer is made."""

from __future__ import annotations

import asyncio
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from attrs import evolve

from sandbox_client.models import CommandResult, ExecutionResult, SandboxErrCode

from .archive import ArchiveError, pack
from .box import Box, BoxError, whole
from .files import open_folder, open_inside
from .job import Command, Job, Refusal
from .pool import Pool
from .unpack import Unpacker
from .watch import watched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from .cell import Isolator
    from .limits import Limits
    from .output import Output
    from .remote import Remote
    from .store import Store

OVERLOADED = "Sandbox overloaded, retry after a few seconds."
UNKNOWN = "An unknown error occurred on the sandbox\n"

# How many threads there are beside one for each request that runs.
SPARE = 8


class TooLarge(Exception):
    """A result file that is larger than is read."""


@dataclass
class Run:
    """What the commands of a job did so far."""

    status: int
    results: list[CommandResult]
    started: float
    room: int
    """How much more output is kept, in bytes."""


class Engine:
    """Execute jobs in sandboxes below the folder work, a limited number at once.

    To be made in the event loop that it is used in.
    """

    def __init__(
        self, isolator: Isolator, work: Path, store: Store | Remote, limits: Limits
    ) -> None:
        self.isolator = isolator
        self.limits = limits
        self._store = store
        self._pool = Pool(isolator, work, limits)
        self._pool.fill()
        # asyncio has few threads by itself: if as many requests save what is large, no other could
        # be started or watched.
        threads = ThreadPoolExecutor(limits.slots + SPARE)
        asyncio.get_running_loop().set_default_executor(threads)
        # Who waited longest is served first.
        self._free = asyncio.Semaphore(limits.slots)
        self._waiting = 0
        self.busy = 0
        """Executions that are running now."""
        self._tasks: set[asyncio.Task[Any] | None] = set()

    async def execute(self, job: Job, upload: IO[bytes] | None) -> ExecutionResult:
        """Execute job in the environment that it names, with upload unpacked over it.

        Raise Refusal when all slots stay taken or an archive cannot be used, and BoxError
        when no sandbox can be started.
        """
        async with self._slot(), self._box(job.environ) as box:
            if upload or job.environment:
                await whole(asyncio.to_thread(self._lay, box.home, job, upload))
            async with watched(box, self.limits):
                run = await self._run(box, job)
            total = time.monotonic() - run.started
            if job.result_path is None and not job.save:
                return ExecutionResult(run.status, run.results, total)
            # Everything must be dead, so that nothing changes under the hands of what follows.
            await whole(box.end())
            return await whole(asyncio.to_thread(self._finish, box.home, job, run, total))

    async def output(self, commands: list[str], seconds: float) -> list[str]:
        """Return what each command writes, run in a fresh sandbox within seconds in all."""
        async with self._box({}) as box:
            end = time.monotonic() + seconds
            outcomes = [
                await box.run(text, max(end - time.monotonic(), 0.1), 1 << 24) for text in commands
            ]
        return [decoded(outcome.stdout) if outcome else "" for outcome in outcomes]

    async def close(self) -> None:
        """Cancel all executions and wait until nothing is left of them."""
        while tasks := set(filter(None, self._tasks)):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._pool.close()

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._free.release()

    async def _wait(self) -> None:
        if self._waiting >= self.limits.queue:
            raise Refusal(503, OVERLOADED)
        self._waiting += 1
        try:
            async with asyncio.timeout(self.limits.patience):
                await self._free.acquire()
        except TimeoutError:
            raise Refusal(503, OVERLOADED) from None
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _box(self, environ: dict[str, str]) -> AsyncGenerator[Box]:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            async with self._pool.box() as box:
                box.set(environ)
                yield box
        finally:
            self._tasks.discard(task)

    def _lay(self, home: Path, job: Job, upload: IO[bytes] | None) -> None:
        unpacker = Unpacker(home, self.limits, self.isolator.account)
        names: set[str] = set()
        if job.environment:
            found = self._store.find(job.environment)
            if found is None:
                raise Refusal(404, f"No environment with UUID '{job.environment}' found")
            with found.open("rb") as stored:
                names = unpacker.unpack(stored, trusted=True)
        if upload:
            try:
                unpacker.unpack(upload, kept=names, trusted=False)
            except ArchiveError as error:
                raise Refusal(400, f"The environment cannot be used: {error}") from error

    async def _run(self, box: Box, job: Job) -> Run:
        run = Run(0, [], time.monotonic(), self.limits.request_output_size)
        for command in job.commands:
            started = time.monotonic()
            left = max(run.started + self.limits.run_time - started, 0.0)
            result = await self._command(box, command, left, run, started)
            run.results.append(result)
            ignored = command.may_fail and result.exit_code != SandboxErrCode.UNKNOWN
            # What all commands of a request may use together is used up.
            ignored = ignored and box.exceeded is None
            if result.exit_code != 0 and not ignored:
                run.status = result.exit_code
                break
        return run

    async def _command(
        self, box: Box, command: Command, left: float, run: Run, started: float
    ) -> CommandResult:
        def result(exit_code: int, stdout: str, stderr: str, **more: Any) -> CommandResult:
            seconds = time.monotonic() - started
            return CommandResult(command.text, exit_code, stdout, stderr, seconds, **more)

        bound = left if command.timeout is None else min(command.timeout, left)
        timed_out = f"Command timed out after {bound} seconds\n"
        if bound <= 0:
            return result(SandboxErrCode.TIMEOUT, "", timed_out)
        try:
            if math.isnan(bound):
                raise BoxError("nothing is as long as that")
            room = min(self.limits.output_size, run.room)
            outcome = await box.run(command.text, bound, room)
        except BoxError:
            return result(SandboxErrCode.UNKNOWN, "", UNKNOWN)
        if outcome is None:
            return result(SandboxErrCode.TIMEOUT, "", timed_out)
        stdout, stderr = outcome.stdout, outcome.stderr
        run.room -= len(stdout.data) + len(stderr.data)
        cut = {"stdout_truncated": stdout.truncated, "stderr_truncated": stderr.truncated}
        more: dict[str, Any] = {name: True for name, value in cut.items() if value}
        if outcome.exceeded:
            more["exceeded"] = outcome.exceeded
        return result(outcome.exit_code, decoded(stdout), decoded(stderr), **more)

    def _finish(self, home: Path, job: Job, run: Run, total: float) -> ExecutionResult:
        """Read the result and save the environment.

        That either is more than it may be is what commands did: their outputs are answered.
        """
        status = run.status
        more: dict[str, Any] = {}
        exceeded: list[str] = []
        root = open_folder(home)
        try:
            if job.result_path is not None:
                try:
                    more["result"] = self._result(root, home, job.result_path)
                except FileNotFoundError:
                    status = SandboxErrCode.RESULT_NOT_FOUND
                except UnicodeDecodeError:
                    status = SandboxErrCode.RESULT_NOT_UTF8
                except TooLarge:
                    exceeded.append("result")
            if job.save:
                try:
                    more["environment"], more["expire"] = self._store.add(
                        lambda file: pack(root, file, self.limits)
                    )
                except ArchiveError:
                    exceeded.append("save")
        finally:
            os.close(root)
        if exceeded:
            status = SandboxErrCode.UNKNOWN
            last = run.results[-1]
            run.results[-1] = evolve(last, exceeded=last.exceeded or exceeded[0])
        return ExecutionResult(status=status, execution=run.results, total_time=total, **more)

    def _result(self, root: int, home: Path, path: str) -> str:
        descriptor = open_inside(root, path, self.isolator.home(home))
        if descriptor is None:
            raise FileNotFoundError(path)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            if os.fstat(descriptor).st_size > self.limits.result_size:
                raise TooLarge(path)
            return file.read()


def decoded(output: Output) -> str:
    """Return output as text, without white space at its ends."""
    text = output.data.decode(errors="replace").strip()
    return f"{text}\n[output cut after {len(output.data)} bytes]" if output.truncated else text
