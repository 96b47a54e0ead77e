"""How long a step may still take, in a call that is bounded as a whole."""

from __future__ import annotations

import time


class Until(float):
    """The seconds until a deadline: at first as a number, and whenever asked."""

    deadline: float

    def __new__(cls, deadline: float) -> Until:
        """Make one for a deadline on the monotonic clock."""
        until = super().__new__(cls, max(deadline - time.monotonic(), 0.0))
        until.deadline = deadline
        return until


def left(timeout: float | None, late: type[Exception]) -> float | None:
    """Return how long a step may take: what is left of the call, where its time-out tells."""
    if not isinstance(timeout, Until):
        return timeout
    if (seconds := timeout.deadline - time.monotonic()) <= 0:
        raise late("the deadline has passed")
    return seconds
