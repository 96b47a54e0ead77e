"""Requests made from the description, and answers held against it: schemathesis' part."""

from __future__ import annotations

import copy
import io
import re
import tarfile
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import schemathesis
from hypothesis import HealthCheck, strategies
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks
from schemathesis.transport.serialization import Binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .wire import Wire

Document = dict[str, Any]

CHECKS = (
    ("status codes", "status_code_conformance"),
    ("headers", "content_type_conformance"),
    ("headers", "response_headers_conformance"),
    ("body schema", "response_schema_conformance"),
)

PATH = r"^[a-z]{1,8}(/[a-z]{1,8}){0,2}$"


def _archive(names: set[str]) -> Binary:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name in sorted(names):
            file.addfile(tarfile.TarInfo(name))
    # The time in its head would make it another one each time.
    data = stream.getvalue()
    return Binary(data[:4] + bytes(4) + data[8:])


NAMES = strategies.from_regex(r"[a-z]{1,8}", fullmatch=True)
schemathesis.openapi.format(
    "sandbox-archive", strategies.sets(NAMES, min_size=1, max_size=3).map(_archive)
)


def harmless(document: Document) -> Document:
    """Return a description of those requests that do nothing to a server.

    Commands that end at once, in place of any text; nothing is stored.
    """
    safe = copy.deepcopy(document)
    schemas = safe["components"]["schemas"]
    config = schemas["ExecuteConfig"]["properties"]
    command = {"type": "string", "enum": ["true", "-false", "echo $((1+1))", "exit 3"]}
    config["commands"] |= {"maxItems": 3}
    config["commands"]["items"]["anyOf"][0] = command
    config["environ"] = {"type": "object", "propertyNames": {"pattern": "^[A-Z]{1,8}$"}}
    config["environ"] |= {"additionalProperties": {"type": ["string", "integer", "boolean"]}}
    config["environment"] = {"type": "null"}
    config["result_path"] |= {"pattern": PATH}
    config["save"] |= {"const": False}
    schemas["ExecuteConfig"]["additionalProperties"] = False
    schemas["Command"]["properties"]["command"] = command
    schemas["Command"]["properties"]["timeout"] |= {"minimum": 1, "maximum": 5}
    form = schemas["ExecuteForm"]
    form["properties"]["environment"] = {"type": "string", "format": "sandbox-archive"}
    form["additionalProperties"] = False
    parameters = safe["components"]["parameters"]
    parameters["FilePath"]["schema"]["pattern"] = PATH
    return safe


class Described:
    """A description, with what it says of requests and of answers."""

    def __init__(self, document: Document) -> None:
        load_all_checks()
        self.document = document
        schema: Any = schemathesis.openapi.from_dict(harmless(document))
        self.operations: dict[str, Any] = {}
        """What schemathesis knows of each operation, by its id."""
        for result in schema.get_all_operations():
            operation = result.ok()
            self.operations[operation.definition.raw["operationId"]] = operation

    def aspects(self, name: str) -> frozenset[str]:
        """Return what there is to look at of an operation."""
        operation = self.operations[name]
        if operation.method == "head":
            return frozenset({"status codes", "headers"})
        found = {"status codes", "headers", "examples", "error bodies"}
        success = operation.definition.raw["responses"]["200"]
        if "application/json" in success.get("content", {}):
            found.add("body schema")
        return frozenset(found)

    def examples(self, name: str, most: int) -> list[Any]:
        """Return some requests of an operation, the same in each run."""
        found: list[Any] = []

        @hypothesis.settings(
            max_examples=most,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        @hypothesis.given(
            self.operations[name].as_strategy(generation_mode=GenerationMode.POSITIVE)
        )
        def collect(case: Any) -> None:
            found.append(case)

        collect()
        return found[:most]

    def request(self, case: Any, wire: Wire) -> httpx.Request:
        """Return a generated case as a request."""
        arguments = case.as_transport_kwargs(base_url=wire.address)
        files = [
            (name, (f"{name}.tgz" if name == "environment" else None, *content[1:]))
            for name, content in arguments.get("files") or ()
        ]
        return wire.request(arguments["method"], arguments["url"], files=files or None)

    def faults(self, name: str, response: httpx.Response) -> Iterator[tuple[str, str | None]]:
        """Yield, for each aspect, how an answer contradicts the description, or None."""
        operation = self.operations[name]
        # Which they were makes no difference to what the answer may be.
        names = re.findall(r"\{(\w+)\}", operation.path)
        case = operation.Case(path_parameters=dict.fromkeys(names, "x"))
        for aspect, check in CHECKS:
            if aspect not in self.aspects(name):
                continue
            if aspect == "body schema" and response.status_code != 200:
                continue
            try:
                case.validate_response(response, checks=[getattr(checks, check)])
            except FailureGroup as group:
                yield aspect, "; ".join(_sentence(each) for each in group.exceptions)
                return  # what comes of one fault need not be told as another
            yield aspect, None
        if "error bodies" in self.aspects(name) and response.status_code >= 400:
            yield "error bodies", _error(response)

    def undescribed(self, name: str, response: httpx.Response) -> Iterator[str]:
        """Yield the members of an answer that the description does not know, which it may have."""
        content = self.operations[name].definition.raw["responses"]["200"].get("content", {})
        if response.status_code != 200 or "application/json" not in content:
            return
        try:
            body = response.json()
        except ValueError:
            return
        yield from self._unknown(content["application/json"]["schema"], body, "")

    def _unknown(self, schema: Document, value: Any, place: str) -> Iterator[str]:
        schema = self._resolve(schema)
        properties = schema.get("properties", {})
        if isinstance(value, dict) and properties:
            for key, member in cast("Document", value).items():
                inner = f"{place}.{key}" if place else key
                if key in properties:
                    yield from self._unknown(properties[key], member, inner)
                else:
                    yield inner
        elif isinstance(value, list) and "items" in schema:
            for item in cast("Any", value):
                yield from self._unknown(schema["items"], item, f"{place}[]")

    def _resolve(self, schema: Document) -> Document:
        """Follow references."""
        while reference := schema.get("$ref"):
            schema = self.document
            for key in reference.removeprefix("#/").split("/"):
                schema = schema[key]
        return schema


def _sentence(failure: Any) -> str:
    place = "".join(f"/{step}" for step in getattr(failure, "instance_path", ()))
    first = failure.message.strip().partition("\n\n")[0].replace("\n", " ")[:200]
    return f"{failure.title}{f' at {place}' if place else ''}: {first}"


def _error(response: httpx.Response) -> str | None:
    if response.status_code == 405:
        return "has a body, and should be empty" if response.content else None
    return None if response.text.strip() else "is empty, and should say what is wrong"
