from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class IoUsage(types.Model):
    """Input and output of the host's disks, by device."""

    read_iops: dict[str, float]
    """Read operations per second, by device."""

    read_bps: dict[str, float]
    """Bytes read per second, by device."""

    write_iops: dict[str, float]
    """Write operations per second, by device."""

    write_bps: dict[str, float]
    """Bytes written per second, by device."""

    _members: ClassVar = (
        types.Member("read_iops", "read_iops", True, types.members(types.number)),
        types.Member("read_bps", "read_bps", True, types.members(types.number)),
        types.Member("write_iops", "write_iops", True, types.members(types.number)),
        types.Member("write_bps", "write_bps", True, types.members(types.number)),
    )
