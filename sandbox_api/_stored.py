"""Environments that are stored on a server, as objects."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Unpack

from . import _operations
from .environment import EnvironmentFile, list_environment

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from ._settings import CallOptions
    from .asandbox import ASandbox
    from .sandbox import Sandbox


class _Stored:
    def __init__(self, uuid: UUID | str, expires: datetime | None) -> None:
        self.uuid = uuid
        """Id of the environment."""
        self.expires = expires
        """When it will be deleted, where that is known."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uuid}>"


class Environment(_Stored):
    r"""An environment that is stored on a sandbox server: see Sandbox.environment.

    Paths are of files inside the environment, to the letter; without one, the whole environment is
    meant, as a gzipped tar archive. Methods take the options of all calls, and raise Sandbox404
    where the environment is not stored, or the file not in it.

    Example:

        >>> result = sandbox.execute({"commands": ["echo 17 > marks"], "save": True})
        >>> result.saved.read_text("marks")
        '17\n'
        >>> [file.name for file in result.saved.files()]
        ['marks']
    """

    def __init__(self, sandbox: Sandbox, uuid: UUID | str, expires: datetime | None = None) -> None:
        super().__init__(uuid, expires)
        self._sandbox = sandbox

    def size(self, path: str | None = None, **options: Unpack[CallOptions]) -> int:
        """Return the size in bytes, 0 if not found."""
        return self._sandbox.check(self.uuid, path, **options)

    def exists(self, path: str | None = None, **options: Unpack[CallOptions]) -> bool:
        """Tell whether it is there, be it empty."""
        call = _operations.exists(self.uuid, path)
        return self._sandbox._perform(call, options)  # pyright: ignore[reportPrivateUsage]

    def files(self, **options: Unpack[CallOptions]) -> list[EnvironmentFile]:
        """Return the names, sizes and types of all files, read from the archive.

        Raises:
            InvalidEnvironment: what the server sent is no archive.
        """
        with tempfile.TemporaryFile() as file:
            for chunk in self._sandbox.iter_download(self.uuid, **options):
                file.write(chunk)
            file.seek(0)
            return [*list_environment(file)]

    def read_bytes(self, path: str, **options: Unpack[CallOptions]) -> bytes:
        """Return what a file holds."""
        return self._sandbox.download(self.uuid, path, **options).getvalue()

    def read_text(self, path: str, encoding: str = "utf-8", **options: Unpack[CallOptions]) -> str:
        """Return what a file holds, as text.

        Raises:
            UnicodeDecodeError: it is not in this encoding.
        """
        stream = self._sandbox.download(self.uuid, path, **options)
        return stream.getvalue().decode(encoding)

    def download_to(
        self,
        destination: str | os.PathLike[str],
        path: str | None = None,
        *,
        extract: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Path:
        """Download to a file, or unpack into a folder; see Sandbox.download_to."""
        return self._sandbox.download_to(
            destination, self.uuid, path, extract=extract, progress=progress, **options
        )


class AEnvironment(_Stored):
    r"""An environment that is stored on a sandbox server: see ASandbox.environment.

    Paths are of files inside the environment, to the letter; without one, the whole environment is
    meant, as a gzipped tar archive. Methods take the options of all calls, and raise Sandbox404
    where the environment is not stored, or the file not in it.

    Example:

        >>> result = await sandbox.execute({"commands": ["echo 17 > marks"], "save": True})
        >>> await result.saved.read_text("marks")
        '17\n'
        >>> [file.name for file in await result.saved.files()]
        ['marks']
    """

    def __init__(
        self, sandbox: ASandbox, uuid: UUID | str, expires: datetime | None = None
    ) -> None:
        super().__init__(uuid, expires)
        self._sandbox = sandbox

    async def size(self, path: str | None = None, **options: Unpack[CallOptions]) -> int:
        """Return the size in bytes, 0 if not found."""
        return await self._sandbox.check(self.uuid, path, **options)

    async def exists(self, path: str | None = None, **options: Unpack[CallOptions]) -> bool:
        """Tell whether it is there, be it empty."""
        call = _operations.exists(self.uuid, path)
        return await self._sandbox._perform(call, options)  # pyright: ignore[reportPrivateUsage]

    async def files(self, **options: Unpack[CallOptions]) -> list[EnvironmentFile]:
        """Return the names, sizes and types of all files, read from the archive.

        Raises:
            InvalidEnvironment: what the server sent is no archive.
        """
        with tempfile.TemporaryFile() as file:
            async for chunk in self._sandbox.iter_download(self.uuid, **options):
                file.write(chunk)
            file.seek(0)
            return [*list_environment(file)]

    async def read_bytes(self, path: str, **options: Unpack[CallOptions]) -> bytes:
        """Return what a file holds."""
        return (await self._sandbox.download(self.uuid, path, **options)).getvalue()

    async def read_text(
        self, path: str, encoding: str = "utf-8", **options: Unpack[CallOptions]
    ) -> str:
        """Return what a file holds, as text.

        Raises:
            UnicodeDecodeError: it is not in this encoding.
        """
        return (
            (await self._sandbox.download(self.uuid, path, **options)).getvalue().decode(encoding)
        )

    async def download_to(
        self,
        destination: str | os.PathLike[str],
        path: str | None = None,
        *,
        extract: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Path:
        """Download to a file, or unpack into a folder; see ASandbox.download_to."""
        return await self._sandbox.download_to(
            destination, self.uuid, path, extract=extract, progress=progress, **options
        )
