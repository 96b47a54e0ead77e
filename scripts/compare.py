"""Compare two descriptions, as one who writes Python sees them.

python -m scripts.compare OLD NEW    a file, an overlay's name, a revision of git, or "now"

What a user reads (answers) and what a user sends (requests) break in opposite directions: a field
that becomes optional is `None` sometimes where it is read, and no harm where it is sent. The
differs that there are (oasdiff) judge HTTP, are not on PyPI, or are not kept; this is about Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from .description import ADD_ONS, describe, load, overlays
from .lint import operations, resolve, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

Document = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = "generated/sandbox_client/openapi.json"

ATOMS = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "null": "None",
    "object": "dict",
}
FORMATS = {"uuid": "UUID", "date-time": "datetime", "binary": "bytes"}
BOUNDS = (
    *("pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "const"),
)


@frozen(order=True)
class Change:
    """One thing that is not as it was."""

    compatible: bool
    """Whether code that was written before goes on as it did."""

    what: str
    """What changed, as a line of a changelog."""

    def __str__(self) -> str:
        return self.what if self.compatible else f"**Breaking:** {self.what}"


def find(name: str) -> Document:
    """Return the description in a file, with an overlay, in a revision of git, or of now.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "now":
        return describe(*ADD_ONS)
    if name in overlays():
        return describe(name, *ADD_ONS)
    if Path(name).is_file():
        found: Document = load(Path(name))
        return found
    shown = subprocess.run(
        ["git", "show", f"{name}:{BUNDLE}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if shown.returncode:
        raise ValueError(f"{name!r} is no file, overlay or revision of git with a description")
    document: Document = json.loads(shown.stdout)
    return document


def compare(old: Document, new: Document) -> list[Change]:
    """Return all that changed, what breaks first."""
    return sorted({*_operations(old, new), *_schemas(old, new)})


def _operations(old: Document, new: Document) -> Iterator[Change]:
    were, are = _by_name(old), _by_name(new)
    for name in were.keys() - are.keys():
        yield Change(False, f"`{name}()` ({were[name][0]}) is gone.")
    for name in are.keys() - were.keys():
        place, operation = are[name]
        yield Change(True, f"`{name}()` is new: {place}. {operation.get('summary', '')}".strip())
    for name in were.keys() & are.keys():
        (was, one), (is_, other) = were[name], are[name]
        if was != is_:
            yield Change(True, f"`{name}()` asks {is_}, no longer {was}.")
        yield from _parameters(name, _inputs(old, was, one), _inputs(new, is_, other))
        yield from _answers(
            name,
            {key: resolve(old, answer) for key, answer in one["responses"].items()},
            {key: resolve(new, answer) for key, answer in other["responses"].items()},
            old,
            new,
        )


def _by_name(document: Document) -> dict[str, tuple[str, Document]]:
    return {each["operationId"]: (place, each) for place, each in operations(document)}


def _inputs(document: Document, place: str, operation: Document) -> dict[str, Document]:
    """Return the parameters of an operation, its path's too."""
    item = document["paths"][place.partition(" ")[2]]
    given = [*item.get("parameters", ()), *operation.get("parameters", ())]
    return {each["name"]: each for each in (resolve(document, one) for one in given)}


def _parameters(name: str, old: dict[str, Document], new: dict[str, Document]) -> Iterator[Change]:
    for key in old.keys() - new.keys():
        yield Change(False, f"`{name}()` takes no `{key}` any more.")
    for key in new.keys() - old.keys():
        needed = bool(new[key].get("required"))
        yield Change(not needed, f"`{name}()` {'needs' if needed else 'takes'} `{key}`.")
    for key in old.keys() & new.keys():
        if new[key].get("required") and not old[key].get("required"):
            yield Change(False, f"`{name}()` needs `{key}`.")
        yield from _field(f"{name}({key})", old[key]["schema"], new[key]["schema"], {"sent"})


def _answers(
    name: str, were: Document, are: Document, old: Document, new: Document
) -> Iterator[Change]:
    for status in were.keys() - are.keys():
        gone = f"`{name}()` is no longer answered {status}."
        yield Change(not status.startswith("2"), gone)
    for status in are.keys() - were.keys():
        text = are[status].get("description", "").strip().replace("\n", " ")
        yield Change(True, f"`{name}()` can be answered {status}: {text}")
    for status in were.keys() & are.keys():
        was, is_ = were[status], are[status]
        one, other = was.get("content", {}), is_.get("content", {})
        if status.startswith("2") and one.keys() != other.keys():
            kinds = f"{', '.join(other) or 'nothing'}, no longer {', '.join(one) or 'nothing'}"
            yield Change(False, f"`{name}()` is answered with {kinds}.")
        for kind in one.keys() & other.keys():
            place = f"{name}() {status}"
            yield from _field(
                place, one[kind].get("schema", {}), other[kind].get("schema", {}), {"read"}
            )
        for header, value in was.get("headers", {}).items():
            there = is_.get("headers", {}).get(header)
            needed = resolve(old, value).get("required")
            if needed and (there is None or not resolve(new, there).get("required")):
                what = "is gone from" if there is None else "may be missing in"
                yield Change(False, f"`{header}` {what} the answer {status} of `{name}()`.")


def directions(document: Document) -> dict[str, set[str]]:
    """Return which schemas are read and which are sent, through whatever refers to them."""
    found: dict[str, set[str]] = {}

    def follow(value: Any, direction: str) -> None:
        for _, each in walk(value):
            if reference := each.get("$ref"):
                kind, _, name = reference.removeprefix("#/components/").partition("/")
                if direction not in found.setdefault(f"{kind}/{name}", set()):
                    found[f"{kind}/{name}"].add(direction)
                    follow(document["components"][kind][name], direction)

    for item in document["paths"].values():
        follow(item.get("parameters", []), "sent")
    for _, operation in operations(document):
        follow([operation.get("parameters", []), operation.get("requestBody", {})], "sent")
        follow(operation["responses"], "read")
    kinds = "schemas/"
    return {
        name.removeprefix(kinds): ways for name, ways in found.items() if name.startswith(kinds)
    }


def _schemas(old: Document, new: Document) -> Iterator[Change]:
    were, are = old["components"]["schemas"], new["components"]["schemas"]
    used = directions(old)
    for name, ways in directions(new).items():
        used[name] = used.get(name, set()) | ways
    for name in were.keys() - are.keys():
        yield Change(False, f"`{name}` is gone.")
    for name in are.keys() - were.keys():
        text = are[name].get("description", "").strip().replace("\n", " ")
        yield Change(True, f"`{name}` is new. {text}".strip())
    for name in were.keys() & are.keys():
        # What only code speaks of (the codes of errors) is read.
        yield from _field(name, were[name], are[name], used.get(name) or {"read"})


def types(schema: Document) -> set[str]:
    """Return what a value can be in Python."""
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    if "anyOf" in schema or "oneOf" in schema:
        choices: list[Document] = schema.get("anyOf") or schema["oneOf"]
        return {atom for each in choices for atom in types(each)}
    kinds = schema.get("type", [])
    found: set[str] = set()
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind == "array":
            found.add(f"list[{' | '.join(sorted(types(schema.get('items', {}))))}]")
        elif kind == "string":
            found.add(FORMATS.get(schema.get("format", ""), "str"))
        else:
            found.add(ATOMS[kind])
    return found or {"Any"}


def _field(place: str, old: Document, new: Document, ways: set[str]) -> Iterator[Change]:
    """Yield how a value changed: its type, what it may be, and its members."""
    were, are = types(old), types(new)
    if were != are:
        yield _retyped(place, were, are, ways)
    for bound in BOUNDS:
        if old.get(bound) != new.get(bound) and "sent" in ways:
            # It may have been widened; who is to know that of a pattern?
            loose = bound not in new
            what = "is bound no longer" if loose else f"is bound, to {new.get(bound)!r}"
            yield Change(loose, f"`{place}` {what} ({bound}).")
    yield from _values(place, old.get("enum"), new.get("enum"), ways)
    yield from _members(place, old, new, ways)
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        inner = [*_field(f"{place}[]", old["items"], new["items"], ways)]
        # That the list's type changed says it already.
        yield from (each for each in inner if were == are or " is " not in each.what)
    one, other = (each.get("additionalProperties", True) for each in (old, new))
    if isinstance(one, dict) and isinstance(other, dict):
        yield from _field(f"{place}[*]", one, other, ways)
    elif "sent" in ways and (one is False) != (other is False):
        what = "no other members" if other is False else "other members, too"
        yield Change(other is not False, f"`{place}` takes {what}.")


def _retyped(place: str, were: set[str], are: set[str], ways: set[str]) -> Change:
    wide_were, wide_are = _wide(were), _wide(are)
    compatible = ("read" not in ways or wide_are <= wide_were) and (
        "sent" not in ways or wide_were <= wide_are
    )
    if were - {"None"} == are - {"None"}:
        what = "can be `None`" if "None" in are else "is never `None` any more"
        return Change(compatible, f"`{place}` {what}.")
    is_, was = (" | ".join(sorted(each, key=lambda a: (a == "None", a))) for each in (are, were))
    return Change(compatible, f"`{place}` is `{is_}`, and was `{was}`.")


def _wide(atoms: set[str]) -> set[str]:
    """Return types with those that go for them: an int does where a float is wanted."""
    if "Any" in atoms:
        return {"Any", *ATOMS.values(), *FORMATS.values(), *atoms}
    return atoms | ({"int"} if "float" in atoms else set())


def _values(
    place: str, old: list[Any] | None, new: list[Any] | None, ways: set[str]
) -> Iterator[Change]:
    if old is not None and new is not None:
        for value in old:
            if value not in new:
                yield Change(False, f"`{place}` is never {value!r} any more.")
        yield from (
            Change(True, f"`{place}` can be {value!r}.") for value in new if value not in old
        )
    elif old != new:
        what = f"is one of {new}" if new is not None else "can be any value"
        yield Change(ways == {"read" if new is not None else "sent"}, f"`{place}` {what}.")


def _members(place: str, old: Document, new: Document, ways: set[str]) -> Iterator[Change]:
    were, are = old.get("properties", {}), new.get("properties", {})
    needed, needs = set(old.get("required", ())), set(new.get("required", ()))
    for key in were.keys() - are.keys():
        yield Change(False, f"`{place}.{key}` is gone.")
    for key in are.keys() - were.keys():
        text = are[key].get("description", "").strip().replace("\n", " ")
        must = "sent" in ways and key in needs
        what = "must be given" if must else "is new"
        yield Change(not must, f"`{place}.{key}` {what}: {text}")
    for key in were.keys() & are.keys():
        inner = f"{place}.{key}"
        if key in needed - needs:
            yield Change("read" not in ways, f"`{inner}` need not be there any more.")
        if key in needs - needed:
            yield Change("sent" not in ways, f"`{inner}` is always there.")
        yield from _field(inner, were[key], are[key], ways)


def main() -> None:
    """Run as a script."""
    if len(sys.argv) != 3:
        sys.exit((__doc__ or "").strip())
    try:
        old, new = map(find, sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
    for change in compare(old, new):
        print(f"- {change}")


if __name__ == "__main__":
    main()
