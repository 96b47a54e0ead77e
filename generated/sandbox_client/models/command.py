from __future__ import annotations

from typing import ClassVar, Required, TypedDict

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class Command(types.Model):
    """A command with a time-out of its own. The server fails on any other key."""

    command: str
    """A bash command. A leading "-" is taken off, and means that its failure is ignored."""

    timeout: float | None = None
    """How long the command may run, in seconds; what is left of the request's own time holds
    all the same. 0 switches this bound off, a negative one times out at once."""

    _members: ClassVar = (
        types.Member("command", "command", True, types.string),
        types.Member("timeout", "timeout", False, types.number),
    )
    _closed: ClassVar = True


class CommandDict(TypedDict, total=False):
    """Command as a plain dictionary, for type checkers and editors."""

    command: Required[str]
    """A bash command. A leading "-" is taken off, and means that its failure is ignored."""

    timeout: float
    """How long the command may run, in seconds; what is left of the request's own time holds
    all the same. 0 switches this bound off, a negative one times out at once."""
