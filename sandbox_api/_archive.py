"""Gzipped tar archives: written the same each time, and read as if an enemy had written them.

Archives are read and unpacked here, block by block, since on Pythons that are still in use tarfile
can be made to read for hours (CVE-2024-6232, CVE-2025-8194) or to write outside in spite of its
`data` filter (CVE-2025-4517), which 3.11.3 does not have at all.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import reprlib
import stat
import tarfile
import tempfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from attrs import frozen

from .exceptions import InvalidEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# How much is read or written at once, in bytes.
_CHUNK = 256 * 1024
# Half the time of gzip's usual level 6, for archives that are 2 to 5 % larger; the levels below
# save less time and cost up to 10 % more.
_LEVEL = 4
# Longest header that goes with a member, and how much of it there may be on average, in bytes.
_LONGEST_HEADER = 64 * 1024
_HEADERS = 2048
# What a record in a header counts for, in bytes.
_RECORD = 64
_BLOCK = tarfile.BLOCKSIZE
# Of a plain header: the length of a name, in bytes, what is larger than a file may be, and user,
# group and time, which are 0 in all that are written.
_NAME, _MOST = 100, 8**11
_OWNER, _TIME = b"%07o\0%07o\0" % (0, 0), b"%011o\0" % 0
# Types of members that come without content, whatever their size says.
_EMPTY = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
# Shows names in messages, shortened where they are long.
_REPR = reprlib.Repr()
_REPR.maxstring = 300
shown = _REPR.repr
# Deepest member. shutil.rmtree needs a descriptor and a call for each level.
_DEPTH = 100
# How many steps the links of an archive may take altogether, and how many others one may lead to.
_STEPS = 1_000_000
_HOPS = 40
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
# Not all systems have all of these.
_READ: int = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
)


@frozen
class Link:
    """A symbolic link of a tree."""

    target: str


Entry: TypeAlias = bytes | str | Link | None
"""Of a tree: the content of a file, where a file is to be read, a link, or None: a directory.

A tree holds them by name, directories also where they hold something.
"""


def grow(tree: dict[str, Entry], name: str, entry: Entry) -> list[str]:
    """Add an entry to a tree, and return the directories above it that were added, outermost first.

    Raises:
        InvalidEnvironment: what is above it is not a directory.
    """
    added: list[str] = []
    above = name.rpartition("/")[0]
    while above and above not in tree:
        added.insert(0, above)
        above = above.rpartition("/")[0]
    if above and tree[above] is not None:
        raise InvalidEnvironment(
            f"{shown(above)} is not a directory, yet has {shown(name)} in it: rename one of them"
        )
    tree.update(dict.fromkeys(added))
    tree[name] = entry
    return added


def check_links(tree: Mapping[str, Entry], *, dangling: bool) -> None:
    """Check that the links of a tree stay inside it, the way the system would follow them.

    Args:
        tree: what to check.
        dangling: whether they may lead to nothing.

    Raises:
        InvalidEnvironment: one does not; the message names it.
    """
    left = _STEPS
    for name, link in tree.items():
        if not isinstance(link, Link):
            continue
        told = f"the symbolic link {shown(name)} leads to {shown(link.target)}"
        if link.target.startswith("/"):
            raise InvalidEnvironment(f"{told}, an absolute path: make it relative, or remove it")
        above = name.rpartition("/")[0]
        todo = link.target.split("/")[::-1]
        hops = 0
        while todo:
            left -= 1
            part = todo.pop()
            if part == "..":
                if not above:
                    raise InvalidEnvironment(f"{told}, outside the environment: remove it")
                above = above.rpartition("/")[0]
            elif part not in ("", "."):
                here = f"{above}/{part}" if above else part
                entry = tree.get(here, b"")
                if isinstance(entry, Link):
                    hops += 1
                    if hops > _HOPS or left < 0:
                        raise InvalidEnvironment(f"{told}, a maze of other links: remove it")
                    todo += entry.target.split("/")[::-1]
                    continue
                if entry is not None and (todo or here not in tree):
                    # A link may come to be there later, or be there by another case of its name.
                    if not dangling or ".." in todo:
                        raise InvalidEnvironment(
                            f"{told}, which is not in the environment: remove the link, or stop"
                            " excluding what it leads to"
                        )
                    break
                above = here


def pack(tree: Mapping[str, Entry]) -> BinaryIO:
    """Return a tree as a gzipped tar archive, in a temporary file that is gone once closed.

    The same content makes the same bytes, on any day and for any user.

    Raises:
        InvalidEnvironment: something in it cannot be packed; the message names it.
        OSError: a file can't be read, or the disk is full.
    """
    check_links(tree, dangling=False)
    with tempfile.TemporaryFile() as file:
        with (
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            io.BufferedWriter(cast("Any", packed), _CHUNK) as out,
        ):
            for name in sorted(tree):
                _write(out, name, tree[name])
            out.write(bytes(2 * _BLOCK))
        file.flush()
        file.seek(0)
        # A stream that can only be read is sent as it is; any other is copied first.
        return os.fdopen(os.dup(file.fileno()), "rb")


def _write(out: io.BufferedWriter, name: str, entry: Entry) -> None:
    if entry is None:
        out.write(_header(name, tarfile.DIRTYPE, 0o755))
    elif isinstance(entry, Link):
        out.write(_header(name, tarfile.SYMTYPE, 0o755, target=entry.target))
    elif isinstance(entry, bytes):
        out.write(_header(name, tarfile.REGTYPE, 0o644, len(entry)))
        out.write(entry)
        out.write(bytes(-len(entry) % _BLOCK))
    else:
        _write_file(out, name, entry)


def _write_file(out: io.BufferedWriter, name: str, path: str) -> None:
    descriptor, status = open_regular(path)
    try:
        size = left = status.st_size
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        out.write(_header(name, tarfile.REGTYPE, mode, size))
        # One byte more than there should be shows whether there is more.
        while left >= 0 and (chunk := os.read(descriptor, min(left + 1, _CHUNK))):
            left -= len(chunk)
            out.write(chunk)
    finally:
        os.close(descriptor)
    if left:
        raise InvalidEnvironment(
            f"{path!r} changed its size while it was packed: pack it once nothing writes to it"
        )
    out.write(bytes(-size % _BLOCK))


def _header(name: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> bytes:
    """Return the header of a member, as tarfile makes it.

    Of most it is made here, for tarfile takes longer than all else that is done for a small file.
    The format: POSIX.1-2017, pax, "ustar Interchange Format".
    """
    if kind == tarfile.DIRTYPE:
        name += "/"
    if max(len(name), len(target)) <= _NAME and f"{name}{target}".isascii() and size < _MOST:
        start = b"%b%07o\0%b%011o\0%b" % (_field(name), mode, _OWNER, size, _TIME)
        end = (kind + _field(target) + b"ustar\x0000").ljust(_BLOCK - len(start) - 8, b"\0")
        # The sum of all bytes, itself taken for spaces.
        return b"%b%06o\0 %b" % (start, sum(start) + sum(b" " * 8) + sum(end), end)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidEnvironment(f"the name {shown(name)} is not UTF-8: rename it") from None
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname = kind, mode, size, target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _field(name: str) -> bytes:
    return name.encode().ljust(_NAME, b"\0")


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a file to read, not through a link, and return its descriptor and status.

    Raises:
        InvalidEnvironment: it is a directory, device, socket or FIFO.
        OSError: it can't be opened.
    """
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                raise InvalidEnvironment(f"{path!r} is a directory, where a file must be")
            raise InvalidEnvironment(
                f"{path!r} is not a file: only files, directories and links are packed"
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


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
