"""Measure many executions: throughput beside a plain load generator, and memory.

    python -m scripts.bench.batch local --jobs 10000   against the local sandbox
    python -m scripts.bench.batch stub --jobs 100000   against a server that does nothing

Both sides take turns in blocks, so that a noisy machine is as noisy for both. It fails when a job
is lost or answered twice, or a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sandbox_api import Sandbox

from . import servers
from .servers import Connection

BLOCK = 500
THROUGHPUT = 0.9
MEMORY = 64 * 1024 * 1024


def plain(path: str, jobs: int, threads: int) -> float:
    """Return how many jobs a second a bare loop of threads gets."""
    numbers = itertools.count()

    def work() -> None:
        while next(numbers) < jobs:
            with contextlib.closing(Connection(path)) as connection:
                connection.execute()

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
    with servers.stub() as url, Sandbox(url) as sandbox:
        before = resident()
        rate = run(sandbox, jobs, concurrency=16)
        grown = resident() - before
    print(f"{jobs} jobs: {rate:.0f}/s, memory +{grown / 2**20:.1f} MiB (target 64)")
    return grown < MEMORY


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("against", choices=["local", "stub"])
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    measure = {"local": local, "stub": stub}[arguments.against]
    sys.exit(0 if measure(arguments.jobs) else 1)
