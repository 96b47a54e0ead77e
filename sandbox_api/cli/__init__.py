"""The command line: `sandbox-api`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("The command line needs one more package: pip install 'sandbox-api[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    app()
