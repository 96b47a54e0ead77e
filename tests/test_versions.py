"""What docs/versions.md promises."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from typing import Any

import pytest

from sandbox_api import _deprecation
from sandbox_api.testing import FakeASandbox, FakeSandbox


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


@pytest.mark.parametrize("module", ["sandbox_api", "sandbox_api.batch"])
def test_deprecated_name_of_a_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deprecation, "_warned", set())
    here = importlib.import_module(module)
    names = {"__name__": module, "deprecate": _deprecation.deprecate}
    exec(
        "def __getattr__(name):\n"
        "    if name != 'old': raise AttributeError(name)\n"
        "    deprecate(name, instead='new', gone='9.0')\n",
        names,
    )
    monkeypatch.setattr(here, "__getattr__", names["__getattr__"], raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(f"from {module} import old", "users.py", "exec"), {"__name__": "users"})
    assert [warning.filename for warning in caught] == ["users.py"]


@pytest.mark.usefixtures("old_name")
def test_deprecation_points_to_the_awaiting_line() -> None:
    async def main() -> None:
        async with FakeASandbox() as sandbox:
            await sandbox.usage()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [warning.filename for warning in caught] == [__file__]
