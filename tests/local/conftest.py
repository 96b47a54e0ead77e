from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api.local import LocalServer
from sandbox_api.local.files import remove
from sandbox_api.local.limits import default_warm

if TYPE_CHECKING:
    from collections.abc import Iterator


class Client(httpx.Client):
    """Speaks to a local server, through its socket."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        self.socket = server.url.removeprefix("unix://")
        self.folder = Path(self.socket).parent.parent
        super().__init__(
            transport=httpx.HTTPTransport(uds=self.socket), base_url="http://sandbox", timeout=30
        )

    def ask(self, *commands: Any, upload: bytes | None = None, **config: Any) -> httpx.Response:
        """Ask to execute commands."""
        form = {"config": json.dumps({"commands": commands, **config})}
        files = {} if upload is None else {"environment": ("environment.tgz", upload)}
        return self.post("/execute/", data=form, files=files)

    def run(self, *commands: Any, upload: bytes | None = None, **config: Any) -> Any:
        """Execute commands and return the answer."""
        response = self.ask(*commands, upload=upload, **config)
        assert response.status_code == 200, response.text
        return response.json()

    def output(self, command: str, **config: Any) -> str:
        """Return what one command writes, whatever its exit code is."""
        [result] = self.run(command, **config)["execution"]
        return f"{result['stdout']}{result['stderr']}"

    def left(self) -> list[str]:
        """Return the working directories that are still there, if more than of idle sandboxes."""
        found = [path.name for path in self.folder.glob("sandbox-work-*/home-*")]
        return found if len(found) > default_warm() else []


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    server = LocalServer()
    try:
        with Client(server) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture
def own() -> Iterator[Client]:
    """Give a client of a server that no other test uses."""
    server = LocalServer()
    with Client(server) as client:
        yield client
    server.stop()


@pytest.fixture
def work() -> Iterator[Path]:
    """Give a folder that another account gets at, which it does not at pytest's."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def no_root() -> Iterator[Path]:
    """Give a folder, and be an account that modes hold for, as most servers are."""
    root, nobody = os.geteuid() == 0, 65534
    folder = Path(tempfile.mkdtemp())
    if root:
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        remove(folder)


def pid(client: Client) -> int:
    """Return the process id of a client's server."""
    # Others have the folder in their command line too, for a moment.
    [found] = processes(f"--private\0{client.folder}")
    return found


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Return a gzipped tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                file.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    """Return a member that is no regular file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def processes(text: str) -> list[int]:
    """Return the ids of the host's processes that have text in their command line."""
    found: list[int] = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdecimal() and text.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
