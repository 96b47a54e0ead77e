"""The description of the server: valid, whole, and true to what was recorded."""

from __future__ import annotations

import ast
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from sandbox_api import ASandbox, Sandbox, _operations
from scripts import description, lint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DESCRIPTION = description.describe(*description.ADD_ONS)
SCHEMAS: dict[str, Any] = DESCRIPTION["components"]["schemas"]


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    whole = {"components": DESCRIPTION["components"], **schema}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def test_keeps_the_rules() -> None:
    assert lint.lint(DESCRIPTION) == []
    for name in description.overlays():
        assert lint.lint(description.describe(name)) == [], name


def test_describes_every_endpoint() -> None:
    assert {place for place, _ in lint.operations(DESCRIPTION)} == {
        "GET /specifications/",
        "GET /usages/",
        "GET /libraries/",
        "GET /environments/{uuid}/",
        "HEAD /environments/{uuid}/",
        "GET /files/{uuid}/{path}/",
        "HEAD /files/{uuid}/{path}/",
        "POST /execute/",
        "POST /loader/fr/",
        "POST /loader/demo/pl/",
        "POST /loader/play/pl/",
        "POST /exec/",
    }


def endpoints_of(flavour: type) -> set[str]:
    """Return the endpoints of the generated package that a flavour's methods send to."""
    named: dict[str, set[str]] = {}
    for function in ast.parse(inspect.getsource(_operations)).body:
        imports = [each for each in ast.walk(function) if isinstance(each, ast.ImportFrom)]
        if isinstance(function, ast.FunctionDef):
            named[function.name] = {
                alias.name
                for each in imports
                if (each.module or "").startswith("sandbox_client.api.")
                for alias in each.names
            }
    used = re.findall(r"_operations\.([a-z]\w+)", inspect.getsource(flavour))
    return {endpoint for name in used for endpoint in named[name]}


@pytest.mark.parametrize("flavour", [Sandbox, ASandbox])
def test_every_operation_has_a_method(flavour: type) -> None:
    described = {each["operationId"] for _, each in lint.operations(DESCRIPTION)}
    assert {name.rstrip("_") for name in endpoints_of(flavour)} == described


def test_there_are_examples() -> None:
    assert len([*lint.examples(DESCRIPTION)]) > 90


def test_versions_say_only_what_differs() -> None:
    newest = description.describe()
    for name in ("2.0", "3.0.2"):
        older = description.describe(name)
        assert older["info"].pop("version") == name
        expire = older["components"]["schemas"]["ExecutionResult"]["properties"].pop("expire")
        example = expire["examples"][0]
        assert example in json.dumps(older["paths"]["/execute/"])
        assert not Draft202012Validator(
            {"format": "date-time"}, format_checker=FormatChecker()
        ).is_valid(example)
        text = (description.OPENAPI / "overlays" / f"{name}.yaml").read_text(encoding="utf-8")
        assert len(text) < 1200
    assert "loader" not in json.dumps(newest["paths"])
    assert {*DESCRIPTION["paths"]} > {*newest["paths"]}


def test_overlay_that_changes_nothing_is_refused() -> None:
    overlay = {"info": {"title": "Mine"}, "actions": [{"target": "$.paths.x", "remove": True}]}
    with pytest.raises(ValueError, match=r"Mine: nothing is at \$\.paths\.x"):
        description.apply(overlay, description.describe())
    with pytest.raises(ValueError, match="there is no overlay '1', but"):
        description.describe("1")


def test_overlay_that_extends_another_comes_after_it(tmp_path: Path) -> None:
    (tmp_path / "overlays").mkdir()
    (tmp_path / "sandbox.yaml").write_text("info: { version: 3.1.0 }")
    overlay = "info: {{ title: Mine }}\n{}actions: [{{ target: $.info, update: {} }}]"
    for name, extends, update in [
        ("3.0.3", "", "{ version: 3.0.3, old: true }"),
        ("2.0", "extends: 3.0.3.yaml\n", "{ version: 2.0.0 }"),
    ]:
        text = overlay.format(extends, update)
        (tmp_path / "overlays" / f"{name}.yaml").write_text(text)
    assert description.describe("2.0", folder=tmp_path) == {
        "info": {"version": "2.0.0", "old": True}
    }


def test_overlay_removes_updates_and_appends() -> None:
    document = {"a": {"b": [1, 2, 3], "c": {"d": 1}}, "e": 1}
    actions: list[dict[str, Any]] = [
        {"target": "$.a.b[?@ > 1]", "remove": True},
        {"target": "$.a", "update": {"b": [4], "c": {"f": 2}, "g": {}}},
        {"target": "$.a.b", "update": 5},
        {"target": "$.e", "remove": True},
    ]
    description.apply({"info": {"title": ""}, "actions": actions}, document)
    assert document == {"a": {"b": [1, 4, 5], "c": {"d": 1, "f": 2}, "g": {}}}


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("specifications", "Specifications"),
        ("usages", "Usage"),
        ("libraries", "Libraries"),
        *[(name, "ExecutionResult") for name in ("ok-three", "timeout", "save", "result-not-utf8")],
        ("env-upload-save-result", "ExecutionResult"),
    ],
)
def test_recorded_answer_is_described_to_the_last_field(
    name: str, schema: str, recordings: dict[str, Any]
) -> None:
    answer = recordings[name]["json"]
    validator(SCHEMAS[schema]).validate(answer)

    def undescribed(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
        schema = lint.resolve(DESCRIPTION, schema)
        if isinstance(value, list):
            for item in value:
                yield from undescribed(item, schema["items"], f"{place}[]")
        elif isinstance(value, dict) and "properties" in schema:
            for key, member in value.items():
                if key in schema["properties"]:
                    yield from undescribed(member, schema["properties"][key], f"{place}.{key}")
                else:
                    yield f"{place}.{key}"

    assert [*undescribed(answer, SCHEMAS[schema], schema)] == []


def test_recorded_errors_are_described(recordings: dict[str, Any]) -> None:
    for name, recording in recordings.items():
        path = recording["request"]["path"].split("/")[1]
        method = recording["request"]["method"].lower()
        paths: dict[str, Any] = DESCRIPTION["paths"]
        item: dict[str, Any] = next((item for key, item in paths.items() if path in key), {})
        if path and method in item and recording["request"]["path"].endswith("/"):
            assert str(recording["status"]) in item[method]["responses"], name


@pytest.mark.parametrize("name", ["Specifications", "Usage", "Libraries", "ExecutionResult"])
def test_answers_may_have_more_fields(name: str) -> None:
    assert SCHEMAS[name].get("additionalProperties", True) is True
