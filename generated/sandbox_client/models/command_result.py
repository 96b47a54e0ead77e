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

    stdout_truncated: bool | None = None
    """True when standard output was longer than what is kept, and ends with a mark instead.
    Only the local sandbox sends it, and only then."""

    stderr_truncated: bool | None = None
    """The same of standard error."""

    exceeded: str | None = None
    """The bound of the whole request that processes were killed for: `memory`, `cpu` (its time)
    or `disk`. Of the last command, also what was more than is taken after it, so that
    `status` is -1: `result`, the file at `result_path`, or `save`, the working directory.
    Only the local sandbox sends it, and only then."""

    _members: ClassVar = (
        types.Member("command", "command", True, types.string),
        types.Member("exit_code", "exit_code", True, types.integer),
        types.Member("stdout", "stdout", True, types.string),
        types.Member("stderr", "stderr", True, types.string),
        types.Member("time", "time", True, types.number),
        types.Member("stdout_truncated", "stdout_truncated", False, types.boolean),
        types.Member("stderr_truncated", "stderr_truncated", False, types.boolean),
        types.Member("exceeded", "exceeded", False, types.string),
    )
