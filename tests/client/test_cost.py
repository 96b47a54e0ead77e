"""What the client costs, against figures on record: a guard that no busy machine disturbs."""

from __future__ import annotations

import json
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import _settings
from sandbox_client import types

from . import cost

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = cost.on_record().get(cost.PYTHON)

pytestmark = pytest.mark.skipif(
    EXPECTED is None, reason=f"no figures of Python {cost.PYTHON} are on record"
)


def expected() -> dict[str, int]:
    assert EXPECTED
    return EXPECTED


def test_costs_what_is_on_record() -> None:
    # After a change that is meant: python -m tests.client.cost --write
    assert cost.differences(cost.figures(), expected()) == []


def slower(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """Return a function that makes so many calls more than it needs."""

    @wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        for _ in range(calls):
            json.loads("1")
        return function(*args, **options)

    return wrapper


@pytest.mark.parametrize("name", ["sync call", "async call"])
def test_a_slower_call_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = {"sync call": cost.sync_call, "async call": cost.async_call}[name]
    wanted = {name: expected()[name]}
    assert cost.differences({name: measure()}, wanted) == []
    address = slower(_settings.Settings.address, 50)
    monkeypatch.setattr(_settings.Settings, "address", address)
    (told,) = cost.differences({name: measure()}, wanted)
    assert f"not {wanted[name]} as on record" in told


def test_a_slower_parse_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"libraries": expected()["libraries"]}
    # As without the readers' shortcut for plain values: each is read by a call.
    monkeypatch.setattr(types, "PLAIN", {})
    assert cost.differences({"libraries": cost.libraries_parsed()}, wanted)


def test_a_slower_import_is_seen() -> None:
    # As with a package more that is loaded before it is needed.
    calls, _ = cost.imported("from sandbox_api import ASandbox, Sandbox; import jsonschema")
    wanted = {"import": expected()["import"]}
    assert cost.differences({"import": calls}, wanted)
