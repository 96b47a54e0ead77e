"""Connections that are not let wait for ever: slow and too many clients are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from .engine import OVERLOADED
from .responses import plain

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Bounds on connections. Times are in seconds, sizes in bytes."""

    connections: int = 1000
    """More are answered that the server is overloaded, and more than twice as many not at all."""

    head: float = 20.0
    """How long the head of a request may take, from its first byte or the connection's start."""

    rest: float = 5.0
    """How long the rest of a request is taken in, and dropped, once it is answered."""

    stall: float = 60.0
    """How long a client may leave the greater part of what it asked for unread."""


def protocol(patience: Patience) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for HTTP, with bounds.

    uvicorn bounds the size of heads and how long idle connections are kept; the application bounds
    how long the bodies that it waits for may take.
    """

    class Bounded(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _state = ""
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > 2 * patience.connections:
                transport.abort()
            elif len(self.connections) > patience.connections:
                self.app = overloaded
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._timer, self._stalled):
                if timer:
                    timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.transport.get_write_buffer_size()
            self._stalled = self.loop.call_later(patience.stall, self._check_reader)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled:
                self._stalled.cancel()

        def _check_reader(self) -> None:
            unread = self.transport.get_write_buffer_size()
            if unread > self._unread / 2:
                self.transport.abort()
                return
            self._unread = unread
            self._stalled = self.loop.call_later(patience.stall, self._check_reader)

        def _watch(self) -> None:
            """Start a timer when what the connection waits for is something else than before."""
            state = self._waits_for()
            if state == self._state:
                return
            self._state = state
            if self._timer:
                self._timer.cancel()
                self._timer = None
            if state:
                seconds = getattr(patience, state)
                self._timer = self.loop.call_later(seconds, self.transport.close)

        def _waits_for(self) -> str:
            # There is none before the first request, whatever its type says.
            cycle = cast("RequestResponseCycle | None", self.cycle)
            if cycle is not None and not cycle.response_complete:
                return ""
            if self.conn.their_state is h11.SEND_BODY:
                return "rest"
            return "head" if cycle is None or self.conn.trailing_data[0] else ""

    return Bounded


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there are too many connections."""
    await plain(503, OVERLOADED, Connection="close")(scope, receive, send)
