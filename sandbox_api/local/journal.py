"""Record what is asked and answered, for the log, the metrics and the page to tell."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LogFormat = Literal["text", "json", "none"]

# What is shown of a path.
PATH_SIZE = 200
REQUEST_ID = re.compile(rb"[\w.:/+=-]{1,100}")

# How many executions the page lists.
RECENT = 20


@dataclass
class Record:
    """One request and its answer. It has no body, query, header or command: they may be secret."""

    client: str
    method: str
    path: str
    request_id: str | None
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    operation: str = "none"
    status: int = 500
    size: int = 0
    seconds: float = 0.0
    commands: int = 0
    """How many commands an execution has."""
    outcome: int | None = None
    """The status of an execution that came to its end."""
    failure: str | None = None
    """What the store of environments said when it failed."""


def record_of(scope: Mapping[str, Any]) -> Record | None:
    """Return the record of a request, if one is kept."""
    return scope.get("sandbox.record")


class Journal:
    """Middleware that keeps a record of each request, and hands it to all observers at its end."""

    def __init__(self, observers: list[Callable[[Record], object]]) -> None:
        self._observers = observers

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Return app with its requests recorded."""

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            record = scope["sandbox.record"] = begin(scope)
            started = time.monotonic()

            async def observed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    record.status = message["status"]
                elif scope["method"] != "HEAD":
                    record.size += len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, receive, observed)
            finally:
                record.seconds = time.monotonic() - started
                for observer in self._observers:
                    observer(record)

        return recorded


def begin(scope: Scope) -> Record:
    """Return the record of a request that has just come."""
    # As it came: percent-encoded, so that no control character gets into a log, without the query.
    path = bytes(scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace")
    client = scope.get("client")
    found = (value for name, value in scope["headers"] if name == b"x-request-id")
    request_id = next(found, b"")
    return Record(
        client=client[0] if client else "-",
        method=scope["method"],
        path=path if len(path) <= PATH_SIZE else f"{path[:PATH_SIZE]}...",
        request_id=request_id.decode() if REQUEST_ID.fullmatch(request_id) else None,
    )


def log_text(record: Record) -> None:
    """Write a record to standard error, as a line to read."""
    line = (
        f"{record.begun.isoformat(sep=' ', timespec='seconds')} {record.client} {record.method} "
        f"{record.path} {record.status} {record.seconds * 1000:.1f} ms {record.size} B"
    )
    if record.outcome is not None:
        commands = "1 command" if record.commands == 1 else f"{record.commands} commands"
        line += f", {commands}, status {record.outcome}"
    if record.status == 499:
        line += ", cancelled"
    if record.request_id:
        line += f", id {record.request_id}"
    log(f"{line}, the store failed: {record.failure}" if record.failure else line)


def log_json(record: Record) -> None:
    """Write a record to standard error, as a line of JSON."""
    members: dict[str, object] = {
        "time": record.begun.isoformat(),
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "operation": record.operation,
        "status": record.status,
        "seconds": round(record.seconds, 6),
        "bytes": record.size,
    }
    if record.outcome is not None:
        members |= {"commands": record.commands, "outcome": record.outcome}
    if record.request_id:
        members["request_id"] = record.request_id
    if record.failure:
        members["failure"] = record.failure
    log(json.dumps(members))


def log_failure(reason: str, log_format: LogFormat) -> None:
    """Write to standard error that the store failed while no request needed it."""
    now = datetime.now(UTC)
    if log_format == "json":
        log(json.dumps({"time": now.isoformat(), "failure": reason}))
    elif log_format == "text":
        log(f"{now.isoformat(sep=' ', timespec='seconds')} the store failed: {reason}")


def log(line: str) -> None:
    """Write a line to standard error, if anybody is there to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


class Recent:
    """The last executions, without what they ran."""

    def __init__(self) -> None:
        self.executions: deque[dict[str, object]] = deque(maxlen=RECENT)

    def __call__(self, record: Record) -> None:
        """Take in a record."""
        if record.operation == "execute":
            self.executions.appendleft(
                {
                    "time": record.begun.isoformat(timespec="seconds"),
                    "commands": record.commands,
                    "http_status": record.status,
                    "status": record.outcome,
                    "seconds": round(record.seconds, 3),
                }
            )
