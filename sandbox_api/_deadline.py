"""How long a step may still take, in a call that is bounded as a whole."""

from __future__ import annotations

import math
import time


class Until(float):
    """The seconds until a deadline, or a smaller bound: first as a number, and whenever asked."""

    deadline: float
    most: float

    def __new__(cls, deadline: float, most: float = math.inf) -> Until:
        """Make one for a deadline on the monotonic clock."""
        until = super().__new__(cls, min(max(deadline - time.monotonic(), 0.0), most))
        until.deadline, until.most = deadline, most
        return until


def left(timeout: float | None, late: type[Exception]) -> float | None:
    """Return how long a step may take: what is left of the call, where its time-out tells."""
    if not isinstance(timeout, Until):
        return timeout
    if (seconds := timeout.deadline - time.monotonic()) <= 0:
        raise late("the deadline has passed")
    return min(timeout.most, seconds)


def within(until: Until | None, most: float | None) -> float | None:
    """Return how long a step may take by both bounds, where None is no bound."""
    if until is None or most is None:
        return until if most is None else most
    return Until(until.deadline, most)
