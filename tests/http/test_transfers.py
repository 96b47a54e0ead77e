"""Environments up and down, the way people have them, by either flavour, over HTTP."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import InvalidEnvironment, InvalidReply, Sandbox, Sandbox404

from ..conftest import tgz
from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIST = {"commands": ["find . -type f -exec sh -c 'echo $1 $(cat $1)' - {} ';' | sort"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "submission"
    (root / "src").mkdir(parents=True)
    (root / "build").mkdir()
    (root / "src" / "main.py").write_text("main")
    (root / "build" / "junk").write_text("junk")
    (root / "run.sh").write_text("run")
    (root / "run.sh").chmod(0o755)
    (root / ".sandboxignore").write_text("build/\n")
    return root


def source(kind: str, folder: Path) -> Any:
    """Return the files `a` and `d/b` the way that is asked for."""
    archive = tgz({"a": "1", "d/b": "2"})
    if kind == "stream":
        return archive
    if kind == "bytes":
        return archive.getvalue()
    if kind in ("path", "text path"):
        path = folder.parent / "env.tgz"
        path.write_bytes(archive.getvalue())
        return str(path) if kind == "text path" else path
    if kind == "open file":
        path = folder.parent / "env.tgz"
        path.write_bytes(archive.getvalue())
        return path.open("rb")
    (folder.parent / "b").write_text("2")
    return {"a": "1", "d/b": folder.parent / "b"} if kind == "mapping" else {"a": b"1", "d/b": "2"}


@pytest.mark.parametrize(
    "kind", ["stream", "bytes", "path", "text path", "open file", "mapping", "mapping of bytes"]
)
def test_environment_of_many_kinds(kind: str, sandbox: Sandbox, folder: Path) -> None:
    result = sandbox.execute(LIST, source(kind, folder))
    assert result.execution[0].stdout == "./a 1\n./d/b 2"


def test_environment_from_a_folder(sandbox: Sandbox, folder: Path) -> None:
    result = sandbox.execute({"commands": [*LIST["commands"], "test -x run.sh"]}, folder)
    assert result.ok
    assert result.execution[0].stdout == "./run.sh run\n./src/main.py main"


def test_folder_that_can_not_be_used(sandbox: Sandbox, folder: Path) -> None:
    (folder / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidEnvironment, match="out"):
        sandbox.execute({"commands": ["true"]}, folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "", "a\0b"])
def test_mapping_that_can_not_be_used(name: str, sandbox: Sandbox) -> None:
    with pytest.raises(InvalidEnvironment):
        sandbox.execute({"commands": ["true"]}, {name: "x"})


def test_download_to_a_file(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.execute({"commands": ["head -c 300000 /dev/urandom > r"], "save": True})
    assert result.environment
    told: list[tuple[int, int | None]] = []
    path = sandbox.download_to(
        tmp_path / "r", result.environment, "r", progress=lambda *args: told.append(args)
    )
    assert path == tmp_path / "r"
    assert path.read_bytes() == sandbox.download(result.environment, "r").getvalue()
    assert told[-1] == (300_000, 300_000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert os.listdir(tmp_path) == ["r"]
    assert b"".join(sandbox.iter_download(result.environment, "r")) == path.read_bytes()


def test_download_and_unpack(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.execute({"commands": ["mkdir d; echo 1 > d/a"], "save": True})
    assert result.saved
    result.saved.download_to(tmp_path / "new", extract=True)
    assert (tmp_path / "new" / "d" / "a").read_text() == "1\n"
    with pytest.raises(FileExistsError):
        sandbox.download_to(tmp_path / "new", result.saved.uuid, extract=True)


def test_destination_that_can_not_be_is_told_before_anything_is_sent(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    sandbox = connect(raw_server.url)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="is not a file"):
        sandbox.download_to(pipe, "x")
    assert pipe.is_fifo()
    for taken in (pipe, tmp_path):
        with pytest.raises(FileExistsError, match="is not an empty directory"):
            sandbox.download_to(taken, "x", extract=True)
    assert raw_server.requests == []


def test_longest_name_of_a_destination(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.execute({"commands": ["echo 1 > r"], "save": True})
    assert result.saved
    assert result.saved.download_to(tmp_path / ("x" * 255), "r").read_text() == "1\n"


def test_download_of_what_is_not_there_leaves_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    unknown = "872b604c-9cce-42e2-8888-9a0311f3a724"
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(Sandbox404):
        sandbox.download_to(tmp_path / "kept", unknown)
    with pytest.raises(Sandbox404):
        list(sandbox.iter_download(unknown))
    with pytest.raises(IsADirectoryError):
        sandbox.download_to(tmp_path, unknown)
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_download_that_is_cut_leaves_nothing(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    def answer(connection: Any, _: bytes) -> None:
        connection.sendall(reply("200 OK", b"half", length=8))
        connection.shutdown(2)

    raw_server.answer = answer
    with pytest.raises(ConnectionError):
        connect(raw_server.url, retries=0).download_to(tmp_path / "env", "x")
    assert os.listdir(tmp_path) == []


def test_download_that_could_be_cut_unnoticed(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    raw_server.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + tgz({"a": "1"}).read()
    sandbox = connect(raw_server.url)
    calls: list[Callable[[], object]] = [
        lambda: sandbox.download("x"),
        lambda: sandbox.download("x", "a"),
        lambda: list(sandbox.iter_download("x")),
        lambda: sandbox.download_to(tmp_path / "env", "x"),
        lambda: sandbox.download_to(tmp_path / "new", "x", extract=True),
    ]
    for call in calls:
        with pytest.raises(InvalidReply, match=r"environments|files.*announces no length"):
            call()
    assert os.listdir(tmp_path) == []
    assert len(raw_server.requests) == len(calls)


def test_chunked_download(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    sandbox = connect(raw_server.url, retries=0)
    raw_server.answer = head + b"5\r\nwhole\r\n0\r\n\r\n"
    assert sandbox.download("x").read() == b"whole"
    raw_server.answer = head + b"5\r\nwhole\r\n"
    with pytest.raises(ConnectionError):
        sandbox.download("x")


def test_hostile_download_is_not_unpacked(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    for name in ("../out", "/tmp/out"):
        raw_server.answer = reply("200 OK", tgz({name: "x"}).getvalue())
        with pytest.raises(InvalidEnvironment):
            connect(raw_server.url).download_to(tmp_path / "new", "x", extract=True)
    assert os.listdir(tmp_path) == []


def test_large_transfers_take_little_memory(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    # 256 MiB each way; the requirement for 2 GiB is less than 64 MiB of memory.
    size = 256 * 1024 * 1024

    def answer(connection: Any, request: bytes) -> None:
        if request.startswith(b"POST"):
            connection.sendall(reply("200 OK", '{"status":0,"execution":[],"total_time":0}'))
            return
        connection.sendall(reply("200 OK", length=size))
        chunk = bytes(1024 * 1024)
        for _ in range(256):
            connection.sendall(chunk)

    raw_server.answer = answer
    raw_server.forget = True
    big = tmp_path / "big.tgz"
    with big.open("wb") as file:
        file.write(b"\x1f\x8b")
        file.truncate(size)
    sandbox = connect(raw_server.url)
    tracemalloc.start()
    try:
        sandbox.download_to(tmp_path / "down", "x")
        sandbox.execute({"commands": ["true"]}, big)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "down").stat().st_size == size
    assert peak < 32 * 1024 * 1024
    (tmp_path / "down").unlink()


@pytest.mark.real_lacks("what goes into an archive is limited differently")
def test_round_trip_keeps_names_and_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "with space": "1",
        "-dash": "2",
        "hé/日本": "3",
        "a" * 120: "4",
        "bytes": bytes(range(256)),
        "empty": b"",
    }
    saved = sandbox.execute({"commands": ["true"], "save": True}, files).saved
    assert saved
    saved.download_to(tmp_path / "back", extract=True)
    for name, content in files.items():
        expected = content.encode() if isinstance(content, str) else content
        assert (tmp_path / "back" / name).read_bytes() == expected
    archive = io.BytesIO(sandbox.download(saved.uuid).getvalue())
    assert set(files) <= set(tarfile.open(fileobj=archive).getnames())
