"""Checks on what is to be run, before it is sent, made from the description of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_client.errors import DescriptionError
from sandbox_client.models import Command, ExecuteConfig

from .exceptions import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox_client.models import ExecuteConfigDict


def checked(config: ExecuteConfig | ExecuteConfigDict | Mapping[str, Any]) -> ExecuteConfig:
    """Return a configuration of `execute` that keeps the description.

    Raises:
        InvalidConfig: it does not.
    """
    try:
        return ExecuteConfig.from_dict(config)
    except DescriptionError as error:
        raise InvalidConfig(error.faults) from None


def validate(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Check a configuration of `execute`, as `execute` does before it sends anything.

    Returns `(True, "")` when it is valid, else False and a sentence that starts with the place of
    the first fault.

    Example:

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

    Example:

        >>> validate_command({"command": "make", "timeout": 3})
        True
    """
    try:
        Command.from_dict(c)
    except DescriptionError:
        return False
    return True
