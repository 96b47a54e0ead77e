"""`verify` finds nothing wrong with the local sandbox, and all that is planted in its answers."""

# ruff: noqa: E501 (a table)

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api.verify import ASPECTS, verify
from scripts.description import describe

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Answer:
    """What a server answered, to be changed."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = [
            (name, value) for name, value in response.headers.raw if name.lower() != b"date"
        ]
        self.body = response.read()

    def copy(self) -> Answer:
        made = object.__new__(Answer)
        made.status, made.headers, made.body = self.status, [*self.headers], self.body
        return made

    def __setitem__(self, name: str, value: str | None) -> None:
        key = name.lower().encode()
        self.headers = [each for each in self.headers if each[0].lower() != key]
        if value is not None:
            self.headers.append((name.encode(), value.encode()))

    def replace(self, body: str | bytes) -> None:
        self.body = body.encode() if isinstance(body, str) else body
        self["Content-Length"] = str(len(self.body))


class Server(httpx.BaseTransport):
    """The local sandbox, asked each thing once, whose answers can be changed on the way."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.change: Callable[[httpx.Request, Answer], None] = lambda request, answer: None
        self.asked = 0
        self._real = httpx.HTTPTransport(uds=url.removeprefix("unix://"))
        self._answers: dict[tuple[str, bytes, bytes], Answer] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        key = request.method, request.url.raw_path, request.read()
        if key not in self._answers:
            self.asked += 1
            self._answers[key] = Answer(self._real.handle_request(request))
        answer = self._answers[key].copy()
        self.change(request, answer)
        stream = httpx.ByteStream(answer.body if request.method != "HEAD" else b"")
        return httpx.Response(answer.status, headers=answer.headers, stream=stream)

    def close(self) -> None:
        """Stay open: a client closes its transport, and there will be others."""


@pytest.fixture(scope="module")
def server(sandbox_url: str) -> Iterator[Server]:
    server = Server(sandbox_url)
    with httpx.Client(transport=server) as client:
        report = verify(sandbox_url, http_client=client, rate=0, examples=2)
    assert report.ok, str(report)
    yield server
    server._real.close()


def member(*keys: str | int, to: Any = ...) -> Callable[[Answer], None]:
    """Return what sets a member of a body, where it is, or removes it."""

    def change(answer: Answer) -> None:
        body = json.loads(answer.body)
        holder = body
        try:
            for key in keys[:-1]:
                holder = holder[key]
            if to is ...:
                del holder[keys[-1]]
            elif keys[-1] in (holder if isinstance(holder, dict) else range(len(holder))):
                holder[keys[-1]] = to
        except (KeyError, IndexError):
            return
        answer.replace(json.dumps(body))

    return change


def status(code: int) -> Callable[[Answer], None]:
    return lambda answer: setattr(answer, "status", code)


def header(name: str, value: str | None = None) -> Callable[[Answer], None]:
    return lambda answer: answer.__setitem__(name, value)


def body(content: str | bytes) -> Callable[[Answer], None]:
    return lambda answer: answer.replace(content)


def text(old: str, new: str) -> Callable[[Answer], None]:
    return lambda answer: answer.replace(re.sub(old, new, answer.body.decode()))


def both(*changes: Callable[[Answer], None]) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        for each in changes:
            each(answer)

    return change


EXECUTED = ("POST", "/execute/", 200)
FIRST = ("execution", 0)
PLAIN = "text/plain; charset=utf-8"

# Where a fault is planted, which, the operation and the aspect that must be named, and words of it.
PLANTED: dict[str, tuple[tuple[str, str, int], Any, str, str, str]] = {
    "no status": (EXECUTED, member("status"), "execute", "body schema", "status"),
    "no total_time": (EXECUTED, member("total_time"), "execute", "body schema", "total_time"),
    "no execution": (EXECUTED, member("execution"), "execute", "body schema", "execution"),
    "no exit_code": (EXECUTED, member(*FIRST, "exit_code"), "execute", "body schema", "exit_code"),
    "no result": (EXECUTED, member("result"), "execute", "examples", "result is missing"),
    "no expire": (EXECUTED, member("expire"), "execute", "examples", "expire is missing"),
    "no environment": (EXECUTED, member("environment"), "execute", "examples", "environment is m"),
    "status a string": (EXECUTED, member("status", to="0"), "execute", "body schema", "/status"),
    "time a string": (EXECUTED, member(*FIRST, "time", to="1"), "execute", "body schema", "/time"),
    "exit_code null": (EXECUTED, member(*FIRST, "exit_code", to=None), "execute", "body schema", "/exit_code"),
    "stdout null": (EXECUTED, member(*FIRST, "stdout", to=None), "execute", "body schema", "/stdout"),
    "stderr a list": (EXECUTED, member(*FIRST, "stderr", to=[]), "execute", "body schema", "/stderr"),
    "execution an object": (EXECUTED, member("execution", to={}), "execute", "body schema", "/execution"),
    "a fraction of an exit code": (EXECUTED, member(*FIRST, "exit_code", to=0.5), "execute", "body schema", "/exit_code"),
    "no UUID": (EXECUTED, member("environment", to="e-1"), "execute", "body schema", "/environment"),
    "an older date": (EXECUTED, member("expire", to="20190705T130535Z"), "execute", "body schema", "/expire"),
    "a date without zone": (EXECUTED, member("expire", to="2026-11-25T00:08:42.366719"), "execute", "body schema", "/expire"),
    "a negative time": (EXECUTED, member("total_time", to=-1), "execute", "examples", "total_time is -1"),
    "less time together": (EXECUTED, member("total_time", to=0), "execute", "examples", "total_time is less"),
    "output not stripped": (EXECUTED, text(r'"stdout": ?"(\w)', r'"stdout":"  \1'), "execute", "examples", "stdout is '  "),
    "another exit code": (EXECUTED, text(r'"exit_code": ?3', '"exit_code":4'), "execute", "examples", "exit_code is 4, and was 3"),
    "another result": (EXECUTED, member("result", to="other"), "execute", "examples", "result is 'other'"),
    "time-outs that are no failure": (EXECUTED, text(r'"status": ?-2', '"status":0'), "execute", "examples", "status is 0, and was -2"),
    "a command with its dash": (EXECUTED, text(r'"false"', '"-false"'), "execute", "examples", "command is '-false'"),
    "201": (EXECUTED, status(201), "execute", "status codes", "201"),
    "500": (EXECUTED, status(500), "execute", "status codes", "500"),
    "JSON called text": (EXECUTED, header("Content-Type", PLAIN), "execute", "headers", "text/plain"),
    "no type": (EXECUTED, header("Content-Type"), "execute", "headers", "Content-Type is None"),
    "JSON cut short": (EXECUTED, text(r"}$", ""), "execute", "body schema", "JSON"),
    "no JSON": (EXECUTED, body("done"), "execute", "body schema", "JSON"),
    "422": (("POST", "/execute/", 400), status(422), "execute", "status codes", "is 422, and was 400"),
    "other words": (("POST", "/execute/", 400), text("Missing", "No"), "execute", "error bodies", "No argument"),
    "no words": (("POST", "/execute/", 400), body(""), "execute", "error bodies", "is ''"),
    "errors as JSON": (
        ("POST", "/execute/", 400),
        both(body('{"detail": "no"}'), header("Content-Type", "application/json")),
        "execute", "headers", "application/json",
    ),
    "unknown environments run": (("POST", "/execute/", 404), status(400), "execute", "status codes", "is 400, and was 404"),
    "405 without Allow": (("GET", "/execute/", 405), header("Allow"), "execute", "headers", "Allow"),
    "405 with a body": (("PUT", "/usages/", 405), body("no"), "usage", "error bodies", "should be empty"),
    "PUT is taken": (("PUT", "/libraries/", 405), status(200), "libraries", "status codes", "a method that is not there"),
    "Allow lacks GET": (("PUT", "/specifications/", 405), header("Allow", "OPTIONS"), "specifications", "headers", "lacks GET"),
    "no host": (("GET", "/specifications/", 200), member("host"), "specifications", "body schema", "host"),
    "no core": (("GET", "/specifications/", 200), member("host", "cpu", "core"), "specifications", "body schema", "core"),
    "a count in words": (("GET", "/specifications/", 200), member("container", "count", to="ten"), "specifications", "body schema", "/container/count"),
    "two averages": (("GET", "/usages/", 200), member("cpu", "usage_avg", to=[0.1, 0.2]), "usage", "body schema", "/cpu/usage_avg"),
    "half a process": (("GET", "/usages/", 200), member("process", to=1.5), "usage", "body schema", "/process"),
    "no perl": (("GET", "/libraries/", 200), member("libraries", "perl"), "libraries", "body schema", "perl"),
    "numbers for names": (("GET", "/libraries/", 200), member("bin", to=[1]), "libraries", "body schema", "/bin/0"),
    "no disposition": (("GET", "/environments/", 200), header("Content-Disposition"), "download_environment", "headers", "Content-Disposition"),
    "another name": (("GET", "/files/", 200), header("Content-Disposition", "attachment; filename=x"), "download_file", "headers", "filename=x"),
    "a plain archive": (("GET", "/environments/", 200), lambda answer: answer.replace(gzip.decompress(answer.body)), "download_environment", "examples", "no gzipped tar"),
    "archives called files": (("GET", "/environments/", 200), header("Content-Type", "application/octet-stream"), "download_environment", "headers", "octet-stream"),
    "other bytes": (("GET", "/files/", 200), lambda answer: answer.replace(answer.body[::-1]), "download_file", "examples", "the file's bytes"),
    "files for all": (("GET", "/files/", 404), status(200), "download_file", "status codes", "is 200, and was 404"),
    "files are text": (("GET", "/files/", 200), header("Content-Type", PLAIN), "download_file", "headers", "text/plain"),
    "sizes unknown": (("HEAD", "/environments/", 200), header("Content-Length"), "check_environment", "headers", "Content-Length"),
    "another size": (("HEAD", "/files/", 200), header("Content-Length", "1"), "check_file", "headers", "Content-Length is 1"),
    "all files are there": (("HEAD", "/files/", 404), status(200), "check_file", "status codes", "is 200, and was 404"),
    "gone": (("HEAD", "/environments/", 200), status(410), "check_environment", "status codes", "is 410, and was 200"),
    "a page for a sentence": (("GET", "/environments/", 404), body("<html></html>"), "download_environment", "error bodies", "<html>"),
    "a sentence for a page": (("GET", "/environments/unknown/", 404), body("no"), "download_environment", "error bodies", "no page of HTML"),
}  # fmt: skip


def run(server: Server, examples: int = 0) -> Any:
    with httpx.Client(transport=server) as client:
        return verify(server.url, http_client=client, rate=0, examples=examples)


def test_local_sandbox_keeps_the_description(server: Server) -> None:
    server.change = lambda request, answer: None
    asked = server.asked
    report = run(server, examples=2)
    assert report.ok, str(report)
    assert server.asked == asked, "requests are the same in each run"
    assert report.requests < 120
    for name in ("specifications", "usage", "libraries", "execute"):
        assert [report.cell(name, aspect) for aspect in ASPECTS] == ["held"] * 5
    for name in ("download_environment", "download_file"):
        assert [report.cell(name, aspect) for aspect in ASPECTS] == [
            "held", "held", "-", "held", "held"
        ]  # fmt: skip
    for name in ("check_environment", "check_file"):
        assert [report.cell(name, aspect) for aspect in ASPECTS] == ["held", "held", "-", "-", "-"]
    for name in ("load", "demo", "playexo", "exec"):
        assert {report.cell(name, aspect) for aspect in ASPECTS} == {"not exercised"}
    assert str(report).endswith(f"all held, {report.requests} requests")


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_named(name: str, server: Server) -> None:
    (method, path, code), change, operation, aspect, words = PLANTED[name]
    changed: list[str] = []

    def plant(request: httpx.Request, answer: Answer) -> None:
        if (request.method, answer.status) == (method, code) and request.url.path.startswith(path):
            before = answer.status, answer.body, [*answer.headers]
            change(answer)
            if before != (answer.status, answer.body, answer.headers):
                changed.append(str(request.url))

    server.change = plant
    report = run(server)
    assert changed
    assert not report.ok
    assert report.cell(operation, aspect) == "broken", str(report)
    found = [each for each in report.breaks if (each.operation, each.aspect) == (operation, aspect)]
    assert any(words in each.what for each in found), str(report)
    assert {each.operation for each in report.breaks} == {operation}, "nothing else is blamed"
    assert all(each.curl.startswith(("curl ", "echo ")) for each in report.breaks)
    assert f"BROKEN {operation}, {aspect}: " in str(report)


def test_thirty_faults_are_planted() -> None:
    assert len(PLANTED) >= 30
    assert {aspect for *_, aspect, _ in PLANTED.values()} == set(ASPECTS)


def test_break_shows_a_request_that_can_be_sent(sandbox_url: str, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    server = Server(sandbox_url)
    server.change = lambda request, answer: setattr(answer, "status", 418)
    report = run(server, examples=1)
    server._real.close()
    shown = {each.case: each.curl for each in report.breaks}
    for case, words in {
        "recorded case env-upload": "with space.txt",
        "recorded case timeout-string": "Command badly formatted",
        "recorded case environ": "My var",
        "recorded case execute-get": "Allow: POST, OPTIONS",
        "generated case 1": "200 OK",
    }.items():
        sent = subprocess.run(
            ["bash", "-c", shown[case]], capture_output=True, text=True, check=False
        )
        assert words.lower() in sent.stdout.lower(), f"{shown[case]}\n{sent.stdout}{sent.stderr}"


def test_secrets_are_not_shown(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_server.answer = reply("404 Not Found", "no")
    monkeypatch.setenv("SANDBOX_TOKEN", "s3cret-s3cret-s3cret")
    report = verify(raw_server.url, rate=0)
    assert b"s3cret" in raw_server.requests[0]
    assert not report.ok
    assert "'authorization: ***'" in str(report).lower()
    assert "s3cret" not in str(report)


def test_requests_are_bounded(server: Server) -> None:
    server.change = lambda request, answer: None
    with httpx.Client(transport=server) as client:
        began = time.monotonic()
        report = verify(server.url, http_client=client, rate=50, most=10)
    assert time.monotonic() - began > 8 / 50
    assert report.requests == 10
    assert report.notes == ["Stopped after 10 requests, as asked."]
    assert report.ok


def test_nothing_heavy_is_sent(server: Server) -> None:
    sent: list[httpx.Request] = []
    server.change = lambda request, answer: sent.append(request)
    run(server, examples=20)
    bodies = [request.content for request in sent]
    assert max(map(len, bodies)) < 2000
    assert sum(b'"save": true' in body for body in bodies) <= 3
    assert {request.method for request in sent} == {"GET", "HEAD", "POST", "PUT", "DELETE"}


def test_new_fields_are_told_and_break_nothing(server: Server) -> None:
    def add(request: httpx.Request, answer: Answer) -> None:
        if request.url.path == "/execute/" and answer.status == 200:
            member("execution", 0, to={**json.loads(answer.body)["execution"][0], "memory": 1})(
                answer
            )

    server.change = add
    report = run(server)
    assert report.ok, str(report)
    assert report.notes == ["execute answers with execution[].memory, which is not described."]


def test_older_dates_are_told_by_the_description_of_an_older_server(server: Server) -> None:
    server.change = lambda request, answer: None
    with httpx.Client(transport=server) as client:
        report = verify(
            server.url, http_client=client, description=describe("2.0"), rate=0, examples=0
        )
    assert {(each.operation, each.aspect) for each in report.breaks} == {("execute", "body schema")}
    assert all("/expire" in each.what for each in report.breaks)


def test_overloaded_server_is_asked_again(server: Server) -> None:
    def overloaded(request: httpx.Request, answer: Answer) -> None:
        if b"echo $((2+2))" in request.content:
            answer.status = 503
            answer.replace("Sandbox overloaded, retry after a few seconds.")

    server.change = overloaded
    report = run(server)
    assert report.ok, str(report)
    assert report.notes == ["recorded case ok-simple was not exercised: the server was overloaded."]


def test_command(sandbox_url: str, raw_server: RawServer) -> None:
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "sandbox_api.cli", "verify", "--rate=0", *options]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = command("--url", sandbox_url, "--description", "openapi/sandbox.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held against the description of 3.0.3" in done.stdout
    raw_server.answer = reply("500 Server Error", "no")
    done = command("--url", raw_server.url, "--most", "20")
    assert done.returncode == 1
    assert re.search(r"execute +broken", done.stdout)
    done = command("--url", "http://127.0.0.1:1")
    assert done.returncode == 69
    assert "does not answer" in done.stderr
    done = command("--url", "nowhere")
    assert done.returncode == 2
    raw_server.answer = reply("401 Unauthorized", "no")
    done = command("--url", raw_server.url)
    assert (done.returncode, done.stdout) == (69, "")
    assert "set SANDBOX_TOKEN" in done.stderr
