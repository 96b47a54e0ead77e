"""What a driver is shut in: what all ways of isolating have in common, and the way without any.

An isolator is a way that was tried and works; it gives each box a cell, which knows how its driver
is started, found and ended. The other ways are in `isolation` (bubblewrap) and `containers`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from .layout import CONTROL, ENVIRON, HOME, Tree
from .limits import MIB, Limits
from .session import kill_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from . import cgroups
    from .undertaker import Kind

# The driver has all that commands have, but needs no locale, and not to look up its shell.
DRIVER = {"LC_ALL": "C", "SHELL": "/bin/bash"}

# The driver's descriptors of orders and answers, of the control groups that it enters, and of what
# else is handed over: above all that are open where processes are started.
FIRST = 100
ORDERS, ANSWERS = FIRST, FIRST + 1
GROUPS = range(ANSWERS + 1, ANSWERS + 3)


class CellError(RuntimeError):
    """A cell could not be made, or what is in it not be found."""


class IsolationError(RuntimeError):
    """Commands cannot be isolated on this machine, or not in the way that was asked for."""

    def __init__(self, reason: str, remedy: str) -> None:
        # One paragraph of sentences, whatever a program said.
        reason = " ".join(reason.split())
        end = "" if reason.endswith((".", "?", "!")) else "."
        super().__init__(f"The local sandbox cannot isolate commands: {reason}{end} {remedy}")


# The last of all remedies.
UNSAFE = (
    'To run commands without any isolation instead, ask for isolation="none" by name '
    "(`serve --isolation none`); do so only with commands that you trust as you trust yourself."
)


class Start(NamedTuple):
    """How to start a process."""

    command: list[str]
    environ: Mapping[str, str] | None
    """Its variables, or None for those of the server."""
    descriptors: dict[int, int]
    """What it has open, by the number that it finds it under."""
    network: int | None = None
    """A descriptor of the network that it is put into, if not the one of what starts it."""


class Cell(ABC):
    """What one box is in, from before its start until after its end."""

    @abstractmethod
    def start(
        self, driver: Sequence[str], ends: tuple[int, ...], errors: int, network: int | None = None
    ) -> Start:
        """Return how to start driver, which takes orders from, and answers to, ends.

        What else is in ends are the groups that it enters. Until it takes orders, complaints go
        to errors. network is a descriptor of its network, if one was made for it.
        """

    @abstractmethod
    async def find(self, launched: int, ready: Callable[[], Awaitable[object]]) -> int:
        """Return the process id of the driver, from that of the process that was started.

        The driver has answered once ready is over. Raise CellError, OSError or ValueError.
        """

    @abstractmethod
    async def end(self, pid: int, launched: int, driver: int) -> None:
        """Kill everything, and wait until it is gone.

        pid is the driver's, or what was started when it was not found; launched and driver are
        descriptors of both, which then are the same.
        """

    def close(self) -> None:  # noqa: B027
        """Close what the cell has open. It may not have been started."""


@dataclass(frozen=True)
class Isolator(ABC):
    """A way of isolating that was tried and works."""

    version: str
    """What isolates, as in `bubblewrap 0.11.0`, or `none`."""

    account: int | None = None
    """User and group id that commands have on the host, when they are not the server's own."""

    mounts: cgroups.Mounts | None = None
    """Where the server can put boxes into control groups, or None when nowhere."""

    network: bool = False
    """Whether commands may use the network of the host."""

    tree: Tree | None = None
    """What whoever starts boxes may mount once for all of them."""

    isolates: ClassVar[bool] = True
    """Whether commands are isolated at all."""

    spares: ClassVar[bool] = False
    """Whether what starts drivers ends without being killed, when their orders end."""

    patience: ClassVar[float] = 10.0
    """How long the start of a driver may take where it mostly takes milliseconds, in seconds."""

    @property
    def takes_network(self) -> bool:
        """Whether boxes can have a network that was made for them."""
        return False

    @property
    def starter(self) -> int | None:
        """User and group id that starts drivers, when it is not the server's own."""
        return self.account

    @property
    def held(self) -> Collection[str]:
        """What control groups bound: `memory`, `pids`."""
        return self.mounts.folders.keys() if self.mounts else frozenset()

    @property
    def counts(self) -> bool:
        """Whether processes of a sandbox are counted apart from all others of their account."""
        return True

    def home(self, home: Path) -> str:
        """Return the path that commands have for their working directory."""
        return HOME

    def control(self, control: Path) -> str:
        """Return the path that the driver has for the folder of orders."""
        return CONTROL

    def environ(self, home: Path) -> dict[str, str]:
        """Return the variables that commands have, if they are not given others."""
        return dict(ENVIRON)

    @abstractmethod
    def cell(self, home: Path, control: Path) -> Cell:
        """Return a cell for a box with these folders; control is only to be read in it."""

    def group(self, pid: int) -> cgroups.Group | None:
        """Return the control group that a driver was started in, if the server made none."""
        return None

    def remains(self) -> list[tuple[Kind, str]]:
        """Return what an undertaker has to remove after the server, by kind."""
        return []

    def give(self, path: Path) -> None:
        """Make the account the owner of path."""
        if self.account is not None:
            os.chown(path, self.account, self.account)

    def guards(self, limits: Limits) -> str:
        """Say in a few sentences what bounds commands, and what that leaves unguarded."""
        names = {"memory": "memory", "pids": "processes"}
        grouped = [name for controller, name in names.items() if controller in self.held]
        polled = ["processor time", "disk space"]
        if "memory" not in self.held:
            polled.insert(0, "memory")
        text = (
            f"Each request may use {limits.memory // MIB} MiB of memory, {limits.processes} "
            f"processes, {limits.cpu_time:g} s of processor time and {limits.disk // MIB} MiB of "
            "disk space. "
        )
        if grouped:
            version = f" (version {self.mounts.version})" if self.mounts else ""
            text += f"Control groups{version} bound {' and '.join(grouped)}. "
        text += (
            f"Unguarded: {', '.join(polled)} are only looked at a few times a second, and input "
            "and output not at all."
        )
        if not self.bounds_processes:
            text += " Processes are not bounded."
        if self.network:
            text += " Commands can use the network."
        return text

    @property
    def bounds_processes(self) -> bool:
        """Whether the number of processes has a bound."""
        return self.counts or "pids" in self.held


@dataclass(frozen=True)
class Unisolated(Isolator):
    """No isolation: commands run as the server, in its place."""

    version: str = "none"
    network: bool = True

    isolates: ClassVar[bool] = False

    @property
    def counts(self) -> bool:
        """Whether processes of a sandbox are counted apart: without a namespace, they are not."""
        return False

    def home(self, home: Path) -> str:
        """Return the path that commands have for their working directory: its own."""
        return str(home)

    def control(self, control: Path) -> str:
        """Return the path that the driver has for the folder of orders: its own."""
        return str(control)

    def environ(self, home: Path) -> dict[str, str]:
        """Return the variables that commands have, if they are not given others."""
        return ENVIRON | {"HOME": str(home)}

    def cell(self, home: Path, control: Path) -> Cell:
        """Return a cell for a box with these folders."""
        return OpenCell(home)


class OpenCell(Cell):
    """A cell that isolates nothing."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def start(
        self, driver: Sequence[str], ends: tuple[int, ...], errors: int, network: int | None = None
    ) -> Start:
        """Return how to start driver."""
        environ = ENVIRON | {"HOME": str(self._home)} | DRIVER
        return Start(list(driver), environ, numbered(ends, errors))

    async def find(self, launched: int, ready: Callable[[], Awaitable[object]]) -> int:
        """Return the process id of the driver, which is what was started."""
        return launched

    async def end(self, pid: int, launched: int, driver: int) -> None:
        """Kill what can be found, and wait until the driver is gone."""
        kill_session(pid, self._home)
        await kill(driver)


def numbered(ends: Sequence[int], errors: int) -> dict[int, int]:
    """Return the descriptors of a driver that is handed more than the standard streams."""
    return {1: errors, 2: errors} | dict(enumerate(ends, FIRST))


def alive(process: int) -> bool:
    """Tell whether the process with this descriptor runs."""
    # Not select(), which knows only the first 1024 descriptors.
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return not poll.poll(0)


async def kill(*processes: int) -> None:
    """Kill the processes with these descriptors, and wait until they are gone."""
    for process in dict.fromkeys(processes):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        # Mostly the second has gone with the first, and to listen costs more than to look.
        if alive(process):
            await readable(process)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read: data or an end."""
    # Whoever only tries what isolates, as clients do, is not to load it.
    import asyncio

    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        loop.remove_reader(descriptor)
        # Whoever waited may have been cancelled at this very moment.
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
