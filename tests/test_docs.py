"""What the documents show is what happens."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
README = DOCUMENTS[0].read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is not done here, and why: a block of the console that has one of these is only read.
ELSEWHERE = {
    "$ pip ": "changes what is installed",
    "$ make ": "other tests and workflows run the targets",
    "$ podman ": "fetches an image",
    "$ sudo ": "changes the machine; tests/test_deployment.py",
    "$ .venv/bin/": "is about a checkout",
    "https://sandbox.example.org": "is no server",
    "--host 0.0.0.0": "would let others in",
    "$ sandbox-api serve\n": "goes on until it is interrupted; tests/local/test_server.py",
}
PYTHON = re.compile(r"^\s*(class|def|for|with|try)\b", re.MULTILINE)
# Programs that can't be run: of other packages, or an outline.
UNRUN = {"docs/moving.md": 2, "docs/batch.md": 1, "docs/architecture.md": 1}


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


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


class Session:
    """What a reader does who follows a page from its top to its end, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inherited = {key: at for key, at in os.environ.items() if not key.startswith("SANDBOX_")}
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        self._environment = {**inherited, "PATH": path, "XDG_DATA_HOME": str(folder / ".data")}

    def follow(self, language: str, title: str, text: str) -> None:
        """Do what a block shows."""
        if title:
            file = self._folder / title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif language == "python":
            self._run_python(text)
        elif language == "console":
            if not any(words in text for words in ELSEWHERE):
                self._run_console(text)
        else:
            assert language in {"", "text"}, language

    def _run_python(self, program: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env=self._environment,
        )
        assert done.stderr == "", program
        printed = [line.strip() for line in done.stdout.strip().splitlines() if line]
        assert printed == expected(program), program

    def _run_console(self, text: str) -> None:
        assert text.startswith("$ "), text
        for turn in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, promised = turn.partition("\n")
            # A file, not a pipe: what goes on in the background would keep that open.
            with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
                subprocess.run(
                    ["bash", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                    cwd=self._folder,
                    env=self._environment,
                )
                output.seek(0)
                shown = output.read()
            pattern = re.escape(promised).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, shown, re.DOTALL), f"$ {command}\n{shown}"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    return port


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_page_shows_what_happens(document: Path, tmp_path: Path) -> None:
    session = Session(tmp_path)
    # The port of the pages may be another's here.
    text = document.read_text(encoding="utf-8").replace("7123", str(free_port()))
    assert text.count("```") == 2 * len(BLOCK.findall(text)), "a block is not read"
    for language, title, block in BLOCK.findall(text):
        session.follow(language, title, block)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_programs_are_run(document: Path) -> None:
    unrun = [
        block
        for language, title, block in BLOCK.findall(document.read_text(encoding="utf-8"))
        if language in {"", "text"} and PYTHON.search(block)
    ]
    assert len(unrun) == UNRUN.get(name(document), 0), unrun


def test_programs_of_tutorials_pass_a_type_checker(tmp_path: Path) -> None:
    titles: list[str] = []
    for tutorial in (ROOT / "docs" / "tutorials").glob("*.md"):
        for _, title, block in BLOCK.findall(tutorial.read_text(encoding="utf-8")):
            if title.endswith(".py"):
                (tmp_path / title).parent.mkdir(exist_ok=True)
                (tmp_path / title).write_text(block, encoding="utf-8")
                titles.append(title)
    assert len({*titles}) == len(titles) > 5
    # Scripts need no annotations, nor has Dask any.
    options = ["--strict", "--allow-untyped-defs", "--allow-untyped-calls"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *titles],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("words", ELSEWHERE)
def test_what_is_only_read_is_there(words: str) -> None:
    assert any(words in document.read_text(encoding="utf-8") for document in DOCUMENTS)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_and_targets_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text)) <= targets
