"""A server in this process, with bounds that tests can reach."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from sandbox_api.local.app import create_app
from sandbox_api.local.limits import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox_api.local.isolation import Isolation


@asynccontextmanager
async def running(
    isolation: Isolation = "bubblewrap", image: str | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application, and give a client of it."""
    app = create_app(isolation=isolation, image=image, limits=Limits(**limits))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://sandbox", timeout=60) as client,
    ):
        yield client


async def ask(client: httpx.AsyncClient, *commands: Any, **config: Any) -> httpx.Response:
    """Ask to execute commands."""
    return await client.post(
        "/execute/", data={"config": json.dumps({"commands": commands, **config})}
    )


def run(
    *commands: Any,
    isolation: Isolation = "bubblewrap",
    image: str | None = None,
    **limits: Any,
) -> list[dict[str, Any]]:
    """Execute commands on a server with these limits, and return what each did."""

    async def scenario() -> list[dict[str, Any]]:
        async with running(isolation, image, **({"warm": 0} | limits)) as client:
            response = await ask(client, *commands)
            assert response.status_code == 200, response.text
            # Whatever they did, it serves others.
            assert (await ask(client, "true")).json()["status"] == 0
            results: list[dict[str, Any]] = response.json()["execution"]
            return results

    return asyncio.run(scenario())


def mib(number: int) -> int:
    """Return a number of bytes."""
    return number * MIB
