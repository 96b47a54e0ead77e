"""Run the command line: `python -m sandbox_api.cli`."""

from . import main

main()
