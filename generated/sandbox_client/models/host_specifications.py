from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types
from ..models.host_cpu import HostCpu
from ..models.host_memory import HostMemory


@define(slots=False, eq=False, repr=False, frozen=True)
class HostSpecifications(types.Model):
    """The machine that the server runs on."""

    cpu: HostCpu
    """The processor."""

    memory: HostMemory
    """Memory and disks."""

    docker_version: str
    """The version of the container engine."""

    sandbox_version: str
    """The version of the sandbox server."""

    _members: ClassVar = (
        types.Member("cpu", "cpu", True, HostCpu.from_dict),
        types.Member("memory", "memory", True, HostMemory.from_dict),
        types.Member("docker_version", "docker_version", True, types.string),
        types.Member("sandbox_version", "sandbox_version", True, types.string),
    )
