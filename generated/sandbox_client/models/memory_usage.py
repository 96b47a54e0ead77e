from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class MemoryUsage(types.Model):
    """The host's memory and disk space in use."""

    ram: int
    """Memory in use, in bytes."""

    swap: int
    """Swap space in use, in bytes."""

    storage: dict[str, int]
    """Space in use on each disk, by device."""

    _members: ClassVar = (
        types.Member("ram", "ram", True, types.integer),
        types.Member("swap", "swap", True, types.integer),
        types.Member("storage", "storage", True, types.members(types.integer)),
    )
