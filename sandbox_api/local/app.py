"""The application: the routes behind their guard, and what they work with while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware

from .api import Api
from .engine import Engine
from .files import remove
from .guard import Guard
from .isolation import Isolation, probe
from .limits import Limits
from .monitor import SAMPLE, Monitor
from .remote import Unreachable, open_store
from .responses import page
from .store import SWEEP
from .work import claim, let_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection

    from starlette.requests import Request
    from starlette.responses import Response

    from .journal import LogFormat


def crashed(_: Request, _error: Exception) -> Response:
    """Answer a request that brought an error of ours about."""
    return page(500)


async def repeat(work: Callable[[], object], seconds: float, log_format: LogFormat) -> None:
    """Do work again and again, with so many seconds between."""
    while True:
        await asyncio.sleep(seconds)
        try:
            # A disk or store that fails now may not the next time.
            with contextlib.suppress(OSError):
                await to_thread.run_sync(work)
        except Unreachable as error:
            from .journal import log_failure

            log_failure(error.reason, log_format)


def create_app(
    *,
    isolation: Isolation = "bubblewrap",
    image: str | None = None,
    data: Path | str | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
    token: str | None = None,
    max_storage: int | None = None,
    log_format: LogFormat = "none",
    seen: bool = False,
) -> Starlette:
    """Return the application of a local sandbox server, whose `state.guard` drains it.

    Keep environments in data, a folder or the URL of a store, by default only as long as the
    application runs, and up to max_storage bytes of them. Answer only requests that address the
    server as one of hosts, by default any, and that carry the token, if there is one. When seen,
    have a page, a reference and metrics too. When the application starts, raise IsolationError if
    commands cannot be isolated as asked for, and Unreachable if the store is.
    """
    api = Api()
    middleware: list[Middleware] = []
    free: Collection[str] = ()
    if seen or log_format != "none":
        # A private server, which starts often, needs none of this.
        from .journal import Journal
        from .seen import FREE, Seen

        shown = Seen(api, log_format)
        middleware.append(Middleware(Journal(shown.observers)))
        if seen:
            api.add(shown.ways())
            free = FREE
    guard = Guard(hosts, token, free)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        work = Path(tempfile.mkdtemp(prefix="sandbox-work-"))
        with ExitStack() as claimed:
            claimed.callback(remove, work)
            claimed.enter_context(claim(work))
            let_in(work)
            bounds = limits or Limits()
            api.store = open_store(data or work / "data", bounds.lifetime, max_storage)
            isolator = probe(isolation, work, image=image, limits=bounds)
            api.engine = Engine(isolator, work, api.store, bounds)
            api.monitor = Monitor(api.engine, work)
            repeated = [
                asyncio.create_task(repeat(api.store.sweep, SWEEP, log_format)),
                asyncio.create_task(repeat(api.monitor.sample, SAMPLE, log_format)),
            ]
            yield
            for task in repeated:
                task.cancel()
            api.store.close()
            await api.engine.close()

    app = Starlette(
        lifespan=lifespan,
        middleware=[*middleware, Middleware(guard)],
        exception_handlers={Exception: crashed},
    )
    # It knows all paths, and no request has to be matched twice.
    app.router.default = api
    app.router.redirect_slashes = False
    app.state.guard = guard
    return app
