"""All models: what servers answer, and what they are asked."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import Command, CommandDict
    from .command_result import CommandResult
    from .container_cpu import ContainerCpu
    from .container_io import ContainerIo
    from .container_memory import ContainerMemory
    from .container_specifications import ContainerSpecifications
    from .cpu_usage import CpuUsage
    from .execute_config import ExecuteConfig, ExecuteConfigDict
    from .execution_result import ExecutionResult
    from .host_cpu import HostCpu
    from .host_memory import HostMemory
    from .host_specifications import HostSpecifications
    from .io_usage import IoUsage
    from .libraries import Libraries
    from .libraries_by_kind import LibrariesByKind
    from .memory_usage import MemoryUsage
    from .network_usage import NetworkUsage
    from .sandbox_err_code import SandboxErrCode
    from .specifications import Specifications
    from .usage import Usage

_MODULES = {
    "Specifications": ".specifications",
    "HostSpecifications": ".host_specifications",
    "HostCpu": ".host_cpu",
    "HostMemory": ".host_memory",
    "ContainerSpecifications": ".container_specifications",
    "ContainerCpu": ".container_cpu",
    "ContainerMemory": ".container_memory",
    "ContainerIo": ".container_io",
    "Usage": ".usage",
    "CpuUsage": ".cpu_usage",
    "MemoryUsage": ".memory_usage",
    "IoUsage": ".io_usage",
    "NetworkUsage": ".network_usage",
    "Libraries": ".libraries",
    "LibrariesByKind": ".libraries_by_kind",
    "ExecuteConfig": ".execute_config",
    "ExecuteConfigDict": ".execute_config",
    "Command": ".command",
    "CommandDict": ".command",
    "ExecutionResult": ".execution_result",
    "CommandResult": ".command_result",
    "SandboxErrCode": ".sandbox_err_code",
}

__all__ = (
    "Command",
    "CommandDict",
    "CommandResult",
    "ContainerCpu",
    "ContainerIo",
    "ContainerMemory",
    "ContainerSpecifications",
    "CpuUsage",
    "ExecuteConfig",
    "ExecuteConfigDict",
    "ExecutionResult",
    "HostCpu",
    "HostMemory",
    "HostSpecifications",
    "IoUsage",
    "Libraries",
    "LibrariesByKind",
    "MemoryUsage",
    "NetworkUsage",
    "SandboxErrCode",
    "Specifications",
    "Usage",
)

if not TYPE_CHECKING:  # type checkers would take any name for right

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name], __name__), name)
        globals()[name] = value
        return value
