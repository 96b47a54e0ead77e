"""What was found: a table of what holds, and each break with the request that shows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

ASPECTS = ("status codes", "headers", "body schema", "examples", "error bodies")
"""What is looked at of each operation."""

HELD, BROKEN, UNSEEN, NONE = "held", "broken", "not exercised", "-"


@frozen
class Break:
    """One way in which a server does not do what the description says."""

    operation: str
    """The operation's id."""

    aspect: str
    """Which of ASPECTS is broken."""

    what: str
    """What is wrong, in a sentence."""

    case: str
    """The recorded or generated case that shows it."""

    curl: str
    """The request, as a command; without secrets."""


@define
class Report:
    """What a run found."""

    described: Mapping[str, Set[str]]
    """For each operation, what the description says something of."""

    title: str = ""
    """Which server was looked at, and by what."""

    breaks: list[Break] = field(factory=list[Break])
    """All that is broken."""

    notes: list[str] = field(factory=list[str])
    """What else is to know: what was left out and why, and fields that are not described."""

    requests: int = 0
    """How many requests were sent."""

    _held: Counter[tuple[str, str]] = field(factory=Counter[tuple[str, str]])

    def held(self, operation: str, aspect: str) -> None:
        """Note that something was as described."""
        self._held[operation, aspect] += 1

    def note(self, text: str) -> None:
        """Note something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def cell(self, operation: str, aspect: str) -> str:
        """Return whether an aspect of an operation held, broke, was not exercised, or "-"."""
        if any((each.operation, each.aspect) == (operation, aspect) for each in self.breaks):
            return BROKEN
        if aspect not in self.described[operation]:
            return NONE
        return HELD if self._held[operation, aspect] else UNSEEN

    @property
    def ok(self) -> bool:
        """Whether something was looked at and nothing is broken."""
        return not self.breaks and bool(self._held)

    def table(self) -> str:
        """Return the operations and what holds of them, as lines of text."""
        rows: list[tuple[str, ...]] = [("", *ASPECTS)]
        rows += [(name, *(self.cell(name, each) for each in ASPECTS)) for name in self.described]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def __str__(self) -> str:
        parts = [self.title, self.table()]
        # One fault shows in many cases: each is told once, with the first of them.
        seen: dict[tuple[str, str, str], list[Break]] = {}
        for each in self.breaks:
            seen.setdefault((each.operation, each.aspect, each.what), []).append(each)
        for (operation, aspect, what), breaks in seen.items():
            more = f" and {len(breaks) - 1} more" if len(breaks) > 1 else ""
            parts.append(
                f"BROKEN {operation}, {aspect}: {what}\n  in {breaks[0].case}{more}:\n"
                f"  {breaks[0].curl}"
            )
        if self.notes:
            parts.append("\n".join(self.notes))
        verdict = f"{len(seen)} broken" if seen else "all held"
        parts.append(f"{verdict}, {self.requests} requests")
        return "\n\n".join(part for part in parts if part)
