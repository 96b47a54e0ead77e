from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types
from ..models.libraries_by_kind import LibrariesByKind


@define(slots=False, eq=False, repr=False, frozen=True)
class Libraries(types.Model):
    """The libraries and executables that commands find in a container."""

    libraries: LibrariesByKind
    """The libraries, by kind."""

    bin: list[str]
    """Names of the executables on the PATH, sorted."""

    _members: ClassVar = (
        types.Member("libraries", "libraries", True, LibrariesByKind.from_dict),
        types.Member("bin", "bin", True, types.array(types.string)),
    )
