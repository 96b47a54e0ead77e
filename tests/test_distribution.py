"""What is published: the same bytes whenever and wherever it is built, in good form."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sandbox_api import __version__

ROOT = Path(__file__).parents[1]
# What is built from; of the tests, which are many, only what the package has too.
SOURCES = [
    *("pyproject.toml", "README.md", "LICENSE", ".gitignore"),
    *("sandbox_api", "generated", "tests/recordings", ".github"),
]


# What may lie about there, and does not belong in it.
LITTER = ("site/index.html", "dist/old.whl", ".hypothesis/constants", ".import_linter_cache/x.json")


def build(folder: Path, umask: int, moment: int) -> Path:
    """Build from a copy of the sources, made at some moment by somebody, and return the folder."""
    checkout = folder / "checkout"
    before = os.umask(umask)
    try:
        checkout.mkdir(parents=True)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(
                    ROOT / name, checkout / name, ignore=ignored, copy_function=shutil.copyfile
                )
            else:
                shutil.copyfile(ROOT / name, checkout / name)
    finally:
        os.umask(before)
    for name in LITTER:
        (checkout / name).parent.mkdir()
        (checkout / name).touch()
    for path in checkout.rglob("*"):
        os.utime(path, (moment, moment))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder / "dist"],
        cwd=checkout,
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    return folder / "dist"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("one"), 0o022, 1_600_000_000)


def test_builds_are_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    other = build(tmp_path, 0o077, 1_700_000_001)
    names = sorted(path.name for path in dist.iterdir())
    assert names == [
        f"sandbox_api-{__version__}-py3-none-any.whl",
        f"sandbox_api-{__version__}.tar.gz",
    ]
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (dist / name).read_bytes() == (other / name).read_bytes(), name


def test_nothing_that_was_built_is_in_it(dist: Path) -> None:
    wheel, sdist = sorted(dist.iterdir())
    names = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        names += [name.partition("/")[2] for name in archive.getnames()]
    assert "README.md" in names
    assert ".github/workflows/test.yml" in names  # tests of it are there
    assert not {*names} & {*LITTER}


def test_distributions_are_in_good_form(dist: Path) -> None:
    paths = sorted(dist.iterdir())
    tools: list[list[str | Path]] = [
        ["twine", "check", "--strict", *paths],
        ["check_wheel_contents", paths[0]],
    ]
    for tool in tools:
        command = [sys.executable, "-m", *tool]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_is_made_of_the_sdist_alike(dist: Path, tmp_path: Path) -> None:
    wheel, sdist = sorted(dist.iterdir())
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=source,
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()
