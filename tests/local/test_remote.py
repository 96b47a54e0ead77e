"""Environments where servers share them: in memory, and on a server of S3."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
import pytest

from sandbox_api.local import SettingError, remote
from sandbox_api.local.job import Refusal
from sandbox_api.local.limits import Limits
from sandbox_api.local.options import place, try_store
from sandbox_api.local.remote import GRACE, PART, Remote, Unreachable, open_store
from sandbox_api.local.store import Store

from .conftest import archive
from .s3 import BUCKET, S3, SECRETS, s3_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DAY = 86_400.0
NOBODY = "872b604c-9cce-42e2-8888-9a0311f3a724"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of an empty store."""
    folder = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{folder}"
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{folder}"


def writing(content: bytes) -> Callable[[BinaryIO], None]:
    """Return what writes content, in pieces as an archive comes."""

    def write(file: BinaryIO) -> None:
        starts = range(0, len(content), 100_000)
        file.writelines(content[start : start + 100_000] for start in starts)

    return write


def read(store: Remote, identifier: object) -> bytes | None:
    """Return what is stored of an environment."""
    found = store.find(str(identifier))
    if found is None:
        return None
    with found.open("rb") as file:
        return b"".join(iter(lambda: file.read(remote.BLOCK), b""))


def paths(store: Remote) -> list[str]:
    """Return the names of all that is stored, by the store's own account."""
    root = store._root
    return sorted(path.removeprefix(f"{root}/") for path in store._files.find(root))


@pytest.mark.parametrize("size", [0, 10, PART + 300_000])
def test_what_one_server_stored_all_have_until_it_expires(url: str, size: int) -> None:
    one, other = Remote(url, DAY), Remote(url, 1.0)
    content = random.Random(size).randbytes(size)
    before = time.time()
    identifier, expire = one.add(writing(content))
    assert abs(expire.timestamp() - before - DAY) < 20
    assert read(one, identifier) == read(other, identifier) == content
    found = other.find(str(identifier))
    assert found is not None
    # As it was promised, whatever the settings of who is asked are.
    assert (found.expire, found.size) == (expire.timestamp(), size)
    other.sweep()
    assert (one.count, one.stored) == (other.count, other.stored) == (1, size)
    for name in (NOBODY, "../x", f"{identifier}/", str(identifier).upper()):
        assert other.find(name) is None


def test_an_environment_is_read_in_ranges_and_written_in_parts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Remote(url, DAY)
    content = random.Random(1).randbytes(3_000_000)
    identifier, _ = store.add(writing(content))
    found = store.find(str(identifier))
    assert found is not None
    asked: list[int] = []
    cat_file = store._files.cat_file

    def noted(path: str, start: int, end: int) -> Any:
        asked.append(end - start)
        return cat_file(path, start=start, end=end)

    monkeypatch.setattr(store._files, "cat_file", noted)
    with found.open("rb") as file:
        assert file.seek(0, 2) == len(content)
        assert file.seek(1_000_000) == 1_000_000
        assert asked == []
        assert file.read(10) == content[1_000_000:1_000_010]
        file.seek(-5, 2)
        assert file.read() == content[-5:]
        file.seek(0)
        while file.read(256 * 1024):
            pass
    assert max(asked) <= remote.BLOCK


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_what_is_not_written_to_its_end_is_not_there(url: str, size: int) -> None:
    store, other = Remote(url, DAY), Remote(url, DAY)
    seen: list[int] = []

    def fail(file: BinaryIO) -> None:
        file.write(bytes(size))
        other.sweep()
        seen.append(other.count)
        raise KeyError

    with pytest.raises(KeyError):
        store.add(fail)
    assert seen == [0]
    assert paths(store) == []
    assert store._writing == 0


def test_no_part_of_an_upload_is_left_on_s3(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    store = Remote(f"s3://{BUCKET}/parts", DAY)

    def fail(file: BinaryIO) -> None:
        file.write(bytes(2 * PART))
        uploads = s3.client("list_multipart_uploads", Bucket=BUCKET)["Uploads"]
        assert [each["Key"].split("/")[0] for each in uploads] == ["parts"]
        raise KeyError

    with pytest.raises(KeyError):
        store.add(fail)
    assert "Uploads" not in s3.client("list_multipart_uploads", Bucket=BUCKET)


def test_saves_at_once_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FRESH", 60.0)  # for a busy machine
    store = Remote(f"memory://{uuid.uuid4().hex}", DAY, 10_000)
    barrier = threading.Barrier(8)

    def save(_: int) -> int:
        barrier.wait(10)
        try:
            store.add(writing(bytes(3000)))
        except Refusal as refusal:
            return refusal.status
        return 200

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(save, range(8))) == [200] * 3 + [507] * 5
    store.sweep()
    assert (store.count, store.stored, store._writing) == (3, 9000, 0)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("counted", [True, False])
def test_what_is_added_while_all_is_counted(
    seen: bool, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts once, whether that list has it or not, and another was made meanwhile or not."""
    store = Remote(f"memory://{uuid.uuid4().hex}", DAY, 10_000)
    listed = store._list

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(store, "_list", listed)
        found = listed(*arguments)
        store.add(writing(bytes(3000)))
        if counted:
            store.sweep()
        return listed(*arguments) if seen else found

    monkeypatch.setattr(store, "_list", slow)
    store.sweep()
    assert (store.count, store.stored, store._writing) == (1, 3000, 0)
    store.sweep()
    assert (store.count, store.stored, store._added) == (1, 3000, {})


def test_servers_share_the_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FRESH", 0.0)
    monkeypatch.setattr(remote, "PACE", 0.0)
    one, other = Remote(url, DAY, 10_000), Remote(url, DAY, 10_000)
    one.add(writing(bytes(6000)))
    with pytest.raises(Refusal, match="10000 bytes") as refusal:
        other.add(writing(bytes(6000)))
    assert refusal.value.status == 507
    other.add(writing(bytes(4000)))
    with pytest.raises(Refusal, match="Room is made"):
        one.check_room()
    assert len(paths(one)) == 2


@pytest.mark.parametrize("size", [6000, PART + PART // 2])
def test_of_servers_that_fill_the_room_at_the_same_time_the_last_gives_way(
    url: str, size: int
) -> None:
    room = size * 10 // 6
    one, other = Remote(url, DAY, room), Remote(url, DAY, room)
    # Both counted a moment ago, when nothing of this was there.
    one._holds = other._holds = time.monotonic() + 100

    def meanwhile(file: BinaryIO) -> None:
        file.write(bytes(size))
        one.add(writing(bytes(size)))

    other._writing = size * 31 // 60
    with pytest.raises(Refusal) as refusal:
        other.add(meanwhile)
    assert refusal.value.status == 507
    assert len(paths(one)) == 1


def test_only_what_expired_is_swept_by_any_number_of_servers(url: str) -> None:
    stores = [Remote(url, DAY) for _ in range(3)]
    identifier, _ = stores[0].add(writing(b"kept"))
    now = time.time()

    def put(seconds: float, suffix: str = ".tgz") -> str:
        name = f"{uuid.uuid4()}/{int((now + seconds) * 1e6)}{suffix}"
        stores[0]._files.pipe_file(f"{stores[0]._root}/{name}", b"old")
        return name

    for _ in range(6):
        put(-GRACE - 10)
    expired, written = put(-10), put(1000, ".tgz.tmp")
    put(-GRACE - 10, ".tgz.tmp")
    stores[0]._files.pipe_file(f"{stores[0]._root}/else/README", b"not ours")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda store: store.sweep(), stores))
    kept = [path for path in paths(stores[0]) if path.startswith(str(identifier))]
    assert paths(stores[0]) == sorted([*kept, expired, written, "else/README"])
    assert read(stores[1], identifier) == b"kept"
    # For those who read it already.
    assert stores[0].find(expired.partition("/")[0]) is None
    assert stores[0].find(written.partition("/")[0]) is None
    stores[0].sweep()
    assert (stores[0].count, stores[0].stored) == (2, 7)


def test_what_is_removed_while_it_is_read_is_a_failure(url: str) -> None:
    store = Remote(url, DAY)
    identifier, _ = store.add(writing(bytes(3_000_000)))
    found = store.find(str(identifier))
    assert found is not None
    with found.open("rb") as file:
        file.read(10)
        store._remove(found.path)
        with pytest.raises(Unreachable) as error:
            file.read()
    assert error.value.reason == "an environment was removed while it was read"


def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER", 0.2)
    monkeypatch.setattr(remote, "ASKED", 3)
    store = Remote(f"memory://{uuid.uuid4().hex}", DAY)
    goes_on = threading.Event()
    monkeypatch.setattr(store._files, "find", lambda *_, **__: goes_on.wait(30))
    started = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        errors = [each.exception() for each in [pool.submit(store.find, NOBODY) for _ in range(6)]]
    assert time.monotonic() - started < 5
    failures = [error for error in errors if isinstance(error, Unreachable)]
    assert [error.status for error in failures] == [503] * 6
    assert {error.reason for error in failures} == {
        "no answer within 0.2 s",
        "3 requests wait for it already",
    }
    assert not store.reachable
    with pytest.raises(Unreachable):
        store.check_room()
    goes_on.set()


def test_what_the_log_says_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the/secret")
    error = OSError(
        "no the/secret at\nhttps://eve:pass@s3.test/a?X-Amz-Signature=abc&b 'http://b?c' for all"
    )
    assert remote.described(error) == (
        "OSError: no *** at https://***@s3.test/a?*** 'http://b?***' for all"
    )


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ("folder", Path("folder")),
        (Path("/srv/x"), Path("/srv/x")),
        ("file:///srv/a%20b", Path("/srv/a b")),
        ("file://localhost/srv", Path("/srv")),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("memory://x", "memory://x"),
        ("sftp://eve@host/folder", "sftp://eve@host/folder"),
    ],
)
def test_data_is_a_folder_or_a_url(data: str | Path, kept: Path | str) -> None:
    assert place(data) == kept


@pytest.mark.parametrize(
    "data",
    [
        "s3://",
        "file://elsewhere/srv",
        "S3://eve:pass-word@bucket",
        "s3://eve:pass-word@bucket/x",
        "s3://bucket/x?secret=pass-word",
        "s3://bucket#pass-word",
        "cache::s3://eve:pass-word@bucket",
        "s3://[pass-word",
    ],
)
def test_other_urls_are_refused_and_not_shown(data: str) -> None:
    with pytest.raises(SettingError) as error:
        place(data)
    assert "pass-word" not in str(error.value)
    assert "URL to keep environments at" in str(error.value)


def test_folders_keep_their_store(tmp_path: Path) -> None:
    store = open_store(tmp_path, DAY, None)
    assert isinstance(store, Store)
    assert (tmp_path / "environments").is_dir()


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("s3fs", "gcsfs", "paramiko", "fsspec.implementations.sftp"):
        monkeypatch.setitem(sys.modules, name, None)
    found: Any = importlib.import_module("fsspec.registry")
    monkeypatch.delitem(found._registry, "s3", raising=False)
    for url, install in {
        "s3://x/y": "pip install 'sandbox-api[s3]'",
        "gs://x/y": "pip install 'sandbox-api[gs]'",
        "sftp://x/y": "pip install fsspec, and what it has for sftp://",
    }.items():
        with pytest.raises(SettingError, match="needs more packages") as error:
            try_store(url, Limits())
        assert str(error.value).endswith(install)


def test_a_store_that_can_not_be_used_is_a_clear_message(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    try_store(f"s3://{BUCKET}/tried", Limits())
    assert s3.names("tried/") == []
    for url, words in {
        "s3://no-such-bucket/x": "there is no such bucket",
        "nonsense://x/y": "Protocol not known: nonsense",
    }.items():
        with pytest.raises(OSError, match=f"cannot be kept at {url}: .*{words}"):
            try_store(url, Limits())


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run a server in this process."""
    from sandbox_api.local.app import create_app

    app = create_app(data=url, seen=True, **options)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", timeout=30) as client,
    ):
        yield client


async def execute(client: httpx.AsyncClient, command: str, **config: Any) -> httpx.Response:
    form = {"config": json.dumps({"commands": [command], **config})}
    files = {"environment": ("e.tgz", archive(("given", b"content" * 100)))}
    return await client.post("/execute/", data=form, files=files)


def test_an_environment_saved_by_one_server_is_used_on_another(url: str) -> None:
    async def scenario() -> None:
        async with running(url) as one, running(url) as other:
            saved = (await execute(one, "echo made > made", save=True)).json()["environment"]
            done = (await execute(other, "cat made", environment=saved)).json()
            assert done["execution"][0]["stdout"] == "made"
            path = f"/environments/{saved}/"
            got = await other.get(path)
            head = await other.head(path)
            assert got.content[:2] == b"\x1f\x8b"
            assert head.headers["content-length"] == str(len(got.content))
            assert head.headers["content-disposition"] == f"attachment; filename={saved}.tgz"
            assert head.content == b""
            assert (await other.get(f"/files/{saved}/made/")).content == b"made\n"
            for absent in (f"/environments/{NOBODY}/", f"/files/{saved}/none/"):
                assert (await other.get(absent)).status_code == 404
            assert (await execute(other, "true", environment=NOBODY)).status_code == 404
            metrics = (await other.get("/metrics")).text
            assert "sandbox_store_reachable 1.0" in metrics

    asyncio.run(scenario())


def test_a_store_that_is_gone_is_told_and_needed_by_nothing_else(
    s3: S3, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)

    async def scenario() -> str:
        async with running(f"s3://{BUCKET}/gone", log_format="json") as client:
            saved = (await execute(client, "true", save=True)).json()["environment"]
            monkeypatch.setattr(remote, "ANSWER", 0.2)
            monkeypatch.setattr(remote, "FINISH", 0.2)
            s3.process.send_signal(signal.SIGSTOP)
            try:
                # Whether the store is there is not known before it is needed.
                answer = await execute(client, "true", save=True)
                assert answer.status_code == 500
                assert "The commands were run." in answer.text
                texts = answer.text
                for answer in (
                    await execute(client, "exit 3", save=True),
                    await execute(client, "true", environment=saved),
                    await client.get(f"/environments/{saved}/"),
                    await client.head(f"/files/{saved}/x/"),
                ):
                    # Of which a client knows that nothing was run.
                    assert answer.status_code == 503
                    assert answer.headers["retry-after"] == "1"
                    texts += answer.text
                metrics = (await client.get("/metrics")).text
                assert "sandbox_store_reachable 0.0" in metrics
                done = await execute(client, "echo well")
                assert done.json()["execution"][0]["stdout"] == "well"
                assert (await client.get("/healthz")).status_code == 200
            finally:
                s3.process.send_signal(signal.SIGCONT)
            monkeypatch.setattr(remote, "ANSWER", 30.0)
            assert (await client.get(f"/environments/{saved}/")).status_code == 200
            return texts + metrics

    shown = asyncio.run(scenario())
    log = capfd.readouterr().err
    failures = [json.loads(line).get("failure") for line in log.splitlines()]
    assert failures.count("no answer within 0.2 s") == 5
    assert "Traceback" not in log
    for secret in SECRETS.values():
        assert secret not in shown + log


def test_a_download_that_breaks_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "BLOCK", 1000)

    async def scenario() -> None:
        async with running(f"memory://{uuid.uuid4().hex}", log_format="json") as client:
            saved = (await execute(client, "head -c 9999 /dev/urandom > f", save=True)).json()
            memory: Any = importlib.import_module("fsspec.implementations.memory")
            cat_file = memory.MemoryFileSystem.cat_file

            def vanished(store: Any, path: str, start: int, end: int) -> Any:
                if start > 5000:
                    raise FileNotFoundError(path)
                return cat_file(store, path, start=start, end=end)

            monkeypatch.setattr(memory.MemoryFileSystem, "cat_file", vanished)
            monkeypatch.setattr("sandbox_api.local.responses.CHUNK", 1000)
            with pytest.raises(Unreachable):
                await client.get(f"/environments/{saved['environment']}/")

    asyncio.run(scenario())
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["status"], last["bytes"]) == (200, 6000)
    assert last["failure"] == "an environment was removed while it was read"
