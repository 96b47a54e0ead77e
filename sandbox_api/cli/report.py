"""How a batch went: in a sentence, and as a page that needs nothing else, with table and plots."""

from __future__ import annotations

import json
import math
import time
from array import array
from html import escape
from typing import TYPE_CHECKING, Any, get_args

from sandbox_api.batch import Outcome

from .shared import USAGE, counted, fail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Line = dict[str, Any]
OUTCOMES: tuple[str, ...] = get_args(Outcome)

# How many jobs the table has, at most, and how much of the words of each, in characters.
MOST_ROWS = 5000
LONGEST = 300

BINS = 30
WIDTH, HEIGHT = 640, 160

COLOURS = {"passed": "#2a8f4f", "failed": "#c23b3b", "timed out": "#c98a1b", "error": "#7a4fbf"}

START = "<!doctype html>\n"

# What jobs left is hostile: it is escaped, and nothing is loaded or run.
PAGE = (
    START
    + """<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem; }}
h1, p, pre {{ overflow-wrap: anywhere; }}
svg {{ max-width: 100%; height: auto; }}
svg text {{ fill: currentColor; font: 12px system-ui, sans-serif; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: .2rem .6rem .2rem 0; vertical-align: top; }}
tr {{ border-bottom: 1px solid #8884; }}
:is(th, td):not(:last-child) {{ white-space: nowrap; }}
td:last-child {{ min-width: 15rem; }}
:is(th, td):is(:nth-child(3), :nth-child(4)) {{ text-align: right; }}
td {{ font-variant-numeric: tabular-nums; }}
pre {{ margin: 0; white-space: pre-wrap; }}
</style>
<h1>{title}</h1>
<p id="summary">{summary}</p>
<h2>Outcomes</h2>
{outcomes}
<h2>Seconds</h2>
{times}
<h2>Jobs</h2>
{omitted}
<table id="jobs">
<thead><tr><th>Id<th>Outcome<th>Seconds<th>Attempts<th>Output or error</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</html>
"""
)


class Summary:
    """How all jobs ended, and how long they took."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.seconds = array("d")
        self._since = time.monotonic()

    def add(self, line: Line) -> None:
        """Add a result."""
        self.outcomes[line["outcome"]] += 1
        self.seconds.append(line["seconds"])

    @property
    def passed(self) -> bool:
        """Whether all did."""
        return len(self.seconds) == self.outcomes["passed"]

    def percentile(self, percent: int) -> float:
        """Return the time that so many percent of the jobs did not take longer than."""
        times = sorted(self.seconds)
        return times[-(-len(times) * percent // 100) - 1] if times else 0.0

    def __str__(self) -> str:
        counts = self.outcomes
        text = (
            f"{counted(len(self.seconds), 'job')} in {time.monotonic() - self._since:.1f} s: "
            f"{counts['passed']} passed, {counts['failed']} failed, "
            f"{counts['timed out']} timed out, {counted(counts['error'], 'error')}"
        )
        times = ", ".join(f"p{p} {self.percentile(p):.3f} s" for p in (50, 95, 99))
        return f"{text}; {times}" if self.seconds else text


class Report:
    """A report that grows by the lines of results."""

    def __init__(self, title: str, path: Path) -> None:
        if path.is_dir() or (path.is_file() and not is_report(path)):
            fail(f"{path} is there, and no report: name another file", USAGE)
        self._title = title
        self._path = path
        self._rows: list[str] = []
        self._count = 0

    def add(self, line: Line) -> None:
        """Add a result."""
        self._count += 1
        if len(self._rows) < MOST_ROWS:
            name = line["id"] if isinstance(line["id"], str) else json.dumps(line["id"])
            cells = [name, line["outcome"], f"{line['seconds']:.3f}", str(line["attempts"])]
            shown = "".join(f"<td>{escape(cell)}" for cell in cells)
            self._rows.append(f"<tr>{shown}<td><pre>{escape(words(line))}</pre></tr>")

    def write(self, summary: Summary) -> None:
        """Write the page."""
        rest = self._count - len(self._rows)
        page = PAGE.format(
            title=escape(self._title),
            summary=escape(str(summary)),
            outcomes=outcomes(summary.outcomes),
            times=histogram(summary.seconds),
            omitted=f"<p>The first {len(self._rows)}; {rest} more are not shown.</p>" * (rest > 0),
            rows="\n".join(self._rows),
        )
        self._path.write_text(page, encoding="utf-8", errors="replace")


def is_report(path: Path) -> bool:
    """Tell whether a file is a report, or empty: whether another may take its place."""
    with path.open("rb") as file:
        return file.read(len(START)) in {b"", START.encode()}


def words(line: Line) -> str:
    """Return the end of what a job's last command wrote, or its error."""
    if "error" in line:
        text = line["error"]["message"]
    else:
        last = (line["result"]["execution"] or [{"stdout": "", "stderr": ""}])[-1]
        text = last["stderr"] or last["stdout"]
    text = text.strip()
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"


def outcomes(counts: dict[str, int]) -> str:
    """Draw a bar for each outcome."""
    most = max(*counts.values(), 1)
    bars = [
        f'<text x="0" y="{row * 26 + 16}">{name}</text>'
        f'<rect x="80" y="{row * 26 + 3}" width="{number / most * (WIDTH - 160):.1f}" height="18"'
        f' fill="{COLOURS[name]}"/>'
        f'<text x="{86 + number / most * (WIDTH - 160):.1f}" y="{row * 26 + 16}">{number}</text>'
        for row, (name, number) in enumerate(counts.items())
    ]
    return drawing("Outcomes", 26 * len(counts), bars)


def histogram(seconds: Sequence[float]) -> str:
    """Draw how many jobs took how long, on a logarithmic scale."""
    if not seconds:
        return "<p>No job has ended.</p>"
    low = math.log10(max(min(seconds), 1e-3))
    high = max(math.log10(max(*seconds, 1e-3)), low + 0.1)
    bins = [0] * BINS
    for each in seconds:
        place = (math.log10(max(each, 1e-3)) - low) / (high - low) * BINS
        bins[min(int(place), BINS - 1)] += 1
    wide, most = WIDTH / BINS, max(bins)
    bars = [
        f'<rect x="{number * wide + 1:.1f}" y="{HEIGHT - tall:.1f}" width="{wide - 2:.1f}"'
        f' height="{tall:.1f}" fill="#3b6fc2"><title>{counted(found, "job")}</title></rect>'
        for number, found in enumerate(bins)
        for tall in [found / most * (HEIGHT - 10)]
    ]
    for part in (0, 0.5, 1):
        anchor = {0: "start", 0.5: "middle", 1: "end"}[part]
        label = f"{10 ** (low + part * (high - low)):.3g} s"
        bars.append(
            f'<text x="{part * WIDTH}" y="{HEIGHT + 16}" text-anchor="{anchor}">{label}</text>'
        )
    return drawing("Seconds", HEIGHT + 22, bars)


def drawing(label: str, height: int, shapes: Iterable[str]) -> str:
    """Return a drawing in SVG."""
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">'
        f"{''.join(shapes)}</svg>"
    )
