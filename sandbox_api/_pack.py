"""Writing gzipped tar archives: the same content makes the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ._tree import Entry, Link, check_links, shown
from .exceptions import InvalidEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

# How much is written at once, in bytes.
_CHUNK = 256 * 1024
# Half the time of gzip's usual level 6, for archives that are 2 to 5 % larger; the levels below
# save less time and cost up to 10 % more.
_LEVEL = 4
_BLOCK = tarfile.BLOCKSIZE
# Of a plain header: the length of a name, in bytes, what is larger than a file may be, and user,
# group and time, which are 0 in all that are written.
_NAME, _MOST = 100, 8**11
_OWNER, _TIME = b"%07o\0%07o\0" % (0, 0), b"%011o\0" % 0
# Not all systems have all of these.
_READ: int = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
)


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
