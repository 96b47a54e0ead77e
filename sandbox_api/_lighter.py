"""httpx's clients and responses without what a plain call does not need: a third of its time."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

    Field = tuple[str, tuple[Any, ...]]


class Lighter:
    """What both clients share; where something asks for more, all is left to httpx."""

    def __init__(self, path: str | None, **options: Any) -> None:
        self._path = path  # of a Unix socket, if that leads to the server
        self._common: list[tuple[bytes, bytes]] = []
        super().__init__(**options)

    @property
    def light(self) -> bool:
        """Whether to send a request takes no more than to hand it to the transport."""
        client: Any = self
        return not (
            client.is_closed or client.auth or any(client.event_hooks.values()) or client._mounts
        )

    def build_request(
        self,
        method: str,
        url: httpx.URL | str,
        *,
        files: Any = None,
        headers: Any = None,
        timeout: Any = httpx.USE_CLIENT_DEFAULT,
        **others: Any,
    ) -> httpx.Request:
        """Build a request, as httpx does."""
        client: Any = self
        if (
            others
            or client.cookies
            or not isinstance(url, httpx.URL)
            or not isinstance(timeout, httpx.Timeout)
            or not plain(files)
        ):
            httpxs: Any = super()
            return cast(
                "httpx.Request",
                httpxs.build_request(
                    method, url, files=files, headers=headers, timeout=timeout, **others
                ),
            )
        boundary = os.urandom(16).hex()
        content = form(files, boundary)
        if not self._common:
            # Of all requests, for all go to one server.
            common = httpx.Headers({"Host": url.netloc.decode("ascii")})
            common.update(client.headers)
            for name in {"content-length", "content-type"} & common.keys():
                del common[name]
            self._common = common.raw
        made: Any = [
            *self._common,
            (b"Content-Length", b"%d" % len(content)),
            (b"Content-Type", b"multipart/form-data; boundary=%b" % boundary.encode()),
        ]
        if headers:
            made = httpx.Headers(made)
            made.update(headers)
        return httpx.Request(
            method,
            url,
            headers=made,
            stream=httpx.ByteStream(content),
            extensions={"timeout": timeout.as_dict()},
        )

    def answered(
        self, request: httpx.Request, response: httpx.Response, started: float
    ) -> httpx.Response:
        """Return a response with what httpx adds to a transport's; `started` is on the timer."""
        client: Any = self
        response.request = request
        response.elapsed = timedelta(seconds=time.perf_counter() - started)
        if "Set-Cookie" in response.headers:
            client.cookies.extract_cookies(response)
        return response


def traced(method: Any) -> bool:
    """Tell whether a method of httpx's was wrapped to see all requests, as OpenTelemetry does."""
    return type(method) is not FunctionType or "httpx" not in method.__globals__["__name__"]


def plain(files: Sequence[Field]) -> bool:
    """Tell whether a form has fields of text alone, and names that need no quoting."""
    return bool(files) and all(
        len(part) == 2 and part[0] is None and isinstance(part[1], str) and name.isidentifier()
        for name, part in files
    )


def form(fields: Sequence[Field], boundary: str) -> bytes:
    """Return the body of such a form."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, (_, text) in fields
    ]
    return f"{''.join(parts)}--{boundary}--\r\n".encode()


class About:
    """Lets the errors inside know the request that they are about, as httpx does."""

    def __init__(self, request: httpx.Request | None) -> None:
        self._request = request

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, httpx.RequestError) and self._request is not None:
            error.request = self._request


class Response(httpx.Response):
    """httpx's, but what is not compressed is read whole at once."""

    def read(self) -> bytes:
        if self._is_plain:
            stream: Any = self.stream
            with About(self._request):
                self._keep(b"".join(stream))
            self.close()
        return super().read()

    async def aread(self) -> bytes:
        if self._is_plain:
            stream: Any = self.stream
            with About(self._request):
                whole = isinstance(stream, httpx.ByteStream)
                self._keep(b"".join(stream if whole else [chunk async for chunk in stream]))
            await self.aclose()
        return await super().aread()

    @property
    def _is_plain(self) -> bool:
        return not (self.is_stream_consumed or self.is_closed or "Content-Encoding" in self.headers)

    def _keep(self, content: bytes) -> None:
        self._content = content
        self._num_bytes_downloaded = len(content)
        self.is_stream_consumed = True
