"""A bound on a whole call of a synchronous client, however many steps it takes.

httpx bounds each step by itself: a server that sends a byte a second keeps a call going for ever.
Here the time-outs given to httpx know the call's deadline, and the network below asks them, before
each step, how long that one may still take. (An asynchronous call is cancelled at its deadline.)
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    import httpx


# Most that is sent without asking for the time, in bytes.
SLICE = 64 * 1024


class Until(float):
    """The seconds until a deadline: at first as a number, and whenever asked."""

    deadline: float

    def __new__(cls, deadline: float) -> Until:
        """Make one for a deadline on the monotonic clock."""
        until = super().__new__(cls, max(deadline - time.monotonic(), 0.0))
        until.deadline = deadline
        return until


def left(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """Return how long a step may take: what is left of the call, where its time-out tells."""
    if not isinstance(timeout, Until):
        return timeout
    if (seconds := timeout.deadline - time.monotonic()) <= 0:
        raise late("the deadline has passed")
    return seconds


class TimedStream(httpcore.NetworkStream):
    """A connection whose every step is bounded by what is left of the call."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In slices, for httpcore asks for each buffer's time-out once, however large it is.
        for start in range(0, len(buffer), SLICE):
            self._stream.write(buffer[start : start + SLICE], left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        seconds = left(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def cut(self) -> None:
        """End what another thread waits for."""
        connection = self.get_extra_info("socket")
        with contextlib.suppress(OSError):
            # Not by an SSLSocket's own method, for it is in use.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class TimedBackend(httpcore.NetworkBackend):
    """What opens such connections."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend
        self.streams: WeakSet[TimedStream] = WeakSet()

    def _timed(self, stream: httpcore.NetworkStream) -> TimedStream:
        timed = TimedStream(stream)
        self.streams.add(timed)
        return timed

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # One address after the other: the socket module would give each the whole time.
        failure = httpcore.ConnectError(f"{host} has no address")
        for address in addresses(host, port):
            seconds = left(timeout, httpcore.ConnectTimeout)
            try:
                return self._timed(
                    self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
                )
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = left(timeout, httpcore.ConnectTimeout)
        try:
            stream = self._backend.connect_unix_socket(path, seconds, socket_options)
        except httpcore.ConnectError as error:
            close_sockets(error.__traceback__)
            raise
        return self._timed(stream)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


def addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host. How long a resolver takes can't be bounded from here."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return [str(address[0]) for *_, address in found]


def close_sockets(traceback: TracebackType | None) -> None:
    """Close what httpcore 1.0 leaves to the garbage collector where a socket can't be connected."""
    while traceback is not None:
        for value in traceback.tb_frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()
        traceback = traceback.tb_next


def obey_deadlines(client: httpx.Client) -> None:
    """Make the connections of a client ask their time-outs before each step."""
    # httpx offers no way to choose the network below its transports, proxies' included. Where
    # these attributes are other than expected, steps are bounded each by itself, as in httpx.
    for pool in _pools(client):
        backend = getattr(pool, "_network_backend", None)
        if backend is not None and not isinstance(backend, TimedBackend):
            pool._network_backend = TimedBackend(backend)


def abandon(client: httpx.Client) -> None:
    """Close the connections of a client that came with a fork, without a word on the wire.

    `client.close()` could wait for a lock that a thread of the parent held.
    """
    for pool in _pools(client):
        if isinstance(backend := getattr(pool, "_network_backend", None), TimedBackend):
            for stream in [*backend.streams]:
                stream.close()


def cut_streams(client: httpx.Client) -> None:
    """End the calls that other threads make over a client: what they wait for fails.

    One that is just connecting may escape.
    """
    for pool in _pools(client):
        if isinstance(backend := getattr(pool, "_network_backend", None), TimedBackend):
            with contextlib.suppress(RuntimeError):  # a thread that adds one meanwhile
                for stream in [*backend.streams]:
                    stream.cut()


def _pools(client: httpx.Client) -> Iterator[Any]:
    for transport in [client._transport, *client._mounts.values()]:  # pyright: ignore[reportPrivateUsage]
        if (pool := getattr(transport, "_pool", None)) is not None:
            yield pool
