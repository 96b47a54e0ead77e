"""Saved environments: one archive each, until they expire."""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# How often to look for expired environments, in seconds.
SWEEP = 600.0


class Store:
    """Environments in one folder, each kept for lifetime seconds from its making."""

    def __init__(self, folder: Path, lifetime: float) -> None:
        self._folder = folder
        self._lifetime = lifetime
        self._swept = 0.0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for unfinished in folder.glob("*.tmp"):
            unfinished.unlink()
        self.sweep()

    def find(self, identifier: str) -> Path | None:
        """Return the archive of an environment, or None when there is none or it has expired."""
        self.sweep()
        # Names come from outside, and must not lead elsewhere.
        if not UUID.fullmatch(identifier):
            return None
        path = self._folder / f"{identifier}.tgz"
        return path if self._remaining(path) > 0 else None

    def add(self, write: Callable[[BinaryIO], None]) -> tuple[uuid.UUID, datetime]:
        """Store what write writes, whole or not at all; return its id and when it expires."""
        identifier = uuid.uuid4()
        path = self._folder / f"{identifier}.tgz"
        unfinished = path.with_suffix(".tmp")
        try:
            with unfinished.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        expire = path.stat().st_mtime + self._lifetime
        return identifier, datetime.fromtimestamp(expire, UTC)

    def sweep(self) -> None:
        """Delete expired environments, if that was not done lately."""
        if time.monotonic() - self._swept < SWEEP:
            return
        self._swept = time.monotonic()
        for path in self._folder.glob("*.tgz"):
            if self._remaining(path) <= 0:
                path.unlink(missing_ok=True)

    def _remaining(self, path: Path) -> float:
        try:
            return path.stat().st_mtime + self._lifetime - time.time()
        except FileNotFoundError:
            return 0.0
