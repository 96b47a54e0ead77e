"""Stored environments and their files, by either flavour, on a server over HTTP."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from sandbox_api import Sandbox, Sandbox404

from ..conftest import tgz

if TYPE_CHECKING:
    from pathlib import Path

FILES: dict[str, str | bytes] = {
    "file1.txt": "env1\n",
    "dir/file1.txt": "nested\n",
    "with space.txt": "space\n",
    "a#b.txt": "hash\n",
    "a?b.txt": "question\n",
    "100%.txt": "percent\n",
    "100%25.txt": "escaped\n",
    "hé.txt": "accent\n",
    "日本.txt": "kanji\n",
    "-dash.txt": "dash\n",
    "empty": "",
    "bytes.bin": bytes(range(256)),
}


@pytest.fixture
def stored(sandbox: Sandbox) -> UUID:
    """An environment of many files, stored on the server."""
    result = sandbox.execute({"commands": ["true"], "save": True}, tgz(FILES))
    assert result.environment
    return result.environment


def test_download_of_an_environment(sandbox: Sandbox, stored: UUID) -> None:
    stream = sandbox.download(str(stored))
    assert isinstance(stream, io.BytesIO)
    assert stream.tell() == 0
    assert sandbox.check(stored) == len(stream.getvalue())
    with tarfile.open(fileobj=stream) as archive:
        names = {member.name for member in archive if member.isfile()}
        assert names == set(FILES)
        assert archive.getmember("dir").isdir()


@pytest.mark.parametrize("name", FILES)
def test_download_of_a_file(name: str, sandbox: Sandbox, stored: UUID) -> None:
    content = FILES[name]
    data = content.encode() if isinstance(content, str) else content
    assert sandbox.download(stored, name).read() == data
    size = sandbox.check(stored, name)
    assert type(size) is int
    assert size == len(data)


@pytest.mark.real_lacks("its routes take no newline")
@pytest.mark.parametrize("name", ["b\nc", "\n", "d/\nb\n"])
def test_file_whose_name_has_a_newline(name: str, sandbox: Sandbox) -> None:
    saved = sandbox.execute({"commands": ["true"], "save": True}, tgz({name: "x"})).saved
    assert saved
    assert [file.name for file in saved.files() if file.type == "file"] == [name]
    assert (saved.exists(name), saved.size(name), saved.read_bytes(name)) == (True, 1, b"x")
    assert not saved.exists(f"{name}\n")
    assert not saved.exists(name.removesuffix("\n").removesuffix("c"))


@pytest.mark.real_lacks("it takes paths for UTF-8")
def test_file_whose_name_is_not_utf_8(sandbox: Sandbox, tmp_path: Path) -> None:
    command = r"mkdir d; printf x | tee $'a\xff' > $'d/\xe9'; ln -s $'d/\xe9' link"
    saved = sandbox.execute({"commands": [command], "save": True}).saved
    assert saved
    names = {"a\udcff", "d/\udce9"}
    assert {file.name for file in saved.files() if file.type == "file"} == names
    for name in (*names, "link"):
        assert (saved.exists(name), saved.size(name), saved.read_bytes(name)) == (True, 1, b"x")
        assert saved.download_to(tmp_path / "x", name).read_bytes() == b"x"
    # Not what it looks like.
    for name in ("a\ufffd", "a\xff", "a\udcfe"):
        assert not saved.exists(name)
        with pytest.raises(Sandbox404, match="could not be found"):
            saved.read_bytes(name)


@pytest.mark.parametrize(
    "path", ["unknown.txt", "../file1.txt", "./file1.txt", "dir//file1.txt", "file1.txt/x"]
)
def test_file_that_is_not_there(path: str, sandbox: Sandbox, stored: UUID) -> None:
    assert sandbox.check(stored, path) == 0
    with pytest.raises(Sandbox404, match="could not be found in environment"):
        sandbox.download(stored, path)


@pytest.mark.real_lacks("it answers 500")
def test_directory_is_no_file(sandbox: Sandbox, stored: UUID) -> None:
    assert sandbox.check(stored, "dir") == 0
    with pytest.raises(Sandbox404):
        sandbox.download(stored, "dir")


def test_environment_that_is_not_there(sandbox: Sandbox) -> None:
    unknown = uuid4()
    for path in (None, "file1.txt"):
        assert sandbox.check(unknown, path) == 0
        with pytest.raises(Sandbox404, match=f"No environment with UUID '{unknown}' found"):
            sandbox.download(unknown, path)


@pytest.mark.parametrize("uuid", ["unknown", "../usages", "872B604C-9CCE-42E2-8888-9A0311F3A724"])
def test_id_that_is_none(uuid: str, sandbox: Sandbox) -> None:
    assert sandbox.check(uuid) == 0
    with pytest.raises(Sandbox404, match="The requested resource was not found"):
        sandbox.download(uuid)
