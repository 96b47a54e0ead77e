"""Fakes: the same surface, the same checks, results and errors as with a server."""

from __future__ import annotations

import asyncio
import inspect
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from sandbox_api import (
    AEnvironment,
    ASandbox,
    ConnectionFailed,
    Execution,
    ExecutionFailed,
    InvalidConfig,
    InvalidEnvironment,
    InvalidReply,
    Sandbox,
    Sandbox400,
    Sandbox404,
    Sandbox503,
    SandboxErrCode,
    SandboxServerError,
    TimedOut,
)
from sandbox_api.testing import FakeASandbox, FakeCall, FakeSandbox, FakeServer, Outcome

from ..conftest import Driven

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


RUN = {"commands": ["first", "second"]}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture(params=["sync", "async"])
def sandbox(request: pytest.FixtureRequest, server: FakeServer) -> Iterator[Sandbox]:
    """A fake of either flavour."""
    if request.param == "sync":
        yield server.sandbox()
        return
    with asyncio.Runner() as runner:
        driven = Driven(runner, server.asandbox())
        yield cast("Sandbox", driven)
        driven.close()


@pytest.mark.parametrize(("fake", "real"), [(FakeSandbox, Sandbox), (FakeASandbox, ASandbox)])
def test_surface_is_the_real_one(fake: type, real: type) -> None:
    for name in ["__init__", *(name for name in dir(real) if not name.startswith("_"))]:
        one, other = getattr(fake, name), getattr(real, name)
        if not callable(other):
            continue
        parameters = dict(inspect.signature(one).parameters)
        if name == "__init__":
            assert parameters.pop("server").default is None
        assert parameters == dict(inspect.signature(other).parameters), name
        assert inspect.iscoroutinefunction(one) == inspect.iscoroutinefunction(other), name
        assert inspect.isasyncgenfunction(one) == inspect.isasyncgenfunction(other), name
    assert issubclass(fake, real)


def test_flavours_have_the_same_of_their_own() -> None:
    assert {*dir(FakeSandbox)} - {*dir(Sandbox)} == {*dir(FakeASandbox)} - {*dir(ASandbox)}


def test_commands_succeed_silently(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["-first", {"command": "second", "timeout": 1}]})
    assert isinstance(result, dict)
    assert result.ok
    assert [(each.command, each.stdout) for each in result.execution] == [
        ("first", ""),
        ("second", ""),
    ]


def test_replies_are_given_in_turn(sandbox: Sandbox, server: FakeServer) -> None:
    server.script("4\n", Outcome(" a ", "b\n", 3))
    server.script(["one", Outcome(exit_code=-2, time=0.5)])
    assert sandbox.execute(RUN).execution[1].stdout == "4"
    result = sandbox.execute(RUN)
    assert (result.execution[0].exit_code, result.execution[1].stdout) == (0, "a")
    with pytest.raises(ExecutionFailed, match="'second' failed with exit code 3: b"):
        result.raise_for_status()
    result = sandbox.execute(RUN)
    assert (result.execution[0].stdout, result.timed_out, result.total_time) == ("one", True, 0.5)
    assert sandbox.execute(RUN).ok


def test_first_failure_ends_the_run_unless_it_is_ignored(
    sandbox: Sandbox, server: FakeServer
) -> None:
    server.always([Outcome(exit_code=1)])
    result = sandbox.execute(RUN)
    assert (result.status, len(result.execution)) == (1, 1)
    result = sandbox.execute({"commands": ["-first", "second"]})
    assert (result.status, len(result.execution)) == (0, 2)


def test_function_sees_the_call(sandbox: Sandbox, server: FakeServer) -> None:
    def answer(call: FakeCall) -> Any:
        assert call.config["environ"] == {"N": "1"}, "not what was to be sent"
        return lambda _: f"{len(call.files['a'])} bytes"

    server.always(answer)
    result = sandbox.execute({"commands": ["wc a"], "environ": {"N": "1"}}, {"a": b"\r\n--\0"})
    assert result.execution[0].stdout == "5 bytes"
    with pytest.raises(AssertionError, match="not what was to be sent"):
        sandbox.execute({"commands": ["wc a"], "environ": {}})


def test_members_of_the_answer(sandbox: Sandbox, server: FakeServer) -> None:
    server.script({"result": "17", "added": True}, {"status": "soon"})
    result = sandbox.execute(RUN)
    assert (result.result, result["added"], len(result.execution)) == ("17", True, 2)
    with pytest.raises(InvalidReply, match="status: must be an integer, not 'soon'"):
        sandbox.execute(RUN)


@pytest.mark.parametrize("reply", [["a", "b", "c"], [3], 3])
def test_reply_that_does_not_go_with_the_commands(
    sandbox: Sandbox, server: FakeServer, reply: Any
) -> None:
    server.script(reply)
    with pytest.raises(TypeError, match="no reply to an execution of 2 command"):
        sandbox.execute(RUN)


def test_answers_of_the_description(sandbox: Sandbox) -> None:
    assert sandbox.specifications().host.sandbox_version == sandbox.server_version() == "3.0.3"
    assert sandbox.usage().process > 0
    assert "bash" in sandbox.libraries().bin
    with pytest.raises(Sandbox404):  # as servers without the add-on
        sandbox.load({})


def test_other_operations_are_scripted_too(sandbox: Sandbox, server: FakeServer) -> None:
    server.script({"container": 7}, to="usage")
    server.always({"id": 1}, to="load")
    assert sandbox.usage().container == 7
    assert sandbox.usage().container == 0
    assert sandbox.load({}) == {"id": 1}
    with pytest.raises(KeyError, match="there is no operation 'run'"):
        server.script("", to="run")


def test_endpoints_of_ones_own(sandbox: Sandbox, server: FakeServer) -> None:
    server.script([1], b"2", httpx.Response(201, text="3"), to="my/runner/")
    for expected in ("[1]", "2", "3"):
        assert sandbox.request("POST", "my/runner/", json={}).text == expected
    assert {call.operation for call in server.calls} == {"my/runner"}
    with pytest.raises(Sandbox404):
        sandbox.request("GET", "my/runner/")


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Sandbox503, Sandbox503, "503 Service Unavailable"),
        (Sandbox400(httpx.Response(400, text="no!")), Sandbox400, "no!"),
        (httpx.Response(503, text="busy"), Sandbox503, "busy"),
        (ConnectionFailed, ConnectionFailed, "can't be reached"),
        (ConnectionFailed("mine"), ConnectionFailed, "can't be reached"),
        (TimedOut, TimedOut, "no complete reply within 60 s;"),
        (InvalidReply, InvalidReply, "must be JSON"),
        (httpx.RemoteProtocolError, ConnectionFailed, "hung up"),
        (httpx.ReadError("broken"), ConnectionFailed, "broken"),
    ],
    ids=repr,
)
def test_faults(sandbox: Sandbox, server: FakeServer, fault: Any, error: Any, words: str) -> None:
    for operation in ("execute", "usage"):
        server.script(fault, to=operation)
    with pytest.raises(error, match=words):
        sandbox.execute(RUN)
    with pytest.raises(error, match=words):
        sandbox.usage()
    assert sandbox.execute(RUN).ok


@pytest.mark.parametrize("fault", [KeyError, SandboxServerError, InvalidConfig])
def test_faults_that_no_server_makes(
    sandbox: Sandbox, server: FakeServer, fault: type[Exception]
) -> None:
    server.script(fault)
    with pytest.raises(TypeError, match="no answer of a server makes a call raise"):
        sandbox.execute(RUN)


def test_retries_are_those_of_the_client(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_api._exchange.FIRST_WAIT", 0.001)
    server.script(Sandbox503, "done")
    assert server.sandbox(retries=1).execute(RUN).execution[1].stdout == "done"
    assert len(server.calls) == 2


def test_what_is_wrong_is_refused_as_ever(sandbox: Sandbox, server: FakeServer) -> None:
    with pytest.raises(InvalidConfig, match="must have at least 1 item"):
        sandbox.execute({"commands": []})
    with pytest.raises(InvalidEnvironment):
        sandbox.execute(RUN, {"../a": "b"})
    assert not server.calls
    with pytest.raises(Sandbox400, match="no gzipped tar archive"):
        sandbox.execute(RUN, b"\x1f\x8b, but no archive")
    with pytest.raises(Sandbox404, match="No environment with UUID 'none' found"):
        sandbox.execute({**RUN, "environment": "none"})
    for fields in (None, {"other": "field"}):
        with pytest.raises(Sandbox400, match="Missing argument 'config'"):
            sandbox.request("POST", "execute/", fields=fields)
    with pytest.raises(Sandbox400, match="commands: is missing"):
        sandbox.request("POST", "execute/", fields={"config": {}})
    assert len(server.calls) == 5


def test_environments_are_kept(sandbox: Sandbox, server: FakeServer) -> None:
    server.script(Outcome(files={"out/marks": "[17]", "bytes": b"\xff"}))
    config = {"commands": ["grade"], "result_path": "out/marks", "save": True}
    result = sandbox.execute(config, {"a": "b"})
    assert result.json() == [17]
    saved = result.saved
    assert saved is not None
    assert str(saved.uuid) == "00000000-0000-0000-0000-000000000001"
    assert {file.name for file in saved.files() if file.type == "file"} == {
        "a",
        "bytes",
        "out/marks",
    }
    assert (saved.read_text("out/marks"), saved.size("out/marks")) == ("[17]", 4)
    assert saved.size()
    assert saved.expires is not None
    assert not saved.exists("none")
    with pytest.raises(Sandbox404, match="The file 'none' could not be found"):
        saved.read_bytes("none")
    again = {"commands": ["cat"], "environment": str(saved.uuid), "result_path": "a"}
    assert sandbox.execute(again, {"a": "c"}).result == "c"
    assert server.calls[-1].files["bytes"] == b"\xff"


def test_environments_are_laid_in_store(sandbox: Sandbox, server: FakeServer) -> None:
    stored = sandbox.environment(server.store({"files/x/usages": "1", "é ?": "2", "b\nc": "3"}))
    assert (stored.size("b\nc"), stored.read_bytes("b\nc")) == (1, b"3")
    assert not stored.exists("b\nc\n")
    assert stored.read_text("files/x/usages") == "1"
    assert stored.read_text("é ?") == "2"
    assert server.calls[-1].parameters == {"uuid": stored.uuid, "path": "é ?"}
    assert b"".join(sandbox.iter_download(stored.uuid, "é ?")) == b"2"
    assert not sandbox.environment("00000000-0000-0000-0000-00000000000f").exists()


def test_result_that_is_scripted_is_not_missing(sandbox: Sandbox, server: FakeServer) -> None:
    config = {"commands": ["true"], "result_path": "marks"}
    server.script({"result": "17"}, {"result": "17", "status": -3}, {"status": 0})
    result = sandbox.execute(config).raise_for_status()
    assert (result.status, result.result) == (0, "17")
    assert sandbox.execute(config).error == SandboxErrCode.RESULT_NOT_FOUND
    assert sandbox.execute(config).result is None


@pytest.mark.parametrize("path", ["/etc/passwd", "../marks", "a/../../marks"])
def test_result_path_stays_inside(sandbox: Sandbox, server: FakeServer, path: str) -> None:
    with pytest.raises(Sandbox400, match="result_path must stay in the working directory"):
        sandbox.execute({"commands": ["true"], "result_path": path})
    assert len(server.calls) == 1


def test_commands_that_time_out_say_so(sandbox: Sandbox, server: FakeServer) -> None:
    config = {"commands": [{"command": "make", "timeout": 0.5}]}
    server.script(Outcome(exit_code=-2), Outcome(exit_code=-2, stderr="mine"))
    assert sandbox.execute(config).execution[0].stderr == "Command timed out after 0.5 seconds\n"
    assert sandbox.execute(config).execution[0].stderr == "mine"
    server.always(Outcome(exit_code=-2))
    assert sandbox.execute(RUN).execution[0].stderr == ""  # nobody knows after how long


def test_names_that_are_not_utf_8(sandbox: Sandbox, server: FakeServer) -> None:
    server.script(Outcome(files={"a\udcff": "1"}))
    saved = sandbox.execute({"commands": ["touch"], "save": True}).saved
    assert saved
    assert (saved.exists("a\udcff"), saved.read_bytes("a\udcff")) == (True, b"1")
    assert server.calls[-1].parameters["path"] == "a\udcff"
    assert not saved.exists("a\ufffd")


def test_result_that_is_missing_or_no_text(sandbox: Sandbox, server: FakeServer) -> None:
    config = {"commands": ["true"], "result_path": "marks"}
    assert sandbox.execute(config).error == SandboxErrCode.RESULT_NOT_FOUND
    server.script(Outcome(files={"marks": b"\xff"}))
    assert sandbox.execute(config).error == SandboxErrCode.RESULT_NOT_UTF8


def test_scripts_of_executions_are_not_for_what_is_stored(
    sandbox: Sandbox, server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "alice").mkdir()
    server.always(Outcome(exit_code=3))
    server.script(Outcome(exit_code=1))
    stored = sandbox.store({"a": "b"})
    assert stored.read_text("a") == "b"
    graded = sandbox.grade(tmp_path, RUN, base={"test": "1"}, concurrency=1)
    assert [each.result and each.result.status for each in graded] == [1]
    assert sandbox.execute(RUN).status == 3
    assert [call.operation for call in server.calls] == [
        "store",
        "download_file",
        "store",
        "execute",
        "execute",
    ]
    assert server.calls[2].files == server.calls[3].files == {"test": b"1"}
    assert server.calls[2].config["save"] is True


def test_storing_is_scripted_too(sandbox: Sandbox, server: FakeServer) -> None:
    server.script(Sandbox503, TimedOut, Outcome(exit_code=1), {"environment": None}, to="store")
    for error in (Sandbox503, TimedOut, ExecutionFailed, InvalidReply):
        with pytest.raises(error):
            sandbox.store({"a": "b"})
    assert sandbox.store({"a": "b"}).read_text("a") == "b"


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"commands": ["true"], "save": True}, None),
        ({"commands": ["true"]}, {"a": "b"}),
        ({"commands": ["make"], "save": True}, {"a": "b"}),
        ({"commands": ["true"], "save": True, "result_path": "a"}, {"a": "b"}),
    ],
)
def test_what_is_no_store_is_an_execution(
    sandbox: Sandbox, server: FakeServer, config: Any, files: Any
) -> None:
    server.script("17")
    assert sandbox.execute(config, files).execution[0].stdout == "17"
    assert server.calls[0].operation == "execute"


def test_url_and_options_are_those_of_the_client(server: FakeServer) -> None:
    seen: list[str] = []
    sandbox = server.sandbox(
        "https://user:secret@example.org/prefix",
        headers={"X-Course": "1"},
        verify="/no/such/file",
        proxy="http://no.such.proxy",
        hooks={"request": [lambda request: seen.append(str(request.url))]},
    )
    assert sandbox.execute(RUN, headers={"X-Request-ID": "2"}).ok
    assert seen == ["https://example.org/prefix/execute/"]
    headers = server.calls[0].request.headers
    assert headers["User-Agent"].startswith("sandbox-api/")
    assert (headers["X-Course"], headers["X-Request-ID"]) == ("1", "2")
    assert headers["Authorization"].startswith("Basic ")
    assert repr(sandbox) == "<FakeSandbox https://example.org/prefix>"
    with pytest.raises(TypeError, match="there is no option colour"):
        FakeSandbox(colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option colour"):
        FakeSandbox().usage(colour="red")  # type: ignore[call-arg]


def test_nothing_else_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_URL", "http://elsewhere.test")
    monkeypatch.setenv("HTTP_PROXY", "http://elsewhere.test")
    monkeypatch.setattr("sandbox_api._local.start", lambda _: pytest.fail("started"))

    def refuse(request: httpx.Request) -> httpx.Response:
        pytest.fail("sent")

    given = httpx.Client(transport=httpx.MockTransport(refuse))
    for sandbox in (FakeSandbox(), FakeSandbox.local(), FakeSandbox(http_client=given)):
        assert sandbox.execute(RUN).ok
        assert sandbox.url == "http://sandbox.test"

    async def main() -> None:
        async with FakeASandbox.local(1, 2, 3, 4) as sandbox:
            assert (await sandbox.execute(RUN)).ok
            assert sandbox.total == 1

    asyncio.run(main())


def test_server_has_classes_that_stand_in_place_of_the_real_ones(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.Sandbox", server.sandbox)
    monkeypatch.setattr(f"{__name__}.ASandbox", server.asandbox)

    async def main() -> None:
        async with ASandbox.local(30, isolation="podman", image="mine") as sandbox:
            assert isinstance(sandbox, FakeASandbox)
            assert (await sandbox.execute(RUN)).ok
            assert sandbox.total == 30

    with Sandbox.local(30, isolation="none", retries=1) as sandbox:
        assert isinstance(sandbox, FakeSandbox)
        assert sandbox.execute(RUN).ok
        assert sandbox.timeout == 30
    with Sandbox("http://other.test") as sandbox:
        assert repr(sandbox) == "<FakeSandbox http://other.test>"
        assert sandbox.execute(RUN).ok
    asyncio.run(main())
    assert len(server.calls) == 3


def test_many_executions_on_threads(sandbox: Sandbox, server: FakeServer) -> None:
    server.always(lambda call: call.config["commands"][0])
    jobs = [{"commands": [f"job {number}"]} for number in range(5)]
    with ThreadPoolExecutor(2) as executor:
        done = [*sandbox.execute_many(jobs, executor=executor, ordered=True)]
    assert [each.result and each.result.execution[0].stdout for each in done] == [
        f"job {number}" for number in range(5)
    ]
    assert [call.operation for call in server.calls].count("execute") == 5


def test_subclasses_become_fakes(server: FakeServer) -> None:
    class Platform(Sandbox):
        def runner(self) -> str:
            return self.request("GET", "runner/").text

    class FakePlatform(FakeSandbox, Platform):
        pass

    server.always(b"mine", to="runner/")
    assert FakePlatform(server=server).runner() == "mine"
    client = httpx.Client(transport=httpx.MockTransport(server))
    assert Platform("http://any/prefix", http_client=client).execute(RUN).ok


def test_flavours_share_a_server(server: FakeServer) -> None:
    async def main() -> AEnvironment | None:
        async with server.asandbox() as sandbox:
            result = await sandbox.execute({**RUN, "save": True}, io.BytesIO(archive))
            return result.saved

    with server.sandbox() as sandbox:
        archive = sandbox.download(server.store({"a": "b"})).read()
        saved = asyncio.run(main())
        assert saved is not None
        result = sandbox.execute({"commands": ["cat a"], "environment": str(saved.uuid)})
        assert isinstance(result, Execution)
        assert sandbox.environment(saved.uuid).read_text("a") == "b"
    with pytest.raises(RuntimeError, match="is closed"):
        sandbox.usage()
