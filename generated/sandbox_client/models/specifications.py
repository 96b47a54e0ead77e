from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types
from ..models.container_specifications import ContainerSpecifications
from ..models.host_specifications import HostSpecifications


@define(slots=False, eq=False, repr=False, frozen=True)
class Specifications(types.Model):
    """The server's host and the limits of its containers."""

    host: HostSpecifications
    """The machine that the server runs on."""

    container: ContainerSpecifications
    """The containers that commands run in."""

    _members: ClassVar = (
        types.Member("host", "host", True, HostSpecifications.from_dict),
        types.Member("container", "container", True, ContainerSpecifications.from_dict),
    )
