"""The figures that are measured, what they must reach, and how they are shown."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OLD = "old client"


@dataclass(frozen=True)
class Figure:
    """A figure, and its bounds: of our median to theirs, or where `absolute` of ours alone."""

    text: str
    against: str
    unit: str
    must: float | None = None
    aim: float | None = None
    least: bool = False
    """Whether more is better."""
    absolute: bool = False


FIGURES = {
    "sync": Figure("`execute`, one after another", OLD, "ms", 0.45, 0.30),
    "floor": Figure("the same beside a bare socket", "socket", "ms"),
    "threads": Figure("`execute` from 16 threads", OLD, "ms", 0.5, 0.33),
    "async-1": Figure("async `execute`, 1 at a time", OLD, "ms", 1.3, 1.0),
    "async-64": Figure("async `execute`, 64 at once", OLD, "ms", 2.2, 1.0),
    "async-512": Figure("async `execute`, 512 at once", OLD, "ms", 2.2, 1.0),
    "cpu": Figure("processor time of 1,000 of these", OLD, "ms", 2.2, 1.0),
    "download-curl": Figure("download to a file", "curl", "s", 1.8, 1.15),
    "download": Figure("download to a file", OLD, "s", 0.5),
    "download-memory": Figure("memory of a download", OLD, "MiB", 64, absolute=True),
    "upload": Figure("upload of a .tgz", "curl", "s", 2.0, 1.15),
    "upload-memory": Figure("memory of an upload", "", "MiB", 64, absolute=True),
    "folder": Figure("upload of a folder", "tar, curl", "s", 1.3, 1.15),
    "folder-memory": Figure("memory of a folder's upload", "", "MiB", 64, absolute=True),
    "import": Figure("import of the classes", OLD, "ms", 0.45, 0.30),
    "first": Figure("first call of a process", OLD, "ms", 0.5, 0.33),
    "parse-libraries": Figure("reading 5,000 libraries", "json.loads", "ms", 2.0, 1.3),
    "parse-result": Figure("reading 1,000 commands", "json.loads", "ms", 2.0, 1.3),
    "local-request": Figure("local sandbox: a request", "bwrap", "ms", 3.0, 2.4),
    "local-further": Figure("local sandbox: one more command", "bash -c", "ms", 1.5, 1.2),
    "local-throughput": Figure(
        "local sandbox: 8 clients", "xargs -P 8", "/s", 0.7, 0.875, least=True
    ),
}


@dataclass(frozen=True)
class Measured:
    """What was measured of a figure, of ours and, where that was there, of theirs."""

    name: str
    ours: list[float]
    theirs: list[float]

    @property
    def figure(self) -> Figure:
        """What it is."""
        return FIGURES[self.name]

    @property
    def ratio(self) -> float | None:
        """Our median to theirs."""
        if not self.theirs:
            return None
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def ratio_of_best(self) -> float | None:
        """Our best to theirs: what noise can least disturb."""
        best = max if self.figure.least else min
        return best(self.ours) / best(self.theirs) if self.theirs else None

    @property
    def reached(self) -> str:
        """What is reached: the must or the aim, or neither."""
        figure = self.figure
        value = statistics.median(self.ours) if figure.absolute else self.ratio
        if figure.must is None or value is None:
            return ""
        if not within(value, figure.must, least=figure.least):
            return "MISSED"
        reached = figure.aim is not None and within(value, figure.aim, least=figure.least)
        return "aim" if reached else "must"

    def cells(self) -> list[str]:
        """Return what a table has of it."""
        figure = self.figure
        sign = "≥" if figure.least else "≤"
        unit = " MiB" if figure.absolute else ""
        bounds = [f"{sign} {bound:g}{unit}" if bound else "" for bound in (figure.must, figure.aim)]
        ratio = f"{self.ratio:.2f}" if self.ratio else ""
        ours, theirs = (
            f"{shown(statistics.median(side))} {figure.unit}" if side else ""
            for side in (self.ours, self.theirs)
        )
        beside = f"{figure.against} {theirs}" if theirs else ""
        return [figure.text, ours, beside, ratio, *bounds, self.reached]

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        figure = self.figure
        return {
            "figure": figure.text.replace("`", ""),
            "against": figure.against,
            "unit": figure.unit,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "ratio of the best": self.ratio_of_best,
            "must": figure.must,
            "aim": figure.aim,
            "reached": self.reached,
        }


HEADINGS = ["figure", "ours", "beside", "ratio", "must", "aim", "reached"]


def within(value: float, bound: float, *, least: bool) -> bool:
    """Tell whether a value keeps a bound."""
    return value >= bound if least else value <= bound


def shown(value: float) -> str:
    """Return a number as people read it, to three digits."""
    return f"{value:.{max(2 - math.floor(math.log10(value)), 0)}f}" if value > 0 else "0"


def plain(lines: list[list[str]]) -> str:
    """Return a table for a terminal; the first line has the headings."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(lines: list[list[str]]) -> str:
    """Return a table for a page; the first line has the headings."""
    first, *others = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in [first, ["---"] * len(first), *others])


def put(page: Path, part: str, text: str) -> None:
    """Put a text into a page, between the comments that name its part, if they are there."""
    if page.exists():
        before = page.read_text(encoding="utf-8")
        pattern = rf"(<!-- {part}: [^\n]*-->\n).*?(<!-- end of {part} -->)"
        after = re.sub(
            pattern, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", before, flags=re.DOTALL
        )
        page.write_text(after, encoding="utf-8")
