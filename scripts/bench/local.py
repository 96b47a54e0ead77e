"""Measure how fast the local sandbox is beside bare bubblewrap, both sides in turn in one run.

Three ratios matter: a request over a connection that is kept open beside one bare `bwrap … bash -c
true` with the same options, each further command beside `bash -c true` in a sandbox, and the
throughput of eight clients beside that of bare runs under `xargs -P 8`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sandbox_api.local import LocalServer
from sandbox_api.local.isolation import Bubblewrap, folders, probe

from .servers import Connection

CLIENTS = 8
FURTHER = 50
# So many times the runs of a round, that starting and stopping eight counts little.
MANY = 16
# Ratios that a good build keeps: the first two are bounds from above, the last from below.
TARGETS = {"request": 3.0, "further": 1.5, "throughput": 0.7}

LOOP = """
for ((number = 0; number < $1; number++)); do
  before=$EPOCHREALTIME
  {}
  after=$EPOCHREALTIME
  echo $((${{after/./}} - ${{before/./}}))
done
"""


class Bare:
    """Runs of bubblewrap without any server."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o711)
        found = probe("bubblewrap", folder)
        if not isinstance(found, Bubblewrap):
            raise TypeError("there is nothing to compare with")
        self._isolator = found
        self._home, self._control = folder / "home", folder / "control"
        for path in (self._home, self._control):
            path.mkdir()
            self._isolator.give(path)
        self._filter = folder / "filter"
        self._filter.write_bytes(self._isolator.filter or b"")
        self._filter.chmod(0o644)

    def runs(self, number: int) -> list[float]:
        """Return the seconds that each of some runs took."""
        run = self._filtered("bash", "-c", "true")
        return self._times(["/bin/bash", "-c", LOOP.format(run), "runs", str(number)])

    def further(self, number: int) -> list[float]:
        """Return the seconds that each of some `bash -c true` in one sandbox took."""
        inside = "bash", "-c", LOOP.format("bash -c true"), "further", str(number)
        return self._times(["/bin/bash", "-c", f"exec {self._filtered(*inside)}"])

    def throughput(self, number: int) -> float:
        """Return how many runs there are in a second, eight at once."""
        # Without the filter, which eight cannot read from one descriptor.
        run = [*self._options(), "--", "bash", "-c", "true"]
        started = time.perf_counter()
        self._call(["xargs", "-P", str(CLIENTS), "-I", "{}", *run], input="x\n" * number)
        return number / (time.perf_counter() - started)

    def _filtered(self, *command: str) -> str:
        """Return what a shell runs to have a command in a sandbox with a filter of system calls."""
        filtered = f"--seccomp 9 9<{self._filter}" if self._isolator.filter else ""
        return f"{shlex.join(self._options())} {filtered} -- {shlex.join(command)}"

    def _options(self) -> list[str]:
        """Return the options for the same sandbox, as bubblewrap's manual has them.

        Each link and folder is one of them. The server makes what it can once for all sandboxes.
        """
        isolator, root = self._isolator, Path(self._isolator.tree.root)
        files = ["--ro-bind", str(root / "etc"), "/etc"]
        files += [part for path in isolator.tree.shown for part in ("--ro-bind", path, path)]
        for link in (path for path in (*root.iterdir(), root / "var/tmp") if path.is_symlink()):
            files += ["--symlink", str(link.readlink()), f"/{link.relative_to(root)}"]
        own = [*isolator.fresh, *folders(self._home, self._control), "--remount-ro", "/"]
        return [isolator.bwrap, *isolator.namespaces, *files, *own]

    def _times(self, command: list[str]) -> list[float]:
        return [int(line) / 1e6 for line in self._call(command).split()]

    def _call(self, command: list[str], **options: str) -> str:
        # All runs are of the account that the server would choose, at no cost to each.
        account = self._isolator.account
        become = {} if account is None else {"user": account, "group": account, "extra_groups": []}
        result: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            text=True,
            check=True,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            **options,
            **become,  # type: ignore[call-overload]
        )
        return result.stdout


@dataclass
class Side:
    """What was measured of one side: seconds, and runs in a second."""

    request: list[float] = field(default_factory=list[float])
    further: list[float] = field(default_factory=list[float])
    throughput: list[float] = field(default_factory=list[float])

    def medians(self) -> dict[str, float]:
        """Return the median of each."""
        return {name: statistics.median(values) for name, values in asdict(self).items()}


def connected(server: LocalServer) -> contextlib.closing[Connection]:
    """Return a connection that is kept open in a `with` block."""
    return contextlib.closing(Connection(server.url.removeprefix("unix://")))


def throughput(server: LocalServer, number: int) -> float:
    """Return how many requests are answered in a second, to eight clients."""

    def work() -> None:
        with connected(server) as connection:
            for _ in range(number // CLIENTS):
                connection.execute()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number // CLIENTS * CLIENTS / (time.perf_counter() - started)


def measure(rounds: int, number: int) -> tuple[Side, Side]:
    """Measure both sides in turn, and return what bare runs and what the server took."""
    bare, ours = Side(), Side()
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        runs = Bare(Path(name))
        server = LocalServer()
        try:
            with connected(server) as connection:
                connection.execute()
                for _ in range(rounds):
                    bare.request += runs.runs(number)
                    one = [connection.execute() for _ in range(number)]
                    ours.request += one
                    # Of both sides the mean of so many in a row.
                    bare.further.append(statistics.fmean(runs.further(FURTHER)))
                    many = [connection.execute(1 + FURTHER) for _ in range(max(number // 4, 1))]
                    more = statistics.median(many) - statistics.median(one)
                    ours.further.append(more / FURTHER)
                    bare.throughput.append(runs.throughput(MANY * number))
                    ours.throughput.append(throughput(server, MANY * number))
        finally:
            server.stop()
    return bare, ours


def main() -> int:
    """Measure and print; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often to measure each side")
    parser.add_argument("--number", type=int, default=20, help="runs of each side in a round")
    parser.add_argument("--json", action="store_true", help="print an object")
    options = parser.parse_args()
    bare, ours = (side.medians() for side in measure(options.rounds, options.number))
    ratios = {name: ours[name] / bare[name] for name in TARGETS}
    met = {
        name: ratio > TARGETS[name] if name == "throughput" else ratio < TARGETS[name]
        for name, ratio in ratios.items()
    }
    if options.json:
        print(json.dumps({"bare": bare, "server": ours, "ratios": ratios, "met": met}, indent=2))
    else:
        print(f"{'':12}{'bare':>12}{'server':>12}{'ratio':>8}  target")
        for name, bound in TARGETS.items():
            factor, unit = (1, "/s") if name == "throughput" else (1000, "ms")
            sign = ">" if name == "throughput" else "<"
            values = "".join(f"{side[name] * factor:9.2f} {unit}" for side in (bare, ours))
            verdict = "" if met[name] else "  MISSED"
            print(f"{name:12}{values}{ratios[name]:8.2f}  {sign} {bound}{verdict}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
