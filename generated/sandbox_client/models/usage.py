from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types
from ..models.cpu_usage import CpuUsage
from ..models.io_usage import IoUsage
from ..models.memory_usage import MemoryUsage
from ..models.network_usage import NetworkUsage


@define(slots=False, eq=False, repr=False, frozen=True)
class Usage(types.Model):
    """The server's current load."""

    cpu: CpuUsage
    """Load of the processor."""

    memory: MemoryUsage
    """Memory and disk space in use."""

    io: IoUsage
    """Input and output of the disks."""

    network: NetworkUsage
    """Traffic of the network."""

    process: int
    """Processes on the host, a count."""

    container: int
    """Containers in use now, a count."""

    _members: ClassVar = (
        types.Member("cpu", "cpu", True, CpuUsage.from_dict),
        types.Member("memory", "memory", True, MemoryUsage.from_dict),
        types.Member("io", "io", True, IoUsage.from_dict),
        types.Member("network", "network", True, NetworkUsage.from_dict),
        types.Member("process", "process", True, types.integer),
        types.Member("container", "container", True, types.integer),
    )
