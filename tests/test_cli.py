"""The command line, as a shell runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sandbox_api import Sandbox, __version__

from .servers import RawServer, reply

PROGRAM = Path(sysconfig.get_path("scripts"), "sandbox-api")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program, with nothing but PATH and what is given in its environment."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env={"PATH": os.environ["PATH"], "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_execute_on_a_private_local_sandbox() -> None:
    done = run("execute", "echo $((2+2))")
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


@pytest.mark.parametrize(
    ("commands", "stdout", "stderr", "code"),
    [
        (["echo a; echo b >&2", "echo c"], "a\nc\n", "b\n", 0),
        (["exit 3", "echo never"], "", "", 3),
        (["--", "-exit 3", "echo reached"], "reached\n", "", 0),
        (["no_such_program"], "", "bash: line 1: no_such_program: command not found\n", 127),
        (["kill -9 $$"], "", "", 137),
    ],
)
def test_execute(
    commands: list[str], stdout: str, stderr: str, code: int, sandbox_url: str
) -> None:
    done = run("execute", *commands, SANDBOX_URL=sandbox_url)
    assert (done.stdout, done.stderr, done.returncode) == (stdout, stderr, code)


def test_execution_that_times_out(raw_server: RawServer) -> None:
    timed_out = '{"command": "a", "exit_code": -2, "stdout": "", "stderr": "late\\n", "time": 1}'
    raw_server.answer = reply(
        "200 OK", f'{{"status": -2, "execution": [{timed_out}], "total_time": 1}}'
    )
    done = run("execute", "--url", raw_server.url, "sleep 20")
    assert (done.stdout, done.stderr, done.returncode) == ("", "late\n", 124)


@pytest.mark.parametrize(
    ("status", "code"),
    [("503 Service Unavailable", 75), ("400 Bad Request", 1), ("500 Internal Server Error", 1)],
)
def test_server_that_answers_an_error(status: str, code: int, raw_server: RawServer) -> None:
    raw_server.answer = reply(status, "its own words")
    done = run("execute", "true", SANDBOX_URL=raw_server.url)
    assert done.returncode == code
    assert done.stderr == f"sandbox-api: POST {raw_server.url}/execute/: {status}: its own words\n"


def test_server_that_is_not_there() -> None:
    done = run("execute", "--url", "http://127.0.0.1:1", "true")
    assert done.returncode == 69
    assert done.stderr.startswith("sandbox-api: POST http://127.0.0.1:1/execute/: the server can't")
    assert "Traceback" not in done.stderr


def test_server_that_never_answers(raw_server: RawServer) -> None:
    raw_server.answer = lambda *_: None
    done = run("execute", "--url", raw_server.url, "--timeout", "0.2", "true")
    assert done.returncode == 124
    assert "timed out" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["execute", "--url", "localhost:7000", "true"], "has no scheme"),
        (["execute"], "Missing argument"),
        (["no-such-command"], "No such command"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout == f"sandbox-api {__version__}\n"
    helped = run("--help").stdout
    assert "execute" in helped
    assert "serve" in helped
    assert "124" in run("execute", "--help").stdout


def test_serve_until_interrupted(tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--data", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout
            lines = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", lines)):
                line = server.stdout.readline()
                assert line, lines
                lines += line
            with Sandbox(found[0]) as sandbox:
                result = sandbox.execute({"commands": ["echo served"]})
                assert result.execution[0].stdout == "served"
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
    assert "Traceback" not in rest
    assert server.returncode in (0, 130, -signal.SIGINT)


def test_serve_on_a_port_that_is_taken(raw_server: RawServer) -> None:
    done = run("serve", "--port", raw_server.url.rpartition(":")[2])
    assert done.returncode != 0
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox_api.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"sandbox-api {__version__}\n"
