"""What may take time on the way to a server. No I/O: either flavour waits in its own way.

What goes over connections is written once, as generators that yield each step they have to wait
for, and are sent what came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import socket

READ, WRITE = 1, 2

# The longest that systems can be told to wait, in seconds.
LONGEST = 1e6


class Ready(NamedTuple):
    """A socket can be read or written, or has failed; gives for what, 0 if it takes too long."""

    socket: socket.socket
    events: int
    seconds: float | None


class LookUp(NamedTuple):
    """The addresses of a host become known."""

    host: str
    port: int
    seconds: float | None


class Pause(NamedTuple):
    """Some time passes."""

    seconds: float


class Signal(NamedTuple):
    """An event is set; gives whether it was in time."""

    event: Any
    seconds: float | None


class Checkpoint(NamedTuple):
    """Others have their turn, which a fast connection would never leave them."""


Step = Ready | LookUp | Pause | Signal | Checkpoint
