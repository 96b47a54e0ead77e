"""What this machine, or the container that the server runs in, has and uses.

psutil reads numbers of the whole machine, and fails where it cannot; unknown is None or 0 here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from .cgroups import places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# What psutil raises where /proc or /sys lacks something.
FAILURES = (OSError, RuntimeError, NotImplementedError, AttributeError, KeyError, ValueError)


def known(ask: Callable[[], T], otherwise: T) -> T:
    """Return the answer, or something else where there is none."""
    try:
        return ask()
    except FAILURES:
        return otherwise


class Machine:
    """What there is and how much is used, within the bounds of control groups of the process."""

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        self._process = process

    def cores(self) -> int | None:
        """Return how many physical cores there are, if that is known."""
        return known(lambda: psutil.cpu_count(logical=False), None)

    def logical(self) -> int | None:
        """Return how many processors may be used, if that is known."""
        count = known(lambda: len(os.sched_getaffinity(0)), 0) or known(psutil.cpu_count, None)
        period, quota = self.cpu_quota()
        if count and quota > 0 < period:
            count = min(count, max(1, -(-quota // period)))
        return count

    def cpu_quota(self) -> tuple[int, int]:
        """Return how long, of each period, processors may be used, in microseconds; or -1."""
        found = (-1, -1)
        for folder in self._folders("cpu"):
            quota, period = (
                *words(folder / "cpu.max"),
                *words(folder / "cpu.cfs_quota_us"),
                *words(folder / "cpu.cfs_period_us"),
                "",
                "",
            )[:2]
            if not (quota.isdigit() and period.isdigit() and int(period)):
                continue
            # Of all that hold, the tightest.
            if found[0] < 0 or int(quota) / int(period) < found[1] / found[0]:
                found = (int(period), int(quota))
        return found

    def ram(self) -> int:
        """Return the memory that may be used, in bytes."""
        total = known(lambda: int(psutil.virtual_memory().total), 0)
        return min((bound for _, bound in self._memory() if bound < total), default=total)

    def ram_used(self) -> int:
        """Return the memory that is used, in bytes."""
        total = known(lambda: int(psutil.virtual_memory().total), 0)
        tightest = min(self._memory(), key=lambda each: each[1], default=(None, total))
        if tightest[0] is None or tightest[1] >= total:
            return known(lambda: int(psutil.virtual_memory().used), 0)
        return tightest[0]

    def swap(self) -> tuple[int, int]:
        """Return the swap space there is and that is used, in bytes."""
        found = known(psutil.swap_memory, None)
        return (int(found.total), int(found.used)) if found else (0, 0)

    def frequency(self) -> tuple[float, float, float]:
        """Return the current, lowest and highest frequency in MHz, 0.0 for what is not known."""
        found = known(psutil.cpu_freq, None)
        return (found.current, found.min, found.max) if found else (0.0, 0.0, 0.0)

    def load(self) -> list[float]:
        """Return how many processes ran on each processor in the last 1, 5 and 15 minutes."""
        cores = self.logical() or 1
        return [load / cores for load in known(os.getloadavg, (0.0, 0.0, 0.0))]

    def busy(self) -> float:
        """Return the part of the processors' time that was used since this was asked last."""
        return known(lambda: psutil.cpu_percent(interval=None), 0.0) / 100

    def processes(self) -> int:
        """Return how many processes there are."""
        return len(known(psutil.pids, list[int]()))

    def devices(self) -> dict[str, Any]:
        """Return psutil's usage of each device that holds a file system."""
        found: dict[str, Any] = {}
        for partition in partitions(every=False):
            try:
                found.setdefault(partition.device, psutil.disk_usage(partition.mountpoint))
            except FAILURES:
                continue
        return found

    def device_of(self, folder: Path) -> str:
        """Return the device that folder lies on, or nothing when it is not known."""
        found = partitions(every=True)
        for parent in (folder.resolve(), *folder.resolve().parents):
            for partition in found:
                if partition.mountpoint == str(parent):
                    return str(partition.device)
        return ""

    def counters(self) -> dict[str, dict[str, float]]:
        """Return what was read, written, sent and received since the machine started."""
        disks: dict[str, Any] = known(lambda: psutil.disk_io_counters(perdisk=True), {}) or {}
        names = {device: Path(device).name for device in self.devices()}
        present = {device: disks[name] for device, name in names.items() if name in disks}
        network = known(psutil.net_io_counters, None)
        totals: dict[str, dict[str, float]] = {
            name: {device: getattr(disk, name) for device, disk in present.items()}
            for name in ("read_count", "read_bytes", "write_count", "write_bytes")
        }
        for name in ("bytes_sent", "bytes_recv", "packets_sent", "packets_recv"):
            totals[name] = {"": getattr(network, name, 0)}
        return totals

    def _memory(self) -> Iterator[tuple[int, int]]:
        """Yield what each group has used, and its bound, in bytes."""
        for folder in self._folders("memory"):
            for bound, used in (
                ("memory.max", "memory.current"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ):
                limit, value = "".join(words(folder / bound)), "".join(words(folder / used))
                if limit.isdigit() and value.isdigit():
                    yield int(value), int(limit)

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the groups that the process is in, of both versions, from the inside out."""
        try:
            groups = (self._process / "cgroup").read_text().splitlines()
            mounts = (self._process / "mountinfo").read_text().splitlines()
        except OSError:
            return
        for line in groups:
            _, controllers, path = line.split(":", 2)
            names = set(controllers.split(",")) - {""}
            if names and controller not in names:
                continue
            for top, folder in places(mounts, names, path):
                for each in (folder, *folder.parents):
                    yield each
                    if each == top:
                        break


def partitions(*, every: bool) -> list[Any]:
    """Return psutil's partitions: those with a device, or every one."""
    return known(lambda: list[Any](psutil.disk_partitions(all=every)), list[Any]())


def words(path: Path) -> list[str]:
    """Return the words in a file; none when it cannot be read."""
    return known(lambda: path.read_text().split(), [])
