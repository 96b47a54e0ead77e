"""The HTTP of the sandbox: routes, checks, and what is answered."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from .archive import open_member
from .box import whole
from .engine import OVERLOADED
from .job import Refusal, read_job
from .journal import record_of
from .remote import Unreachable
from .responses import Download, page, plain
from .store import UUID

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
    )

    from starlette.datastructures import FormData
    from starlette.types import Receive, Scope, Send

    from .engine import Engine
    from .monitor import Monitor
    from .remote import Remote
    from .store import Archive, Store

    Answer = Callable[..., Awaitable[Response]]
    # A path, the methods that it takes, what answers, and the names of GET (or POST) and HEAD.
    Way = tuple[str, tuple[str, ...], Answer, tuple[str, ...]]

T = TypeVar("T")

READ, RUN = ("GET", "HEAD", "OPTIONS"), ("POST", "OPTIONS")

# How many text fields and how many files a form may have; two are of use.
PARTS = 16

# How long a request may take to come: a while, and more the larger it says it is, at so many bytes
# a second, up to a bound. In seconds.
ARRIVAL, ARRIVAL_RATE, ARRIVAL_MOST = 30.0, 100_000, 900.0
# How many of the largest requests may be on their way, or on the disk, at once.
UPLOADS = 4
# How many requests may wait for the store at once; they hold up no others.
LOOKUPS = 40
# How many archives may be searched for a file at once: a large one takes seconds of a processor.
SEARCHES = 4


class Api:
    """The application behind all routes."""

    engine: Engine
    monitor: Monitor
    store: Store | Remote

    def __init__(self) -> None:
        self._lookups = CapacityLimiter(LOOKUPS)
        self._searches = CapacityLimiter(SEARCHES)
        self.inside = 0
        """Executions that run or wait for a slot."""
        self._uploading = 0
        self._routes: list[tuple[re.Pattern[str], tuple[str, ...], Answer, tuple[str, ...]]] = []
        self.add(
            [
                ("/specifications/", READ, self._specifications, ("specifications",)),
                ("/usages/", READ, self._usages, ("usage",)),
                ("/libraries/", READ, self._libraries, ("libraries",)),
                (
                    f"/environments/({UUID.pattern})/",
                    READ,
                    self._environment,
                    ("download_environment", "check_environment"),
                ),
                (
                    f"/files/({UUID.pattern})/(.+)/",
                    READ,
                    self._file,
                    ("download_file", "check_file"),
                ),
                ("/execute/", RUN, self._execute, ("execute",)),
            ]
        )

    def add(self, ways: Iterable[Way]) -> None:
        """Add routes."""
        # A file's name may have any character, also a newline.
        self._routes += [(re.compile(way[0], re.DOTALL), *way[1:]) for way in ways]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = plain(refusal.status, refusal.text)
            note_failure(scope, refusal)
        except (HTTPException, FormParserError):
            response = page(400)
        except ClientDisconnect:
            # Nobody reads this but the log.
            response = Response(status_code=499)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            response = plain(507, "The disk of this server is full")
        try:
            await response(scope, receive, send)
        except Unreachable as failure:
            # The answer has begun: that its connection breaks is all that its client can be told.
            note_failure(scope, failure)
            raise

    async def _answer(self, request: Request) -> Response:
        # As the system has names, which need not be UTF-8.
        asked = unquote(request.scope["raw_path"].decode("ascii"), errors="surrogateescape")
        for path, allowed, answer, names in self._routes:
            match = path.fullmatch(asked)
            if not match:
                continue
            if record := record_of(request.scope):
                record.operation = names[-1] if request.method == "HEAD" else names[0]
            if request.method not in allowed:
                return plain(405, "", Allow=", ".join(allowed))
            if request.method == "OPTIONS":
                return plain(200, "", Allow=", ".join(allowed))
            return await answer(request, *match.groups())
        return page(404)

    async def _specifications(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self.monitor.specifications))

    async def _usages(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self.monitor.usage))

    async def _libraries(self, _: Request) -> Response:
        return JSONResponse(await self.monitor.libraries())

    async def _environment(self, _: Request, identifier: str) -> Response:
        files = ExitStack()
        content = files.enter_context((await self._stored(identifier)).open("rb"))
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        name = f"{identifier}.tgz"
        return Download(size, content, "application/gzip", name, files, self._lookups)

    async def _file(self, request: Request, identifier: str, path: str) -> Response:
        files = ExitStack()
        opened = open_member(await self._stored(identifier), path)
        async with self._searches:
            # Who waited may be gone.
            if await request.is_disconnected():
                raise ClientDisconnect
            found = await self._ask(lambda: files.enter_context(opened))
        if found is None:
            text = f"The file '{path}' could not be found in environment '{identifier}'"
            raise Refusal(404, text)
        size, content = found
        name = path.rpartition("/")[2]
        return Download(size, content, "application/octet-stream", name, files, self._lookups)

    async def _stored(self, identifier: str) -> Archive:
        found = await self._ask(self.store.find, identifier)
        if found is None:
            raise Refusal(404, f"No environment with UUID '{identifier}' found")
        return found

    async def _exists(self, identifier: str) -> bool:
        return await self._ask(self.store.find, identifier) is not None

    async def _ask(self, work: Callable[..., T], *arguments: Any) -> T:
        return await to_thread.run_sync(work, *arguments, limiter=self._lookups)

    async def _execute(self, request: Request) -> Response:
        if "Transfer-Encoding" in request.headers:
            raise Refusal(400, "Missing argument 'config'")
        length = int(request.headers.get("Content-Length", "0"))
        limits = self.engine.limits
        if length > limits.upload_size:
            raise Refusal(413, f"The request is larger than {limits.upload_size} bytes")
        if self._uploading + length > UPLOADS * limits.upload_size:
            raise Refusal(503, OVERLOADED)
        self._uploading += length
        try:
            form = await self._form(request, length)
            try:
                return await self._executed(request, form)
            finally:
                await form.close()
        finally:
            self._uploading -= length

    async def _form(self, request: Request, length: int) -> FormData:
        seconds = min(ARRIVAL + length / ARRIVAL_RATE, ARRIVAL_MOST)
        size = self.engine.limits.config_size
        try:
            async with asyncio.timeout(seconds):
                return await request.form(max_files=PARTS, max_fields=PARTS, max_part_size=size)
        except TimeoutError:
            raise Refusal(408, f"The request did not come within {seconds:g} seconds") from None

    async def _executed(self, request: Request, form: FormData) -> Response:
        config = form.get("config")
        if not isinstance(config, str):
            raise Refusal(400, "Missing argument 'config'")
        job = await read_job(config, self._exists)
        if job.save:
            await self._ask(self.store.check_room)
        upload = form.get("environment")
        file = upload.file if isinstance(upload, UploadFile) else None
        record = record_of(request.scope)
        if record:
            record.commands = len(job.commands)
        self.inside += 1
        try:
            result = await while_connected(request, self.engine.execute(job, file))
        finally:
            self.inside -= 1
        if record:
            record.outcome = result.status
        return JSONResponse(result)


def note_failure(scope: Scope, refusal: Refusal) -> None:
    """Have the log say how the store failed, if that is what a refusal is for."""
    record = record_of(scope)
    if record and isinstance(refusal, Unreachable):
        record.failure = refusal.reason


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work, but cancel it when the client is gone. Then raise ClientDisconnect."""
    task = asyncio.ensure_future(work)
    # After the whole body, there is nothing to receive but the end of the connection.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await whole(asyncio.gather(task, return_exceptions=True))
