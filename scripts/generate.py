"""Generate the client package from the description in openapi/.

python scripts/generate.py            write generated/sandbox_client
python scripts/generate.py --check    fail, naming the files, when it differs from what is there
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = ROOT / "openapi"
PACKAGE = ROOT / "generated" / "sandbox_client"
# Formatting is part of the output, so it takes its rules from here and not from the project's.
RUFF = ["--isolated", "--no-cache", "--quiet", "--target-version=py311", "--line-length=100"]


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


def generate(target: Path) -> None:
    """Write the whole package to `target`, which does not exist yet."""
    run(
        "openapi-python-client",
        "generate",
        f"--path={DESCRIPTION / 'sandbox.yaml'}",
        f"--config={DESCRIPTION / 'generator.yaml'}",
        f"--custom-template-path={DESCRIPTION / 'templates'}",
        f"--output-path={target}",
        "--meta=none",
        "--fail-on-warning",
    )
    for module in target.rglob("*.py"):
        if not module.read_text().strip():  # overridden with nothing
            module.unlink()
    (target / "py.typed").touch()
    # The local sandbox serves it, without a package that reads YAML.
    description = yaml.safe_load((DESCRIPTION / "sandbox.yaml").read_text(encoding="utf-8"))
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (target / "openapi.json").write_text(f"{text}\n", encoding="utf-8")
    # Templates import all that any module may need.
    run("ruff", "check", *RUFF, "--fix", "--select=E4,E7,E9,F,I", target)
    run("ruff", "format", *RUFF, target)


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


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    parser.add_argument("--package", type=Path, default=PACKAGE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / PACKAGE.name
        generate(fresh)
        lines = differing(options.package, fresh)
        if lines and options.check:
            listed = "\n".join(f"  {line}" for line in lines)
            sys.exit(
                f"{options.package} is not what openapi/ gives:\n{listed}\n"
                "Run `make generate`, and never edit generated files by hand."
            )
        if lines:
            shutil.rmtree(options.package, ignore_errors=True)
            shutil.copytree(fresh, options.package)


if __name__ == "__main__":
    main()
