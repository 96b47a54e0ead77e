"""Saved environments that servers share: objects of a store that has a URL, over fsspec."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from .job import Refusal
from .store import UUID, Room, Store, full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from _typeshed import WriteableBuffer

# Stores of objects: what is written there appears when it is whole and not before, and folders are
# but parts of names. Elsewhere it is written under another name, and then moved.
OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
# What to make their clients with: parts in memory are small, and one at a time.
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}, "s3a": {"max_concurrency": 1}}

# How long an answer may take; and the end of an upload, where all of it may be copied, and a list
# of all environments. In seconds.
ANSWER, FINISH = 30.0, 120.0
# How many answers are waited for at once.
ASKED = 64

# What is sent at once, in bytes (S3 takes no less but at the end), and what is fetched.
PART = 8 * 1024 * 1024
BLOCK = 1024 * 1024

# For how long expired environments are still there, in seconds, so that a download of them comes to
# its end, and servers whose clocks differ delete none that others still promise.
GRACE = 3600.0

# How long what was counted holds, in seconds, and times what counting took. Once that share of the
# room is taken, all environments are counted after each save, too.
FRESH, PACE, TIGHT = 1.0, 20.0, 0.9

STORED = re.compile(r"(\d{1,19})\.tgz(\.tmp)?")
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL", re.IGNORECASE)
TEXTS = {
    500: "The environment could not be saved: the store does not answer. The commands were run.",
    503: "The store of environments does not answer, retry after a few seconds.",
}


class Unreachable(Refusal):
    """The store does not answer as it should; the reason is for the log, and shows no secret."""

    def __init__(self, reason: str, status: Literal[500, 503] = 503) -> None:
        super().__init__(status, TEXTS[status])
        self.reason = reason


def open_store(place: Path | str, lifetime: float, max_storage: int | None) -> Store | Remote:
    """Return the store in a folder, or the one that has a URL.

    Raise ImportError when a package for such URLs is missing, and Unreachable.
    """
    if isinstance(place, Path):
        return Store(place / "environments", lifetime, max_storage)
    return Remote(place, lifetime, max_storage)


class Remote(Room):
    """Environments below a URL.

    The object of an environment is UUID/EXPIRY.tgz: names are what all stores have, list quickly,
    and cannot change, so that all servers read the same time, in microseconds, whatever their
    settings are. Nothing but that time decides what is swept, so that any number of servers may.
    """

    def __init__(self, url: str, lifetime: float, max_storage: int | None = None) -> None:
        super().__init__(lifetime, max_storage)
        self._holds = 0.0
        self._since = 0.0  # when the count on record was begun
        self._added: dict[str, tuple[float, int]] = {}  # since then: when, and how large
        self._room = threading.Semaphore(ASKED)
        kind = url.partition("://")[0]
        self._whole = kind in OBJECTS
        core: Any = importlib.import_module("fsspec.core")
        # What others store must be seen at once.
        options = {"use_listings_cache": False, "skip_instance_cache": True}
        connect = partial(core.url_to_fs, url, **options, **OPTIONS.get(kind, {}))
        self._files, root = self._ask(connect)
        self._root = f"{root.rstrip('/')}/environments"
        self.sweep()

    def check(self) -> None:
        """Write something and remove it; raise Unreachable when that cannot be done."""
        path = f"{self._root}/{uuid.uuid4()}/0.tgz.tmp"
        self._make_folder(path)
        self._ask(self._files.pipe_file, path, b"\n")
        self._remove(path)

    def find(self, identifier: str) -> Found | None:
        """Return the archive of an environment, or None when there is none or it has expired."""
        # Names come from outside, and must not lead elsewhere.
        if not UUID.fullmatch(identifier):
            return None
        for each in self._list(f"{self._root}/{identifier}"):
            if not each.unfinished and each.expire > time.time():
                return each
        return None

    def check_room(self) -> None:
        """Raise Refusal when nothing more can be stored."""
        if self.reachable:
            self._look()
        else:
            # Rather now than when all was run.
            self._list(f"{self._root}/{uuid.uuid4()}")
        with self._lock:
            self._demand(1)

    def add(self, write: Callable[[BinaryIO], None]) -> tuple[uuid.UUID, datetime]:
        """Store what write writes, whole or not at all; return its id and when it expires.

        Raise Refusal when there is no room for it.
        """
        identifier = uuid.uuid4()
        expire, microseconds = self._expiry()
        path = f"{self._root}/{identifier}/{microseconds}.tgz"
        first = path if self._whole else f"{path}.tmp"
        upload = Upload(self._take)
        file: Any = None
        try:
            self._make_folder(first)
            file = self._ask(self._files.open, first, "wb", block_size=PART)
            upload.send = partial(self._ask, file.write)
            write(cast("BinaryIO", upload))
            upload.drain()
            self._ask(file.close, seconds=FINISH)
            if first != path:
                self._ask(self._files.mv, first, path, seconds=FINISH)
            self._settle(str(identifier), upload)
        except BaseException as error:
            self._abandon(file, {first, path})
            if isinstance(error, Unreachable):
                raise Unreachable(error.reason, 500) from None
            raise
        finally:
            with self._lock:
                self._writing -= upload.taken
        return identifier, expire

    def sweep(self) -> None:
        """Delete what expired, and count the rest."""
        for each in self._count(FINISH):
            if each.expire + GRACE < time.time():
                self._remove(each.path)

    def _count(self, seconds: float) -> list[Found]:
        started = time.monotonic()
        found = self._list(self._root, seconds)
        sizes = {each.identifier: each.size for each in found if not each.unfinished}
        with self._lock:
            if started > self._since:  # or another, begun later, has told more already
                self._since = started
                # What was added meanwhile is in the list, or not.
                self._added = {key: each for key, each in self._added.items() if each[0] >= started}
                sizes = {key: size for key, (_, size) in self._added.items()} | sizes
                self.count, self.stored = len(sizes), sum(sizes.values())
                now = time.monotonic()
                self._holds = now + max(FRESH, PACE * (now - started))
        return found

    def _list(self, folder: str, seconds: float | None = None) -> list[Found]:
        try:
            entries = self._ask(self._files.find, folder, detail=True, seconds=seconds)
        except FileNotFoundError:
            if self._whole:
                # Without the bucket nothing is known of what is in it.
                raise self._failure("there is no such bucket") from None
            return []
        found: list[Found] = []
        for path, entry in entries.items():
            if match := STORED.fullmatch(path.rpartition("/")[2]):
                expire, unfinished = int(match[1]) / 1e6, bool(match[2])
                read = partial(self._read, path)
                found.append(Found(path, entry["size"], expire, unfinished, read))
        return found

    def _read(self, path: str, start: int, end: int) -> bytes:
        try:
            content: bytes = self._ask(self._files.cat_file, path, start=start, end=end)
        except FileNotFoundError:
            raise Unreachable("an environment was removed while it was read") from None
        if len(content) != end - start:
            raise Unreachable(f"{len(content)} bytes came in place of {end - start}")
        return content

    def _make_folder(self, path: str) -> None:
        if not self._whole:
            self._ask(self._files.makedirs, path.rpartition("/")[0], exist_ok=True)

    def _remove(self, path: str) -> None:
        # Another server may have been faster.
        with contextlib.suppress(FileNotFoundError):
            self._ask(self._files.rm_file, path)
        if not self._whole:
            with contextlib.suppress(FileNotFoundError, Unreachable):
                self._ask(self._files.rmdir, path.rpartition("/")[0])

    def _abandon(self, file: Any, paths: set[str]) -> None:
        # What is thrown away unclosed would be closed then, and appear, half.
        with contextlib.suppress(AttributeError):
            file.closed = True

        def clean() -> None:
            with contextlib.suppress(Exception):
                # Whatever was begun; it may have come to its end.
                file.discard()
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(path)
            if not self._whole:
                self._files.rmdir(min(paths).rpartition("/")[0])

        # If it fails too, what is left expires.
        with contextlib.suppress(Unreachable, FileNotFoundError):
            self._ask(clean)

    def _take(self, size: int) -> None:
        self._look()
        super()._take(size)

    def _settle(self, identifier: str, upload: Upload) -> None:
        """Count what was added; raise Refusal when others took the room at the same time."""
        with self._lock:
            self._added[identifier] = time.monotonic(), upload.taken
            self.count += 1
            self.stored += upload.taken
            self._writing -= upload.taken
            upload.taken = 0
        most = self.max_storage
        if most is not None and self.stored + self._writing > TIGHT * most:
            # Whoever comes last sees all that were added, and so gives way.
            self._count(FINISH)
            if self.stored > most:
                with self._lock:
                    self._holds = 0.0
                    self._added.pop(identifier, None)
                raise full(most)

    def _look(self) -> None:
        """Count what others stored, when it is worth it."""
        if self.max_storage is not None and time.monotonic() > self._holds:
            self._count(ANSWER)

    def _ask(
        self,
        work: Callable[..., Any],
        *arguments: Any,
        seconds: float | None = None,
        **options: Any,
    ) -> Any:
        """Return what work returns, if it does so within seconds; else raise Unreachable.

        That a file or a package is not there is no failure of it, and raised as it is.
        """
        seconds = ANSWER if seconds is None else seconds
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(work(*arguments, **options))
            except BaseException as error:
                outcome.set_exception(error)
            finally:
                self._room.release()

        end = time.monotonic() + seconds
        if not self._room.acquire(timeout=seconds):
            raise self._failure(f"{ASKED} requests wait for it already")
        # One that never ends does not keep the server from ending.
        threading.Thread(target=run, daemon=True).start()
        try:
            answer = outcome.result(max(end - time.monotonic(), 0))
        except (FileNotFoundError, ImportError):
            raise
        except Exception as error:
            late = isinstance(error, TimeoutError) and not outcome.done()
            reason = f"no answer within {seconds:g} s" if late else described(error)
            raise self._failure(reason) from None
        self.reachable = True
        return answer

    def _failure(self, reason: str) -> Unreachable:
        self.reachable = False
        return Unreachable(reason)


@dataclass(frozen=True)
class Found:
    """A stored environment, opened as a Path is."""

    path: str
    size: int
    expire: float
    unfinished: bool
    read: Callable[[int, int], bytes]

    @property
    def identifier(self) -> str:
        """Its id."""
        return self.path.split("/")[-2]

    def open(self, _mode: Literal["rb"]) -> BinaryIO:
        """Open its archive; nothing is fetched before it is read."""
        return io.BufferedReader(Ranges(self.read, self.size), BLOCK)


class Ranges(io.RawIOBase):
    """A file that is read by ranges of it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read = read
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, up to the end of the file."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._size)
        if end <= self._position:
            return 0
        content = self._read(self._position, end)
        view[: len(content)] = content
        self._position = end
        return len(content)


class Upload:
    """What is written, in pieces; take is asked before each is sent."""

    send: Callable[[bytes], object]

    def __init__(self, take: Callable[[int], None]) -> None:
        self.taken = 0
        """How many bytes were sent."""
        self._take = take
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        """Write data."""
        self._waiting += data
        if len(self._waiting) >= BLOCK:
            self.drain()
        return len(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Write all pieces."""
        for piece in pieces:
            self.write(piece)

    def flush(self) -> None:
        """Do nothing: only whole pieces are sent."""

    def drain(self) -> None:
        """Send what waits."""
        size = len(self._waiting)
        self._take(size)
        self.taken += size
        self.send(bytes(self._waiting))
        self._waiting.clear()


def described(error: BaseException) -> str:
    """Return what an error says, in a line, without what may be secret."""
    text = " ".join(str(error).split())
    for name, value in os.environ.items():
        if len(value) >= 6 and SECRET.search(name):
            text = text.replace(value, "***")
    # Users of URLs, and what is signed.
    text = re.sub(r"//[^/@\s]+@", "//***@", text)
    text = re.sub(r"\?[^\s\"']+", "?***", text)
    return f"{type(error).__name__}: {text[:300]}"
