"""Draw the architecture: the rooms of the house, from the layers that import-linter keeps.

A test compares the committed drawing with what this makes, so that it can't be another house's.
"""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "pictures" / "architecture.svg"

CONTAINERS = ("sandbox_api", "sandbox_api.local")
ROW, CHARACTER, LEFT = 32, 7, 16
STYLE = """
    svg { font: 11.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
    .paper { fill: #ffffff }
    .panel { fill: #f4f6fa; stroke: #c9d1de }
    .room { fill: #ffffff; stroke: #5b74b8 }
    .other { fill: #fdf3e1; stroke: #c58a1b }
    .made { fill: #e7f4ea; stroke: #3f8f54 }
    .hostile { fill: #fbe9e9; stroke: #b84a4a }
    .arrow { stroke: #6a7486; fill: none; stroke-width: 1.5 }
    .tip { fill: #6a7486 }
    text { fill: #1d2433 }
    .title { font: bold 14px system-ui, sans-serif }
    .note { font: 12px system-ui, sans-serif; fill: #566074 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #14171f }
      .panel { fill: #1b202b; stroke: #3a4356 }
      .room { fill: #242b3a; stroke: #7f97da }
      .other { fill: #3a2f1b; stroke: #d9a441 }
      .made { fill: #1c3324; stroke: #6cbb82 }
      .hostile { fill: #3b2020; stroke: #d97777 }
      .arrow { stroke: #9aa5b8 }
      .tip { fill: #9aa5b8 }
      text { fill: #e6eaf2 }
      .note { fill: #a8b2c4 }
    }
"""


def layers(container: str) -> list[str]:
    """Return the layers of a package, from the top down, as import-linter has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["containers"] == [container]
    )
    found: list[str] = contract["layers"]
    return found


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return some words."""
    of = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{of}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a box."""
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {size} rx="5" class="{kind}"/>'


def arrow(*points: tuple[float, float]) -> str:
    """Return an arrow along some points."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" class="arrow" marker-end="url(#tip)"/>'


def wide(rooms: list[str], gap: float) -> float:
    """Return how wide some rooms are."""
    return sum(len(room) * CHARACTER + 8 + gap for room in rooms) - gap


def rows(container: str) -> list[tuple[list[str], float]]:
    """Return the rooms of each layer, a row, and what is between them.

    They stand apart, or side by side where they may import each other.
    """
    found: list[tuple[list[str], float]] = []
    for layer in layers(container):
        rooms = re.split(r" [|:] ", layer)
        # `local` has a panel of its own.
        found.append(([room for room in rooms if room != "local"], 2 if ":" in layer else 8))
    return found


# A row that went on below would look like two layers.
PANEL = 16 + max(wide(*each) for name in CONTAINERS for each in rows(name))
RIGHT = LEFT + PANEL + 108
WIDTH = RIGHT + PANEL + LEFT


def row(x: float, y: float, rooms: list[str], gap: float) -> list[str]:
    """Draw a row of rooms."""
    at = x + (PANEL - wide(rooms, gap)) / 2
    parts: list[str] = []
    for room in rooms:
        width = wide([room], gap)
        parts += [box(at, y, width, 24, "room"), text(at + width / 2, y + 16, room, "", "middle")]
        at += width + gap
    return parts


def panel(x: float, y: float, container: str, title: str, height: float) -> list[str]:
    """Return a package with its rooms."""
    parts = [box(x, y, PANEL, height, "panel"), text(x + 14, y + 24, title, "title")]
    parts.append(text(x + PANEL - 14, y + 24, container, "note", "end"))
    for number, (rooms, gap) in enumerate(rows(container)):
        parts += row(x, y + 38 + number * ROW, rooms, gap)
    return parts


def drawing() -> str:
    """Return the whole drawing."""
    client, local = map(rows, CONTAINERS)
    # Below the local sandbox's rooms there is room for a box.
    top, height = 96, 38 + max(len(client), len(local) + 2) * ROW + 8
    below = top + height + 40
    middle_left, middle_right = LEFT + PANEL / 2, RIGHT + PANEL / 2
    # Where rooms of the client stand that are pointed from.
    (exchange,) = (number for number, (rooms, _) in enumerate(client) if "_exchange" in rooms)
    at = top + 38 + exchange * ROW + 12
    box_y = top + 38 + len(local) * ROW + 8
    parts = [
        box(0, 0, WIDTH, below + 132, "paper"),
        box(LEFT, 16, PANEL, 40, "other"),
        text(middle_left, 41, "your program, your tests, a shell", "", "middle"),
        arrow((middle_left, 56), (middle_left, top - 3)),
        box(RIGHT, 16, PANEL, 40, "other"),
        text(middle_right, 41, "a sandbox server of PremierLangage", "", "middle"),
        *panel(LEFT, top, "sandbox_api", "The client", height),
        *panel(RIGHT, top, "sandbox_api.local", "The local sandbox", height),
        # What the client sends, to either.
        arrow((LEFT + PANEL, at), (WIDTH / 2, at), (WIDTH / 2, 36), (RIGHT - 3, 36)),
        arrow((WIDTH / 2, top + 50), (RIGHT - 3, top + 50)),
        text(WIDTH / 2 + 8, top + 42, "HTTP", "note"),
        # What it shuts in.
        box(RIGHT + 60, box_y, PANEL - 120, 40, "hostile"),
        text(middle_right, box_y + 17, "a box for each request:", "", "middle"),
        text(middle_right, box_y + 33, "its commands, its files", "", "middle"),
        # What all know of the contract.
        arrow((middle_left, top + height), (middle_left, below - 3)),
        arrow((middle_right, top + height), (middle_right, below - 3)),
        box(LEFT, below, RIGHT + PANEL - LEFT, 40, "made"),
        text(
            WIDTH / 2,
            below + 25,
            "sandbox_client: models, endpoints, checks. Generated",
            "",
            "middle",
        ),
        arrow((WIDTH / 2, below + 76), (WIDTH / 2, below + 43)),
        text(WIDTH / 2 + 12, below + 64, "make generate", "note"),
        box(LEFT, below + 76, RIGHT + PANEL - LEFT, 40, "other"),
        text(WIDTH / 2, below + 101, "openapi/sandbox.yaml: what a server does", "", "middle"),
    ]
    lines = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {below + 132}">\n'
        "  <!-- Made by scripts/drawing.py -->\n"
        f"  <style>{STYLE}  </style>\n"
        '  <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" class="tip"/></marker>\n'
        f"{lines}\n</svg>\n"
    )
