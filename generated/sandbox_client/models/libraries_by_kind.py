from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class LibrariesByKind(types.Model):
    """The libraries of a container, by kind."""

    system: dict[str, str]
    """The system's packages."""

    python: dict[str, str]
    """Python distributions."""

    perl: dict[str, str]
    """Perl modules."""

    c: dict[str, str]
    """Shared C libraries."""

    _members: ClassVar = (
        types.Member("system", "system", True, types.members(types.string)),
        types.Member("python", "python", True, types.members(types.string)),
        types.Member("perl", "perl", True, types.members(types.string)),
        types.Member("c", "c", True, types.members(types.string)),
    )
