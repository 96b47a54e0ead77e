"""The description of the server: valid, whole, and true to what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTION: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "openapi" / "sandbox.yaml").read_text(encoding="utf-8")
)
SCHEMAS: dict[str, Any] = DESCRIPTION["components"]["schemas"]


def resolve(value: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    while reference := value.get("$ref"):
        value = DESCRIPTION
        for key in reference.removeprefix("#/").split("/"):
            value = value[key]
    return value


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    whole = {"components": DESCRIPTION["components"], **schema}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def walk(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of the description, with its place."""
    if isinstance(value, dict):
        yield place, value
        for key, member in value.items():
            yield from walk(member, f"{place}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, f"{place}/{index}")


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield every example: its place, its schema and itself."""
    for place, each in walk(DESCRIPTION):
        if "/examples" in place or "/example" in place:
            continue
        if "type" in each and isinstance(each.get("examples"), list):
            for example in each["examples"]:
                yield place, each, example
        elif "schema" in each:
            if "example" in each:
                yield place, each["schema"], each["example"]
            for name, example in each.get("examples", {}).items():
                yield f"{place}/{name}", each["schema"], example["value"]


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of every schema."""
    for name, schema in SCHEMAS.items():
        for key, field in schema.get("properties", {}).items():
            yield f"{name}.{key}", field


def test_is_valid() -> None:
    validate(DESCRIPTION)


def test_describes_every_endpoint() -> None:
    assert {(method, path) for path, item in DESCRIPTION["paths"].items() for method in item} - {
        ("parameters", "/environments/{uuid}/"),
        ("parameters", "/files/{uuid}/{path}/"),
    } == {
        ("get", "/specifications/"),
        ("get", "/usages/"),
        ("get", "/libraries/"),
        ("get", "/environments/{uuid}/"),
        ("head", "/environments/{uuid}/"),
        ("get", "/files/{uuid}/{path}/"),
        ("head", "/files/{uuid}/{path}/"),
        ("post", "/execute/"),
        ("post", "/loader/fr/"),
        ("post", "/loader/demo/pl/"),
        ("post", "/loader/play/pl/"),
        ("post", "/exec/"),
    }


@pytest.mark.parametrize(("place", "schema", "example"), [*examples()])
def test_example_is_valid(place: str, schema: dict[str, Any], example: Any) -> None:
    validator(schema).validate(example)


def test_there_are_examples() -> None:
    assert len([*examples()]) > 90


@pytest.mark.parametrize(("name", "field"), [*fields()])
def test_field_is_described_with_an_example(name: str, field: dict[str, Any]) -> None:
    assert field.get("description", "").strip().endswith("."), name
    target = resolve(field)
    if target.get("type") == "string" and target.get("format") == "binary":
        return
    # Objects are made of fields, which have their own.
    assert target.get("examples") or target.get("properties"), name


@pytest.mark.parametrize(("place", "schema"), [*walk(SCHEMAS)])
def test_number_has_a_unit(place: str, schema: dict[str, Any]) -> None:
    kinds = schema.get("type")
    if kinds in ("integer", "number") or (
        isinstance(kinds, list) and {"integer", "number"} & set(kinds)
    ):
        units = ("bytes", "MHz", "second", "count", "ratio", "exit code", "error", "packets")
        assert any(unit in schema["description"] for unit in units), place


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
        schema = resolve(schema)
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
