"""What can go wrong, as a tree.

* SandboxError: the server answered, with a status of 300 or above. `.response` is the answer.
    * SandboxRedirection: 3xx. Redirects are never followed; correct the URL.
    * SandboxClientError: 4xx. The request is wrong; the message says how.
    * SandboxServerError: 5xx. The server failed, or is overloaded (503); try again later.
    * Under these, one class for each status: `Sandbox404`, `Sandbox503`, …
    * InvalidConfig (Sandbox400, ValueError): the configuration is wrong, and was not sent.
* SandboxFailure: no answer came, or none that makes sense. The cause is in `__cause__`.
    * InvalidURL (ValueError): the sandbox's URL cannot be used.
    * ConnectionFailed (ConnectionError): the server cannot be reached, or hung up.
    * TimedOut (TimeoutError): the server took longer than the client's time-out.
    * InvalidReply (ValueError): the answer is not what the description says.
    * LocalSandboxError (RuntimeError): the local sandbox cannot run here.
* InvalidEnvironment (ValueError): a folder or archive cannot be used as an environment.
* ExecutionFailed: a command failed; raised by `result.raise_for_status()` alone.

Examples:

    >>> try:
    ...     result = sandbox.execute({"commands": []})
    ... except Sandbox503:
    ...     ...  # overloaded: nothing was run, try again later
    ... except SandboxError as error:
    ...     print(error.response.status_code, error.response.text)
    ... except SandboxFailure as error:
    ...     print("no answer:", error)
    400 commands: must have at least 1 item, not 0
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from sandbox_client.errors import Fault

# Longest part of a server's own words in a message, in characters.
LONGEST_REASON = 500

# And as it may be in a page, with names for characters; longer numbers for them can't be read.
MARKED_UP = 4000

# A page's tags, and elements that are not shown, to the end where nothing closes them: so no
# character is looked at often, however long the page.
TAGS = r"(?is)<(title|style|script)\b[^<>]*>.*?(?:</\1\s*>|\Z)|<[^<>]*>"


class SandboxError(Exception):
    """The server answered with a status of 300 or above.

    `str(error)` names the request, the status and the server's own words.
    """

    def __init__(self, response: httpx.Response, message: str | None = None) -> None:
        super().__init__(response, message)
        self.response = response
        """The server's answer, already read."""
        self.message = message
        """What to say in place of the server's own words."""
        self.place: str | None = None
        """What was asked, without secrets: `GET https://host/usages/`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (_bare(self.response), self.message), {"place": self.place}

    def __str__(self) -> str:
        if not hasattr(self.response, "reason_phrase"):  # one of requests or aiohttp
            status = str(_status(self.response))
            return f"sandbox: {status}" + (f": {self.message}" if self.message else "")
        status = f"{self.response.status_code} {self.response.reason_phrase}".strip()
        reason = self.message or _words(self.response)
        place = self.place or _request(self.response)
        return f"{place}: {status}" + (f": {reason}" if reason else "")


def _bare(response: Any) -> Any:
    """Return a response without what may be secret in its request, to be kept or sent away."""
    if not hasattr(response, "reason_phrase"):  # one of requests or aiohttp
        return response
    import httpx  # not above: exceptions are imported where httpx is not needed

    method, _, url = _request(response).partition(" ")
    request = httpx.Request(method, url) if url else None
    headers = response.headers.copy()
    headers.pop("Content-Encoding", None)  # its content is decoded
    return httpx.Response(
        response.status_code, headers=headers, content=response.content, request=request
    )


def _status(response: Any) -> int:
    """Return the status of a response, one of requests or aiohttp too."""
    status: int = response.status_code if hasattr(response, "status_code") else response.status
    return status


def _request(response: httpx.Response) -> str:
    try:
        request = response.request
    except RuntimeError:  # a response made by hand has none
        return "sandbox"
    return f"{request.method} {request.url.copy_with(userinfo=b'', query=None)}"


def _words(response: httpx.Response) -> str:
    """Return the server's own words, without a page's tags, and cut where they are long."""
    words = response.text
    # Plain sentences are sent as HTML too, but do not begin like it.
    if words.lstrip().startswith("<"):
        import html  # here, for it takes long to be imported, and few errors are pages

        words = " ".join(re.sub(TAGS, " ", words).split())
        words = html.unescape(words[:MARKED_UP])
    # A page's heading repeats the status.
    words = " ".join(words.split()).removeprefix(response.reason_phrase).lstrip()
    return words if len(words) <= LONGEST_REASON else f"{words[: LONGEST_REASON - 1]}…"


class SandboxRedirection(SandboxError):
    """The server answered 3xx. Redirects are never followed; correct the URL."""


class SandboxClientError(SandboxError):
    """The server answered 4xx: it holds the request to be wrong."""


class SandboxServerError(SandboxError):
    """The server answered 5xx: it failed, or is overloaded."""


class SandboxFailure(Exception):
    """No answer came from the server, or none that makes sense."""


class InvalidURL(SandboxFailure, ValueError):
    """The sandbox's URL cannot be used; the message says why."""


class ConnectionFailed(SandboxFailure, ConnectionError):
    """The server cannot be reached, or hung up before its answer was complete."""


class TimedOut(SandboxFailure, TimeoutError):
    """The server took longer than the client's time-out."""


class InvalidReply(SandboxFailure, ValueError):
    """The server's answer is not JSON, or contradicts the description; the message says where."""


class LocalSandboxError(SandboxFailure, RuntimeError):
    """The local sandbox cannot run here; the message says why, and what to do."""


def status_exceptions(response: httpx.Response) -> SandboxError:
    """Return the exception for a response: a `Sandbox404` for status 404.

    A class is made on the spot for a status outside the standard (520, 599).
    """
    status_class: type[SandboxError] = _class_for(_status(response))
    return status_class(response)


def _class_for(status: int) -> type[SandboxError]:
    name = f"Sandbox{status}"
    if name not in globals():
        groups = {3: SandboxRedirection, 4: SandboxClientError, 5: SandboxServerError}
        base = groups.get(status // 100, SandboxError)
        doc = f"The server answered {status}, a status outside the standard."
        globals()[name] = type(name, (base,), {"__doc__": doc, "__module__": __name__})
    made: type[SandboxError] = globals()[name]
    return made


if not TYPE_CHECKING:  # type checkers would take any name for right

    def __getattr__(name: str) -> Any:
        # Statuses outside the standard, so that their exceptions can be imported and unpickled.
        if re.fullmatch(r"Sandbox[3-9]\d\d", name):
            return _class_for(int(name.removeprefix("Sandbox")))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Sandbox300(SandboxRedirection):
    """The server answered 300 Multiple Choices."""


class Sandbox301(SandboxRedirection):
    """The server answered 301 Moved Permanently."""


class Sandbox302(SandboxRedirection):
    """The server answered 302 Found."""


class Sandbox303(SandboxRedirection):
    """The server answered 303 See Other."""


class Sandbox304(SandboxRedirection):
    """The server answered 304 Not Modified."""


class Sandbox305(SandboxRedirection):
    """The server answered 305 Use Proxy."""


class Sandbox307(SandboxRedirection):
    """The server answered 307 Temporary Redirect."""


class Sandbox308(SandboxRedirection):
    """The server answered 308 Permanent Redirect."""


class Sandbox400(SandboxClientError):
    """The server answered 400 Bad Request."""


class Sandbox401(SandboxClientError):
    """The server answered 401 Unauthorized."""


class Sandbox402(SandboxClientError):
    """The server answered 402 Payment Required."""


class Sandbox403(SandboxClientError):
    """The server answered 403 Forbidden."""


class Sandbox404(SandboxClientError):
    """The server answered 404 Not Found."""


class Sandbox405(SandboxClientError):
    """The server answered 405 Method Not Allowed."""


class Sandbox406(SandboxClientError):
    """The server answered 406 Not Acceptable."""


class Sandbox407(SandboxClientError):
    """The server answered 407 Proxy Authentication Required."""


class Sandbox408(SandboxClientError):
    """The server answered 408 Request Timeout."""


class Sandbox409(SandboxClientError):
    """The server answered 409 Conflict."""


class Sandbox410(SandboxClientError):
    """The server answered 410 Gone."""


class Sandbox411(SandboxClientError):
    """The server answered 411 Length Required."""


class Sandbox412(SandboxClientError):
    """The server answered 412 Precondition Failed."""


class Sandbox413(SandboxClientError):
    """The server answered 413 Request Entity Too Large."""


class Sandbox414(SandboxClientError):
    """The server answered 414 Request-URI Too Long."""


class Sandbox415(SandboxClientError):
    """The server answered 415 Unsupported Media Type."""


class Sandbox416(SandboxClientError):
    """The server answered 416 Requested Range Not Satisfiable."""


class Sandbox417(SandboxClientError):
    """The server answered 417 Expectation Failed."""


class Sandbox418(SandboxClientError):
    """The server answered 418 I'm a Teapot."""


class Sandbox421(SandboxClientError):
    """The server answered 421 Misdirected Request."""


class Sandbox422(SandboxClientError):
    """The server answered 422 Unprocessable Entity."""


class Sandbox423(SandboxClientError):
    """The server answered 423 Locked."""


class Sandbox424(SandboxClientError):
    """The server answered 424 Failed Dependency."""


class Sandbox425(SandboxClientError):
    """The server answered 425 Too Early."""


class Sandbox426(SandboxClientError):
    """The server answered 426 Upgrade Required."""


class Sandbox428(SandboxClientError):
    """The server answered 428 Precondition Required."""


class Sandbox429(SandboxClientError):
    """The server answered 429 Too Many Requests."""


class Sandbox431(SandboxClientError):
    """The server answered 431 Request Header Fields Too Large."""


class Sandbox451(SandboxClientError):
    """The server answered 451 Unavailable For Legal Reasons."""


class Sandbox500(SandboxServerError):
    """The server answered 500 Internal Server Error."""


class Sandbox501(SandboxServerError):
    """The server answered 501 Not Implemented."""


class Sandbox502(SandboxServerError):
    """The server answered 502 Bad Gateway."""


class Sandbox503(SandboxServerError):
    """The server answered 503 Service Unavailable."""


class Sandbox504(SandboxServerError):
    """The server answered 504 Gateway Timeout."""


class Sandbox505(SandboxServerError):
    """The server answered 505 HTTP Version Not Supported."""


class Sandbox506(SandboxServerError):
    """The server answered 506 Variant Also Negotiates."""


class Sandbox507(SandboxServerError):
    """The server answered 507 Insufficient Storage."""


class Sandbox508(SandboxServerError):
    """The server answered 508 Loop Detected."""


class Sandbox510(SandboxServerError):
    """The server answered 510 Not Extended."""


class Sandbox511(SandboxServerError):
    """The server answered 511 Network Authentication Required."""


class InvalidConfig(Sandbox400, ValueError):
    """A configuration of `execute` is wrong, and was not sent.

    It is a Sandbox400 like the server's own refusal; its `response` is made here, and says so in a
    header `X-Sandbox-Api: not sent`.

    Examples:

        >>> sandbox.execute({"commands": [{"command": "make", "timeout": "abc"}]})
        Traceback (most recent call last):
        sandbox_api.exceptions.InvalidConfig: the configuration is wrong, and was not sent:
        commands[0].timeout: must be a number, not 'abc'
    """

    def __init__(self, errors: Sequence[Fault]) -> None:
        import httpx  # not above: exceptions are imported where httpx is not needed

        words = "; ".join(str(error) for error in errors)
        headers = {"X-Sandbox-Api": "not sent"}
        super().__init__(httpx.Response(400, text=words, headers=headers), words)
        self.errors = list(errors)
        """All that is wrong: each with a `path` and a `reason`, and a sentence of both as text."""

    def __str__(self) -> str:
        return f"the configuration is wrong, and was not sent: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errors,)


class InvalidEnvironment(ValueError):
    """A folder, mapping or archive cannot be used as an environment; the message says why."""
