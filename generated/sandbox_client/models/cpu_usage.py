from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class CpuUsage(types.Model):
    """Load of the host's processor."""

    frequency: float
    """Current frequency, in MHz."""

    usage: float
    """Share in use now, a ratio from 0 to 1."""

    usage_avg: list[float]
    """Load averages over 1, 5 and 15 minutes, each divided by the logical cores."""

    _members: ClassVar = (
        types.Member("frequency", "frequency", True, types.number),
        types.Member("usage", "usage", True, types.number),
        types.Member("usage_avg", "usage_avg", True, types.array(types.number, least=3, most=3)),
    )
