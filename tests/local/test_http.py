from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anyio import to_thread

from sandbox_api.local import api, engine
from sandbox_api.local.app import create_app
from sandbox_api.local.limits import Limits
from sandbox_client.models import ExecutionResult, Libraries, Specifications, Usage

from .conftest import Client, archive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

NOBODY = "872b604c-9cce-42e2-8888-9a0311f3a724"


@pytest.fixture(scope="module")
def environment(client: Client) -> str:
    names = "hé.txt '☃ snow' $'tab\\tbed' ' space ' $'new\\nline' 'a#b?c%d' $'a\\xfe'"
    answer = client.run(f'mkdir d; for name in f d/f {names}; do echo x > "$name"; done', save=True)
    return str(answer["environment"])


def raw(client: Client, request: bytes) -> bytes:
    """Send bytes and return all that comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(client.socket)
        connection.sendall(request.replace(b"Host:", b"Connection: close\r\nHost:"))
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/usages",
        "//usages/",
        "/usages//",
        "/execute",
        "/environments/",
        "/environments/unknown/",
        f"/environments/{NOBODY.upper()}/",
        f"/environments/{NOBODY}",
        f"/environments/{NOBODY}x/",
        f"/environments/%0A{NOBODY}/",
        f"/files/{NOBODY}/",
        f"/files/{NOBODY}/f",
    ],
)
def test_an_unknown_path_is_a_page_that_says_not_found(client: Client, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        response = client.request(method, path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "text/html"
        assert ("<h1>Not Found</h1>" in response.text) == (method != "HEAD")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/specifications/", "GET, HEAD, OPTIONS"),
        ("/usages/", "GET, HEAD, OPTIONS"),
        ("/libraries/", "GET, HEAD, OPTIONS"),
        (f"/environments/{NOBODY}/", "GET, HEAD, OPTIONS"),
        (f"/files/{NOBODY}/f/", "GET, HEAD, OPTIONS"),
        ("/execute/", "POST, OPTIONS"),
    ],
)
def test_methods_are_told_and_others_refused(client: Client, path: str, allowed: str) -> None:
    for method in ("DELETE", "PUT", "PATCH", "PROPFIND", "GET" if path == "/execute/" else "POST"):
        response = client.request(method, path)
        assert (response.status_code, response.content) == (405, b"")
        assert response.headers["allow"] == allowed
    response = client.options(path)
    assert (response.status_code, response.headers["allow"]) == (200, allowed)


def test_head_has_the_length_and_no_body(client: Client, environment: str) -> None:
    for path in (f"/environments/{environment}/", f"/files/{environment}/f/", "/specifications/"):
        got, headed = client.get(path), client.head(path)
        assert headed.content == b""
        for name in ("content-length", "content-type", "content-disposition"):
            assert headed.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("path", "disposition"),
    [
        ("f", b"attachment; filename=f"),
        ("d/f", b"attachment; filename=f"),
        ("d%2Ff", b"attachment; filename=f"),
        ("h%C3%A9.txt", b"attachment; filename=h\xe9.txt"),
        ("a%23b%3Fc%25d", b"attachment; filename=a#b?c%d"),
        ("%E2%98%83%20snow", b"=?utf-8?b?YXR0YWNobWVudDsgZmlsZW5hbWU94piDIHNub3c=?="),
        ("tab%09bed", b"=?utf-8?b?YXR0YWNobWVudDsgZmlsZW5hbWU9dGFiCWJlZA==?="),
        ("new%0Aline", b"=?utf-8?b?YXR0YWNobWVudDsgZmlsZW5hbWU9bmV3CmxpbmU=?="),
        ("a%FE", b"=?utf-8?b?YXR0YWNobWVudDsgZmlsZW5hbWU9YT8=?="),
        ("%20space%20", b"=?utf-8?b?YXR0YWNobWVudDsgZmlsZW5hbWU9IHNwYWNlIA==?="),
    ],
)
def test_a_file_is_sent_under_its_name(
    client: Client, environment: str, path: str, disposition: bytes
) -> None:
    answer = raw(client, f"GET /files/{environment}/{path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-disposition: " + disposition in head.split(b"\r\n")
    assert body == b"x\n"


@pytest.mark.parametrize("path", ["d", "./f", "../f", "d//f", "d/../f", "F", "%FF", "f%00"])
def test_only_the_exact_name_of_a_file_will_do(client: Client, environment: str, path: str) -> None:
    answer = raw(client, f"GET /files/{environment}/{path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"could not be found in environment" in answer


def test_a_chunked_request_is_refused(client: Client) -> None:
    head = b"POST /execute/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    answer = raw(client, head + b"6\r\nconfig\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\nMissing argument 'config'")


def test_a_config_in_a_file_part_is_missing(client: Client) -> None:
    response = client.post("/execute/", files={"config": ("config", b'{"commands": ["true"]}')})
    assert (response.status_code, response.text) == (400, "Missing argument 'config'")


def test_an_environment_in_a_text_part_is_ignored(client: Client) -> None:
    form = {"config": '{"commands": ["ls"]}', "environment": "text"}
    assert client.post("/execute/", data=form).json()["execution"][0]["stdout"] == ""


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_config_is_limited_in_size(client: Client, kind: str) -> None:
    files = {"other": b""} if kind.startswith("multipart") else {}
    config = json.dumps({"commands": ["true"], "x": "x" * 2_600_000})
    assert client.post("/execute/", data={"config": config}, files=files).status_code == 200
    config = json.dumps({"commands": ["true"], "x": "x" * 2_621_440})
    response = client.post("/execute/", data={"config": config}, files=files)
    assert (response.status_code, response.headers["content-type"]) == (400, "text/html")
    assert "<h1>Bad Request (400)</h1>" in response.text


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense\r\n\r\n\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x; charset=rot13",
            b'--x\r\nContent-Disposition: form-data; name="config"\r\n\r\n{\r\n--x--\r\n',
        ),
        ("application/json", b'{"commands": ["true"]}'),
        ("application/x-www-form-urlencoded", b"&" * 1000),
        ("", b""),
    ],
)
def test_a_damaged_form_is_refused(client: Client, kind: str, content: bytes) -> None:
    response = client.post("/execute/", content=content, headers={"Content-Type": kind})
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("[]", "config must be an object, not <class 'list'>"),
        ('{"commands": null}', "commands must be a list, not <class 'NoneType'>"),
        ('{"commands": [], "environ": []}', "environ must be an object, not <class 'list'>"),
        ('{"commands": [], "environ": {}}', "Command list cannot be empty"),
        (
            json.dumps({"commands": ["-"] * 10_001}),
            "Command list cannot have more than 10000 commands",
        ),
        ('{"commands": [{}], "save": 1}', "Command badly formatted : '{}'"),
        ('{"commands": ["a"], "save": 1, "result_path": 1}', "result_path must be a string"),
        ('{"commands": ["a"], "save": 1}', "save must be a boolean, not <class 'int'>"),
        ('{"commands": ["a\\u0000b"]}', "Command badly formatted : 'a\0b'"),
        ('{"commands": ["\\ud800"]}', "Command badly formatted : '\\ud800'"),
        ('{"commands": ["a"], "environ": {"": 1}}', "environ cannot have a variable named ''"),
        ('{"commands": ["a"], "environ": {"a=b": 1}}', "environ cannot have a variable"),
        ('{"commands": ["a"], "environ": {"a": "\\u0000"}}', "environ cannot have the value"),
        ('{"commands": ["a"], "environ": {"\\u0000": 1}}', "environ cannot have a variable"),
        ("[" * 200_000, "'config' json is invalid - "),
        ("1" * 5000, "'config' json is invalid - "),
        ("", "'config' json is invalid - Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_faulty_config_is_refused(client: Client, config: str, text: str) -> None:
    response = client.post("/execute/", data={"config": config})
    assert response.status_code == 400
    assert response.text.startswith(text)


@pytest.mark.parametrize(
    "name", ["unknown", 3, [], f"../environments/{NOBODY}", NOBODY.upper(), f"{NOBODY}\n", NOBODY]
)
def test_an_unknown_environment_is_not_found_before_commands_are_looked_at(
    client: Client, name: Any
) -> None:
    response = client.post("/execute/", data={"config": json.dumps({"environment": name})})
    assert response.status_code == 404
    assert response.text == f"No environment with UUID '{name}' found"


@pytest.mark.parametrize(
    ("timeout", "text"),
    [
        (-1, "-1"),
        (-0.5, "-0.5"),
        (float("-inf"), "-inf"),
        (0.25, "0.25"),
        (True, "1"),
    ],
)
def test_the_text_of_a_time_out_has_the_bound_that_applied(
    client: Client, timeout: float, text: str
) -> None:
    answer = client.run({"command": "echo x; sleep 30", "timeout": timeout}, "echo never")
    [result] = answer["execution"]
    assert result["stderr"] == f"Command timed out after {text} seconds\n"
    assert (answer["status"], result["exit_code"], result["stdout"]) == (-2, -2, "")


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, False, 10**400, float("inf"), 1e300])
def test_such_a_time_out_is_none(client: Client, timeout: float) -> None:
    assert client.run({"command": "echo x", "timeout": timeout})["status"] == 0


def test_a_time_out_that_is_no_number_is_an_unknown_error(client: Client) -> None:
    answer = client.run({"command": "-true", "timeout": float("nan")}, "echo never")
    assert answer["status"] == -1
    [result] = answer["execution"]
    assert result["stderr"] == "An unknown error occurred on the sandbox\n"


@pytest.mark.parametrize(
    "origin", ["http://elsewhere", "null", "", "http://sandbox.elsewhere", "http://sandbox:81"]
)
def test_other_origins_pages_can_not_use_the_server(client: Client, origin: str) -> None:
    form = {"config": '{"commands": ["true"]}'}
    for path in ("/execute/", "/", "/nowhere"):
        response = client.post(path, data=form, headers={"Origin": origin})
        assert response.status_code == 403


def test_the_servers_own_pages_can_use_it(client: Client) -> None:
    form = {"config": '{"commands": ["true"]}'}
    response = client.post("/execute/", data=form, headers={"Origin": "http://sandbox"})
    assert response.status_code == 200


def test_a_private_server_has_no_page(client: Client) -> None:
    for path in ("/", "/docs", "/metrics", "/healthz", "/openapi.json", "/activity", "/page.js"):
        response = client.get(path, headers={"Accept": "text/html"})
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html")


def test_what_the_machine_is_and_does_is_as_described(client: Client) -> None:
    specifications = Specifications.from_dict(client.get("/specifications/").json())
    assert specifications.host.docker_version.startswith("bubblewrap ")
    assert specifications.host.sandbox_version == "3.0.3"
    assert specifications.container.process == 256
    for _ in range(2):
        usage = Usage.from_dict(client.get("/usages/").json())
        assert usage.container == 0
        assert 0 <= usage.cpu.usage <= 1
        time.sleep(0.6)


def test_libraries_are_those_in_the_sandbox(client: Client) -> None:
    libraries = Libraries.from_dict(client.get("/libraries/").json())
    assert libraries["bin"] == sorted(set(libraries["bin"]))
    assert {"bash", "env", "ls"} <= set(libraries["bin"])
    assert "libc" in libraries.libraries.c
    assert "pytest" not in libraries.libraries.python
    modules = "from importlib.metadata import distributions; print(len(list(distributions())))"
    count = client.output(f"python3 -c '{modules}'")
    assert not count.isdigit() or int(count) >= len(libraries.libraries.python)


def test_an_abandoned_request_is_killed(client: Client) -> None:
    form = httpx.Request("POST", "http://x/", data={"config": '{"commands": ["sleep 9.5"]}'})
    head = b"POST /execute/ HTTP/1.1\r\nHost: x\r\n"
    head += b"".join(b"%b: %b\r\n" % pair for pair in form.headers.raw if pair[0] != b"Host")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(client.socket)
        connection.sendall(head + b"\r\n" + form.read())
        wait_for(lambda: client.get("/usages/").json()["container"] == 1)
    started = time.monotonic()
    wait_for(lambda: client.get("/usages/").json()["container"] == 0)
    assert time.monotonic() - started < 8
    assert client.left() == []


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@asynccontextmanager
async def running(data: Path | None = None, **limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application with limits of its own in this process."""
    app = create_app(data=data, limits=Limits(**limits), hosts=["sandbox"])
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://sandbox", timeout=30
        ) as client,
    ):
        yield client


async def ask(client: httpx.AsyncClient, *commands: Any, **config: Any) -> httpx.Response:
    form = {"config": json.dumps({"commands": commands, **config})}
    return await client.post("/execute/", data=form)


def test_a_full_server_says_so_and_when_to_come_again() -> None:
    async def scenario() -> None:
        async with running(slots=1, patience=0.1) as client:
            first = asyncio.ensure_future(ask(client, "sleep 1"))
            await asyncio.sleep(0.3)
            second = await ask(client, "true")
            assert second.status_code == 503
            assert second.text == "Sandbox overloaded, retry after a few seconds."
            assert second.headers["retry-after"] == "1"
            assert (await first).status_code == 200
            assert (await ask(client, "true")).status_code == 200

    asyncio.run(scenario())


def test_searches_of_large_archives_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, found = threading.Event(), threading.Event()

    @contextmanager
    def search(*_: object) -> Iterator[None]:
        begun.set()
        found.wait(30)
        yield None

    monkeypatch.setattr(api, "open_member", search)

    async def scenario() -> None:
        async with running() as client:
            saved = (await ask(client, "true", save=True)).json()["environment"]
            urls = [f"/files/{saved}/{number}/" for number in range(50)]
            tasks = [asyncio.ensure_future(client.get(url)) for url in urls]
            try:
                assert await asyncio.to_thread(begun.wait, 10)
                async with asyncio.timeout(10):
                    assert (await ask(client, "true", environment=saved)).status_code == 200
            finally:
                found.set()
            assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {404}

    asyncio.run(scenario())


def test_as_many_saves_as_there_are_slots_hold_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, packed = threading.Semaphore(0), threading.Event()

    def pack(*_: object) -> None:
        begun.release()
        packed.wait(30)

    # As many as asyncio has threads by itself.
    saves = min(32, (os.cpu_count() or 1) + 4)

    async def scenario() -> None:
        async with running(slots=saves + 1, warm=0, patience=30.0) as client:
            saved = (await ask(client, "true", save=True)).json()["environment"]
            monkeypatch.setattr(engine, "pack", pack)
            tasks = [asyncio.ensure_future(ask(client, "true", save=True)) for _ in range(saves)]
            try:
                for _ in tasks:
                    assert await to_thread.run_sync(begun.acquire, True, 20)
                async with asyncio.timeout(8):
                    answer = await ask(client, "true", environment=saved)
            finally:
                packed.set()
            answers = [answer, *await asyncio.gather(*tasks)]
        assert {answer.status_code for answer in answers} == {200}

    asyncio.run(scenario())


def test_all_commands_of_a_request_share_its_bound() -> None:
    async def scenario() -> None:
        async with running(run_time=0.5) as client:
            slow = {"command": "-sleep 9", "timeout": 0}
            answer = (await ask(client, "sleep 0.2", slow, "-true", "echo never")).json()
        codes = [result["exit_code"] for result in answer["execution"]]
        assert codes == [0, -2, -2, -2]
        assert answer["status"] == -2
        assert answer["total_time"] < 5
        assert answer["execution"][1]["stderr"].startswith("Command timed out after 0.2")

    asyncio.run(scenario())


def test_all_outputs_of_a_request_share_a_limit() -> None:
    async def scenario() -> None:
        async with running(output_size=60, request_output_size=100) as client:
            answer = (await ask(client, *["printf %060d 0"] * 3)).json()
        first, second, third = answer["execution"]
        assert "stdout_truncated" not in first
        assert len(second["stdout"].splitlines()[0]) == 40
        assert third["stdout"].strip() == "[output cut after 0 bytes]"

    asyncio.run(scenario())


def test_an_upload_is_limited_in_size() -> None:
    async def scenario() -> None:
        async with running(upload_size=1000) as client:
            form = {"config": '{"commands": ["true"]}'}
            response = await client.post("/execute/", data=form, files={"environment": b"x" * 999})
        assert response.status_code == 413

    asyncio.run(scenario())


def test_a_server_answers_only_to_its_names() -> None:
    async def scenario() -> None:
        async with running() as client:
            for host, status in (
                ("sandbox:7000", 200),
                ("SANDBOX", 200),
                ("elsewhere", 403),
                ("sandbox.elsewhere", 403),
                ("sandbox:elsewhere", 403),
                ("[::1", 403),
                ("sandbox@elsewhere", 403),
                ("", 403),
            ):
                response = await client.get("/specifications/", headers={"Host": host})
                assert response.status_code == status

    asyncio.run(scenario())


def test_environments_outlive_the_server_but_not_their_time(tmp_path: Path) -> None:
    async def save() -> Any:
        async with running(tmp_path) as client:
            return ExecutionResult.from_dict((await ask(client, "touch f", save=True)).json())

    async def status(identifier: str, **limits: Any) -> int:
        async with running(tmp_path, **limits) as client:
            return (await client.head(f"/environments/{identifier}/")).status_code

    result = asyncio.run(save())
    assert 86_000 < result.expire.timestamp() - time.time() <= 86_400
    # What was promised is kept, also by a server that promises less.
    assert asyncio.run(status(result.environment, lifetime=0.001)) == 200
    [path] = (tmp_path / "environments").iterdir()
    assert abs(path.stat().st_mtime - result.expire.timestamp()) < 1e-5
    os.utime(path, (time.time(), time.time() - 1))
    assert asyncio.run(status(result.environment)) == 404
    os.utime(path, (time.time(), time.time() - 100))
    assert asyncio.run(status(result.environment)) == 404
    assert list((tmp_path / "environments").iterdir()) == []


def test_stopping_the_application_ends_what_runs_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o711)

    async def scenario() -> None:
        async with running() as client:
            request = asyncio.ensure_future(ask(client, "sleep 9"))
            await asyncio.sleep(0.3)
            assert os.listdir(tmp_path) != []
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

    started = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started < 8
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() < 50


def test_uploads_larger_than_memory_buffers_are_unpacked(client: Client) -> None:
    content = bytes(range(256)) * 20_000
    answer = client.run("wc -c < f", upload=archive(("f", content)))
    assert answer["execution"][0]["stdout"] == str(len(content))
