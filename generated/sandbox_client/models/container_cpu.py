from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class ContainerCpu(types.Model):
    """A container's limits on the processor, as Docker takes them."""

    count: int
    """Cores that a container may use, a count. -1 when not set."""

    period: int
    """Length of a scheduling period, in microseconds. -1 when not set."""

    shares: int
    """Weight against other containers, a ratio to 1024. -1 when not set."""

    quota: int
    """Time allowed in each period, in microseconds. -1 when not set."""

    _members: ClassVar = (
        types.Member("count", "count", True, types.integer),
        types.Member("period", "period", True, types.integer),
        types.Member("shares", "shares", True, types.integer),
        types.Member("quota", "quota", True, types.integer),
    )
