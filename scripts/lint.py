"""Check a description against the house's rules: `python -m scripts.lint`.

Each rule yields a line for each place that breaks it, in every version that openapi/ describes.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from .description import ADD_ONS, describe, overlays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Document = dict[str, Any]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
UNIT = re.compile(
    r"\b(bytes|(micro|milli)?seconds?|MHz|counts?|ratio|exit codes?|packets per second)\b"
)


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Document]]:
    """Yield every object of a description, with its place; not what is inside of examples."""
    if isinstance(value, dict):
        yield place, value
        for key, member in value.items():
            if key not in ("example", "examples") or place.endswith("/properties"):
                yield from walk(member, f"{place}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, f"{place}/{index}")


def resolve(document: Document, value: Document) -> Document:
    """Follow a reference."""
    while reference := value.get("$ref"):
        value = document
        for key in reference.removeprefix("#/").split("/"):
            value = value[key]
    return value


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield every operation, with its place."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def is_sentence(text: object) -> bool:
    """Tell whether a text says something, and ends."""
    return isinstance(text, str) and text.strip().endswith(".")


def is_valid(document: Document) -> Iterator[str]:
    """Look whether it keeps the standard."""
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message.splitlines()[0]}"


def operations_are_named(document: Document) -> Iterator[str]:
    """Every operation has an id that can be a Python function, and no other has."""
    names = Counter(operation.get("operationId") for _, operation in operations(document))
    for place, operation in operations(document):
        name = operation.get("operationId", "")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
            yield f"{place}: operationId must be a name like download_file, not {name!r}"
        elif names[name] > 1:
            yield f"{place}: another operation is called {name}, too"


def operations_are_described(document: Document) -> Iterator[str]:
    """Every operation and answer is described, and every operation has a tag that is."""
    tags = {tag["name"] for tag in document.get("tags", ())}
    for place, operation in operations(document):
        for key in ("summary", "description"):
            if not is_sentence(operation.get(key)):
                yield f"{place}: needs a {key}, a sentence"
        if not operation.get("tags") or not set(operation["tags"]) <= tags:
            yield f"{place}: needs tags, each listed at the top"
        for status, answer in operation.get("responses", {}).items():
            if not is_sentence(resolve(document, answer).get("description")):
                yield f"{place}: answer {status} needs a description, a sentence"


def fields(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield every field, parameter and header, with its place."""
    for place, each in walk(document):
        if place.endswith("/properties"):
            for name, field in each.items():
                yield f"{place.removesuffix('/properties')}.{name}", field
        elif re.fullmatch(r"/components/(parameters|headers)/\w+", place):
            yield place, each


def fields_are_described(document: Document) -> Iterator[str]:
    """Every field is described."""
    for place, field in fields(document):
        if not is_sentence(field.get("description")):
            yield f"{place}: needs a description, a sentence"


def fields_have_examples(document: Document) -> Iterator[str]:
    """Every field has an example, but files, and objects whose fields have their own."""
    for place, field in fields(document):
        target = resolve(document, field)
        if target.get("format") != "binary" and not (
            {"example", "examples", "properties"} & (field.keys() | target.keys())
        ):
            yield f"{place}: needs an example"


def numbers_have_units(document: Document) -> Iterator[str]:
    """See that the description of every number names its unit."""
    places = dict(walk(document))
    for place, each in places.items():
        kinds = each.get("type", ())
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not {"integer", "number"} & {kind for kind in kinds if isinstance(kind, str)}:
            continue
        # What a header or parameter is, is said of it and not of its schema.
        described = places[place.removesuffix("/schema")]
        if not UNIT.search(described.get("description", "")):
            yield f"{place}: the description must name the unit, such as seconds, bytes or a count"


def examples(document: Document) -> Iterator[tuple[str, Document, Any]]:
    """Yield every example: its place, its schema and itself."""
    for place, each in walk(document):
        if "type" in each and isinstance(each.get("examples"), list):
            for index, example in enumerate(each["examples"]):
                yield f"{place}/examples/{index}", each, example
        elif isinstance(each.get("schema"), dict):
            if "example" in each:
                yield f"{place}/example", each["schema"], each["example"]
            for name, example in each.get("examples", {}).items():
                yield f"{place}/examples/{name}", each["schema"], example["value"]


def examples_are_valid(document: Document) -> Iterator[str]:
    """Every example keeps its schema."""
    for place, schema, example in examples(document):
        whole = {"components": document.get("components", {}), **schema}
        try:
            Draft202012Validator(whole, format_checker=FormatChecker()).validate(example)
        except ValidationError as error:
            yield f"{place}: {error.message.splitlines()[0]}"


def components_are_used(document: Document) -> Iterator[str]:
    """Nothing is described that nothing refers to."""
    used = {each["$ref"] for _, each in walk(document) if "$ref" in each}
    for kind, members in document.get("components", {}).items():
        for name in members:
            # The answers' texts speak of it; in JSON it is a number.
            if f"#/components/{kind}/{name}" not in used and name != "SandboxErrCode":
                yield f"/components/{kind}/{name}: nothing refers to it"


RULES: tuple[Callable[[Document], Iterable[str]], ...] = (
    is_valid,
    operations_are_named,
    operations_are_described,
    fields_are_described,
    fields_have_examples,
    numbers_have_units,
    examples_are_valid,
    components_are_used,
)


def lint(document: Document) -> list[str]:
    """Return a line for each place that breaks a rule, with the rule's name."""
    return [f"{line} [{rule.__name__}]" for rule in RULES for line in rule(document)]


def main() -> None:
    """Run as a script."""
    lines = lint(describe(*ADD_ONS))
    for name in overlays():
        lines += [f"{name}: {line}" for line in lint(describe(name)) if line not in lines]
    if lines:
        sys.exit("openapi/ breaks rules (scripts/lint.py says why):\n  " + "\n  ".join(lines))


if __name__ == "__main__":
    main()
