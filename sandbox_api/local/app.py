"""The HTTP of the sandbox: routes, the texts of errors, and the shapes of answers."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import tempfile
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .archive import CHUNK, open_member
from .box import whole
from .engine import Engine
from .files import remove
from .isolation import Isolation, probe
from .job import Refusal, read_job
from .limits import Limits
from .monitor import Monitor
from .store import UUID, Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Coroutine

    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

# How many text fields and how many files a form may have; two are of use.
PARTS = 16

PAGES = {
    400: ("Bad Request (400)", "<p></p>"),
    404: ("Not Found", "<p>The requested resource was not found on this server.</p>"),
    500: ("Server Error (500)", "<p></p>"),
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
    return Response(content, status, {"Content-Type": "text/html; charset=utf-8", **headers})


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
    return f"=?utf-8?b?{base64.b64encode(value.encode()).decode()}?="


class Download(StreamingResponse):
    """A file, that is closed when the answer is sent or the client is gone."""

    def __init__(
        self, size: int, content: IO[bytes], kind: str, name: str, files: ExitStack
    ) -> None:
        headers = {"Content-Length": str(size), "Content-Disposition": disposition(name)}
        super().__init__(self._chunks(content), headers=headers, media_type=kind)
        self._files = files
        self._wanted = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        self._wanted = scope["method"] != "HEAD"
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._files.close()

    async def _chunks(self, content: IO[bytes]) -> AsyncIterator[bytes]:
        while self._wanted and (chunk := await to_thread.run_sync(content.read, CHUNK)):
            yield chunk


class Api:
    """The application behind all routes.

    hosts are the names that requests may address the server by, or None when any will do.
    """

    engine: Engine
    monitor: Monitor
    store: Store

    def __init__(self, hosts: Collection[str] | None) -> None:
        self._hosts = hosts
        read, run = ("GET", "HEAD", "OPTIONS"), ("POST", "OPTIONS")
        routes = (
            ("/specifications/", read, self._specifications),
            ("/usages/", read, self._usages),
            ("/libraries/", read, self._libraries),
            (f"/environments/({UUID.pattern})/", read, self._environment),
            (f"/files/({UUID.pattern})/(.+)/", read, self._file),
            ("/execute/", run, self._execute),
        )
        self._routes = [(re.compile(path), allowed, answer) for path, allowed, answer in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            # To wait a second is what a busy server needs.
            headers = {"Retry-After": "1"} if refusal.status == 503 else {}
            response = plain(refusal.status, refusal.text, **headers)
        except (HTTPException, FormParserError, ClientDisconnect):
            response = page(400)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        self._check_sender(request)
        for path, allowed, answer in self._routes:
            match = path.fullmatch(request.scope["path"])
            if not match:
                continue
            if request.method not in allowed:
                return plain(405, "", Allow=", ".join(allowed))
            if request.method == "OPTIONS":
                return plain(200, "", Allow=", ".join(allowed))
            return await answer(request, *match.groups())
        return page(404)

    def _check_sender(self, request: Request) -> None:
        """Refuse what a web page makes a browser send to a server that only its user can reach."""
        if "Origin" in request.headers:
            raise Refusal(403, "Requests of web pages are refused")
        if self._hosts is not None and request.url.hostname not in self._hosts:
            raise Refusal(400, f"This server is not called '{request.headers.get('Host', '')}'")

    async def _specifications(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self.monitor.specifications))

    async def _usages(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self.monitor.usage))

    async def _libraries(self, _: Request) -> Response:
        return JSONResponse(await self.monitor.libraries())

    async def _environment(self, _: Request, identifier: str) -> Response:
        files = ExitStack()
        content = files.enter_context(self._stored(identifier).open("rb"))
        size = os.fstat(content.fileno()).st_size
        return Download(size, content, "application/gzip", f"{identifier}.tgz", files)

    async def _file(self, _: Request, identifier: str, path: str) -> Response:
        files = ExitStack()
        found = await to_thread.run_sync(
            files.enter_context, open_member(self._stored(identifier), path)
        )
        if found is None:
            text = f"The file '{path}' could not be found in environment '{identifier}'"
            raise Refusal(404, text)
        name = path.rpartition("/")[2]
        return Download(*found, "application/octet-stream", name, files)

    def _stored(self, identifier: str) -> Path:
        path = self.store.find(identifier)
        if path is None:
            raise Refusal(404, f"No environment with UUID '{identifier}' found")
        return path

    async def _execute(self, request: Request) -> Response:
        limits = self.engine.limits
        if "Transfer-Encoding" in request.headers:
            raise Refusal(400, "Missing argument 'config'")
        if int(request.headers.get("Content-Length", "0")) > limits.upload_size:
            raise Refusal(413, f"The request is larger than {limits.upload_size} bytes")
        async with request.form(
            max_files=PARTS, max_fields=PARTS, max_part_size=limits.config_size
        ) as form:
            config = form.get("config")
            if not isinstance(config, str):
                raise Refusal(400, "Missing argument 'config'")
            job = read_job(config, lambda identifier: bool(self.store.find(identifier)))
            upload = form.get("environment")
            file = upload.file if isinstance(upload, UploadFile) else None
            return JSONResponse(await while_connected(request, self.engine.execute(job, file)))


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work, but cancel it when the client is gone. Then raise ClientDisconnect."""
    # After the whole body, there is nothing to receive but the end of the connection.
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await whole(asyncio.gather(*tasks, return_exceptions=True))


def not_found(_: Request, _error: Exception) -> Response:
    """Answer a request for a path that no route can have."""
    return page(404)


def crashed(_: Request, _error: Exception) -> Response:
    """Answer a request that brought an error of ours about."""
    return page(500)


def create_app(
    *,
    isolation: Isolation = "bubblewrap",
    data: Path | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
) -> Starlette:
    """Return the application of a local sandbox server.

    Keep environments in the folder data, by default only as long as the application runs. Answer
    only requests that address the server as one of hosts, by default any. When the application
    starts, raise IsolationError if commands can not be isolated as asked for.
    """
    api = Api(hosts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        work = Path(tempfile.mkdtemp(prefix="sandbox-work-"))
        try:
            # Another account has to get at the folders of its sandboxes.
            os.chmod(work, 0o711)  # noqa: PTH101, S103
            bounds = limits or Limits()
            api.store = Store((data or work / "data") / "environments", bounds.lifetime)
            api.engine = Engine(probe(isolation, work), work, api.store, bounds)
            api.monitor = Monitor(api.engine, work)
            yield
            await api.engine.close()
        finally:
            remove(work)

    return Starlette(
        routes=[Route("/{path:path}", api)],
        lifespan=lifespan,
        exception_handlers={404: not_found, Exception: crashed},
    )
