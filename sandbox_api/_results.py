"""Results of executions and stored environments: what both flavours of them have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sandbox_client import models
from sandbox_client.models import SandboxErrCode
from sandbox_client.types import DEPTH, too_deep

from .exceptions import LONGEST_REASON

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sandbox_client.models import CommandResult


# Why there is no result, by the status.
UNREAD: dict[int, str] = {
    SandboxErrCode.RESULT_NOT_FOUND: "the result file was not found",
    SandboxErrCode.RESULT_NOT_UTF8: "the result file is not UTF-8",
}


# What was more than may be, by what a command's `exceeded` says.
EXCEEDED: dict[str, str] = {
    "memory": "it took more memory than a request may have",
    "cpu": "it took more processor time than a request may have",
    "disk": "it took more disk space than a request may have",
    "result": "the file at result_path is larger than the sandbox takes",
    "save": "the working directory is more than the sandbox saves",
}


def too_much(command: CommandResult) -> str | None:
    """Return what was more than may be, if a command's result says so."""
    bound = command.exceeded
    return EXCEEDED.get(bound, f"it took too much {bound}") if bound else None


class ExecutionFailed(Exception):
    """An execution did not end well; raised by `result.raise_for_status()` alone."""

    def __init__(self, result: ExecutionResult) -> None:
        super().__init__(result)
        self.result = result
        """What the commands did."""

    @property
    def command(self) -> CommandResult | None:
        """The command that ended the run; None where all ran, but the result could not be read."""
        commands = self.result.execution
        return commands[-1] if commands and commands[-1].exit_code == self.result.status else None

    def __str__(self) -> str:
        command = self.command
        if command is None:
            status, commands = self.result.status, self.result.execution
            # No command has to fail for there to be too much to give back or to save.
            known = commands and status == SandboxErrCode.UNKNOWN
            bound = too_much(commands[-1]) if known else None
            return bound or UNREAD.get(status, f"status {status}")
        what = (
            "timed out" if self.result.timed_out else f"failed with exit code {command.exit_code}"
        )
        if bound := too_much(command):
            what += f" ({bound})"
        words = command.stderr.strip()[-LONGEST_REASON:]
        return f"{command.command!r} {what}" + (f": {words}" if words else "")


class ExecutionResult(models.ExecutionResult):
    """What the commands of a request did: typed attributes, and the dictionary of the answer."""

    @property
    def ok(self) -> bool:
        """Whether all commands ran and none failed, but where a failure was to be ignored."""
        return self.status == 0

    @property
    def timed_out(self) -> bool:
        """Whether a command, or the whole request, took too long."""
        return self.status == SandboxErrCode.TIMEOUT

    @property
    def error(self) -> SandboxErrCode | None:
        """What the sandbox ended the run for; None where it did not, even if a command failed."""
        if self.status >= 0:
            return None
        try:
            return SandboxErrCode(self.status)
        except ValueError:
            return SandboxErrCode.UNKNOWN

    def raise_for_status(self) -> Self:
        """Return the result itself, if all went well.

        Raises:
            ExecutionFailed: it did not; the message has the command and its standard error.

        Examples:

            >>> sandbox.execute({"commands": ["ls /nowhere"]}).raise_for_status()
            Traceback (most recent call last):
            sandbox_api._results.ExecutionFailed: 'ls /nowhere' failed with exit code 2: ls: ...
        """
        if not self.ok:
            raise ExecutionFailed(self)
        return self

    def json(self) -> Any:
        """Return what the file at `result_path` holds, as JSON.

        Raises:
            ValueError: there is no such result, or it can't be read.
            json.JSONDecodeError: it is not JSON.

        Examples:

            >>> config = {"commands": ["echo '[17, 20]' > marks"], "result_path": "marks"}
            >>> sandbox.execute(config).json()
            [17, 20]
        """
        if self.result is None:
            reason = UNREAD.get(self.status, "result_path was not given")
            if self.status == SandboxErrCode.UNKNOWN:
                last = self.execution[-1].exceeded if self.execution else None
                reason = EXCEEDED["result"] if last == "result" else f"{reason}, or can't be read"
            raise ValueError(f"there is no result: {reason}")
        try:
            if too_deep(self.result.encode(errors="replace")):
                raise ValueError(f"it is nested more than {DEPTH} deep")
            return json.loads(self.result, parse_constant=self._refuse)
        except json.JSONDecodeError as error:
            reason = f"the result at result_path is not JSON: {error.msg}"
            raise json.JSONDecodeError(reason, error.doc, error.pos) from None
        except ValueError as error:
            raise ValueError(f"the result at result_path can't be read: {error}") from None

    def _refuse(self, constant: str) -> Any:
        # NaN and Infinity, which Python would take, and which spoil whatever is counted with them.
        text = self.result or ""
        raise json.JSONDecodeError(f"{constant} is none of its values", text, text.index(constant))

    def __getstate__(self) -> dict[str, Any]:
        # A result that is kept or sent away does not take the sandbox's secrets with it.
        return {name: value for name, value in self.__dict__.items() if name != "_sandbox"}

    def _origin(self) -> Any:
        try:
            return self.__dict__["_sandbox"]
        except KeyError:
            raise RuntimeError(
                "this result was copied or made by hand, and knows no sandbox: "
                "use sandbox.environment(result.environment)"
            ) from None


E = TypeVar("E", bound=ExecutionResult)


def bind(kind: type[E], result: models.ExecutionResult, sandbox: object) -> E:
    """Return a result that knows the sandbox it came from."""
    made = kind.__new__(kind)
    made.__dict__.update(result.__dict__, _sandbox=sandbox)
    made.update(result)
    return made


class Stored:
    """What both flavours of stored environments have."""

    def __init__(self, uuid: UUID | str, expires: datetime | None) -> None:
        self.uuid = uuid
        """Id of the environment."""
        self.expires = expires
        """When it will be deleted, where that is known."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uuid}>"
