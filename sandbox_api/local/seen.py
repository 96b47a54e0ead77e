"""What a public server shows of itself: a page, a reference, metrics, and that it is alive."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.responses import JSONResponse, Response

from sandbox_client import SERVER_VERSION

from .api import READ
from .journal import Recent, log_json, log_text
from .metrics import CONTENT_TYPE, Metrics
from .responses import page

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from .api import Api, Way
    from .journal import LogFormat, Record

HERE = Path(__file__).with_name("page")

# Everything comes from this server, and nothing is run that is written into a page.
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI writes styles into its page.
SWAGGER = STRICT.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

# The files of pages by path: where they are, their kind and their policy.
FILES: dict[str, tuple[str, str, str]] = {
    "/page.css": ("page.css", "text/css; charset=utf-8", STRICT),
    "/page.js": ("page.js", "text/javascript; charset=utf-8", STRICT),
    "/docs": ("docs.html", "text/html; charset=utf-8", SWAGGER),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8", STRICT),
    "/docs/docs.js": ("docs.js", "text/javascript; charset=utf-8", STRICT),
}
# The files of Swagger UI, as the package offapi names them.
BUNDLED: dict[str, tuple[str, str]] = {
    "/docs/swagger.css": ("swagger_style.css", "text/css; charset=utf-8"),
    "/docs/swagger.js": ("swagger_bundle.js", "text/javascript; charset=utf-8"),
}

# What needs no token: it is the same on every server, and a browser sends none for it.
FREE = {"/", "/healthz", "/openapi.json", *FILES, *BUNDLED}


class Seen:
    """What is shown of an api; observers take the records that it is made from."""

    def __init__(self, api: Api, log_format: LogFormat) -> None:
        self._api = api
        self._recent = Recent()
        self._metrics = Metrics(gauges(api))
        self.observers: list[Callable[[Record], object]] = [self._recent, self._metrics]
        if log_format != "none":
            self.observers.append(log_json if log_format == "json" else log_text)

    def ways(self) -> list[Way]:
        """Return the routes of all that is shown."""
        answers = {
            "/healthz": self._health,
            "/metrics": self._numbers,
            "/activity": self._activity,
            r"/openapi\.json": self._description,
            "/": self._page,
            "|".join([*FILES, *BUNDLED]).replace(".", r"\."): self._file,
        }
        names = ("health", "metrics", "activity", "description", "page", "file")
        return [
            (path, READ, answer, (name,))
            for (path, answer), name in zip(answers.items(), names, strict=True)
        ]

    async def _health(self, _: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def _numbers(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _activity(self, _: Request) -> Response:
        api = self._api
        return JSONResponse(
            {
                "version": SERVER_VERSION,
                "isolation": api.engine.isolator.version,
                "slots": api.engine.limits.slots,
                "running": api.engine.busy,
                "waiting": api.inside - api.engine.busy,
                "environments": api.store.count,
                "stored": api.store.stored,
                "max_storage": api.store.max_storage,
                "executions": list(self._recent.executions),
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _description(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(description))

    async def _page(self, request: Request) -> Response:
        # Programs find the real server's answer; only browsers ask for HTML by name.
        if "text/html" not in request.headers.get("Accept", ""):
            return page(404)
        return await shown(HERE / "page.html", "text/html; charset=utf-8", STRICT)

    async def _file(self, request: Request) -> Response:
        path = request.scope["path"]
        if path in FILES:
            name, kind, policy = FILES[path]
            return await shown(HERE / name, kind, policy)
        name, kind = BUNDLED[path]
        return await shown(bundle() / name, kind, STRICT)


async def shown(path: Path, kind: str, policy: str) -> Response:
    """Return a file that is part of a page."""
    headers = {
        "Content-Type": kind,
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(await to_thread.run_sync(path.read_bytes), headers=headers)


def bundle() -> Path:
    """Return the folder of Swagger UI."""
    # Not by importing the package, which then keeps all that it has in memory.
    spec = importlib.util.find_spec("offapi")
    if spec is None or not spec.origin:
        raise FileNotFoundError("the package offapi is not installed")
    return Path(spec.origin).parent


def description() -> dict[str, Any]:
    """Return the description of what this server has."""
    file = resources.files("sandbox_client") / "openapi.json"
    whole: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    # How the real server speaks HTTP is not how this one does.
    whole["info"]["description"] = (
        f"What a sandbox server {SERVER_VERSION} answers. Where this one differs, on purpose, is "
        "told in docs/local.md of sandbox-api."
    )
    # Not the add-on that only some real servers carry; and wherever this one is reached.
    whole["tags"] = [tag for tag in whole["tags"] if tag["name"] != "loader"]
    whole["paths"] = {
        path: item
        for path, item in whole["paths"].items()
        if not any("loader" in operation.get("tags", ()) for operation in operations(item))
    }
    schemas = whole["components"]["schemas"]
    while unused := [name for name in schemas if f'schemas/{name}"' not in json.dumps(whole)]:
        for name in unused:
            del schemas[name]
    whole["servers"] = [{"url": "./"}]
    whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    whole["security"] = [{}, {"token": []}]
    return whole


def operations(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the operations of a path."""
    return [member for member in item.values() if isinstance(member, dict)]


def gauges(api: Api) -> dict[str, tuple[str, Callable[[], float]]]:
    """Return what there is to measure at any time, by the names of Prometheus."""
    return {
        "sandbox_slots": ("Executions that may run at once.", lambda: api.engine.limits.slots),
        "sandbox_slots_in_use": ("Executions that run now.", lambda: api.engine.busy),
        "sandbox_waiting": (
            "Executions that wait for a slot.",
            lambda: api.inside - api.engine.busy,
        ),
        "sandbox_environments": ("Environments stored.", lambda: api.store.count),
        "sandbox_stored_bytes": ("What the environments take.", lambda: api.store.stored),
        "sandbox_store_reachable": (
            "Whether the store of environments did what it was last asked.",
            lambda: api.store.reachable,
        ),
    }
