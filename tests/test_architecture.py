"""The house is as docs/architecture.md says."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sandbox_api"
ROOMS = [
    path.stem
    for path in [*PACKAGE.glob("*.py"), *(PACKAGE / "local").glob("*.py")]
    if path.stem not in {"__init__", "__main__"}
]


def test_imports_go_one_way() -> None:
    # Not in this process, whose loggers it would disable.
    program = Path(sysconfig.get_path("scripts"), "lint-imports")
    command: list[str | Path] = [program, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_on_the_page(room: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    # Where the page lists rooms: first in a line, or behind others.
    assert re.search(rf"^ +([\w./]+, )*{room}\b", page, re.MULTILINE)
