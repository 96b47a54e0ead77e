"""All models: what servers answer, and what they are asked."""

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
