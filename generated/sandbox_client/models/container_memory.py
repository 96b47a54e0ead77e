from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class ContainerMemory(types.Model):
    """A container's limits on memory and disk."""

    ram: int
    """Memory, in bytes. -1 is no limit."""

    swap: int
    """Swap space, in bytes. -1 is no limit."""

    storage: int
    """Disk space, in bytes. -1 is no limit."""

    _members: ClassVar = (
        types.Member("ram", "ram", True, types.integer),
        types.Member("swap", "swap", True, types.integer),
        types.Member("storage", "storage", True, types.integer),
    )
