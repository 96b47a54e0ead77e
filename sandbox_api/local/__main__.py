"""Run a local sandbox server: `python -m sandbox_api.local`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import serve
from .server import serve_parent


def main() -> int:
    """Read the command line and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="sandbox_api.local", description="Run a local sandbox.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=7000, type=int, help="port to listen on; 0: any free one")
    parser.add_argument("--fd", type=int, help="descriptor of a socket to listen on instead")
    parser.add_argument("--data", type=Path, help="folder that keeps environments after the end")
    parser.add_argument("--isolation", choices=["bubblewrap", "none"], default="bubblewrap")
    parser.add_argument("--private", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.private:
            serve_parent(options.fd, options.private, options.isolation)
        else:
            serve(
                host=options.host,
                port=options.port,
                fd=options.fd,
                data=options.data,
                isolation=options.isolation,
            )
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
