from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class HostMemory(types.Model):
    """The host's memory and disks."""

    ram: int
    """Memory, in bytes."""

    swap: int
    """Swap space, in bytes."""

    storage: dict[str, int]
    """Size of each disk, by device."""

    _members: ClassVar = (
        types.Member("ram", "ram", True, types.integer),
        types.Member("swap", "swap", True, types.integer),
        types.Member("storage", "storage", True, types.members(types.integer)),
    )
