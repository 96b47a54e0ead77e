"""The measuring itself: `make bench` in small, without what has to be installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sandbox_api import Sandbox
from scripts.bench import endurance, plot, servers, table
from scripts.bench.table import Measured

ROOT = Path(__file__).parents[1]


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.bench", "--quick", "--no-peer", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def docs() -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*")}


def test_a_part_is_measured_and_written_where_it_is_told(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("Before.\n<!-- figures: by make bench -->\n<!-- end of figures -->\nAfter.\n")
    before = docs()
    done = bench("--only", "sync,parse", "--write", tmp_path)
    assert done.returncode == 0, done.stderr
    assert docs() == before
    assert "The old client was not measured." in done.stdout
    for line in ("`execute`, one after another", "reading 5,000 libraries"):
        assert f"\n{line} " in done.stdout
    numbers = json.loads((tmp_path / "performance" / "figures.json").read_text())
    figures = numbers["figures"]
    assert {*figures} == {"sync", "floor", "parse-libraries", "parse-result"}
    assert figures["sync"]["ratio"] is None
    assert figures["floor"]["ratio"] > 1
    assert figures["parse-libraries"]["must"] == 2
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("<!-- end of figures -->\nAfter.\n")
    assert "| reading 5,000 libraries | " in text
    ET.parse(tmp_path / "performance" / "ratios.svg")


def test_transfers_are_measured() -> None:
    before = docs()
    done = bench(
        *("--only", "download,upload,folder,import", "--rounds", "1"),
        *("--mebibytes", "1", "--files", "10"),
    )
    assert done.returncode == 0, done.stderr
    assert docs() == before
    assert done.stdout.count("curl") == 3


def test_what_there_is_no_figure_of_is_refused() -> None:
    done = bench("--only", "sync,nothing")
    assert done.returncode == 2
    assert "there is no nothing, but sync, threads, async" in done.stderr


def test_long_run(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- growth: by make bench -->\n<!-- end of growth -->\n")
    done = bench("--long", "200", "--write", tmp_path)
    assert "200 one after another" in done.stdout
    assert "| 200 64 at once | tasks | 1 | 1 |  |" in page.read_text()
    for name in ("sizes", "concurrency"):
        ET.parse(tmp_path / "performance" / f"{name}.svg")
    assert len(json.loads((tmp_path / "performance" / "long.json").read_text())["sizes"]) == 1


def test_what_is_on_record_is_what_is_shown(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "performance.md", tmp_path)
    shutil.copytree(ROOT / "docs" / "performance", tmp_path / "performance")
    assert bench("--again", "--write", tmp_path).returncode == 0
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert path.read_bytes() == (ROOT / "docs" / path.relative_to(tmp_path)).read_bytes(), (
            "python -m scripts.bench --again"
        )


def test_what_grows_is_told() -> None:
    def block(number: int) -> dict[str, float]:
        return {"ms": 1.0 + number, "cpu": 1.0, "memory": 2.0**20 * number, "descriptors": number}

    steady = [block(1) for _ in range(20)]
    assert [row[-1] for row in endurance.growth(steady)] == ["", "", "", ""]
    growing = [block(number) for number in range(20)]
    # Not the time alone, for which others may be the cause.
    assert [row[-1] for row in endurance.growth(growing)] == ["", "", "YES", "YES"]


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "reached"),
    [
        ("sync", 3, 10, "aim"),
        ("sync", 4, 10, "must"),
        ("sync", 5, 10, "MISSED"),
        ("sync", 5, None, ""),
        ("floor", 5, 1, ""),
        ("download-memory", 64, 1000, "must"),
        ("download-memory", 65, 1000, "MISSED"),
        ("upload-memory", 65, None, "MISSED"),
        ("local-throughput", 7, 10, "must"),
        ("local-throughput", 9, 10, "aim"),
        ("local-throughput", 6, 10, "MISSED"),
    ],
)
def test_what_is_reached(name: str, ours: float, theirs: float | None, reached: str) -> None:
    measured = Measured(name, [ours, ours, 99 * ours], [theirs] * 3 if theirs else [])
    assert measured.reached == reached
    assert len(measured.cells()) == len(table.HEADINGS)


def test_plot_names_its_axes_and_lines() -> None:
    points = [(float(10**power), 2.0 * 10**power) for power in range(3, 9)]
    root = ET.fromstring(plot.lines("Title", "bytes", "ms", {"<ours>": points}))
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Title (ms by bytes)", "bytes", "<ours>", "1k", "100M"} <= {*shown}


def test_stub_answers_what_the_client_asks() -> None:
    with servers.stub() as url:
        with Sandbox(url) as sandbox:
            for _ in range(3):
                assert sandbox.execute({"commands": ["true"]}).ok
            assert len(sandbox.libraries()["bin"]) == 1000
            environment = b"\x1f\x8b" + bytes(1_000_000)
            assert sandbox.execute({"commands": ["true"]}, environment).ok
        with Sandbox(f"{url}/1000000") as sandbox:
            output = sandbox.execute({"commands": ["true"]}).execution[0].stdout
            assert 999_000 < len(output) < 1_000_000
            assert len(sandbox.download("872ed7a6-7c93-4a5b-a1ce-3a9d0f0c2b1e").read()) == 10**6
        with Sandbox(f"{url}/commands-1000") as sandbox:
            assert len(sandbox.execute({"commands": ["true"]}).execution) == 1000
