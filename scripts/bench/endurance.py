"""What changes with time, size and concurrency: `python -m scripts.bench --long`."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from . import plot, table
from .sides import alternate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .plot import Points
    from .sides import Reply, Side

BLOCKS = 20
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)

# How much more there may be in the last quarter than in the first: of processor time for noise, of
# memory for what an allocator keeps; of the others nothing.
SLOWER = 1.25
MORE_MEMORY = 4 * 1024 * 1024
COUNTED = ("descriptors", "threads", "tasks")

Block = dict[str, float]


def run(ours: Side, theirs: Side | None, calls: int, target: Path | None, *, quick: bool) -> int:
    """Measure all, print and write; return 1 where something grows."""
    blocks = {
        "one after another": endure(ours, calls, 0),
        "64 at once": endure(ours, calls, 64),
    }
    lines = grown(calls, blocks)
    print(table.plain(lines))
    rounds = 2 if quick else 5
    sides = {"sandbox-api": ours, **({"pl-sandbox-api": theirs} if theirs else {})}
    sizes = by_size(sides, SIZES[:4] if quick else SIZES, rounds)
    widths = by_width(sides, WIDTHS[:7] if quick else WIDTHS, rounds, 100 if quick else 2000)
    steps = [
        ["", *(f"{name}, ms" for name in sides)],
        *([f"{plot.short(x)}B" if x in SIZES else "", *cells] for x, *cells in columns(sizes)),
        *([f"{x:g} at once", *cells] for x, *cells in columns(widths)),
    ]
    print(table.plain(steps))
    if target is not None:
        numbers = {"calls": calls, "blocks": blocks, "sizes": sizes, "concurrency": widths}
        write(target, numbers)
    return 1 if any(line[-1] for line in lines[1:]) else 0


def write(folder: Path, numbers: dict[str, Any]) -> None:
    """Write numbers, plots of them and what grows."""
    plots = folder / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    (plots / "long.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    ms = "milliseconds"
    drawn = {
        "sizes": ("Time of a call by size of its answer", "bytes", ms),
        "concurrency": ("Time for each call by calls at once", "calls at once", ms),
    }
    for name, titles in drawn.items():
        svg = plot.lines(*titles, numbers[name])
        (plots / f"{name}.svg").write_text(svg, encoding="utf-8")
    lines = grown(numbers["calls"], numbers["blocks"])
    table.put(folder / "performance.md", "growth", table.markdown(lines))


def grown(calls: int, blocks: dict[str, list[Block]]) -> list[list[str]]:
    """Return the table of what grows; the first line has the headings."""
    lines = [["calls", "", "first quarter", "last quarter", "grows"]]
    for name, found in blocks.items():
        lines += [[f"{calls:,} {name}", *row] for row in growth(found)]
    return lines


def endure(side: Side, calls: int, width: int) -> list[Block]:
    """Call very often, and return what was measured of each block of calls."""
    found: list[Block] = side.ask_anew("endure", number=calls, blocks=BLOCKS, width=width)["value"]
    return found


def growth(blocks: list[Block]) -> list[list[str]]:
    """Return a line for each thing that must not grow: at first, at last, and whether it does."""
    quarter = max(len(blocks) // 4, 1)
    rows: list[list[str]] = []
    for name in blocks[0]:
        first, last = (
            statistics.median(block[name] for block in part)
            for part in (blocks[:quarter], blocks[-quarter:])
        )
        if name == "memory":
            cells = [f"{value / 2**20:.1f} MiB" for value in (first, last)]
            grows = last > first + MORE_MEMORY
        elif name in COUNTED:
            cells = [f"{value:g}" for value in (first, last)]
            grows = last > first
        else:
            cells = [f"{table.shown(value)} ms" for value in (first, last)]
            grows = name == "cpu" and last > first * SLOWER  # others may slow the clock down
        titles = {"ms": "time of a call", "cpu": "processor time of a call"}
        rows.append([titles.get(name, name), *cells, "YES" if grows else ""])
    return rows


def by_size(sides: dict[str, Side], sizes: Any, rounds: int) -> dict[str, Points]:
    """Return what a call takes, in ms, by the size of its answer."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for size in sizes:
        number = max(min(200, int(2e7 / size)), 1)
        add(found, sides, rounds, size, number, "sync", path=f"/{size:.0f}")
    return {**found}


def by_width(sides: dict[str, Side], widths: Any, rounds: int, number: int) -> dict[str, Points]:
    """Return what a call takes, in ms, by how many there are at once."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for width in widths:
        add(found, sides, rounds, width, number, "concurrent", width=width)
    return {**found}


def add(
    found: dict[str, list[tuple[float, float]]],
    sides: dict[str, Side],
    rounds: int,
    x: float,
    number: int,
    do: str,
    path: str = "",
    **arguments: Any,
) -> None:
    """Measure one point of each side's line."""

    def turns(side: Side) -> Callable[[], Reply]:
        return lambda: side.ask(do, path, number=number, **arguments)

    samples = alternate(rounds, {name: turns(side) for name, side in sides.items()})
    for name, replies in samples.items():
        seconds = statistics.median(reply["seconds"] for reply in replies)
        found[name].append((x, seconds / number * 1000))


def columns(series: dict[str, Points]) -> list[list[Any]]:
    """Return lines of a table: x, and each side's y."""
    every = [*series.values()]
    return [
        [x, *(table.shown(points[index][1]) for points in every)]
        for index, (x, _) in enumerate(every[0])
    ]
