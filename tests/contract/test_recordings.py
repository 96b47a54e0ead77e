"""What was recorded keeps the description of its version."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sandbox_api.verify import verify
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
