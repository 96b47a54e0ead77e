"""What goes wrong when JSON is read."""

from __future__ import annotations


class DescriptionError(ValueError):
    """A value contradicts the description.

    `str(error)` is a sentence that starts with the value's place:
    `execution[0].time: must be a number, not 'soon'`.
    """

    def __init__(self, reason: str, *place: str | int) -> None:
        super().__init__(reason, *place)
        self.reason = reason
        """What is wrong, as the end of a sentence about the value."""
        self.place = place
        """Keys and indexes that lead to the value."""

    def within(self, step: str | int) -> DescriptionError:
        """Return the same error, seen from one level further out."""
        return DescriptionError(self.reason, step, *self.place)

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
