"""Many executions on a real Dask cluster: a scheduler and workers, each a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import ASandbox, JobResult, Sandbox

from ..test_cli import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

distributed: Any = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[int]]]:
    """A client of a cluster, and the ids of its workers' processes."""
    folder = tmp_path_factory.mktemp("dask")
    common = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    place = ["--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file]
    processes = [subprocess.Popen([*command, *options, *place], **common)]  # type: ignore[call-overload]
    try:
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file]
        worker += [*options, "--nthreads", "1", "--no-nanny"]
        processes += [subprocess.Popen(worker, **common) for _ in range(3)]  # type: ignore[call-overload]
        with distributed.Client(scheduler_file=str(file), timeout=30) as client:
            client.wait_for_workers(3, timeout=30)
            yield client, [process.pid for process in processes[1:]]
    finally:
        for process in reversed(processes):
            process.kill()
        for process in processes:
            process.wait(20)


def sleeping(count: int) -> Iterator[Any]:
    return ({"commands": [f"sleep 0.03; echo {number}"]} for number in range(count))


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_worker_that_is_killed(
    flavour: str, cluster: tuple[Any, list[int]], sandbox_url: str
) -> None:
    client, workers = cluster
    executor = client.get_executor()
    found: list[JobResult[Any]] = []

    def take(done: JobResult[Any]) -> None:
        found.append(done)
        if len(found) == 15:
            os.kill(workers.pop(), signal.SIGKILL)

    async def asynchronously() -> None:
        async with ASandbox(sandbox_url) as sandbox:
            async for done in sandbox.execute_many(sleeping(60), concurrency=6, executor=executor):
                take(done)

    if flavour == "async":
        asyncio.run(asynchronously())
    else:
        with Sandbox(sandbox_url) as sandbox:
            for done in sandbox.execute_many(sleeping(60), concurrency=6, executor=executor):
                take(done)
    assert sorted(done.id for done in found) == [*range(60)]  # none lost, none twice
    outputs = {done.id: done.result.execution[0].stdout for done in found if done.result}
    assert outputs == {number: str(number) for number in range(60)}


def test_equal_jobs_are_not_taken_for_one(cluster: tuple[Any, list[int]], sandbox_url: str) -> None:
    with Sandbox(sandbox_url) as sandbox:
        jobs = [{"commands": ["echo $RANDOM$RANDOM$RANDOM"]}] * 6
        found = sandbox.execute_many(jobs, executor=cluster[0].get_executor())
        outputs = {done.result.execution[0].stdout for done in found if done.result}
    assert len(outputs) == 6


def test_cluster_that_is_a_sandbox_farm(cluster: tuple[Any, list[int]]) -> None:
    with Sandbox.local() as sandbox:
        sandbox._server.stop()  # type: ignore[union-attr]  # the workers have their own
        found = [*sandbox.execute_many(sleeping(8), executor=cluster[0].get_executor())]
    assert [done.outcome for done in found] == ["passed"] * 8


def test_cluster_from_the_command_line(
    cluster: tuple[Any, list[int]], sandbox_url: str, tmp_path: Path
) -> None:
    (tmp_path / "jobs").write_text('{"commands": ["true"]}\n' * 5)
    address = cluster[0].scheduler.address
    done = run("batch", tmp_path / "jobs", "--dask", address, SANDBOX_URL=sandbox_url)
    assert done.returncode == 0, done.stderr
    assert "5 passed" in done.stderr
