from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sandbox_api.local import LocalServer

from .conftest import Client, pid, processes
from .public import Public, execute, serving, start, wait_for


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
    folder = Path(server.url.removeprefix("unix://")).parent.parent
    del server
    assert not folder.exists()


def test_the_socket_is_its_users_only(own: Client) -> None:
    assert Path(own.socket).stat().st_mode & 0o777 == 0o600
    assert Path(own.socket).parent.stat().st_mode & 0o777 == 0o700
    status = own.folder.stat()
    # Whom commands run as gets at the folders of sandboxes in it.
    others = (0o710, 65534) if os.geteuid() == 0 else (0o700, status.st_gid)
    assert (status.st_mode & 0o777, status.st_gid) == others


def test_a_process_without_standard_streams_can_have_one() -> None:
    code = (
        "from sandbox_api import Sandbox\n"
        "with Sandbox.local() as sandbox:\n"
        "    raise SystemExit(sandbox.execute(dict(commands=['exit 3'])).execution[0].exit_code)"
    )
    shell = ["bash", "-c", '"$@" <&- >&- 2>&-', "", sys.executable, "-c", code]
    assert subprocess.run(shell, check=False).returncode == 3


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
        folder = Path(url).parent.parent
        with httpx.Client(transport=httpx.HTTPTransport(uds=url), base_url="http://x") as client:
            assert client.get("/specifications/").status_code == 200
        with socket.socket(socket.AF_UNIX) as connection:
            # Something is running, too.
            connection.connect(url)
            body = b"config=" + b'{"commands": ["sleep 31338"]}'
            connection.sendall(
                b"POST /execute/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b" % (len(body), body)
            )
            wait_for(lambda: processes("sleep\x0031338"))
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

    number = own.run("true", save=True)["environment"]
    # It takes a moment to get the next sandboxes ready.
    time.sleep(1)
    before = state()
    for _ in range(5):
        own.run("sleep 60 & mkdir -p a/b; chmod 0 a", save=True, environment=number)
        own.run({"command": "sleep 60", "timeout": 0.05}, result_path="missing")
        own.ask("true", upload=b"nonsense")
        own.get(f"/environments/{number}/")
        own.get(f"/files/{number}/missing/")
    wait_for(lambda: state() == before)
    wait_for(lambda: own.left() == [])


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_public_server_says_what_it_does_and_ends_on_a_signal(
    tmp_path: Path, end: signal.Signals
) -> None:
    with serving(tmp_path, "--max-storage", "5M", "--slots", "3", "--wait", "0.5") as server:
        answer = execute(server.url, "echo hi", save=True).json()
        assert answer["execution"][0]["stdout"] == "hi"
        assert httpx.get(f"{server.url}/usages/", headers={"Host": "evil"}).status_code == 403
        # An idle connection does not hold it up.
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            server.process.send_signal(end)
            assert server.process.wait(15) == 0
        server.stop()
    for words in (
        "bubblewrap",
        "3 requests",
        "0.5 s",
        f"24 hours in {tmp_path}, 5 MiB",
        "no token",
    ):
        assert words in server.text
    assert (tmp_path / "environments" / f"{answer['environment']}.tgz").exists()
    assert "Traceback" not in server.text


def test_without_isolation_a_public_server_warns(tmp_path: Path) -> None:
    with serving(tmp_path, "--isolation", "none") as server:
        assert "WITHOUT ANY ISOLATION" in server.lines[0]


def test_environments_are_kept_in_the_users_folder_by_default(tmp_path: Path) -> None:
    server = Public(start("--port", "0", XDG_DATA_HOME=str(tmp_path)))
    saved = execute(server.url, "true", save=True).json()["environment"]
    assert server.stop() == 0
    assert (tmp_path / "sandbox-api" / "environments" / f"{saved}.tgz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-storage", "much"], "'much' is no size"),
        (["--data", "s3://eve:secret@bucket"], "must have no password"),
        (["--data", ""], "The folder of environments has no name"),
        (["--data", "nonsense://bucket"], "cannot be kept at nonsense://bucket: ValueError: "),
        (["--data", "/proc/no"], "cannot be kept at /proc/no: No such file or directory"),
        (["--slots", "0"], "There must be a slot at least"),
        (["--wait", "-1"], "cannot wait less than 0 s"),
        (["--wait", "nan"], "cannot wait less than 0 s"),
        (["--run-time", "0"], "cannot take 0 s together"),
        (["--run-time", "inf"], "cannot take inf s together"),
        (
            ["--host", "no.such.host.invalid"],
            "Cannot listen on no.such.host.invalid port 0: Name or service",
        ),
        (["--port", "99999"], "Cannot listen on 127.0.0.1 port 99999: there is no such port"),
    ],
)
def test_wrong_options_are_a_clear_message(options: list[str], words: str) -> None:
    with start("--port", "0", *options) as process:
        text = process.communicate()[1]
    assert process.returncode == 1
    assert words in text
    assert "listens on" not in text
    assert "Errno" not in text
    assert "Traceback" not in text


def test_run_time_is_set(tmp_path: Path) -> None:
    with serving(tmp_path, "--run-time", "0.5") as server:
        assert "Each has 0.5 s.\n" in server.text
        result = execute(server.url, "sleep 9").json()
    assert result["status"] == -2
    assert result["total_time"] < 5


def test_slots_and_waiting_are_set(tmp_path: Path) -> None:
    with serving(tmp_path, "--slots", "1", "--wait", "0.1") as server:
        assert httpx.get(f"{server.url}/specifications/").json()["container"]["count"] == 1
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: execute(server.url, "sleep 1").status_code, range(2)))
        assert sorted(answers) == [200, 503]


def test_a_port_in_use_is_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start("--port", str(port)) as server:
            text = server.communicate()[1]
    assert server.returncode == 1
    assert text == f"Cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert "Traceback" not in text


def test_a_socket_can_be_handed_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        with subprocess.Popen(
            [sys.executable, "-m", "sandbox_api.local", "--fd", str(fd), "--data", tmp_path],
            pass_fds=[fd],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        ) as server:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            assert httpx.get(f"{url}/specifications/").status_code == 200
            server.terminate()
