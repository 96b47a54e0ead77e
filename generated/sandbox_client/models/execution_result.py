from __future__ import annotations

import datetime
from typing import ClassVar
from uuid import UUID

from attrs import define

from .. import types
from ..models.command_result import CommandResult


@define(slots=False, eq=False, repr=False, frozen=True)
class ExecutionResult(types.Model):
    """What the commands of a request did."""

    status: int
    """How the execution ended, as an exit code: 0 when done (or when the last failure was
    ignored), above 0 the exit code of the command that ended the run, below 0 one of
    SandboxErrCode. -3 and -4 win over a command's failure, and so does -1 where the result
    or the working directory is more than the local sandbox takes: see `exceeded`."""

    execution: list[CommandResult]
    """What each command that ran did, in order."""

    total_time: float
    """Time that the commands took together, in seconds."""

    result: str | None = None
    """The text of the file at `result_path`, with every line ending as `\\n`. Only with
    `result_path`, and only when the file could be read."""

    environment: UUID | None = None
    """Id of the environment that was stored. Only with `save`, and only when it was not more
    than the local sandbox saves."""

    expire: datetime.datetime | None = None
    """When the stored environment will be deleted. Only with `save`. Servers before 3.0.3 sent
    a time without zone, to be taken as UTC; still older ones the basic form."""

    _members: ClassVar = (
        types.Member("status", "status", True, types.integer),
        types.Member("execution", "execution", True, types.array(CommandResult.from_dict)),
        types.Member("total_time", "total_time", True, types.number),
        types.Member("result", "result", False, types.string),
        types.Member("environment", "environment", False, types.uuid),
        types.Member("expire", "expire", False, types.date_time),
    )
