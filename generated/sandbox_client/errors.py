"""What goes wrong when JSON is read."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One contradiction: `str(fault)` is `execution[0].time: must be a number, not 'soon'`."""

    reason: str
    """What is wrong, as the end of a sentence about the value."""

    place: tuple[str | int, ...] = ()
    """Keys and indexes that lead to the value."""

    @property
    def path(self) -> str:
        """The value's place, as one would write it: `execution[0].time`."""
        path = ""
        for step in self.place:
            if isinstance(step, str) and step.isidentifier():
                path += f".{step}" if path else step
            else:
                path += f"[{step!r}]"
        return path

    def __str__(self) -> str:
        return f"{self.path or 'the value'}: {self.reason}"


class DescriptionError(ValueError):
    """A value contradicts the description; `str(error)` is its first fault."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults
        """All that is wrong, in the order in which it was found."""

    def within(self, step: str | int) -> tuple[Fault, ...]:
        """Return the faults, seen from one level further out."""
        return tuple(Fault(fault.reason, (step, *fault.place)) for fault in self.faults)

    def __str__(self) -> str:
        return str(self.faults[0])
