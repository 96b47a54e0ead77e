"""What docs/versions.md promises."""

from __future__ import annotations

import asyncio
import re
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from sandbox_api import _deprecation
from sandbox_api.testing import FakeASandbox, FakeSandbox

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what reads the description for `usage` be deprecated, deep inside the client."""
    monkeypatch.setattr(_deprecation, "_warned", set())

    def answer(*_: Any) -> Any:
        code = 'deprecate("usage", instead="load", gone="9.0")'
        exec(code, {"__name__": "sandbox_api.inside", "deprecate": _deprecation.deprecate})
        return {}

    monkeypatch.setattr("sandbox_client.api.sandbox.usage.parse", answer)


@pytest.mark.usefixtures("old_name")
def test_deprecation_points_to_the_users_line_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            FakeSandbox().usage()
    (warning,) = caught
    assert warning.category is DeprecationWarning
    assert str(warning.message) == "usage is deprecated, and will be gone in 9.0: use load"
    assert warning.filename == __file__


@pytest.mark.usefixtures("old_name")
def test_deprecation_points_to_the_awaiting_line() -> None:
    async def main() -> None:
        async with FakeASandbox() as sandbox:
            await sandbox.usage()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [warning.filename for warning in caught] == [__file__]


def test_pythons_are_the_same_everywhere() -> None:
    trove = "Programming Language :: Python :: "
    named = [
        text.removeprefix(trove)
        for text in PROJECT["classifiers"]
        if re.fullmatch(rf"{trove}3\.\d+", text)
    ]
    assert PROJECT["requires-python"] == f">={named[0]}"
    for file in ("noxfile.py", ".github/workflows/test.yml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.findall(r'"(3\.\d+)"', text)[: len(named)] == named, file
