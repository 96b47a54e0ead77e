"""Make the pictures of docs/pictures/: terminals and pages as they are, nothing painted by hand.

Terminals become SVG by rich, pages PNG by headless Chromium. What they show of a machine, times and
loads, is other each time, so that making them again changes them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pexpect
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.local.browser import CHROMIUM, Tab, browsing
from tests.local.public import Public, execute, serving
from tests.test_docs import BLOCK

from . import drawing

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "pictures"
# Without the font that rich would have fetched from the internet.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def screen(output: str) -> str:
    """Return the lines that a terminal shows in the end, with their colours."""
    lines, row = [""], 0
    for part in re.split(r"(\n|\x1b\[\??\d*[A-Zhl])", output.replace("\r", "")):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            row = max(row - int(up[1] or 1), 0)
        elif not re.fullmatch(r"\x1b\[\??\d*[A-Zhl]", part):
            lines[row] += part
    return "\n".join(lines).rstrip()


def terminal(
    name: str, line: str, folder: Path, *, seconds: float = 0, width: int = 84, **environment: str
) -> None:
    """Type a line in a terminal, and draw what is there when it ended, or after some seconds."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    child: Any = pexpect.spawn(
        "bash",
        ["-c", line],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "TERM": "xterm-256color", **environment},
        dimensions=(40, width),
        encoding="utf-8",
        timeout=seconds or 60,
    )
    child.logfile_read = output = io.StringIO()
    if seconds:
        child.expect(pexpect.TIMEOUT)
        child.kill(signal.SIGINT)
    child.expect(pexpect.EOF, timeout=60)
    child.close()
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
    console.print(Text.from_ansi(screen(output.getvalue())))
    console.print()  # or the last line's underscores are cut
    svg = console.export_svg(title="sandbox-api", code_format=FORMAT, unique_id=name)
    TARGET.joinpath(f"{name}.svg").write_text(svg, encoding="utf-8")


def in_terminals(folder: Path) -> None:
    """Draw the command line."""
    terminal("execute", "sandbox-api execute 'echo hello' 'exit 3'; echo \"exit code $?\"", folder)
    # What the tutorial has: the judge, and more that was handed in.
    tutorial = (ROOT / "docs" / "tutorials" / "grade.md").read_text(encoding="utf-8")
    for _, title, text in BLOCK.findall(tutorial):
        if title == "judge/judge.py":
            (folder / "judge").mkdir()
            (folder / title).write_text(text, encoding="utf-8")
    for number, body in enumerate(["x * x", "x ** 2", "x + x", "x * x", "1 / x", "pow(x, 2)"] * 2):
        handed_in = folder / "handed-in" / f"student-{number:02}"
        handed_in.mkdir(parents=True)
        (handed_in / "square.py").write_text(f"def square(x): return {body}", encoding="utf-8")
    line = "sandbox-api batch handed-in 'python3 judge.py' --base judge"
    terminal("batch", line, folder, width=100)
    terminal("specs", "sandbox-api specs", folder)


def busy(server: Public, folder: Path) -> None:
    """Draw how busy a server is, while it is."""
    stop = threading.Event()

    def use(pause: float) -> None:
        while not stop.wait(pause):
            execute(server.url, "timeout 1.5 sh -c 'while :; do :; done'", "sleep 0.3")

    users = [threading.Thread(target=use, args=(pause,)) for pause in (0.6, 1.7, 2.9)]
    for user in users:
        user.start()
    try:
        line = "sandbox-api usage --watch --interval 0.5"
        terminal("usage", line, folder, seconds=32, SANDBOX_URL=server.url)
    finally:
        stop.set()
        for user in users:
            user.join()


def page(server: Public, tab: Tab) -> None:
    """Draw the page of a local sandbox, light and dark."""
    for commands in (["true"], ["python3 -c 'print(7)'", "exit 3"], ["sleep 1.2"]):
        execute(server.url, *commands)
    for scheme in ("light", "dark"):
        tab.size(900, 760)
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.scheme(scheme)
        tab.open(f"{server.url}/")
        tab.wait_for("document.getElementById('state').textContent.endsWith('live')")
        typed = json.dumps("echo \"Hello from $(id -un)\"\npython3 -c 'print(7 ** 2)'")
        tab.run(f"document.getElementById('commands').value = {typed}")
        tab.run("document.getElementById('go').click()")
        tab.wait_for("!document.getElementById('go').disabled")
        time.sleep(2.5)  # until the numbers hold what was just done
        TARGET.joinpath(f"page-{scheme}.png").write_bytes(tab.picture())


def main() -> int:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts.pictures")
    choices = ["architecture", "terminals", "usage", "page"]
    parser.add_argument("which", nargs="*", help=f"of {', '.join(choices)}; by default all")
    which: list[str] = parser.parse_args().which or choices
    if unknown := set(which) - {*choices}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    TARGET.mkdir(exist_ok=True)
    if "architecture" in which:
        drawing.TARGET.write_text(drawing.drawing(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "terminals" in which:
            in_terminals(folder)
        if "usage" in which:
            with serving(folder / "usage") as server:
                busy(server, folder)
        if "page" in which:
            if CHROMIUM is None:
                print("chromium is not installed: the pictures of the page stay as they are")
                return 1
            with serving(folder / "page") as server, browsing(folder / "profile") as tab:
                page(server, tab)
    return 0


if __name__ == "__main__":
    sys.exit(main())
