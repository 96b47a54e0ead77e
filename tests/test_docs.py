"""What the documents show is what happens."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROGRAMS = {
    f"{document.name}:{number}": program
    for document in DOCUMENTS
    for number, program in enumerate(
        re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    )
}
README = DOCUMENTS[0].read_text(encoding="utf-8")


def expected(program: str) -> list[str]:
    """Return what the comments behind or below its prints say that a program prints."""
    lines = program.splitlines()
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(program)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        ):
            end = node.end_lineno or 0
            behind = lines[end - 1][node.end_col_offset or 0 :].partition("#")[2]
            below = lines[end].strip().removeprefix("#") if end < len(lines) else ""
            found.append((end, (behind or below).strip()))
    return [text for _, text in sorted(found)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_prints_what_its_comments_say(name: str, tmp_path: Path) -> None:
    program = textwrap.dedent(PROGRAMS[name])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("SANDBOX_")},
    )
    assert done.stderr == ""
    printed = [line.strip() for line in done.stdout.strip().splitlines() if line]
    assert printed == expected(program)


def test_documents_have_programs() -> None:
    assert len(PROGRAMS) > 12


def test_command_line_session() -> None:
    sessions = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    (session,) = [each for each in sessions if "sandbox-api execute" in each]
    found = re.fullmatch(r"\$ (.*?)\n(.*?)\$ .*", session, re.DOTALL)
    assert found
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", found[1]],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (found[2], "")


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_and_targets_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text)) <= targets
