"""What is measured against: a sandbox that runs nothing, and the socket of a real one.

Run as a module, it prints the port of such a stub, and serves until its standard input ends. It
answers from memory, at once. A number in front of the path asks for an answer of so many bytes, or
commands: `/1000/execute/`, `/1073741824/environments/…/`, `/commands-1000/execute/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from sandbox_api._http import Reply, head

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

# What one command comes to, as the real server has it.
COMMAND = {"command": "true", "exit_code": 0, "stdout": "", "stderr": "", "time": 0.0969}

HEADERS = [(b"Host", b"sandbox"), (b"Content-Type", b"application/x-www-form-urlencoded")]

# Pieces in which large answers are sent, in bytes.
PIECE = 256 * 1024


def result(commands: int = 1, stdout: str = "") -> bytes:
    """Return the result of an execution of some commands, each with that output."""
    command = {**COMMAND, "stdout": stdout}
    return json.dumps(
        {"status": 0, "execution": [command] * commands, "total_time": 0.10934}
    ).encode()


def libraries(entries: int = 5000) -> bytes:
    """Return a list of libraries with so many entries."""
    kinds = ("system", "python", "perl", "c")
    found = {
        kind: {f"{kind}-library-{number}": f"1.{number}" for number in range(entries // 5)}
        for kind in kinds
    }
    programs = [f"program-{number}" for number in range(entries // 5)]
    return json.dumps({"libraries": found, "bin": programs}).encode()


@functools.cache
def answer(line: bytes) -> list[memoryview]:
    """Return the pieces of what is answered to a request line: a head, and a body."""
    found = re.fullmatch(rb"[A-Z]+ /(?:(commands-)?(\d+)/)?(\w+)/.*", line)
    size, kind = (int(found[2] or 0), found[1] or found[3]) if found else (0, b"")
    if kind == b"environments":
        random = memoryview(bytes(range(256)) * (PIECE // 256))
        body = [random] * (size // PIECE) + [random[: size % PIECE]]
    elif kind == b"libraries":
        body = [memoryview(libraries())]
    elif kind == b"commands-":
        body = [memoryview(result(size))]
    else:
        body = [memoryview(result(stdout="x" * max(size - len(result()), 0)))]
    length = sum(map(len, body))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )
    if length < PIECE:
        return [memoryview(head + b"".join(body))]
    whole = (
        body
        if kind == b"environments"
        else [body[0][start : start + PIECE] for start in range(0, length, PIECE)]
    )
    return [memoryview(head), *whole]


class Stub(asyncio.Protocol):
    """One connection to the stub."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's are not of that class.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._received = bytearray()
        self._line = b""
        self._skip = 0  # how much of a body is to come
        self._pieces: Iterator[memoryview] = iter(())
        self._paused = False

    def data_received(self, data: bytes) -> None:
        """Take data in, and answer whatever requests are whole."""
        if self._skip > len(data):
            self._skip -= len(data)
            return
        self._received += data
        while len(self._received) >= self._skip and self._next():
            pass

    def pause_writing(self) -> None:
        """Wait for a client that is slower."""
        self._paused = True

    def resume_writing(self) -> None:
        """Send more of what is answered."""
        self._paused = False
        self._send()

    def _next(self) -> bool:
        """Take the rest of a body or a head; tell whether there may be more."""
        if self._line:
            del self._received[: self._skip]
        else:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._line, _, fields = bytes(self._received[:end]).partition(b"\r\n")
            del self._received[: end + 4]
            fields = fields.lower()
            length = re.search(rb"^content-length: *(\d+)", fields, re.MULTILINE)
            if b"expect: 100-continue" in fields:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._skip = int(length[1]) if length else 0
            if self._skip > len(self._received):
                self._skip -= len(self._received)
                self._received.clear()
                return False
            del self._received[: self._skip]
        self._pieces = iter(answer(self._line.rpartition(b" ")[0]))
        self._line, self._skip = b"", 0
        self._send()
        return True

    def _send(self) -> None:
        for piece in self._pieces:
            self._transport.write(piece)
            if self._paused:
                break


@contextlib.contextmanager
def stub() -> Iterator[str]:
    """Run a stub in a process of its own, and give its URL."""
    command = [sys.executable, "-m", "scripts.bench.servers"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


@functools.cache
def execution(commands: int) -> bytes:
    """Return the request to execute so many times `true`."""
    body = urlencode({"config": json.dumps({"commands": ["true"] * commands})}).encode()
    return head("POST", b"/execute/", [*HEADERS, (b"Content-Length", b"%d" % len(body))]) + body


class Connection:
    """A connection to a server's Unix socket, which takes as little as Python can."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)

    def execute(self, commands: int = 1) -> float:
        """Execute so many times `true`, and return the seconds that it took."""
        started = time.perf_counter()
        self._socket.sendall(execution(commands))
        reply = Reply("POST")
        while not reply.ended:
            reply.receive(self._socket.recv(65536))
        content = reply.take()
        elapsed = time.perf_counter() - started
        if reply.status != 200 or json.loads(content)["status"] != 0:
            raise RuntimeError(f"status {reply.status}: {content[:200]!r}")
        return elapsed

    def close(self) -> None:
        """Close it."""
        self._socket.close()


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
