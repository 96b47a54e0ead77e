"""Pack and read gzipped tar archives of what hostile commands left."""

from __future__ import annotations

import contextlib
import gzip
import os
import posixpath
import stat
import tarfile
from typing import IO, TYPE_CHECKING, Any, cast

from .files import FILE, LINKS, open_anyway, open_folder
from .layout import HOME

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .limits import Limits
    from .store import Archive

CHUNK = 256 * 1024
NAME_SIZE = 4095
# How many folders the names of members may have, on an average of the most members there may be:
# to unpack, each folder is opened for each member in it.
PASSES = 20
STUDENT = 1000


class ArchiveError(Exception):
    """An archive that is refused, or a folder that cannot be packed; the text says why."""


def pack(root: int, file: IO[bytes], limits: Limits) -> None:
    """Write the files, folders and links below the open folder root to file as an archive.

    Raise ArchiveError when there is too much.
    """
    number = size = passes = 0
    # First of all, for to find that out while packing takes minutes.
    for member, path in tree(root):
        number, size = number + 1, size + member.size
        passes += path.count("/") + member.isdir()
        if number > limits.members:
            raise ArchiveError(f"it has more than {limits.members} members")
        if size > limits.unpacked_size:
            raise ArchiveError(f"it holds more than {limits.unpacked_size} bytes")
        if passes > PASSES * limits.members:
            raise ArchiveError("its names have too many folders")
    with (
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6) as content,
        tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member, path in tree(root):
            if member.isreg():
                with os.fdopen(open_anyway(path, FILE, root), "rb") as source:
                    archive.addfile(member, source)
            else:
                archive.addfile(member)
            archive.getmembers().clear()


def tree(root: int) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yield what is below the open folder root as members of an archive, with their paths."""
    folders = [""]
    while folders:
        for member, path in entries(root, folders.pop()):
            if member.isdir():
                folders.append(path)
            yield member, path


def entries(root: int, folder: str) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yield what is in a folder as members of an archive, with their paths below root."""
    descriptor = open_folder(folder or ".", root)
    try:
        with os.scandir(descriptor) as found:
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if len(os.fsencode(path)) > NAME_SIZE:
                    raise ArchiveError("its folders lie too deep")
                status = entry.stat(follow_symlinks=False)
                member = tarfile.TarInfo(path)
                member.mode = status.st_mode & 0o777
                member.mtime = int(status.st_mtime)
                member.uid = member.gid = STUDENT
                member.uname = member.gname = "student"
                if stat.S_ISDIR(status.st_mode):
                    member.type = tarfile.DIRTYPE
                elif stat.S_ISLNK(status.st_mode):
                    member.type = tarfile.SYMTYPE
                    member.linkname = os.readlink(entry.name, dir_fd=descriptor)
                elif stat.S_ISREG(status.st_mode):
                    member.size = status.st_size
                else:
                    continue
                yield member, path
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_member(stored: Archive, name: str) -> Generator[tuple[int, IO[bytes]] | None]:
    """Open the file that an archive has by exactly this name: size and content, or None.

    Follow symbolic links to other files of the archive.
    """
    for _ in range(LINKS):
        with stored.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
            while (member := archive.next()) and member.name != name:
                cast("Any", archive).members = []
            if member and member.isreg():
                with cast("IO[bytes]", archive.extractfile(member)) as content:
                    yield member.size, content
                return
        if member is None or not member.issym():
            break
        target = posixpath.join(HOME, posixpath.dirname(name), member.linkname)
        name = posixpath.relpath(target, HOME)
    yield None
