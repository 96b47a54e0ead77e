"""Endpoints beside the usual ones: those of one's own, the loader's, and the server's version."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import warnings
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from sandbox_api import (
    ASandbox,
    ExecuteConfig,
    ExecutionResult,
    InvalidConfig,
    InvalidReply,
    Sandbox,
    Sandbox400,
    Sandbox404,
    SandboxError,
    SandboxFailure,
    Usage,
)
from sandbox_client import SERVER_VERSION

from ..servers import RawServer, reply
from .test_requests import form

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = {"status": 0, "execution": [], "total_time": 0.1}


def test_form_with_fields_and_files(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", json.dumps(RESULT))
    result = connect(f"{raw_server.url}/api/").request(
        "post",
        "/runner/",
        fields={"config": {"a": [1]}, "loader": "text"},
        files={"environment": {"a": "1"}},
        params={"course": "x y"},
        model=ExecutionResult,
    )
    assert type(result) is ExecutionResult
    assert result.ok
    assert raw_server.requests[0].startswith(b"POST /api/runner/?course=x+y HTTP/1.1\r\n") or (
        raw_server.requests[0].startswith(b"POST /api/runner/?course=x%20y HTTP/1.1\r\n")
    )
    parts, _ = form(raw_server.requests[0])
    assert json.loads(parts["config"].get_content()) == {"a": [1]}
    assert parts["loader"].get_content().strip() == "text"
    assert parts["environment"].get_filename() == "environment.tgz"
    assert b"chunked" not in raw_server.requests[0].lower()


def test_json_and_the_raw_response(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("201 Created", "anything", "X-Answer: 42")
    response = connect(raw_server.url).request("PUT", "assets/1/", json={"a": 1})
    assert (response.status_code, response.text) == (201, "anything")
    assert response.headers["X-Answer"] == "42"
    assert json.loads(raw_server.requests[0].partition(b"\r\n\r\n")[2]) == {"a": 1}


def test_errors_are_those_of_all_calls(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    sandbox = connect(raw_server.url)
    raw_server.answer = reply("404 Not Found", "no such runner")
    with pytest.raises(Sandbox404, match="no such runner"):
        sandbox.request("GET", "runner/")
    raw_server.answer = reply("200 OK", "{}")
    with pytest.raises(InvalidReply, match="cpu: is missing"):
        sandbox.request("GET", "runner/", model=Usage)
    with pytest.raises(TypeError, match="environ must be"):
        sandbox.request("POST", "runner/", files={"a": {"x": "1"}, "environment": 3})  # type: ignore[dict-item]


LOADER: dict[str, tuple[tuple[Any, ...], str, dict[str, str]]] = {
    "load": (({"a": 1},), "/loader/fr/", {"data": '{"a": 1}'}),
    "demo": (({"a": 1},), "/loader/demo/pl/", {"data": '{"a": 1}', "demo": "True"}),
    "playexo": (
        ({"c": 2}, {"a": 1}),
        "/loader/play/pl/",
        {"config": '{"c": 2}', "data": '{"a": 1}'},
    ),
    "exec": (
        ({"command": "grade", "answer": {"x": 1}},),
        "/exec/",
        {
            "data": '{"command": "grade", "answer": {"x": 1}}',
            "command": "grade",
            "answer": '{"x": 1}',
        },
    ),
}


@pytest.mark.parametrize("name", LOADER)
def test_loader(name: str, connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    arguments, path, fields = LOADER[name]
    raw_server.answer = reply("200 OK", '{"id": 1, "env": {}}')
    assert getattr(connect(raw_server.url), name)(*arguments) == {"id": 1, "env": {}}
    assert raw_server.requests[0].startswith(f"POST {path} HTTP/1.1\r\n".encode())
    parts, _ = form(raw_server.requests[0])
    assert {key: part.get_content().strip() for key, part in parts.items()} == fields


@pytest.mark.parametrize("name", LOADER)
def test_server_without_the_loader(
    name: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found", "<html><h1>Not Found</h1></html>")
    with pytest.raises(Sandbox404):
        getattr(connect(raw_server.url), name)(*LOADER[name][0])


def test_exec_of_nothing(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", "{}")
    assert connect(raw_server.url).exec() == {}


def test_answer_of_the_loader_that_is_no_object(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", "[]")
    with pytest.raises(InvalidReply, match="must be an object"):
        connect(raw_server.url).load({})


def specifications(recordings: dict[str, Any], version: str) -> bytes:
    answer = json.loads(json.dumps(recordings["specifications"]["json"]))
    answer["host"]["sandbox_version"] = version
    return reply("200 OK", json.dumps(answer))


@pytest.mark.parametrize("version", ["2.9.9", SERVER_VERSION, "3.0", "unknown"])
def test_version_of_the_server(
    version: str,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    recordings: dict[str, Any],
) -> None:
    raw_server.answer = specifications(recordings, version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert connect(raw_server.url).server_version() == version


def test_newer_server_warns_once(
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    recordings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_api._operations._warned", set())
    raw_server.answer = specifications(recordings, "3.10.0")
    sandbox = connect(raw_server.url)
    with pytest.warns(UserWarning, match=r"of version 3\.10\.0, and this client was made for"):
        sandbox.specifications()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sandbox.specifications().host.sandbox_version == "3.10.0"
        assert sandbox.server_version() == "3.10.0"


@pytest.mark.parametrize("ask", ["specifications", "server_version"])
@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_warning_of_a_newer_server_points_at_the_users_line(
    flavour: str,
    ask: str,
    raw_server: RawServer,
    recordings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_api._operations._warned", set())
    raw_server.answer = specifications(recordings, "3.10.0")

    def main() -> None:
        with Sandbox(raw_server.url) as sandbox:
            getattr(sandbox, ask)()

    async def amain() -> None:
        async with ASandbox(raw_server.url) as sandbox:
            await getattr(sandbox, ask)()

    with pytest.warns(UserWarning, match="of version") as caught:
        main() if flavour == "sync" else asyncio.run(amain())
    assert caught[0].filename == __file__


def test_request_with_two_bodies(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    sandbox = connect(raw_server.url)
    for more in ({"fields": {"a": "b"}}, {"files": {"a": b"b"}}):
        with pytest.raises(TypeError, match="one body: give json, or fields and files"):
            sandbox.request("POST", "x/", json={"c": 1}, **more)
    assert raw_server.requests == []


@pytest.mark.parametrize(
    "path", ["../x", "/../x", "a/../../x", "a/..", "%2e%2E/x", "a/%2e./x/?token=s3cret"]
)
def test_request_stays_below_the_sandboxs_url(
    path: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    with pytest.raises(ValueError, match="must not lead out of the sandbox's URL") as caught:
        connect(f"{raw_server.url}/prefix").request("GET", path)
    assert "s3cret" not in str(caught.value)
    assert raw_server.requests == []


@pytest.mark.parametrize("path", ["a..b/", "x/?up=../y", "..."])
def test_request_with_dots_that_lead_nowhere(
    path: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    connect(f"{raw_server.url}/prefix").request("GET", path)
    assert raw_server.requests[0].startswith(b"GET /prefix/")


def test_query_is_never_shown(
    connect: Callable[..., Sandbox], raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox = connect(raw_server.url, retries=0)
    shown: list[str] = []
    for options in ({"path": "x/", "params": {"token": "s3cret"}}, {"path": "x/?token=s3cret"}):
        for answer in (reply("404 Not Found", "none"), reply("200 OK", "odd"), b"nonsense\r\n\r\n"):
            raw_server.answer = answer
            with (
                caplog.at_level(logging.DEBUG, "sandbox_api"),
                pytest.raises((SandboxError, SandboxFailure)) as caught,
            ):
                sandbox.request("GET", model=Usage, **options)
            again = pickle.loads(pickle.dumps(caught.value))
            shown += [str(caught.value), repr(caught.value), str(again)]
            assert str(caught.value).startswith(f"GET {raw_server.url}/x/: ")
    shown += [record.getMessage() for record in caplog.records if record.name == "sandbox_api"]
    assert len(shown) == 24
    assert not [text for text in shown if "s3cret" in text]


def test_config_that_is_wrong_is_not_sent(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    config = {"commands": ["true", {"command": "make", "timeout": "abc"}, 3], "save": None}
    with pytest.raises(InvalidConfig) as caught:
        connect(raw_server.url).execute(config)
    error = caught.value
    assert raw_server.requests == []
    assert isinstance(error, Sandbox400)
    assert isinstance(error, ValueError)
    assert [str(each) for each in error.errors] == [
        "commands[1].timeout: must be a number, not 'abc'",
        "commands[2]: must be a string or an object, not 3",
        "save: must be a boolean, not None",
    ]
    assert (error.errors[0].path, error.errors[0].reason) == (
        "commands[1].timeout",
        "must be a number, not 'abc'",
    )
    assert error.response.status_code == 400
    assert error.response.headers["X-Sandbox-Api"] == "not sent"
    assert "was not sent" in str(error)


@pytest.mark.parametrize(
    "kind", [dict, ExecuteConfig.from_dict, lambda data: ExecuteConfig(**data)]
)
def test_config_is_sent_as_plain_json(
    kind: Callable[[Any], Any],
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SANDBOX_TEST", "1")
    raw_server.answer = reply("200 OK", json.dumps(RESULT))
    identifier = UUID("872b604c-9cce-42e2-8888-9a0311f3a724")
    data = {"commands": ("true",), "environ": os.environ}
    config = kind(data if kind is not dict else {**data, "environment": identifier})
    connect(raw_server.url).execute(config)
    sent = json.loads(form(raw_server.requests[0])[0]["config"].get_content())
    assert sent["commands"] == ["true"]
    assert sent["environ"] == dict(os.environ)
    assert sent.get("environment", str(identifier)) == str(identifier)


NESTED: dict[str, Any] = {}
NESTED["A"] = NESTED


@pytest.mark.parametrize(
    "config",
    [
        {"commands": ["true"], "environ": {"A": object()}},
        {"commands": ["true"], "environ": NESTED},
        {"commands": ["true"], ("a", "b"): 1},
        {"commands": ["true"], "unknown": {1, 2}},
        {"commands": ["true"], "result_path": "a/.."},
        {"commands": ["true"], "result_path": "a" * 256},
        {"commands": ["true"], "environ": {"A": [b"x"]}},
        {"commands": [{"command": "true", "timeout": float("nan")}]},
        {"commands": [{"command": "true", "timeout": True}]},
        {"commands": ["true"], "result_path": "dir/"},
    ],
)
def test_config_that_no_server_should_see(
    config: dict[str, Any], connect: Callable[..., Sandbox]
) -> None:
    with pytest.raises(InvalidConfig):
        connect("http://127.0.0.1:1").execute(config)
