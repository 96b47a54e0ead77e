from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Required, TypedDict
from uuid import UUID

from attrs import define

from .. import types
from ..models.command import Command, CommandDict


@define(slots=False, eq=False, repr=False, frozen=True)
class ExecuteConfig(types.Model):
    """What to run, and how. Unknown keys are ignored."""

    commands: Sequence[str | Command]
    """The commands, run one after another until one fails: a string, or an object where a
    command has a time-out of its own."""

    environ: Mapping[str, Any] | None = None
    """Environment variables of the commands."""

    environment: UUID | str | None = None
    """Id of a stored environment to start from. Null counts as absent."""

    result_path: str | None = None
    """Path of a file, relative to the working directory, to read once the commands have run
    and to give back as `result`. It must name a file: the server fails on an empty path, on
    one that ends in `/`, `.` or `..`, on a NUL character, and on one that its system has no
    room for: 255 bytes for each part, in UTF-8, and 4095 in all."""

    save: bool | None = None
    """Whether to store the working directory as a new environment afterwards. No by default."""

    _members: ClassVar = (
        types.Member(
            "commands",
            "commands",
            True,
            types.array(types.either({str: types.string, dict: Command.from_dict}), least=1),
        ),
        types.Member("environ", "environ", False, types.members(types.anything)),
        types.Member(
            "environment",
            "environment",
            False,
            types.either({str: types.string, type(None): types.nothing}),
        ),
        types.Member(
            "result_path",
            "result_path",
            False,
            types.matching(
                r"^(?!([^\u0000]*/)?\.\.?$)[^\u0000]*[^\u0000/]$", "a path that names a file"
            ),
        ),
        types.Member("save", "save", False, types.boolean),
    )


class ExecuteConfigDict(TypedDict, total=False):
    """ExecuteConfig as a plain dictionary, for type checkers and editors."""

    commands: Required[Sequence[str | Command | CommandDict]]
    """The commands, run one after another until one fails: a string, or an object where a
    command has a time-out of its own."""

    environ: Mapping[str, Any]
    """Environment variables of the commands."""

    environment: UUID | str | None
    """Id of a stored environment to start from. Null counts as absent."""

    result_path: str
    """Path of a file, relative to the working directory, to read once the commands have run
    and to give back as `result`. It must name a file: the server fails on an empty path, on
    one that ends in `/`, `.` or `..`, on a NUL character, and on one that its system has no
    room for: 255 bytes for each part, in UTF-8, and 4095 in all."""

    save: bool
    """Whether to store the working directory as a new environment afterwards. No by default."""
