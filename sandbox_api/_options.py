"""What both flavours take beside URLs, and whether it is of the right kind."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# RFC 9110, 5.6.2, for headers, and RFC 6265, 4.1.1, for cookies.
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch

# Longer than any call takes, and no longer than systems can wait, in seconds.
FOR_EVER = 1e9


class ClientOptions(TypedDict, total=False):
    """What both flavours take beside the URL and time-outs."""

    headers: Mapping[str, str]
    """Headers to send with every request."""

    auth: tuple[str, str] | httpx.Auth | Callable[[httpx.Request], httpx.Request]
    """User and password, or any other authentication of httpx."""

    cookies: Mapping[str, str]
    """Cookies to send with every request."""

    verify: bool | str | os.PathLike[str] | ssl.SSLContext
    """How to check the server's certificate: against the usual authorities (True, the default),
    those in a file or folder, as an SSLContext says, or not at all (False)."""

    cert: str | os.PathLike[str] | tuple[str, str] | tuple[str, str, str]
    """A client certificate: its file; that and the key's; or these and the key's password."""

    proxy: str | httpx.Proxy
    """URL of a proxy to go through."""

    trust_env: bool
    """Whether to take proxies and certificate authorities from the environment. Yes by default."""

    retries: int
    """How often to try again where the server can't have started the work. 2 by default, 0 is
    never."""

    hooks: Mapping[str, Sequence[Callable[..., Any]]]
    """Functions to call with every "request" and "response", async ones in an ASandbox; httpx calls
    these event hooks."""


class CallOptions(TypedDict, total=False):
    """What every method takes, for that call alone."""

    timeout: float | None
    """How long the whole call may take, retries included, in seconds; None or 0 is for ever."""

    headers: Mapping[str, str]
    """Headers to send with the request, e.g. `X-Request-ID`."""

    retries: int
    """How often to try again, in place of the client's own number."""


def check_kinds(options: ClientOptions) -> None:
    """Refuse what httpx can't use, whose own messages come late, and may show a secret.

    Raises:
        TypeError: an option is of the wrong kind.
        ValueError: a user or password can't be sent.
    """
    given: dict[str, Any] = {"verify": True, "trust_env": True, **options}
    verify, cert, proxy, auth = map(given.get, ["verify", "cert", "proxy", "auth"])
    if not (is_path(verify) or isinstance(verify, (bool, ssl.SSLContext))):
        raise TypeError(f"verify must be True, False, a path or an ssl.SSLContext, not {verify!r}")
    if not isinstance(given["trust_env"], bool):
        raise TypeError(f"trust_env must be True or False, not {given['trust_env']!r}")
    files = parts(cert)
    if not (
        cert is None or is_path(cert) or (len(files) in {2, 3} and all(map(is_path, files[:2])))
    ):
        raise TypeError(f"cert must be a path or a tuple of two or three, not {kind_of(cert)}")
    if not (proxy is None or isinstance(proxy, (str, httpx.URL, httpx.Proxy))):
        raise TypeError(f"proxy must be a URL or an httpx.Proxy, not {kind_of(proxy)}")
    texts = [each for each in parts(auth) if isinstance(each, (str, bytes))]
    pair = len(texts) == len(parts(auth)) == 2
    if not (auth is None or isinstance(auth, httpx.Auth) or callable(auth) or pair):
        raise TypeError(
            "auth must be a tuple of user and password, an httpx.Auth or a function, not "
            f"{kind_of(auth)}"
        )
    for each in texts:
        try:
            if isinstance(each, str):
                each.encode()
        except UnicodeEncodeError:
            raise ValueError("auth has characters that can't be encoded in UTF-8") from None


def parts(value: Any) -> list[Any]:
    """Return what is in a tuple; nothing of another value."""
    return [*value] if isinstance(value, tuple) else []


def kind_of(value: object) -> str:
    """Return how to name a value that is of the wrong kind, and may be a secret."""
    return "another tuple" if isinstance(value, tuple) else type(value).__name__


def sendable_headers(headers: Any, what: str) -> Mapping[str, str]:
    """Return headers, or cookies, that can be sent.

    Raises:
        TypeError: they are no mapping of text to text.
        ValueError: one can't; the message has its name, for its value may be a secret.
    """
    if not isinstance(headers, Mapping):
        raise TypeError(
            f"{what} must be a mapping of names to values, not {type(headers).__name__}"
        )
    for name, value in headers.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{what} must be text, and the name or value of {name!r} is not")
        if value != value.strip() or re.search(r"[\0-\x08\n-\x1f\x7f]", value):
            raise ValueError(
                f"the value of {name!r} has white space at an end, or a control character: strip it"
            )
        if not value.isascii():
            raise ValueError(f"the value of {name!r} has characters that are not ASCII")
        if what == "cookies" and ";" in value:  # which would begin another
            raise ValueError(f"the value of {name!r} has a semicolon")
        if not NAME(name):
            raise ValueError(f"the name {name!r} has characters that no name may have")
    return headers  # pyright: ignore[reportUnknownVariableType]


def is_path(value: Any) -> bool:
    """Tell whether a value is the path of a file or folder."""
    return isinstance(value, (str, os.PathLike))


def whole(name: str, given: Any, least: int = 0) -> int:
    """Return a whole number.

    Raises:
        TypeError: it is none.
        ValueError: it is less than the least.
    """
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"{name} must be a whole number, not {given!r}")
    if given < least:
        raise ValueError(f"{name} must be {least} or more, not {given}")
    return given


def seconds(name: str, given: Any) -> float | None:
    """Return a time-out in seconds; None and 0 are no bound, as in aiohttp.

    Raises:
        TypeError: it is no number.
    """
    if given is None:
        return None
    import numbers  # here, for it takes long to be imported

    if isinstance(given, bool) or not isinstance(given, numbers.Real) or given != given:
        raise TypeError(f"{name} must be a number of seconds, or None for no bound, not {given!r}")
    return float(given) if given and given < FOR_EVER else None
