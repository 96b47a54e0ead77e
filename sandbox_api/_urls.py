"""URLs of sandboxes: checked, and shown without secrets."""

from __future__ import annotations

import functools
import re
from typing import Any

import httpx

from .exceptions import InvalidURL

EXAMPLES = "write it like http://localhost:7000, https://host/sandbox or unix:///run/sandbox.sock"


def url_text(url: Any) -> str:
    """Return a URL as text.

    Raises:
        TypeError: it is neither that nor an httpx.URL.
    """
    if isinstance(url, (str, httpx.URL)):
        return str(url)
    raise TypeError(f"the sandbox's URL must be a string, not {type(url).__name__}")


def parse_url(url: str) -> tuple[httpx.URL, str | None]:
    """Return a sandbox's base URL, and the path of the Unix socket that leads to it, if any.

    Takes `http://host[:port][/prefix]`, https likewise, and `unix:///path/to.sock`.

    Raises:
        InvalidURL: it is none of these.
    """
    shown = redacted(url)
    scheme = url.partition(":")[0].lower()
    if scheme == "unix":
        if not url[5:].startswith("///"):
            raise InvalidURL(f"the sandbox's URL {shown!r} has no absolute path: {EXAMPLES}")
        return httpx.URL("http://localhost/"), url[7:]
    if "://" not in url:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no scheme: {EXAMPLES}")
    if scheme not in {"http", "https"}:
        raise InvalidURL(f"the sandbox's URL {shown!r} is neither http nor https: {EXAMPLES}")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        # Not its words, nor itself as the cause: both may quote the password.
        raise InvalidURL(f"the sandbox's URL {shown!r} is not valid: {EXAMPLES}") from None
    except UnicodeEncodeError:
        raise InvalidURL(
            f"the sandbox's URL {shown!r} is not UTF-8: percent-encode what is not, and {EXAMPLES}"
        ) from None
    if not parsed.host:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no host: {EXAMPLES}")
    if parsed.query or parsed.fragment:
        raise InvalidURL(f"the sandbox's URL {shown!r} has a query or fragment: {EXAMPLES}")
    if (parsed.port or 0) > 65535:  # a look-up would make another of it
        raise InvalidURL(f"the sandbox's URL {shown!r} has a port above 65535: {EXAMPLES}")
    # Raw, for what is encoded stays so.
    return parsed.copy_with(raw_path=parsed.raw_path.rstrip(b"/") + b"/"), None


@functools.lru_cache(64)
def parsed(url: str) -> httpx.URL | str:
    """Return a URL ready to be used, or as it is where it can't be, as httpx will say."""
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return url


def redacted(url: str) -> str:
    """Return a URL without what in it may be a secret, however wrong it is."""
    if re.match("unix:///|unix:/[^@]*$", url):  # has no place for secrets
        return url
    # What a command line has that is not UTF-8 comes as surrogates, one for each byte.
    url = re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:X}", url)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeEncodeError):
        parsed = None
    if parsed is not None and parsed.scheme in {"http", "https"} and parsed.host:
        if "@" in parsed.path:  # a password may hold a slash
            parsed = parsed.copy_with(path="/")
        return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))
    # Of what can't be parsed, no more than a scheme, a host's first letters and a port are safe.
    shown = re.sub(r"^((?:\w+:)?//)?.*@", r"\1", url, flags=re.DOTALL)
    safe = r"^((?:(?:\w+:)?//)?[^:/?#]*(?::\d{1,5}(?=/|$))?).*"
    return re.sub(safe, r"\1", shown, flags=re.DOTALL)
