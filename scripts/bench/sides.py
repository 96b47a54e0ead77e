"""The sides that take turns: this client and the old one, each in an environment, and commands."""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from .servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PEER = "pl-sandbox-api==1.1.4"
WORKER = Path(__file__).with_name("worker.py")

Reply = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """An interpreter that has a client, and the server's URL."""

    python: str
    url: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list[Any])

    def ask(self, do: str, path: str = "", /, **arguments: Any) -> Reply:
        """Do something in a process that is kept, for what is to be warm."""
        if not self.processes:
            self.processes.append(self._start())
        return self._ask(self.processes[0], do, path, arguments)

    def ask_anew(self, do: str, path: str = "", /, **arguments: Any) -> Reply:
        """Do something in a process of its own, whose memory is then that of nothing else."""
        with self._start() as process:
            return self._ask(process, do, path, arguments)

    def run(self, code: str) -> Reply:
        """Run code in a process of its own that has imported nothing before."""
        timed = f"import time; t = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
        done = subprocess.run(
            [self.python, "-P", "-c", timed], check=True, stdout=subprocess.PIPE, text=True
        )
        return {"seconds": float(done.stdout)}

    def _start(self) -> subprocess.Popen[str]:
        # -P: the names of modules beside the worker are not for others to import.
        command = [self.python, "-P", str(WORKER), self.url]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @staticmethod
    def _ask(
        process: subprocess.Popen[str], do: str, path: str, arguments: Mapping[str, Any]
    ) -> Reply:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"do": do, "path": path, "with": arguments}) + "\n")
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {do} failed, as it says above")
        reply: Reply = json.loads(line)
        return reply


@contextlib.contextmanager
def side(python: str, url: str) -> Iterator[Side]:
    """Give a side, and end its process."""
    made = Side(python, url)
    try:
        yield made
    finally:
        for process in made.processes:
            with process:
                process.stdin and process.stdin.close()


def old_client() -> str | None:
    """Return an interpreter that has the old client, if it can be installed."""
    return installed("pl-sandbox-api", [PEER])


def this_client() -> str | None:
    """Return one that has this client as a user does: compiled, beside its dependencies alone.

    In an environment of development, httpx and httpcore import more of what they find.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = installed("sandbox-api", project["dependencies"])
    if python is not None:
        (packages,) = Path(python).parents[1].glob("lib/python*/site-packages")
        for source in (ROOT / "sandbox_api", ROOT / "generated" / "sandbox_client"):
            target = packages / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(target, quiet=1)
    return python


def installed(name: str, requirements: list[str]) -> str | None:
    """Return the interpreter of an environment that has these, made where it is not there yet."""
    digest = hashlib.sha256(repr([requirements, sys.version]).encode()).hexdigest()[:8]
    folder = Path(platformdirs.user_cache_dir("sandbox-api-bench"), f"{name}-{digest}")
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"Making an environment for {name}, once...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [str(python), *install, *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            print(f"{name} cannot be installed: {reason}", file=sys.stderr)
            return None
        ready.touch()
    return str(python)


def command(*arguments: str | Path) -> Reply:
    """Run a command, as a side of its own."""
    started = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started}


def alternate(rounds: int, sides: Mapping[str, Callable[[], Reply] | None]) -> Samples:
    """Let sides take turns, so that a noisy machine is as noisy for all, after one turn to warm up.

    Sides that are None are left out.
    """
    present = {name: turn for name, turn in sides.items() if turn is not None}
    for turn in present.values():
        turn()
    found: Samples = {name: [] for name in present}
    for _ in range(rounds):
        for name, turn in present.items():
            found[name].append(turn())
    return found


Samples = dict[str, list[Reply]]
