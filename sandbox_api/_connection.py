"""One connection to a server: HTTP/1.1 by h11, over a socket that never blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

import h11
import httpx

from ._deadline import left
from ._steps import READ, WRITE, Checkpoint, LookUp, Pause, Ready

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from ._resolver import Address
    from ._steps import Step

# How long to wait for a server to ask for a body, at most, in seconds. RFC 9110, 10.1.1: not for
# ever.
CONTINUE = 1.0

# How long an address may be silent before the next is tried, in seconds: a packet that was lost is
# sent again after one.
SILENCE = 2.0

# Most that is read at once, in bytes, and longest head of a reply.
READ_SIZE = 64 * 1024
HEAD_SIZE = 100 * 1024

# How most servers ask for a body.
ASKED = b"HTTP/1.1 100 Continue\r\n\r\n"

IN_PROGRESS = {errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}

Origin = tuple[bytes, bytes, int]
Headers = list[tuple[bytes, bytes]]
Timeouts = dict[str, float | None]


class Stale(Exception):
    """A connection that was used before is of no use, and the server did nothing."""


class NotAsked(Stale):
    """It is not, for the server does not ask for bodies."""


class Socket(socket.socket):
    """A socket that an event loop may watch, and read ahead."""

    ahead: bytes | OSError | None = None
    """What has been read, or why that failed."""

    watch: Any = None
    """What watches it, to be stopped before it is closed."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return super().recv(size, flags)
        if isinstance(ahead, OSError):
            raise ahead
        return ahead

    def stop_watching(self) -> None:
        if self.watch is not None:
            self.watch.stop()

    def close(self) -> None:
        self.stop_watching()
        super().close()


class Connection:
    """A connection to a server, for one request at a time."""

    def __init__(self, socket: socket.socket, origin: Origin) -> None:
        self.origin = origin
        """Scheme, host and port of the server."""
        self.response: h11.Response | None = None
        """The head of the reply, when it has come."""
        self.ended = False
        """Whether the reply has come whole."""
        self.used = False
        """Whether it served a request before."""
        self.since = 0.0
        """Since when it is idle, on the monotonic clock."""
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_SIZE)
        self._heard = False
        self._unframed = False

    def ask(
        self, request: httpx.Request, headers: Headers, timeouts: Timeouts, *, body: bool
    ) -> Generator[Step, Any, None]:
        """Send a request, which has a body or not, and read the head of the reply.

        A server may be closing a connection that was idle as a request is sent, and nobody could
        tell whether it read that. So there, a request with a body goes as far as its head first,
        with `Expect: 100-continue`: without the body, the server can't have begun the work.

        Raises:
            Stale: the server does nothing of it; another connection can be taken.
            httpx.NetworkError, httpx.RemoteProtocolError: it broke, or is not HTTP.
        """
        writing, reading = timeouts.get("write"), timeouts.get("read")
        stream = cast("Iterable[bytes]", request.stream)
        expecting = self.used and body
        if expecting:
            headers = [*headers, (b"Expect", b"100-continue")]
        self.response, self.ended, self._heard = None, False, False
        try:
            pending = self._send(
                h11.Request, method=request.method, target=request.url.raw_path, headers=headers
            )
            if expecting:
                yield from self._write(pending, writing)
                yield from self._wait_to_continue(reading)
                pending = b""
            if self.response is None:
                expecting = False
                # A server that refuses a body may close the connection, having said why.
                with contextlib.suppress(httpx.WriteError):
                    yield from self._write_body(pending, stream, writing)
                yield from self._read_head(reading)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            # What has no body may be repeated, and is, if the server said nothing.
            if expecting or (self.used and not body and not self._heard):
                raise Stale from error
            raise
        # The real server answers HEAD with a body, where it announces no length.
        self._unframed = request.method == "HEAD" and b"content-length" not in dict(
            cast("h11.Response", self.response).headers
        )

    def read(self, timeout: float | None) -> Generator[Step, Any, bytes]:
        """Read what has come of the reply's body, at least something; nothing at its end."""
        chunks: list[bytes] = []
        while not self.ended:
            event = self._next_event()
            if isinstance(event, h11.Data):
                chunks.append(event.data)
            elif event is not h11.NEED_DATA:
                self.ended = True
            elif chunks:
                break
            else:
                data = yield from self._receive(timeout)
                self._http.receive_data(data)
                if len(data) == READ_SIZE:
                    yield Checkpoint()
        return b"".join(chunks)

    def recycle(self) -> bool:
        """Make it ready for another request, if it can be."""
        states = (self._http.our_state, self._http.their_state)
        if self._unframed or states != (h11.DONE, h11.DONE) or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self.used = True
        self.since = time.monotonic()
        return True

    @property
    def alive(self) -> bool:
        """Whether, idle as it was, it can be used again, as far as is known."""
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False  # it is closed, or says what nobody asked for

    def close(self) -> None:
        """Close it, without a word on the wire."""
        self._socket.close()

    def cut(self) -> None:
        """End it for whoever uses it, who will close it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS

    def _wait_to_continue(self, timeout: float | None) -> Generator[Step, Any, None]:
        """Wait until the server asks for the body, or answers.

        Raises:
            NotAsked: it does neither.
        """
        bound = left(timeout, httpx.ReadTimeout)
        # Of a call that is short of time, it must not take the most.
        until = time.monotonic() + (CONTINUE if bound is None else min(CONTINUE, bound / 4))
        while True:
            try:
                data = yield from self._receive(max(until - time.monotonic(), 0))
            except httpx.ReadTimeout:
                raise NotAsked from None
            if data == ASKED and not self._unread:  # h11 need not look at it
                return
            self._http.receive_data(data)
            while (event := self._next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code == 100:
                        return
                elif isinstance(event, h11.Response):
                    if event.status_code == 417:  # RFC 9110, 15.5.18: it can't do this
                        raise NotAsked
                    self.response = event
                    return

    def _write_body(
        self, pending: bytes, stream: Iterable[bytes], timeout: float | None
    ) -> Generator[Step, Any, None]:
        """Send a body, in pieces of some size, until the server answers that it won't have it."""
        size, chunks = 0, list[bytes]()
        for chunk in stream:
            chunks.append(chunk)
            size += len(chunk)
            if size >= READ_SIZE:
                pending += self._send(h11.Data, data=b"".join(chunks))
                yield from self._write(pending, timeout)
                yield Checkpoint()
                if self._refused:
                    return
                pending, size, chunks = b"", 0, []
        if chunks:
            pending += self._send(h11.Data, data=b"".join(chunks))
        yield from self._write(pending + self._send(h11.EndOfMessage), timeout)

    def _write(self, data: bytes, timeout: float | None) -> Generator[Step, Any, None]:
        """Send data, listening meanwhile, until the server answers that it won't have it."""
        unsent = memoryview(data)
        listening = READ
        while unsent and not self._refused:
            seconds = left(timeout, httpx.WriteTimeout)
            try:
                unsent = unsent[self._socket.send(unsent) :]
                continue
            except (BlockingIOError, ssl.SSLWantWriteError):
                events = WRITE | listening
            except ssl.SSLWantReadError:
                events = READ
            except OSError as error:
                raise httpx.WriteError(str(error)) from error
            found = yield Ready(self._socket, events, seconds)
            if not found:
                raise httpx.WriteTimeout("the server did not read on in time")
            if found & listening and not self._listen():
                listening = 0

    def _listen(self) -> bool:
        """Take in what has come; tell whether there may be more to hear while writing."""
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False  # as the next step will say
        if not data:
            return False
        self._heard = True
        self._http.receive_data(data)
        while self.response is None and (event := self._next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self.response = event
        return self.response is None

    @property
    def _refused(self) -> bool:
        return self.response is not None and self.response.status_code >= 300

    @property
    def _unread(self) -> bool:
        """Whether there is something of which h11 has yet to make something."""
        return bool(self._http.trailing_data[0])

    def _read_head(self, timeout: float | None) -> Generator[Step, Any, None]:
        while self.response is None:
            event = self._next_event() if self._unread else h11.NEED_DATA
            if isinstance(event, h11.Response):
                self.response = event
            elif event is h11.NEED_DATA:
                data = yield from self._receive(timeout)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise httpx.RemoteProtocolError("no reply before it closed the connection")
                self._http.receive_data(data)

    def _receive(self, timeout: float | None) -> Generator[Step, Any, bytes]:
        while True:
            seconds = left(timeout, httpx.ReadTimeout)
            try:
                data = self._socket.recv(READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                events = READ
            except ssl.SSLWantWriteError:
                events = WRITE
            except OSError as error:
                raise httpx.ReadError(str(error)) from error
            else:
                self._heard = self._heard or bool(data)
                return data
            if not (yield Ready(self._socket, events, seconds)):
                raise httpx.ReadTimeout("the server sent nothing in time")

    def _send(self, event: type[h11.Event], **parts: Any) -> bytes:
        try:
            return self._http.send(event(**parts)) or b""
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error

    def _next_event(self) -> Any:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error


def has_body(headers: Headers) -> bool:
    """Tell whether a request with these headers has a body."""
    return any(
        value != b"0" if name.lower() == b"content-length" else name.lower() == b"transfer-encoding"
        for name, value in headers
    )


def connect(
    origin: Origin,
    path: str | None,
    context: ssl.SSLContext,
    name: str | None,
    timeout: float | None,
) -> Generator[Step, Any, Connection]:
    """Connect to a server, or to the Unix socket that leads there.

    `name` is what its certificate has to be for, if not the host.

    Raises:
        httpx.ConnectError: it can't be reached, or not safely.
        httpx.ConnectTimeout: that took too long.
    """
    scheme, host, port = origin[0], origin[1].decode("ascii"), origin[2]
    if path is not None:
        seconds = left(timeout, httpx.ConnectTimeout)
        plain = yield from connect_to((socket.AF_UNIX, path), seconds)
    else:
        plain = yield from connect_to_any(host, port, timeout)
    if scheme == b"https":
        plain = yield from secure(plain, context, name or host, timeout)
    return Connection(plain, origin)


def connect_to_any(
    host: str, port: int, timeout: float | None
) -> Generator[Step, Any, socket.socket]:
    """Connect to one of a host's addresses."""
    addresses: list[Address] = yield LookUp(host, port, left(timeout, httpx.ConnectTimeout))
    failure: Exception = httpx.ConnectError(f"{host} has no address")
    for number, address in enumerate(addresses, 1):
        seconds = left(timeout, httpx.ConnectTimeout)
        if number < len(addresses):
            seconds = SILENCE if seconds is None else min(seconds, SILENCE)
        try:
            return (yield from connect_to(address, seconds))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure


def connect_to(address: Address, seconds: float | None) -> Generator[Step, Any, socket.socket]:
    """Connect to an address."""
    family, place = address
    until = None if seconds is None else time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        made = Socket(family, socket.SOCK_STREAM)
        stack.callback(made.close)
        try:
            made.setblocking(False)
            if not isinstance(place, str):
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What a Unix socket says whose server has yet to accept others; it is not in progress.
            while (code := made.connect_ex(place)) == errno.EAGAIN and isinstance(place, str):
                if until is not None and time.monotonic() > until:
                    raise httpx.ConnectTimeout("the server accepted no connection in time")
                yield Pause(0.01)
            if code in IN_PROGRESS:
                if not (yield Ready(made, WRITE, seconds)):
                    raise httpx.ConnectTimeout("the server did not answer in time")
                code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        stack.pop_all()
    return made


def secure(
    plain: socket.socket, context: ssl.SSLContext, host: str, timeout: float | None
) -> Generator[Step, Any, ssl.SSLSocket]:
    """Put TLS onto a connection."""
    with contextlib.ExitStack() as stack:
        stack.callback(plain.close)
        try:
            tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            stack.callback(tls.close)
            while True:
                seconds = left(timeout, httpx.ConnectTimeout)
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    events = READ
                except ssl.SSLWantWriteError:
                    events = WRITE
                else:
                    stack.pop_all()
                    return tls
                if not (yield Ready(tls, events, seconds)):
                    raise httpx.ConnectTimeout("the handshake of TLS took too long")
        except (OSError, ValueError) as error:
            raise httpx.ConnectError(str(error)) from error
