"""Orders to the driver of a box, and its answers: an own folder and two pipes between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .output import Pipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .output import Output

DRIVER = Path(__file__).with_name("driver.sh").read_bytes()
# No answer is as long.
LINE = 64


class ChannelError(RuntimeError):
    """There is nobody at the other end any more."""


class Channel:
    """The server's side of the conversation. The folder control is empty and only read inside.

    What runs in a box has its driver's account, and may write anything in its name.
    """

    def __init__(self, control: Path) -> None:
        self.control = control
        self._folder = str(control)
        self._number = 0
        self._listens = False
        # The answer to what was asked last, and who waits for it.
        self._code: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._text = b""
        # Where commands write to, for standard output and error, and how many there were.
        self._pipes: list[Pipe] = []
        self._pairs = 0
        self._command = -1
        orders, self._orders = os.pipe()
        self._replies, replies = os.pipe()
        self.ends: tuple[int, ...] = (orders, replies)
        """The driver's descriptors for orders and answers, open until it has them."""

    def open(self) -> None:
        """Prepare the folder and listen, from before the driver starts."""
        self._show("driver", DRIVER)
        asyncio.get_running_loop().add_reader(self._replies, self._read)
        self._listens = True

    def handed_over(self) -> None:
        """Close the driver's descriptors, which it has now itself."""
        while self.ends:
            os.close(self.ends[0])
            self.ends = self.ends[1:]

    def set(self, environ: Mapping[str, str]) -> None:
        """Set the environment variables of commands, before the first of them."""
        lines = (f"{name}={value}\0" for name, value in environ.items())
        self._show("environ", "".join(lines).encode())

    def prepare(self) -> None:
        """Make what the next command needs, while there is time."""
        if self._command < 0:
            self._command = self._make("command")
        if not self._pipes:
            self._pairs += 1
            for end in ("out", "err"):
                self._pipes.append(Pipe(f"{self._folder}/{self._pairs}.{end}"))

    def send(self, command: str, limit: int) -> tuple[Output, Output]:
        """Have a command run, and return its standard output and error, each kept up to limit.

        Whatever comes of it, there has to be an end of it by `finish`.
        """
        self.prepare()
        self._number += 1
        fill(self._command, command.encode() + b"\0")
        self._code = None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, b"%d %d\n" % (self._number, self._pairs))
        stdout, stderr = self._pipes
        return stdout.listen(limit), stderr.listen(limit)

    def finish(self) -> None:
        """Take what the command wrote that was sent last, and no more."""
        free = [pipe.finish() for pipe in self._pipes]
        if not all(free):
            # What the command left running would write into the output of the next.
            self._close_pipes()

    async def answer(self, seconds: float) -> int:
        """Return the exit code of the command that was sent last; 0 when the driver is ready.

        To be awaited once at a time. Raise ChannelError when the driver is dead, and TimeoutError
        after so many seconds.
        """
        if self._code is None and self._listens:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        if self._code is None:
            if self._listens:
                raise TimeoutError
            raise ChannelError("the driver of a sandbox died")
        return self._code

    def close(self) -> None:
        """Close everything."""
        self.handed_over()
        asyncio.get_running_loop().remove_reader(self._replies)
        os.close(self._replies)
        os.close(self._orders)
        self._close_pipes()
        if self._command >= 0:
            os.close(self._command)
        # Quicker than whoever does not know what is in it.
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):  # noqa: PTH208
                os.unlink(f"{self._folder}/{name}")  # noqa: PTH108

    def _read(self) -> None:
        data = os.read(self._replies, 4096)
        if not data:
            asyncio.get_running_loop().remove_reader(self._replies)
            self._listens = False
            self._wake()
            return
        *lines, rest = (self._text + data).split(b"\n")
        self._text = rest[:LINE]
        for line in lines:
            number, _, exit_code = line.partition(b" ")
            if (
                len(line) < LINE
                and number.isdigit()
                and exit_code.isdigit()
                and int(number) == self._number
                and int(exit_code) < 256
                and self._code is None
            ):
                self._code = int(exit_code)
                self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _close_pipes(self) -> None:
        while self._pipes:
            self._pipes.pop().close()

    def _show(self, name: str, content: bytes) -> None:
        descriptor = self._make(name)
        try:
            fill(descriptor, content)
        finally:
            os.close(descriptor)

    def _make(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(f"{self._folder}/{name}", flags, 0o600)
        # Whatever the server's umask is.
        os.fchmod(descriptor, 0o644)
        return descriptor


def fill(descriptor: int, content: bytes) -> None:
    """Have a file contain content."""
    os.ftruncate(descriptor, 0)
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], done)
