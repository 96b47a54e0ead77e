"""Read and check what an execution is asked to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


# How many commands a job may have: more than can be run in its time. Each has a result, even when
# it is not run any more.
COMMANDS = 10_000


class Refusal(Exception):
    """A request that is refused, with the status and the text of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


@dataclass(frozen=True)
class Command:
    """One command of a job."""

    text: str
    may_fail: bool
    timeout: float | None
    """Bound in seconds; None is no bound of its own."""


@dataclass(frozen=True)
class Job:
    """What one execution is asked to do."""

    commands: list[Command]
    environ: dict[str, str]
    environment: str | None
    result_path: str | None
    save: bool


async def read_job(text: str, exists: Callable[[str], Awaitable[bool]]) -> Job:
    """Read the `config` of an execution; exists tells whether an environment is stored.

    Raise Refusal with the text that the real server has for the first thing that is wrong.
    """
    try:
        config: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"'config' json is invalid - {error}") from error
    try:
        return await job(mapping("config", config), exists)
    except RecursionError as error:
        raise Refusal(400, f"config is nested too deep - {error}") from error


async def job(config: dict[str, Any], exists: Callable[[str], Awaitable[bool]]) -> Job:
    """Return the job that a configuration describes."""
    environment = config.get("environment")
    if environment is not None:
        environment = str(environment)
        if not await exists(environment):
            raise Refusal(404, f"No environment with UUID '{environment}' found")
    if "commands" not in config:
        raise Refusal(400, "Missing field 'commands' in config")
    commands = typed("commands", config["commands"], list, "a list")
    environ = mapping("environ", config.get("environ", {}))
    if not commands:
        raise Refusal(400, "Command list cannot be empty")
    if len(commands) > COMMANDS:
        raise Refusal(400, f"Command list cannot have more than {COMMANDS} commands")
    return Job(
        commands=[command(element) for element in commands],
        result_path=result_path(config["result_path"]) if "result_path" in config else None,
        save=typed("save", config.get("save", False), bool, "a boolean"),
        environ=dict(variable(name, value) for name, value in environ.items()),
        environment=environment,
    )


def command(element: object) -> Command:
    """Return the command that an element of `commands` describes."""
    fields = cast("dict[str, Any]", element if isinstance(element, dict) else {"command": element})
    text, timeout = fields.get("command"), fields.get("timeout", 0)
    if (
        not fields.keys() <= {"command", "timeout"}
        or not isinstance(text, str)
        or not usable(text)
        or not isinstance(timeout, int | float)
    ):
        raise Refusal(400, f"Command badly formatted : '{element}'")
    # Zero would be no bound at all; JSON's true counts as 1.
    bound = int(timeout) if isinstance(timeout, bool) else timeout
    return Command(text.removeprefix("-"), text.startswith("-"), bound or None)


def result_path(path: object) -> str:
    """Return the path of the result file, when it can be one."""
    path = cast("str", typed("result_path", path, str, "a string"))
    if not path or path.endswith("/") or not usable(path):
        raise Refusal(400, f"result_path must name a file, not {path!r}")
    if path.startswith("/") or ".." in path.split("/"):
        raise Refusal(400, f"result_path must stay in the working directory, not {path!r}")
    return path


def variable(name: str, value: object) -> tuple[str, str]:
    """Return the name and the text of an environment variable."""
    text = str(value)
    if not name or "=" in name or not usable(name):
        raise Refusal(400, f"environ cannot have a variable named {name!r}")
    if not usable(text):
        raise Refusal(400, f"environ cannot have the value {text!r}, of variable {name!r}")
    return name, text


def mapping(field: str, value: object) -> dict[str, Any]:
    """Return a value that must be an object."""
    return cast("dict[str, Any]", typed(field, value, dict, "an object"))


def typed(field: str, value: object, kind: type, name: str) -> Any:
    """Return a value that must be of a kind."""
    if not isinstance(value, kind):
        raise Refusal(400, f"{field} must be {name}, not {type(value)}")
    return value


def usable(text: str) -> bool:
    """Tell whether the operating system takes text as an argument or a name."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
