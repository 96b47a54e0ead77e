"""A server that answers what was recorded, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx

from sandbox_api.verify import recorded
from sandbox_api.verify.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path

ENV = "11111111-2222-4333-8444-555555555555"


class Replay(httpx.BaseTransport):
    """Answers the requests of a file of recordings."""

    def __init__(self, file: Path) -> None:
        self.recordings = recorded.load(file)
        wire = Wire(httpx.Client(), "http://recorded/", socket=None, rate=0, most=0)
        self._answers = {
            self._key(recorded.request(wire, recording, ENV)): recording
            for recording in self.recordings.values()
            if "status" in recording
        }
        store = {**self.recordings[recorded.STORED]["request"]}
        store["config"] = {**store["config"], "save": True}
        saved = self.recordings["env-upload-save-result"]
        saved = {**saved, "json": {**saved["json"], "environment": ENV}}
        self._answers[self._key(recorded.request(wire, {"request": store}, ""))] = saved

    @staticmethod
    def _key(request: httpx.Request) -> tuple[str, bytes, bytes]:
        return request.method, request.url.raw_path, request.read()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        recording = self._answers.get(self._key(request))
        if recording is None:  # the one request that is not recorded: a method that there is not
            allowed = "POST, OPTIONS" if "execute" in request.url.path else "GET, HEAD, OPTIONS"
            kind = "text/html; charset=utf-8"
            headers = {"Allow": allowed, "Content-Type": kind}
            return httpx.Response(405, headers=headers, stream=httpx.ByteStream(b""))
        headers = {k: v.replace("{env}", ENV) for k, v in recording["headers"].items()}
        if "json" in recording:
            content = json.dumps(recording["json"]).encode()
        elif "body_base64" in recording:
            content = base64.b64decode(recording["body_base64"])
        else:
            content = recording["text"].replace("{env}", ENV).encode()
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return httpx.Response(
            recording["status"], headers=encoded, stream=httpx.ByteStream(content)
        )
