"""What was recorded keeps the description of its version."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sandbox_api.verify import recorded, verify
from scripts.description import describe, overlays

from .replay import Replay

FILES = sorted((Path(__file__).parents[1] / "recordings").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recordings_keep_the_description(file: Path) -> None:
    version = file.stem.partition("-")[2]
    description = describe(*[version] if version in overlays() else [])
    with httpx.Client(transport=Replay(file)) as client:
        report = verify(
            "http://recorded",
            http_client=client,
            description=description,
            recordings=file,
            rate=0,
            examples=0,
        )
    assert report.ok, str(report)
    assert "not exercised" not in report.table()


def test_cases_that_are_left_out_are_explained() -> None:
    text = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
    for name, case in recorded.load(recorded.recordings_of("3.0.3")).items():
        if recorded.fails_the_server(case) or name in recorded.OWN_AFFAIR:
            assert f"`{name}`" in text
