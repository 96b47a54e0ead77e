"""Put sandboxes into control groups of the kernel, of version 2 or 1, where this process may."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .layout import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .limits import Limits

# What is wanted, in the names of version 1. Not its cpuacct: each hierarchy costs every sandbox a
# fifth of a millisecond, and processor time can be counted otherwise. Version 2 counts it anyway.
WANTED = ("memory", "pids")
# How long the kernel may take to let go of a group whose processes are dead, in seconds.
GRACE = 5.0


@dataclass(frozen=True)
class Mounts:
    """Where control groups can be made: a folder for each controller."""

    version: int
    folders: Mapping[str, Path]


@dataclass
class Group:
    """The control group of one sandbox."""

    version: int
    folders: Mapping[str, Path | str]
    _kills: int = field(default=0, init=False)

    def open(self) -> list[int]:
        """Return descriptors by which a process enters, when it writes 0 to each of them.

        Nobody else waits for that. To put another process in, or all threads of one, the kernel
        waits until no process starts or ends anywhere, which may take many milliseconds.
        """
        name = "tasks" if self.version == 1 else "cgroup.procs"
        opened: list[int] = []
        try:
            for folder in set(self.folders.values()):
                descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                opened.append(descriptor)
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened

    def killed(self) -> bool:
        """Tell whether something was killed for memory since this was asked last."""
        if not (folder := self.folders.get("memory")):
            return False
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        count = self._numbers(f"{folder}/{name}").get("oom_kill", 0)
        before, self._kills = self._kills, count
        return count > before

    def cpu_time(self) -> float | None:
        """Return the processor time that was used, in seconds, or None when it is not known."""
        used = self._numbers(f"{self.folders['memory']}/cpu.stat") if self.version == 2 else {}
        return used["usage_usec"] / 1e6 if "usage_usec" in used else None

    def processes(self) -> list[int] | None:
        """Return the ids of the processes in it, or None when they are not known."""
        for folder in self.folders.values():
            with contextlib.suppress(OSError, ValueError):
                return [int(line) for line in Path(folder, "cgroup.procs").read_bytes().split()]
        return None

    def remove(self) -> None:
        """Remove the group, whose processes are dead."""
        for folder in set(self.folders.values()):
            remove(folder)

    def _numbers(self, path: str) -> dict[str, int]:
        with contextlib.suppress(OSError, ValueError):
            pairs = (line.split() for line in Path(path).read_text().splitlines())
            return {pair[0]: int(pair[1]) for pair in pairs}
        return {}


class Groups:
    """The place that the groups of one server are in, to be opened before anything else."""

    def __init__(self, mounts: Mounts, limits: Limits) -> None:
        self.version = mounts.version
        name = f"sandbox-{os.getpid()}-{secrets.token_hex(4)}"
        places = {key: folder / name for key, folder in mounts.folders.items()}
        self.folders = places
        """The folders of the place, for each controller."""
        self._count = 0
        # The shell that runs the commands counts too.
        settings = {"pids": {"pids.max": limits.processes + 1}}
        if self.version == 1:
            names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            settings["memory"] = dict.fromkeys(names, limits.memory)
        else:
            settings["memory"] = {"memory.max": limits.memory, "memory.swap.max": 0}
        self._settings = {key: settings.get(key, {}) for key in places}

    def open(self) -> None:
        """Make the place."""
        for folder in set(self.folders.values()):
            folder.mkdir()
        if self.version == 2:
            enable(self.folders["memory"])

    def make(self) -> Group:
        """Make the group of one sandbox."""
        self._count += 1
        # A box costs no more than it has to, and to make paths takes longer than to make text.
        folders = {key: f"{folder}/{self._count}" for key, folder in self.folders.items()}
        group = Group(self.version, folders)
        try:
            for folder in set(folders.values()):
                os.mkdir(folder)  # noqa: PTH102
            for key, folder in folders.items():
                for name, value in list(self._settings[key].items()):
                    try:
                        write(f"{folder}/{name}", value)
                    except FileNotFoundError:
                        # Kernels that do not count swap have no bound for it.
                        del self._settings[key][name]
        except BaseException:
            group.remove()
            raise
        return group

    def close(self) -> None:
        """Remove the place, whose groups were removed."""
        for folder in set(self.folders.values()):
            remove(folder)


def write(path: str, value: int) -> None:
    """Write a number to a file of the kernel."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % value)
    finally:
        os.close(descriptor)


def remove(folder: Path | str) -> None:
    """Remove a group, as soon as the kernel has noticed that its processes are gone."""
    end = time.monotonic() + GRACE
    while True:
        try:
            os.rmdir(folder)  # noqa: PTH106
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                return
            time.sleep(0.001)
        else:
            return


def enable(folder: Path) -> None:
    """Let groups of version 2 below folder have bounds."""
    control = folder / "cgroup.subtree_control"
    if missing := {"memory", "pids"} - set(control.read_text().split()):
        control.write_text(" ".join(f"+{name}" for name in missing))


def find(limits: Limits) -> Mounts | None:
    """Return where groups can be made, after trying that; None when nowhere. Take about 5 ms."""
    for mounts in candidates(Path("/proc/self")):
        groups = Groups(mounts, limits)
        try:
            if mounts.version == 2:
                enable(mounts.folders["memory"])
            groups.open()
            if tried(groups):
                return mounts
        except OSError:
            continue
        finally:
            groups.close()
    return None


def tried(groups: Groups) -> bool:
    """Tell whether a process can really enter a group, by what this one opened."""
    group = groups.make()
    doors: list[int] = []
    try:
        doors = group.open()
        enter = 'for each; do echo 0 >&"$each" || exit; done'
        subprocess.run(  # noqa: S603
            ["/bin/bash", "-c", enter, "bash", *map(str, doors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=doors,
            check=True,
            # Drivers are not root, and older kernels look at who enters too.
            user=NOBODY if os.geteuid() == 0 else None,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        for door in doors:
            os.close(door)
        group.remove()
    return True


def candidates(process: Path) -> Iterator[Mounts]:
    """Yield where groups may be made, best first, as the folder in /proc of a process tells."""
    try:
        memberships = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return
    found: dict[str, Path] = {}
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        for top, folder in places(mounts, set(controllers.split(",")) - {""}, path):
            if controllers:
                found.update((name, folder) for name in controllers.split(",") if name in WANTED)
                continue
            # Only its ancestors may have groups below that have bounds, if processes are in it.
            for each in (folder, *folder.parents):
                with contextlib.suppress(OSError):
                    available = (each / "cgroup.controllers").read_text().split()
                    if {"memory", "pids"} <= set(available):
                        yield Mounts(2, dict.fromkeys(("memory", "pids"), each))
                if each == top:
                    break
    # One that is not there does not keep the others from being used.
    usable = {name: folder for name, folder in found.items() if os.access(folder, os.W_OK)}
    if usable:
        yield Mounts(1, usable)


def memory_group(process: Path) -> Group | None:
    """Return the group that bounds the memory of a process, by its folder in /proc, to be read."""
    try:
        memberships = (process / "cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in memberships:
        _, names, path = line.split(":", 2)
        controllers = set(names.split(",")) - {""}
        if controllers and "memory" not in controllers:
            continue
        for top, folder in places(mounts, controllers, path):
            # All that is not in a group of its own is at the top.
            if (
                folder != top
                and (folder / f"memory.{'oom_control' if names else 'events'}").exists()
            ):
                return Group(1 if names else 2, {"memory": folder})
    return None


def places(mounts: Iterable[str], controllers: set[str], path: str) -> Iterator[tuple[Path, Path]]:
    """Yield where a hierarchy is mounted, and where in it a group is."""
    for line in mounts:
        fields, _, described = line.partition(" - ")
        root, top = fields.split()[3:5]
        kind, _, options = described.split()[:3]
        same = kind == "cgroup" and controllers and controllers <= set(options.split(","))
        if not same and (controllers or kind != "cgroup2"):
            continue
        # Where the mount shows only a part of the hierarchy, as in containers.
        inside = path.removeprefix(root) if path.startswith(root.rstrip("/") + "/") else ""
        if root == path:
            inside = ""
        folder = Path(top, inside.strip("/"))
        yield Path(top), folder if folder.is_dir() else Path(top)
        return
