"""Checks on what is to be run, before it is sent, made from the description of the server."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sandbox_client.errors import DescriptionError, Fault
from sandbox_client.models import Command, ExecuteConfig
from sandbox_client.types import DEPTH

from .exceptions import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox_client.models import ExecuteConfigDict

__all__ = ["validate", "validate_command"]

# What a path may have on the systems that sandboxes run on, in bytes, which no schema can count.
LONGEST_NAME = 255
LONGEST_PATH = 4095

# What Python reads and writes of an integer, 4300 digits, in bits.
LONGEST_NUMBER = 14_284

# Most values that there may be, for lists that hold the same one twice, and so on, have no end.
MOST_VALUES = 1_000_000


def checked(config: ExecuteConfig | ExecuteConfigDict | Mapping[str, Any]) -> ExecuteConfig:
    """Return a configuration of `execute` that keeps the description, as plain JSON.

    Raises:
        InvalidConfig: it does not.
    """
    odd: list[Fault] = []
    plain = _plain(config, (), odd, itertools.count(1))
    try:
        made = ExecuteConfig.from_dict(plain)
    except DescriptionError as error:
        told = {fault.place for fault in error.faults}
        raise InvalidConfig(
            [*error.faults, *(fault for fault in odd if fault.place not in told)]
        ) from None
    if made.result_path:
        odd += [Fault(reason, ("result_path",)) for reason in _lengths(made.result_path)]
    if odd:
        raise InvalidConfig(odd)
    return made


def ignored(config: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return the keys of a configuration that a sandbox ignores, each with the one it may mean."""
    from difflib import get_close_matches

    known = [key for _, key, _, _ in ExecuteConfig._members]  # pyright: ignore[reportPrivateUsage]
    return [
        (key, next(iter(get_close_matches(key, known, 1)), None))
        for key in config
        if key not in known
    ]


def _plain(value: Any, place: tuple[Any, ...], faults: list[Fault], numbers: Iterator[int]) -> Any:
    """Return a value as JSON has it, and note what is none; each takes the next of the numbers.

    Raises:
        InvalidConfig: there are too many.
    """
    if next(numbers) > MOST_VALUES:
        raise InvalidConfig([Fault(f"must have at most {MOST_VALUES} values")])
    if len(place) > DEPTH:
        faults.append(Fault(f"must not be nested more than {DEPTH} deep", place))
        return None  # for it may have no end
    if isinstance(value, Mapping):
        members: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        faults += [
            Fault(f"must have strings as keys, not {reprlib.repr(key)}", place)
            for key in members
            if key is not None and not isinstance(key, (str, int, float))
        ]
        return {key: _plain(each, (*place, key), faults, numbers) for key, each in members.items()}
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return [_plain(each, (*place, index), faults, numbers) for index, each in enumerate(items)]
    if isinstance(value, UUID) and place == ("environment",):
        return str(value)
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        faults.append(Fault("must be a number of at most 4300 digits", place))
    elif value is not None and not isinstance(value, (str, int, float)):
        faults.append(Fault(f"must be a JSON value, not {reprlib.repr(value)}", place))
    return value


def _lengths(path: str) -> Iterator[str]:
    """Yield what is wrong with the lengths of a path."""
    try:
        parts = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError:
        yield f"must be text that UTF-8 can encode, not {reprlib.repr(path)}"
        return
    if (longest := max(parts)) > LONGEST_NAME:
        yield f"must have parts of at most {LONGEST_NAME} bytes, not {longest}"
    if (length := sum(parts) + len(parts) - 1) > LONGEST_PATH:
        yield f"must have at most {LONGEST_PATH} bytes, not {length}"


def validate(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Check a configuration of `execute`, as `execute` does before it sends anything.

    Returns `(True, "")` when it is valid, else False and a sentence that starts with the place of
    the first fault.

    Examples:

        >>> validate({"commands": ["true", {"command": "make", "timeout": "3"}]})
        (False, "commands[1].timeout: must be a number, not '3'")
    """
    try:
        checked(config)
    except InvalidConfig as error:
        return False, str(error.errors[0])
    return True, ""


def validate_command(c: Mapping[str, Any]) -> bool:
    """Tell whether a command of a configuration, as an object, is valid.

    Examples:

        >>> validate_command({"command": "make", "timeout": 3})
        True
    """
    try:
        Command.from_dict(c)
    except DescriptionError:
        return False
    return True
