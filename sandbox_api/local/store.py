"""Saved environments: one archive each, whole or not there, until they expire."""

from __future__ import annotations

import fcntl
import io
import os
import re
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast

from .job import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import ReadableBuffer

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# How often expired environments are deleted, and how long after they expired, in seconds: not
# before anybody who found one just in time has opened it.
SWEEP = 60.0
GRACE = 60.0

BUFFER = 1024 * 1024


class Archive(Protocol):
    """What is stored of an environment: a Path, or what opens like one."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open it for reading, from any position."""
        ...


class Room:
    """What environments take, each for lifetime seconds from its making.

    They may take max_storage bytes in all, None is no bound.
    """

    reachable = True
    """Whether the store answered when it was last asked."""

    def __init__(self, lifetime: float, max_storage: int | None) -> None:
        self.max_storage = max_storage
        """How many bytes all environments may take together."""
        self.count = 0
        """How many environments are stored."""
        self.stored = 0
        """How many bytes they take."""
        self._lifetime = timedelta(seconds=lifetime)
        self._writing = 0
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Have saves that are not done fail soon: whoever waited for them is gone."""
        self._closed = True

    def _expiry(self) -> tuple[datetime, int]:
        """Return when what is made now expires, and that in microseconds since 1970."""
        expire = datetime.now(UTC) + self._lifetime
        return expire, (expire - datetime.fromtimestamp(0, UTC)) // timedelta(0, 0, 1)

    def _take(self, size: int) -> None:
        with self._lock:
            if self._closed:
                raise Refusal(503, "The server is stopping, retry after a few seconds.")
            self._demand(size)
            self._writing += size

    def _demand(self, size: int) -> None:
        most = self.max_storage
        if most is not None and self.stored + self._writing + size > most:
            raise full(most)


class Store(Room):
    """Environments in one folder.

    The time of modification of an archive is when it expires, so that this is kept with it, and
    never is another than was promised. Servers may share a folder; each counts what the others
    stored when it sweeps.
    """

    def __init__(self, folder: Path, lifetime: float, max_storage: int | None = None) -> None:
        super().__init__(lifetime, max_storage)
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        synchronize(folder.parent)
        self.sweep()

    def find(self, identifier: str) -> Path | None:
        """Return the archive of an environment, or None when there is none or it has expired."""
        # Names come from outside, and must not lead elsewhere.
        if not UUID.fullmatch(identifier):
            return None
        path = self._folder / f"{identifier}.tgz"
        try:
            return path if path.stat().st_mtime > time.time() else None
        except FileNotFoundError:
            return None

    def check_room(self) -> None:
        """Raise Refusal when nothing more can be stored."""
        self._demand(1)

    def add(self, write: Callable[[BinaryIO], None]) -> tuple[uuid.UUID, datetime]:
        """Store what write writes, whole or not at all; return its id and when it expires.

        Once this returns, the environment outlives the machine's losing power. Raise Refusal
        when there is no room for it.
        """
        identifier = uuid.uuid4()
        path = self._folder / f"{identifier}.tgz"
        file = Unfinished(path.with_suffix(".tmp"), self._take)
        try:
            with io.BufferedWriter(file, BUFFER) as buffered:
                write(cast("BinaryIO", buffered))
                buffered.flush()
                expire, microseconds = self._expiry()
                os.utime(file.fileno(), ns=(time.time_ns(), microseconds * 1000))
                os.fsync(file.fileno())
                # While it is still open and so locked: what is not is swept.
                with self._lock:
                    file.path.rename(path)
                    self.count += 1
                    self.stored += file.taken
                    self._writing -= file.taken
                    file.taken = 0
            synchronize(self._folder)
        except BaseException:
            file.path.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        finally:
            with self._lock:
                self._writing -= file.taken
        return identifier, expire

    def sweep(self) -> None:
        """Delete what expired and what killed servers left unfinished, and count the rest."""
        with self._lock:
            self.count = self.stored = 0
            for path in self._folder.iterdir():
                try:
                    status = path.stat()
                    if path.suffix == ".tmp":
                        sweep_unfinished(path)
                    elif path.suffix == ".tgz" and status.st_mtime + GRACE < time.time():
                        path.unlink()
                    elif path.suffix == ".tgz":
                        self.count += 1
                        self.stored += status.st_size
                except FileNotFoundError:
                    # Another server was faster.
                    continue


def full(most: int) -> Refusal:
    """Return the refusal of a save where all environments may take most bytes."""
    return Refusal(
        507,
        f"There is no room to save the environment: all of them may take {most} bytes. "
        "Room is made when some expire.",
    )


class Unfinished(io.FileIO):
    """A new file for writing, locked while it is open; take is asked before each write."""

    def __init__(self, path: Path, take: Callable[[int], None]) -> None:
        self.path = path
        self.taken = 0
        """How many bytes were written that are not yet counted as stored."""
        self._take = take
        while True:
            super().__init__(path, "x")
            fcntl.flock(self.fileno(), fcntl.LOCK_EX)
            # A sweep that came between the two took it for a stray.
            if os.fstat(self.fileno()).st_nlink:
                break

    def write(self, data: ReadableBuffer, /) -> int:
        """Write data, if there is room for it."""
        size = memoryview(data).nbytes
        self._take(size)
        self.taken += size
        return super().write(data)


def sweep_unfinished(path: Path) -> None:
    """Delete a file that nobody is writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        path.unlink()


def synchronize(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
