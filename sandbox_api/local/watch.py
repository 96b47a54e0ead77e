"""Look at what a box uses while it runs, where the kernel does not hold it to its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, NamedTuple

from .files import open_folder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from .box import Box
    from .limits import Limits

# How often to look, in seconds; what ends sooner is not looked at.
INTERVAL = 0.15
# How often to walk through the working directory when the disk does not fill up, in seconds, and
# how many times as long as the last walk took to leave it alone.
WALK, REST = 2.0, 10
# What the disk must have lost since the last walk for the next, as a part of the bound; and what
# must have been taken of shared memory to look who has it.
LOSS = 16
# How deep folders are looked into.
DEPTH = 100

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """What /proc says about a process."""

    parent: int
    cpu: float
    """Processor time of itself and its dead children, in seconds."""


@asynccontextmanager
async def watched(box: Box, limits: Limits) -> AsyncGenerator[None]:
    """Kill everything in the box as soon as it is seen to exceed its bounds."""
    loop = asyncio.get_running_loop()
    watch = Watch(box, limits)
    task: asyncio.Task[None] | None = None

    def start() -> None:
        nonlocal task
        task = loop.create_task(watch.run())

    timer = loop.call_later(INTERVAL, start)
    try:
        yield
    finally:
        timer.cancel()
        if task:
            task.cancel()
            await asyncio.wait({task})


class Watch:
    """Watches one box."""

    def __init__(self, box: Box, limits: Limits) -> None:
        self._box = box
        self._limits = limits
        self._walked = time.monotonic() - WALK
        self._rest = 0.0
        self._free = self._free_first = free_space(box.home)
        # Control groups that bound memory know of all of it.
        self._guarded = bool(box.group and "memory" in box.group.folders)
        self._shared_first = 0 if self._guarded else shared_space()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            if exceeded := await asyncio.to_thread(self.exceeded):
                # And again, should the first signal come before a command has started.
                self._box.kill(exceeded)
            await asyncio.sleep(INTERVAL)

    def exceeded(self) -> str | None:
        """Return the bound that is exceeded, if any."""
        group, limits = self._box.group, self._limits
        used = group.cpu_time() if group else None
        if used is None or not self._guarded:
            processes = self._processes()
            if used is None:
                used = sum(process.cpu for process in processes.values())
            if not self._guarded and self._memory(processes) > limits.memory:
                return "memory"
        if used > limits.cpu_time:
            return "cpu"
        return "disk" if self._disk_is_full() else None

    def _processes(self) -> dict[int, Process]:
        """Return all processes in the box, by their ids."""
        members = self._box.group.processes() if self._box.group else None
        if members is None:
            return tree(self._box.pid)
        # To look through all processes of the machine takes much longer.
        return {pid: process for pid in members if (process := stat(pid))}

    def _memory(self, processes: dict[int, Process]) -> int:
        bound = self._limits.memory
        used = memory(processes, bound)
        # Only then is there any to look for, in all that processes have open.
        taken = shared_space() - self._shared_first
        if taken * LOSS >= bound:
            used += taken if self._is_hidden(processes) else shared_memory(processes)
        return used

    def _is_hidden(self, processes: Iterable[int]) -> bool:
        """Tell whether some process does not show what it has open, as all others do."""
        return not hides(self._box.pid) and any(map(hides, processes))

    def _disk_is_full(self) -> bool:
        now = time.monotonic()
        if now < self._walked + self._rest:
            return False
        limits, free = self._limits, free_space(self._box.home)
        if (self._free - free) * LOSS < limits.disk and now < self._walked + WALK:
            return False
        use, processes = usage(self._box.home, limits), self._processes()
        nameless = unlinked(processes, self._box.home.stat().st_dev)
        size = use.size + nameless.size
        if use.hidden or nameless.hidden or self._is_hidden(processes):
            # Somebody takes care not to be measured.
            size = max(size, self._free_first - free)
        self._walked = time.monotonic()
        self._rest = REST * (self._walked - now)
        self._free = free
        return size > limits.disk or use.number > limits.files


class Usage(NamedTuple):
    """What files take."""

    size: int
    """Their space on the disk, in bytes."""

    number: int
    """How many files and folders there are."""

    hidden: bool
    """Whether there are some that can't be measured."""


def free_space(home: Path) -> int:
    """Return how many bytes are free on the disk of home."""
    status = os.statvfs(home)
    return status.f_bfree * status.f_frsize


def usage(home: Path, limits: Limits) -> Usage:
    """Return what a folder takes, or a part of it when that is more than the limits allow.

    What is there may change at any moment, and must not lead elsewhere.
    """
    size = number = 0
    hidden = False
    seen: set[int] = set()
    todo: list[tuple[str, ...]] = [()]
    while todo and size <= limits.disk and number <= limits.files:
        parts = todo.pop()
        try:
            folder = open_below(home, parts)
        except OSError as error:
            # It may be forbidden again at once.
            hidden |= isinstance(error, PermissionError)
            continue
        try:
            found = entries(folder)
        finally:
            os.close(folder)
        for name, status in found:
            number += 1
            if S_ISDIR(status.st_mode):
                todo.append((*parts, name))
            elif status.st_nlink > 1:
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            size += status.st_blocks * 512
        if len(parts) >= DEPTH:
            hidden = True
            todo = [each for each in todo if len(each) <= DEPTH]
    return Usage(size, number, hidden)


def open_below(home: Path, parts: tuple[str, ...]) -> int:
    """Open a folder below home, even when its mode forbids it, through no link."""
    folder = open_folder(home)
    for part in parts:
        above = folder
        try:
            folder = open_folder(part, above)
        finally:
            os.close(above)
    return folder


def entries(folder: int) -> list[tuple[str, os.stat_result]]:
    """Return what is in an open folder."""
    found: list[tuple[str, os.stat_result]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as scan:
        for entry in scan:
            with contextlib.suppress(OSError):
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def unlinked(processes: Iterable[int], device: int) -> Usage:
    """Return what files on a device take which have no name any more, but are open or mapped."""
    sizes: dict[int, int] = {}
    hidden = False
    for pid in processes:
        for path in (*open_files(pid), *mapped_unlinked(pid, device)):
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                # What is mapped may be looked at by root only.
                hidden |= isinstance(error, PermissionError)
                continue
            if status.st_dev == device and not status.st_nlink:
                sizes[status.st_ino] = status.st_blocks * 512
    return Usage(sum(sizes.values()), len(sizes), hidden)


def open_files(pid: int) -> list[str]:
    """Return paths of what a process has open; none where it does not show that."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208
    return []


def mapped_unlinked(pid: int, device: int) -> list[str]:
    """Return paths of what a process maps, of files on a device that have no name any more."""
    number = b" %02x:%02x " % (os.major(device), os.minor(device))
    with contextlib.suppress(OSError):
        return [
            f"/proc/{pid}/map_files/{line.split()[0].decode()}"
            for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines()
            if number in line and line.endswith(b" (deleted)")
        ]
    return []


def hides(pid: int) -> bool:
    """Tell whether a process does not let this one see what it has open (see PR_SET_DUMPABLE)."""
    try:
        os.close(os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        # Dead ones do not either, and have nothing open, and no memory.
        with contextlib.suppress(OSError):
            return not Path(f"/proc/{pid}/statm").read_bytes().startswith(b"0 ")
    except OSError:
        pass
    return False


def tree(root: int) -> dict[int, Process]:
    """Return a process and all that descend from it, by their ids."""
    children: dict[int, list[int]] = {}
    known: dict[int, Process] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal() and (process := stat(int(name))):
            known[int(name)] = process
            children.setdefault(process.parent, []).append(int(name))
    found: dict[int, Process] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        if pid in known and pid not in found:
            found[pid] = known[pid]
            todo += children.get(pid, [])
    return found


def stat(pid: int) -> Process | None:
    """Return what /proc says about a process, or None when there is none."""
    try:
        # Its name is in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return Process(int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    except (OSError, IndexError, ValueError):
        return None


def memory(processes: dict[int, Process], bound: int) -> int:
    """Return the memory that processes have together; look closer when it may exceed bound."""
    # Pages that several share count for each of them.
    rough = sum(own_memory(pid) for pid in processes)
    return sum(map(fair_memory, processes)) if rough > bound else rough


def own_memory(pid: int) -> int:
    """Return the memory of a process that is no copy of a file, in bytes."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_bytes().split()[1:3]
        return (int(resident) - int(shared)) * PAGE
    except (OSError, ValueError):
        return 0


def fair_memory(pid: int) -> int:
    """Return the same, with pages shared by several processes divided among them."""
    found = fair_share(pid, b"Pss_Anon:")
    return own_memory(pid) if found is None else found


def fair_share(pid: int, kind: bytes) -> int | None:
    """Return a process's share of its memory of some kind, in bytes, if that is known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))
    except (OSError, ValueError, IndexError):
        return None


def shared_memory(processes: Iterable[int]) -> int:
    """Return what processes have of memory that several can share, mapped or open as files."""
    mapped = sum(fair_share(pid, b"Pss_Shmem:") or 0 for pid in processes)
    example = os.memfd_create("sandbox")
    try:
        device = os.fstat(example).st_dev
    finally:
        os.close(example)
    # Either can be the other, too.
    return max(mapped, unlinked(processes, device).size)


def shared_space() -> int:
    """Return how much memory that several can share the whole machine has in use, in bytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_bytes()
        return int(text.partition(b"\nShmem:")[2].split()[0]) * 1024
    return 0
