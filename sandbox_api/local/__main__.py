"""Run a local sandbox server: `python -m sandbox_api.local`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from . import serve
from .isolation import Isolation
from .journal import LogFormat
from .options import MAX_STORAGE, SettingError
from .server import serve_parent


def main() -> int:
    """Read the command line and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="sandbox_api.local", description="Run a local sandbox.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=7000, type=int, help="port to listen on; 0: any free one")
    parser.add_argument("--fd", type=int, help="descriptor of a socket to listen on instead")
    parser.add_argument("--data", help="folder or URL of environments; default: the user's")
    parser.add_argument("--max-storage", default=MAX_STORAGE, help="most that environments take")
    parser.add_argument("--token", help="what requests must carry; safer set as SANDBOX_TOKEN")
    parser.add_argument("--isolation", choices=get_args(Isolation), default="bubblewrap")
    parser.add_argument("--image", help="what containers of podman or docker are made of")
    parser.add_argument("--network", action="store_true", help="let commands use the network")
    parser.add_argument("--slots", type=int, help="executions at once; default: two a core")
    parser.add_argument("--wait", type=float, help="seconds that others wait; default: 2")
    parser.add_argument("--run-time", type=float, help="seconds for a request's commands; 10")
    parser.add_argument("--log-format", choices=get_args(LogFormat), default="text")
    parser.add_argument("--private", type=Path, help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    private = options.pop("private")
    try:
        if private:
            given = ("fd", "isolation", "image", "run_time")
            serve_parent(folder=private, **{name: options[name] for name in given})
        else:
            options["token"] = options["token"] or os.environ.get("SANDBOX_TOKEN")
            serve(**options)
    except (RuntimeError, OSError, SettingError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
