"""Where the time goes: of an asynchronous execution, of reading a large result, of the import.

    python -m scripts.bench.layers

Each layer is what all takes with it, less what it takes without; the least of many blocks, for even
processor time grows when others use the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx

from sandbox_api import ASandbox, _http, _operations
from sandbox_api._connection import Connection
from sandbox_client.api.sandbox import execute
from sandbox_client.types import json_body

from . import servers, sides, table
from .sides import alternate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sides import Reply, Side

WIDTH, BLOCKS, CALLS = 64, 25, 500
CONFIG = {"commands": ["true"]}


async def block(once: Callable[[], Any]) -> float:
    """Return the processor time that one of many calls took, in µs."""
    left = iter(range(CALLS))

    async def work() -> None:
        for _ in left:
            await once()

    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(WIDTH)))
    return (time.process_time() - started) / CALLS * 1e6


def least_plain(once: Callable[[], Any], calls: int = CALLS) -> float:
    """Return the least of the same of what does not wait."""
    best = float("inf")
    for _ in range(BLOCKS):
        started = time.process_time()
        for _ in range(calls):
            once()
        best = min(best, (time.process_time() - started) / calls * 1e6)
    return best


def exchange(headers: list[tuple[bytes, bytes]], reply: bytes) -> Callable[[], None]:
    """Return what makes a request of these, and takes its reply."""

    def once() -> None:
        _http.head("POST", b"/execute/", headers)
        received = _http.Reply("POST")
        received.receive(reply)
        received.take()

    return once


async def execution(url: str) -> list[tuple[str, float]]:
    """Return the layers of an execution and what each takes, in µs."""
    async with ASandbox(url) as sandbox:
        client: Any = sandbox._client()  # pyright: ignore[reportPrivateUsage]
        arguments = execute.request(CONFIG)
        arguments["url"] = httpx.URL(f"{url}/execute/")
        arguments["timeout"] = httpx.Timeout(60)
        sent = client.build_request(**arguments)

        async def whole() -> None:
            await sandbox.execute(CONFIG)

        async def through_httpx() -> None:
            response = await client.send(client.build_request(**arguments), stream=True)
            await response.aread()

        async def connection() -> None:
            response = await client._transport.handle_async_request(sent)
            async for _ in response.stream:
                pass
            await response.stream.aclose()

        recycle = Connection.recycle

        def as_new(self: Connection) -> bool:
            recycled = recycle(self)
            self.used = False
            return recycled

        took = [float("inf")] * 4
        for _ in range(BLOCKS):  # taking turns, so that a noisy machine is as noisy for all
            for index, once in enumerate((whole, through_httpx, connection, connection)):
                changed = as_new if index == 3 else recycle
                with patch.object(Connection, "recycle", changed):
                    took[index] = min(took[index], await block(once))
    body = servers.result()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    took.append(least_plain(exchange(sent.headers.raw, reply)))
    answer = httpx.Response(200, content=body)
    reading = least_plain(lambda: execute.parse(answer))
    asking = least_plain(lambda: _operations.execute(CONFIG, None))
    return [
        ("making the call of what was given", asking),
        ("reading the result", reading),
        ("attempts, deadline, errors", took[0] - took[1] - asking - reading),
        ("httpx: request and response", took[1] - took[2]),
        ("asking before the body is sent", took[2] - took[3]),
        ("HTTP/1.1, by httptools", took[4]),
        ("pool, sockets, event loop", took[3] - took[4]),
        ("all", took[0]),
    ]


def reading() -> list[tuple[str, float]]:
    """Return the same of reading a result of 1,000 commands that has come."""
    response = httpx.Response(200, content=servers.result(1000))
    plain = least_plain(lambda: json.loads(response.content), 5)
    value = least_plain(lambda: json_body(response), 5)
    whole = least_plain(lambda: execute.parse(response), 5)
    return [
        ("json.loads", plain),
        ("looking how deep it is nested", value - plain),
        ("models: 1,000 objects, 5 checked members each", whole - value),
        ("all", whole),
    ]


def importing(side: Side) -> list[tuple[str, float]]:
    """Return the same of the import, as a default installation has it."""
    statements = {
        "httpx, and what that imports": "import httpx",
        "anyio, to wait in tasks": "import anyio.lowlevel, anyio.to_thread",
        "attrs, and what that imports": "import attrs",
        "models and endpoints": "from sandbox_client.api.sandbox import execute, libraries, usage",
        "the classes and what else is below them": "from sandbox_api import ASandbox, Sandbox",
    }
    steps = dict(
        zip(statements, itertools.accumulate(statements.values(), "{}\n{}".format), strict=True)
    )

    def turn(code: str) -> Callable[[], Reply]:
        return lambda: side.run(code)

    found = alternate(15, {name: turn(code) for name, code in steps.items()})
    took = [min(each["seconds"] for each in of) * 1e6 for of in found.values()]
    layers = [now - before for before, now in itertools.pairwise([0, *took])]
    return [*zip(statements, layers, strict=True), ("all", took[-1])]


def lines(title: str, layers: list[tuple[str, float]]) -> list[list[str]]:
    """Return a table of layers."""
    whole = layers[-1][1]
    return [
        [title, "µs", "share"],
        *([name, f"{micros:.0f}", f"{micros / whole:.0%}"] for name, micros in layers),
    ]


def run(side: Side) -> list[list[list[str]]]:
    """Measure, and return tables."""
    return [
        lines("async `execute`, 64 at once", asyncio.run(execution(side.url))),
        lines("reading 1,000 commands", reading()),
        lines("import of the classes", importing(side)),
    ]


if __name__ == "__main__":
    with servers.stub() as url, sides.side(sides.this_client() or sys.executable, url) as ours:
        print("\n\n".join(map(table.plain, run(ours))))
