from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api.local import LocalServer

from .conftest import Client, processes

if TYPE_CHECKING:
    from collections.abc import Iterator


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def own() -> Iterator[Client]:
    server = LocalServer()
    with Client(server) as client:
        yield client
    server.stop()


def pid(client: Client) -> int:
    [found] = processes(str(client.folder))
    return found


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, sandbox_api.local; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    for name in ("starlette", "uvicorn", "psutil", "anyio", "asyncio", "sandbox_client.models"):
        assert name not in modules.split()


def test_stopping_twice_is_like_once_and_leaves_nothing(own: Client) -> None:
    own.run("true", save=True)
    server = pid(own)
    own.server.stop()
    own.server.stop()
    assert not own.folder.exists()
    assert not Path(f"/proc/{server}").exists()
    assert own.server.failure() is None


def test_a_server_that_is_not_used_any_more_ends() -> None:
    server = LocalServer()
    folder = Path(server.url.removeprefix("unix://")).parent
    del server
    assert not folder.exists()


def test_the_socket_is_its_users_only(own: Client) -> None:
    assert Path(own.socket).stat().st_mode & 0o777 == 0o600
    assert own.folder.stat().st_mode & 0o066 == 0


def test_a_server_that_dies_tells_why(own: Client) -> None:
    assert own.server.failure() is None
    own.run("true")
    os.kill(pid(own), signal.SIGKILL)
    wait_for(lambda: own.server.failure() is not None)
    assert own.server.failure() == "exit code -9"


def test_a_server_that_does_not_start_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    server = LocalServer()
    wait_for(lambda: server.failure() is not None)
    assert "Python" in (server.failure() or "")
    server.stop()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_server_ends_with_its_parent_and_leaves_nothing(end: signal.Signals | None) -> None:
    code = "from sandbox_api.local import *; s = LocalServer(); print(s.url, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        url = parent.stdout.readline().strip().removeprefix("unix://")
        folder = Path(url).parent
        with httpx.Client(transport=httpx.HTTPTransport(uds=url), base_url="http://x") as client:
            assert client.get("/specifications/").status_code == 200
        with socket.socket(socket.AF_UNIX) as connection:
            # Something is running, too.
            connection.connect(url)
            body = b"config=" + b'{"commands": ["sleep 9"]}'
            connection.sendall(
                b"POST /execute/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b" % (len(body), body)
            )
            wait_for(lambda: list(folder.glob("sandbox-work-*/tmp*/control/1.out")))
            if end:
                parent.send_signal(end)
            else:
                parent.stdin.close()
            parent.wait()
            wait_for(lambda: not processes(str(folder)))
    wait_for(lambda: not folder.exists())


def test_a_killed_server_leaves_no_processes(own: Client) -> None:
    server = pid(own)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(own.socket)
        body = b'config={"commands": ["sleep 31337"]}'
        connection.sendall(
            b"POST /execute/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b" % (len(body), body)
        )
        wait_for(lambda: processes("sleep\x0031337"))
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: not processes("sleep\x0031337"))
    own.server.stop()
    assert not own.folder.exists()


def test_requests_leave_no_descriptors_processes_or_folders(own: Client) -> None:
    server = pid(own)

    def state() -> tuple[int, int]:
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return len(list(Path(f"/proc/{server}/fd").iterdir())), len(children)

    own.run("true", save=True)
    before = state()
    number = own.run("true", save=True)["environment"]
    for _ in range(5):
        own.run("sleep 60 & mkdir -p a/b; chmod 0 a", save=True, environment=number)
        own.run({"command": "sleep 60", "timeout": 0.05}, result_path="missing")
        own.ask("true", upload=b"nonsense")
        own.get(f"/environments/{number}/")
        own.get(f"/files/{number}/missing/")
    assert state() == before
    assert own.left() == []


def serve(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox_api.local", *options], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_public_server_says_where_it_is_and_ends_on_a_signal(
    tmp_path: Path, end: signal.Signals
) -> None:
    with serve("--port", "0", "--data", str(tmp_path)) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert "bubblewrap" in line
        url = line.split()[4].rstrip(".")
        form = {"config": '{"commands": ["echo hi"], "save": true}'}
        answer = httpx.post(f"{url}/execute/", data=form).json()
        assert answer["execution"][0]["stdout"] == "hi"
        assert httpx.get(f"{url}/usages/", headers={"Host": "evil"}).status_code == 400
        server.send_signal(end)
        assert server.wait(15) == 0
        assert server.stderr.read() == ""
    assert (tmp_path / "environments" / f"{answer['environment']}.tgz").exists()


def test_without_isolation_a_public_server_warns() -> None:
    with serve("--port", "0", "--isolation", "none") as server:
        assert server.stderr is not None
        assert "WITHOUT ANY ISOLATION" in server.stderr.readline()
        server.terminate()


def test_a_port_in_use_is_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serve("--port", str(port)) as server:
            assert server.wait(15) == 1
            assert server.stderr is not None
            text = server.stderr.read()
    assert f"Can not listen on 127.0.0.1 port {port}" in text
    assert "Traceback" not in text


def test_a_socket_can_be_handed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        with subprocess.Popen(
            [sys.executable, "-m", "sandbox_api.local", "--fd", str(fd)],
            pass_fds=[fd],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        ) as server:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            assert httpx.get(f"{url}/specifications/").status_code == 200
            server.terminate()
