"""The generated package is what the description gives, and its check finds what is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "generated" / "sandbox_client"


def generate(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.generate", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_check_names_the_files_that_differ(tmp_path: Path) -> None:
    package = tmp_path / "sandbox_client"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "models" / "usage.py").write_text("edited by hand")
    (package / "extra.py").write_text("")
    (package / "errors.py").unlink()
    checked = generate("--check", "--package", str(package))
    assert checked.returncode == 1
    assert "models/usage.py: differs" in checked.stderr
    assert "extra.py: not generated" in checked.stderr
    assert "errors.py: missing" in checked.stderr
    assert checked.stderr.count(": differs") == 1
    assert "make generate" in checked.stderr
    assert "hand edit: models/usage.py" in checked.stderr
    assert "edited: openapi" not in checked.stderr


def test_check_names_the_causes(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "openapi", tmp_path / "openapi")
    causes = {
        "openapi/sandbox.yaml": ("The server's current load.", "description edited"),
        "openapi/overlays/loader.yaml": ("Freeze a resource", "description edited"),
        "openapi/templates/errors.py.jinja": ("What goes wrong", "template edited"),
        "openapi/generator.yaml": ("# Settings", "settings edited"),
        "package/models/usage.py": ("import", "hand edit"),
        "package/origin.json": ('"openapi-python-client": "0', "generator version"),
    }
    for name, (old, _) in causes.items():
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, f"{old}x", 1), encoding="utf-8")
    options = ["--package", str(tmp_path / "package"), "--openapi", str(tmp_path / "openapi")]
    checked = generate("--check", *options)
    assert checked.returncode == 1
    listed = checked.stderr.partition("The cause:\n")[2].splitlines()[:-1]
    assert [line.strip() for line in listed] == [
        "settings edited: openapi/generator.yaml",
        "description edited: openapi/overlays/loader.yaml",
        "description edited: openapi/sandbox.yaml",
        "template edited: openapi/templates/errors.py.jinja",
        "generator version: openapi-python-client was 0x.29.1, is 0.29.1",
        "hand edit: models/usage.py",
    ]


def test_generating_twice_changes_nothing(tmp_path: Path) -> None:
    package = tmp_path / "sandbox_client"
    assert generate("--package", str(package)).returncode == 0
    first = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    assert generate("--package", str(package)).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == first
    assert generate("--check", "--package", str(package)).returncode == 0


def test_package_stands_alone() -> None:
    for module in PACKAGE.rglob("*.py"):
        assert "sandbox_api" not in module.read_text(encoding="utf-8"), module
    assert (PACKAGE / "py.typed").exists()


def test_templates_say_why_and_of_which_version() -> None:
    for template in (ROOT / "openapi" / "templates").rglob("*.jinja"):
        if template.name == "macros.jinja":
            continue
        text = template.read_text(encoding="utf-8")
        assert text.startswith(f"{{# Overrides {template.name} of openapi-python-client 0.29.1"), (
            template
        )
    assert '"openapi-python-client==0.29.1"' in (ROOT / "pyproject.toml").read_text(
        encoding="utf-8"
    )
