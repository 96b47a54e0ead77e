"""What either flavour makes of replies that the real server gave."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import ExecutionResult, Sandbox, SandboxError
from sandbox_api.utils import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..servers import RawServer

RECORDINGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "recordings" / "sandbox-3.0.3.json").read_text(encoding="utf-8")
)
ENV = "872b604c-9cce-42e2-8888-9a0311f3a724"


def call(sandbox: Sandbox, request: dict[str, Any]) -> Any:
    """Make the call that would have sent a request."""
    method, path = request["method"], request["path"].replace("{env}", ENV)
    if method == "POST" and validate(request["config"])[0]:
        return sandbox.execute(request["config"])
    if method == "POST":  # which `execute` would not send
        fields = {"config": request["config"]}
        return sandbox.request("POST", "execute/", fields=fields, model=ExecutionResult)
    kind, *parts = path.strip("/").split("/", 2)
    if kind in {"environments", "files"}:
        return (sandbox.download if method == "GET" else sandbox.check)(*parts)
    return {
        "specifications": sandbox.specifications,
        "usages": sandbox.usage,
        "libraries": sandbox.libraries,
    }[kind]()


def asked_by_sdk(request: dict[str, Any]) -> bool:
    """Tell whether a request is one that a client of ours can send."""
    if request["method"] == "POST":
        return request["path"] == "/execute/" and "config" in request
    return (
        request["path"].endswith("/")
        and request["path"].split("/")[1]
        in {
            "environments",
            "files",
            "specifications",
            "usages",
            "libraries",
        }
        and request["method"] in {"GET", "HEAD"}
    )


def replayed(recording: dict[str, Any]) -> bytes:
    """Return a recorded reply as it travelled."""
    if "body_base64" in recording:
        body = base64.b64decode(recording["body_base64"])
    elif "json" in recording:
        body = json.dumps(recording["json"]).encode()
    else:
        body = recording["text"].encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in recording["headers"].items())
    return f"HTTP/1.1 {recording['status']} \r\n{headers}\r\n".encode("latin-1") + body


@pytest.mark.parametrize(
    "name", [name for name, recording in RECORDINGS.items() if asked_by_sdk(recording["request"])]
)
def test_reply(name: str, connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    recording = RECORDINGS[name]
    raw_server.answer = replayed(recording)
    sandbox = connect(raw_server.url)
    method = recording["request"]["method"]

    if recording["status"] >= 300 and (method, recording["status"]) != ("HEAD", 404):
        with pytest.raises(SandboxError) as caught:
            call(sandbox, recording["request"])
        assert type(caught.value).__name__ == f"Sandbox{recording['status']}"
        assert caught.value.response.status_code == recording["status"]
        if "<" not in recording["text"]:
            assert recording["text"] in str(caught.value)
        return

    answer = call(sandbox, recording["request"])
    if "json" in recording:
        assert answer == recording["json"]
    elif method == "HEAD":
        assert answer == int(recording["headers"].get("Content-Length", 0))
    else:
        assert isinstance(answer, io.BytesIO)
        assert answer.read() == base64.b64decode(recording["body_base64"])


def test_most_recordings_are_used() -> None:
    assert sum(asked_by_sdk(recording["request"]) for recording in RECORDINGS.values()) > 65


@pytest.mark.parametrize("path", [None, "unknown.txt"])
def test_head_that_is_followed_by_a_body(
    path: str | None, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    # The real server sends the body that a GET would have had, against the rules of HTTP.
    text = f"No environment with UUID '{ENV}' found"
    raw_server.answer = (
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Connection: close\r\n\r\n{text}"
    ).encode()
    assert connect(raw_server.url).check(ENV, path) == 0
