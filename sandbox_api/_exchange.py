"""What one call's exchange with the server comes to, whoever does the waiting. No I/O."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx

from sandbox_client.errors import DescriptionError

from .exceptions import (
    ConnectionFailed,
    InvalidReply,
    LocalSandboxError,
    TimedOut,
    status_exceptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._operations import Call
    from .local import LocalServer

T = TypeVar("T")


def result(call: Call[T], response: httpx.Response) -> T:
    """Return what the server's answer, already read, comes to.

    Raises:
        SandboxError: its status is 300 or above.
        InvalidReply: it is not what the description says.
    """
    if response.status_code == httpx.codes.NOT_FOUND and call.not_found is not None:
        return call.not_found
    if response.status_code >= 300:
        raise status_exceptions(response)
    try:
        return call.parse(response)
    except DescriptionError as error:
        raise InvalidReply(
            f"{_shown(response.request)}: the reply is not what a sandbox answers: {error}"
        ) from error


@contextmanager
def exchange(call: Call[T], total: float | None, server: LocalServer | None) -> Iterator[None]:
    """Turn a transport's failures into ours, and close what is sent.

    Raises:
        TimedOut: the transport, or the code within, took too long.
        ConnectionFailed: the server can not be reached, or hung up.
        LocalSandboxError: so it did, for it is the local one, and ended by itself.
    """
    try:
        yield
    except httpx.TimeoutException as error:
        phase = {
            httpx.ConnectTimeout: "connecting",
            httpx.PoolTimeout: "waiting for a connection",
            httpx.WriteTimeout: "sending the request",
        }.get(type(error), "waiting for the reply")
        raise TimedOut(f"{_shown(error.request)}: timed out {phase}") from error
    except TimeoutError as error:
        url = f"{call.request['method']} {call.request['url']}"
        raise TimedOut(f"{url}: no complete reply within {total} seconds") from error
    except httpx.DecodingError as error:
        raise InvalidReply(
            f"{_shown(error.request)}: the reply can't be decoded: {error}"
        ) from error
    except httpx.TransportError as error:
        if server is not None and (reason := server.failure()):
            raise LocalSandboxError(reason) from error
        raise ConnectionFailed(f"{_shown(error.request)}: {_reason(error)}") from error
    finally:
        if call.upload is not None:
            call.upload.close()


def _shown(request: httpx.Request) -> str:
    return f"{request.method} {request.url.copy_with(userinfo=b'')}"


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return f"the server can't be reached ({error}); is it running, and the URL right?"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the server hung up, or did not answer in HTTP ({error})"
    return f"the connection failed ({str(error) or type(error).__name__})"


class TimedStream(httpx.SyncByteStream):
    """A reply's body that is given up at a deadline, however steadily it drips."""

    def __init__(self, stream: httpx.SyncByteStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._deadline:
                raise TimeoutError
            yield chunk

    def close(self) -> None:
        self._stream.close()
