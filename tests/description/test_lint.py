"""Each rule about descriptions fails on what it is there to find."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from scripts import lint
from scripts.description import describe

if TYPE_CHECKING:
    from collections.abc import Callable

DESCRIPTION = describe()

USAGE = ("paths", "/usages/", "get")
EXIT_CODE = ("components", "schemas", "CommandResult", "properties", "exit_code")
SIZES = ("components", "schemas", "DeviceBytes", "additionalProperties")
LENGTH = ("components", "headers", "ContentLength")


def change(*keys: str, to: Any = None) -> Callable[[dict[str, Any]], None]:
    """Return what sets a member of a description, or removes it."""

    def changed(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        if to is None:
            del document[keys[-1]]
        else:
            document[keys[-1]] = to

    return changed


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (change("info", "title"), 'info: "title" is a required property'),
        (change(*USAGE, "operationId"), "GET /usages/: operationId must be a name"),
        (change(*USAGE, "operationId", to="getUsage"), "like download_file, not 'getUsage'"),
        (change(*USAGE, "operationId", to="import"), "like download_file, not 'import'"),
        (change(*USAGE, "operationId", to="execute"), "POST /execute/: another operation is cal"),
        (change(*USAGE, "summary"), "GET /usages/: needs a summary, a sentence"),
        (change(*USAGE, "description", to="unfinished"), "GET /usages/: needs a description"),
        (change(*USAGE, "tags"), "GET /usages/: needs tags"),
        (change(*USAGE, "tags", to=["new"]), "GET /usages/: needs tags"),
        (change(*USAGE, "responses", "200", "description", to="x"), "GET /usages/: answer 200 n"),
        (change(*EXIT_CODE, "description"), "CommandResult.exit_code: needs a description"),
        (change(*EXIT_CODE, "examples"), "CommandResult.exit_code: needs an example"),
        (change(*EXIT_CODE, "description"), "exit_code: the description must name the unit"),
        (
            change(*EXIT_CODE, "description", to="The third."),
            "CommandResult/properties/exit_code: the description must name the unit",
        ),
        (
            change(*EXIT_CODE, to={"type": ["number", "null"], "description": "A flag."}),
            "exit_code: the description must name the unit",
        ),
        (change(*SIZES, "description", to="How large."), "additionalProperties: the description"),
        (change(*LENGTH, "description", to="How large."), "ContentLength/schema: the description"),
        (change(*LENGTH, "example"), "/components/headers/ContentLength: needs an example"),
        (change(*LENGTH, "example", to="long"), "ContentLength/example: 'long' is not of type"),
        (change(*EXIT_CODE, "examples", to=["1"]), "exit_code/examples/0: '1' is not of type"),
        (change("components", "schemas", "Old", to={}), "/components/schemas/Old: nothing refers"),
    ],
)
def test_rule(broken: Callable[[dict[str, Any]], None], line: str) -> None:
    document = copy.deepcopy(DESCRIPTION)
    broken(document)
    lines = lint.lint(document)
    assert any(line in each for each in lines), lines


def test_every_rule_is_tested() -> None:
    found = test_rule.pytestmark[0].args[1]
    broken: list[dict[str, Any]] = []
    for planted, _ in found:
        broken.append(copy.deepcopy(DESCRIPTION))
        planted(broken[-1])
    for rule in lint.RULES:
        assert any([*rule(document)] for document in broken), rule.__name__
