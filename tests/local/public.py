"""A public server, as `python -m sandbox_api.local` runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "0123456789abcdef-secret"


class Public:
    """A running server: its process, its URL, and all that it wrote to standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        # Else the server would have to wait when the pipe is full.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""
        wait_for(lambda: self._found() or process.poll() is not None)
        if not self.url:
            self.stop()
        assert self.url, self.text
        # The socket listens before there is an application.
        httpx.get(f"{self.url}/healthz", timeout=30)

    @property
    def text(self) -> str:
        """All that the server wrote."""
        return "".join(self.lines)

    def stop(self) -> int:
        """Ask the server to end; return its exit code when all that it wrote is read."""
        self.process.terminate()
        code = self.process.wait(30)
        self._reader.join(10)
        assert self.process.stderr
        self.process.stderr.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def _found(self) -> bool:
        match = re.search(r"listens on (\S+?)\. ", self.text)
        self.url = match[1] if match else ""
        return bool(match)


def start(*options: str, **environment: str) -> subprocess.Popen[str]:
    """Start a server, with what is given in its environment."""
    inherited = {name: value for name, value in os.environ.items() if name[:8] != "SANDBOX_"}
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox_api.local", *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | environment,
    )


@contextlib.contextmanager
def serving(data: Path | str, *options: str, **environment: str) -> Iterator[Public]:
    """Run a server for as long as the context lasts."""
    server = Public(start("--port", "0", "--data", str(data), *options, **environment))
    try:
        yield server
    finally:
        server.stop()


def execute(url: str, *commands: str, **config: Any) -> httpx.Response:
    """Execute commands on a server."""
    headers = config.pop("headers", {})
    form = {"config": json.dumps({"commands": commands, **config})}
    return httpx.post(f"{url}/execute/", data=form, headers=headers, timeout=60)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
