"""Waiting in threads, and what sends requests so."""

from __future__ import annotations

import select
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from ._lighter import About, Lighter, traced
from ._pool import Body, Pool
from ._resolver import resolve
from ._steps import LONGEST, READ, WRITE, Checkpoint, LookUp, Pause, Ready, Signal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterator

    from ._resolver import Address
    from ._steps import Step

T = TypeVar("T")


def ready(step: Ready) -> int:
    seconds = None if step.seconds is None else min(step.seconds, LONGEST)
    reading, writing = step.events & READ, step.events & WRITE
    if not hasattr(select, "poll"):  # Windows
        each = [step.socket]
        found = select.select(each if reading else [], each if writing else [], each, seconds)
        return READ * bool(found[0]) | WRITE * bool(found[1]) | step.events * bool(found[2])
    poll = select.poll()
    poll.register(step.socket, select.POLLIN * bool(reading) | select.POLLOUT * bool(writing))
    for _, mask in poll.poll(None if seconds is None else seconds * 1000):
        if mask & ~(select.POLLIN | select.POLLOUT):  # an error, as the next step will say
            return step.events
        return READ * bool(mask & select.POLLIN) | WRITE * bool(mask & select.POLLOUT)
    return 0


def look_up(step: LookUp) -> list[Address]:
    return resolve(*step)


def pause(step: Pause) -> None:
    time.sleep(step.seconds)


def signal(step: Signal) -> bool:
    come: bool = step.event.wait(None if step.seconds is None else min(step.seconds, LONGEST))
    return come


def checkpoint(_: Checkpoint) -> None:
    """Threads have their turns anyway."""


WAYS: dict[type, Callable[[Any], Any]] = {
    Ready: ready,
    LookUp: look_up,
    Pause: pause,
    Signal: signal,
    Checkpoint: checkpoint,
}


def block(steps: Generator[Step, Any, T]) -> T:
    """Take all steps, in this thread."""
    try:
        step = next(steps)
        while True:
            step = steps.send(WAYS[type(step)](step))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


class BlockingBody(Body, httpx.SyncByteStream):
    """The body of a reply."""

    def __iter__(self) -> Iterator[bytes]:
        while data := block(self.read()):
            yield data

    def close(self) -> None:
        self.end()


class Transport(Pool, httpx.HTTPTransport):
    """A pool for threads, which is a transport of httpx's; what traces those sees it too."""

    def __init__(self, context: ssl.SSLContext, path: str | None) -> None:
        super().__init__(context, path, threading.Event, BlockingBody)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if traced(httpx.HTTPTransport.handle_request):
            return super().handle_request(request)
        return block(self.handle(request))

    @property
    def _pool(self) -> Any:  # type: ignore[override]  # what httpx's own way leads to
        from ._network import Beneath

        return Beneath(lambda request: block(self.handle(request)))

    def close(self) -> None:
        self.shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client(Lighter, httpx.Client):
    """httpx's client over such a transport."""

    # Not given to it: a client that is given a transport doesn't look for proxies.
    def _init_transport(self, *_: Any, **options: Any) -> Transport:
        return Transport(options["verify"], self._path)

    def send(
        self, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        if not (stream and self.light):
            return super().send(request, stream=stream, **options)
        started = time.perf_counter()
        with About(request):
            response = self._transport.handle_request(request)
        return self.answered(request, response, started)
