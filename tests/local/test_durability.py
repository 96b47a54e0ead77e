from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import multiprocessing
import os
import random
import signal
import socket
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
import pytest

from sandbox_api.local import store as store_module
from sandbox_api.local.job import Refusal
from sandbox_api.local.store import Store
from sandbox_api.local.work import claim

from .conftest import archive
from .public import Public, execute, serving, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY = 86_400.0
ROUNDS = 50


def members(path: Path) -> dict[str, bytes]:
    """Return the files of an archive; fail when it is not whole."""
    with tarfile.open(path, "r:gz") as file:
        return {
            member.name: content.read()
            for member in file
            if (content := file.extractfile(member)) is not None
        }


def run_server(listening: socket.socket, data: Path) -> None:
    """Run a server in this process."""
    from sandbox_api.local.app import create_app
    from sandbox_api.local.server import run

    run(create_app(data=data), listening)


def save_until_it_dies(url: str, content: bytes, promised: list[str]) -> None:
    """Save environments that hold content, and note those that the server promised to keep."""
    files = {"environment": ("e.tgz", archive(("content", content)))}
    form = {"config": json.dumps({"commands": ["true"], "save": True})}
    try:
        with httpx.Client(timeout=30) as client:
            while True:
                answer = client.post(f"{url}/execute/", data=form, files=files)
                promised.append(answer.json()["environment"])
    except (httpx.HTTPError, ValueError):
        pass


def exceeds(found: list[str], count: int) -> bool:
    return len(found) > count


def test_a_server_that_is_killed_keeps_every_promise_and_leaves_no_stray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o711)
    tmp_path.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(temporary))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sandbox_api.local.app", "sandbox_api.local.server", "uvicorn"])
    content = random.Random(4).randbytes(300_000)
    chance = random.Random(50)
    promised: list[str] = []
    for _ in range(ROUNDS):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            server = context.Process(target=run_server, args=(listening, data))
            server.start()
        before = len(promised)
        arguments = (url, content, promised)
        clients = [threading.Thread(target=save_until_it_dies, args=arguments) for _ in range(2)]
        for client in clients:
            client.start()
        wait_for(partial(exceeds, promised, before))
        # Some time within the saves that follow.
        time.sleep(chance.uniform(0, 0.06))
        server.kill()
        server.join()
        for client in clients:
            client.join()
        assert server.exitcode == -signal.SIGKILL
    folder = data / "environments"
    names = {path.name for path in folder.iterdir()}
    assert {f"{identifier}.tgz" for identifier in promised} <= names
    for path in folder.glob("*.tgz"):
        assert members(path) == {"content": content}
    # That of the last to be killed.
    assert len(list(temporary.glob("sandbox-work-*"))) <= 1
    with serving(data, TMPDIR=str(temporary)) as last:
        assert not list(folder.glob("*.tmp"))
        assert len(list(temporary.glob("sandbox-work-*"))) == 1
        for identifier in promised[-3:]:
            assert httpx.head(f"{last.url}/environments/{identifier}/").status_code == 200
        assert last.stop() == 0
    assert list(temporary.iterdir()) == []


def add(store: Store, content: bytes) -> Path:
    def write(file: BinaryIO) -> None:
        file.write(content)

    identifier, _ = store.add(write)
    path = store.find(str(identifier))
    assert path is not None
    return path


def test_an_environment_is_named_only_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, DAY)
    steps: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        steps.append("+".join(sorted(path.suffix for path in tmp_path.iterdir())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    add(store, b"x")
    assert steps == [".tmp", ".tgz"]


def test_what_cannot_be_stored_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, DAY, max_storage=1000)

    def fail(file: Any) -> None:
        file.write(b"x" * 500)
        raise KeyError

    with pytest.raises(KeyError):
        store.add(fail)
    with pytest.raises(Refusal) as refusal:
        add(store, b"x" * 1001)
    assert refusal.value.status == 507
    assert list(tmp_path.iterdir()) == []
    assert len(add(store, b"x" * 1000).read_bytes()) == 1000
    assert (store.count, store.stored) == (1, 1000)


def test_saves_at_once_share_the_room(tmp_path: Path) -> None:
    store = Store(tmp_path, DAY, max_storage=10_000)
    barrier = threading.Barrier(8)

    def save(_: int) -> int:
        barrier.wait(10)
        try:
            return len(add(store, b"x" * 3000).read_bytes())
        except Refusal as refusal:
            return refusal.status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(save, range(8))) == [507] * 5 + [3000] * 3
    assert store.stored == sum(path.stat().st_size for path in tmp_path.iterdir()) == 9000


def test_what_was_just_saved_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, DAY, max_storage=10_000)
    real = store_module.synchronize

    def synchronize(folder: Path) -> None:
        monkeypatch.setattr(store_module, "synchronize", real)
        add(store, b"y" * 4000)  # while the first save is being brought to the disk
        real(folder)

    monkeypatch.setattr(store_module, "synchronize", synchronize)
    add(store, b"x" * 6000)
    assert (store.count, store.stored) == (2, 10_000)


def test_only_strays_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path, DAY)
    kept, gone = add(store, b"kept"), add(store, b"gone")
    os.utime(gone, (0, time.time() - 100))
    (tmp_path / "stray.tmp").write_bytes(b"half")
    with (tmp_path / "written.tmp").open("wb") as other:
        # By another server, on the same folder.
        fcntl.flock(other, fcntl.LOCK_EX)
        again = Store(tmp_path, DAY)
        assert {path.name for path in tmp_path.iterdir()} == {kept.name, "written.tmp"}
        assert (again.count, again.stored) == (1, 4)
    again.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_a_save_during_a_sweep_is_not_taken_for_a_stray(tmp_path: Path) -> None:
    store, other = Store(tmp_path, DAY), Store(tmp_path, DAY)
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            other.sweep()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    paths = [add(store, b"x" * 100) for _ in range(200)]
    done.set()
    sweeper.join()
    assert all(path.exists() for path in paths)


def test_a_sweep_makes_room(tmp_path: Path) -> None:
    store = Store(tmp_path, DAY, max_storage=1000)
    path = add(store, b"x" * 1000)
    with pytest.raises(Refusal, match="1000 bytes"):
        store.check_room()
    os.utime(path, (0, time.time() - 100))
    store.sweep()
    store.check_room()


def test_the_folders_of_dead_servers_are_removed_and_of_no_others(tmp_path: Path) -> None:
    def work(number: int) -> Path:
        path = tmp_path / f"sandbox-work-{number}"
        path.mkdir()
        return path

    dead, living, new = work(1), work(2), work(3)
    with claim(dead):
        (dead / "home").mkdir()
    (tmp_path / "sandbox-work-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").touch()
    foreign = work(4)
    (foreign / "lock").touch()
    if os.geteuid() == 0:
        os.chown(foreign, 1234, 1234)
    with claim(living), claim(new):
        assert not dead.exists()
        assert living.exists()
        assert (tmp_path / "elsewhere" / "lock").exists()
        assert foreign.exists() == (os.geteuid() == 0)


@asynccontextmanager
async def running(data: Path, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    from sandbox_api.local.app import create_app

    app = create_app(data=data, **options)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", timeout=30) as client,
    ):
        yield client


async def save(client: httpx.AsyncClient, command: str) -> httpx.Response:
    form = {"config": json.dumps({"commands": [command], "save": True})}
    return await client.post("/execute/", data=form)


def test_a_full_server_says_so_before_it_runs_anything_if_it_can(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, max_storage=100_000) as client:
            assert (await save(client, "head -c 60000 /dev/urandom > f")).status_code == 200
            # How much a command leaves is known only afterwards.
            answer = await save(client, "head -c 60000 /dev/urandom > f")
            assert answer.status_code == 507
            assert "may take 100000 bytes" in answer.text
            # Nothing of it was kept.
            assert (await save(client, "true")).status_code == 200
        async with running(tmp_path, max_storage=60_000) as client:
            started = time.monotonic()
            assert (await save(client, "sleep 8")).status_code == 507
            assert time.monotonic() - started < 6
            # What saves nothing needs no room.
            form = {"config": '{"commands": ["true"]}'}
            assert (await client.post("/execute/", data=form)).status_code == 200

    asyncio.run(scenario())
    assert len(list((tmp_path / "environments").iterdir())) == 2


def test_a_full_disk_is_a_full_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario() -> None:
        async with running(tmp_path) as client:
            monkeypatch.setattr("sandbox_api.local.store.Unfinished.write", full)
            answer = await save(client, "true")
            assert (answer.status_code, answer.text) == (507, "The disk of this server is full")

    asyncio.run(scenario())
    assert list((tmp_path / "environments").iterdir()) == []


def test_a_server_that_is_asked_to_end_finishes_what_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as server, httpx.Client(base_url=server.url, timeout=30) as kept:
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(execute, server.url, "sleep 3; echo done", save=True)
            wait_for(lambda: kept.get("/usages/").json()["container"] == 1)
            server.process.terminate()
            wait_for(lambda: kept.get("/healthz").status_code == 503)
            for answer in (execute(server.url, "true"), httpx.get(f"{server.url}/usages/")):
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "5"
                assert "stopping" in answer.text
            result = slow.result().json()
        assert result["execution"][0]["stdout"] == "done"
        assert server.process.wait(15) == 0
    assert [path.stem for path in (tmp_path / "environments").iterdir()] == [result["environment"]]


def ended_at_once(server: Public) -> float:
    """Ask a server twice to end, and return the seconds that it takes."""
    started = time.monotonic()
    server.process.terminate()
    wait_for(lambda: httpx.get(f"{server.url}/healthz").status_code == 503)
    server.process.terminate()
    assert server.process.wait(60) == 0
    return time.monotonic() - started


def test_a_server_that_is_asked_twice_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(execute, server.url, "sleep 9")
        wait_for(lambda: httpx.get(f"{server.url}/usages/").json()["container"] == 1)
        assert ended_at_once(server) < 8
        assert slow.exception() or slow.result().status_code >= 500
    assert "POST /execute/ 500" in server.text
    assert "Traceback" not in server.text


def test_a_save_that_takes_long_does_not_keep_a_server_from_its_end(tmp_path: Path) -> None:
    kept = tmp_path / "environments"
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        # Much that cannot be compressed, which takes a dozen seconds and more.
        slow = pool.submit(execute, server.url, "head -c 600M /dev/urandom > f", save=True)
        wait_for(lambda: any(path.stat().st_size for path in kept.glob("*.tmp")))
        assert ended_at_once(server) < 6
        assert slow.exception() or slow.result().status_code >= 500
    assert list(kept.iterdir()) == []
