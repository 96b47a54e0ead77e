"""The shapes of answers: the real server's error pages, its plain messages, and downloads."""

from __future__ import annotations

import base64
from typing import IO, TYPE_CHECKING

from anyio import to_thread
from starlette.responses import Response, StreamingResponse

from .archive import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import ExitStack

    from anyio import CapacityLimiter
    from starlette.types import Receive, Scope, Send

PAGES = {
    400: ("Bad Request (400)", "<p></p>"),
    404: ("Not Found", "<p>The requested resource was not found on this server.</p>"),
    500: ("Server Error (500)", "<p></p>"),
}

# What else to send with a refusal of ours: when to come again, or that the rest of the request is
# not waited for.
MORE: dict[int, dict[str, str]] = {
    408: {"Connection": "close"},
    413: {"Connection": "close"},
    503: {"Retry-After": "1"},
}


def page(status: int) -> Response:
    """Return the page that the real server's framework has for an error."""
    title, text = PAGES[status]
    html = (
        f'\n<!doctype html>\n<html lang="en">\n<head>\n  <title>{title}</title>\n</head>\n'
        f"<body>\n  <h1>{title}</h1>{text}\n</body>\n</html>\n"
    )
    return Response(html, status, headers={"Content-Type": "text/html"})


def plain(status: int, text: str, **headers: str) -> Response:
    """Return a message of the server itself; it is called HTML, but is not."""
    # What a message quotes of the request need not be text.
    content = text.encode(errors="backslashreplace")
    return Response(
        content,
        status,
        {"Content-Type": "text/html; charset=utf-8", **MORE.get(status, {}), **headers},
    )


def disposition(name: str) -> str:
    """Return the `Content-Disposition` of a file, as the real server's framework makes it."""
    value = f"attachment; filename={name}"
    if value.isprintable() and value == value.strip():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            pass
        else:
            return value
    return f"=?utf-8?b?{base64.b64encode(value.encode(errors='replace')).decode()}?="


class Download(StreamingResponse):
    """A file, that is closed when the answer is sent or the client is gone."""

    def __init__(
        self,
        size: int,
        content: IO[bytes],
        kind: str,
        name: str,
        files: ExitStack,
        limiter: CapacityLimiter,
    ) -> None:
        headers = {"Content-Length": str(size), "Content-Disposition": disposition(name)}
        super().__init__(self._chunks(content), headers=headers, media_type=kind)
        self._files = files
        self._limiter = limiter
        self._wanted = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        self._wanted = scope["method"] != "HEAD"
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._files.close()

    async def _chunks(self, content: IO[bytes]) -> AsyncIterator[bytes]:
        while self._wanted and (chunk := await self._read(content)):
            yield chunk

    async def _read(self, content: IO[bytes]) -> bytes:
        return await to_thread.run_sync(content.read, CHUNK, limiter=self._limiter)
