"""What type checkers and editors see."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import jedi
import pytest

from scripts.description import ADD_ONS, describe

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "consumer" / "sample.py"
SCHEMAS: dict[str, Any] = describe(*ADD_ONS)["components"]["schemas"]


def test_sample_uses_every_described_field() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    for name, schema in SCHEMAS.items():
        if not name.endswith("Form"):
            for field in schema.get("properties", {}):
                assert f".{field}" in text, f"{name}.{field}"


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "mypy", "--strict"], [Path(sysconfig.get_path("scripts"), "pyright")]],
    ids=["mypy", "pyright"],
)
def test_sample_passes_strict_checks(command: list[str | Path]) -> None:
    # pyright takes its strictness from pyproject.toml.
    checked = subprocess.run(
        [*command, SAMPLE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Tests that run at the same time would read what another is writing.
    monkeypatch.setattr(jedi.settings, "cache_directory", str(tmp_path))


@pytest.mark.parametrize(
    ("expression", "schema"),
    [
        ("sandbox.usage().cpu.", "CpuUsage"),
        ("sandbox.specifications().host.cpu.", "HostCpu"),
        ("sandbox.libraries().", "Libraries"),
        ("sandbox.execute({}).execution[0].", "CommandResult"),
        ("sandbox.execute({}).", "ExecutionResult"),
    ],
)
def test_editor_completes_the_described_fields(expression: str, schema: str) -> None:
    code = f"from sandbox_api import Sandbox\nsandbox = Sandbox('')\n{expression}"
    project = jedi.Project(
        ROOT, environment_path=sys.prefix, added_sys_path=[str(ROOT / "generated")]
    )
    completions = jedi.Script(code, project=project).complete()
    # The methods of dictionaries and of all models are there too.
    inherited = {*dir(dict), "from_dict"}
    if schema == "ExecutionResult":  # has helpers on top
        inherited |= {"error", "json", "ok", "raise_for_status", "saved", "timed_out"}
    names = {each.name for each in completions if not each.name.startswith("_")} - inherited
    assert names == set(SCHEMAS[schema]["properties"])


def test_editor_shows_a_fields_description() -> None:
    code = "from sandbox_api import Sandbox\nSandbox('').usage().cpu.frequency"
    script = jedi.Script(code, project=jedi.Project(ROOT, added_sys_path=[str(ROOT / "generated")]))
    (name,) = script.infer(2, len("Sandbox('').usage().cpu"))
    assert name.name == "CpuUsage"
    assert "Load of the host's processor." in name.docstring()
