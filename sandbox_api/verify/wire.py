"""What goes to the server: few requests, one at a time, and not faster than allowed."""

from __future__ import annotations

import base64
import hashlib
import time
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

OVERLOADED = 503
# How often to come back to a server that is overloaded, and after how many seconds.
PATIENCE, PAUSE = 3, 5.0

SECRET = {"authorization", "proxy-authorization", "cookie"}
OWN = {"host", "accept", "accept-encoding", "connection", "content-length", "user-agent"}


class SpentError(Exception):
    """All requests that were allowed are sent."""


class Wire:
    """The way to a server."""

    def __init__(
        self, client: httpx.Client, address: str, *, socket: str | None, rate: float, most: int
    ) -> None:
        self.address = address
        self.sent = 0
        self._client = client
        self._socket = socket
        self._interval = 1 / rate if rate else 0.0
        self._most = most
        self._next = 0.0

    @property
    def shown(self) -> str:
        """Return where the server is, for a person to read."""
        return f"unix://{self._socket}" if self._socket else self.address

    def request(
        self,
        method: str,
        path: str,
        *,
        files: Sequence[tuple[str, Any]] | None = None,
        content: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Request:
        """Return a request, which is the same whenever it is made."""
        headers = dict(headers or {})
        if files is not None:
            digest = hashlib.sha256(repr(files).encode(errors="replace")).hexdigest()[:16]
            headers["Content-Type"] = f"multipart/form-data; boundary=verify-{digest}"
        url = path if "://" in path else self.address + path.lstrip("/")
        request = self._client.build_request(
            method, url, files=files, content=content, headers=headers
        )
        request.read()
        return request

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request, again if the server is overloaded, and return the answer.

        Raises:
            SpentError: no more may be sent.
            httpx.TransportError: there is no answer.
        """
        response = self._send(request)
        for _ in range(PATIENCE - 1):
            if response.status_code != OVERLOADED:
                break
            self._next = time.monotonic() + (PAUSE if self._interval else 0)
            response = self._send(request)
        return response

    def _send(self, request: httpx.Request) -> httpx.Response:
        if self.sent >= self._most:
            raise SpentError
        self.sent += 1
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._interval
        return self._client.send(request)

    def curl(self, request: httpx.Request) -> str:
        """Return a request as a command for a shell, without what is secret."""
        words = ["curl", "-sSi"]
        if self._socket:
            words += ["--unix-socket", quote(self._socket)]
        words += ["--head"] if request.method == "HEAD" else ["-X", request.method]
        for name, value in request.headers.items():
            if name in SECRET:
                words += ["-H", quote(f"{name}: ***")]
            elif name not in OWN:
                words += ["-H", quote(f"{name}: {value}")]
        before = ""
        if body := request.content:
            try:
                text = body.decode("ascii")
            except UnicodeDecodeError:
                before = f"echo {base64.b64encode(body).decode()} | base64 -d | "
                words += ["--data-binary", "@-"]
            else:
                # Line ends matter in a form; $'…' is how bash and zsh write them.
                words += ["--data-binary", _ansi(text)]
        return f"{before}{' '.join(words)} --path-as-is {quote(str(request.url))}"


def _ansi(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    escaped = escaped.replace("\r", "\\r").replace("\n", "\\n")
    if any(not character.isprintable() for character in escaped):
        escaped = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped)
    return f"$'{escaped}'"
