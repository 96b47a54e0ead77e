"""Orders to the driver of a box, and its answers: an own folder and two pipes between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._next: tuple[Output, Output] | None = None
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
        """Make the pipes for the output of the next command, while there is time."""
        if self._next is None:
            base = f"{self._folder}/{self._number + 1}"
            stdout = Output(f"{base}.out")
            try:
                self._next = stdout, Output(f"{base}.err")
            except BaseException:
                stdout.close()
                raise

    def send(self, command: str, limit: int) -> tuple[Output, Output]:
        """Have a command run, and return its standard output and error, each kept up to limit.

        They have to be closed.
        """
        self.prepare()
        self._number += 1
        self._show(f"{self._number}.command", command.encode() + b"\0")
        self._code = None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, b"%d\n" % self._number)
        outputs, self._next = self._next, None
        assert outputs  # noqa: S101
        for output in outputs:
            output.listen(limit)
        return outputs

    async def answer(self) -> int:
        """Return the exit code of the command that was sent last; 0 when the driver is ready.

        To be awaited once at a time. Raise ChannelError when the driver is dead.
        """
        while self._code is None:
            if not self._listens:
                raise ChannelError("the driver of a sandbox died")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._code

    def close(self) -> None:
        """Close everything."""
        self.handed_over()
        asyncio.get_running_loop().remove_reader(self._replies)
        os.close(self._replies)
        os.close(self._orders)
        for output in self._next or ():
            output.close()
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

    def _show(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(f"{self._folder}/{name}", flags, 0o600)
        try:
            while content:
                content = content[os.write(descriptor, content) :]
            # Whatever the server's umask is.
            os.fchmod(descriptor, 0o644)
        finally:
            os.close(descriptor)
