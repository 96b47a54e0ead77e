"""Plots as SVG, with logarithmic axes."""

from __future__ import annotations

import itertools
import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Points = Sequence[tuple[float, float]]

# Of the Okabe-Ito palette, which those who see fewer colours tell apart, too.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]

# Light or dark as the page is: the paper and the ink; what is drawn between suits both.
STYLE = """
svg { color: #1d2433 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  svg { color: #e6eaf2 }
  .paper { fill: #14171f }
}
"""
GRID, BAR = "#80808040", "#0072b240"

LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 20, 40, 50, 720, 400


class Plot:
    """A drawing that grows."""

    def __init__(self, title: str, height: int = HEIGHT) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'font-family="sans-serif" font-size="12" fill="currentColor">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" class="paper"/>',
        ]
        self.text(LEFT, 22, title, size=14)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> None:
        """Write something."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
            f"{escape(text)}</text>"
        )

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float = 1) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw a point."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def svg(self) -> str:
        """Return the whole of it."""
        return "\n".join([*self._parts, "</svg>", ""])


class Axis:
    """A logarithmic axis, from one place of the drawing to another."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        logarithms = [math.log10(value) for value in values]
        # With some room, and never without an extent.
        self._low, self._high = min(logarithms) - 0.1, max(logarithms) + 0.1
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    @property
    def ticks(self) -> list[float]:
        """The values to name: powers of ten, and what is between where these are few."""
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        for steps in ((1,), (1, 2, 5)):
            found = [10.0**power * step for power in powers for step in steps]
            inside = [each for each in found if self._low <= math.log10(each) <= self._high]
            if len(inside) > 2:
                break
        return inside


def lines(title: str, across: str, up: str, series: dict[str, Points]) -> str:
    """Return a plot of lines."""
    plot = Plot(f"{title} ({up} by {across})")
    points = [*itertools.chain.from_iterable(series.values())]
    x = Axis((point[0] for point in points), LEFT, WIDTH - RIGHT)
    y = Axis((point[1] for point in points), HEIGHT - BOTTOM, TOP)
    for tick in x.ticks:
        plot.line([(x(tick), TOP), (x(tick), HEIGHT - BOTTOM)], GRID)
        plot.text(x(tick), HEIGHT - BOTTOM + 18, short(tick), anchor="middle")
    for tick in y.ticks:
        plot.line([(LEFT, y(tick)), (WIDTH - RIGHT, y(tick))], GRID)
        plot.text(LEFT - 6, y(tick) + 4, short(tick), anchor="end")
    plot.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across, anchor="middle")
    for number, (name, each) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = [(x(across), y(up)) for across, up in each]
        plot.line(drawn, colour, 2)
        for point in drawn:
            plot.dot(*point, colour)
        plot.dot(LEFT + 16, TOP + 14 + 18 * number, colour)
        plot.text(LEFT + 26, TOP + 18 + 18 * number, name)
    return plot.svg()


def ratios(title: str, rows: Sequence[tuple[str, float, float | None, float | None]]) -> str:
    """Return a plot of ratios: name, ratio, and two bounds, which are marked."""
    left, step = 330, 24
    height = TOP + BOTTOM + step * len(rows)
    plot = Plot(title, height)
    x = Axis((value for row in rows for value in row[1:] if value), left, WIDTH - RIGHT)
    for tick in x.ticks:
        plot.line([(x(tick), TOP), (x(tick), height - BOTTOM)], GRID)
        plot.text(x(tick), height - BOTTOM + 18, short(tick), anchor="middle")
    for number, (name, ratio, must, aim) in enumerate(rows):
        y = TOP + step * (number + 0.5)
        plot.text(left - 8, y + 4, name, anchor="end")
        plot.line([(x(ratio), y), (left, y)], BAR, 8)
        for bound, colour in ((must, COLOURS[1]), (aim, COLOURS[2])):
            if bound:
                plot.line([(x(bound), y - 9), (x(bound), y + 9)], colour, 3)
        plot.dot(x(ratio), y, COLOURS[0])
    for offset, colour, text in (
        (0, COLOURS[0], "measured"),
        (110, COLOURS[1], "must"),
        (190, COLOURS[2], "aim"),
    ):
        plot.dot(left + offset, height - 14, colour)
        plot.text(left + offset + 10, height - 10, text)
    return plot.svg()


def short(value: float) -> str:
    """Return a number in few characters: 10k, 1M."""
    for factor, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{sign}"
    return f"{value:g}"
