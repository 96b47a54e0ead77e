"""Measure what the client takes beside the old one, curl and json.loads: `make bench`.

All sides of a figure take turns in one run on one machine, and a figure is the ratio of medians. A
whole run writes its table, numbers and plot to docs/; a part of one nowhere, but where it is told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import endurance, layers, plot, servers, sides, table
from .sides import Side, alternate, command
from .table import Measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sides import Reply, Samples

MEBIBYTE = 1024 * 1024
CONFIG = '{"commands": ["true"]}'


class Bench:
    """All that is measured, by the names that `--only` takes."""

    def __init__(self, ours: Side, theirs: Side | None, options: argparse.Namespace) -> None:
        self._ours = ours
        self._theirs = theirs
        self._options = options
        self._folder = Path(options.folder)

    def sync(self) -> list[Measured]:
        """Measure calls one after another."""
        number = self._number(300)
        found = self._both("sync", number=number, floor=True)
        return [
            measured("sync", found, 1000 / number),
            measured("floor", found, 1000 / number, theirs="floor"),
        ]

    def threads(self) -> list[Measured]:
        """Measure calls from threads."""
        number = self._number(480)
        return [measured("threads", self._both("threads", number=number), 1000 / number)]

    def tasks(self) -> list[Measured]:
        """Measure calls from tasks."""
        found: list[Measured] = []
        for width, usual in ((1, 300), (64, 1000), (512, 2048)):
            number = self._number(usual)
            samples = self._both("concurrent", number=number, width=width)
            found.append(measured(f"async-{width}", samples, 1000 / number))
            if width == 64:
                found.append(measured("cpu", samples, 1000 * 1000 / number, of="cpu"))
        return found

    def download(self) -> list[Measured]:
        """Measure an environment that goes to a file."""
        target = self._folder / "download"
        size = self._options.mebibytes * MEBIBYTE
        path = f"/{size}"

        def curl() -> Reply:
            url = f"{self._ours.url}{path}/environments/x/"
            return command("curl", "-sS", "-o", target, url)

        def cleared(turn: Callable[[], Reply]) -> Callable[[], Reply]:
            def work() -> Reply:
                target.unlink(missing_ok=True)
                reply = turn()
                assert target.stat().st_size == size
                return reply

            return work

        def from_(side: Side) -> Callable[[], Reply]:
            return cleared(lambda: side.ask_anew("download", path, path=str(target)))

        found = alternate(
            self._large,
            {
                "ours": from_(self._ours),
                "curl": cleared(curl),
                "theirs": from_(self._theirs) if self._theirs else None,
            },
        )
        return [
            measured("download-curl", found, theirs="curl"),
            measured("download", found),
            measured("download-memory", found, 1 / MEBIBYTE, of="peak"),
        ]

    def upload(self) -> list[Measured]:
        """Measure an environment that is packed."""
        archive = self._folder / "environment.tgz"
        piece = os.urandom(MEBIBYTE)
        with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
            member = tarfile.TarInfo("random")
            member.size = self._options.mebibytes * MEBIBYTE
            tar.addfile(member, Repeated(piece))  # type: ignore[arg-type]
        found = alternate(
            self._large,
            {"ours": lambda: self._upload(archive), "curl": lambda: self._curl(archive)},
        )
        archive.unlink()
        return [
            measured("upload", found, theirs="curl"),
            measured("upload-memory", found, 1 / MEBIBYTE, theirs="", of="peak"),
        ]

    def folder(self) -> list[Measured]:
        """Measure one that has yet to be packed."""
        root, archive = self._folder / "exercise", self._folder / "exercise.tgz"
        for number in range(self._options.files):
            path = root / f"part-{number // 100}" / f"file-{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(number))

        def tar() -> Reply:
            packed = command("tar", "-czf", archive, "-C", root, ".")
            return {"seconds": packed["seconds"] + self._curl(archive)["seconds"]}

        found = alternate(self._large, {"ours": lambda: self._upload(root), "tar": tar})
        return [
            measured("folder", found, theirs="tar"),
            measured("folder-memory", found, 1 / MEBIBYTE, theirs="", of="peak"),
        ]

    def load(self) -> list[Measured]:
        """Measure the import, in a fresh process each time."""
        return [measured("import", self._codes("from sandbox_api import ASandbox, Sandbox"), 1000)]

    def first(self) -> list[Measured]:
        """Measure the first call of a fresh process, its import among it."""
        code = f"from sandbox_api import Sandbox; Sandbox({self._ours.url!r}).execute({CONFIG})"
        return [measured("first", self._codes(code), 1000)]

    def parse(self) -> list[Measured]:
        """Measure how answers that have come are read."""
        found: list[Measured] = []
        for kind in ("libraries", "result"):

            def turn(*, plain: bool, kind: str = kind) -> Reply:
                return self._ours.ask("parse", kind=kind, plain=plain)

            samples = alternate(
                max(self._options.rounds, 5) * 5,
                {"ours": lambda: turn(plain=False), "loads": lambda: turn(plain=True)},
            )
            found.append(measured(f"parse-{kind}", samples, 1000, theirs="loads"))
        return found

    def local(self) -> list[Measured]:
        """Measure the local sandbox beside bare bubblewrap; where it can't run, nothing."""
        from sandbox_api import LocalSandboxError

        from .local import measure

        try:
            bare, server = measure(self._options.rounds, 20)
        except (LocalSandboxError, TypeError) as error:
            print(f"The local sandbox is left out: {error}", file=sys.stderr)
            return []
        # Of the server each round's median is known, so of the other side too.
        size = len(bare.further) // len(server.further)
        further = [
            statistics.median(bare.further[start : start + size])
            for start in range(0, len(bare.further), size)
        ]
        return [
            Measured("local-request", each(server.request, 1000), each(bare.request, 1000)),
            Measured("local-further", each(server.further, 1000), each(further, 1000)),
            Measured("local-throughput", server.throughput, bare.throughput),
        ]

    @property
    def _large(self) -> int:
        return int(-(-self._options.rounds // 3))

    @property
    def _short(self) -> int:
        # Of turns that are over so soon that others on the machine disturb many of them.
        return 3 * int(self._options.rounds)

    def _number(self, usual: int) -> int:
        return usual // 10 if self._options.quick else usual

    def _both(self, do: str, *, floor: bool = False, **arguments: Any) -> Samples:
        theirs = self._theirs
        return alternate(
            self._short,
            {
                "ours": lambda: self._ours.ask(do, **arguments),
                "theirs": (lambda: theirs.ask(do, **arguments)) if theirs else None,
                "floor": (lambda: self._ours.ask("floor", **arguments)) if floor else None,
            },
        )

    def _codes(self, code: str) -> Samples:
        theirs = self._theirs
        return alternate(
            self._short,
            {
                "ours": lambda: self._ours.run(code),
                "theirs": (lambda: theirs.run(code)) if theirs else None,
            },
        )

    def _upload(self, path: Path) -> Reply:
        return self._ours.ask_anew("upload", path=str(path))

    def _curl(self, archive: Path) -> Reply:
        form = ["-F", f"config={CONFIG}", "-F", f"environment=@{archive}"]
        return command("curl", "-sS", *form, f"{self._ours.url}/execute/")


class Repeated:
    """A file that has the same again and again."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        return (self._content * -(-size // len(self._content)))[:size]


def text(number: int) -> str:
    """Return what a file may have: some 150 words in lines, the same for the same number."""
    words = random.Random(number)  # noqa: S311 (not a secret)
    some = [f"{words.choice(SYLLABLES)}{words.choice(SYLLABLES)}" for _ in range(150)]
    return "".join(" ".join(some[start : start + 6]) + "\n" for start in range(0, len(some), 6))


SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]

PARTS = {
    "sync": Bench.sync,
    "threads": Bench.threads,
    "async": Bench.tasks,
    "download": Bench.download,
    "upload": Bench.upload,
    "folder": Bench.folder,
    "import": Bench.load,
    "first": Bench.first,
    "parse": Bench.parse,
    "local": Bench.local,
}


def measured(
    name: str, samples: Samples, factor: float = 1, *, theirs: str = "theirs", of: str = "seconds"
) -> Measured:
    """Return what samples say of a figure."""
    mine, others = (
        [reply[of] * factor for reply in samples.get(side, [])] for side in ("ours", theirs)
    )
    return Measured(name, mine, others)


def each(values: list[float], factor: float) -> list[float]:
    """Return values in another unit."""
    return [value * factor for value in values]


def machine() -> str:
    """Return what of this machine matters, in a line."""
    return (
        f"Python {platform.python_version()}, zlib {zlib.ZLIB_RUNTIME_VERSION}, "
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    )


def write(folder: Path, found: list[Measured], on: str) -> None:
    """Write numbers, a plot and a table of what was found on a machine."""
    plots = folder / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    numbers = {"machine": on, "figures": {each.name: each.as_json() for each in found}}
    (plots / "figures.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    rows = [
        (
            f"{each.figure.text} : {each.figure.against}".replace("`", ""),
            each.ratio,
            None if each.figure.absolute else each.figure.must,
            None if each.figure.absolute else each.figure.aim,
        )
        for each in found
        if each.ratio is not None
    ]
    drawn = plot.ratios("Our time to theirs, ratio of medians", rows)
    (plots / "ratios.svg").write_text(drawn, encoding="utf-8")
    lines = [table.HEADINGS, *(each.cells() for each in found)]
    table.put(folder / "performance.md", "figures", f"{on}.\n\n{table.markdown(lines)}")


def write_again(folder: Path) -> None:
    """Write plots and tables of the numbers that are there."""
    figures, long = (
        json.loads((folder / "performance" / f"{name}.json").read_bytes())
        for name in ("figures", "long")
    )
    found = [Measured(name, of["ours"], of["theirs"]) for name, of in figures["figures"].items()]
    write(folder, found, figures["machine"])
    endurance.write(folder, long)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    made.add_argument("--only", help=f"what to measure, of {', '.join(PARTS)}; with commas between")
    made.add_argument("--quick", action="store_true", help="little of all, to try it in a minute")
    made.add_argument("--no-peer", action="store_true", help="install nothing: no old client")
    made.add_argument("--rounds", type=int, help="how often sides take turns; 15 by default")
    made.add_argument("--mebibytes", type=int, help="size of an environment; 1024 by default")
    made.add_argument("--files", type=int, help="files in a folder; 20000 by default")
    made.add_argument("--write", type=Path, help="folder to write to, laid out as docs/ is")
    made.add_argument(
        "--again", action="store_true", help="measure nothing: draw what is on record again"
    )
    made.add_argument(
        "--long",
        type=int,
        nargs="?",
        const=1_000_000,
        metavar="CALLS",
        help="measure instead what changes with time, size and concurrency; a million by default",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return 1 where something grows that must not."""
    options = parser().parse_args(arguments)
    names = options.only.split(",") if options.only else [*PARTS]
    if unknown := {*names} - {*PARTS}:
        parser().error(f"there is no {', '.join(sorted(unknown))}, but {', '.join(PARTS)}")
    if options.again:
        write_again(options.write or servers.ROOT / "docs")
        return 0
    whole = not (options.quick or options.only or options.no_peer)
    usual = (2, 8, 500) if options.quick else (15, 1024, 20_000)
    for name, value in zip(("rounds", "mebibytes", "files"), usual, strict=True):
        setattr(options, name, getattr(options, name) or value)
    target = options.write or (servers.ROOT / "docs" if whole else None)
    this, old = (None, None) if options.no_peer else (sides.this_client(), sides.old_client())
    with contextlib.ExitStack() as stack:
        options.folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-bench-"))
        url = stack.enter_context(servers.stub())
        ours = stack.enter_context(sides.side(this or sys.executable, url))
        theirs = stack.enter_context(sides.side(old, url)) if old else None
        if options.long:
            return endurance.run(ours, theirs, options.long, target, quick=options.quick)
        bench = Bench(ours, theirs, options)
        found: list[Measured] = []
        for name in names:
            print(f"Measuring {name}...", file=sys.stderr)
            found += PARTS[name](bench)
        tables = layers.run(ours) if whole else []
    figures = [table.HEADINGS, *(each.cells() for each in found)]
    print("\n\n".join([machine(), *map(table.plain, [figures, *tables])]))
    if old is None:
        print("\nThe old client was not measured.")
    if target is not None:
        write(target, found, machine())
        if tables:
            layered = "\n\n".join(map(table.markdown, tables))
            table.put(target / "performance.md", "layers", layered)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed: {error}")
