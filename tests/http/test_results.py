"""Reading a result without a manual, by either flavour, on a server over HTTP."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import (
    ExecuteConfigDict,
    ExecutionFailed,
    ExecutionResult,
    Sandbox,
    SandboxErrCode,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_all_is_well(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["true", "-false"]})
    assert isinstance(result, ExecutionResult)
    assert result.ok
    assert not result.timed_out
    assert result.error is None
    assert result.raise_for_status() is result
    assert result.saved is None


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"commands": ["true", "ls /nowhere"]}, None, "'ls /nowhere' failed with exit code 2: ls:"),
        ({"commands": ["exit 3"]}, None, "'exit 3' failed with exit code 3"),
        (
            {"commands": [{"command": "sleep 5", "timeout": 0.1}]},
            SandboxErrCode.TIMEOUT,
            "'sleep 5' timed out: Command timed out after 0.1 seconds",
        ),
        (
            {"commands": ["true"], "result_path": "none"},
            SandboxErrCode.RESULT_NOT_FOUND,
            "the result file was not found",
        ),
        (
            {"commands": [r"printf '\377' > r"], "result_path": "r"},
            SandboxErrCode.RESULT_NOT_UTF8,
            "the result file is not UTF-8",
        ),
    ],
)
def test_something_is_not(
    config: dict[str, Any], error: SandboxErrCode | None, words: str, sandbox: Sandbox
) -> None:
    result = sandbox.execute(config)
    assert not result.ok
    assert result.error is error
    assert result.timed_out == (error is SandboxErrCode.TIMEOUT)
    with pytest.raises(ExecutionFailed) as caught:
        result.raise_for_status()
    assert str(caught.value).startswith(words)
    assert caught.value.result == result
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@pytest.mark.real_lacks("it has no such bounds")
@pytest.mark.parametrize(
    ("config", "exceeded", "words"),
    [
        (
            {"result_path": "a"},
            "result",
            "the file at result_path is larger than the sandbox takes",
        ),
        ({"save": True}, "save", "the working directory is more than the sandbox saves"),
    ],
)
def test_more_than_the_sandbox_takes(
    config: dict[str, Any], exceeded: str, words: str, sandbox: Sandbox
) -> None:
    command = "truncate -s 1G a b c; echo out"
    result = sandbox.execute({"commands": [command], **config})
    assert (result.error, result.saved) == (SandboxErrCode.UNKNOWN, None)
    assert (result.execution[-1].stdout, result.execution[-1].exceeded) == ("out", exceeded)
    with pytest.raises(ExecutionFailed) as caught:
        result.raise_for_status()
    assert (str(caught.value), caught.value.command) == (words, None)
    reason = words if exceeded == "result" else "result_path was not given"
    with pytest.raises(ValueError, match=f"there is no result: {reason}"):
        result.json()


@pytest.mark.parametrize(
    ("exceeded", "words"),
    [
        ("memory", "it took more memory than a request may have"),
        ("cpu", "it took more processor time than a request may have"),
        ("disk", "it took more disk space than a request may have"),
        ("luck", "it took too much luck"),
    ],
)
def test_what_was_too_much_is_told(exceeded: str, words: str) -> None:
    command = {"command": "hog", "exit_code": 137, "stdout": "", "stderr": "no", "time": 1}
    command["exceeded"] = exceeded
    answer = {"status": 137, "execution": [command], "total_time": 1}
    failure = ExecutionFailed(ExecutionResult.from_dict(answer))
    assert str(failure) == f"'hog' failed with exit code 137 ({words}): no"


def test_json_result(sandbox: Sandbox) -> None:
    config: ExecuteConfigDict = {
        "commands": ["""echo '{"marks": [17, 20]}' > out.json"""],
        "result_path": "out.json",
    }
    assert sandbox.execute(config).json() == {"marks": [17, 20]}


def test_json_result_that_is_none(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="result_path was not given"):
        sandbox.execute({"commands": ["true"]}).json()
    with pytest.raises(ValueError, match="there is no result: the result file was not found"):
        sandbox.execute({"commands": ["true"], "result_path": "r"}).json()
    with pytest.raises(ValueError, match="there is no result: the result file is not UTF-8"):
        sandbox.execute({"commands": ["printf '\\xff' > r"], "result_path": "r"}).json()
    with pytest.raises(ValueError, match="Expecting value"):
        sandbox.execute({"commands": ["echo no > r"], "result_path": "r"}).json()


def test_saved_environment(sandbox: Sandbox) -> None:
    commands = ["mkdir d; echo hé > d/text; printf '\\377' > bytes; touch empty; ln -s d/text link"]
    result = sandbox.execute({"commands": commands, "save": True})
    saved = result.saved
    assert saved is not None
    assert saved.uuid == result.environment
    assert saved.expires == result.expire
    assert saved.exists()
    assert saved.exists("empty")
    assert not saved.exists("nowhere")
    assert saved.size() == sandbox.check(saved.uuid)
    assert saved.size("d/text") == 4
    assert saved.read_text("d/text") == "hé\n"
    assert saved.read_bytes("bytes") == b"\xff"
    assert {(file.name, file.size, file.type) for file in saved.files()} == {
        ("d", 0, "directory"),
        ("d/text", 4, "file"),
        ("bytes", 1, "file"),
        ("empty", 0, "file"),
        ("link", 0, "symlink"),
    }
    with pytest.raises(UnicodeDecodeError):
        saved.read_text("bytes")


def test_environment_by_its_id(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["echo a > a"], "save": True})
    environment = sandbox.environment(str(result.environment))
    assert environment.read_text("a") == "a\n"
    assert str(result.environment) in repr(environment)
    assert environment.expires is None
    assert not sandbox.environment("872b604c-9cce-42e2-8888-9a0311f3a724").exists()


def test_subclass_with_an_endpoint_of_its_own(
    connect: Callable[..., Sandbox], sandbox_url: str
) -> None:
    from sandbox_api import ASandbox

    class Platform(Sandbox):
        def __init__(self, url: str, timeout: float | None = 60) -> None:
            super().__init__(url, timeout)

        def runner(self, command: str, files: dict[str, str | bytes]) -> ExecutionResult:
            return self.request(
                "POST",
                "execute/",
                fields={"config": {"commands": [command]}},
                files={"environment": files},
                model=ExecutionResult,
            )

    class APlatform(ASandbox):
        def __init__(
            self,
            url: str,
            total: float | None = 60,
            connect: float | None = None,
            sock_connect: float | None = None,
            sock_read: float | None = None,
        ) -> None:
            super().__init__(url, total, connect, sock_connect, sock_read)

        async def runner(self, command: str, files: dict[str, str | bytes]) -> ExecutionResult:
            return await self.request(
                "POST",
                "execute/",
                fields={"config": {"commands": [command]}},
                files={"environment": files},
                model=ExecutionResult,
            )

    platform: Any = connect(sandbox_url, subclass=(Platform, APlatform))
    result = platform.runner("cat a", {"a": "from a file"})
    assert result.execution[0].stdout == "from a file"
    assert result.ok
    assert platform.url == sandbox_url
