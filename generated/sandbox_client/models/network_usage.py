from __future__ import annotations

from typing import ClassVar

from attrs import define

from .. import types


@define(slots=False, eq=False, repr=False, frozen=True)
class NetworkUsage(types.Model):
    """Traffic of the host's network."""

    sent_bytes: float
    """Traffic sent, in bytes per second."""

    received_bytes: float
    """Traffic received, in bytes per second."""

    sent_packets: float
    """Traffic sent, in packets per second."""

    received_packets: float
    """Traffic received, in packets per second."""

    _members: ClassVar = (
        types.Member("sent_bytes", "sent_bytes", True, types.number),
        types.Member("received_bytes", "received_bytes", True, types.number),
        types.Member("sent_packets", "sent_packets", True, types.number),
        types.Member("received_packets", "received_packets", True, types.number),
    )
