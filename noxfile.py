"""The tests on each supported Python that is here, and with the oldest dependencies.

`nox` runs all; `nox -s tests-3.12 -- tests/client` one, and of it a part.
"""

import nox
from nox.project import dependency_groups, load_toml

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# What the product does; the rest looks at the project, with tools that want newer dependencies.
PRODUCT = [
    "tests/client",
    "tests/http",
    "tests/local",
    "tests/testing",
    "tests/test_cli.py",
    "--ignore=tests/client/test_typing.py",
]

nox.needs_version = ">=2025.5"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
PYPROJECT = load_toml("pyproject.toml")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests."""
    session.install("--editable", ".[all]", *dependency_groups(PYPROJECT, "dev"))
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests of the product with the lowest versions that pyproject.toml allows."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + extras["local"] + extras["cli"]
    constraints = session.create_tmp() + "/constraints.txt"
    with open(constraints, "w", encoding="utf-8") as file:
        for requirement in requirements:
            bounds = requirement.partition(";")[0]
            name, _, version = bounds.partition(">=")
            print(f"{name}=={version.partition(',')[0]}", file=file)
    needed = ["--editable", ".[all]", *dependency_groups(PYPROJECT, "test")]
    session.install(*needed, "--constraint", constraints)
    session.run("pytest", "-n", "auto", *(session.posargs or PRODUCT))
