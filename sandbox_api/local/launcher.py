"""Have processes started by another, small one: see `launch`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .cell import readable
from .launch import SIZE
from .layout import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cell import Start

SCRIPT = Path(__file__).with_name("launch.py")


class LaunchError(RuntimeError):
    """A process could not be started."""


class Launcher:
    """Start processes as account, or as this process's own.

    They are killed with the launcher, unless it spares them. If it can, it mounts for all of them
    what tree shows, and puts them into networks; tree tells whether it can.
    """

    def __init__(
        self, account: int | None, *, tree: Tree | None = None, spares: bool = False
    ) -> None:
        self._tree = tree or Tree()
        self._options = ["" if account is None else str(account), "spares" if spares else ""]
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._open()

    async def ready(self) -> None:
        """Wait until it runs, and the tree tells whether it is mounted. Not to be cancelled."""
        if self._runs:
            return
        # If it was killed, there will be another one, which says that again.
        with contextlib.suppress(ConnectionError, EOFError):
            async with self._lock:
                await self._greeted()

    async def launch(self, start: Start, folder: Path) -> tuple[int, int]:
        """Start a process in folder, in a session of its own, and return its id and a pidfd.

        Not to be cancelled. Raise LaunchError when it does not start.
        """
        wanted = {
            "command": start.command,
            "folder": [str(folder)],
            "numbers": [str(number) for number in start.descriptors],
        }
        if start.environ is not None:
            wanted["environ"] = [f"{name}={value}" for name, value in start.environ.items()]
        descriptors = [*start.descriptors.values()]
        if start.network is not None:
            descriptors.append(start.network)
        async with self._lock:
            try:
                return await self._ask(json.dumps(wanted).encode(), descriptors)
            except (ConnectionError, EOFError):
                # It was killed; so were all that it started, but another one may do better.
                self.close()
                self._open()
                try:
                    return await self._ask(json.dumps(wanted).encode(), descriptors)
                except (ConnectionError, EOFError) as error:
                    raise LaunchError("the launcher of sandboxes was killed") from error

    def close(self) -> None:
        """End the launcher, and with it what it started and does not spare."""
        if self._process:
            self._socket.close()
            self._process.wait()
            self._process = None

    def _open(self) -> None:
        self._runs = False
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with other:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(SCRIPT), str(other.fileno()), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
                cwd="/",
            )
        # Should it be dead already, whoever asks it for something will notice.
        with contextlib.suppress(ConnectionError):
            self._socket.send(json.dumps([self._tree.mounts(), self._tree.memory]).encode())

    async def _ask(self, text: bytes, descriptors: Iterable[int]) -> tuple[int, int]:
        if len(text) > SIZE:
            raise LaunchError("the command line is too long")
        await self._greeted()
        socket.send_fds(self._socket, [text], list(descriptors))
        answer, found = await self._answer()
        if not found:
            raise LaunchError(answer.decode(errors="replace"))
        os.set_inheritable(found[0], False)
        return int(answer), found[0]

    async def _greeted(self) -> None:
        if not self._runs:
            answer, _ = await self._answer()
            self._runs, self._tree.mounted = True, answer == b"1"

    async def _answer(self) -> tuple[bytes, list[int]]:
        await readable(self._socket.fileno())
        answer, found, _, _ = socket.recv_fds(self._socket, SIZE, 1)
        if not answer:
            raise EOFError
        return answer, found
