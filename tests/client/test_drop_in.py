"""Code that was written for pl-sandbox-api 1.1.4 runs unchanged.

Its documentation's examples, and what the platforms that use it do with them. The differences that
are meant are in docs/moving.md.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import io
import json
import os
import pickle
import pprint
import subprocess
import sys
import tarfile
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dateutil.parser import isoparse

import sandbox_api
from sandbox_api import (
    ASandbox,
    Sandbox,
    Sandbox400,
    Sandbox404,
    Sandbox503,
    SandboxErrCode,
    SandboxError,
    status_exceptions,
)
from sandbox_api.utils import validate, validate_command

from ..conftest import tgz
from ..servers import RawServer, reply
from .test_requests import form

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENV = "872b604c-9cce-42e2-8888-9a0311f3a724"
RESULT: dict[str, Any] = {
    "status": 0,
    "execution": [
        {"command": "echo é", "exit_code": 0, "stdout": "é", "stderr": "", "time": 0.28589797019}
    ],
    "total_time": 0.2871053218841553,
}
USAGE: dict[str, Any] = {
    "cpu": {"frequency": 800.05, "usage": 0.085, "usage_avg": [0.104, 0.09, 0.0775]},
    "memory": {"ram": 5376819200, "swap": 0, "storage": {"/dev/sda2": 60275105792}},
    "io": {"read_iops": {}, "read_bps": {}, "write_iops": {}, "write_bps": {"/dev/sda2": 2048}},
    "network": {"sent_bytes": 514, "received_bytes": 526, "sent_packets": 6, "received_packets": 6},
    "process": 326,
    "container": 0,
}
# All the statuses that the old client had an exception for.
STATUSES = [
    *[300, 301, 302, 303, 304, 305, 307, 308],
    *[400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417],
    *[421, 422, 423, 424, 426, 428, 429, 431, 451],
    *[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511],
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once: the old client did not retry, so no old code switches it off."""
    monkeypatch.setattr("sandbox_api._exchange.FIRST_WAIT", 0.01)


def answer(value: Any) -> bytes:
    return reply("200 OK", json.dumps(value), "Content-Type: application/json")


# What can be imported


def test_names() -> None:
    names = ["ASandbox", "Sandbox", "SandboxErrCode", "SandboxError", "status_exceptions"]
    for name in [*names, "VERSION", "__version__", *(f"Sandbox{status}" for status in STATUSES)]:
        assert hasattr(sandbox_api, name)
    from sandbox_api import asandbox, enums, exceptions, sandbox

    assert asandbox.ASandbox is ASandbox
    assert sandbox.Sandbox is Sandbox
    assert enums.SandboxErrCode is SandboxErrCode
    assert exceptions.Sandbox404 is Sandbox404
    assert exceptions.status_exceptions is status_exceptions
    assert sandbox_api.__version__ == sandbox_api.VERSION


def test_modules_are_there_after_a_plain_import() -> None:
    program = (
        "import sandbox_api\n"
        "print(sandbox_api.utils.validate({'commands': ['true']}))\n"
        "print(sandbox_api.enums.SandboxErrCode.TIMEOUT == -2)\n"
        "print(sandbox_api.exceptions.Sandbox404 is sandbox_api.Sandbox404)\n"
        "print(sandbox_api.sandbox.Sandbox is sandbox_api.Sandbox)\n"
        "print(sandbox_api.asandbox.ASandbox is sandbox_api.ASandbox)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["(True, '')", *["True"] * 4]


def test_everything_is_imported_by_a_star() -> None:
    names: dict[str, Any] = {}
    exec("from sandbox_api import *", names)
    assert {"Sandbox", "ASandbox", "Sandbox404", "SandboxError", "VERSION"} <= names.keys()


def test_codes() -> None:
    assert [(code.name, code.value) for code in SandboxErrCode] == [
        ("UNKNOWN", -1),
        ("TIMEOUT", -2),
        ("RESULT_NOT_FOUND", -3),
        ("RESULT_NOT_UTF8", -4),
    ]
    assert {"status": -2}["status"] == SandboxErrCode.TIMEOUT
    assert (str(SandboxErrCode.TIMEOUT), SandboxErrCode(-3).name) == ("-2", "RESULT_NOT_FOUND")


# How clients are made


def test_ways_to_make_a_sandbox() -> None:
    for sandbox in [
        Sandbox("http://localhost:7000", timeout=2.5),
        Sandbox("http://localhost:7000", 2.5),
        Sandbox(url="http://localhost:7000", timeout=2.5),
    ]:
        assert (sandbox.url, sandbox.timeout) == ("http://localhost:7000", 2.5)
    assert Sandbox("http://localhost:7000/prefix/").url == "http://localhost:7000/prefix/"
    assert Sandbox("http://localhost:7000").timeout == 60
    assert Sandbox("http://localhost:7000", timeout=None).timeout is None


def test_ways_to_make_an_asandbox(raw_server: RawServer) -> None:
    raw_server.answer = answer(USAGE)

    async def main() -> None:
        for sandbox in [
            ASandbox(raw_server.url),
            ASandbox(raw_server.url, total=2.5, connect=0.5),
            ASandbox(raw_server.url, 2.5, 0.5, 0.5, 0.5),
            ASandbox(url=raw_server.url, total=None, connect=0, sock_connect=0.5, sock_read=None),
            ASandbox(raw_server.url, 0),
        ]:
            assert sandbox.url == raw_server.url
            assert await sandbox.usage() == USAGE
            await sandbox.close()
            await sandbox.close()

    asyncio.run(main())


def test_defaults_and_names_of_arguments() -> None:
    for cls, names in [
        (Sandbox, "url timeout"),
        (ASandbox, "url total connect sock_connect sock_read"),
    ]:
        expected = {
            "__init__": names,
            "libraries": "",
            "specifications": "",
            "usage": "",
            "download": "uuid path",
            "check": "uuid path",
            "execute": "config environ",
            "load": "environ",
            "demo": "environ",
            "playexo": "config environ",
            "exec": "datas",
        }
        for name, arguments in expected.items():
            parameters = list(inspect.signature(getattr(cls, name)).parameters.values())[1:]
            positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
            assert " ".join(each.name for each in positional) == arguments, name
            for each in positional:
                if each.name in {"path", "datas", "connect", "sock_connect", "sock_read"}:
                    assert each.default is None
    assert inspect.signature(Sandbox).parameters["timeout"].default == 60
    assert inspect.signature(ASandbox).parameters["total"].default == 60


@pytest.mark.parametrize("url", ["", "/", "/prefix", "/prefix/"])
def test_url_with_or_without_a_slash(
    url: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = answer(USAGE)
    connect(raw_server.url + url).usage()
    prefix = url.rstrip("/").encode()
    assert raw_server.requests[0].startswith(b"GET " + prefix + b"/usages/ HTTP/1.1\r\n")


def test_url_that_is_assigned_is_not_ignored(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = answer(USAGE)
    sandbox = connect("http://127.0.0.1:1", retries=0)
    driven: Any = getattr(sandbox, "_sandbox", sandbox)
    driven.url = "http://127.0.0.1:1"  # as subclasses do after super().__init__()
    try:
        driven.url = raw_server.url
    except AttributeError:
        return
    assert sandbox.usage() == USAGE


# The README of the old client


def test_specifications(sandbox: Sandbox) -> None:
    specifications: Any = sandbox.specifications()
    assert isinstance(specifications, dict)
    assert pprint.pformat(specifications).startswith("{'container': {'count': ")
    assert pprint.pformat(specifications, sort_dicts=False).startswith("{'host': {'cpu': {'core': ")
    assert list(specifications) == ["host", "container"]
    assert list(specifications["host"]) == ["cpu", "memory", "docker_version", "sandbox_version"]
    assert specifications["host"]["memory"]["ram"] > 0
    assert specifications["container"]["process"] != 0


def test_usage(sandbox: Sandbox) -> None:
    usage: Any = sandbox.usage()
    assert list(usage) == ["cpu", "memory", "io", "network", "process", "container"]
    assert len([usage["cpu"]["usage"]] + usage["cpu"]["usage_avg"]) == 4
    assert all(isinstance(size, int) for size in usage["memory"]["storage"].values())


def test_libraries(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    libraries = {
        "libraries": {"system": {"bash": "5.2"}, "python": {"six": "?"}, "perl": {}, "c": {}},
        "bin": ["awk", "bash"],
    }
    raw_server.answer = answer(libraries)
    found: Any = connect(raw_server.url).libraries()
    assert found == libraries
    assert sorted(found["libraries"]["python"].items()) == [("six", "?")]


def test_execute(sandbox: Sandbox) -> None:
    result = sandbox.execute({"commands": ["echo $((2+2))"]})
    assert set(result) == {"status", "execution", "total_time"}
    assert result["status"] == 0
    (execution,) = result["execution"]
    assert set(execution) == {"command", "exit_code", "stdout", "stderr", "time"}
    assert (execution["command"], execution["stdout"]) == ("echo $((2+2))", "4")
    assert result["total_time"] >= execution["time"] > 0


def test_execute_with_an_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("echo from a file")
    with tarfile.open(tmp_path / "env.tgz", "w:gz") as archive:
        archive.add(tmp_path / "main.sh", "main.sh")
    config = {"commands": ["bash main.sh"]}
    with open(tmp_path / "env.tgz", "rb") as environ:
        assert sandbox.execute(config, environ)["execution"][0]["stdout"] == "from a file"
    result = sandbox.execute(config=config, environ=tgz({"main.sh": "echo from memory"}))
    assert result["execution"][0]["stdout"] == "from memory"
    assert sandbox.execute(config, None)["status"] == 127


def test_environment_is_read_from_where_it_stands(
    connect: Callable[..., Sandbox], raw_server: RawServer, tmp_path: Path
) -> None:
    raw_server.answer = answer(RESULT)
    path = tmp_path / "env.tgz"
    path.write_bytes(b"headarchive")
    streams: list[Any] = [io.BytesIO(b"headarchive"), path.open("rb"), path.open("r+b")]
    for stream in streams:
        stream.seek(4)
        connect(raw_server.url).execute({"commands": ["true"]}, stream)
        parts, _ = form(raw_server.requests[-1])
        assert parts["environment"].get_payload(decode=True) == b"archive"
        assert parts["environment"].get_filename()


def test_environment_that_has_read_and_nothing_else(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    class Environ:
        def __init__(self) -> None:
            self.read = io.BytesIO(b"archive").read

    raw_server.answer = answer(RESULT)
    environ: Any = Environ()
    connect(raw_server.url).execute({"commands": ["true"]}, environ)
    parts, _ = form(raw_server.requests[-1])
    assert parts["environment"].get_payload(decode=True) == b"archive"


def test_saved_environment(sandbox: Sandbox) -> None:
    config = {"commands": ["echo 17 > marks", "mkdir d", "echo 3 > d/e"], "save": True}
    result: Any = sandbox.execute({**config, "result_path": "marks"})
    assert result.get("result", "") == "17\n"
    uuid = result["environment"]
    assert isinstance(uuid, str)
    again = sandbox.execute({"commands": ["cat marks"], "environment": uuid})
    assert again["execution"][0]["stdout"] == "17"

    assert sandbox.check(uuid)
    assert sandbox.check(uuid=uuid, path="marks") == 3
    assert sandbox.check(uuid, "d/e") == 2
    assert sandbox.check(uuid, "unknown") == 0
    assert not sandbox.check(ENV)

    file = sandbox.download(uuid, "marks")
    assert isinstance(file, io.BytesIO)
    assert (file.tell(), file.read()) == (0, b"17\n")
    assert sandbox.download(uuid=uuid, path="d/e").getvalue() == b"3\n"
    with tarfile.open(fileobj=sandbox.download(uuid), mode="r:gz") as archive:
        assert "marks" in archive.getnames()
    assert len(sandbox.download(uuid).read()) == int(sandbox.check(uuid))
    stream = sandbox.download(uuid)  # as an environment again, as the platforms do
    assert sandbox.execute({"commands": ["cat d/e"]}, stream)["execution"][0]["stdout"] == "3"


def test_exceptions_of_the_readme(sandbox: Sandbox) -> None:
    said = []
    try:
        sandbox.download(ENV, "unknown")
    except Sandbox404:
        said.append("'unknown' does not exist")
    try:
        sandbox.execute({"commands": []})
    except Sandbox404:
        said.append("never")
    except SandboxError as e:
        said.append("Sandbox responded with a '%d' status code" % e.response.status_code)  # noqa: UP031
    assert said == ["'unknown' does not exist", "Sandbox responded with a '400' status code"]


# Errors


def test_every_status_raises_its_exception(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    sandbox = connect(raw_server.url)
    for status in STATUSES:
        raw_server.answer = reply(f"{status} Whatever", "words")
        with pytest.raises(getattr(sandbox_api, f"Sandbox{status}")) as caught:
            sandbox.usage()
        assert isinstance(caught.value, SandboxError)
        assert caught.value.response.status_code == status
        assert str(status) in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"commands": None},
        {"commands": []},
        {"commands": "true"},
        {"commands": [3]},
        {"commands": [{"timeout": 1}]},
        {"commands": [{"command": "true", "timeout": "1"}]},
        {"commands": ["true"], "environ": []},
        {"commands": ["true"], "result_path": None},
        {"commands": ["true"], "save": 1},
    ],
)
def test_config_that_servers_refuse(
    config: dict[str, Any], connect: Callable[..., Sandbox]
) -> None:
    with pytest.raises(Sandbox400) as caught:
        connect("http://127.0.0.1:1").execute(config)
    assert caught.value.response.status_code == 400
    valid, message = validate(config)
    assert valid is False
    assert message in caught.value.response.text


def test_error_of_a_response() -> None:
    response = httpx.Response(503, text="busy")
    error = status_exceptions(response)
    assert type(error) is Sandbox503
    assert error.response is response
    assert error.message is None
    assert SandboxError(response, "words").message == "words"
    assert SandboxError(response, message="words").response is response


class OfRequests:
    """What there is of a requests.Response."""

    status_code, reason, text = 404, "Not Found", "No such file"


class OfAiohttp:
    """What there is of an aiohttp.ClientResponse, which has no `status_code`."""

    status, reason = 404, "Not Found"


@pytest.mark.parametrize("response", [OfRequests(), OfAiohttp()])
def test_error_of_a_response_of_another_library(response: Any) -> None:
    error = status_exceptions(response)
    assert type(error) is Sandbox404
    assert error.response is response
    assert "404" in str(error)


def test_status_under_the_name_that_only_the_asandbox_had(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")
    with pytest.raises(SandboxError) as caught:
        connect(raw_server.url).usage()
    response: Any = caught.value.response
    assert response.status == 404


def test_unreachable_server(connect: Callable[..., Sandbox]) -> None:
    # requests.RequestException and aiohttp's ClientConnectorError are OSErrors too.
    try:
        connect("http://127.0.0.1:1").specifications()
    except OSError as error:
        caught = error
    assert not isinstance(caught, SandboxError)


def test_server_that_takes_too_long(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = lambda *_: None
    try:
        connect(raw_server.url, 0.2).usage()
    except asyncio.TimeoutError as error:  # noqa: UP041 (as it was written)
        caught = error
    assert isinstance(caught, OSError)


def test_reply_that_is_no_json(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", "<html>It works!</html>", "Content-Type: application/json")
    try:
        connect(raw_server.url).usage()
    except ValueError as error:
        caught = error
    assert "usages" in str(caught)


# Checks


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        ({"commands": ["true"]}, True),
        ({"commands": ["true", {"command": "make", "timeout": 1}]}, True),
        ({"commands": [{"command": "make", "timeout": 0.5}], "save": True}, True),
        ({"commands": ["true"], "environ": {"A": 1, "B": None}, "environment": ENV}, True),
        ({"commands": ["true"], "result_path": "a/b", "save": False, "unknown": 1}, True),
        ({}, False),
        ({"commands": []}, False),
        ({"commands": "true"}, False),
        ({"commands": [3]}, False),
        ({"commands": [{"timeout": 1}]}, False),
        ({"commands": [{"command": 3}]}, False),
        ({"commands": [{"command": "make", "timeout": "1"}]}, False),
        ({"commands": ["true"], "environ": "A=1"}, False),
        ({"commands": ["true"], "result_path": 3}, False),
        ({"commands": ["true"], "save": "yes"}, False),
    ],
)
def test_validate(config: dict[str, Any], valid: bool) -> None:
    found, message = validate(config)
    assert (found, message == "") == (valid, valid)
    assert validate(config=config) == (found, message)
    for command in config.get("commands", []):
        if isinstance(command, dict):
            assert validate_command(command) is validate_command(c=command) is valid


# What the platforms do


def test_results_are_dictionaries(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = answer(RESULT)
    result: Any = connect(raw_server.url).execute({"commands": ["echo é"]})
    assert isinstance(result, dict)
    assert result == RESULT
    assert RESULT == result  # noqa: SIM300
    assert json.dumps(result) == json.dumps(RESULT)
    assert (repr(result), pprint.pformat(result)) == (repr(RESULT), pprint.pformat(RESULT))
    assert dict(**result) == {**result} == result.copy() == copy.deepcopy(result) == RESULT
    assert pickle.loads(pickle.dumps(result)) == RESULT
    assert list(result.items()) == list(RESULT.items())
    assert type(result["execution"][0]) is dict
    assert result.get("result", "") == ""
    assert "expire" not in result
    with pytest.raises(KeyError):
        result["environment"]
    result["seen"] = True  # frozen are the attributes only
    result.update(result=result.pop("status"))
    assert result | {"a": 1} == {**result, "a": 1}
    assert result.setdefault("result", 3) == 0


def test_columns_of_json(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = answer(USAGE)
    usage: Any = connect(raw_server.url).usage()
    column = json.loads(json.dumps(usage["memory"]["storage"]))
    assert column == {"/dev/sda2": 60275105792}
    assert type(usage["memory"]["storage"]) is dict
    assert [usage["cpu"]["usage"]] + usage["cpu"]["usage_avg"] == [0.085, 0.104, 0.09, 0.0775]


@pytest.mark.parametrize(
    ("expire", "expected"),
    [
        ({}, None),
        ({"expire": "20190705T130535Z"}, datetime(2019, 7, 5, 13, 5, 35, tzinfo=UTC)),
        ({"expire": "2019-07-05T13:05:35.25"}, datetime(2019, 7, 5, 13, 5, 35, 250_000)),
        (
            {"expire": "2019-07-05T13:05:35+00:00"},
            datetime(2019, 7, 5, 13, 5, 35, tzinfo=UTC),
        ),
    ],
)
def test_expiry(
    expire: dict[str, str],
    expected: datetime | None,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
) -> None:
    raw_server.answer = answer({**RESULT, "environment": ENV, **expire})
    r: Any = connect(raw_server.url).execute({"commands": ["true"], "save": True})
    assert (isoparse(r["expire"]) if "expire" in r else None) == expected


def test_polling_from_tasks(raw_server: RawServer, recordings: dict[str, Any]) -> None:
    def by_path(connection: Any, request: bytes) -> None:
        name = request.split(b"/")[1].decode()
        connection.sendall(answer(recordings[name]["json"]))

    raw_server.answer = by_path

    async def poll() -> Any:
        async with ASandbox(raw_server.url) as sandbox:
            return await asyncio.gather(sandbox.specifications(), sandbox.libraries())

    for _ in range(2):  # each task has an event loop of its own
        specifications, libraries = asyncio.run(poll())
        storage = specifications["host"]["memory"]["storage"]
        assert storage == recordings["specifications"]["json"]["host"]["memory"]["storage"]
        assert libraries["bin"] == recordings["libraries"]["json"]["bin"]


def test_exceptions_in_a_gather() -> None:
    async def poll() -> Any:
        async with ASandbox("http://127.0.0.1:1") as sandbox:
            return await asyncio.gather(sandbox.usage(), sandbox.usage(), return_exceptions=True)

    assert all(isinstance(each, OSError) for each in asyncio.run(poll()))


def test_asandbox_for_each_request(raw_server: RawServer) -> None:
    raw_server.answer = answer(RESULT)

    async def view(answer: Any) -> Any:
        async with ASandbox(answer) as sandbox:
            return await sandbox.execute({"commands": ["true"]}, tgz({"a": "1"}))

    async def main() -> list[Any]:
        return await asyncio.gather(*(view(raw_server.url) for _ in range(5)))

    assert asyncio.run(main()) == [RESULT] * 5


class Old(Sandbox):
    """A subclass as platforms have them."""

    def __init__(self, url: str, timeout: float | None = 60) -> None:
        super().__init__(url, timeout)
        self.url = url
        self.seen: list[str] = []

    def usage(self, **options: Any) -> Any:
        self.seen.append(os.path.join(self.url, "usages/"))
        return super().usage(**options)


class AOld(ASandbox):
    """The same of the other flavour, with all that its class took."""

    def __init__(
        self,
        url: str,
        total: float | None = 60,
        connect: float | None = None,
        sock_connect: float | None = None,
        sock_read: float | None = None,
    ) -> None:
        super().__init__(url, total, connect, sock_connect, sock_read)
        self.url = url
        self.seen: list[str] = []

    async def usage(self, **options: Any) -> Any:
        self.seen.append(os.path.join(self.url, "usages/"))
        return await super().usage(**options)


def test_subclass(connect: Callable[..., Any], raw_server: RawServer) -> None:
    raw_server.answer = answer(USAGE)
    sandbox = connect(raw_server.url, 5, subclass=(Old, AOld))
    assert sandbox.usage() == USAGE
    assert sandbox.seen == [f"{raw_server.url}/usages/"]


@pytest.mark.parametrize(
    ("name", "arguments", "path", "fields"),
    [
        ("load", {"environ": {"a": 1}}, "loader/fr/", {"data": '{"a": 1}'}),
        ("demo", {"environ": {}}, "loader/demo/pl/", {"data": "{}", "demo": "True"}),
        (
            "playexo",
            {"config": {"c": 2}, "environ": {}},
            "loader/play/pl/",
            {"data": "{}", "config": '{"c": 2}'},
        ),
        (
            "exec",
            {"datas": {"command": "é&=", "answer": 3}},
            "exec/",
            {"data": '{"command": "\\u00e9&=", "answer": 3}', "command": "é&=", "answer": "3"},
        ),
        pytest.param(
            "exec",
            {"datas": {"result": True, "answer": None}},
            "exec/",
            {"data": '{"result": true, "answer": null}', "result": "True", "answer": "None"},
        ),
        ("exec", {}, "exec/", {"data": "{}"}),
    ],
)
def test_loader(
    name: str,
    arguments: dict[str, Any],
    path: str,
    fields: dict[str, str],
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
) -> None:
    raw_server.answer = answer({"id": 1})
    method = getattr(connect(raw_server.url), name)
    assert method(**arguments) == method(*arguments.values()) == {"id": 1}
    for request in raw_server.requests:
        assert request.startswith(f"POST /{path} HTTP/1.1\r\n".encode())
        parts, _ = form(request)
        sent = {
            key: part.get_payload(decode=True).decode()  # type: ignore[union-attr]
            for key, part in parts.items()
        }
        assert sent == fields


# What was never closed


def test_sandbox_is_never_closed(raw_server: RawServer) -> None:
    raw_server.answer = answer(USAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            Sandbox(raw_server.url).usage()
        gc.collect()


def test_asandbox_that_is_never_closed_warns() -> None:
    async def main() -> None:
        sandbox = ASandbox("http://127.0.0.1:1")
        with pytest.warns(ResourceWarning):
            del sandbox

    asyncio.run(main())
