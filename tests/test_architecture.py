"""The house is as docs/architecture.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sandbox_api"
ROOMS = [
    path.stem
    for path in [*PACKAGE.glob("*.py"), *(PACKAGE / "local").glob("*.py")]
    if path.stem not in {"__init__", "__main__", "_version"}
]


def test_imports_go_one_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    failed = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)
    assert not failed, capsys.readouterr().out


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_on_the_page(room: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    # Where the page lists rooms: first in a line, or behind others.
    assert re.search(rf"^ +([\w./]+, )*{room}\b", page, re.MULTILINE)
