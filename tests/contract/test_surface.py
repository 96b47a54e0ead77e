"""What breaks for users is found, and may only be if it is announced."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.surface import announced, breakages, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with what breaks users."""
    root = tmp_path_factory.mktemp("surface")
    ignored = shutil.ignore_patterns("__pycache__", "recordings")
    shutil.copytree(ROOT / "sandbox_api", root / "sandbox_api", ignore=ignored)
    shutil.copytree(ROOT / "generated", root / "generated", ignore=ignored)
    for name, old, new in [
        ("generated/sandbox_client/models/command_result.py", "    time: float\n", ""),
        ("generated/sandbox_client/models/command_result.py", "stdout: str\n", "stdout: bytes\n"),
        ("sandbox_api/sandbox.py", "def libraries(self, ", "def libraries(self, kind: str, "),
        ("sandbox_api/sandbox.py", "def server_version(", "def version_of_server("),
        ("sandbox_api/__init__.py", '    "Usage",\n', ""),
        ("sandbox_api/__init__.py", "        Usage,\n", ""),
        ("sandbox_api/_operations.py", "def libraries(", "def private_libraries("),
    ]:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    return root


def test_breakages_are_named(other: Path) -> None:
    assert breakages(load(ROOT), load(other)) == [
        ("CommandResult.stdout", "CommandResult.stdout: attribute's type was str, is bytes"),
        ("CommandResult.time", "CommandResult.time: public object was removed"),
        ("FakeSandbox.server_version", "FakeSandbox.server_version: public object was removed"),
        ("Sandbox.libraries", "Sandbox.libraries: parameter was added as required (kind)"),
        ("Sandbox.server_version", "Sandbox.server_version: public object was removed"),
        ("Usage", "Usage: public object was removed"),
    ]


def test_nothing_broke() -> None:
    assert breakages(load(ROOT), load(ROOT)) == []


def test_what_is_announced() -> None:
    text = (
        "# Changelog\n\n## Unreleased\n\n- `A.a` is new.\n- **Breaking:** `B.b`\n  is gone.\n"
        "\n### Server\n\n- **Breaking:** `C.c` is gone.\n\n## 1.0.0\n\n- **Breaking:** `D.d`\n"
    )
    # Before a release, the section has its name.
    for changelog in (text, text.replace("Unreleased", "2.0.0, of today")):
        for base in ("v1.0.0", "HEAD"):
            told = announced(changelog, base)
            assert "B.b" in told
            assert "C.c" in told
            assert "A.a" not in told
            assert "D.d" not in told


def test_all_that_is_above_the_last_release_is_announced() -> None:
    text = "\n".join(
        f"## {name}\n\n- **Breaking:** `{name}`\n"
        for name in ("Unreleased", "2.0.0", "1.0.0.1", "1.0.0, of 2026", "1.0.0rc1")
    )
    told = announced(text, "v1.0.0")
    assert re.findall(r"`(.*)`", told) == ["Unreleased", "2.0.0", "1.0.0.1"]
    assert re.findall(r"`(.*)`", announced(text, "main")) == ["Unreleased"]
    assert announced("# Changelog\n", "v1.0.0") == ""


def test_revision_that_is_not_there() -> None:
    words = [sys.executable, "-m", "scripts.surface", "--base", "no-such-revision"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no-such-revision" in done.stderr
