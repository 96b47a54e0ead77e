"""Unpack gzipped tar archives that nobody vouches for."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import posixpath
import stat
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from .archive import CHUNK, NAME_SIZE, PASSES, ArchiveError
from .files import FOLDER
from .layout import HOME
from .limits import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

# What tarfile may read at once, and between two members: it keeps all of it in memory.
HEADER_SIZE = MIB

# What tarfile and gzip raise for damaged archives, apart from OSError.
DAMAGE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
)
# Errors of the file system that the names in an archive bring about.
NAMING = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
}


class Source:
    """The content of a gzip file, handed to tarfile in small pieces and not without end."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._content = gzip.GzipFile(fileobj=file, mode="rb")
        self._limit = limit
        self.room: float = HEADER_SIZE
        """How much may still be read before this is set again, in bytes."""
        self.last = b""
        """What was read last."""

    def read(self, size: int) -> bytes:
        """Read size bytes, or fewer at the end."""
        self.room -= size
        if not 0 <= size <= HEADER_SIZE or self.room < 0:
            raise ArchiveError("one of its headers is too long")
        self._bound(self.tell() + size)
        self.last = self._content.read(size)
        return self.last

    def seek(self, position: int) -> int:
        """Skip to position, which lies ahead."""
        if position < self.tell():
            raise ArchiveError("its members overlap")
        self._bound(position)
        return self._content.seek(position)

    def tell(self) -> int:
        """Return the position in the content."""
        return self._content.tell()

    def _bound(self, position: int) -> None:
        if position > self._limit:
            raise ArchiveError("it holds too much")


class Unpacker:
    """Unpack archives into one folder, never writing outside of it or through a link."""

    def __init__(self, root: Path, limits: Limits, owner: int | None) -> None:
        self._root = root
        self._limits = limits
        self._owner = owner
        self._left = limits.members
        self._passes = PASSES * limits.members
        self._size = limits.unpacked_size

    def unpack(self, file: IO[bytes], *, kept: Collection[str] = (), trusted: bool) -> set[str]:
        """Unpack an archive and return the names of its members.

        Leave alone those of kept that the archive does not name to the letter. Only in a trusted
        archive may links lead outside, to what they mean in a sandbox. Raise ArchiveError.
        """
        names: set[str] = set()
        root = os.open(self._root, FOLDER)
        try:
            for member, content in self._members(file):
                name = self._clean(member.name)
                if name and (name == member.name or name not in kept or member.isdir()):
                    self._place(root, name, member, content, trusted=trusted)
                    names.add(name)
        except DAMAGE as error:
            raise ArchiveError(f"it is no whole gzipped tar archive ({error})") from error
        except OSError as error:
            if error.errno not in NAMING:
                raise
            raise ArchiveError(f"it cannot be unpacked ({error})") from error
        finally:
            os.close(root)
        return names

    def _members(self, file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
        limits = self._limits
        # What lies between the contents of members, apart from the longest names.
        source = Source(file, limits.unpacked_size + 2048 * limits.members + 2 * HEADER_SIZE)
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r:") as archive:
            while True:
                source.room = HEADER_SIZE
                member = archive.next()
                if member is None:
                    break
                # tarfile would keep all members, and apply headers to all that follow.
                cast("Any", archive).members = []
                archive.pax_headers = {}
                self._count()
                self._size -= member.size
                if member.size < 0 or self._size < 0:
                    raise ArchiveError(f"it holds more than {limits.unpacked_size} bytes")
                source.room = float("inf")
                yield member, self._content(archive, member)
            # A damaged header looks like the end to tarfile.
            if any(source.last):
                raise tarfile.ReadError("damaged header")
            source.room = float("inf")
            while source.read(CHUNK):
                pass

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        content = archive.extractfile(member)
        while content and (chunk := content.read(CHUNK)):
            yield chunk

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ArchiveError(f"it has more than {self._limits.members} members")

    def _clean(self, name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or len(os.fsencode(name)) > NAME_SIZE:
            raise ArchiveError(f"its member {name[:200]!r} does not stay in the working directory")
        return "/".join(parts)

    def _place(
        self,
        root: int,
        name: str,
        member: tarfile.TarInfo,
        content: Iterator[bytes],
        *,
        trusted: bool,
    ) -> None:
        above, _, base = name.rpartition("/")
        with self._folder(root, name if member.isdir() else above, member.isdir()) as folder:
            if member.isdir():
                os.fchmod(folder, member.mode & 0o777 | 0o700)
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(base, dir_fd=folder)
            if member.isreg():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(base, flags, 0o600, dir_fd=folder), "wb") as file:
                    for chunk in content:
                        file.write(chunk)
                    file.flush()
                    self._give(file.fileno())
                    os.fchmod(file.fileno(), member.mode & 0o777 | 0o600)
                    moment = min(max(member.mtime, 0), 2**32)
                    os.utime(file.fileno(), (moment, moment))
            elif member.issym():
                if not trusted and not inside(above, member.linkname):
                    raise ArchiveError(f"its link {name!r} leads out of the working directory")
                os.symlink(member.linkname, base, dir_fd=folder)
                if self._owner is not None:
                    os.chown(base, self._owner, self._owner, dir_fd=folder, follow_symlinks=False)
            elif member.islnk():
                self._link(root, member, folder, base)
            else:
                raise ArchiveError(f"its member {name!r} is neither a file, a folder nor a link")

    def _link(self, root: int, member: tarfile.TarInfo, folder: int, base: str) -> None:
        above, _, source = self._clean(member.linkname).rpartition("/")
        with self._folder(root, above) as other:
            if not stat.S_ISREG(os.lstat(source, dir_fd=other).st_mode):
                raise ArchiveError(f"its link {member.name!r} is not to a file")
            os.link(source, base, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)

    @contextlib.contextmanager
    def _folder(self, root: int, name: str, is_member: bool = False) -> Generator[int]:
        """Open a folder, made when it is not there; no part of its path may be a link.

        One that is a member is already counted.
        """
        folder = os.dup(root)
        try:
            parts = name.split("/") if name else []
            for place, part in enumerate(parts, 1):
                above = folder
                self._passes -= 1
                if self._passes < 0:
                    raise ArchiveError("its names have too many folders")
                try:
                    try:
                        folder = os.open(part, FOLDER, dir_fd=above)
                    except FileNotFoundError:
                        if place < len(parts) or not is_member:
                            self._count()
                        os.mkdir(part, 0o755, dir_fd=above)
                        folder = os.open(part, FOLDER, dir_fd=above)
                        self._give(folder)
                finally:
                    if folder != above:
                        os.close(above)
            yield folder
        finally:
            os.close(folder)

    def _give(self, descriptor: int) -> None:
        if self._owner is not None:
            os.chown(descriptor, self._owner, self._owner)


def inside(folder: str, target: str) -> bool:
    """Tell whether a link in folder, relative to the working directory, leads inside of it."""
    path = posixpath.normpath(posixpath.join(HOME, folder, target))
    return f"{path}/".startswith(f"{HOME}/")
