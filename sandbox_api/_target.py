"""Where downloads go."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from .environment import extract_environment, place_for

if TYPE_CHECKING:
    import os
    from types import TracebackType


class Target:
    """Where a download goes: a file that appears whole or not at all, or a folder to unpack into.

    Raises:
        IsADirectoryError: a file is to go where a folder is.
        FileExistsError: it is to go where a device is, or a folder where there is something.
        FileNotFoundError: its folder does not exist.
    """

    def __init__(self, destination: str | os.PathLike[str], *, extract: bool) -> None:
        self.destination = Path(destination)
        self._extract = extract
        self._part: Path | None = None
        if extract:
            place_for(destination)  # before it is downloaded
            self.file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115
            return
        if self.destination.is_dir():
            raise IsADirectoryError(
                f"{self.destination} is a folder: name a file in it, or extract"
            )
        if self.destination.exists() and not self.destination.is_file():
            raise FileExistsError(f"{self.destination} is not a file: a pipe, device or the like")
        # Beside the destination, so that it can be renamed; not by tempfile, for the usual mode.
        self._part = self.destination.with_name(f".sandbox-{secrets.token_hex(8)}.part")
        try:
            self.file = self._part.open("xb")
        except OSError as error:
            error.filename = str(self.destination)  # which is what the user knows
            raise

    def __enter__(self) -> Self:
        return self

    def commit(self) -> None:
        """Put what was written in its place.

        Raises:
            InvalidEnvironment: it cannot be unpacked safely.
        """
        if self._extract:
            self.file.seek(0)
            extract_environment(self.file, self.destination)
        else:
            self.file.close()
            cast("Path", self._part).replace(self.destination)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()
        if self._part is not None:
            with suppress(FileNotFoundError):
                self._part.unlink()
