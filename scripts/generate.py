"""Generate the client package from the description in openapi/.

python -m scripts.generate            write generated/sandbox_client
python -m scripts.generate --check    fail when it differs from what is there, and say of what comes
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from .description import ADD_ONS, OPENAPI, describe, dump

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "generated" / "sandbox_client"
# Formatting is part of the output, so it takes its rules from here and not from the project's.
RUFF = ["--isolated", "--no-cache", "--quiet", "--target-version=py311", "--line-length=100"]


# What the package was made of, for the day when it is not what openapi/ gives.
ORIGIN = "origin.json"
TOOLS = ("openapi-python-client", "ruff")


def run(*command: str | Path) -> None:
    """Run one of the virtual environment's programs; its messages are ours."""
    program = Path(sysconfig.get_path("scripts"), command[0])
    finished = subprocess.run(
        [program, *command[1:]],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if finished.returncode:
        sys.exit(f"{command[0]} failed:\n{finished.stdout}")


def generate(target: Path, openapi: Path = OPENAPI) -> None:
    """Write the whole package to `target`, which does not exist yet."""
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder) / "openapi.json"
        description.write_text(dump(describe(*ADD_ONS, folder=openapi)), encoding="utf-8")
        run(
            "openapi-python-client",
            "generate",
            f"--path={description}",
            f"--config={openapi / 'generator.yaml'}",
            f"--custom-template-path={openapi / 'templates'}",
            f"--output-path={target}",
            "--meta=none",
            "--fail-on-warning",
        )
        for module in target.rglob("*.py"):
            if not module.read_text().strip():  # overridden with nothing
                module.unlink()
        (target / "py.typed").touch()
        # The local sandbox serves it, without a package that reads YAML.
        shutil.copy(description, target)
    # Templates import all that any module may need.
    run("ruff", "check", *RUFF, "--fix", "--select=E4,E7,E9,F,I", target)
    run("ruff", "format", *RUFF, target)
    text = json.dumps(origin(target, openapi), indent=1)
    (target / ORIGIN).write_text(f"{text}\n", encoding="utf-8")


def origin(package: Path, openapi: Path) -> dict[str, Any]:
    """Return what a package is made of, and what it was when it was made."""
    made_of = [
        openapi / "sandbox.yaml",
        *(openapi / "overlays" / f"{name}.yaml" for name in ADD_ONS),
        openapi / "generator.yaml",
        *(openapi / "templates").iterdir(),
    ]
    return {
        "tools": {name: importlib.metadata.version(name) for name in TOOLS},
        "openapi": hashes(openapi, {file.relative_to(openapi) for file in made_of}),
        "package": hashes(package, files(package) - {Path(ORIGIN)}),
    }


def hashes(folder: Path, names: set[Path]) -> dict[str, str]:
    """Return a hash of each of a folder's files."""
    return {
        name.as_posix(): hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16]
        for name in sorted(names)
    }


def files(package: Path) -> set[Path]:
    """Return the paths of a package's files, relative to it."""
    return {
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differing(committed: Path, fresh: Path) -> list[str]:
    """Return a line for each file that is not the same in both packages."""
    lines: list[str] = []
    for path in sorted(files(committed) | files(fresh)):
        if not (fresh / path).exists():
            lines.append(f"{path}: not generated")
        elif not (committed / path).exists():
            lines.append(f"{path}: missing")
        elif not filecmp.cmp(committed / path, fresh / path, shallow=False):
            lines.append(f"{path}: differs")
    return lines


def causes(committed: Path, fresh: Path) -> list[str]:
    """Return a line for each thing that can have made two packages differ."""
    try:
        then = json.loads((committed / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [f"hand edit: {ORIGIN}, which says what the package was made of"]
    now = json.loads((fresh / ORIGIN).read_text(encoding="utf-8"))
    kinds = {"templates": "template", "generator.yaml": "settings"}
    lines = [
        f"{kinds.get(name.split('/')[0], 'description')} edited: openapi/{name}"
        for name in changed(then["openapi"], now["openapi"])
    ]
    was, is_ = then["tools"], now["tools"]
    lines += [
        f"generator version: {tool} was {was.get(tool)}, is {is_.get(tool)}"
        for tool in changed(was, is_)
    ]
    there = hashes(committed, files(committed) - {Path(ORIGIN)})
    lines += [f"hand edit: {name}" for name in changed(then["package"], there)]
    return lines or ["generator version: scripts/generate.py, or what the generator is made of"]


def changed(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the names that do not stand for the same in both."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    parser.add_argument("--package", type=Path, default=PACKAGE, help=argparse.SUPPRESS)
    parser.add_argument("--openapi", type=Path, default=OPENAPI, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / PACKAGE.name
        generate(fresh, options.openapi)
        lines = differing(options.package, fresh)
        if lines and options.check:
            listed = "\n".join(f"  {line}" for line in lines)
            why = "\n".join(f"  {line}" for line in causes(options.package, fresh))
            sys.exit(
                f"{options.package} is not what openapi/ gives:\n{listed}\nThe cause:\n{why}\n"
                "Run `make generate`, and never edit generated files by hand."
            )
        if lines:
            shutil.rmtree(options.package, ignore_errors=True)
            shutil.copytree(fresh, options.package)


if __name__ == "__main__":
    main()
