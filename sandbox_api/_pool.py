"""Connections in use, and idle ones for other requests, below httpx.

httpcore's pool looks at every connection for each request, and can't tell whether a server that
closed one had read the request. These take its place; what goes through proxies stays with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import httpx

from ._connection import NotAsked, Stale, connect
from ._http import body_length
from ._lighter import Response
from ._steps import Signal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator

    from ._connection import Connection, Origin, Timeouts
    from ._steps import Step

# Most connections at a time.
LIMIT = 100

# Shorter than servers keep idle connections (5 s and more), in seconds.
IDLE = 2.0


class Pool:
    """What both flavours share. Idle connections are reused, the last first."""

    def __init__(
        self,
        context: ssl.SSLContext,
        path: str | None,
        event: Callable[[], Any],
        body: Callable[[Pool, Connection, float | None], Any],
    ) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._context = context
        self._path = path
        self._event = event
        self._body = body
        # Taken again where a collector of garbage runs inside, and ends a reply that was left half
        # read: so there, whatever is called may change all of these.
        self._lock = threading.RLock()
        self._places = LIMIT
        self._waiting: deque[Any] = deque()  # the events of requests that have none
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last used first
        # Whether the server asks for bodies where it is told to, as far as is known.
        self._asks = True
        self._closed = False

    def handle(self, request: httpx.Request) -> Generator[Step, Any, httpx.Response]:
        """Send a request, and return the response when its head has come."""
        extensions = request.extensions
        timeouts: Timeouts = extensions.get("timeout", {})
        yield from self._take_place(timeouts.get("pool"))
        try:
            connection = yield from self._ask(request, timeouts, extensions.get("sni_hostname"))
        except BaseException:
            self._leave_place()
            raise
        reply = connection.reply
        stream: Any
        if reply.ended:  # whole with its head, as small ones mostly are
            stream = httpx.ByteStream(reply.take())
            self.take_back(connection)
        else:
            stream = self._body(self, connection, timeouts.get("read"))
        return Response(
            reply.status,
            headers=reply.headers,
            stream=stream,
            extensions={
                "http_version": f"HTTP/{reply.version}".encode(),
                "reason_phrase": reply.reason,
            },
        )

    def take_back(self, connection: Connection) -> None:
        """Take back the connection of a reply that nobody will read on."""
        if self._closed or not connection.recycle():
            self._drop(connection)
        else:
            old: list[Connection] = []
            with self._lock:
                self._idle.insert(0, connection)
                while expired(self._idle[-1]):
                    old.append(self._idle.pop())
            for each in old:
                self._drop(each)
        self._leave_place()

    def shut(self) -> None:
        """Close all connections; what is sent over them fails."""
        self._closed = True
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)
        self.cut()

    def cut(self) -> None:
        """End what is sent over all connections: it fails."""
        for connection in self._connections.copy():
            connection.cut()

    def abandon(self) -> None:
        """Close all connections in this process only, whoever holds a lock."""
        for connection in self._connections.copy():
            connection.close()

    def _ask(
        self, request: httpx.Request, timeouts: Timeouts, name: str | None
    ) -> Generator[Step, Any, Connection]:
        url, headers = request.url, request.headers.raw
        scheme = url.raw_scheme
        origin = scheme, url.raw_host, url.port or (443 if scheme == b"https" else 80)
        length = body_length(headers)
        connection = None
        if self._asks if length != 0 else request.method in {"GET", "HEAD"}:
            connection = self._take_idle(origin)
        while True:
            if connection is None:
                connection = yield from self._connect(origin, name, timeouts.get("connect"))
            try:
                yield from connection.ask(request, headers, length, timeouts)
            except Stale as reason:
                self._drop(connection)
                self._asks = self._asks and not isinstance(reason, NotAsked)
                connection = None
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection

    def _connect(
        self, origin: Origin, name: str | None, timeout: float | None
    ) -> Generator[Step, Any, Connection]:
        with self._lock:
            full = len(self._connections) >= LIMIT and self._idle
            oldest = self._idle.pop() if full else None
        if oldest is not None:
            self._drop(oldest)
        connection = yield from connect(origin, self._path, self._context, name, timeout)
        self._connections.add(connection)
        if self._closed:  # meanwhile
            connection.cut()
        return connection

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, if it can be used again."""
        while True:
            with self._lock:
                for connection in self._idle:
                    if connection.origin == origin:
                        self._idle.remove(connection)
                        break
                else:
                    return None
            if not expired(connection) and connection.alive:
                return connection
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._connections.discard(connection)

    def _take_place(self, timeout: float | None) -> Generator[Step, Any, None]:
        event = None
        while True:
            with self._lock:
                if self._places:
                    self._places -= 1
                    return
                if event is not None:
                    self._waiting.append(event)
                    break
            event = self._event()  # meanwhile, a place may become free
        come = False
        try:
            come = yield Signal(event, timeout)
        finally:
            if not come:
                try:
                    with self._lock:
                        self._waiting.remove(event)
                except ValueError:  # it came too late
                    self._leave_place()
        if not come:
            raise httpx.PoolTimeout("no connection became free in time")

    def _leave_place(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._places += 1


def expired(connection: Connection) -> bool:
    """Tell whether a connection was idle too long."""
    return time.monotonic() - connection.since > IDLE


class Body:
    """The body of a reply, which either flavour reads, and ends by that or before."""

    def __init__(self, pool: Pool, connection: Connection, timeout: float | None) -> None:
        self._pool = pool
        self._connection = connection
        self._timeout = timeout
        self._taken_back = False

    def read(self) -> Generator[Step, Any, bytes]:
        """Read what has come of it, at least something; nothing at its end."""
        return self._connection.read(self._timeout)

    def end(self) -> None:
        """Give the connection back."""
        if not self._taken_back:
            self._taken_back = True
            self._pool.take_back(self._connection)
