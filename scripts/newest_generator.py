"""Tell what the newest openapi-python-client would generate otherwise.

python -m scripts.newest_generator [--version VERSION]

Changes nothing and fails for no difference: it is for a look, now and then, before the pinned
version is raised. Tells which of the stock templates that ours replace have changed, too.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from .description import OPENAPI
from .generate import ORIGIN, PACKAGE, ROOT, files

GENERATOR = "openapi-python-client"
SHOWN = 200
"""How many lines of a difference are shown."""

FIND = """
import importlib.metadata, pathlib, openapi_python_client
print(importlib.metadata.version("openapi-python-client"))
print(pathlib.Path(openapi_python_client.__file__).parent / "templates")
"""


def install(folder: Path, version: str | None) -> Path:
    """Make a virtual environment with a generator, and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    # What formats is the same, so that all that differs is the generator's.
    same = [f"{name}=={importlib.metadata.version(name)}" for name in ("ruff", "python-jsonpath")]
    wanted = [f"{GENERATOR}=={version}" if version else GENERATOR, *same, "pyyaml"]
    quietly = ("--quiet", "--disable-pip-version-check")
    subprocess.run([str(python), "-m", "pip", "install", *quietly, *wanted], check=True)
    return python


def report(python: Path, package: Path = PACKAGE) -> list[str]:
    """Return what the generator of an interpreter would do otherwise, as lines."""
    pinned, stock = told(Path(sys.executable))
    version, templates = told(python)
    lines = [f"{GENERATOR} {version}, where {pinned} is pinned."]
    for ours in sorted((OPENAPI / "templates").iterdir()):
        there = templates / ours.name
        if (stock / ours.name).exists() and not there.exists():
            lines.append(f"There is no stock template {ours.name} any more, which ours replaces.")
        elif there.exists() and there.read_bytes() != (stock / ours.name).read_bytes():
            lines.append(f"The stock template {ours.name}, which ours replaces, has changed.")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / package.name
        done = subprocess.run(
            [python, "-m", "scripts.generate", "--package", fresh],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()[-SHOWN:]
            return [*lines, "It fails with our templates:", *said]
        found = difference(package, fresh)
    if not found:
        return [*lines, "It generates the same."]
    rest = len(found) - SHOWN
    return [*lines, *found[:SHOWN], *([f"... and {rest} lines more"] if rest > 0 else [])]


def told(python: Path) -> tuple[str, Path]:
    """Return the version of an interpreter's generator, and where its templates are."""
    done = subprocess.run([python, "-c", FIND], capture_output=True, text=True, check=True)
    version, templates = done.stdout.splitlines()
    return version, Path(templates)


def difference(old: Path, new: Path) -> list[str]:
    """Return how the files of a package differ."""
    lines: list[str] = []
    for name in sorted((files(old) | files(new)) - {Path(ORIGIN)}):
        one, other = (
            (folder / name).read_text(encoding="utf-8").splitlines()
            if (folder / name).exists()
            else []
            for folder in (old, new)
        )
        lines += difflib.unified_diff(one, other, f"now/{name}", f"then/{name}", lineterm="")
    return lines


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--version", help="another version than the newest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            print("\n".join(report(install(Path(folder), options.version))))
        except subprocess.CalledProcessError as error:
            print(f"The newest generator could not be installed: {error}")


if __name__ == "__main__":
    main()
