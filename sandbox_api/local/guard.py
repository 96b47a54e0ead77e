"""Decide who may come in: no strange names, no foreign web pages, nobody without the token."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from typing import TYPE_CHECKING

from .responses import plain

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

# When to come again to a server that is stopping, in seconds: its successor needs a moment.
RETURN = 5

# A host name or address, IPv6 in brackets, and perhaps a port.
HOST = re.compile(r"\[([0-9a-f:.]+)\](?::\d*)?|([^\[\]:]*)(?::\d*)?", re.IGNORECASE)


class Guard:
    """Middleware that refuses requests of strangers, and all new ones once the server drains.

    hosts are the names that requests may address the server by, or None when any will do. With a
    token, requests must carry it, but for those to the free paths, where there is nothing to guard.
    """

    def __init__(
        self, hosts: Collection[str] | None, token: str | None, free: Collection[str] = ()
    ) -> None:
        self._hosts = hosts
        self._token = token.encode() if token else None
        self._free = free
        self.draining = False
        """Whether new requests are refused, for the server is about to stop."""
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Return app behind the guard."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            if refusal := self._refusal(scope):
                await refusal(scope, receive, send)
                return
            self._running += 1
            self._idle.clear()
            try:
                await app(scope, receive, send)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return guarded

    async def drain(self, seconds: float) -> None:
        """Refuse what comes from now on, and wait up to seconds until what runs is answered."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    def _refusal(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        # A web page can make a browser send requests to a server that only its user can reach: to
        # its address from another origin, or, by a name that it gives that address, from its own.
        if self._hosts is not None and host_name(host) not in self._hosts:
            return plain(403, "This server does not go by the name that the request has as Host")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            return plain(403, "Requests of other origins' web pages are refused")
        known = self._token is None or scope["path"] in self._free
        if not known and not self._carried(headers.get(b"authorization", b"")):
            return plain(
                401,
                "This server demands its token, as in `Authorization: Bearer TOKEN`",
                **{"WWW-Authenticate": 'Bearer realm="sandbox"'},
            )
        if self.draining:
            text = "The server is stopping, retry after a few seconds."
            return plain(503, text, **{"Retry-After": str(RETURN), "Connection": "close"})
        return None

    def _carried(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        # The time that comparing takes must not tell how much of a guess is right.
        same = hmac.compare_digest(given.strip(), self._token or b"")
        return scheme.lower() == b"bearer" and same


def host_name(host: str) -> str | None:
    """Return the name in the value of a `Host` header, without brackets and port."""
    match = HOST.fullmatch(host)
    return match and (match[1] or match[2])
