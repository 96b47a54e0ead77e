from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class CommandResult(types.Model):
    """What one command did."""

    command: str
    """The command as it was run, without its leading "-"."""

    exit_code: int
    """The exit code: 128 and the signal's number for a command that a signal killed, 127 for
    one that was not found, one of SandboxErrCode where the sandbox ended it."""

    stdout: str
    """Standard output, stripped of white space at both ends. Empty after a time-out."""

    stderr: str
    """Standard error, stripped of white space at both ends."""

    time: float
    """Time that the command took, in seconds."""

    _members: ClassVar = (
        types.Member("command", "command", True, types.string),
        types.Member("exit_code", "exit_code", True, types.integer),
        types.Member("stdout", "stdout", True, types.string),
        types.Member("stderr", "stderr", True, types.string),
        types.Member("time", "time", True, types.number),
    )
