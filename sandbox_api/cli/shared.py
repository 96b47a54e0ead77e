"""What several commands need: a sandbox, exit codes, and output for people or programs."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    from rich.progress import Progress

    from sandbox_api import Sandbox

# Exit codes beside the execution's own, as coreutils' timeout, shells and sysexits.h have them.
FAILED = 1
USAGE = 2
UNAVAILABLE = 69
OVERLOADED = 75
TIMED_OUT = 124
INTERRUPTED = 130


def fail(error: object, code: int) -> NoReturn:
    """End with a message on standard error."""
    text = error if not isinstance(error, Exception) else told(error)
    typer.echo(f"sandbox-api: {text}", err=True)
    raise typer.Exit(code)


def seconds(value: float) -> float:
    """Refuse what is in no range and out of none, as an option's callback."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number of seconds")
    return value


def counted(number: int, what: str) -> str:
    """Return how many of something there are."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def told(error: Exception) -> str:
    """Return what went wrong, in the words of a shell where it is of the system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@contextlib.contextmanager
def failures() -> Generator[None]:
    """End with the exit code that tells what went wrong."""
    from sandbox_api import (
        ExecutionFailed,
        InvalidEnvironment,
        InvalidURL,
        Sandbox400,
        Sandbox401,
        Sandbox429,
        Sandbox503,
        SandboxError,
        SandboxFailure,
        TimedOut,
    )

    try:
        yield
    except (FileNotFoundError, InvalidEnvironment, InvalidURL, Sandbox400) as error:
        fail(error, USAGE)
    except (Sandbox429, Sandbox503) as error:
        fail(error, OVERLOADED)
    except TimedOut as error:
        fail(error, TIMED_OUT)
    except SandboxFailure as error:
        fail(error, UNAVAILABLE)
    except Sandbox401 as error:
        fail(f"{error}; set SANDBOX_TOKEN to what it demands", FAILED)
    except (SandboxError, ExecutionFailed) as error:
        fail(error, FAILED)
    except BrokenPipeError:
        raise  # typer ends quietly
    except OSError as error:
        fail(error, FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def connected(url: str | None, timeout: float) -> Sandbox:
    """Return a client of the server that is named, or of a private local one."""
    from sandbox_api import Sandbox

    try:
        return Sandbox.local(timeout) if url is None else Sandbox(url, timeout)
    except ValueError as error:  # among them, of a token that can't be sent
        fail(error, USAGE)


def connected_to(url: str | None, timeout: float) -> Sandbox:
    """Return a client of the server that is named; a private one keeps nothing."""
    if not url:
        fail("environments are kept by a server: give its --url, or set SANDBOX_URL", USAGE)
    return connected(url, timeout)


def print_json(value: Any) -> None:
    """Print what the server sent, on a line."""
    # As it is now: progress puts what is printed above itself.
    typer.echo(json.dumps(value), file=sys.stdout)


def visible(value: object) -> str:
    """Return a value as text on a line: names are hostile, and not to move the cursor."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def print_table(rows: Iterable[Sequence[object]], *headers: str) -> None:
    """Print rows: drawn on a terminal, else separated by tabs."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(map(visible, row)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def flattened(value: Any, prefix: str = "") -> Iterable[tuple[str, object]]:
    """Yield the leaves of an object of JSON, with their paths."""
    if isinstance(value, dict):
        for key, member in cast("dict[str, Any]", value).items():
            yield from flattened(member, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def read(path: Path) -> bytes:
    """Return what a file holds, or standard input where it is `-`."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    if path.is_dir():
        fail(f"{path} is a directory, where a file must be", USAGE)
    return path.read_bytes()


def called(path: Path) -> str:
    """Return how to name a file, or standard input where it is `-`."""
    return "standard input" if str(path) == "-" else str(path)


def read_config(path: Path) -> dict[str, Any]:
    """Return a configuration from a file, or from standard input where it is `-`."""
    try:
        config = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        fail(f"{called(path)} is not JSON: {error}", USAGE)
    if not isinstance(config, dict):
        fail(f"{called(path)} holds no object", USAGE)
    return config  # pyright: ignore[reportUnknownVariableType]


@contextlib.contextmanager
def progress(*columns: Any) -> Generator[Progress]:
    """Show how far things are, on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    # Lines that are printed above it are the terminal's to wrap, or JSON would be cut into lines.
    console = Console(stderr=True, soft_wrap=True)
    # What goes into a pipe is not to be shown with it.
    together = sys.stdout.isatty()
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=together,
        disable=not sys.stderr.isatty(),
    ) as shows:
        yield shows


@contextlib.contextmanager
def transfer(what: str) -> Generator[Callable[[int, int | None], None]]:
    """Show how far a transfer is: call the value with the bytes done, and in all."""
    from rich import progress as columns

    with progress(
        columns.TextColumn("{task.description}"),
        columns.BarColumn(),
        columns.DownloadColumn(),
        columns.TransferSpeedColumn(),
        columns.TimeRemainingColumn(),
    ) as shows:
        task = shows.add_task(what, total=None)
        yield lambda done, total: shows.update(task, completed=done, total=total)


class Told(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, tell: Callable[[int, int | None], object]) -> None:
        self._file = file
        self._told = tell
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def readable(self) -> bool:
        """Tell so."""
        return True

    def seekable(self) -> bool:
        """Tell so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and tell how far that is."""
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._told(self._file.tell(), self._size)
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def close(self) -> None:
        """Close it, and the file."""
        self._file.close()
        super().close()


@contextlib.contextmanager
def uploading(path: Path | None) -> Generator[BinaryIO | None]:
    """Show how far an upload is, of a folder or archive."""
    from rich import progress as columns

    from sandbox_api.environment import open_environment

    if path is None:
        yield None
        return
    with progress(
        columns.SpinnerColumn(),
        columns.TextColumn("{task.description}"),
        columns.TimeElapsedColumn(),
    ) as shows:
        shows.add_task("Packing", total=None)
        stream = open_environment(path)
    with transfer("Uploading") as tell:
        # Of exactly this type, or the client would copy it first.
        yield io.BufferedReader(Told(stream, tell), 64 * 1024)
