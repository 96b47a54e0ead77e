"""Open and remove what hostile commands left in a folder, after they were killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a named pipe for reading would block.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

LINKS = 40


def open_inside(root: int, path: str, home: str) -> int | None:
    """Open the regular file at path below the open folder root, and return its descriptor.

    Follow symbolic links, but none that leads out of root; home is the absolute path that root
    has for links. Return None when there is no such file.
    """
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    try:
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done.pop()
                continue
            done.append(part)
            mode = os.lstat("/".join(done), dir_fd=root).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                target = os.readlink("/".join(done), dir_fd=root)
                done.pop()
                if target.startswith("/"):
                    if links > LINKS or not f"{target}/".startswith(f"{home}/"):
                        return None
                    done, target = [], target[len(home) :]
                elif links > LINKS:
                    return None
                todo += target.split("/")[::-1]
            elif todo and not stat.S_ISDIR(mode):
                return None
        descriptor = open_anyway("/".join(done), FILE, root)
    except (OSError, ValueError, IndexError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def open_anyway(path: str, flags: int, root: int) -> int:
    """Open a file below the open folder root, even when its mode forbids it."""
    try:
        return os.open(path, flags, dir_fd=root)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=root)
        return os.open(path, flags, dir_fd=root)


def open_folder(path: str | Path, above: int | None = None) -> int:
    """Open a folder through no link, even when its mode forbids to look into it."""
    try:
        folder = os.open(path, FOLDER, dir_fd=above)
    except PermissionError:
        handle = os.open(path, os.O_PATH | FOLDER, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101
        finally:
            os.close(handle)
        folder = os.open(path, FOLDER, dir_fd=above)
    try:
        # It may be that only the names in it can be read.
        os.stat(".", dir_fd=folder)
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.fchmod(folder, 0o700)
    return folder


def remove(folder: Path) -> None:
    """Remove a folder, whatever modes and depth what is in it has."""
    # Most are empty.
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        pass
    else:
        return
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if not folder.exists():
        return
    # These two manage paths that are longer than the system can name, and do not follow links.
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)  # noqa: S603
