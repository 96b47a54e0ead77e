"""What commands see of the machine: the options of bubblewrap for namespaces and files."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

HOME = "/home/student"
# Where the folder of orders is shown.
CONTROL = "/run/sandbox"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The account that commands run as when the server runs as root: the kernel exempts the host's root
# from the limit on processes, and /proc/sys belongs to it.
NOBODY = 65534

# The variables that commands have, if they are not given others.
ENVIRON = {"PATH": PATH, "HOME": HOME, "USER": "student", "LANG": "C.UTF-8"}

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

# How many files make a folder large.
MANY = 17

OWN_ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/bash\nstudent:x:1000:1000::{HOME}:/bin/bash\n",
    "group": "root:x:0:\nstudent:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
}


@dataclass
class Tree:
    """The files that commands see, but for their own."""

    root: str = ""
    """The folder that commands see as `/`."""
    shown: tuple[str, ...] = ()
    """The folders that they see as they are on the host, which have empty ones below root."""
    memory: str = ""
    """A folder below root of which a copy may be shown, with all that is shown in it."""
    mounted: bool = False
    """Whether these are mounted below root already, where sandboxes are started.

    There, they can be put into networks too.
    """

    def mounts(self) -> list[tuple[str, str]]:
        """Return where each folder that is shown is, and where it is to be mounted."""
        return [(path, f"{self.root}{path}") for path in self.shown]

    def options(self) -> list[str]:
        """Return the options that show all of it, read-only."""
        shown = () if self.mounted else self.shown
        binds = [part for path in shown for part in ("--ro-bind", path, path)]
        return ["--ro-bind", self.root, "/", *binds]


def namespaces(help_text: str) -> list[str]:
    """Return the options that take everything but files from the commands."""
    options = ["--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    options += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1"]
    options += ["--clearenv", "--cap-drop", "ALL"]
    options += [part for pair in ENVIRON.items() for part in ("--setenv", *pair)]
    if "--disable-userns" in help_text:
        options.append("--disable-userns")
    return options


def make_tree(root: Path, *, network: bool) -> Tree:
    """Make root to be what commands see as `/`, with nothing in it that differs between boxes."""
    make_folder(root)
    shown = ["/usr"]
    for path in (Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")):
        if path.is_symlink():
            (root / path.name).symlink_to(path.readlink())
        elif path.is_dir():
            shown.append(str(path))
    shown += make_etc(root / "etc", network=network)
    if Path("/var/lib/dpkg").is_dir():
        shown.append("/var/lib/dpkg")
    # What is mounted on these is made for each box.
    for name in (*shown, "/proc", "/dev", "/tmp", "/var", HOME, CONTROL):  # noqa: S108
        make_folders(root, name)
    (root / "var/tmp").symlink_to("/tmp")  # noqa: S108
    return Tree(str(root), tuple(shown), f"{root}/etc")


def fresh(help_text: str, size: int) -> list[str]:
    """Return the options for files of each box's own, where anybody may write so many bytes."""
    options = ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        options += ["--perms", "1777"] if "--perms" in help_text else []
        options += ["--size", str(size)] if "--size" in help_text else []
        options += ["--tmpfs", folder]
    # Last of all, /proc with its settings becomes read-only, and where the rest of it is mounted.
    options += ["--remount-ro", "/proc", "--remount-ro", "/dev"]
    return options


def make_etc(etc: Path, *, network: bool) -> list[str]:
    """Make what commands see as /etc, and return the folders that are not copied into it.

    Each mount may cost every sandbox a tenth of a millisecond, and each copy costs the start of the
    server as much, so only large folders are mounted.
    """
    shown: list[str] = []
    make_folder(etc)
    found = {path for pattern in ETC for path in Path("/etc").glob(pattern)}
    for path in sorted(found | ({Path("/etc/resolv.conf")} if network else set())):
        into = etc / path.relative_to("/etc")
        make_folders(etc, path.relative_to("/etc").parent.as_posix())
        if not path.is_dir():
            with contextlib.suppress(OSError):
                shutil.copy2(path, into)
        elif sum(1 for _ in islice(path.rglob("*"), MANY)) < MANY:
            copy_folder(path, into)
        else:
            shown.append(str(path))
    for name, text in OWN_ETC.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)
    (etc / "mtab").unlink(missing_ok=True)
    (etc / "mtab").symlink_to("/proc/self/mounts")
    return shown


def copy_folder(path: Path, into: Path) -> None:
    """Copy what this process may read of a folder; the links in it lead to what sandboxes show."""
    make_folder(into)
    with contextlib.suppress(OSError):
        for each in path.iterdir():
            if each.is_dir() and not each.is_symlink():
                copy_folder(each, into / each.name)
                continue
            with contextlib.suppress(OSError):
                shutil.copy2(each, into / each.name, follow_symlinks=False)


def make_folders(root: Path, name: str) -> None:
    """Make a folder below root, and those that it is in."""
    for part in filter(None, name.split("/")):
        root /= part
        make_folder(root)


def make_folder(path: Path) -> None:
    """Make a folder that everybody can read, whatever the server's umask is."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def quick(work: Path) -> Path:
    """Return a folder in memory, if there is one, where to make many short-lived files."""
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK) else work
