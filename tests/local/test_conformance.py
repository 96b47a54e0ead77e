from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

from scripts.description import describe

from .public import Public, serving

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sysconfig.get_path("scripts"), "schemathesis")

OPTIONS = (
    "--checks=all",
    "--max-examples=25",
    # As the tests of a day are those of the next.
    "--seed=1",
    "--generation-deterministic",
    # What JSON and the operating system have names for.
    "--generation-codec=utf-8",
    "--generation-allow-x00=false",
    "--output-truncate=false",
    "--no-color",
)


def test_the_server_does_what_the_description_says(tmp_path: Path) -> None:
    found = describe()
    assert len(found["paths"]) == 6
    (tmp_path / "openapi.json").write_text(json.dumps(found))
    with serving(tmp_path / "data") as server:
        text = conform(server, tmp_path)
    assert "Stateful (not applicable)" not in text
    for kind in ("environments", "files"):
        assert any(f"/{kind}/" in line and " 200 " in line for line in server.lines)


def conform(server: Public, folder: Path) -> str:
    """Run schemathesis on a server, and return what it says; fail when it finds anything."""
    done = subprocess.run(
        [SCHEMATHESIS, "run", folder / "openapi.json", f"--url={server.url}/", *OPTIONS],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.local.conformance_hooks",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
