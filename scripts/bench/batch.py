"""Measure many executions: throughput beside a plain load generator, and memory.

    python scripts/bench/batch.py local --jobs 10000   against the local sandbox
    python scripts/bench/batch.py stub --jobs 100000   against a server that does nothing

Both sides take turns in blocks, so that a noisy machine is as noisy for both. It fails when a job
is lost or answered twice, or a target is missed.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sandbox_api import Sandbox

BLOCK = 500
THROUGHPUT = 0.9
MEMORY = 64 * 1024 * 1024

STUB = """
import asyncio, sys
BODY = b'{"status": 0, "execution": [], "total_time": 0.1}'
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY)
async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            writer.write(HEAD + BODY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Connection(http.client.HTTPConnection):
    """A connection to a server's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("sandbox")
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def plain(path: str, jobs: int, threads: int) -> float:
    """Return how many jobs a second a bare loop of threads gets."""
    numbers = itertools.count()
    body = urlencode({"config": json.dumps({"commands": ["true"]})})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    def work() -> None:
        while next(numbers) < jobs:
            connection = Connection(path)
            connection.request("POST", "/execute/", body, headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
            connection.close()

    started = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return jobs / (time.perf_counter() - started)


def resident() -> int:
    """Return the memory that this process has, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def run(sandbox: Sandbox, jobs: int, **options: Any) -> float:
    """Run jobs, check that each is answered once, and return how many a second."""
    seen = bytearray(jobs)
    started = time.perf_counter()
    for done in sandbox.execute_many(({"commands": ["true"]} for _ in range(jobs)), **options):
        assert done.ok, done
        assert not seen[done.id], f"job {done.id} was answered twice"
        seen[done.id] = 1
    assert all(seen), "a job was lost"
    return jobs / (time.perf_counter() - started)


def local(jobs: int) -> bool:
    """Measure against the local sandbox."""
    with Sandbox.local() as sandbox:
        slots = sandbox.specifications().container.count
        path = sandbox.url.removeprefix("unix://")
        run(sandbox, 100)
        before = resident()
        blocks = range(-(-jobs // BLOCK))
        rates = [(run(sandbox, BLOCK), plain(path, BLOCK, slots)) for _ in blocks]
        grown = resident() - before
    ours, theirs = (sum(rate) / len(rates) for rate in zip(*rates, strict=True))
    print(f"{jobs} jobs, {slots} at once: {ours:.0f}/s, load generator {theirs:.0f}/s")
    print(f"ratio {ours / theirs:.2f} (target {THROUGHPUT}); memory +{grown / 2**20:.1f} MiB")
    return ours / theirs >= THROUGHPUT and grown < MEMORY


def stub(jobs: int) -> bool:
    """Measure against a server that does nothing."""
    command = [sys.executable, "-c", STUB]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            with Sandbox(f"http://127.0.0.1:{int(server.stdout.readline())}") as sandbox:
                before = resident()
                rate = run(sandbox, jobs, concurrency=16)
                grown = resident() - before
        finally:
            server.terminate()
    print(f"{jobs} jobs: {rate:.0f}/s, memory +{grown / 2**20:.1f} MiB (target 64)")
    return grown < MEMORY


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("against", choices=["local", "stub"])
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    measure = {"local": local, "stub": stub}[arguments.against]
    sys.exit(0 if measure(arguments.jobs) else 1)
