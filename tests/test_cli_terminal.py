"""The command line on a real terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from .conftest import BARE
from .servers import RawServer, reply
from .test_cli import PROGRAM
from .test_cli_batch import DONE, write_jobs

if TYPE_CHECKING:
    import socket
    from pathlib import Path


def on_terminal(
    *arguments: str | Path, dimensions: tuple[int, int] = (30, 120), **environment: str
) -> Any:
    return pexpect.spawn(
        str(PROGRAM),
        [str(each) for each in arguments],
        env={**BARE, "TERM": "xterm-256color", **environment},
        dimensions=dimensions,
        encoding="utf-8",
        timeout=20,
    )


def exit_code(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus)


def test_progress_of_a_batch(raw_server: RawServer, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.05)
        connection.sendall(reply("500 Internal Server Error") if b"echo 3" in request else DONE)

    raw_server.answer = answer
    jobs = write_jobs(tmp_path / "jobs", 40)
    options = ("-o", tmp_path / "results", "--url", raw_server.url, "--concurrency", "2")
    child = on_terminal("batch", jobs, *options)
    child.expect(r"\d+/40")
    child.expect(r"[\d.]+/s")
    child.expect("11 not passed")
    child.expect("40 jobs in .* 29 passed, 0 failed, 0 timed out, 11 errors")
    assert exit_code(child) == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_results_are_shown_above_the_progress(
    options: list[str], raw_server: RawServer, tmp_path: Path
) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.05)
        connection.sendall(DONE)

    raw_server.answer = answer
    jobs = write_jobs(tmp_path / "jobs", 6)
    options = ["--url", raw_server.url, "--concurrency", "1", *options]
    child = on_terminal("batch", jobs, *options, dimensions=(30, 60))
    shown = child.read()
    assert exit_code(child) == 0
    # Each where the progress was taken away, and as it is, however long.
    assert len(re.findall(r'\x1b\[2K(?:passed +\d|\{"id".*"seconds": [\d.]+\}\r)', shown)) == 6, (
        shown
    )
    assert "  " not in re.sub(r"passed +", "", shown)  # lines are not filled up


def test_interrupted_on_a_terminal(raw_server: RawServer, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if b"echo 0" in request:
            connection.sendall(DONE)
        else:
            connection.recv(1)  # until it hangs up

    raw_server.answer = answer
    jobs = write_jobs(tmp_path / "jobs", 9)
    options = ("-o", tmp_path / "results", "--url", raw_server.url, "--concurrency", "2")
    child = on_terminal("batch", jobs, *options)
    child.expect("1/9")
    child.sendintr()
    child.expect("1 job in .* 1 passed")
    child.expect("--resume")
    assert exit_code(child) == 130


@pytest.fixture
def described(raw_server: RawServer, recordings: Any) -> RawServer:
    def answer(connection: socket.socket, request: bytes) -> None:
        name = "specifications" if b"/specifications/" in request else "usages"
        connection.sendall(reply("200 OK", json.dumps(recordings[name]["json"])))

    raw_server.answer = answer
    return raw_server


def test_watching_the_load(described: RawServer) -> None:
    child = on_terminal("usage", "--watch", "--interval", "0.05", "--url", described.url)
    child.expect("CPU")
    for name in ("Memory", "Slots", "Sent", "Received"):
        child.expect(name)
    child.expect("[▁▂▃▄▅▆▇█]{3}")  # moves
    child.sendintr()
    assert exit_code(child) == 0


def test_watching_the_load_as_json_on_a_terminal(described: RawServer) -> None:
    command = ("usage", "--watch", "--json", "--interval", "0.05", "--url", described.url)
    child = on_terminal(*command, dimensions=(24, 60))
    child.readline()
    assert json.loads(child.readline())["cpu"]
    child.sendintr()
    assert exit_code(child) == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watching_the_load_into_a_pipe(options: list[str], described: RawServer) -> None:
    command: list[str | Path] = [PROGRAM, "usage", "--watch", "--interval", "0.01", *options]
    command += ["--url", described.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stdout.read()
    assert process.returncode == 0
    assert first == second
    if options:
        assert json.loads(first)["cpu"]
    else:
        assert re.fullmatch(r"cpu \d+%\tram \d+\tslots \d+\tsent \d+\treceived \d+\n", first)


def test_the_load_fits_on_a_terminal(described: RawServer) -> None:
    command = ("usage", "--watch", "--interval", "0.01", "--url", described.url)
    child = on_terminal(*command, dimensions=(24, 80))
    child.expect("▁{30}")
    before = child.before
    child.sendintr()
    assert exit_code(child) == 0
    # Neither wrapped nor cut.
    assert "…" not in before
    assert re.search(r"CPU .*\r\nMemory .*\r\nSlots .*\r\nSent .*\r\nReceived ", before)


def test_tables_are_drawn_on_a_terminal(described: RawServer) -> None:
    child = on_terminal("specs", "--url", described.url)
    shown = child.read()
    assert re.search(r"What.*container\.count +20", shown, re.DOTALL), shown
    assert exit_code(child) == 0
    child = on_terminal("specs", "--url", described.url, NO_COLOR="1")
    child.expect(pexpect.EOF)
    assert not re.search(r"\x1b\[\d*;?3\d", child.before)
    child.close()


def test_progress_of_transfers(raw_server: RawServer, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST"):
            return connection.sendall(DONE)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n")
        for _ in range(4):
            connection.sendall(bytes(100_000))
            time.sleep(0.15)
        return None

    raw_server.answer = answer
    target = tmp_path / "file"
    child = on_terminal("download", "x", "y", "-o", target, "--url", raw_server.url)
    child.expect("Downloading")
    child.expect(r"[\d.]+/400.0 kB")
    assert exit_code(child) == 0
    assert target.stat().st_size == 400_000
    archive = tmp_path / "large.tgz"
    archive.write_bytes(b"\x1f\x8b" + os.urandom(3_000_000))
    child = on_terminal("execute", "true", "--env", archive, "--url", raw_server.url)
    child.expect("Packing")
    child.expect("Uploading")
    assert exit_code(child) == 0
    assert b"\x1f\x8b" + archive.read_bytes()[2:50] in raw_server.requests[-1]
