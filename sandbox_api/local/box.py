"""One box: a driver that is shut in, and the commands of one request that it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .cell import ANSWERS, GROUPS, ORDERS, CellError, alive
from .channel import Channel, ChannelError
from .layout import ENVIRON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from pathlib import Path

    from .cell import Isolator
    from .cgroups import Group
    from .launcher import Launcher
    from .limits import Limits
    from .networks import Network, Networks
    from .output import Output

T = TypeVar("T")

# How long the kernel and the driver may take for what takes milliseconds, in seconds.
GRACE = 10.0
# By how much the event loop's timers, which know milliseconds, may be early, in seconds.
TICK = 0.002
# How often to interrupt a command, a tenth of a second apart.
TRIES = 30
KILLED = 128 + signal.SIGKILL


class BoxError(RuntimeError):
    """A sandbox did not start, or its driver died."""


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    exit_code: int
    stdout: Output
    stderr: Output
    exceeded: str | None
    """The bound that something was killed for: `memory`, `cpu` or `disk`."""


class Box:
    """A sandbox in two folders of its own and perhaps a group, from its start to its end.

    home becomes the working directory; control is empty, and commands can only read it.
    """

    def __init__(
        self,
        isolator: Isolator,
        launcher: Launcher,
        limits: Limits,
        home: Path,
        control: Path,
        group: Group | None,
        networks: Networks,
    ) -> None:
        self.home = home
        """What is the working directory of its commands."""
        self.group = group
        self.pid = 0
        """The process id of the driver, from which everything in the box descends."""
        self.exceeded: str | None = None
        """The bound that everything in the box was killed for."""
        self._isolator = isolator
        self._launcher = launcher
        self._limits = limits
        self._environ = isolator.environ(home)
        self._channel = Channel(control)
        self._networks = networks
        self._network: Network | None = None
        self._cell = isolator.cell(home, control)
        self._open: set[int] = set()
        # Of the driver, and of what was launched: descriptors of processes, once there are any.
        self._driver = self._first = -1
        self._ended = False

    @property
    def alive(self) -> bool:
        """Tell whether the driver waits for commands."""
        # Without what was started, nobody carries its orders, perhaps.
        return alive(self._driver) and alive(self._first)

    async def start(self) -> None:
        """Start the driver and wait until it is ready. Raise BoxError when it does not start."""
        try:
            await whole(self._start())
        except BaseException:
            await whole(self.end())
            raise

    def set(self, environ: Mapping[str, str]) -> None:
        """Set environment variables of the commands, before the first of them."""
        # The driver has these, and hands them over; to read them first takes a tenth of a ms.
        if environ or self._environ.keys() != ENVIRON.keys():
            self._channel.set(self._environ | dict(environ))

    async def run(self, command: str, seconds: float, limit: int) -> Outcome | None:
        """Run command and return what it did, or None when it takes longer than seconds.

        Then everything that runs in the sandbox is killed. Raise BoxError when the sandbox itself
        died.
        """
        outputs = self._channel.send(command, limit)
        try:
            exit_code = await self._channel.answer(seconds + TICK)
        except TimeoutError:
            await self._interrupt()
            return None
        except ChannelError as error:
            # The kernel may choose the driver when memory is out.
            if not self.group or not self.group.killed():
                raise BoxError(str(error)) from None
            return Outcome(KILLED, *outputs, "memory")
        finally:
            self._channel.finish()
        if self.exceeded:
            return Outcome(exit_code or KILLED, *outputs, self.exceeded)
        short = exit_code and self.group and self.group.killed()
        return Outcome(exit_code, *outputs, "memory" if short else None)

    def kill(self, exceeded: str) -> None:
        """Kill everything but the driver, for a bound that was exceeded."""
        self.exceeded = exceeded
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._driver, signal.SIGUSR1)

    async def end(self) -> None:
        """Kill everything in the sandbox and wait until it is gone."""
        if self._ended:
            return
        self._ended = True
        try:
            if self._driver >= 0:
                await self._cell.end(self.pid, self._first, self._driver)
                # If the driver was not found, something may live on for a moment.
                if self._network and self._driver != self._first:
                    self._networks.give_back(self._network)
                    self._network = None
        finally:
            if self._network:
                self._network.close()
            self._channel.close()
            self._cell.close()
            for descriptor in set(self._open):
                self._close(descriptor)

    async def _start(self) -> None:
        self._channel.open()
        errors, errors_end = self._pipe()
        doors = [self._adopt(door) for door in self.group.open()] if self.group else []
        shown = self._isolator.control(self._channel.control)
        driver = ["/bin/bash", "-p", f"{shown}/driver", shown, str(ORDERS), str(ANSWERS)]
        driver.append(" ".join(map(str, GROUPS[: len(doors)])))
        ends = (*self._channel.ends, *doors)
        # Only now it is known whether it can put boxes into networks.
        await self._launcher.ready()
        if self._isolator.takes_network:
            self._network = self._networks.take()
        network = self._network.descriptor if self._network else None
        start = self._cell.start([*driver, *self._bounds()], ends, errors_end, network)
        self.pid, pidfd = await self._launcher.launch(start, self.home)
        self._first = self._driver = self._adopt(pidfd)
        self._channel.handed_over()
        for descriptor in (errors_end, *doors):
            self._close(descriptor)
        try:
            async with asyncio.timeout(self._isolator.patience):
                # Before anything but the driver runs in it.
                await self._settle()
                await self._ready()
        except (CellError, ChannelError, OSError, ValueError) as error:
            os.set_blocking(errors, False)
            reason = str(error)
            with contextlib.suppress(BlockingIOError):
                reason = os.read(errors, 2000).decode(errors="replace").strip() or reason
            raise BoxError(f"a sandbox did not start: {reason}") from error
        self._close(errors)
        self._channel.prepare()

    async def _settle(self) -> None:
        """Find the driver, and the group that it is in."""
        found = await self._cell.find(self.pid, self._ready)
        if found != self.pid:
            self._driver = self._adopt(os.pidfd_open(found))
            self.pid = found
        if not self.group:
            self.group = self._isolator.group(self.pid)

    async def _ready(self) -> int:
        return await self._channel.answer(self._isolator.patience)

    def _bounds(self) -> list[str]:
        """Return the bounds that the driver sets, in the words of its shell."""
        limits = self._limits
        bounds = {
            "-c": 0,
            "-f": -(-limits.file_size // 1024),
            "-n": limits.open_files,
            "-t": max(1, round(limits.cpu_time)),
        }
        if "memory" not in self._isolator.held:
            # Not the size of the address space: some runtimes reserve far more than they use.
            bounds["-d"] = -(-limits.memory // 1024)
        processes = str(limits.processes) if self._isolator.counts else ""
        return [processes, *(part for name, value in bounds.items() for part in (name, str(value)))]

    async def _interrupt(self) -> None:
        """Kill everything but the driver, until the driver says that the command is over."""
        # Again and again, for the first signal may come before the command has started.
        for _ in range(TRIES):
            with contextlib.suppress(TimeoutError, ProcessLookupError):
                signal.pidfd_send_signal(self._driver, signal.SIGUSR1)
                with contextlib.suppress(ChannelError):
                    await self._channel.answer(GRACE / 100)
                return
        # Commands can take from the driver what it needs to go on.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._driver, signal.SIGKILL)

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        return self._adopt(read), self._adopt(write)

    def _adopt(self, descriptor: int) -> int:
        self._open.add(descriptor)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._open.remove(descriptor)
        os.close(descriptor)


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
