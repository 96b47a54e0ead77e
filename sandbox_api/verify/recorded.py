"""Exchanges that were recorded: sent again, and compared.

A file of recordings has, for each case by its name, the request and what a server answered to it.
`{env}` in it stands for the id of an environment that is stored beforehand.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .wire import Wire

Recording = dict[str, Any]

FOLDER = Path(__file__).with_name("recordings")

STORED = "env-upload"
"""The case whose upload is the environment `{env}`."""

OWN_AFFAIR = {
    "file-nested-encoded-slash": "proxies in front of a server refuse %2F, as they may",
    "large-stdout": "is work for the server",
    "network": "what network commands see is the server's own affair",
    "root": "what is at / is the server's own affair",
    "stdout-binary": "what becomes of output that is not text is not described",
    "unknown-path": "is of no operation",
    "whoami": "who runs the commands is the server's own affair",
}
"""Cases that say nothing of whether the description is kept, and why."""

MACHINE = {"specifications", "usages", "libraries"}
"""Cases whose answers tell of one machine: their members are compared, not the values."""


def load(file: Path) -> dict[str, Recording]:
    """Return the recordings of a file."""
    return cast("dict[str, Recording]", json.loads(file.read_text(encoding="utf-8")))


def recordings_of(version: str) -> Path:
    """Return the file with the recordings of a server's version, else of the newest."""
    files = sorted(FOLDER.glob("sandbox-*.json"), key=_by_version)
    return next((file for file in files if file.stem == f"sandbox-{version}"), files[-1])


def _by_version(file: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", file.stem)]


def fails_the_server(recording: Recording) -> bool:
    """Tell whether a case makes the recorded server fail, which proves nothing of another."""
    return recording.get("status") == 500


def request(wire: Wire, recording: Recording, env: str) -> httpx.Request:
    """Return the request of a case."""
    given: dict[str, Any] = recording["request"]
    method = given["method"]
    path = given["path"].replace("{env}", env)
    path = path.replace("/../", "/%2E%2E/")  # else it would be resolved before it is sent
    if "raw" in given:
        kind = {"Content-Type": given["content_type"]} if "content_type" in given else {}
        return wire.request(method, path, content=given["raw"], headers=kind)
    if "raw_form" in given:
        fields = given["raw_form"] or {"other": ""}
        return wire.request(method, path, files=[(n, (None, v)) for n, v in fields.items()])
    if "config" not in given:
        return wire.request(method, path)
    config = json.dumps(given["config"]).replace("{env}", env)
    parts: list[tuple[str, Any]] = [("config", (None, config))]
    if "environment_base64" in given:
        upload = base64.b64decode(given["environment_base64"])
        parts.append(("environment", (given.get("environment_filename"), upload)))
    return wire.request(method, path, files=parts)


def upload_of(recordings: dict[str, Recording]) -> bytes:
    """Return the environment that cases need to be stored."""
    return base64.b64decode(recordings[STORED]["request"]["environment_base64"])


def differences(
    name: str, recordings: dict[str, Recording], response: httpx.Response, env: str
) -> Iterator[tuple[str, str | None]]:
    """Yield, for each aspect that is compared, what differs from the recording, or None."""
    recording = recordings[name]
    status = recording["status"]
    if response.status_code != status:
        yield "status codes", f"is {response.status_code}, and was {status}"
        return
    yield "status codes", None
    yield "headers", _headers(recording, response, env)
    if response.request.method == "HEAD":
        return
    if status != 200:
        yield "error bodies", _error(recording, response, env)
    elif "json" in recording:
        try:
            answer = response.json()
        except ValueError:
            yield "examples", "the body is not JSON"
        else:
            compare = _members if name in MACHINE else _compare
            yield "examples", next(compare(recording["json"], answer), None)
    elif recording["headers"].get("Content-Type") == "application/gzip":
        yield "examples", _archive(upload_of(recordings), response.content)
    else:
        same = response.content == base64.b64decode(recording["body_base64"])
        yield "examples", None if same else "the file's bytes are others than those stored"


def _headers(recording: Recording, response: httpx.Response, env: str) -> str | None:
    for name in ("Content-Type", "Allow", "Content-Disposition"):
        was = recording["headers"].get(name)
        was = was.replace("{env}", env) if was else None
        found = response.headers.get(name)
        if was != found and (name != "Content-Disposition" or was):
            return f"{name} is {_short(found)}, and was {_short(was)}"
    if "Content-Length" in recording["headers"]:
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            return "Content-Length is missing"
        # What an archive weighs depends on who packs it.
        kind = recording["headers"].get("Content-Type")
        was = recording["headers"]["Content-Length"]
        if kind != "application/gzip" and length != was:
            return f"Content-Length is {length}, and was {was}"
    return None


def _error(recording: Recording, response: httpx.Response, env: str) -> str | None:
    was, found = recording.get("text", "").replace("{env}", env), response.text
    if was.lstrip().startswith("<"):
        # Which page it is, is a matter of the server's framework.
        page = found.lstrip().lower().startswith(("<!doctype html", "<html"))
        return None if page else f"is no page of HTML but {_short(found)}"
    return None if was == found else f"is {_short(found)}, and was {_short(was)}"


def _archive(stored: bytes, found: bytes) -> str | None:
    try:
        now = contents(found)
    except (tarfile.TarError, OSError, EOFError):
        return "the body is no gzipped tar archive"
    lost = [name for name, content in contents(stored).items() if now.get(name) != content]
    return f"the archive lacks {lost[0]}, or has it otherwise" if lost else None


def contents(archive: bytes) -> dict[str, bytes]:
    """Return the files of a gzipped tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as file:
        return {
            member.name.removeprefix("./"): content.read()
            for member in file
            if (content := file.extractfile(member)) is not None
        }


def _members(was: Any, found: Any, place: str = "", depth: int = 2) -> Iterator[str]:
    """Yield which members are missing, some levels deep."""
    if isinstance(was, dict) and depth:
        for key, member in cast("dict[str, Any]", was).items():
            if not isinstance(found, dict) or key not in found:
                yield f"{place}{key} is missing"
            else:
                yield from _members(member, found[key], f"{place}{key}.", depth - 1)


def _compare(was: Any, found: Any, place: str = "") -> Iterator[str]:
    """Yield what is missing or another; more members than were recorded are no harm."""
    key = place.rpartition(".")[2]
    if isinstance(was, dict):
        if not isinstance(found, dict):
            yield f"{place or 'the body'} is {_short(found)}, and was an object"
            return
        members = cast("dict[str, Any]", was)
        for name, member in members.items():
            inner = f"{place}.{name}" if place else name
            if name not in found:
                yield f"{inner} is missing"
            else:
                yield from _compare(member, found[name], inner)
        yield from _late(cast("dict[str, Any]", found), place)
    elif _is_list(was):
        if not _is_list(found) or len(was) != len(found):
            yield f"{place} is {_short(found)}, and was {len(was)} long"
            return
        for index, item in enumerate(was):
            yield from _compare(item, found[index], f"{place}[{index}]")
    elif key in VARYING:
        if VARYING[key](found) != VARYING[key](was):
            yield f"{place} is {_short(found)}, and was like {_short(was)}"
    elif was != found:
        yield f"{place} is {_short(found)}, and was {_short(was)}"


def _late(answer: dict[str, Any], place: str) -> Iterator[str]:
    """Yield when the commands took longer than all together."""
    try:
        took = sum(command["time"] for command in answer["execution"])
        if answer["total_time"] < took - 0.001:
            yield f"{place}total_time is less than what the commands took"
    except (KeyError, TypeError):
        pass


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _seconds(value: Any) -> object:
    return isinstance(value, int | float) and value >= 0


def _identifier(value: Any) -> object:
    try:
        return str(UUID(value)) == value
    except (ValueError, TypeError, AttributeError):
        return False


def form(value: Any) -> object:
    """Return how a time is written, whatever time it is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\d", "0", re.sub(r"\.\d+", "", value))


# What is another each time, and what stays of it.
VARYING = {
    "time": _seconds,
    "total_time": _seconds,
    "environment": _identifier,
    "expire": form,
}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
