"""The attempts at one call: which answers and failures there are, and when to try again. No I/O."""

from __future__ import annotations

import email.utils
import itertools
import logging
import math
import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import httpx

from sandbox_client.errors import DescriptionError

from ._options import CallOptions, seconds, sendable_headers, whole
from .exceptions import (
    ConnectionFailed,
    InvalidReply,
    LocalSandboxError,
    SandboxFailure,
    TimedOut,
    status_exceptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ._operations import Call
    from ._settings import Settings
    from .local import LocalServer

T = TypeVar("T")

logger = logging.getLogger("sandbox_api")

# Waiting before another attempt, in seconds: doubled from the first to the longest, and up to half
# of it left out by chance. A server may ask for longer with Retry-After, up to the most.
FIRST_WAIT = 0.5
LONGEST_WAIT = 8.0
MOST_WAIT = 60.0

# Answers that come before any work, and those that come of a broken connection behind a proxy.
NOT_STARTED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
BROKEN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
REPEATABLE = {"GET", "HEAD"}

# Failures before the server can have read anything.
NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

BROKEN_OFF = (httpx.NetworkError, httpx.RemoteProtocolError)


class Overdue(TimeoutError):
    """The call's deadline passed, which no step of httpx noticed."""


class Attempt:
    """One attempt; a context manager that keeps what goes wrong with the transport."""

    def __init__(self, exchange: Exchange[Any], number: int, delay: float) -> None:
        self._exchange = exchange
        self.number = number
        self.delay = delay
        """How long to wait before it, in seconds."""
        self.response: httpx.Response | None = None
        """The answer, as soon as it begins; read when the attempt ends."""
        self.failure: Exception | None = None
        """What went wrong in place of it."""
        self.final = False
        """Whether there can be no other, for a part of the answer was passed on."""
        self._theirs: BaseException | None = None
        """What a function of the user's raised, which is not for us to judge."""

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._log(error)
        if (
            error is self._theirs
            or not isinstance(error, (httpx.RequestError, Overdue))
            or vars(error).get("of_hook")
        ):
            return error is None
        response = self.response
        if response is not None and response.status_code >= 300 and isinstance(error, BROKEN_OFF):
            # The status says enough of a server that refuses an upload and hangs up.
            self.response = without_body(response)
        else:
            self.failure = error
        return True

    def begin(self, response: httpx.Response) -> Callable[[bytes], object] | None:
        """Take note of an answer, and return what takes its body where that is not read whole.

        Raises:
            InvalidReply: nothing will tell whether that body came whole.
        """
        self.response = response
        sink, progress = self._exchange.call.sink, self._exchange.call.progress
        if sink is None or not response.is_success:
            return None
        headers = response.headers
        if response.http_version.startswith("HTTP/1") and not (
            "Content-Length" in headers or "Transfer-Encoding" in headers
        ):
            raise InvalidReply(
                f"{self._exchange.place}: the reply announces no length, and could be cut unnoticed"
            )
        sink.seek(0)
        sink.truncate()  # of what another attempt left
        if progress is None:
            return sink.write
        length = headers.get("Content-Length", "")
        expected = int(length) if length.isascii() and length.isdecimal() else None

        def receive(chunk: bytes) -> None:
            sink.write(chunk)
            try:
                progress(response.num_bytes_downloaded, expected)
            except BaseException as error:
                self._theirs = error
                raise

        return receive

    def _log(self, error: BaseException | None) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            return
        response, headers = self.response, self._exchange.request["headers"]
        headers = httpx.Headers(headers) if response is None else response.request.headers
        received = response.num_bytes_downloaded if response is not None else 0
        status = type(error).__name__ if error or response is None else response.status_code
        identifier = headers.get("X-Request-ID")
        logger.debug(
            "%s %s %.1f ms %d bytes attempt %d%s",
            self._exchange.place,
            status,
            (time.monotonic() - self._started) * 1000,
            received,
            self.number,
            f" id {identifier}" if identifier else "",
        )


class Exchange(Generic[T]):
    """One call: iterate over its attempts, then ask for the result.

    As a context manager it closes what is sent, however the attempts end.
    """

    def __init__(
        self,
        call: Call[T],
        settings: Settings,
        total: float | None,
        options: CallOptions,
        server: LocalServer | None,
        closed: Callable[[], bool],
    ) -> None:
        self.call = call
        try:
            if unknown := options.keys() - CallOptions.__annotations__.keys():
                raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
            self.total = seconds("timeout", options.get("timeout", total))
            """How long the call may take, in seconds, if that is bounded."""
            headers = sendable_headers(options.get("headers", {}), "headers")
            self._retries = whole("retries", options.get("retries", settings.retries))
        except BaseException:
            self.__exit__()
            raise
        self.deadline = time.monotonic() + self.total if self.total else math.inf
        """When it must be over, on the monotonic clock."""
        self.repeatable = call.request["method"] in REPEATABLE
        """Whether the server may be asked twice."""
        self.request: dict[str, Any] = {
            **call.request,
            "url": settings.address(call.request["url"]),
            "headers": headers,
        }
        """Arguments of `httpx.Client.build_request`."""
        self._settings = settings
        self._server = server
        self._closed = closed  # tells whether the client's connections were, by somebody else
        self._last: Attempt | None = None

    @property
    def place(self) -> str:
        """What is asked, for messages."""
        request = self.call.request
        return f"{request['method']} {self._settings.place(request['url'])}"

    def __iter__(self) -> Iterator[Attempt]:
        delay: float | None = 0.0
        for number in itertools.count(1):
            if delay is None:
                return
            self._last = attempt = Attempt(self, number, delay)
            yield attempt
            delay = self._wait_after(attempt)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for upload in self.call.uploads:
            upload.close()

    def result(self) -> T:
        """Return what the last attempt came to.

        Raises:
            SandboxError: the server answered a status of 300 or above.
            SandboxFailure: it did not answer, or not sensibly.
        """
        # Which refers to this, or a collector had to come by.
        attempt, self._last = self._last, None
        assert attempt is not None  # noqa: S101 (there is always a first attempt)
        if isinstance(attempt.failure, httpx.LocalProtocolError):
            from ._http import Unsendable

            # What can't be sent may be a secret: others' words and causes may show it.
            why = f": {attempt.failure}" if isinstance(attempt.failure, Unsendable) else ""
            raise ConnectionFailed(f"{self.place}: the request is not valid HTTP{why}") from None
        if attempt.failure is not None:
            raise self._failed(attempt.failure) from attempt.failure
        response = attempt.response
        assert response is not None  # noqa: S101 (or there would be a failure)
        if response.status_code == HTTPStatus.NOT_FOUND and self.call.not_found is not None:
            return self.call.not_found
        if response.status_code >= 300:
            # The name of aiohttp's, for code written for the old ASandbox.
            vars(response)["status"] = response.status_code
            refusal = status_exceptions(response)
            refusal.place = self.place
            raise refusal
        try:
            return self.call.parse(response)
        except DescriptionError as error:
            raise InvalidReply(
                f"{self.place}: the reply is not what a sandbox answers: {error}"
            ) from error

    def _wait_after(self, attempt: Attempt) -> float | None:
        """Return how long to wait before another attempt, in seconds, or None for no other."""
        if attempt.number > self._retries or attempt.final or not self._may_repeat(attempt):
            return None
        if self._closed():
            return None
        wait: float = min(FIRST_WAIT * 2 ** (attempt.number - 1), LONGEST_WAIT)
        wait *= 1 - random.random() / 2  # noqa: S311 (not a secret)
        asked = retry_after(attempt.response)
        if asked is not None:
            if asked > MOST_WAIT:
                return None
            wait = max(wait, asked)
        if time.monotonic() + wait >= self.deadline:
            return None
        logger.info("%s: trying again in %.1f s", self.place, wait)
        return wait

    def _may_repeat(self, attempt: Attempt) -> bool:
        """Tell whether the server can't have started the work, or may do it twice."""
        repeatable = self.repeatable
        if attempt.failure is not None:
            if repeatable:
                return isinstance(attempt.failure, NEVER_CONNECTED + BROKEN_OFF)
            return isinstance(attempt.failure, NEVER_CONNECTED) and self._is_ours(attempt.failure)
        status = attempt.response.status_code if attempt.response is not None else 0
        return status in NOT_STARTED or (repeatable and status in BROKEN)

    def _is_ours(self, error: Exception) -> bool:
        """Tell whether this call's request failed, not what a user's authentication asks for it."""
        request: httpx.Request | None = vars(error).get("_request")
        urls = [self.request["url"], request.url if request is not None else ""]
        asked, failed = [httpx.URL(url).copy_with(query=None) for url in urls]
        return asked == failed

    def _failed(self, error: Exception) -> SandboxFailure:
        place = self.place
        if isinstance(error, (Overdue, httpx.TimeoutException)):
            bound = f"{self.total:g} s" if self.total else "the time-outs given"
            return TimedOut(f"{place}: no complete reply within {bound}; timed out {phase(error)}")
        if isinstance(error, httpx.DecodingError):
            return InvalidReply(f"{place}: the reply can't be decoded: {error}")
        if self._closed():
            return ConnectionFailed(f"{place}: the client was closed meanwhile")
        if self._server is not None and (reason := self._server.failure()):
            return LocalSandboxError(reason)
        if isinstance(error, httpx.ConnectError):
            return ConnectionFailed(
                f"{place}: the server can't be reached ({error}); is it running, and the URL right?"
            )
        if isinstance(error, httpx.ProxyError):
            return ConnectionFailed(f"{place}: the proxy does not lead there ({error})")
        if isinstance(error, httpx.RemoteProtocolError):
            return ConnectionFailed(
                f"{place}: the server hung up, or did not answer in HTTP ({error})"
            )
        reason = str(error) or type(error).__name__
        return ConnectionFailed(f"{place}: the connection failed ({reason})")


def without_body(response: httpx.Response) -> httpx.Response:
    """Return a response, in place of one that can't be read."""
    headers = response.headers.copy()
    headers.pop("Content-Encoding", None)
    return httpx.Response(
        response.status_code, headers=headers, content=b"", request=response.request
    )


def phase(error: Exception) -> str:
    """Return what a call was doing when it timed out."""
    phases: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "connecting",
        httpx.PoolTimeout: "waiting for a free connection",
        httpx.WriteTimeout: "sending the request",
        httpx.ReadTimeout: "waiting for the reply",
    }
    return phases.get(type(error), "on the way")


def retry_after(response: httpx.Response | None) -> float | None:
    """Return how long a server asks to wait, in seconds, if it does."""
    value = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
