"""Headless Chromium, driven over a pipe by its own protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from ..conftest import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = PROGRAMS["chromium"]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)

# A function: which words and fields of a box stand outside of it.
OUTSIDE = """(selector => {
    const box = document.querySelector(selector).getBoundingClientRect();
    const within = each => each.getBoundingClientRect();
    return [...document.querySelectorAll(`${selector} :is(p, td, select, code, h2)`)]
        .filter(each => within(each).width && each.offsetParent)
        .filter(each => within(each).right > box.right + 1 || within(each).left < box.left - 1)
        .map(each => each.outerHTML.slice(0, 200));
})"""


class Tab:
    """One tab: what is done in it, and what it asked for and complained about."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number = 0
        self._buffer = b""
        self._session: dict[str, str] = {}
        self.urls: list[str] = []
        """All that was asked for."""
        self.complaints: list[str] = []
        """Errors of scripts, of the policy, of the network."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the browser and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def forget(self) -> None:
        """Leave the page first, which may still be loading, and then all that was noted."""
        self.open("about:blank")
        self.urls.clear()
        self.complaints.clear()

    def run(self, script: str) -> Any:
        """Run a script in the page and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until a script's value is true."""
        deadline = time.monotonic() + 30
        while not self.run(script):
            assert time.monotonic() < deadline, (script, self.run("document.body.innerText"))
            time.sleep(0.05)

    def size(self, width: int, height: int) -> None:
        """Give the tab the size of a screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def scheme(self, name: str) -> None:
        """Prefer light or dark colours."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self) -> bytes:
        """Return the page as a PNG image."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return base64.b64decode(data)

    def _read(self) -> Any:
        while b"\0" not in self._buffer:
            chunk = os.read(self._back, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: str | None, parameters: Any) -> None:
        if event == "Network.requestWillBeSent":
            self.urls.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Tab]:
    """Run a browser with an empty profile for as long as the context lasts."""
    assert CHROMIUM
    from_us, to = os.pipe()
    back, from_it = os.pipe()

    def descriptors() -> None:
        # Where it expects them. Not at once: either may be in the other's place.
        first, second = os.dup(from_us), os.dup(from_it)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        close_fds=False,
        preexec_fn=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(from_it)
    try:
        tab = Tab(to, back)
        yield tab
        tab._session = {}
        tab.call("Browser.close")
    finally:
        os.close(to)
        os.close(back)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
