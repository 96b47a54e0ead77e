"""Requests that the real server was sent, sent to the local one: it answers the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

RECORDINGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "recordings" / "sandbox-3.0.3.json").read_text(encoding="utf-8")
)

# Where the local sandbox answers otherwise, on purpose: docs/local.md says why. The status, and for
# some what the answer must hold.
DIFFERENT: dict[str, tuple[int, str]] = {
    "command-environ-key": (400, "Command badly formatted : '{'command': 'true', 'environ'"),
    "command-extra-key": (400, "Command badly formatted : '{'command': 'true', 'foo': 1}'"),
    "env-empty-upload": (400, "The environment cannot be used"),
    "env-gzip-not-tar": (400, "The environment cannot be used"),
    "env-not-gzip": (400, "The environment cannot be used"),
    "env-plain-tar": (400, "The environment cannot be used"),
    "env-truncated": (400, "The environment cannot be used"),
    "file-dir-get": (404, "could not be found in environment"),
    "file-dir-head": (404, ""),
    "result-directory": (200, '"status":-3'),
    "result-empty-path": (400, "result_path must name a file"),
    "stdout-binary": (200, '"exit_code":0'),
    "whoami": (200, r"1000\n/home/student\n/home/student\n0022\nbash\nnot a tty"),
}
# Packages differ between machines, and the recording is shortened.
KEYS_ONLY = {"libraries", "specifications", "usages", "large-stdout"}


@pytest.fixture(scope="module")
def client(sandbox_url: str) -> Any:
    path = sandbox_url.removeprefix("unix://")
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=path), base_url="http://localhost", timeout=60
    ) as client:
        yield client


@pytest.fixture(scope="module")
def env(client: httpx.Client) -> str:
    """The environment that the recordings call {env}, stored here."""
    archive = base64.b64decode(RECORDINGS["env-upload"]["request"]["environment_base64"])
    stored = client.post(
        "/execute/",
        files={
            "config": (None, json.dumps({"commands": ["true"], "save": True})),
            "environment": ("environment.tgz", archive),
        },
    )
    return str(stored.json()["environment"])


def send(client: httpx.Client, request: dict[str, Any], env: str) -> httpx.Response:
    method, path = request["method"], request["path"].replace("{env}", env)
    url = path.replace("..", "%2E%2E")  # httpx would resolve dot segments
    if "raw" in request:
        headers = {"Content-Type": request["content_type"]} if "content_type" in request else {}
        return client.request(method, url, content=request["raw"], headers=headers)
    if "raw_form" in request:
        files = {name: (None, value) for name, value in request["raw_form"].items()}
        return client.request(method, url, files=files or {"other": (None, "")})
    if "config" not in request:
        return client.request(method, url)
    config = json.dumps(request["config"]).replace("{env}", env)
    parts: dict[str, Any] = {"config": (None, config)}
    if "environment_base64" in request:
        archive = base64.b64decode(request["environment_base64"])
        parts["environment"] = (request.get("environment_filename"), archive)
    return client.request(method, url, files=parts)


def keys(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the members that an answer has, two levels deep, without their values."""
    return {
        key: set(member) if isinstance(member, dict) else type(member)
        for key, member in answer.items()
    }


def normal(value: Any) -> Any:
    """Return an answer without its times and identifiers."""
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, dict):
        return value
    unlike = {"time": float, "total_time": float, "environment": str, "expire": str}
    return {
        key: type(member) if key in unlike and isinstance(member, unlike[key]) else normal(member)
        for key, member in value.items()
    }


@pytest.mark.parametrize("name", RECORDINGS)
def test_answer(name: str, client: httpx.Client, env: str) -> None:
    recording = RECORDINGS[name]
    answer = send(client, recording["request"], env)
    if name in DIFFERENT:
        status, words = DIFFERENT[name]
        assert answer.status_code == status
        assert words in answer.text
        return
    assert answer.status_code == recording["status"], answer.text
    headers = recording["headers"]
    for header in ("Content-Type", "Allow"):
        assert answer.headers.get(header) == headers.get(header)
    if "Content-Disposition" in headers:
        expected = headers["Content-Disposition"].replace("{env}", env)
        assert answer.headers["Content-Disposition"] == expected
    if name in KEYS_ONLY:
        assert keys(answer.json()) == keys(recording["json"])
    elif "json" in recording:
        assert normal(answer.json()) == normal(recording["json"])
        assert list(answer.json()) == order(answer.json())
    elif "text" in recording and recording["request"]["method"] != "HEAD":
        assert answer.text == recording["text"].replace("{env}", env)
    elif "body_base64" in recording and not name.startswith("env-"):
        assert answer.content == base64.b64decode(recording["body_base64"])
        assert answer.headers["Content-Length"] == headers["Content-Length"] or not answer.content
    if recording["request"]["method"] == "HEAD":
        assert answer.content == b""


def order(answer: dict[str, Any]) -> list[str]:
    known = ["status", "execution", "total_time", "result", "environment", "expire"]
    return [key for key in known if key in answer]


def test_differences_are_of_recordings() -> None:
    assert set(DIFFERENT) < set(RECORDINGS)
