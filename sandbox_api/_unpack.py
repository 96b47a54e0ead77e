"""Reading gzipped tar archives, as if an enemy had written them.

It is done here, block by block, since on Pythons that are still in use tarfile
can be made to read for hours (CVE-2024-6232, CVE-2025-8194) or to write outside in spite of its
`data` filter (CVE-2025-4517), which 3.11.3 does not have at all.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import tarfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ._tree import Entry, Link, check_links, grow, shown
from .exceptions import InvalidEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# How much is read at once, in bytes.
_CHUNK = 256 * 1024
# Longest header that goes with a member, and how much of it there may be on average, in bytes.
_LONGEST_HEADER = 64 * 1024
_HEADERS = 2048
# What a record in a header counts for, in bytes.
_RECORD = 64
_BLOCK = tarfile.BLOCKSIZE
# Types of members that come without content, whatever their size says.
_EMPTY = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
# Deepest member. shutil.rmtree needs a descriptor and a call for each level.
_DEPTH = 100
# What a name must not hold, nor a part of it end in, to mean to the system what it says: Windows
# has drives and streams, and takes ".. " for "..".
_UNSAFE, _LOST = ("\0", "") if os.sep == "/" else ("\0\\:", ". ")
# Errors of the file system that the names in an archive bring about.
_NAMING = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}


class _Metered:
    """A stream that is read no further than a limit, in bytes."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large()
        return data


class Reader:
    """The members of a gzipped tar archive, one after another, within limits.

    Args:
        stream: the archive, read from where it stands, and left open.
        max_size: most that its files may hold altogether, in bytes.
        max_members: most members that it may have.

    Raises:
        TypeError: it is not a binary stream.
    """

    def __init__(self, stream: BinaryIO, max_size: int, max_members: int) -> None:
        given: Any = stream
        if isinstance(given, io.TextIOBase) or not hasattr(given, "read"):
            raise TypeError(f"stream must be a binary stream, not {type(given).__name__}")
        self.max_members = self._members = max_members
        self._size = max_size
        # What may still be read. What a member says it holds is added when that is allowed.
        self._room = _HEADERS * max_members + 16 * _LONGEST_HEADER
        metered = cast("Any", _Metered(stream, max_size + self._room))
        self._file = gzip.GzipFile(fileobj=metered, mode="rb")
        self._content = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Yield each member, also those whose name came before.

        Raises:
            InvalidEnvironment: the archive is damaged, cut short, or too large.
        """
        extended: dict[str, str] = {}
        while any(block := self._exactly(_BLOCK)):
            try:
                member = self._parse(block, extended)
            except InvalidEnvironment:
                raise
            except (tarfile.HeaderError, ValueError) as error:
                raise _damaged("one of its headers is damaged") from error
            if member is not None:
                padding = -self._content % _BLOCK
                yield member
                for _ in self.content():
                    pass
                self._exactly(padding)
                extended = {}
        # Only at its end does it tell whether it is whole.
        while self._read(_CHUNK):
            pass

    def content(self) -> Iterator[bytes]:
        """Yield what is left of the current member's content, in pieces."""
        while self._content:
            chunk = self._exactly(min(self._content, _CHUNK))
            self._content -= len(chunk)
            yield chunk

    def _parse(self, block: bytes, extended: dict[str, str]) -> tarfile.TarInfo | None:
        """Return the member that a header is of, or None when it only extends the next one."""
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type == tarfile.XHDTYPE:
            data = self._long(member)
            # Reading records takes longer than reading bytes.
            self._room -= _RECORD * data.count(b"\n")
            extended |= _records(data)
        elif member.type == tarfile.XGLTYPE:
            self._long(member)
        elif member.type == tarfile.GNUTYPE_LONGNAME:
            extended["path"] = _text(self._long(member).partition(b"\0")[0])
        elif member.type == tarfile.GNUTYPE_LONGLINK:
            extended["linkpath"] = _text(self._long(member).partition(b"\0")[0])
        else:
            member.name = extended.get("path", member.name)
            member.linkname = extended.get("linkpath", member.linkname)
            member.size = int(extended.get("size", member.size))
            if member.isdir():
                member.name = member.name.rstrip("/")
            if member.type == tarfile.GNUTYPE_SPARSE or any(
                key.startswith("GNU.sparse") for key in extended
            ):
                raise InvalidEnvironment(
                    f"{shown(member.name)} is stored as a sparse file: make the archive without"
                    " --sparse"
                )
            self._admit(member)
            return member
        return None

    def _admit(self, member: tarfile.TarInfo) -> None:
        self._members -= 1
        if self._members < 0:
            raise _too_many(self.max_members)
        if member.size < 0:
            raise _damaged("one of its headers is damaged")
        self._content = 0 if member.type in _EMPTY else member.size
        self._size -= self._content
        if self._size < 0:
            raise _too_large()
        self._room += self._content + _BLOCK

    def _long(self, member: tarfile.TarInfo) -> bytes:
        if not 0 <= member.size <= _LONGEST_HEADER:
            raise _damaged("one of its headers is too long")
        data = self._exactly(member.size)
        self._exactly(-member.size % _BLOCK)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise _damaged("it is cut short")
        return data

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(str(error)) from error
        self._room -= len(data)
        if self._room < 0:
            raise _too_large()
        return data


def _damaged(why: str) -> InvalidEnvironment:
    return InvalidEnvironment(
        f"the environment is not a whole gzipped tar archive ({why}): make or download it again"
    )


def _too_large() -> InvalidEnvironment:
    return InvalidEnvironment(
        "the environment holds more than is allowed: raise max_size if you trust it"
    )


def _too_many(most: int) -> InvalidEnvironment:
    return InvalidEnvironment(
        f"the environment has more than {most} members: raise max_members if you trust it"
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _records(data: bytes) -> dict[str, str]:
    """Return the records of a PAX header, each a line `{length} {key}={value}`."""
    records: dict[str, str] = {}
    start = 0
    while start < len(data):
        space = data.index(b" ", start, start + 10)
        end = start + int(data[start:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or not equals or data[end - 1] != ord("\n"):
            raise ValueError("a damaged record")
        records[_text(key)] = _text(value)
        start = end
    return records


def unpack(archive: Reader, root: Path) -> None:
    """Unpack an archive into an empty directory that nobody else writes to.

    Links are made last, so that until then there is none that could be followed outside.

    Raises:
        InvalidEnvironment: the archive is refused; the message says why.
        OSError: the disk is full, or the like.
    """
    tree: dict[str, Entry] = {}
    try:
        for member in archive:
            _place(tree, member, archive, root)
            # Directories are made that are no members.
            if len(tree) > archive.max_members:
                raise _too_many(archive.max_members)
        check_links(tree, dangling=True)
        for name, entry in tree.items():
            if isinstance(entry, Link):
                (root / name).symlink_to(entry.target)
    except OSError as error:
        if error.errno not in _NAMING:
            raise
        raise InvalidEnvironment(
            f"the environment cannot be unpacked here ({error}): make it with other names"
        ) from error


def _place(tree: dict[str, Entry], member: tarfile.TarInfo, archive: Reader, root: Path) -> None:
    name = _clean(member.name)
    if member.isdir():
        entry: Entry = None
    elif member.issym():
        entry = Link(member.linkname)
    elif member.isreg() or member.islnk():
        entry = b""
    else:
        raise _refused(member.name, "is a device or the like")
    if not name:
        if entry is None:
            return
        raise _refused(member.name, "has no name")
    again = name in tree
    if again and type(tree[name]) is not type(entry):
        raise _refused(member.name, "is there twice, as different things")
    for above in grow(tree, name, entry):
        (root / above).mkdir()
    path = root / name
    if isinstance(entry, Link):
        if not entry.target or any(character in entry.target for character in _UNSAFE):
            raise _refused(member.name, f"is a link to {shown(entry.target)}")
    elif entry is None:
        path.mkdir(exist_ok=True)
    else:
        if again:
            path.unlink()
        if member.islnk():
            source = _clean(member.linkname)
            if source == name or tree.get(source) != b"":
                raise _refused(
                    member.name, f"is a hard link to {shown(member.linkname)}, no file yet"
                )
            path.hardlink_to(root / source)
        else:
            _place_file(path, archive, executable=bool(member.mode & stat.S_IXUSR))


def _place_file(path: Path, archive: Reader, *, executable: bool) -> None:
    flags: int = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The rest is up to the user's umask; bits like set-user-ID are never kept.
    with os.fdopen(os.open(path, flags, 0o777 if executable else 0o666), "wb") as file:
        for chunk in archive.content():
            file.write(chunk)


def _clean(name: str) -> str:
    """Return a member's name without the parts that mean nothing: "" is the directory itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if (
        name.startswith("/")
        or any(part == ".." or part != part.rstrip(_LOST) for part in parts)
        or any(character in name for character in _UNSAFE)
    ):
        raise _refused(name, "does not stay inside it")
    if len(parts) > _DEPTH:
        raise _refused(name, f"lies more than {_DEPTH} directories deep")
    return "/".join(parts)


def _refused(name: str, why: str) -> InvalidEnvironment:
    return InvalidEnvironment(
        f"the environment cannot be unpacked safely: its member {shown(name)} {why}"
    )
