from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox_client import SERVER_VERSION

from .conftest import archive
from .public import TOKEN, Public, execute, serving, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "872b604c-9cce-42e2-8888-9a0311f3a724"
ACCEPT = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    with serving(tmp_path_factory.mktemp("data"), "--max-storage", "1M") as server:
        yield server


def numbers(server: Public) -> dict[tuple[str, str, str], float]:
    """Return the samples of a server by name, operation and status."""
    response = httpx.get(f"{server.url}/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (each.name, each.labels.get("operation", ""), each.labels.get("status", "")): each.value
        for family in text_string_to_metric_families(response.text)
        for each in family.samples
        if "le" not in each.labels
    }


def test_requests_are_counted_by_operation_and_status(server: Public) -> None:
    before = numbers(server)
    saved = execute(server.url, "true", save=True).json()["environment"]
    execute(server.url)
    httpx.get(f"{server.url}/environments/{saved}/")
    httpx.head(f"{server.url}/environments/{saved}/")
    httpx.head(f"{server.url}/files/{saved}/none/")
    httpx.get(f"{server.url}/no/such/path")
    httpx.get(f"{server.url}/usages/", headers={"Host": "evil"})
    after = numbers(server)
    for operation, status in (
        ("execute", "200"),
        ("execute", "400"),
        ("download_environment", "200"),
        ("check_environment", "200"),
        ("check_file", "404"),
        ("none", "404"),
        ("none", "403"),
    ):
        key = ("sandbox_requests_total", operation, status)
        assert after[key] == before.get(key, 0) + 1
    key = ("sandbox_request_seconds_count", "execute", "")
    assert after[key] == before.get(key, 0) + 2
    assert after["sandbox_request_seconds_sum", "execute", ""] > 0
    assert after["sandbox_environments", "", ""] == 1
    assert 0 < after["sandbox_stored_bytes", "", ""] < 1000
    assert after["sandbox_slots", "", ""] >= 1
    assert after["sandbox_slots_in_use", "", ""] == after["sandbox_waiting", "", ""] == 0


def test_what_runs_and_waits_is_shown(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with (
        serving(tmp_path, "--slots", "1", "--wait", "30") as server,
        ThreadPoolExecutor(3) as pool,
    ):
        running = [pool.submit(execute, server.url, "sleep 1") for _ in range(3)]
        wait_for(lambda: activity(server)["waiting"] == 2)
        assert activity(server)["running"] == 1
        found = numbers(server)
        assert found["sandbox_slots_in_use", "", ""] == 1
        assert [each.result().status_code for each in running] == [200] * 3
        assert activity(server)["waiting"] == 0


def activity(server: Public) -> Any:
    return httpx.get(f"{server.url}/activity").json()


def test_the_last_executions_are_listed_without_what_they_ran(server: Public) -> None:
    execute(server.url, "echo confidential; exit 3", environ={"SECRET": "confidential"})
    execute(server.url, "true", "true")
    execute(server.url)
    response = httpx.get(f"{server.url}/activity")
    last = [
        (each["commands"], each["status"], each["http_status"])
        for each in response.json()["executions"][:3]
    ]
    assert last == [(0, None, 400), (2, 0, 200), (1, 3, 200)]
    assert "confidential" not in response.text
    assert response.json()["version"] == SERVER_VERSION
    assert response.json()["max_storage"] == 1024**2


def test_no_more_executions_are_remembered_than_are_shown(server: Public) -> None:
    for _ in range(25):
        execute(server.url)
    assert len(activity(server)["executions"]) == 20


def test_it_is_alive(server: Public) -> None:
    response = httpx.get(f"{server.url}/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")
    assert httpx.post(f"{server.url}/healthz").status_code == 405


def test_each_request_is_a_line_without_secrets(server: Public) -> None:
    httpx.get(f"{server.url}/healthz", headers={"X-Request-ID": "now"})
    wait_for(lambda: server.text.endswith("id now\n"))
    seen = len(server.lines)
    headers = {"X-Request-ID": "a-1", "Authorization": "confidential", "Cookie": "confidential"}
    execute(server.url, "echo confidential", headers=headers)
    httpx.get(f"{server.url}/files/{NOBODY}/a%0Ab%1B/?key=confidential")
    httpx.get(f"{server.url}/{'x' * 1000}", headers={"X-Request-ID": "two words"})
    wait_for(lambda: len(server.lines) == seen + 3)
    first, second, third = server.lines[seen:]
    assert "127.0.0.1 POST /execute/ 200 " in first
    assert first.endswith(" B, 1 command, status 0, id a-1\n")
    assert f"GET /files/{NOBODY}/a%0Ab%1B/ 404 " in second
    assert f"GET /{'x' * 199}... 404 " in third
    assert "confidential" not in server.text


def test_a_request_that_was_given_up_is_logged_as_such(server: Public) -> None:
    form = {"config": '{"commands": ["sleep 8"]}'}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/execute/", data=form, timeout=0.5)
    wait_for(lambda: "POST /execute/ 499 " in server.text)
    assert server.text.endswith(" 0 B, cancelled\n")


def test_the_log_can_be_json(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format", "json", "--token", TOKEN) as server:
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": "a-1"}
        upload = {"environment": ("e.tgz", archive(("f", b"confidential")))}
        form = {"config": '{"commands": ["exit 7"]}'}
        httpx.post(f"{server.url}/execute/", data=form, files=upload, headers=headers)
        httpx.get(f"{server.url}/usages/")
        wait_for(lambda: "401" in server.text)
        first, second = (json.loads(line) for line in server.lines[-2:])
    assert first.pop("time").startswith("20")
    assert 0 < first.pop("seconds") < 30
    assert first.pop("bytes") > 100
    assert first == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/execute/",
        "operation": "execute",
        "status": 200,
        "commands": 1,
        "outcome": 7,
        "request_id": "a-1",
    }
    assert (second["operation"], second["status"]) == ("none", 401)


def test_there_can_be_no_log(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format", "none") as server:
        execute(server.url, "true")
        assert server.stop() == 0
    assert "POST" not in server.text


def test_the_description_is_of_this_server(server: Public) -> None:
    description = httpx.get(f"{server.url}/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    assert set(description["paths"]) == {
        "/specifications/",
        "/usages/",
        "/libraries/",
        "/environments/{uuid}/",
        "/files/{uuid}/{path}/",
        "/execute/",
    }
    assert description["servers"] == [{"url": "./"}]
    # How the real one speaks HTTP is not how this one does.
    assert "Content-Length" not in description["info"]["description"]
    assert "docs/local.md" in description["info"]["description"]
    assert [tag["name"] for tag in description["tags"]] == ["sandbox"]
    assert "ExecutionResult" in description["components"]["schemas"]
    assert "LoadForm" not in description["components"]["schemas"]


def test_only_a_browser_gets_the_page(server: Public) -> None:
    for accept in ("*/*", "application/json"):
        response = httpx.get(f"{server.url}/", headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html")
        assert "<h1>Not Found</h1>" in response.text
    response = httpx.get(f"{server.url}/", headers=ACCEPT)
    assert response.status_code == 200
    assert "<title>Sandbox</title>" in response.text


def test_pages_are_strict(server: Public) -> None:
    for path in ("/", "/page.css", "/page.js", "/docs", "/docs/swagger.js", "/docs/swagger.css"):
        response = httpx.get(f"{server.url}{path}", headers=ACCEPT)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    for path in ("/page.html", "/docs/", "/docs/../page.html", "/page/page.js"):
        assert httpx.get(f"{server.url}{path}", headers=ACCEPT).status_code == 404


def test_a_private_server_loads_nothing_of_this() -> None:
    code = "import sys, sandbox_api.local.app as a; a.create_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("prometheus_client", "offapi", "platformdirs", "sandbox_api.local.seen"):
        assert name not in done.stdout.split()
