from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class HostCpu(types.Model):
    """The host's processor."""

    core: int | None
    """Physical cores, a count. Null when the system does not tell."""

    logical: int | None
    """Logical cores, a count. Null when the system does not tell."""

    freq_min: float
    """Lowest frequency, in MHz. 0.0 when unknown."""

    freq_max: float
    """Highest frequency, in MHz. 0.0 when unknown."""

    _members: ClassVar = (
        types.Member(
            "core", "core", True, types.either({int: types.integer, type(None): types.nothing})
        ),
        types.Member(
            "logical",
            "logical",
            True,
            types.either({int: types.integer, type(None): types.nothing}),
        ),
        types.Member("freq_min", "freq_min", True, types.number),
        types.Member("freq_max", "freq_max", True, types.number),
    )
