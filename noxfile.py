"""The tests on each supported Python that is here, and with the oldest and newest dependencies.

`nox` runs all; `nox -s tests-3.12 -- tests/client` one, and of it a part.
"""

import os
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import nox
from nox.project import dependency_groups, load_toml
from packaging.requirements import Requirement

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# What the product does; the rest looks at the project, with tools that want newer dependencies, or
# at what it costs with those.
PRODUCT = [
    "tests/client",
    "tests/contract/test_recordings.py",
    "tests/contract/test_verify.py",
    "tests/http",
    "tests/local",
    "tests/testing",
    "tests/test_cli.py",
    "tests/test_cli_batch.py",
    "tests/test_cli_terminal.py",
    "--ignore=tests/client/test_cost.py",
    "--ignore=tests/client/test_typing.py",
]

nox.needs_version = ">=2025.5"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
PYPROJECT = load_toml("pyproject.toml")

if (pyenv := shutil.which("pyenv")) and "PYENV_VERSION" not in os.environ:
    # Else it lets only the Python be found that it was told to use.
    bare = [pyenv, "versions", "--bare"]
    installed = subprocess.run(bare, capture_output=True, text=True, check=True)  # noqa: S603
    os.environ["PYENV_VERSION"] = ":".join(installed.stdout.split())


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests."""
    session.install("--editable", ".[all,verify]", *dependency_groups(PYPROJECT, "dev"))
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests of the product with the lowest versions that pyproject.toml allows."""
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    constraints = Path(session.virtualenv.location, "constraints.txt")
    constraints.write_text("\n".join(map(lowest_of, wanted)), encoding="utf-8")
    # What is old uses what newer ones deprecate.
    quiet = [f"-Wignore::{kind}DeprecationWarning" for kind in ("", "Pending")]
    test_product(session, ["--constraint", str(constraints)], quiet)


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests of the product with the newest versions, as users get them.

    The tools of development hold some back.
    """
    test_product(session, ["--upgrade", "--upgrade-strategy", "eager"], [])


def test_product(session: nox.Session, versions: list[str], warnings: list[str]) -> None:
    """Run the tests of the product with what pip chooses by some options."""
    needed = ["--editable", ".[all,gs,s3,verify]", *dependency_groups(PYPROJECT, "test")]
    session.install(*needed, *versions)
    session.run("pytest", "-n", "auto", *warnings, *(session.posargs or PRODUCT))


def lowest_of(requirement: str) -> str:
    """Return a requirement of the lowest version that another one allows."""
    wanted = Requirement(requirement)
    lowest = [each.version for each in wanted.specifier if each.operator in {">=", "=="}]
    if not lowest:  # the project itself, with its extras
        return ""
    return f"{wanted.name}=={lowest[0]}" + (f"; {wanted.marker}" if wanted.marker else "")
