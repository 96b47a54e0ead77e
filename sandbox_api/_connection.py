"""One connection to a server: HTTP/1.1 over a socket that never blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

import httpx

from ._deadline import left
from ._http import Reply, Unsendable, chunk, head
from ._steps import READ, WRITE, Checkpoint, LookUp, Pause, Ready

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from ._http import Headers
    from ._resolver import Address
    from ._steps import Step

# How long to wait for a server to ask for a body, at most, in seconds. RFC 9110, 10.1.1: not for
# ever.
CONTINUE = 1.0

# How long an address may be silent before the next is tried, in seconds: a packet that was lost is
# sent again after one.
SILENCE = 2.0

# Most that is read at once, in bytes, and once a body is longer than that: such a buffer is fast to
# fill, but slow to make for each small reply. A body is sent in pieces of the first.
READ_SIZE = 64 * 1024
BODY_SIZE = 256 * 1024

IN_PROGRESS = {errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}

Origin = tuple[bytes, bytes, int]
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
        self.reply = Reply("")
        """What has come of the reply to its request."""
        self.used = False
        """Whether it served a request before."""
        self.since = 0.0
        """Since when it is idle, on the monotonic clock."""
        self._socket = socket
        self._heard = False
        self._sent = False  # the request, whole

    def ask(
        self, request: httpx.Request, headers: Headers, length: int | None, timeouts: Timeouts
    ) -> Generator[Step, Any, None]:
        """Send a request, whose body is that long or in chunks, and read the head of the reply.

        A server may be closing a connection that was idle as a request is sent, and nobody could
        tell whether it read that. So there, a request with a body goes as far as its head first,
        with `Expect: 100-continue`: without the body, the server can't have begun the work.

        Raises:
            Stale: the server does nothing of it; another connection can be taken.
            httpx.NetworkError, httpx.RemoteProtocolError: it broke, or is not HTTP.
        """
        writing, reading = timeouts.get("write"), timeouts.get("read")
        expecting = self.used and length != 0
        if expecting:
            headers = [*headers, (b"Expect", b"100-continue")]
        self.reply = reply = Reply(request.method)
        self._heard = self._sent = False
        pending = head(request.method, request.url.raw_path, headers)
        try:
            if expecting:
                yield from self._write(pending, writing)
                yield from self._wait_to_continue(reading)
                pending = b""
            if not reply.status:
                expecting = False
                # A server that refuses a body may close the connection, having said why.
                with contextlib.suppress(httpx.WriteError):
                    stream = cast("Iterable[bytes]", request.stream)
                    yield from self._write_rest(pending, stream, length, writing)
                while not reply.status:
                    reply.receive((yield from self._receive(reading)))
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            # What has no body may be repeated, and is, if the server said nothing.
            if expecting or (self.used and length == 0 and not self._heard):
                raise Stale from error
            raise

    def read(self, timeout: float | None) -> Generator[Step, Any, bytes]:
        """Read what has come of the reply's body, at least something; nothing at its end."""
        while not (found := self.reply.take()) and not self.reply.ended:
            data = yield from self._receive(timeout, BODY_SIZE)
            self.reply.receive(data)
            if len(data) >= READ_SIZE:
                yield Checkpoint()
        return found

    def recycle(self) -> bool:
        """Make it ready for another request, if it can be."""
        self.used = self._sent and self.reply.ended and self.reply.reusable
        self.since = time.monotonic()
        return self.used

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
            Stale: nor does it in the little time that there is, which proves nothing of others.
        """
        bound = left(timeout, httpx.ReadTimeout)
        # Of a call that is short of time, it must not take the most.
        seconds = CONTINUE if bound is None else min(CONTINUE, bound / 4)
        until = time.monotonic() + seconds
        while True:
            try:
                data = yield from self._receive(max(until - time.monotonic(), 0))
            except httpx.ReadTimeout:
                raise (NotAsked if seconds == CONTINUE else Stale) from None
            self.reply.receive(data)
            if self.reply.status == 417:  # RFC 9110, 15.5.18: it can't do this
                raise NotAsked
            if self.reply.status or self.reply.asked:
                return

    def _write_rest(
        self, pending: bytes, stream: Iterable[bytes], length: int | None, timeout: float | None
    ) -> Generator[Step, Any, None]:
        """Send what is left of a request, until the server answers that it won't have it."""
        total = 0
        for data in gathered(stream):
            total += len(data)
            if length is not None and total > length:
                raise Unsendable("its body became longer meanwhile")
            pending += chunk(data) if length is None else data
            if len(data) >= READ_SIZE:
                yield from self._write(pending, timeout)
                yield Checkpoint()
                if self._refused:
                    return
                pending = b""
        if length is None:
            pending += chunk(b"")
        elif total < length:
            raise Unsendable("its body became shorter meanwhile")
        yield from self._write(pending, timeout)
        self._sent = not self._refused

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
        self.reply.receive(data)
        return not self.reply.status

    @property
    def _refused(self) -> bool:
        return self.reply.status >= 300

    def _receive(self, timeout: float | None, size: int = READ_SIZE) -> Generator[Step, Any, bytes]:
        while True:
            seconds = left(timeout, httpx.ReadTimeout)
            try:
                data = self._socket.recv(size)
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


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body together, so that each is of some size, but the last."""
    some: list[bytes] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= READ_SIZE:
            yield b"".join(some)
            some, size = [], 0
    if size:
        yield b"".join(some)


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
