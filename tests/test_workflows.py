"""What GitHub is told to do: valid, safe, and the same as what `.ci/run` and `make` do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS: dict[str, list[Path]] = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.dependabot": [ROOT / ".github" / "dependabot.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_are_what_their_readers_take(schema: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    command = [*check, *map(str, SCHEMAS[schema])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_workflows_are_safe() -> None:
    zizmor = Path(sysconfig.get_path("scripts"), "zizmor")
    command: list[str | Path] = [zizmor, "--offline", "--no-progress", ROOT / ".github"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_supported_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: "
    supported = [each.removeprefix(prefix) for each in project["classifiers"] if "3." in each]
    assert project["requires-python"] == f">={supported[0]}"
    workflow = yaml.safe_load((WORKFLOWS[-1]).read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == supported
    assert f"PYTHONS = {json.dumps(supported)}\n" in (ROOT / "noxfile.py").read_text()


def test_changes_are_compared_with_the_last_release() -> None:
    # `make check-surface` has nothing to compare with where tags were not fetched, and is content.
    workflow = yaml.safe_load(WORKFLOWS[-1].read_text(encoding="utf-8"))
    checkout, *_ = workflow["jobs"]["test"]["steps"]
    assert checkout["with"]["fetch-depth"] == 0


def test_what_is_to_be_done_before_a_release_is_done_by_github() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paragraph = page[page.index("Before a release") : page.index("GitHub does all of it")]
    named = set(re.findall(r"`make ([a-z-]+)`", paragraph))
    matrix = yaml.safe_load(WORKFLOWS[-1].read_text(encoding="utf-8"))["jobs"]["more"]["strategy"]
    # Each Python is a job of its own there.
    assert named - {"pythons"} <= {*matrix["matrix"]["target"]}


def test_nothing_is_run_but_what_runs_here() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = {
        (workflow.stem, name): job
        for workflow in WORKFLOWS
        for name, job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].items()
    }
    runs = {
        place: [step["run"] for step in job.get("steps", []) if "run" in step]
        for place, job in jobs.items()
    }
    assert ".ci/run" in runs["test", "test"]
    assert ".ci/run" in runs["publish", "build"]
    assert runs["docs", "build"] == ["make docs"]
    matrix = jobs["test", "more"]["strategy"]["matrix"]["target"]
    commands = [run for each in runs.values() for run in each]
    made = {run.removeprefix("make ") for run in commands if run.startswith("make ")}
    assert (made - {'"$TARGET"'}) | set(matrix) <= targets


@pytest.mark.parametrize(
    ("uid", "sudo", "how"), [(0, False, "apt-get"), (1, True, "sudo -n apt-get"), (1, False, "")]
)
def test_what_is_missing_is_installed_where_that_can_be(
    uid: int, sudo: bool, how: str, tmp_path: Path
) -> None:
    programs = {
        "make": 'echo "make $*"',
        "id": f"echo {uid}",
        "apt-get": 'echo "${SUDO}apt-get $*"',
        "sudo": 'SUDO="sudo $1 "; export SUDO; shift; "$@"' if sudo else "exit 1",
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "sh", "env", "dirname", "true"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        [ROOT / ".ci" / "run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("make test\n")
    assert done.stdout.endswith("make test-cluster\n") == bool(how)
    assert f"\n{how} install" in done.stdout if how else "\nNOT RUN" in done.stdout
