"""The command `usage --watch`: the server's load as moving graphs."""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING

import typer

from .shared import print_json

if TYPE_CHECKING:
    from rich.table import Table

    from sandbox_api import Sandbox, Specifications, Usage

BLOCKS = " ▁▂▃▄▅▆▇█"
HISTORY = 60


class Graph:
    """The last values of something, as a line of blocks."""

    def __init__(self, most: float | None = None) -> None:
        self._values: deque[float] = deque(maxlen=HISTORY)
        self._most = most

    def add(self, value: float) -> None:
        """Add a value at the end."""
        self._values.append(value)

    def __str__(self) -> str:
        most = self._most or max(self._values, default=0.0) or 1.0
        tall = (min(value / most, 1.0) * (len(BLOCKS) - 1) for value in self._values)
        return "".join(BLOCKS[-int(-height // 1)] for height in tall)


class Screen:
    """What is shown, and for how long it was so."""

    def __init__(self, specifications: Specifications) -> None:
        self._ram = specifications.host.memory.ram
        self._slots = specifications.container.count
        self._graphs = {
            "CPU": Graph(1.0),
            "Memory": Graph(self._ram),
            "Slots": Graph(self._slots),
            "Sent": Graph(),
            "Received": Graph(),
        }

    def add(self, usage: Usage, width: int) -> Table:
        """Take note of a look, and return what to show on a terminal of some width."""
        from rich.filesize import decimal
        from rich.table import Table

        network = usage.network
        values = {
            "CPU": (usage.cpu.usage, f"{usage.cpu.usage:.0%}"),
            "Memory": (usage.memory.ram, f"{decimal(usage.memory.ram)} of {decimal(self._ram)}"),
            "Slots": (usage.container, f"{usage.container} of {self._slots}"),
            "Sent": (network.sent_bytes, f"{decimal(int(network.sent_bytes))}/s"),
            "Received": (network.received_bytes, f"{decimal(int(network.received_bytes))}/s"),
        }
        words = sum(
            max(map(len, column)) + 2 for column in (values, [t for _, t in values.values()])
        )
        room = min(max(width - words, 1), HISTORY)
        table = Table.grid(padding=(0, 2))
        for name, (value, text) in values.items():
            self._graphs[name].add(value)
            table.add_row(name, str(self._graphs[name])[-room:].rjust(room), text)
        return table


def watch(sandbox: Sandbox, interval: float, *, as_json: bool) -> None:
    """Show the load until interrupted: as graphs on a terminal, else a line a look."""
    from rich.console import Console
    from rich.live import Live

    screen = Screen(sandbox.specifications())
    console = Console()
    drawn = console.is_terminal and not as_json
    try:
        with Live(console=console, auto_refresh=False) if drawn else nullcontext() as live:
            while True:
                usage = sandbox.usage()
                if live is not None:
                    live.update(screen.add(usage, console.width), refresh=True)
                elif as_json:
                    print_json(usage)
                else:
                    typer.echo(plain(usage))
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def plain(usage: Usage) -> str:
    """Return a look on one line."""
    return (
        f"cpu {usage.cpu.usage:.0%}\tram {usage.memory.ram}\tslots {usage.container}\t"
        f"sent {usage.network.sent_bytes:.0f}\treceived {usage.network.received_bytes:.0f}"
    )
