"""Models: frozen attrs classes and real dictionaries at once."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import pprint
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import attrs
import pytest

from sandbox_api import (
    Command,
    CommandResult,
    ExecuteConfig,
    ExecutionResult,
    Libraries,
    SandboxErrCode,
    Specifications,
    Usage,
    enums,
)
from sandbox_api.utils import validate, validate_command
from sandbox_client.errors import DescriptionError

SAVED: dict[str, Any] = {
    "status": 0,
    "execution": [
        {"command": "echo kept > kept.txt", "exit_code": 0, "stdout": "", "stderr": "", "time": 0.1}
    ],
    "total_time": 0.2,
    "environment": "6aca4bc6-2382-40d2-87c4-e5f9977ce4db",
    "expire": "2026-11-25T00:08:41.961343+00:00",
    "new_in_a_newer_server": [1, {"a": None}],
}


# Paths that name a file, the longest that there can be among them.
PATHS = [
    "a",
    ".a",
    "a..",
    "...",
    "a/.b",
    "../a",
    "./a",
    "a/../b",
    "é" * 127 + "x",
    "a/" * 2047 + "b",
]
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


def result(**members: Any) -> ExecutionResult:
    return ExecutionResult.from_dict({**SAVED, **members})


def test_is_the_dictionary_it_was_read_from() -> None:
    saved = result()
    assert isinstance(saved, dict)
    assert saved == SAVED
    assert list(saved) == list(SAVED)
    assert saved["execution"][0]["stdout"] == ""
    assert saved["environment"] == SAVED["environment"]
    assert "environment" in saved
    assert "result" not in saved
    assert saved.get("result", "") == ""
    assert saved["new_in_a_newer_server"] == [1, {"a": None}]
    assert json.loads(json.dumps(saved)) == SAVED
    assert dict(**saved) == SAVED
    assert repr(saved) == repr(SAVED)
    with pytest.raises(KeyError):
        saved["result"]


def test_has_typed_attributes() -> None:
    saved = result()
    assert saved.environment == UUID("6aca4bc6-2382-40d2-87c4-e5f9977ce4db")
    assert saved.expire == datetime(2026, 11, 25, 0, 8, 41, 961343, UTC)
    assert saved.result is None
    assert saved.execution[0].command == "echo kept > kept.txt"
    assert attrs.has(ExecutionResult)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        saved.status = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        _ = saved.no_such_field  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25T00:08:41.961343+00:00", datetime(2026, 11, 25, 0, 8, 41, 961343, UTC)),
        ("2026-11-25T00:08:41.961343", datetime(2026, 11, 25, 0, 8, 41, 961343, UTC)),
        ("20190705T130535Z", datetime(2019, 7, 5, 13, 5, 35, tzinfo=UTC)),
        (
            "2026-11-25T00:08:41+02:00",
            datetime(2026, 11, 25, 0, 8, 41, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_reads_dates_of_all_server_versions(text: str, moment: datetime) -> None:
    expire = result(expire=text).expire
    assert expire == moment
    assert expire.utcoffset() == moment.utcoffset()


@pytest.mark.parametrize("text", ["9999-12-31T24:00:00", "9999-W52-7", "0000-01-01", "soon"])
def test_date_that_no_calendar_has(text: str) -> None:
    with pytest.raises(DescriptionError, match="expire: must be a date and time, not '"):
        result(expire=text)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_can_be_copied_and_pickled(again: Any) -> None:
    saved = result()
    twin = again(saved)
    assert type(twin) is ExecutionResult
    assert twin == saved
    assert twin.execution[0].time == 0.1
    assert twin.expire == saved.expire


def test_prints_as_the_servers_json(recordings: dict[str, Any]) -> None:
    models: dict[str, type[Specifications | Usage]] = {
        "specifications": Specifications,
        "usages": Usage,
    }
    for name, model in models.items():
        data = recordings[name]["json"]
        printed, expected = io.StringIO(), io.StringIO()
        pprint.pp(model.from_dict(data), stream=printed)
        pprint.pp(data, stream=expected)
        assert printed.getvalue() == expected.getvalue()


def test_reads_what_the_real_server_sent(recordings: dict[str, Any]) -> None:
    specifications = Specifications.from_dict(recordings["specifications"]["json"])
    assert specifications.host.memory.storage == {"/dev/vda": 270553174016}
    assert specifications["host"]["memory"]["storage"] == {"/dev/vda": 270553174016}
    assert specifications.container.count == 20
    usage = Usage.from_dict(recordings["usages"]["json"])
    assert [usage["cpu"]["usage"]] + usage["cpu"]["usage_avg"] == [
        usage.cpu.usage,
        *usage.cpu.usage_avg,
    ]
    libraries = Libraries.from_dict(recordings["libraries"]["json"])
    assert libraries.libraries.system["bash"].startswith("5.")
    assert "[" in libraries.bin


def test_accepts_null_where_the_system_does_not_tell(recordings: dict[str, Any]) -> None:
    data = copy.deepcopy(recordings["specifications"]["json"])
    data["host"]["cpu"].update(core=None, logical=None)
    assert Specifications.from_dict(data).host.cpu.core is None


MANY = 100
COMMAND = {"command": "true", "exit_code": 0, "stdout": "", "stderr": "", "time": 0.1}


def test_many_alike_are_as_one_by_one() -> None:
    commands: list[dict[str, Any]] = [
        {**COMMAND, "exit_code": number, "stdout": str(number), "time": number / 2 or 0}
        for number in range(MANY)
    ]
    data = {**SAVED, "execution": commands}
    read = ExecutionResult.from_dict(data).execution
    one_by_one = [CommandResult.from_dict(command) for command in commands]
    assert read == one_by_one == commands
    for many, one in zip(read, one_by_one, strict=True):
        assert type(many) is type(one)
        for name in attrs.fields_dict(CommandResult):
            assert getattr(many, name) == getattr(one, name)
    assert not hasattr(read[0], "new")
    for again in (copy.copy(read[7]), copy.deepcopy(read[7]), pickle.loads(pickle.dumps(read[7]))):
        assert (again, again.stdout, again.exceeded) == (commands[7], "7", None)
    assert attrs.evolve(read[7], stdout="x") == {**commands[7], "stdout": "x"}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read[7].stdout = "x"  # type: ignore[misc]
    # What they were made of is not theirs.
    commands[7]["stdout"] = "changed"
    assert read[7].stdout == read[7]["stdout"] == "7"


@pytest.mark.parametrize(
    "odd",
    [
        {**COMMAND, "exit_code": "0"},
        {**COMMAND, "exit_code": True},
        {**COMMAND, "time": float("nan")},
        {**COMMAND, "time": float("inf")},
        {**COMMAND, "time": 10**400},
        {**COMMAND, "time": True},
        {**COMMAND, "stdout": None},
        {**COMMAND, "stdout_truncated": 1},
        {name: value for name, value in COMMAND.items() if name != "stderr"},
        {**{name: value for name, value in COMMAND.items() if name != "stderr"}, "new": ""},
        None,
        [],
        "true",
    ],
)
@pytest.mark.parametrize("place", [0, MANY // 2, MANY - 1])
def test_odd_one_among_many_is_found(odd: Any, place: int) -> None:
    commands: list[Any] = [dict(COMMAND) for _ in range(MANY)]
    commands[place] = odd
    with pytest.raises(DescriptionError) as caught:
        ExecutionResult.from_dict({**SAVED, "execution": commands})
    assert {fault.place[:2] for fault in caught.value.faults} == {("execution", place)}


def test_numbers_out_of_bounds_that_add_up_to_none_are_found() -> None:
    commands = [{**COMMAND, "time": number} for number in [10**400, -(10**400)] * MANY]
    with pytest.raises(DescriptionError) as caught:
        ExecutionResult.from_dict({**SAVED, "execution": commands})
    assert len(caught.value.faults) == len(commands)


@pytest.mark.parametrize(
    "odd",
    [
        {**COMMAND, "stdout_truncated": True},
        {**COMMAND, "new_in_a_newer_server": 1},
        MappingProxyType(COMMAND),
    ],
)
@pytest.mark.parametrize("place", [0, MANY // 2, MANY - 1])
def test_valid_one_among_many_that_is_other(odd: Any, place: int) -> None:
    commands: list[Any] = [dict(COMMAND) for _ in range(MANY)]
    commands[place] = odd
    read = ExecutionResult.from_dict({**SAVED, "execution": commands}).execution
    assert read == commands
    assert read[place].stdout_truncated is odd.get("stdout_truncated")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1,2", "is not JSON: Expecting ',' delimiter: line 1 column 5 (char 4)"),
        ("", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("\ud800", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('["a", NaN]', "is not JSON: NaN is none of its values: line 1 column 7 (char 6)"),
        ("-Infinity", "is not JSON: -Infinity is none of its values: line 1 column 1 (char 0)"),
    ],
)
def test_result_that_is_not_json(text: str, fault: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        result(result=text).json()
    assert str(caught.value) == f"the result at result_path {fault}"
    assert (caught.value.doc, caught.value.__suppress_context__) == (text, True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 100_000, "it is nested more than 100 deep"),
        ("[" * 101 + "]" * 101, "it is nested more than 100 deep"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_result_that_is_too_much(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"the result at result_path can't be read: {fault}"):
        result(result=text).json()


def test_result_that_is_json() -> None:
    assert result(result="[" * 100 + "]" * 100).json() == json.loads("[" * 100 + "]" * 100)
    assert result(result='{"a": "[[\\ud800"}').json() == {"a": "[[\ud800"}


def test_can_be_made_by_hand() -> None:
    config = ExecuteConfig(
        commands=[Command("make", timeout=3), "-true"], environ={"A": 1}, result_path="out.json"
    )
    assert config == {
        "commands": [{"command": "make", "timeout": 3}, "-true"],
        "environ": {"A": 1},
        "result_path": "out.json",
    }
    assert type(config["commands"][0]) is dict
    made = ExecutionResult(
        0, [], 0.5, environment=UUID(SAVED["environment"]), expire=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert made == {
        "status": 0,
        "execution": [],
        "total_time": 0.5,
        "environment": SAVED["environment"],
        "expire": "2026-01-01T00:00:00+00:00",
    }
    assert ExecutionResult.from_dict(made).expire == made.expire


def test_codes_of_the_sandbox() -> None:
    assert {code.name: code.value for code in SandboxErrCode} == {
        "UNKNOWN": -1,
        "TIMEOUT": -2,
        "RESULT_NOT_FOUND": -3,
        "RESULT_NOT_UTF8": -4,
    }
    assert enums.SandboxErrCode is SandboxErrCode


@pytest.mark.parametrize(
    "config",
    [
        {"commands": ["true"]},
        {"commands": ["true", {"command": "make", "timeout": 1}, {"command": "a", "timeout": 0.5}]},
        {"commands": ["true"], "environ": {"A": [1]}, "environment": None, "unknown": 1},
        {"commands": ["true"], "result_path": "a/b", "save": False, "environment": "x"},
        *({"commands": ["true"], "result_path": path} for path in PATHS),
        {"commands": ("true",), "environ": os.environ, "environment": UUID(SAVED["environment"])},
        MappingProxyType({"commands": ["true"], "environ": MappingProxyType({"A": 1})}),
        {"commands": ["true"], "unknown": {1: {None: [True, 0.5]}}},
        ExecuteConfig(commands=["true"]),
    ],
)
def test_valid_config(config: dict[str, Any]) -> None:
    assert validate(config) == (True, "")


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "commands: is missing"),
        ({"commands": "true"}, "commands: must be an array, not 'true'"),
        ({"commands": []}, "commands: must have at least 1 item, not 0"),
        ({"commands": [3]}, "commands[0]: must be a string or an object, not 3"),
        ({"commands": [{}]}, "commands[0].command: is missing"),
        ({"commands": [{"command": 3}]}, "commands[0].command: must be a string, not 3"),
        (
            {"commands": ["a", {"command": "b", "timeout": "1"}]},
            "commands[1].timeout: must be a number, not '1'",
        ),
        (
            {"commands": [{"command": "b", "timeout": None}]},
            "commands[0].timeout: must be a number, not None",
        ),
        (
            {"commands": [{"command": "b", "environ": {}}]},
            "commands[0].environ: is not a known key",
        ),
        ({"commands": ["a"], "environ": []}, "environ: must be an object, not []"),
        ({"commands": ["a"], "result_path": None}, "result_path: must be a string, not None"),
        ({"commands": ["a"], "result_path": "a/"}, "result_path: must be a path that names a f"),
        ({"commands": ["a"], "result_path": ""}, "result_path: must be a path that names a file"),
        (
            {"commands": ["a"], "result_path": "a\0"},
            "result_path: must be a path that names a file",
        ),
        *(
            ({"commands": ["a"], "result_path": path}, "result_path: must be a path that names a f")
            for path in (".", "..", "a/.", "a/..", "./", "a/b/../..", "/", "/..", "a\0/b")
        ),
        (
            {"commands": ["a"], "result_path": f"a/{'é' * 128}"},
            "result_path: must have parts of at most 255 bytes, not 256",
        ),
        (
            {"commands": ["a"], "result_path": "a/" * 2047 + "bc"},
            "result_path: must have at most 4095 bytes, not 4096",
        ),
        (
            {"commands": ["a"], "result_path": "\ud800"},
            "result_path: must be text that UTF-8 can encode, not '\\ud800'",
        ),
        ({"commands": ["a"], "save": "yes"}, "save: must be a boolean, not 'yes'"),
        (
            {"commands": ["a"], "unknown": [0, {"x": {1}}]},
            "unknown[1].x: must be a JSON value, not {1}",
        ),
        (
            {"commands": ["a"], "unknown": {"x": {("a", 1): 2}}},
            "unknown.x: must have strings as keys, not ('a', 1)",
        ),
        (
            {"commands": ["a"], ("b",): 1},
            "the value: must have strings as keys, not ('b',)",
        ),
        ({"commands": ["a"], "environ": {"A": b"x"}}, "environ.A: must be a JSON value, not b'x'"),
        ({"commands": ["a"], "environ": {b"A": 1}}, "environ: must have strings as keys, not b'A'"),
        ({"commands": ["a"], "environment": 3}, "environment: must be a string or null, not 3"),
        (
            {"commands": ["a"], "other": UUID(SAVED["environment"])},
            "other: must be a JSON value, not UUID(",
        ),
        ({"commands": ["a"], "environ": {"A": 10**4400}}, "environ.A: must be a number of at most"),
        ({"commands": ["a"], "unknown": CIRCLE}, "must not be nested more than 100 deep"),
        ([], "the value: must be an object, not []"),
    ],
)
def test_invalid_config(config: Any, fault: str) -> None:
    valid, message = validate(config)
    assert not valid
    assert fault in message


def test_config_that_is_small_but_not_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox_api.config.MOST_VALUES", 1000)
    doubled: list[Any] = []
    for _ in range(90):
        doubled = [doubled, doubled]
    fault = "the value: must have at most 1000 values"
    assert validate({"commands": ["a"], "environ": {"A": doubled}}) == (False, fault)
    assert validate({"commands": ["a"] * 998}) == (True, "")
    assert validate({"commands": ["a"] * 999}) == (False, fault)


def test_commands_alone() -> None:
    assert validate_command({"command": "true", "timeout": 1})
    assert not validate_command({"timeout": 1})
    assert not validate_command(cast("Any", "true"))
