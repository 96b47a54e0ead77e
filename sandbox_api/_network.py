"""The network below httpcore, for proxies and clients of users: what both flavours of httpx lack.

* httpx bounds each step by itself: a server that sends a byte a second keeps a call going for ever.
  In a synchronous client, the time-outs given to httpx know the call's deadline, and the streams
  here ask them, before each step, how long that one may still take. (An asynchronous call is
  cancelled at its deadline.)
* asyncio drops what has arrived when a write fails, and with it the answer of a server that refuses
  an upload half-way. So an asynchronous client listens while it writes.

Here is also what ends the connections of any client from outside, as after a fork, and what leads
from a transport of httpx's own that is traced back to our pool.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

import anyio
import anyio.lowlevel
import httpcore
import httpx

from ._deadline import left
from ._resolver import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")

# Most that is sent without asking for the time, in bytes: what a record of TLS holds.
SLICE = 16 * 1024

PROXIES = (
    httpcore.HTTPProxy,
    httpcore.SOCKSProxy,
    httpcore.AsyncHTTPProxy,
    httpcore.AsyncSOCKSProxy,
)


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
        self.cut()
        self.abandon()

    def abandon(self) -> None:
        """Close it in this process only, without a word on the wire."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        if self.get_extra_info("ssl_object") is not None:
            return TunnelledStream(self, ssl_context, server_hostname, timeout)
        seconds = left(timeout, httpcore.ConnectTimeout)
        self._stream = self._stream.start_tls(ssl_context, server_hostname, seconds)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def cut(self) -> None:
        """End what another thread waits for, who would not notice that a socket is closed."""
        connection = self.get_extra_info("socket")
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                # Not by an SSLSocket's own method, for it is in use.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class TunnelledStream(httpcore.NetworkStream):
    """TLS to a server, inside the TLS to a proxy; httpcore's own gives each step all the time."""

    def __init__(
        self,
        stream: TimedStream,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float | None,
    ) -> None:
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = ssl_context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        try:
            self._perform(self._tls.do_handshake, timeout)
        except httpcore.TimeoutException as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except (ssl.SSLError, httpcore.NetworkError) as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error

    def _perform(self, step: Callable[[], T], timeout: float | None) -> T:
        """Do a step of TLS, with all that it has to read and write."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._stream.write(self._outgoing.read(), timeout)
                if chunk := self._stream.read(SLICE, timeout):
                    self._incoming.write(chunk)
                else:
                    self._incoming.write_eof()
            else:
                self._stream.write(self._outgoing.read(), timeout)
                return result

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._perform(functools.partial(self._tls.read, max_bytes), timeout)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            while buffer:
                step = functools.partial(self._tls.write, buffer[:SLICE])
                sent = self._perform(step, timeout)
                buffer = buffer[sent:]
        except ssl.SSLError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)


class TimedBackend(httpcore.NetworkBackend):
    """What opens such connections."""

    def __init__(self, backend: httpcore.NetworkBackend, *, proxied: bool) -> None:
        self._backend = backend
        self._proxied = proxied
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
        try:
            return self._connect(host, port, timeout, local_address, socket_options)
        except (httpcore.ConnectError, httpx.ConnectError) as error:
            if self._proxied:
                raise failed(error, host, port) from error
            raise

    def _connect(
        self, host: str, port: int, timeout: float | None, *options: Any
    ) -> httpcore.NetworkStream:
        # One address after the other: the socket module would give each the whole time.
        failure = httpcore.ConnectError(f"{host} has no address")
        for _, (address, *_) in resolve(host, port, left(timeout, httpcore.ConnectTimeout)):
            seconds = left(timeout, httpcore.ConnectTimeout)
            try:
                return self._timed(self._backend.connect_tcp(address, port, seconds, *options))
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

    def cut(self) -> None:
        """End what is sent over all connections: it fails."""
        with contextlib.suppress(RuntimeError):  # a thread that adds one meanwhile
            for stream in [*self.streams]:
                stream.cut()

    def abandon(self) -> None:
        """Close all connections in this process only, whoever holds a lock."""
        for stream in [*self.streams]:
            stream.abandon()


def close_sockets(traceback: TracebackType | None) -> None:
    """Close what httpcore 1.0 leaves to the garbage collector where a socket can't be connected."""
    while traceback is not None:
        for value in traceback.tb_frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()
        traceback = traceback.tb_next


class ListeningStream(httpcore.AsyncNetworkStream):
    """A connection that is read while it is written to."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._early: bytes | None = None
        self._sent = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        self._sent = 0
        if self._early is None:
            return await self._stream.read(max_bytes, timeout)
        early, rest = self._early[:max_bytes], self._early[max_bytes:]
        self._early = rest or None
        return early

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._sent += len(buffer)
        # What is small goes out at once, unless there is an answer already.
        if self._sent <= SLICE and not self.get_extra_info("is_readable"):
            return await self._stream.write(buffer, timeout)
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen)
            # The rounds that an event loop takes to start listening, and to read.
            for _ in range(3):
                if self._early is None and self.get_extra_info("is_readable"):
                    await anyio.lowlevel.checkpoint()
            try:
                await self._stream.write(buffer, timeout)
            except Exception as error:  # a group would wrap it
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return None

    async def _listen(self) -> None:
        if self._early is None:
            with contextlib.suppress(httpcore.ReadError):  # as the next read will say
                self._early = await self._stream.read(SLICE)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return ListeningStream(await self._stream.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class ListeningBackend(httpcore.AsyncNetworkBackend):
    """What opens such connections."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, *, proxied: bool) -> None:
        self._backend = backend
        self._proxied = proxied

    async def connect_tcp(
        self, host: str, port: int, *arguments: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._backend.connect_tcp(host, port, *arguments, **options)
        except httpcore.ConnectError as error:
            if self._proxied:
                raise failed(error, host, port) from error
            raise
        return ListeningStream(stream)

    async def connect_unix_socket(
        self, *arguments: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        return ListeningStream(await self._backend.connect_unix_socket(*arguments, **options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def failed(error: Exception, host: str, port: int) -> httpcore.ConnectError:
    """Return an error that tells that it is a proxy which can't be reached."""
    place = f"the proxy {host}:{port}, given or in HTTP_PROXY or the like"
    return httpcore.ConnectError(f"{place}: {error}")


class Beneath:
    """What is below a transport of httpx's own that is traced: our own again."""

    def __init__(self, handle: Callable[[httpx.Request], Any]) -> None:
        self._handle = handle

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        return as_httpcore(self._handle(as_httpx(request)))

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        return as_httpcore(await self._handle(as_httpx(request)))


def as_httpx(request: httpcore.Request) -> httpx.Request:
    """Return a request that httpx's transport made for httpcore as it was."""
    url = request.url
    return httpx.Request(
        request.method.decode("ascii"),
        httpx.URL(
            scheme=url.scheme.decode("ascii"),
            host=url.host.decode("ascii"),
            port=url.port,
            raw_path=url.target,
        ),
        headers=request.headers,
        stream=cast("Any", request.stream),
        extensions=cast("Any", request).extensions,
    )


def as_httpcore(response: httpx.Response) -> httpcore.Response:
    """Return a response as httpx's transport takes it from httpcore."""
    return httpcore.Response(
        response.status_code,
        headers=response.headers.raw,
        content=cast("Any", response.stream),
        extensions=response.extensions,
    )


def adapt(client: httpx.Client | httpx.AsyncClient) -> None:
    """Put these networks below the transports of a client, proxies' included."""
    # httpx offers no way to choose them. Where its attributes are other than expected, steps are
    # bounded each by itself, and answers that come early are lost, as in httpx.
    for pool in _pools(client):
        backend = getattr(pool, "_network_backend", None)
        proxied = isinstance(pool, PROXIES)
        if isinstance(backend, httpcore.NetworkBackend) and not isinstance(backend, TimedBackend):
            pool._network_backend = TimedBackend(backend, proxied=proxied)
        if isinstance(backend, httpcore.AsyncNetworkBackend) and not isinstance(
            backend, ListeningBackend
        ):
            pool._network_backend = ListeningBackend(backend, proxied=proxied)


def abandon(client: httpx.Client | httpx.AsyncClient) -> None:
    """Close the connections of a client that came with a fork, without a word on the wire.

    `client.close()` could wait for a lock that a thread of the parent held.
    """
    for network in _networks(client):
        network.abandon()


def cut(client: httpx.Client) -> None:
    """End the calls that other threads make over a client: what they wait for fails."""
    for network in _networks(client):
        network.cut()


def _networks(client: httpx.Client | httpx.AsyncClient) -> Iterator[Any]:
    """Yield what knows the connections of a client: our own pool, and what is below httpcore's."""
    below = [getattr(pool, "_network_backend", None) for pool in _pools(client)]
    for network in [client._transport, *below]:  # pyright: ignore[reportPrivateUsage]
        if hasattr(network, "abandon"):
            yield network


def _pools(client: httpx.Client | httpx.AsyncClient) -> Iterator[Any]:
    for transport in [client._transport, *client._mounts.values()]:  # pyright: ignore[reportPrivateUsage]
        if (pool := getattr(transport, "_pool", None)) is not None:
            yield pool
