"""Executions, by either flavour, on a server over HTTP."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from sandbox_api import Command, ExecuteConfig, Sandbox, Sandbox400, Sandbox404, SandboxErrCode

from ..conftest import tgz

if TYPE_CHECKING:
    from sandbox_api import ExecutionResult


def outputs(result: ExecutionResult) -> list[str]:
    return [command.stdout for command in result.execution]


def test_one_command(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["echo $((2+2))"]})
    assert result.status == 0
    assert outputs(result) == ["4"]
    command = result.execution[0]
    assert (command.command, command.exit_code, command.stderr) == ("echo $((2+2))", 0, "")
    assert 0 < command.time <= result.total_time < 30
    assert set(result) == {"status", "execution", "total_time"}
    assert result["execution"][0]["stdout"] == "4"


def test_typed_config(sandbox: Sandbox) -> None:
    config = ExecuteConfig(commands=[Command("echo a", timeout=5), "echo b"], environ={"X": "1"})
    assert outputs(sandbox.execute(config)) == ["a", "b"]


def test_commands_share_files_but_no_state(sandbox: Sandbox) -> None:
    result = sandbox.execute(
        {"commands": ["echo kept > f; cd /; export A=1", "pwd; cat f; echo [$A]", "cat"]}
    )
    assert outputs(result) == ["", "/home/student\nkept\n[]", ""]


def test_background_process_lives_across_commands(sandbox: Sandbox) -> None:
    script = (
        "(for i in 1 2 3 4 5 6 7 8 9; do echo tick >> ticks; sleep 0.1; done) > /dev/null 2>&1 &"
    )
    result = sandbox.execute({"commands": [script, "sleep 0.4; wc -l < ticks"]})
    assert int(outputs(result)[1]) >= 2


def test_first_failure_ends_the_run(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["exit 3", "echo never"]})
    assert result.status == 3
    assert [command.exit_code for command in result.execution] == [3]


def test_ignored_failure_does_not(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["-exit 3", "echo reached", "-false"]})
    assert result.status == 0
    assert [command.command for command in result.execution] == ["exit 3", "echo reached", "false"]
    assert [command.exit_code for command in result.execution] == [3, 0, 1]


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [("no_such_program", 127), ("kill -9 $$", 137), ("if", 2), ("exit 255", 255)],
)
def test_exit_code(command: str, exit_code: int, sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": [command]})
    assert (result.status, result.execution[0].exit_code) == (exit_code, exit_code)


def test_error_text_of_bash(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["no_such_program"]})
    assert result.execution[0].stderr == "bash: line 1: no_such_program: command not found"


def test_output_is_text_stripped_of_white_space(sandbox: Sandbox) -> None:
    commands = [
        r"printf '  padded  \n\n'; printf 'e\n' >&2",
        r"printf 'h\303\251 \360\237\230\200'",
    ]
    result = sandbox.execute({"commands": commands})
    assert outputs(result) == ["padded", "hé 😀"]
    assert result.execution[0].stderr == "e"


def test_large_output(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["head -c 3000000 /dev/zero | tr '\\0' x"]})
    assert outputs(result) == ["x" * 3_000_000]


@pytest.mark.real_lacks("it loses output that is not UTF-8, and the exit code with it")
def test_output_that_is_not_text(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": [r"printf 'a\377b'; exit 4"]})
    assert result.status == 4
    assert outputs(result) == ["a\ufffdb"]


def test_command_that_takes_too_long(sandbox: Sandbox) -> None:
    commands = ["echo a", {"command": "echo lost; sleep 5", "timeout": 0.2}, "echo never"]
    result = sandbox.execute({"commands": commands})
    assert result.status == SandboxErrCode.TIMEOUT
    timed_out = result.execution[1]
    assert timed_out.exit_code == SandboxErrCode.TIMEOUT
    assert timed_out.stdout == ""
    assert timed_out.stderr == "Command timed out after 0.2 seconds\n"
    assert 0.2 <= timed_out.time < 3
    assert len(result.execution) == 2


def test_ignored_time_out(sandbox: Sandbox) -> None:
    result = sandbox.execute(
        {"commands": [{"command": "-sleep 5", "timeout": 0.2}, "echo reached"]}
    )
    assert result.status == 0
    assert [command.exit_code for command in result.execution] == [-2, 0]


def test_request_has_ten_seconds(sandbox: Sandbox) -> None:
    commands = [{"command": "sleep 30", "timeout": 40}]
    result = sandbox.execute({"commands": commands})
    assert result.status == SandboxErrCode.TIMEOUT
    assert 9 < result.total_time < 15
    assert result.execution[0].stderr.startswith("Command timed out after ")


@pytest.mark.real_lacks("the command that timed out goes on running there")
def test_nothing_is_left_of_a_command_that_timed_out(sandbox: Sandbox) -> None:
    command = "setsid bash -c '(sleep 1; touch late) & sleep 9' & sleep 9"
    result = sandbox.execute(
        {"commands": [{"command": f"-{command}", "timeout": 0.3}, "sleep 1.2; ls"]}
    )
    assert outputs(result)[1] == ""


def test_environ(sandbox: Sandbox) -> None:
    environ = {"VAR1": "My var", "N": 3, "B": True, "L": [1, 2], "E": "é", "Q": "a'\"$(id)\nb"}
    result = sandbox.execute(
        {"commands": ['echo "$VAR1"; echo "$N $B $L $E"', 'printf %s "$Q"'], "environ": environ}
    )
    assert outputs(result) == ["My var\n3 True [1, 2] é", "a'\"$(id)\nb"]


def test_uploaded_environment(sandbox: Sandbox) -> None:
    environ = tgz({"file1.txt": "env1\n", "dir/file2.txt": "env2\n"})
    result = sandbox.execute({"commands": ["cat file1.txt dir/file2.txt"]}, environ)
    assert outputs(result) == ["env1\nenv2"]
    assert environ.closed


def test_save_and_go_on_from_there(sandbox: Sandbox) -> None:
    saved = sandbox.execute({"commands": ["mkdir d; echo kept > d/kept.txt"], "save": True})
    assert isinstance(saved.environment, UUID)
    assert saved["environment"] == str(saved.environment)
    assert saved.expire is not None
    assert saved.expire.tzinfo is not None
    now = datetime.now(UTC)
    assert now < saved.expire <= now + timedelta(days=30)
    config = {"commands": ["cat d/kept.txt"], "environment": saved["environment"]}
    assert outputs(sandbox.execute(config)) == ["kept"]


def test_saved_after_a_failure(sandbox: Sandbox) -> None:
    saved = sandbox.execute({"commands": ["echo a > a", "false"], "save": True})
    assert saved.status == 1
    assert saved.environment
    assert sandbox.download(saved.environment, "a").read() == b"a\n"


def test_upload_wins_over_what_was_stored(sandbox: Sandbox) -> None:
    files = {"file1.txt": "stored1\n", "file2.txt": "stored2\n", "dir/file1.txt": "nested\n"}
    stored = sandbox.execute({"commands": ["true"], "save": True}, tgz(files))
    result = sandbox.execute(
        {
            "commands": ["cat file1.txt file2.txt dir/file1.txt new.txt"],
            "environment": str(stored.environment),
        },
        tgz({"file1.txt": "other1\n", "new.txt": "new\n"}),
    )
    assert outputs(result) == ["other1\nstored2\nnested\nnew"]


def test_result_file(sandbox: Sandbox) -> None:
    config = {"commands": ["mkdir d; printf 'a\\r\\nb\\rc\\n' > d/r; false"], "result_path": "d/r"}
    result = sandbox.execute(config)
    assert result.status == 1
    assert result.result == "a\nb\nc\n"


def test_empty_result_file(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["touch r"], "result_path": "r"})
    assert (result.status, result.result) == (0, "")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", SandboxErrCode.RESULT_NOT_FOUND),
        (r"printf '\377' > r", SandboxErrCode.RESULT_NOT_UTF8),
    ],
)
def test_result_file_that_can_not_be_read(
    command: str, code: SandboxErrCode, sandbox: Sandbox
) -> None:
    result = sandbox.execute({"commands": [command], "result_path": "r"})
    assert result.status == code
    assert result.result is None
    assert "result" not in result


@pytest.mark.real_lacks("it answers 500")
def test_result_path_that_names_a_directory(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["mkdir r"], "result_path": "r"})
    assert result.status == SandboxErrCode.RESULT_NOT_FOUND


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], "config must be an object, not <class 'list'>"),
        ({}, "Missing field 'commands' in config"),
        ({"commands": "true"}, "commands must be a list, not <class 'str'>"),
        ({"commands": []}, "Command list cannot be empty"),
        ({"commands": [3]}, "Command badly formatted : '3'"),
        ({"commands": [{"timeout": 1}]}, "Command badly formatted : '{'timeout': 1}'"),
        (
            {"commands": [{"command": "true", "timeout": "1"}]},
            "Command badly formatted : '{'command': 'true', 'timeout': '1'}'",
        ),
        ({"commands": ["true"], "environ": []}, "environ must be an object, not <class 'list'>"),
        (
            {"commands": ["true"], "result_path": 3},
            "result_path must be a string, not <class 'int'>",
        ),
        ({"commands": ["true"], "save": None}, "save must be a boolean, not <class 'NoneType'>"),
    ],
)
def test_config_that_is_wrong(config: Any, words: str, sandbox: Sandbox) -> None:
    with pytest.raises(Sandbox400) as caught:  # `execute` would not send it
        sandbox.request("POST", "execute/", fields={"config": config})
    assert str(caught.value).endswith(words)
    assert caught.value.response.text == words


@pytest.mark.parametrize(
    "environ",
    [b"", b"not an archive", tgz({"a": bytes(range(256)) * 20}).getvalue()[:200]],
    ids=["empty", "no archive", "truncated"],
)
@pytest.mark.real_lacks("it answers 500")
def test_upload_that_is_no_environment(environ: bytes, sandbox: Sandbox) -> None:
    with pytest.raises(Sandbox400):
        sandbox.execute({"commands": ["true"]}, io.BytesIO(environ))


@pytest.mark.parametrize(
    "environment", ["872b604c-9cce-42e2-8888-9a0311f3a724", "unknown", "../environments/x"]
)
def test_environment_that_is_not_stored(environment: str, sandbox: Sandbox) -> None:
    with pytest.raises(Sandbox404, match=r"No environment with UUID '.*' found"):
        sandbox.execute({"commands": ["true"], "environment": environment})


@pytest.mark.real_lacks("commands are root there")
def test_commands_are_isolated(sandbox: Sandbox) -> None:
    commands = [
        "id -u; id -un; echo $HOME",
        "wc -l < /proc/net/dev",
        "-touch /etc/x /usr/x",
        "echo $$; ls /root /home",
    ]
    result = sandbox.execute({"commands": commands})
    assert outputs(result)[0] == "1000\nstudent\n/home/student"
    assert outputs(result)[1] == "3"  # two lines of heading, and lo
    assert result.execution[2].exit_code != 0
    assert int(outputs(result)[3].split()[0]) < 100
    assert "student" in outputs(result)[3]
