from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types
from ..models.container_cpu import ContainerCpu
from ..models.container_io import ContainerIo
from ..models.container_memory import ContainerMemory


@define(slots=False, eq=False, repr=False, frozen=True)
class ContainerSpecifications(types.Model):
    """The containers that commands run in, and their limits."""

    count: int
    """Containers, a count. As many requests can be executed at once."""

    cpu: ContainerCpu
    """Limits on the processor."""

    memory: ContainerMemory
    """Limits on memory and disk."""

    io: ContainerIo
    """Limits on input and output."""

    process: int
    """Processes allowed in a container, a count. -1 is no limit."""

    working_dir_device: str
    """The device that working directories lie on."""

    _members: ClassVar = (
        types.Member("count", "count", True, types.integer),
        types.Member("cpu", "cpu", True, ContainerCpu.from_dict),
        types.Member("memory", "memory", True, ContainerMemory.from_dict),
        types.Member("io", "io", True, ContainerIo.from_dict),
        types.Member("process", "process", True, types.integer),
        types.Member("working_dir_device", "working_dir_device", True, types.string),
    )
