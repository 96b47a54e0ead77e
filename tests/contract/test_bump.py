"""A made-up server 3.1.0 is supported by the routine that docs/contract.md tells, in a copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.bump import noted, summary
from scripts.compare import Change
from scripts.newest_generator import report

ROOT = Path(__file__).parents[2]

ENDPOINT: dict[str, Any] = {
    "get": {
        "operationId": "queue",
        "tags": ["sandbox"],
        "summary": "How many requests wait.",
        "description": "Answers at once.",
        "responses": {
            "200": {
                "description": "The queue.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Queue"}}},
            },
            "405": {"$ref": "#/components/responses/MethodNotAllowed"},
        },
    }
}
QUEUE: dict[str, Any] = {
    "description": "The requests that wait.",
    "type": "object",
    "required": ["waiting"],
    "properties": {
        "waiting": {
            "description": "Requests that wait, a count.",
            "type": "integer",
            "examples": [3],
        }
    },
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, as a repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "project"
    for name in ("openapi", "generated", "sandbox_api", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "bench", "local", "recordings")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "CHANGELOG.md", root)
    for command in ("init --quiet", "add .", "commit --quiet --message=old"):
        identity = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "gc.auto=0")
        subprocess.run(["git", *identity, *command.split()], cwd=root, check=True)
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, env=environment
    )


def made_up(root: Path) -> dict[str, Any]:
    """Return the description of a server 3.1.0."""
    new: dict[str, Any] = yaml.safe_load((root / "openapi" / "sandbox.yaml").read_text())
    schemas = new["components"]["schemas"]
    new["info"]["version"] = "3.1.0"
    new["paths"]["/queue/"] = ENDPOINT
    schemas["Queue"] = QUEUE
    schemas["CommandResult"]["properties"]["memory"] = {
        "description": "Memory at most, in bytes.",
        "type": "integer",
        "examples": [1048576],
    }
    schemas["ExecuteConfig"]["properties"]["memory"] = {
        "description": "Memory that the commands may take, in bytes.",
        "type": "integer",
        "examples": [1048576],
    }
    del schemas["HostSpecifications"]["properties"]["docker_version"]
    schemas["HostSpecifications"]["required"].remove("docker_version")
    example = new["paths"]["/specifications/"]["get"]["responses"]["200"]["content"]
    del example["application/json"]["example"]["host"]["docker_version"]
    return new


def test_made_up_version(copy: Path, tmp_path: Path) -> None:
    new = made_up(copy)
    file = tmp_path / "3.1.0.yaml"
    QUEUE["properties"]["waiting"]["description"] = "Requests that wait."
    file.write_text(yaml.safe_dump(new, sort_keys=False, allow_unicode=True))
    done = run(copy, "scripts.bump", "--to", str(file))
    assert done.returncode == 1
    assert "Queue/properties/waiting: the description must name the unit" in done.stderr

    QUEUE["properties"]["waiting"]["description"] = "Requests that wait, a count."
    file.write_text(yaml.safe_dump(new, sort_keys=False, allow_unicode=True))
    done = run(copy, "scripts.bump", "--to", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        "- **Breaking:** `HostSpecifications.docker_version` is gone.",
        "- `CommandResult.memory` is new: Memory at most, in bytes.",
        "- `ExecuteConfig.memory` is new: Memory that the commands may take, in bytes.",
        "- `Queue` is new. The requests that wait.",
        "- `queue()` is new: GET /queue/. How many requests wait.",
    ]
    assert done.stdout.splitlines() == [
        *lines,
        "5 changes, 1 of them breaking, are in CHANGELOG.md.",
    ]
    changelog = (copy / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "### Server 3.1.0, after 3.0.3\n\n" + "\n".join(lines) in changelog

    checked = run(copy, "scripts.generate", "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    code = (
        "from sandbox_client import SERVER_VERSION, models\n"
        "from sandbox_client.api.sandbox import queue\n"
        "print(SERVER_VERSION, queue.request(), models.Queue.from_dict({'waiting': 3}).waiting)"
    )
    there = {**os.environ, "PYTHONPATH": str(copy / "generated")}
    told = subprocess.run(
        [sys.executable, "-c", code], env=there, capture_output=True, text=True, check=True
    )
    assert told.stdout == "3.1.0 {'method': 'GET', 'url': '/queue/'} 3\n"

    # What breaks may not go unannounced.
    silent = re.sub(r"- \*\*Breaking:\*\* .*\n", "", changelog)
    (copy / "CHANGELOG.md").write_text(silent, encoding="utf-8")
    checked = run(copy, "scripts.surface", "--base", "HEAD")
    assert checked.returncode == 1
    assert "HostSpecifications.docker_version: public object was removed" in checked.stderr


def test_changelog_is_added_to() -> None:
    old = "# Changelog\n\n## Unreleased\n\n- First.\n\n## 1.0\n\n- Old.\n"
    changes = [Change(False, "`a` is gone."), Change(True, "`b` is new.")]
    text = noted(old, ("3.0", "3.1"), changes[:1])
    assert text == (
        "# Changelog\n\n## Unreleased\n\n- First.\n\n### Server 3.1, after 3.0\n\n"
        "- **Breaking:** `a` is gone.\n\n## 1.0\n\n- Old.\n"
    )
    text = noted(text, ("3.0", "3.1"), changes)
    assert text == noted(text, ("3.0", "3.1"), changes)
    assert "### Server 3.1, after 3.0\n\n- `b` is new.\n- **Breaking:** `a` is gone.\n" in text
    assert noted("# Changelog\n\n## 1.0\n", ("1", "2"), changes[1:]) == (
        "# Changelog\n\n## Unreleased\n\n### Server 2, after 1\n\n- `b` is new.\n\n## 1.0\n"
    )


def test_correction_of_the_same_version_has_no_heading() -> None:
    changes = [Change(True, "`b` is new.")]
    same = ("3.0", "3.0")
    head = "# Changelog\n\n## Unreleased\n\n- `b` is new.\n"
    old = "# Changelog\n\n## Unreleased\n\n- First.\n\n## 1.0\n"
    assert noted(old, same, changes) == f"{head}- First.\n\n## 1.0\n"
    assert noted("# Changelog\n\n## 1.0\n", same, changes) == f"{head}\n## 1.0\n"
    assert noted("# Changelog\n\n## Unreleased\n", same, changes) == head


def test_changes_are_counted() -> None:
    changes = [Change(False, "`a` is gone."), Change(True, "`b` is new.")]
    assert summary([]) == "Nothing changes for users."
    assert summary(changes[:1]) == "1 change, which is breaking, is in CHANGELOG.md."
    assert summary(changes[1:]) == "1 change, which is not breaking, is in CHANGELOG.md."
    assert summary(changes) == "2 changes, 1 of them breaking, are in CHANGELOG.md."


def test_generator_that_is_the_newest(tmp_path: Path) -> None:
    pinned = json.loads((ROOT / "generated" / "sandbox_client" / "origin.json").read_text())
    version = pinned["tools"]["openapi-python-client"]
    package = tmp_path / "sandbox_client"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "generated" / "sandbox_client", package, ignore=ignored)
    (package / "errors.py").write_text("other\n")
    lines = report(Path(sys.executable), package)
    assert lines[0] == f"openapi-python-client {version}, where {version} is pinned."
    assert lines[1:3] == ["--- now/errors.py", "+++ then/errors.py"]
    assert lines[4] == "-other"
