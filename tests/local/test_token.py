from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox_api import Sandbox, SandboxError
from sandbox_api.local import LocalServer

from .conftest import Client
from .public import TOKEN, Public, execute, serving, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    data = tmp_path_factory.mktemp("data")
    with serving(data, "--host", "0.0.0.0", SANDBOX_TOKEN=TOKEN) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("token", ["", None])
def test_without_a_token_others_are_not_listened_to(host: str, token: str | None) -> None:
    options = [] if token is None else ["--token", token]
    with start("--port", "0", "--host", host, *options) as process:
        text = process.communicate(timeout=30)[1]
    if "Cannot listen" in text:
        pytest.skip("this machine has no IPv6")
    assert process.returncode == 1
    assert "must demand a token" in text
    assert "SANDBOX_TOKEN" in text
    assert "listens on" not in text


@pytest.mark.parametrize("token", ["hunter2", "hunter2-with-a-sp ace", "hunter2-is-tøø-bold"])
def test_a_token_that_is_no_good_is_refused_and_not_shown(token: str) -> None:
    with start("--port", "0", "--token", token) as process:
        text = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert "The token must have 16 characters" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer tøken",
    ],
)
def test_whoever_has_not_the_token_gets_nothing(server: Public, given: str | None) -> None:
    headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
    for path in ("/specifications/", "/usages/", "/metrics", "/activity", "/no/such/path"):
        response = httpx.get(f"{server.url}{path}", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="sandbox"'
        assert TOKEN not in response.text
    assert execute(server.url, "true", headers=headers).status_code == 401


def test_the_token_opens_everything_and_is_never_written(server: Public) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert httpx.get(f"{server.url}/usages/", headers=headers).status_code == 200
        assert execute(server.url, "true", headers=headers).json()["status"] == 0
    assert httpx.get(f"{server.url}/metrics?token={TOKEN}", headers=RIGHT).status_code == 200
    assert "Requests must carry the token." in server.text
    wait_for(lambda: "GET /metrics 200" in server.text)
    assert TOKEN not in server.text


def test_what_is_the_same_on_every_server_needs_no_token(server: Public) -> None:
    for path in ("/healthz", "/", "/page.js", "/page.css", "/docs", "/docs/swagger.js"):
        response = httpx.get(f"{server.url}{path}", headers={"Accept": "text/html"})
        assert response.status_code == 200
        assert TOKEN not in response.text


def test_any_name_will_do_where_a_token_is_demanded(server: Public) -> None:
    headers = {"Host": "sandbox.example.org", **RIGHT}
    assert httpx.get(f"{server.url}/usages/", headers=headers).status_code == 200
    headers["Origin"] = "https://elsewhere.example.org"
    assert httpx.get(f"{server.url}/usages/", headers=headers).status_code == 403
    headers["Origin"] = "https://sandbox.example.org"
    assert httpx.get(f"{server.url}/usages/", headers=headers).status_code == 200


def test_a_large_upload_of_a_stranger_is_not_taken_in(server: Public) -> None:
    files = {"environment": ("e.tgz", bytes(20_000_000))}
    response = httpx.post(f"{server.url}/execute/", data={"config": "{}"}, files=files)
    assert response.status_code == 401


def test_a_token_is_demanded_on_loopback_too_when_there_is_one(tmp_path: Path) -> None:
    with serving(tmp_path, "--token", TOKEN) as server:
        assert httpx.get(f"{server.url}/usages/").status_code == 401
        assert httpx.get(f"{server.url}/usages/", headers=RIGHT).status_code == 200
        assert httpx.get(f"{server.url}/", headers={"Host": "evil"}).status_code == 403


def test_the_client_sends_the_token(server: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_TOKEN", raising=False)
    with Sandbox(server.url, headers=RIGHT) as sandbox:
        result = sandbox.execute({"commands": ["echo in"]})
        assert result.execution[0].stdout == "in"
    with Sandbox(server.url) as sandbox, pytest.raises(SandboxError, match="demands its token"):
        sandbox.usage()
    monkeypatch.setenv("SANDBOX_TOKEN", TOKEN)
    with Sandbox(server.url) as sandbox:
        assert sandbox.usage().container == 0
        assert TOKEN not in repr(vars(sandbox))
    # Who says how to authenticate is not talked over.
    with (
        Sandbox(server.url, auth=("me", "secret")) as sandbox,
        pytest.raises(SandboxError, match="demands its token"),
    ):
        sandbox.usage()


def test_a_private_server_demands_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_TOKEN", TOKEN)
    server = LocalServer()
    with Client(server) as client:
        assert client.output("echo in; env").startswith("in")
        assert TOKEN not in client.output("env")
    server.stop()
