"""Boxes that were started before anybody asked for one; each serves one request."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .box import Box, BoxError, whole
from .cgroups import Groups
from .files import remove
from .launcher import Launcher, LaunchError
from .layout import quick
from .networks import Networks
from .undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .cell import Isolator
    from .limits import Limits

# How many boxes to start ahead at a time: more wait for each other in the kernel.
FILLERS = 2

# How long not to try again after a box did not start, in seconds.
REST = 1.0


class Pool:
    """Boxes below the folder work, up to a number of them started ahead.

    Before the first is taken it is only one, so that a server that serves one request or none is
    as quick to start. To be made, used and closed in one event loop.
    """

    def __init__(self, isolator: Isolator, work: Path, limits: Limits) -> None:
        self._isolator = isolator
        self._work = work
        self._limits = limits
        self._launcher = Launcher(isolator.starter, tree=isolator.tree, spares=isolator.spares)
        self._undertaker = Undertaker()
        for kind, name in isolator.remains():
            self._undertaker.take(kind, name)
        self._networks = Networks()
        self._groups = Groups(isolator.mounts, limits) if isolator.mounts else None
        for folder in set(self._groups.folders.values() if self._groups else ()):
            self._undertaker.take("group", folder)
        self._controls = Path(tempfile.mkdtemp(prefix="sandbox-control-", dir=quick(work)))
        self._undertaker.take("folder", self._controls)
        # Another account has to get at what is in it.
        self._controls.chmod(0o711)
        if self._groups:
            self._groups.open()
        self._number = 0
        self._ready: deque[Box] = deque()
        self._remains: dict[Box, contextlib.ExitStack] = {}
        self._size = min(1, limits.warm)
        self._closed = False
        self._filling: set[asyncio.Task[Any] | None] = set()
        self._taken = 0
        self._idle = asyncio.Event()

    @asynccontextmanager
    async def box(self) -> AsyncGenerator[Box]:
        """Give a box that nobody had before, and remove it in the end."""
        self._taken += 1
        self._idle.clear()
        try:
            box = await self._take()
            self._size = self._limits.warm
            self.fill()
            try:
                yield box
            finally:
                await whole(self._discard(box))
        finally:
            self._taken -= 1
            if not self._taken:
                self._idle.set()

    async def close(self) -> None:
        """Remove all boxes, when the taken ones have come back, and be of no more use."""
        self._closed = True
        if tasks := set(filter(None, self._filling)):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        while self._ready:
            await self._discard(self._ready.popleft())
        if self._taken:
            await self._idle.wait()
        await asyncio.to_thread(self._close)

    async def _take(self) -> Box:
        while self._ready:
            box = self._ready.popleft()
            if box.alive:
                return box
            await whole(self._discard(box))
        return await self._make()

    def fill(self) -> None:
        """Start boxes in the background until there are enough."""
        while not self._closed and self._missing > 0 and len(self._filling) < FILLERS:
            task = asyncio.get_running_loop().create_task(self._fill_up())
            self._filling.add(task)

    @property
    def _missing(self) -> int:
        """How many boxes to start, beside those that are being started."""
        return self._size - len(self._ready) - len(self._filling)

    async def _fill_up(self) -> None:
        try:
            while not self._closed and self._missing >= 0:
                self._ready.append(await self._make())
        except (BoxError, LaunchError, OSError):
            # Whoever needs one will try again, and say what is wrong.
            await asyncio.sleep(REST)
        finally:
            # At once, and not a moment later: it would be counted among those that go on.
            self._filling.discard(asyncio.current_task())

    async def _make(self) -> Box:
        """Start a box."""
        with contextlib.ExitStack() as stack:
            self._number += 1
            home = self._work / f"home-{self._number}"
            control = self._controls / str(self._number)
            for folder in (home, control):
                folder.mkdir(0o700)
                stack.callback(remove, folder)
                self._isolator.give(folder)
            group = self._groups.make() if self._groups else None
            if group:
                stack.callback(group.remove)
            places = home, control, group, self._networks
            box = Box(self._isolator, self._launcher, self._limits, *places)
            await box.start()
            self._remains[box] = stack.pop_all()
            return box

    async def _discard(self, box: Box) -> None:
        """End a box, and remove what it had."""
        try:
            await box.end()
        finally:
            remains = self._remains.pop(box)
            try:
                box.home.rmdir()
            except OSError:
                await asyncio.to_thread(remains.close)
            else:
                # Commands left nothing; another thread would take longer than what is to do.
                remains.close()

    def _close(self) -> None:
        self._launcher.close()
        self._networks.close()
        remove(self._controls)
        if self._groups:
            self._groups.close()
        self._undertaker.close()
