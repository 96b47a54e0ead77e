"""Connections that are not let wait for ever: slow and too many clients are cut."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .engine import OVERLOADED
from .responses import plain

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

# How much of a request may come without an end of its head or a piece of its body, in bytes.
HEAD_SIZE = 64 * 1024
# How many requests may come before the first of them is answered; each takes some kilobytes.
WAITING = 100


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

    uvicorn bounds how long idle connections are kept; the application bounds how long the bodies
    that it waits for may take.
    """

    class Bounded(HttpToolsProtocol):
        # None comes from a connection that is lost.
        parser: HttpRequestParser
        _timer: asyncio.TimerHandle | None = None
        _state = ""
        _stalled: asyncio.TimerHandle | None = None
        # The part of a request that is coming: head, rest, or none.
        _part = ""
        # How much came since the parser last found something that is passed on.
        _size = 0
        # How much is to come of a body that is not parsed.
        _foreign = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # What is being answered, and what waits behind it.
            self._cycles: deque[RequestResponseCycle] = deque()
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
            # uvicorn tells only the last of several requests.
            for cycle in self._cycles:
                cycle.disconnected = True
                cycle.message_event.set()

        def data_received(self, data: bytes) -> None:
            self._unset_keepalive_if_required()
            self._part = self._part or "head"
            self._size += len(data)
            try:
                while data:
                    data = self._feed(data)
            except HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            if self._size > HEAD_SIZE and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")
            self._watch()

        def _feed(self, data: bytes) -> bytes:
            """Take in what came, up to the end of what is parsed; return the rest."""
            if self._foreign:
                piece, data = data[: self._foreign], data[self._foreign :]
                self._foreign -= len(piece)
                self.on_body(piece)
                if not self._foreign:
                    self.on_message_complete()
                return data
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                return data[upgrade.args[0] :]
            return b""

        def send_400_response(self, msg: str) -> None:
            if self._busy():
                # What came before is answered first, and then nothing more.
                self.flow.pause_reading()
                self.cycle.keep_alive = False
            else:
                super().send_400_response(msg)

        def on_message_begin(self) -> None:
            self._part = "head"
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            # What follows a body is of no use, and must not pass for a part of the head.
            if self._part == "head":
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._part, self._size = "rest", 0
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
                raise ValueError("a request needs one Host")
            if len(self._cycles) >= WAITING:
                raise ValueError("these are too many at once")
            if self.parser.should_upgrade():
                # The parser leaves the body to the other protocol, which is not spoken here.
                fields = dict(self.headers)
                if b"transfer-encoding" in fields:
                    raise ValueError("there is no telling where this ends")
                self._foreign = int(fields.get(b"content-length", b"0"))
            super().on_headers_complete()
            self._cycles.append(self.cycle)

        def on_body(self, body: bytes) -> None:
            self._size = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            if self._foreign:
                return
            self._part, self._size = "", 0
            super().on_message_complete()

        def on_response_complete(self) -> None:
            self._cycles.popleft()
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
            if self._busy():
                return ""
            return self._part if self.cycle else "head"

        def _busy(self) -> bool:
            # There is none before the first request, whatever its type says.
            cycle = cast("RequestResponseCycle | None", self.cycle)
            return cycle is not None and not cycle.response_complete

    return Bounded


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there are too many connections."""
    await plain(503, OVERLOADED, Connection="close")(scope, receive, send)
