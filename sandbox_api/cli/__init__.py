"""The command line: `sandbox-api`."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line."""
    open_streams()
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("The command line needs one more package: pip install 'sandbox-api[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        app()
    except OSError as error:  # help that can't be written
        sys.exit(f"sandbox-api: {error.strerror}")


def open_streams() -> None:
    """Make standard streams usable: open closed ones, before other files get their places."""
    for number, name in enumerate(["stdin", "stdout", "stderr"]):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            file = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it can't encode is shown as it is written
            stream.reconfigure(errors="backslashreplace")
