"""A typed client of the PremierLangage sandbox, and a local sandbox to run it on.

Sandbox and ASandbox run bash commands in isolated containers:

    >>> from sandbox_api import Sandbox
    >>> sandbox = Sandbox("http://localhost:7000")
    >>> sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
    '4'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from sandbox_client.models import (
        Command,
        CommandDict,
        CommandResult,
        ExecuteConfig,
        ExecuteConfigDict,
        Libraries,
        SandboxErrCode,
        Specifications,
        Usage,
    )

    from ._options import CallOptions, ClientOptions
    from ._results import ExecutionFailed, ExecutionResult
    from .asandbox import AEnvironment, AExecution, ASandbox
    from .batch import BatchOptions, Job, JobResult, Progress
    from .environment import EnvironmentFile, EnvironmentSource
    from .exceptions import (
        ConnectionFailed,
        InvalidConfig,
        InvalidEnvironment,
        InvalidReply,
        InvalidURL,
        LocalSandboxError,
        Sandbox300,
        Sandbox301,
        Sandbox302,
        Sandbox303,
        Sandbox304,
        Sandbox305,
        Sandbox307,
        Sandbox308,
        Sandbox400,
        Sandbox401,
        Sandbox402,
        Sandbox403,
        Sandbox404,
        Sandbox405,
        Sandbox406,
        Sandbox407,
        Sandbox408,
        Sandbox409,
        Sandbox410,
        Sandbox411,
        Sandbox412,
        Sandbox413,
        Sandbox414,
        Sandbox415,
        Sandbox416,
        Sandbox417,
        Sandbox418,
        Sandbox421,
        Sandbox422,
        Sandbox423,
        Sandbox424,
        Sandbox425,
        Sandbox426,
        Sandbox428,
        Sandbox429,
        Sandbox431,
        Sandbox451,
        Sandbox500,
        Sandbox501,
        Sandbox502,
        Sandbox503,
        Sandbox504,
        Sandbox505,
        Sandbox506,
        Sandbox507,
        Sandbox508,
        Sandbox510,
        Sandbox511,
        SandboxClientError,
        SandboxError,
        SandboxFailure,
        SandboxRedirection,
        SandboxServerError,
        TimedOut,
        status_exceptions,
    )
    from .sandbox import Environment, Execution, Sandbox

VERSION = __version__
"""The version of this package, under the name that pl-sandbox-api gave it."""

__all__ = [
    "VERSION",
    "AEnvironment",
    "AExecution",
    "ASandbox",
    "BatchOptions",
    "CallOptions",
    "ClientOptions",
    "Command",
    "CommandDict",
    "CommandResult",
    "ConnectionFailed",
    "Environment",
    "EnvironmentFile",
    "EnvironmentSource",
    "ExecuteConfig",
    "ExecuteConfigDict",
    "Execution",
    "ExecutionFailed",
    "ExecutionResult",
    "InvalidConfig",
    "InvalidEnvironment",
    "InvalidReply",
    "InvalidURL",
    "Job",
    "JobResult",
    "Libraries",
    "LocalSandboxError",
    "Progress",
    "Sandbox",
    "Sandbox300",
    "Sandbox301",
    "Sandbox302",
    "Sandbox303",
    "Sandbox304",
    "Sandbox305",
    "Sandbox307",
    "Sandbox308",
    "Sandbox400",
    "Sandbox401",
    "Sandbox402",
    "Sandbox403",
    "Sandbox404",
    "Sandbox405",
    "Sandbox406",
    "Sandbox407",
    "Sandbox408",
    "Sandbox409",
    "Sandbox410",
    "Sandbox411",
    "Sandbox412",
    "Sandbox413",
    "Sandbox414",
    "Sandbox415",
    "Sandbox416",
    "Sandbox417",
    "Sandbox418",
    "Sandbox421",
    "Sandbox422",
    "Sandbox423",
    "Sandbox424",
    "Sandbox425",
    "Sandbox426",
    "Sandbox428",
    "Sandbox429",
    "Sandbox431",
    "Sandbox451",
    "Sandbox500",
    "Sandbox501",
    "Sandbox502",
    "Sandbox503",
    "Sandbox504",
    "Sandbox505",
    "Sandbox506",
    "Sandbox507",
    "Sandbox508",
    "Sandbox510",
    "Sandbox511",
    "SandboxClientError",
    "SandboxErrCode",
    "SandboxError",
    "SandboxFailure",
    "SandboxRedirection",
    "SandboxServerError",
    "Specifications",
    "TimedOut",
    "Usage",
    "__version__",
    "status_exceptions",
]

# Where the names come from that are loaded when they are first used: an import costs only what it
# needs. Exceptions have their own module, statuses outside the standard included.
_MODULES = {
    "AEnvironment": "sandbox_api.asandbox",
    "AExecution": "sandbox_api.asandbox",
    "ASandbox": "sandbox_api.asandbox",
    "BatchOptions": "sandbox_api.batch",
    "CallOptions": "sandbox_api._options",
    "ClientOptions": "sandbox_api._options",
    "Command": "sandbox_client.models",
    "CommandDict": "sandbox_client.models",
    "CommandResult": "sandbox_client.models",
    "Environment": "sandbox_api.sandbox",
    "EnvironmentFile": "sandbox_api.environment",
    "EnvironmentSource": "sandbox_api.environment",
    "ExecuteConfig": "sandbox_client.models",
    "ExecuteConfigDict": "sandbox_client.models",
    "Execution": "sandbox_api.sandbox",
    "ExecutionFailed": "sandbox_api._results",
    "ExecutionResult": "sandbox_api._results",
    "Job": "sandbox_api.batch",
    "JobResult": "sandbox_api.batch",
    "Libraries": "sandbox_client.models",
    "Progress": "sandbox_api.batch",
    "Sandbox": "sandbox_api.sandbox",
    "SandboxErrCode": "sandbox_client.models",
    "Specifications": "sandbox_client.models",
    "Usage": "sandbox_client.models",
}


if not TYPE_CHECKING:  # type checkers would take any name for right

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in {"asandbox", "enums", "exceptions", "sandbox", "utils"}:
            # pl-sandbox-api loads these at once, so `sandbox_api.utils.validate` needs no import.
            return import_module(f"{__name__}.{name}")
        value = getattr(import_module(_MODULES.get(name, "sandbox_api.exceptions")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
