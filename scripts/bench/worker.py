"""Does one thing again and again with whichever `sandbox_api` its interpreter has, and times it.

Run as a script: for each line of JSON on standard input, which names one of the functions below and
its arguments, it prints one with what was measured. It imports nothing of ours but the client, for
the old client's interpreter runs it too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONFIG = {"commands": ["true"]}
THREADS = 16
ENVIRONMENT = "872ed7a6-7c93-4a5b-a1ce-3a9d0f0c2b1e"


def sync(url: str, number: int) -> None:
    """Execute, one after another."""
    from sandbox_api import Sandbox

    sandbox = Sandbox(url)
    for _ in range(number):
        sandbox.execute(CONFIG)


def threads(url: str, number: int) -> None:
    """Execute in threads that share a client."""
    from sandbox_api import Sandbox

    sandbox = Sandbox(url)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda _: sandbox.execute(CONFIG), range(number)):
            pass


def concurrent(url: str, number: int, width: int) -> None:
    """Execute in so many tasks at once."""
    asyncio.run(tasks(url, number, width))


async def tasks(url: str, number: int, width: int) -> None:
    """Execute in so many tasks at once."""
    from sandbox_api import ASandbox

    async with ASandbox(url) as sandbox:
        await share(sandbox, number, width)


async def share(sandbox: Any, number: int, width: int) -> None:
    """Share executions among so many tasks."""
    left = iter(range(number))

    async def work() -> None:
        for _ in left:
            await sandbox.execute(CONFIG)

    await asyncio.gather(*(work() for _ in range(width)))


def floor(url: str, number: int) -> None:
    """Execute, with nothing but a socket: the least that Python can take."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = (
        b'--x\r\nContent-Disposition: form-data; name="config"\r\n\r\n'
        b'{"commands": ["true"]}\r\n--x--\r\n'
    )
    request = (
        f"POST /execute/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode() + body
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(number):
            connection.sendall(request)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, content = received.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(content) < length:
                content += connection.recv(65536)
            json.loads(content)


def download(url: str, path: str) -> None:
    """Download an environment to a file."""
    from sandbox_api import Sandbox

    sandbox = Sandbox(url)
    if hasattr(sandbox, "download_to"):
        sandbox.download_to(path, ENVIRONMENT)
    else:
        with Path(path).open("wb") as file:
            file.write(sandbox.download(ENVIRONMENT).read())


def upload(url: str, path: str) -> None:
    """Execute with an environment, a file or folder."""
    from sandbox_api import Sandbox

    sandbox: Any = Sandbox(url)
    sandbox.execute(CONFIG, path)


def parse(url: str, kind: str, plain: bool) -> None:
    """Read an answer that has come, once; `plain` with nothing but json.loads."""
    if kind not in _answers:
        import httpx

        from sandbox_client.api.sandbox import execute, libraries

        path, module = {
            "libraries": ("/libraries/", libraries),
            "result": ("/commands-1000/execute/", execute),
        }[kind]
        content = httpx.get(url + path).content
        _answers[kind] = module.parse, httpx.Response(200, content=content)
    read, response = _answers[kind]
    if plain:
        json.loads(response.content)
    else:
        read(response)


_answers: dict[str, Any] = {}


def endure(url: str, number: int, blocks: int, width: int) -> list[dict[str, float]]:
    """Execute very often, in tasks or, with a width of 0, one after another; measure each block."""
    each = number // blocks
    return (
        asyncio.run(_endure_in_tasks(url, each, blocks, width))
        if width
        else (_endure(url, each, blocks))
    )


def _endure(url: str, each: int, blocks: int) -> list[dict[str, float]]:
    from sandbox_api import Sandbox

    sandbox = Sandbox(url)
    found: list[dict[str, float]] = []
    for _ in range(blocks + 1):
        started = clocks()
        for _ in range(each):
            sandbox.execute(CONFIG)
        found.append(state(started, each))
    return found[1:]  # the first makes whatever is made once


async def _endure_in_tasks(url: str, each: int, blocks: int, width: int) -> list[dict[str, float]]:
    from sandbox_api import ASandbox

    found: list[dict[str, float]] = []
    async with ASandbox(url) as sandbox:
        for _ in range(blocks + 1):
            started = clocks()
            await share(sandbox, each, width)
            found.append({**state(started, each), "tasks": len(asyncio.all_tasks())})
    return found[1:]


def clocks() -> tuple[float, float]:
    """Return the time, and what of the processor was used."""
    return time.perf_counter(), time.process_time()


def state(started: tuple[float, float], calls: int) -> dict[str, float]:
    """Return what calls took, in ms each, and what this process holds."""
    seconds, cpu = (now - then for now, then in zip(clocks(), started))  # noqa: B905
    gc.collect()
    return {
        "ms": seconds / calls * 1000,
        "cpu": cpu / calls * 1000,
        "memory": memory("VmRSS"),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": threading.active_count(),
    }


def memory(name: str) -> int:
    """Return what the kernel says of this process's memory, in bytes.

    Not resource's peak, which begins at that of the process that started this one.
    """
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


FUNCTIONS = (sync, threads, concurrent, floor, download, upload, parse, endure)


def main() -> None:
    """Measure whatever is asked for."""
    functions: dict[str, Any] = {function.__name__: function for function in FUNCTIONS}
    for line in sys.stdin:
        asked = json.loads(line)
        started = clocks()
        value = functions[asked["do"]](sys.argv[1] + asked["path"], **asked["with"])
        seconds, cpu = (now - then for now, then in zip(clocks(), started))  # noqa: B905
        answer = {"seconds": seconds, "cpu": cpu, "peak": memory("VmHWM"), "value": value}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
