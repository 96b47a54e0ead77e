"""Environments: the files that a sandbox lays down before it runs commands, and may give back.

On the wire, an environment is a gzipped tar archive. Here they are made of what users have, and
unpacked where they want them.

Examples:

    >>> with open_environment({"square.py": "print(7 ** 2)"}) as environment:
    ...     [file.name for file in list_environment(environment)]
    ['square.py']
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

from attrs import frozen

from ._exclude import Excluded
from ._pack import open_regular, pack
from ._transfer import sendable
from ._tree import Entry, Link, grow
from ._unpack import Reader, unpack
from .exceptions import InvalidEnvironment

__all__ = [
    "MAX_MEMBERS",
    "MAX_SIZE",
    "EnvironmentFile",
    "EnvironmentSource",
    "InvalidEnvironment",
    "extract_environment",
    "list_environment",
    "open_environment",
]

EnvironmentSource: TypeAlias = (
    BinaryIO | bytes | str | os.PathLike[str] | Mapping[str, str | bytes | os.PathLike[str]]
)
"""What an environment can be made of.

* a binary stream or bytes: the archive itself;
* a path, str or PathLike: of an archive (`.tgz`), or of a directory that is packed;
* a mapping of paths in the environment to contents: text, sent as UTF-8; bytes; or a PathLike, the
  file to read it from (a str is always content).
"""

MAX_SIZE = 4 * 1024**3
"""Most that the files of an environment may hold when unpacked, in bytes, unless told otherwise."""

MAX_MEMBERS = 100_000
"""Most files, directories and links that an environment may have, unless told otherwise."""

# Names what is not packed, in the root of a directory, and how long it may be, in bytes.
_IGNORE = ".sandboxignore"
_LONGEST_IGNORE = 64 * 1024
# Longest part of a path on the systems that sandboxes run on, in bytes.
_LONGEST_NAME = 255


@frozen
class EnvironmentFile:
    """What an environment has under one name."""

    name: str
    """Path inside the environment, to the letter; bytes that are not UTF-8 are surrogates."""

    size: int
    """Of a file's content, in bytes; 0 for all else."""

    type: Literal["file", "directory", "symlink", "other"]
    """What it is; "other" is a device or the like."""


def open_environment(source: EnvironmentSource, *, exclude: Iterable[str] = ()) -> BinaryIO:
    """Return an environment as a stream that starts at 0 and knows its length; close it after use.

    The same directory or mapping always makes the same bytes; times and owners are left out, and of
    modes all but the owner's executable bit. Links are kept where they stay inside the directory.

    Args:
        source: what to make it of; see EnvironmentSource. A stream is read from where it stands,
            and closed once it is copied.
        exclude: what to leave out of a directory or mapping, as in a `.gitignore`: `*.log` at any
            depth, `/data` at the root, `build/` directories only, `**` across directories, and
            `!keep.log` to take back. A directory's own `.sandboxignore` holds such patterns too,
            one a line, which come first.

    Raises:
        TypeError: the source is none of these, or `exclude` is one string, or is given with an
            archive.
        InvalidEnvironment: it cannot be packed, or is not gzipped; the message says what to do.
        OSError: a file is missing, or can't be read.

    Examples:

        >>> with open_environment("exercise/", exclude=["*.pyc", "/solutions"]) as environment:
        ...     result = sandbox.execute({"commands": ["python3 grade.py"]}, environment)
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a list of patterns, not a string: [{exclude!r}]")
    patterns = list(exclude)
    if isinstance(source, Mapping):
        return pack(_mapping(source, Excluded(patterns)))
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    if not path and path is not None:
        raise InvalidEnvironment("the path of an environment is empty")
    if path and Path(path).is_dir():
        return pack(_directory(path, patterns))
    if patterns:
        raise TypeError("exclude is for directories and mappings: an archive is sent as it is")
    if path is not None:
        return _archive(path)
    if isinstance(source, bytes):
        return io.BytesIO(source)
    given: Any = source
    if isinstance(given, io.TextIOBase):
        raise TypeError("environ must be a binary stream, not one of text")
    if not hasattr(given, "read"):
        raise TypeError(
            "environ must be a binary stream, bytes, a path or a mapping of paths to contents, not"
            f" {type(given).__name__}"
        )
    return sendable(given)


def extract_environment(
    stream: BinaryIO,
    destination: str | os.PathLike[str],
    *,
    max_size: int = MAX_SIZE,
    max_members: int = MAX_MEMBERS,
) -> None:
    """Unpack an environment that nobody vouches for into a new or empty directory, or not at all.

    Nothing is written outside it. Links are kept where they stay inside; of modes only the owner's
    executable bit is; times and owners are those of new files.

    Args:
        stream: the archive, read from where it stands, and left open.
        destination: the directory, made with those above it where missing.
        max_size: most that its files may hold altogether, in bytes.
        max_members: most files, directories and links that may be made.

    Raises:
        FileExistsError: the destination is a file, or a directory that is not empty.
        InvalidEnvironment: the archive is damaged, goes beyond a limit, or holds what is unsafe:
            names, links that lead outside, devices.
        OSError: the disk is full, or the like.

    Examples:

        >>> extract_environment(sandbox.download(result.environment), "results")
    """
    target = place_for(destination)
    archive = Reader(stream, max_size, max_members)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Closed to other users, whatever the mode of what is in it.
    with tempfile.TemporaryDirectory(prefix=".sandbox-", dir=target.parent) as staging:
        root = Path(staging, "environment")
        root.mkdir()
        unpack(archive, root)
        if target.exists():
            root.chmod(target.stat().st_mode & 0o7777)
            target.rmdir()  # Windows replaces no directory
        root.rename(target)


def place_for(destination: str | os.PathLike[str]) -> Path:
    """Return where to unpack, through links, which stay.

    Raises:
        FileExistsError: it is a file, or a directory that is not empty.
    """
    target = Path(os.path.realpath(destination))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} is not an empty directory: name a new one")
    return target


def list_environment(
    stream: BinaryIO, *, max_size: int = MAX_SIZE, max_members: int = MAX_MEMBERS
) -> Iterator[EnvironmentFile]:
    """Yield what is in an environment, in order, while it is read.

    Args:
        stream: the archive, read from where it stands, and left open.
        max_size: most that its files may hold altogether, in bytes.
        max_members: most members that it may have.

    Raises:
        InvalidEnvironment: the archive is damaged, or goes beyond a limit; only its end tells.

    Examples:

        >>> [file.name for file in list_environment(sandbox.download(result.environment))]
        ['marks', 'square.py']
    """
    return _listed(Reader(stream, max_size, max_members))


def _listed(archive: Reader) -> Iterator[EnvironmentFile]:
    sizes: dict[str, int] = {}
    for member in archive:
        if member.isreg():
            sizes[member.name] = member.size
            yield EnvironmentFile(member.name, member.size, "file")
        elif member.islnk():
            yield EnvironmentFile(member.name, sizes.get(member.linkname, 0), "file")
        elif member.isdir():
            yield EnvironmentFile(member.name, 0, "directory")
        else:
            yield EnvironmentFile(member.name, 0, "symlink" if member.issym() else "other")


def _archive(path: str) -> BinaryIO:
    file = os.fdopen(open_regular(os.path.realpath(path))[0], "rb")
    if file.peek(2)[:2] == b"\x1f\x8b":
        return file
    file.close()
    raise InvalidEnvironment(
        f"{path!r} is not a gzipped file: give a .tgz archive, a directory, or a mapping of paths"
        " to contents"
    )


def _directory(root: str, patterns: list[str]) -> dict[str, Entry]:
    ignore = Path(root, _IGNORE)
    excluded = Excluded([*_lines(ignore), *patterns] if ignore.is_file() else patterns)
    tree: dict[str, Entry] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}/{folder}") as found:
            for entry in found:
                name = folder + entry.name
                is_directory = entry.is_dir(follow_symlinks=False)
                if excluded(name, is_directory) or (name == _IGNORE and not is_directory):
                    continue
                if is_directory:
                    tree[name] = None
                    folders.append(f"{name}/")
                elif entry.is_symlink():
                    target = os.readlink(entry.path)  # noqa: PTH115 (a Path rewrites it)
                    tree[name] = Link(target.replace(os.sep, "/"))
                elif entry.is_file(follow_symlinks=False):
                    tree[name] = entry.path
                else:
                    raise InvalidEnvironment(
                        f"{entry.path!r} is a device, socket or FIFO: remove or exclude it"
                    )
    return tree


def _lines(ignore: Path) -> list[str]:
    # The directory may be a student's, so what would keep a server busy is refused.
    descriptor, _ = open_regular(os.path.realpath(ignore))
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LONGEST_IGNORE + 1)
    try:
        if len(data) <= _LONGEST_IGNORE:
            return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        pass
    raise InvalidEnvironment(
        f"{str(ignore)!r} must be UTF-8 text of at most {_LONGEST_IGNORE} bytes: rewrite it"
    )


def _mapping(source: Mapping[str, Any], excluded: Excluded) -> dict[str, Entry]:
    tree: dict[str, Entry] = {}
    for name, content in source.items():
        _check_name(name)
        if excluded.with_above(name):
            continue
        if name in tree:
            raise InvalidEnvironment(
                f"{name!r} is a file, yet has others in it: rename one of them"
            )
        grow(tree, name, _entry(name, content))
    return tree


def _entry(name: str, content: Any) -> Entry:
    if isinstance(content, bytes):
        return content
    if isinstance(content, os.PathLike):
        return os.path.realpath(cast("os.PathLike[str]", content))
    if not isinstance(content, str):
        raise TypeError(
            f"the content of {name!r} must be text, bytes or a path, not {type(content).__name__}"
        )
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise InvalidEnvironment(
            f"the content of {name!r} cannot be encoded in UTF-8: give it as bytes"
        ) from None


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a file must be a string, not {type(name).__name__}")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name or "\\" in name:
        raise InvalidEnvironment(
            f"{name!r} is not a path inside the environment: write it like 'src/main.py'"
        )
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        raise InvalidEnvironment(
            f"the name {name!r} cannot be encoded in UTF-8: rename it"
        ) from None
    if longest > _LONGEST_NAME:
        raise InvalidEnvironment(
            f"{name!r} has a part of {longest} bytes: use at most {_LONGEST_NAME}"
        )
