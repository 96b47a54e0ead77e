# ruff: noqa: E501 (a table)
"""What changes in a description is told as what it means for one who writes Python."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.compare import compare, find
from scripts.description import describe

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
DESCRIPTION = describe("loader")
SCHEMAS = ("components", "schemas")
RESULT = (*SCHEMAS, "CommandResult")
CONFIG = (*SCHEMAS, "ExecuteConfig")
EXECUTE = ("paths", "/execute/", "post")
NEW = {"type": "integer", "description": "Memory at most, in bytes."}


def at(*keys: str, to: Any = ...) -> Callable[[dict[str, Any]], None]:
    """Return what sets a member of a description, or removes it, or changes it by a function."""

    def change(document: dict[str, Any]) -> None:
        holder: Any = document
        for key in keys[:-1]:
            holder = holder[key]
        if to is ...:
            del holder[keys[-1]]
        else:
            holder[keys[-1]] = to(holder[keys[-1]]) if callable(to) else to

    return change


def field(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    return at(*keys[:-1], "properties", keys[-1], to=to)


def without(name: str) -> Callable[[list[str]], list[str]]:
    return lambda names: [each for each in names if each != name]


def both(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for each in changes:
            each(document)

    return change


def renamed(document: dict[str, Any]) -> None:
    document["paths"]["/usage/"] = document["paths"].pop("/usages/")


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], list[str]]] = {
    # What is read
    "field gone": (
        both(at(*RESULT, "properties", "time"), at(*RESULT, "required", to=without("time"))),
        ["**Breaking:** `CommandResult.time` is gone."],
    ),
    "field new": (
        field(*RESULT, "memory", to=NEW),
        ["`CommandResult.memory` is new: Memory at most, in bytes."],
    ),
    "field optional": (
        at(*RESULT, "required", to=without("time")),
        ["**Breaking:** `CommandResult.time` need not be there any more."],
    ),
    "field always there": (
        at(*RESULT, "required", to=lambda names: [*names, "exceeded"]),
        ["`CommandResult.exceeded` is always there."],
    ),
    "field null": (
        field(*RESULT, "stdout", to={"type": ["string", "null"]}),
        ["**Breaking:** `CommandResult.stdout` can be `None`."],
    ),
    "field never null": (
        field(*SCHEMAS, "HostCpu", "core", to={"type": "integer"}),
        ["`HostCpu.core` is never `None` any more."],
    ),
    "type narrowed": (
        field(*RESULT, "time", to={"type": "integer"}),
        ["`CommandResult.time` is `int`, and was `float`."],
    ),
    "type widened": (
        field(*RESULT, "exit_code", to={"type": "number"}),
        ["**Breaking:** `CommandResult.exit_code` is `float`, and was `int`."],
    ),
    "type changed": (
        field(*RESULT, "exit_code", to={"type": "string"}),
        ["**Breaking:** `CommandResult.exit_code` is `str`, and was `int`."],
    ),
    "format gone": (
        field(*SCHEMAS, "ExecutionResult", "expire", to={"type": "string"}),
        ["**Breaking:** `ExecutionResult.expire` is `str`, and was `datetime`."],
    ),
    "list of others": (
        field(*SCHEMAS, "Libraries", "bin", to={"type": "array", "items": {"type": "integer"}}),
        ["**Breaking:** `Libraries.bin` is `list[int]`, and was `list[str]`."],
    ),
    "map of others": (
        at(*SCHEMAS, "DeviceBytes", "additionalProperties", "type", to="number"),
        ["**Breaking:** `DeviceBytes[*]` is `float`, and was `int`."],
    ),
    "another model": (
        field(*SCHEMAS, "Usage", "io", to={"$ref": "#/components/schemas/NetworkUsage"}),
        ["**Breaking:** `Usage.io` is `NetworkUsage`, and was `IoUsage`."],
    ),
    "code gone": (
        at(*SCHEMAS, "SandboxErrCode", "enum", to=[-1, -2, -3]),
        ["**Breaking:** `SandboxErrCode` is never -4 any more."],
    ),
    "code new": (
        at(*SCHEMAS, "SandboxErrCode", "enum", to=[-1, -2, -3, -4, -5]),
        ["`SandboxErrCode` can be -5."],
    ),
    "only the texts": (field(*RESULT, "time", to=lambda old: old | {"description": "x"}), []),
    # What is sent
    "option new": (
        field(*CONFIG, "memory", to=NEW),
        ["`ExecuteConfig.memory` is new: Memory at most, in bytes."],
    ),
    "option needed": (
        both(field(*CONFIG, "memory", to=NEW), at(*CONFIG, "required", to=["commands", "memory"])),
        ["**Breaking:** `ExecuteConfig.memory` must be given: Memory at most, in bytes."],
    ),
    "option gone": (
        at(*CONFIG, "properties", "save"),
        ["**Breaking:** `ExecuteConfig.save` is gone."],
    ),
    "option must be given": (
        at(*CONFIG, "required", to=["commands", "save"]),
        ["**Breaking:** `ExecuteConfig.save` is always there."],
    ),
    "option may be left out": (
        at(*CONFIG, "required", to=[]),
        ["`ExecuteConfig.commands` need not be there any more."],
    ),
    "option not null": (
        field(*CONFIG, "environment", to=lambda old: old | {"anyOf": old["anyOf"][:2]}),
        ["**Breaking:** `ExecuteConfig.environment` is never `None` any more."],
    ),
    "option null": (
        field(*CONFIG, "save", to={"type": ["boolean", "null"]}),
        ["`ExecuteConfig.save` can be `None`."],
    ),
    "option narrowed": (
        at(*SCHEMAS, "Command", "properties", "timeout", "type", to="integer"),
        ["**Breaking:** `Command.timeout` is `int`, and was `float`."],
    ),
    "option bound": (
        at(*SCHEMAS, "Command", "properties", "timeout", "minimum", to=1),
        ["**Breaking:** `Command.timeout` is bound, to 1 (minimum)."],
    ),
    "option unbound": (
        at(*CONFIG, "properties", "result_path", "pattern"),
        ["`ExecuteConfig.result_path` is bound no longer (pattern)."],
    ),
    "no other options": (
        at(*CONFIG, "additionalProperties", to=False),
        ["**Breaking:** `ExecuteConfig` takes no other members."],
    ),
    "other options": (
        at(*SCHEMAS, "Command", "additionalProperties"),
        ["`Command` takes other members, too."],
    ),
    # Operations
    "operation gone": (
        at("paths", "/libraries/"),
        ["**Breaking:** `libraries()` (GET /libraries/) is gone."],
    ),
    "operation new": (
        at("paths", "/health/", to={"get": {"operationId": "health", "summary": "Whether it is well.", "responses": {}}}),
        ["`health()` is new: GET /health/. Whether it is well."],
    ),
    "operation renamed": (
        at("paths", "/usages/", "get", "operationId", to="load_now"),
        ["**Breaking:** `usage()` (GET /usages/) is gone.", "`load_now()` is new: GET /usages/. The server's current load."],
    ),
    "path moved": (renamed, ["`usage()` asks GET /usage/, no longer GET /usages/."]),
    "parameter new": (
        at("paths", "/usages/", "get", "parameters", to=[{"name": "wait", "in": "query", "schema": {"type": "number"}}]),
        ["`usage()` takes `wait`."],
    ),
    "parameter needed": (
        at("paths", "/usages/", "get", "parameters", to=[{"name": "wait", "in": "query", "required": True, "schema": {"type": "number"}}]),
        ["**Breaking:** `usage()` needs `wait`."],
    ),
    "parameter retyped": (
        at("components", "parameters", "EnvironmentId", "schema", to={"type": "integer"}),
        [f"**Breaking:** `{name}(uuid)` is `int`, and was `UUID`." for name in ("check_environment", "check_file", "download_environment", "download_file")],
    ),
    "status new": (
        at(*EXECUTE, "responses", "429", to={"description": "Too often."}),
        ["`execute()` can be answered 429: Too often."],
    ),
    "status gone": (at(*EXECUTE, "responses", "503"), ["`execute()` is no longer answered 503."]),
    "success gone": (
        at(*EXECUTE, "responses", "200"),
        ["**Breaking:** `execute()` is no longer answered 200."],
    ),
    "another answer": (
        at("paths", "/usages/", "get", "responses", "200", "content", "application/json", "schema", "$ref", to="#/components/schemas/IoUsage"),
        ["**Breaking:** `usage() 200` is `IoUsage`, and was `Usage`."],
    ),
    "another media type": (
        at("paths", "/usages/", "get", "responses", "200", "content", to={"text/csv": {}}),
        ["**Breaking:** `usage()` is answered with text/csv, no longer application/json."],
    ),
    "header gone": (
        at("paths", "/environments/{uuid}/", "head", "responses", "200", "headers", "Content-Length"),
        ["**Breaking:** `Content-Length` is gone from the answer 200 of `check_environment()`."],
    ),
    "schema new": (at(*SCHEMAS, "Health", to={"description": "Health."}), ["`Health` is new. Health."]),
    "schema gone": (at(*SCHEMAS, "LoaderAnswer"), ["**Breaking:** `LoaderAnswer` is gone."]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_change(name: str) -> None:
    changed, lines = CHANGES[name]
    new = copy.deepcopy(DESCRIPTION)
    changed(new)
    if name == "schema gone":  # nothing may refer to what is not there
        for path in [path for path in new["paths"] if "loader" in str(new["paths"][path])]:
            del new["paths"][path]
        found = [str(each) for each in compare(DESCRIPTION, new) if "()" not in str(each)]
    else:
        found = [str(each) for each in compare(DESCRIPTION, new)]
    assert found == lines


def test_nothing_changed() -> None:
    assert compare(DESCRIPTION, copy.deepcopy(DESCRIPTION)) == []


def test_command() -> None:
    words = [sys.executable, "-m", "scripts.compare"]
    done = subprocess.run(
        [*words, "now", "2.0"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "- **Breaking:** `ExecutionResult.expire` is `str`, and was `datetime`.\n"
    with pytest.raises(ValueError, match="is no file, overlay or revision"):
        find("nothing")
