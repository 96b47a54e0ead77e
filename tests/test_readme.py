"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SESSIONS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_program_prints_what_its_comments_say(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    # The comment behind a print, with the space that an empty last value leaves.
    expected = re.findall(r"^ *print\(.*\) *# (.*)$", program, re.MULTILINE)
    assert [line.strip() for line in done.stdout.strip().splitlines()] == expected
    assert expected


def test_command_line_session() -> None:
    (session,) = [each for each in SESSIONS if "sandbox-api execute" in each]
    command, expected = re.fullmatch(r"\$ (.*?)\n(.*?)\$ .*", session, re.DOTALL).groups()  # type: ignore[union-attr]
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (expected, "")


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) < 150
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (document.parent / link).exists(), (
                document,
                link,
            )


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"make ([a-z-]+)", re.sub(r"`make`", "", document.read_text())):
            if (
                f"`make {target}" in document.read_text()
                or f"$ make {target}" in document.read_text()
            ):
                assert target in targets, (document, target)
