"""`make record` writes what a server answers, the same whenever it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox_api.verify import recorded, verify
from scripts.record import answer, normal

from .replay import Replay

ROOT = Path(__file__).parents[2]


def record(url: str, folder: Path, *options: str) -> tuple[Path, str]:
    words = [sys.executable, "-m", "scripts.record", "--url", url, "--rate", "0", *options]
    words += ["--folder", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("sandbox-*.json")
    return file, file.read_text(encoding="utf-8")


def test_recordings_are_not_lost(sandbox_url: str, tmp_path: Path) -> None:
    (tmp_path / "sandbox-3.0.3.json").write_text("real")
    cases = {
        recorded.STORED: recorded.load(recorded.recordings_of("3.0.3"))[recorded.STORED],
    }
    (tmp_path / "cases").write_text(json.dumps(cases))
    options = ("--rate", "0", "--cases", str(tmp_path / "cases"), "--folder", str(tmp_path))
    words = [sys.executable, "-m", "scripts.record", "--url", sandbox_url, *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (tmp_path / "sandbox-3.0.3.json").read_text() == "real"


def test_recording_twice_gives_the_same(sandbox_url: str, tmp_path: Path) -> None:
    old = recorded.load(recorded.recordings_of("3.0.3"))
    # Those that wait, or make a server fail, need not be recorded to show it.
    cases = {
        name: {"request": case["request"]}
        for name, case in old.items()
        if case["status"] != 500 and "timeout" not in name and name not in recorded.OWN_AFFAIR
    }
    cases["new"] = {"request": {"method": "POST", "path": "/execute/", "config": {"commands": 3}}}
    asked = tmp_path / "cases.json"
    asked.write_text(json.dumps(cases))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    file, text = record(sandbox_url, tmp_path / "one", "--cases", str(asked))
    _, again = record(sandbox_url, tmp_path / "other", "--cases", str(asked))
    assert file.name == "sandbox-3.0.3.json"
    assert text == again
    made: dict[str, Any] = json.loads(text)
    assert made["new"]["text"] == "commands must be a list, not <class 'int'>"
    assert made.keys() == cases.keys()
    assert made["save"]["json"] | {"execution": []} == {
        "status": 0,
        "execution": [],
        "total_time": 1.0,
        "environment": "9c710cd1-5119-49c6-9045-56fd7ad80320",
        "expire": "2026-11-25T00:08:42.366719+00:00",
    }
    assert made["env-get"]["headers"]["Content-Disposition"] == "attachment; filename={env}.tgz"
    # What was recorded is data for the suite.
    with httpx.Client(transport=Replay(file)) as client:
        report = verify("http://recorded", http_client=client, recordings=file, rate=0, examples=0)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("expire", "kept"),
    [
        ("2027-01-02T03:04:05.678901+00:00", "2026-11-25T00:08:42.366719+00:00"),
        ("2027-01-02T03:04:05.678901", "2026-11-25T00:08:42.366719"),
        ("20270102T030405Z", "20261125T000842Z"),
        ("soon", "soon"),
    ],
)
def test_times_keep_their_form(expire: str, kept: str) -> None:
    assert normal({"expire": expire}) == {"expire": kept}


def test_machines_are_not_told_apart() -> None:
    old = recorded.load(recorded.recordings_of("3.0.3"))["specifications"]["json"]
    response = httpx.Response(200, json=old)
    made = answer("specifications", response, "env")
    assert made["headers"] == {"Content-Type": "application/json"}
    assert made["json"]["host"]["memory"] == {"ram": 1, "swap": 0, "storage": {"/dev/vda": 1}}
    assert made["json"]["container"]["memory"]["storage"] == -1
    assert made["json"]["host"]["sandbox_version"] == "3.0.3"
