"""The house is as docs/architecture.md says."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where a folder's modules are listed on the page, deeper than the folder itself.
FOLDERS = ["sandbox_api", "sandbox_api/cli", "sandbox_api/local", "sandbox_api/verify"]
FOLDERS += ["scripts", "scripts/bench"]
ROOMS = [
    (folder, path.stem)
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
    if path.stem not in {"__init__", "__main__"}
]


def test_imports_go_one_way() -> None:
    # Not in this process, whose loggers it would disable.
    program = Path(sysconfig.get_path("scripts"), "lint-imports")
    command: list[str | Path] = [program, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def listed(folder: str) -> set[str]:
    """Return the modules that the page lists below a folder."""
    found: set[str] = set()
    inside: int | None = None
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        depth = len(line) - len(line.lstrip())
        if re.match(rf" *{Path(folder).name}/ *", line):
            inside = depth
        elif inside is not None and line and depth <= inside:
            inside = None
        elif inside is not None and depth == inside + 2:
            names = re.match(r"[\w./]+(, [\w./]+)*", line.lstrip())
            found |= {Path(name).stem for name in names[0].split(", ")} if names else set()
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_room_on_the_page_is_there(folder: str) -> None:
    for name in listed(folder):
        assert any(path.stem == name for path in (ROOT / folder).iterdir()), name


@pytest.mark.parametrize(("folder", "room"), ROOMS)
def test_each_room_is_on_the_page(folder: str, room: str) -> None:
    assert room in listed(folder)
