"""Record what a live server answers, for the suite to hold others against.

python -m scripts.record --url http://host:port    write tests/recordings/sandbox-VERSION.json

The requests are those of the newest recordings, or of `--cases FILE`: there, a new case needs no
more than a name and a request. They are sent one at a time, and not faster than `--rate`. What is
another each time is made the same: times, ids, sizes of archives and all that tells of one machine.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from sandbox_api import SandboxError, SandboxFailure
from sandbox_api._settings import Settings
from sandbox_api.verify import recorded
from sandbox_api.verify.wire import OVERLOADED, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "recordings"

KEPT_HEADERS = ("Content-Type", "Content-Length", "Content-Disposition", "Allow", "Connection")
SECONDS = 0.1
SAVED = "9c710cd1-5119-49c6-9045-56fd7ad80320"
DIGITS = "20261125000842366719"


def record(
    wire: Wire, cases: Mapping[str, recorded.Recording]
) -> tuple[str, dict[str, recorded.Recording]]:
    """Return the version of a server, and its answers to all cases."""
    version = wire.send(wire.request("GET", "/specifications/")).json()["host"]["sandbox_version"]
    store = json.loads(json.dumps(cases[recorded.STORED]["request"]))
    store["config"]["save"] = True
    env = wire.send(recorded.request(wire, {"request": store}, "")).json()["environment"]
    made: dict[str, recorded.Recording] = {}
    for name, case in sorted(cases.items()):
        response = wire.send(recorded.request(wire, case, env))
        if response.status_code == OVERLOADED:
            raise RuntimeError(f"{name}: the server is overloaded; try with a lower --rate")
        made[name] = {"request": case["request"], **answer(name, response, env)}
    sizes = {
        each["request"]["path"]: each["headers"].get("Content-Length")
        for each in made.values()
        if each["request"]["method"] == "GET"
    }
    for each in made.values():  # HEAD tells the size that GET was recorded with
        path = each["request"]["path"]
        if each["request"]["method"] == "HEAD" and "Content-Length" in each["headers"]:
            each["headers"]["Content-Length"] = sizes.get(path, "0")
    return str(version), made


def answer(name: str, response: httpx.Response, env: str) -> dict[str, Any]:
    """Return an answer as it is recorded."""
    headers = {
        key: response.headers[key].replace(env, "{env}")
        for key in KEPT_HEADERS
        if key in response.headers
    }
    found: dict[str, Any] = {"status": response.status_code}
    kind = headers.get("Content-Type", "")
    # The size of JSON and of messages tells of times and ids, and not all servers say it.
    if kind.startswith(("application/json", "text/")):
        headers.pop("Content-Length", None)
    if kind.startswith("application/json"):
        body = response.json()
        found["json"] = machine(name, body) if name in recorded.MACHINE else normal(body)
    elif kind.startswith("text/"):
        found["text"] = response.text.replace(env, "{env}")
    elif kind == "application/gzip":
        content = repacked(response.content) if response.content else b""
        found["body_base64"] = base64.b64encode(content).decode()
        if content:
            headers["Content-Length"] = str(len(content))
    else:
        found["body_base64"] = base64.b64encode(response.content).decode()
    return found | {"headers": headers}


def normal(value: Any, key: str = "") -> Any:
    """Return a result whose times and ids are always the same."""
    if isinstance(value, dict):
        return {name: normal(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if key in ("time", "total_time") and isinstance(value, float):
        # Of a run of commands, the time of all is not less than that of each.
        return SECONDS if key == "time" else SECONDS * 10
    if key == "environment" and is_uuid(value):
        return SAVED
    if key == "expire" and isinstance(value, str):
        digits = iter(DIGITS)
        whole, zone = re.fullmatch(r"(.*?)([+-]\d\d:?\d\d|Z|)", value, re.DOTALL).groups()  # type: ignore[union-attr]
        return re.sub(r"\d", lambda _: next(digits, "0"), whole) + zone
    return value


def machine(name: str, value: Any) -> Any:
    """Return an answer that tells nothing of one machine but its kind."""
    if name == "libraries" and isinstance(value, dict):
        return {key: machine(name, member) for key, member in [*value.items()][:4]}
    if isinstance(value, list):
        return [machine(name, item) for item in value[:3]]
    if isinstance(value, dict):
        devices = [key for key in value if key.startswith("/")]
        if devices:
            return {"/dev/vda": machine(name, value[devices[0]])}
        return {key: machine(name, member) for key, member in value.items()}
    if isinstance(value, int | float):
        # In limits these mean that there is none, or that it is not known.
        return value if name == "specifications" and value in (0, -1) else 1
    return "/dev/vda" if isinstance(value, str) and value.startswith("/") else value


def repacked(archive: bytes) -> bytes:
    """Return an archive that holds the same, and is the same whoever packed it and when."""
    stream = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            made = tarfile.TarInfo(member.name)
            made.type, made.linkname, made.size = member.type, member.linkname, member.size
            new.addfile(made, old.extractfile(member) if member.isreg() else None)
    return stream.getvalue()


def is_uuid(value: object) -> bool:
    """Tell whether a value is an id."""
    try:
        return str(UUID(str(value))) == value
    except ValueError:
        return False


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="the sandbox server")
    parser.add_argument("--cases", type=Path, help="a file of requests, by name")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write to")
    parser.add_argument("--rate", type=float, default=2, help="requests a second; 0 is no bound")
    parser.add_argument("--force", action="store_true", help="write over older recordings")
    options = parser.parse_args()
    cases = recorded.load(options.cases or recorded.recordings_of(""))
    try:
        settings = Settings.of(options.url, {}, given=None, awaited=False)
        with settings.client() as client:
            client.timeout = httpx.Timeout(60)
            wire = Wire(
                client,
                settings.base_url,
                socket=settings.socket,
                rate=options.rate,
                most=4 * len(cases),
            )
            version, made = record(wire, cases)
    except (SandboxError, SandboxFailure, httpx.TransportError, RuntimeError, LookupError) as error:
        sys.exit(f"{options.url}: {error}")
    file = options.folder / f"sandbox-{version}.json"
    if file.exists() and not options.force:
        sys.exit(f"{file} is there already: --force writes it anew")
    text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False)
    file.write_text(f"{text}\n", encoding="utf-8")
    print(f"{file}: {len(made)} exchanges with a server {version}")


if __name__ == "__main__":
    main()
