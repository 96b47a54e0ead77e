"""Checks on what is to be run, before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_client.errors import DescriptionError
from sandbox_client.models import Command, ExecuteConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


def validate(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Check a configuration of `execute` against the description.

    Returns `(True, "")` when it is valid, else False and a sentence that starts with the place of
    the first fault.

    Example:

        >>> validate({"commands": ["true", {"command": "make", "timeout": "3"}]})
        (False, "commands[1].timeout: must be a number, not '3'")
    """
    try:
        ExecuteConfig.from_dict(config)
    except DescriptionError as error:
        return False, str(error)
    return True, ""


def validate_command(command: Mapping[str, Any]) -> bool:
    """Tell whether a command of a configuration, as an object, is valid."""
    try:
        Command.from_dict(command)
    except DescriptionError:
        return False
    return True
