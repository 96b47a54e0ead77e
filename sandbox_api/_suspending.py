"""Waiting in tasks of asyncio or trio, and what sends requests so."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import anyio.lowlevel
import httpx

from ._connection import READ_SIZE, Socket
from ._lighter import About, Lighter, traced
from ._pool import Body, Pool
from ._resolver import numeric
from ._steps import LONGEST, READ, WRITE, Checkpoint, LookUp, Pause, Ready, Signal

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from ._resolver import Address
    from ._steps import Step

T = TypeVar("T")

# anyio before 4.7 has them by these names.
wait_readable: Any = getattr(anyio, "wait_readable", None) or anyio.wait_socket_readable  # pyright: ignore[reportDeprecated]
wait_writable: Any = getattr(anyio, "wait_writable", None) or anyio.wait_socket_writable  # pyright: ignore[reportDeprecated]


async def ready(step: Ready) -> int:
    if in_asyncio():
        try:
            return await ready_in_asyncio(step)
        except NotImplementedError:  # Windows' usual loop
            pass
    found = 0

    async def wait(event: int, until_ready: Callable[[Any], Any]) -> None:
        nonlocal found
        await until_ready(step.socket)
        found |= event
        group.cancel_scope.cancel()

    with anyio.move_on_after(step.seconds):
        async with anyio.create_task_group() as group:
            if step.events & READ:
                group.start_soon(wait, READ, wait_readable)
            if step.events & WRITE:
                group.start_soon(wait, WRITE, wait_writable)
    return found


async def ready_in_asyncio(step: Ready) -> int:
    """Wait as anyio does, without the tasks that it takes for that."""
    if isinstance(step.socket, Socket):
        if step.events == READ:
            watch: Watch = step.socket.watch or Watch(step.socket)
            step.socket.watch = watch
            return await watch.wait(step.seconds)
        step.socket.stop_watching()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    descriptor = step.socket.fileno()
    timer = None
    try:
        if step.events & READ:
            loop.add_reader(descriptor, settle, future, READ)
        if step.events & WRITE:
            loop.add_writer(descriptor, settle, future, WRITE)
        if step.seconds is not None:
            timer = loop.call_later(min(step.seconds, LONGEST), settle, future, 0)
        return await future
    finally:
        if step.events & READ:
            loop.remove_reader(descriptor)
        if step.events & WRITE:
            loop.remove_writer(descriptor)
        if timer is not None:
            timer.cancel()


class Watch:
    """Waits for what comes over a socket again and again.

    To tell a loop of a socket, and to take that back, takes it as long as all else that it does for
    a wait. So it is told once, and what comes is read at once, or the loop would tell it again. It
    is the same with the time: a timer goes on until it is due, and is then set for what is left.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._told = False
        self._waiting: asyncio.Future[int] | None = None
        self._until = math.inf  # when that has waited too long, on the loop's clock
        self._due = math.inf  # when the timer is, not later
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, seconds: float | None) -> int:
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting = future
        if not self._told:
            self._loop.add_reader(self._socket.fileno(), self._read)
            self._told = True
        self._until = math.inf if seconds is None else self._loop.time() + min(seconds, LONGEST)
        if self._until < self._due:
            self._set_timer()
        try:
            return await future
        finally:
            self._waiting = None

    def stop(self) -> None:
        # A forked child shares what the loop of its parent waits on.
        if not self._loop.is_closed() and self._process == os.getpid():
            if self._told:
                self._loop.remove_reader(self._socket.fileno())
            if self._waiting is None:
                self._cancel_timer()
        self._told = False

    def _set_timer(self) -> None:
        self._cancel_timer()
        self._due = self._until
        self._timer = self._loop.call_at(self._due, self._ring)

    def _cancel_timer(self) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        late, self._due = self._until <= self._due, math.inf
        if self._waiting is None:
            return
        if late:
            settle(self._waiting, 0)
        elif self._until < math.inf:
            self._set_timer()

    def _read(self) -> None:
        if self._waiting is None or self._waiting.done():
            self.stop()  # nobody would read it
            return
        try:
            self._socket.ahead = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._socket.ahead = error
        self._waiting.set_result(READ)


def settle(future: asyncio.Future[int], found: int) -> None:
    if not future.done():
        future.set_result(found)


def in_asyncio() -> bool:
    """Tell whether this is a task of asyncio; trio may run as a guest of its loop."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def running_loop() -> object:
    """Return the event loop that runs."""
    return asyncio.get_running_loop() if in_asyncio() else anyio.lowlevel.current_token()


async def look_up(step: LookUp) -> list[Address]:
    if known := numeric(step.host, step.port):
        return known
    with anyio.move_on_after(step.seconds):
        try:
            found = await anyio.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error)) from error
        return [(family, address) for family, *_, address in found]
    raise httpx.ConnectTimeout(f"looking up {step.host} took too long")


async def pause(step: Pause) -> None:
    await anyio.sleep(step.seconds)


async def signal(step: Signal) -> bool:
    with anyio.move_on_after(step.seconds):
        await step.event.wait()
    come: bool = step.event.is_set()
    return come


async def checkpoint(_: Checkpoint) -> None:
    await anyio.lowlevel.checkpoint()


WAYS: dict[type, Callable[[Any], Awaitable[Any]]] = {
    Ready: ready,
    LookUp: look_up,
    Pause: pause,
    Signal: signal,
    Checkpoint: checkpoint,
}


async def suspend(steps: Generator[Step, Any, T]) -> T:
    """Take all steps, in this task."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await WAYS[type(step)](step))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


class SuspendingBody(Body, httpx.AsyncByteStream):
    """The body of a reply."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await suspend(self.read()):
            yield data

    async def aclose(self) -> None:
        self.end()


class AsyncTransport(Pool, httpx.AsyncHTTPTransport):
    """A pool for the tasks of one event loop, which is a transport; see Transport."""

    def __init__(self, context: ssl.SSLContext, path: str | None) -> None:
        super().__init__(context, path, anyio.Event, SuspendingBody)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if traced(httpx.AsyncHTTPTransport.handle_async_request):
            return await super().handle_async_request(request)
        return await self._handle(request)

    @property
    def _pool(self) -> Any:  # type: ignore[override]  # what httpx's own way leads to
        from ._network import Beneath

        return Beneath(self._handle)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        stream: Any = request.stream
        if not hasattr(stream, "__iter__"):  # what a user's authentication may send
            request.stream = httpx.ByteStream(b"".join([chunk async for chunk in stream]))
        return await suspend(self.handle(request))

    async def aclose(self) -> None:
        self.shut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncClient(Lighter, httpx.AsyncClient):
    """httpx's client over such a transport."""

    # Not given to it: a client that is given a transport doesn't look for proxies.
    def _init_transport(self, *_: Any, **options: Any) -> AsyncTransport:
        return AsyncTransport(options["verify"], self._path)

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        if not (stream and self.light):
            return await super().send(request, stream=stream, **options)
        started = time.perf_counter()
        with About(request):
            response = await self._transport.handle_async_request(request)
        return self.answered(request, response, started)
