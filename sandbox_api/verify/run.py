"""A run: the cases in their order, and what they tell."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from sandbox_api._settings import Settings
from sandbox_api.exceptions import ConnectionFailed

from . import recorded
from .generated import Described
from .report import Break, Report
from .wire import OVERLOADED, SpentError, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOBODY = "872b604c-9cce-42e2-8888-9a0311f3a724"
"""An environment that nobody has."""


def verify(
    url: str | None = None,
    *,
    description: dict[str, Any] | None = None,
    recordings: Path | None = None,
    rate: float = 2.0,
    most: int = 200,
    examples: int = 3,
    timeout: float = 60.0,
    http_client: httpx.Client | None = None,
) -> Report:
    """Look whether a server keeps a description, by default that of the newest version.

    At most `most` requests are sent, one at a time and `rate` a second (0 is no bound): those that
    were recorded with a real server, and for each operation `examples` generated ones. They run
    nothing but small commands, and store a few small environments.

    Raises:
        InvalidURL: the URL cannot be used.
        ConnectionFailed: the server does not answer, or answers nobody without a token.
    """
    settings = Settings.of(url, {}, given=None, awaited=False)
    client = http_client or settings.client()
    client.timeout = httpx.Timeout(timeout)
    try:
        wire = Wire(client, settings.base_url, socket=settings.socket, rate=rate, most=most)
        described = Described(description if description is not None else newest())
        version = described.document["info"]["version"]
        cases = recorded.load(recordings or recorded.recordings_of(version))
        run = _Run(wire, described, cases)
        try:
            run.all(examples)
        except SpentError:
            run.report.note(f"Stopped after {most} requests, as asked.")
        run.report.requests = wire.sent
        return run.report
    finally:
        if http_client is None:
            client.close()


def newest() -> dict[str, Any]:
    """Return the description that the client was generated from."""
    file = resources.files("sandbox_client") / "openapi.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


class _Run:
    def __init__(
        self, wire: Wire, described: Described, cases: dict[str, recorded.Recording]
    ) -> None:
        self._wire = wire
        self._described = described
        self._cases = cases
        self.report = Report({name: described.aspects(name) for name in described.operations})
        # Add-ons cannot be called without a resource of theirs.
        self._own = [
            name
            for name, each in described.operations.items()
            if "sandbox" in each.definition.raw["tags"]
        ]

    def all(self, examples: int) -> None:
        """Send everything."""
        self._introduce()
        env = self._store()
        for name in self._cases:
            self._recorded(name, env)
        for name in self._own:
            self._wrong_method(name)
        for name in self._own if examples else ():
            for number, case in enumerate(self._described.examples(name, examples), 1):
                self._generated(name, f"generated case {number}", case)

    def _introduce(self) -> None:
        request = self._wire.request("GET", "/specifications/")
        try:
            response = self._wire.send(request)
        except httpx.TransportError as error:
            raise ConnectionFailed(f"{self._wire.address} does not answer: {error}") from error
        if response.status_code in (401, 403):
            raise ConnectionFailed(
                f"{self._wire.address} answers {response.status_code}: set SANDBOX_TOKEN"
            )
        try:
            says = response.json()["host"]["sandbox_version"]
        except (ValueError, LookupError, TypeError):
            says = "unknown"
        version = self._described.document["info"]["version"]
        self.report.title = (
            f"{self._wire.shown} (server {says}), held against the description of {version}"
        )

    def _store(self) -> str:
        """Store the environment that cases need, and return its id."""
        case = {**self._cases[recorded.STORED]["request"]}
        case["config"] = {**case["config"], "save": True}
        request = recorded.request(self._wire, {"request": case}, "")
        response = self._send("execute", "the environment to store", request)
        if response is None:
            return ""
        try:
            return str(UUID(response.json()["environment"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            what = f"no environment is stored: {response.status_code} {response.text[:100]!r}"
            self._broken("execute", "body schema", what, "the environment to store", request)
            return ""

    def _recorded(self, name: str, env: str) -> None:
        recording = self._cases[name]
        if "status" not in recording or recorded.fails_the_server(recording):
            return
        needs = "{env}" in json.dumps(recording["request"])
        if name in recorded.OWN_AFFAIR or (needs and not env):
            return
        operation, whole = self._operation_of(recording["request"])
        if operation is None:
            return
        request = recorded.request(self._wire, recording, env)
        case = f"recorded case {name}"
        response = self._send(operation, case, request)
        if response is None:
            return
        if response.status_code == OVERLOADED != recording["status"]:
            self.report.note(f"{case} was not exercised: the server was overloaded.")
            return
        judged = [
            (aspect, what and f"{_part(aspect)} of the answer {what}")
            for aspect, what in recorded.differences(name, self._cases, response, env)
        ]
        if whole:
            for member in self._described.undescribed(operation, response):
                self.report.note(f"{operation} answers with {member}, which is not described.")
            judged += self._described.faults(operation, response)
        self._judge(operation, case, request, judged)

    def _operation_of(self, request: dict[str, Any]) -> tuple[str | None, bool]:
        """Return which operation a request is of, and whether it is one that is described."""
        path = request["path"].split("?")[0]
        parts = path.strip("/").split("/")
        first: str | None = None
        for name in self._own:
            operation = self._described.operations[name]
            template = operation.path.strip("/").split("/")
            if template[0] != parts[0]:
                continue
            first = first or name
            if operation.method == request["method"].lower():
                long_enough = len(parts) >= len(template)
                return name, path.endswith("/") and long_enough
        return first, False

    def _wrong_method(self, name: str) -> None:
        operation = self._described.operations[name]
        if operation.method == "head":
            return  # its path is that of a GET
        path = operation.path.replace("{uuid}", NOBODY).replace("{path}", "file")
        request = self._wire.request("PUT", path, content="")
        response = self._send(name, "a method that there is not", request)
        if response is None:
            return
        judged: list[tuple[str, str | None]] = []
        if response.status_code != 405:
            what = f"{response.status_code} answers a method that is not there"
            judged.append(("status codes", what))
        else:
            judged += [*self._described.faults(name, response)]
            allowed = {each.strip() for each in response.headers.get("Allow", "").split(",")}
            missing = {
                each.method.upper()
                for each in self._described.operations.values()
                if each.path == operation.path
            } - allowed
            if missing:
                judged.append(("headers", f"Allow lacks {', '.join(sorted(missing))}"))
        self._judge(name, "a method that there is not", request, judged)

    def _generated(self, name: str, case: str, generated: Any) -> None:
        request = self._described.request(generated, self._wire)
        response = self._send(name, case, request)
        if response is None:
            return
        if response.status_code in (400, 405, 500):
            what = f"{response.status_code} answers a request that is as described"
            self._judge(name, case, request, [("status codes", what)])
        else:
            self._judge(name, case, request, self._described.faults(name, response))

    def _send(self, operation: str, case: str, request: httpx.Request) -> httpx.Response | None:
        try:
            return self._wire.send(request)
        except httpx.TransportError as error:
            self._broken(operation, "status codes", f"there is no answer: {error}", case, request)
        return None

    def _judge(
        self,
        operation: str,
        case: str,
        request: httpx.Request,
        judged: Iterable[tuple[str, str | None]],
    ) -> None:
        for aspect, what in judged:
            if what is None:
                self.report.held(operation, aspect)
            else:
                self._broken(operation, aspect, what, case, request)

    def _broken(
        self, operation: str, aspect: str, what: str, case: str, request: httpx.Request
    ) -> None:
        self.report.breaks.append(Break(operation, aspect, what, case, self._wire.curl(request)))


def _part(aspect: str) -> str:
    return {"status codes": "the status", "headers": "the head"}.get(aspect, "the body")
