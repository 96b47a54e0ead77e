"""Work folders of servers: claimed while they run, and swept when they were killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from .files import remove
from .layout import NOBODY

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LOCK = "lock"


def let_in(folder: Path) -> None:
    """Let the account that commands run as at what is in a folder that is closed to all others.

    It stays closed to them: commands could leave a program in it that gives whoever starts it
    their account.
    """
    if os.geteuid() == 0:
        os.chown(folder, -1, NOBODY)
        folder.chmod(0o710)


@contextlib.contextmanager
def claim(work: Path) -> Generator[None]:
    """Claim the work folder of this server, and remove those beside it that nobody claims."""
    prefix = work.name[: work.name.rindex("-") + 1]
    new = work / f"{LOCK}.new"
    with new.open("xb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now, so that no other server finds it unlocked.
        new.rename(work / LOCK)
        for stray in work.parent.glob(f"{prefix}*/{LOCK}"):
            if stray.parent != work:
                sweep(stray)
        yield


def sweep(lock: Path) -> None:
    """Remove the work folder that has this lock, if it was a server of ours that is dead."""
    # Anybody may make things in the folder for temporary files.
    with contextlib.suppress(OSError):
        status = lock.parent.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        with open(os.open(lock, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(lock.parent)
