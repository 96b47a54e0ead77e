"""Waiting, in a thread or in a task.

What may take time is written once, as a generator that yields each `Step` it has to wait for. The
two flavours differ in how a step is waited for, and in nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.lowlevel
import httpcore

from ._network import numeric, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._network import Address

T = TypeVar("T")

# The longest that systems can be told to wait, in seconds.
LONGEST = 1e6

READ, WRITE = 1, 2

# anyio before 4.7 has them by these names.
wait_readable: Any = getattr(anyio, "wait_readable", None) or anyio.wait_socket_readable  # pyright: ignore[reportDeprecated]
wait_writable: Any = getattr(anyio, "wait_writable", None) or anyio.wait_socket_writable  # pyright: ignore[reportDeprecated]


class Step(Protocol):
    """Something that may take time."""

    def block(self) -> Any:
        """Wait for it in this thread."""

    async def suspend(self) -> Any:
        """Wait for it in this task."""


def block(steps: Generator[Step, Any, T]) -> T:
    """Take all steps, in this thread."""
    try:
        step = next(steps)
        while True:
            step = steps.send(step.block())
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def suspend(steps: Generator[Step, Any, T]) -> T:
    """Take all steps, in this task."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await step.suspend())
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


class Ready:
    """A socket can be read or written, or has failed; gives for what, 0 if it takes too long."""

    __slots__ = ("_events", "_seconds", "_socket")

    def __init__(self, socket: socket.socket, events: int, seconds: float | None) -> None:
        self._socket = socket
        self._events = events
        self._seconds = None if seconds is None else min(seconds, LONGEST)

    def block(self) -> int:
        if not hasattr(select, "poll"):  # Windows
            reading = [self._socket] if self._events & READ else []
            writing = [self._socket] if self._events & WRITE else []
            found = select.select(reading, writing, [self._socket], self._seconds)
            return READ * bool(found[0]) | WRITE * bool(found[1]) | self._events * bool(found[2])
        poll = select.poll()
        poll.register(
            self._socket,
            select.POLLIN * bool(self._events & READ) | select.POLLOUT * bool(self._events & WRITE),
        )
        for _, mask in poll.poll(None if self._seconds is None else self._seconds * 1000):
            if mask & ~(select.POLLIN | select.POLLOUT):  # an error, as the next step will say
                return self._events
            return READ * bool(mask & select.POLLIN) | WRITE * bool(mask & select.POLLOUT)
        return 0

    async def suspend(self) -> int:
        if in_asyncio():
            with contextlib.suppress(NotImplementedError):  # Windows' usual loop
                return await self._suspend_in_asyncio()
        return await self._suspend_anywhere()

    async def _suspend_in_asyncio(self) -> int:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        descriptor = self._socket.fileno()
        reading, writing = self._events & READ, self._events & WRITE
        timer = None
        try:
            if reading:
                loop.add_reader(descriptor, settle, future, READ)
            if writing:
                loop.add_writer(descriptor, settle, future, WRITE)
            if self._seconds is not None:
                timer = loop.call_later(self._seconds, settle, future, 0)
            return await future
        finally:
            if reading:
                loop.remove_reader(descriptor)
            if writing:
                loop.remove_writer(descriptor)
            if timer is not None:
                timer.cancel()

    async def _suspend_anywhere(self) -> int:
        found = 0

        async def wait(event: int, until_ready: Callable[[Any], Any]) -> None:
            nonlocal found
            await until_ready(self._socket)
            found |= event
            group.cancel_scope.cancel()

        with anyio.move_on_after(self._seconds):
            async with anyio.create_task_group() as group:
                if self._events & READ:
                    group.start_soon(wait, READ, wait_readable)
                if self._events & WRITE:
                    group.start_soon(wait, WRITE, wait_writable)
        return found


def settle(future: asyncio.Future[int], found: int) -> None:
    if not future.done():
        future.set_result(found)


def in_asyncio() -> bool:
    """Tell whether this is a task of asyncio; trio may run as a guest of its loop."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


class LookUp:
    """The addresses of a host become known."""

    def __init__(self, host: str, port: int, seconds: float | None) -> None:
        self._host = host
        self._port = port
        self._seconds = seconds

    def block(self) -> list[Address]:
        return resolve(self._host, self._port, self._seconds)

    async def suspend(self) -> list[Address]:
        if known := numeric(self._host, self._port):
            return known
        with anyio.move_on_after(self._seconds):
            try:
                found = await anyio.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError(str(error)) from error
            return [(family, address) for family, *_, address in found]
        raise httpcore.ConnectTimeout(f"looking up {self._host} took too long")


class Pause:
    """Some time passes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def block(self) -> None:
        time.sleep(self._seconds)

    async def suspend(self) -> None:
        await anyio.sleep(self._seconds)


class Signal:
    """An event is set, of threading or of anyio; tells whether it was in time."""

    def __init__(self, event: Any, seconds: float | None) -> None:
        self._event = event
        self._seconds = None if seconds is None else min(seconds, LONGEST)

    def block(self) -> bool:
        self._event.wait(self._seconds)
        return self._event.is_set()  # type: ignore[no-any-return]

    async def suspend(self) -> bool:
        with anyio.move_on_after(self._seconds):
            await self._event.wait()
        return self._event.is_set()  # type: ignore[no-any-return]


class Checkpoint:
    """Other tasks have their turn, which those of a fast connection would never leave them."""

    def block(self) -> None:
        pass

    async def suspend(self) -> None:
        await anyio.lowlevel.checkpoint()
