"""The files that docs/deployment.md shows are what their readers take; nginx's is in cluster/."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from sandbox_api.cli.app import app

ROOT = Path(__file__).parents[1]
FILES = ROOT / "docs" / "deployment"
UNIT = (FILES / "sandbox-api.service").read_text(encoding="utf-8")
MANIFEST: list[Any] = list(
    yaml.safe_load_all((FILES / "kubernetes.yaml").read_text(encoding="utf-8"))
)


def instructions() -> dict[str, list[str]]:
    """Return the instructions of the Containerfile, by name."""
    text = (FILES / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found: dict[str, list[str]] = {}
    for line in filter(None, lines):
        name, _, rest = line.partition(" ")
        found.setdefault(name, []).append(rest.strip())
    return found


def served(arguments: list[str]) -> dict[str, Any]:
    """Return how the command line understands these arguments of `sandbox-api serve`."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands["serve"].make_context("serve", arguments).params
    return found


def test_all_are_shown() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert {path.name for path in FILES.iterdir()} == set(
        re.findall(r"\]\(deployment/(.+?)\)", page)
    )


@pytest.mark.parametrize("version", ["1.33", "1.36"])
def test_kubernetes_takes_the_manifest(version: str) -> None:
    kinds = [each["kind"] for each in MANIFEST]
    assert kinds == ["Namespace", "Secret", "Deployment", "Service", "PodDisruptionBudget"]
    for each in MANIFEST:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_manifest_fits_together() -> None:
    namespace, secret, deployment, service, budget = MANIFEST
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    labels = template["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"], budget["spec"]["selector"]):
        assert selector["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert container["envFrom"][0]["secretRef"]["name"] == secret["metadata"]["name"]
    assert {each["metadata"].get("namespace") for each in MANIFEST[1:]} == {
        namespace["metadata"]["name"]
    }
    options = served(container["args"])
    assert (options["data"], options["slots"]) == ("s3://my-bucket/sandbox", 4)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 7000}
    assert service["spec"]["ports"][0]["targetPort"] == "http"


def test_the_container_is_made_of_what_there_is() -> None:
    found = instructions()
    assert found.keys() <= {"FROM", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert next(iter(found)) == "FROM"
    program, command, *options = json.loads(found["ENTRYPOINT"][0])
    assert (program, command) == ("sandbox-api", "serve")
    understood = served([*options, *json.loads(found["CMD"][0])])
    assert (understood["host"], understood["port"]) == ("0.0.0.0", int(found["EXPOSE"][0]))
    assert found["USER"] == ["10001:10001"]
    for command in found["RUN"]:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_extras_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = UNIT + (FILES / "Containerfile").read_text(encoding="utf-8")
    named = re.findall(r"sandbox-api\[(.+?)\]", text)
    assert len(named) == 2
    for extras in named:
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_the_unit_starts_what_there_is() -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    program, command, *options = shlex.split(line)
    assert (Path(program).name, command) == ("sandbox-api", "serve")
    assert served(options)["data"] == "s3://my-bucket/sandbox"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "sandbox-api.service"
    unit.write_text(UNIT.replace("/opt/sandbox-api/bin", sysconfig.get_path("scripts")))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Other units of the machine may have faults, too; older ones do not know what the unit says.
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert [line for line in complaints if "DelegateSubgroup" not in line] == []
    assert done.returncode == 0, done.stderr
