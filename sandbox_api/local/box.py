"""One box: a driver that is shut in, and the commands of one request that it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from . import isolation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from .isolation import Isolator

T = TypeVar("T")

DRIVER = Path(__file__).with_name("driver.sh").read_bytes()
CHUNK = 65536
# The most that an unprivileged process can make a pipe hold.
PIPE_SIZE = 1024 * 1024
# How long the kernel and the driver may take for what takes milliseconds, in seconds.
GRACE = 10.0


class BoxError(RuntimeError):
    """A sandbox did not start, or its driver died."""


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    exit_code: int
    stdout: Output
    stderr: Output


class Output:
    """What a command writes to one named pipe, up to a limit in bytes; the rest is dropped."""

    def __init__(self, path: Path, limit: int) -> None:
        self.data = bytearray()
        self.truncated = False
        self._limit = limit
        os.mkfifo(path)
        path.chmod(0o666)
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def close(self) -> None:
        """Read what is already there, and then no more."""
        # A background process may go on writing, so not until the pipe is empty.
        for _ in range(PIPE_SIZE // CHUNK):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        room = self._limit - len(self.data)
        self.data += chunk[:room]
        self.truncated |= len(chunk) > room
        return True


class Box:
    """A sandbox that runs from `async with` until its end, when everything in it is killed.

    home becomes the working directory; control is an empty folder that commands can only read.
    Raise BoxError when it does not start.
    """

    def __init__(
        self, isolator: Isolator, home: Path, control: Path, environ: Mapping[str, str]
    ) -> None:
        self._isolator = isolator
        self._home = home
        self._control = control
        self._count = 0
        self._open: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        lines = (f"{name}={value}\0" for name, value in environ.items())
        self._show("environ", "".join(lines).encode())
        self._show("driver", DRIVER)

    async def __aenter__(self) -> Self:
        try:
            await whole(self._start())
        except BaseException:
            await whole(self._kill())
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await whole(self._kill())

    async def run(self, command: str, seconds: float, limit: int) -> Outcome | None:
        """Run command and return what it did, or None when it takes longer than seconds.

        Then everything that runs in the sandbox is killed. Raise BoxError when the sandbox
        itself died.
        """
        self._count += 1
        base = self._control / str(self._count)
        self._show(f"{self._count}.command", command.encode() + b"\0")
        with ExitStack() as stack:
            stdout = Output(base.with_suffix(".out"), limit)
            stack.callback(stdout.close)
            stderr = Output(base.with_suffix(".err"), limit)
            stack.callback(stderr.close)
            os.write(self._orders, b"%d\n" % self._count)
            try:
                async with asyncio.timeout(seconds):
                    exit_code = await self._reply()
            except TimeoutError:
                await self._interrupt()
                return None
        return Outcome(exit_code, stdout, stderr)

    async def _start(self) -> None:
        orders, self._orders = self._pipe()
        self._replies, replies = self._pipe()
        info, info_end = self._pipe()
        errors, errors_end = self._pipe()
        isolates = self._isolator.isolates
        shown = isolation.CONTROL if isolates else str(self._control)
        processes = str(isolation.PROCESSES) if isolates else ""
        command = ["/bin/bash", "-p", f"{shown}/driver"]
        command += [shown, str(orders), str(replies), processes]
        if isolates:
            command = [*self._isolator.command(self._home, self._control, info_end), *command]
        self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it takes a millisecond
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors_end,
            stderr=errors_end,
            cwd=self._home,
            env={"PATH": isolation.PATH},
            pass_fds=[orders, replies, info_end],
            start_new_session=True,
            **self._isolator.popen_account(),
        )
        try:
            self._child = self._driver = self._adopt(os.pidfd_open(self._process.pid))
        except OSError:
            # There are too many open files, and no other way to wait for it.
            self._process.kill()
            self._process.wait()
            self._process = None
            raise
        for descriptor in (orders, replies, info_end, errors_end):
            self._close(descriptor)
        try:
            async with asyncio.timeout(GRACE):
                if isolates:
                    self._driver = self._adopt(os.pidfd_open(await child_pid(info)))
                await self._reply()
        except (BoxError, ProcessLookupError, ValueError, TimeoutError) as error:
            os.set_blocking(errors, False)
            with contextlib.suppress(BlockingIOError):
                reason = os.read(errors, 2000).decode(errors="replace").strip()
                raise BoxError(f"a sandbox did not start: {reason}") from error
            raise

    async def _reply(self) -> int:
        """Return the driver's next answer."""
        await readable(self._replies)
        # What runs in the sandbox has the driver's account, and may have written this instead.
        line = os.read(self._replies, 16).strip()
        if line.isdigit() and (exit_code := int(line)) < 256:
            return exit_code
        raise BoxError("the driver of a sandbox died or talks nonsense")

    async def _interrupt(self) -> None:
        """Kill everything but the driver, until the driver says that the command is over."""
        # Again and again, for the first signal may come before the command has started.
        for _ in range(100):
            signal.pidfd_send_signal(self._driver, signal.SIGUSR1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE / 100):
                    await self._reply()
                    return
        raise BoxError("the driver of a sandbox does not answer")

    async def _kill(self) -> None:
        """Kill everything in the sandbox and wait until it is gone."""
        try:
            if self._process is None:
                return
            if not self._isolator.isolates:
                kill_session(self._process.pid, self._home)
            # The end of a pid namespace's first process is the end of all others.
            for descriptor in (self._driver, self._child):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                await readable(descriptor)
            self._process.wait()
        finally:
            for descriptor in set(self._open):
                self._close(descriptor)

    def _show(self, name: str, content: bytes) -> None:
        path = self._control / name
        path.write_bytes(content)
        # Whatever the server's umask is.
        path.chmod(0o644)

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        return self._adopt(read), self._adopt(write)

    def _adopt(self, descriptor: int) -> int:
        self._open.add(descriptor)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._open.remove(descriptor)
        os.close(descriptor)


def kill_session(leader: int, home: Path) -> None:
    """Kill what a process that leads a session started, as far as that can be found."""
    # Several times, for a process may fork while the list is read.
    for _ in range(10):
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        found = [pid for pid in pids if pid != leader and belongs(pid, leader, home)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break


def belongs(pid: int, leader: int, home: Path) -> bool:
    """Tell whether a process is in the session of leader, or was given the home of a sandbox."""
    with contextlib.suppress(OSError):
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return os.getsid(pid) == leader or b"HOME=%b" % os.fsencode(home) in environ
    return False


async def child_pid(info: int) -> int:
    """Return the process id in what bubblewrap writes about the sandbox."""
    text = b""
    while True:
        await readable(info)
        if not (chunk := os.read(info, 4096)):
            break
        text += chunk
    return int(json.loads(text)["child-pid"])


async def readable(descriptor: int) -> None:
    """Wait until there is something to read: data or an end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def whole(work: Awaitable[T]) -> T:
    """Await work to its end, also when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise
