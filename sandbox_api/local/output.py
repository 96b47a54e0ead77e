"""Take what commands write, as much as is wanted of it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

CHUNK = 65536
# The most that an unprivileged process can make a pipe hold.
PIPE_SIZE = 1024 * 1024
# How long a pipe may fill before somebody looks into it, in seconds, and if there was nothing, how
# much longer before it is listened to. Most commands have ended by then, and what they wrote is
# read in one go; to listen takes much longer than to look.
PATIENCE, MORE = 0.004, 0.026


@dataclass
class Output:
    """What a command writes to one stream, up to a limit in bytes; the rest is dropped."""

    limit: int
    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False


class Pipe:
    """A named pipe for a stream of commands, one after another."""

    def __init__(self, path: str) -> None:
        self._output = Output(0)
        os.mkfifo(path)
        # Whatever the server's umask is.
        os.chmod(path, 0o666)  # noqa: PTH101, S103
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listens = False
        # Whether nobody had it open for writing at the last look.
        self._free = False

    def listen(self, limit: int) -> Output:
        """Read from soon on what the next command writes, and return where it is kept."""
        self._output = Output(limit)
        self._timer = self._loop.call_later(PATIENCE, self._look)
        return self._output

    def finish(self) -> bool:
        """Read what is already there, and then no more; tell whether nobody can write to it."""
        self._stop()
        # A background process may go on writing, so not until the pipe is empty.
        for _ in range(PIPE_SIZE // CHUNK):
            if not self._read():
                break
        return self._free

    def close(self) -> None:
        """Close it."""
        self._stop()
        os.close(self._pipe)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._deafen()

    def _look(self) -> None:
        if self._read():
            self._listen()
        else:
            self._timer = self._loop.call_later(MORE, self._listen)

    def _listen(self) -> None:
        self._loop.add_reader(self._pipe, self._hear)
        self._listens = True

    def _deafen(self) -> None:
        if self._listens:
            self._loop.remove_reader(self._pipe)
            self._listens = False

    def _hear(self) -> None:
        self._read()
        if self._free:
            # Somebody may open it yet; until then, it would say again and again that it has ended.
            self._deafen()
            self._timer = self._loop.call_later(MORE, self._listen)

    def _read(self) -> bool:
        self._free = False
        try:
            chunk = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return False
        self._free = not chunk
        room = self._output.limit - len(self._output.data)
        self._output.data += chunk[:room]
        self._output.truncated |= len(chunk) > room
        return bool(chunk)
