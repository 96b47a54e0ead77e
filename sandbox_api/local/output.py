"""Take what commands write, as much as is wanted of it."""

from __future__ import annotations

import asyncio
import os

CHUNK = 65536
# The most that an unprivileged process can make a pipe hold.
PIPE_SIZE = 1024 * 1024
# How long a pipe may fill before somebody looks into it, in seconds, and if there was nothing, how
# much longer before it is listened to. Most commands have ended by then, and what they wrote is read
# in one go; to listen takes much longer than to look.
PATIENCE, MORE = 0.004, 0.026


class Output:
    """What a command writes to one named pipe, up to a limit in bytes; the rest is dropped."""

    def __init__(self, path: str) -> None:
        self.data = bytearray()
        self.truncated = False
        self._limit = 0
        os.mkfifo(path)
        # Whatever the server's umask is.
        os.chmod(path, 0o666)  # noqa: PTH101, S103
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._timer: asyncio.TimerHandle | None = None
        self._listens = False

    def listen(self, limit: int) -> None:
        """Read from soon on."""
        self._limit = limit
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def close(self) -> None:
        """Read what is already there, and then no more."""
        if self._timer:
            self._timer.cancel()
            # A background process may go on writing, so not until the pipe is empty.
            for _ in range(PIPE_SIZE // CHUNK):
                if not self._read():
                    break
        self._deafen()
        os.close(self._pipe)

    def _look(self) -> None:
        if self._read():
            self._listen()
        else:
            self._timer = asyncio.get_running_loop().call_later(MORE, self._listen)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._pipe, self._read)
        self._listens = True

    def _deafen(self) -> None:
        if self._listens:
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._listens = False

    def _read(self) -> bool:
        try:
            chunk = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._deafen()
            return False
        room = self._limit - len(self.data)
        self.data += chunk[:room]
        self.truncated |= len(chunk) > room
        return True
