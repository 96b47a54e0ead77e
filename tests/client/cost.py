"""What the client costs, in calls of functions: the same on any machine, however busy.

`python -m tests.client.cost` prints it, and with `--write` renews the figures on record.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx

from sandbox_api import ASandbox, Sandbox
from sandbox_api._connection import Connection
from sandbox_client.api.sandbox import execute, libraries
from scripts.bench import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import FrameType

FILE = Path(__file__).with_name("cost.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# How much more or less than on record there may be, for other versions of dependencies.
TOLERANCE = 0.1

CONFIG = {"commands": ["true"]}
URL = "http://127.0.0.1:1"


class Calls:
    """Counts calls of functions, Python's and built-in ones, in this thread."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Calls:
        gc.collect()
        gc.disable()  # nor what others do when it runs
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event.endswith("call") and "coverage" not in frame.f_code.co_filename:
            self.number += 1


class Answering(socket.socket):
    """A connection to a server that answers at once, but never before it is waited for."""

    def __init__(self) -> None:
        mine, self._theirs = socket.socketpair()
        super().__init__(fileno=mine.detach())
        self.setblocking(False)
        self._late = False

    def send(self, data: Any, flags: int = 0) -> int:
        sent = bytes(data)
        if sent.endswith(b"--\r\n"):
            body = servers.result()
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            self._theirs.sendall(head % len(body) + body)
        elif b"expect: 100-continue" in sent.lower():
            self._theirs.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._late = True
        return len(sent)

    def recv(self, size: int, flags: int = 0) -> bytes:
        late, self._late = self._late, False
        if late:
            raise BlockingIOError
        return super().recv(size, flags)

    def close(self) -> None:
        self._theirs.close()
        super().close()


@contextmanager
def answered() -> Iterator[None]:
    """Let all connections be answered."""

    def connect(origin: Any, *_: object) -> Generator[Any, Any, Connection]:
        yield from ()
        return Connection(Answering(), origin)

    with patch("sandbox_api._pool.connect", connect):
        yield


def fewest(counts: list[int]) -> int:
    """Return the cost of a warm call; of a slow machine, a connection may be idle too long."""
    return min(counts[2:])


def sync_call() -> int:
    counts: list[int] = []
    with answered(), Sandbox(URL) as sandbox:
        for _ in range(6):
            with Calls() as calls:
                sandbox.execute(CONFIG)
            counts.append(calls.number)
    return fewest(counts)


def async_call() -> int:
    async def main() -> list[int]:
        counts: list[int] = []
        async with ASandbox(URL) as sandbox:
            for _ in range(6):
                with Calls() as calls:
                    await sandbox.execute(CONFIG)
                counts.append(calls.number)
        return counts

    with answered():
        return fewest(asyncio.run(main()))


def parse(read: Callable[[httpx.Response], object], content: bytes) -> int:
    response = httpx.Response(200, content=content)
    read(response)
    with Calls() as calls:
        read(response)
    return calls.number


# Without what httpx and httpcore import where it is installed; nor what importing itself takes,
# which depends on where things are.
IMPORT = """
import gc, sys
sys.modules.update(dict.fromkeys(["click", "pygments", "rich", "trio"]))
before = set(sys.modules)
number = 0
def note(frame, event, _):
    global number
    if event.endswith("call") and "importlib" not in frame.f_code.co_filename:
        number += 1
gc.disable()
sys.setprofile(note)
{}
sys.setprofile(None)
print(number, len(set(sys.modules) - before))
"""


def imported(statement: str = "from sandbox_api import ASandbox, Sandbox") -> tuple[int, int]:
    """Return the calls that an import takes in a fresh process, and how many modules it loads."""
    # Without site, which runs whatever packages ask for.
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", IMPORT.format(statement)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    calls, modules = done.stdout.split()
    return int(calls), int(modules)


def libraries_parsed() -> int:
    return parse(libraries.parse, servers.libraries())


def figures() -> dict[str, int]:
    """Measure all."""
    calls, modules = imported()
    return {
        "sync call": sync_call(),
        "async call": async_call(),
        "import": calls,
        "imported modules": modules,
        "libraries": libraries_parsed(),
        "result of 1,000 commands": parse(execute.parse, servers.result(1000)),
    }


def on_record() -> dict[str, dict[str, int]]:
    """Return the figures by Python's version."""
    found: dict[str, dict[str, int]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def differences(measured: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Return what costs more or less than on record, and how much."""
    return [
        f"{name}: {measured[name]} calls or modules, not {number} as on record"
        for name, number in expected.items()
        if abs(measured[name] - number) > number * TOLERANCE
    ]


if __name__ == "__main__":
    found = figures()
    print(json.dumps(found, indent=2))
    if sys.argv[1:] == ["--write"]:
        record = {**on_record(), PYTHON: found} if FILE.exists() else {PYTHON: found}
        FILE.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
