"""Where a sandbox is, and how long to wait for it: what users say, made ready for httpx."""

from __future__ import annotations

import platform
import re
import ssl
from typing import Any

import httpx

from ._version import __version__
from .exceptions import InvalidURL

USER_AGENT = f"sandbox-api/{__version__} python/{platform.python_version()}"


def redacted(url: str) -> str:
    """Return a URL without the user and password it may hold, however wrong it is."""
    return re.sub(r"^(\w+://)?.*@", r"\1", url, flags=re.DOTALL)


def parse_url(url: str) -> tuple[httpx.URL, str | None]:
    """Return a sandbox's base URL, and the path of the Unix socket that leads to it, if any.

    Takes `http://host[:port][/prefix]`, https likewise, and `unix:///path/to.sock`.

    Raises:
        InvalidURL: it is none of these.
    """
    example = (
        "write it like http://localhost:7000, https://host/sandbox or unix:///run/sandbox.sock"
    )
    shown = redacted(url)
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no scheme: {example}")
    if scheme.lower() == "unix":
        if not rest.startswith("/"):
            raise InvalidURL(f"the sandbox's URL {shown!r} has no absolute path: {example}")
        return httpx.URL("http://localhost/"), rest
    if scheme.lower() not in {"http", "https"}:
        raise InvalidURL(f"the sandbox's URL {shown!r} has the scheme {scheme!r}: {example}")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidURL(f"the sandbox's URL {shown!r} is not valid ({error}): {example}") from None
    if not parsed.host:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no host: {example}")
    if parsed.query or parsed.fragment:
        raise InvalidURL(f"the sandbox's URL {shown!r} has a query or fragment: {example}")
    return parsed.copy_with(path=f"{parsed.path.rstrip('/')}/"), None


def seconds(*bounds: float | None) -> float | None:
    """Return the smallest of some time-outs, in seconds; None and 0 are no bound, as in aiohttp."""
    return min((bound for bound in bounds if bound), default=None)


def client_arguments(base_url: httpx.URL, socket: str | None) -> dict[str, Any]:
    """Return what both kinds of httpx client take, but for time-outs and a socket's transport."""
    return {
        "base_url": base_url,
        "headers": {"User-Agent": USER_AGENT},
        "follow_redirects": False,
        # A proxy can't reach a socket of this machine.
        "trust_env": socket is None,
        **transport_arguments(base_url),
    }


def transport_arguments(base_url: httpx.URL) -> dict[str, Any]:
    """Return what both kinds of httpx transport take, but for the socket."""
    return {
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20),
        # Loading the certificate authorities takes 20 ms, which http:// never needs. A context that
        # trusts nobody is free, and fails closed.
        "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if base_url.scheme == "http" else True,
    }
