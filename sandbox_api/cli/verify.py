"""`sandbox-api verify`: whether a server keeps the description."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated, Any

import typer

from .shared import FAILED, UNAVAILABLE, USAGE, fail


def verify(
    url: Annotated[
        str,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="SANDBOX_URL",
            help="The sandbox server.",
            show_default=False,
        ),
    ],
    description: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An OpenAPI file, YAML or JSON; by default the newest server's.",
        ),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file of recorded exchanges; by default those of that version.",
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0, help="Requests a second, at most; 0 is no bound.")
    ] = 2,
    most: Annotated[int, typer.Option(metavar="N", min=1, help="Requests, at most.")] = 200,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help="Generated requests for each operation.")
    ] = 3,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for each answer.")
    ] = 60,
) -> None:
    """Look whether a server does what the description says.

    Shows what does not hold. Sends recorded and generated requests, one at a time, that run nothing
    but small commands and store a few small environments; a server in use is not loaded. A token
    is taken from SANDBOX_TOKEN.

    Exits with 0 when all that was looked at held, 1 when something is broken, 69 when the server
    can't be reached.
    """
    from sandbox_api import ConnectionFailed, InvalidURL

    try:
        from sandbox_api.verify import verify as look
    except ModuleNotFoundError as error:
        if error.name not in ("schemathesis", "hypothesis"):
            raise
        fail("this needs more packages: pip install 'sandbox-api[cli,verify]'", FAILED)
    try:
        report = look(
            url,
            description=_read(description) if description else None,
            recordings=recordings,
            rate=rate,
            most=most,
            examples=examples,
            timeout=timeout,
        )
    except ConnectionFailed as error:
        fail(error, UNAVAILABLE)
    except (InvalidURL, OSError, ValueError) as error:
        fail(error, USAGE)
    typer.echo(str(report))
    raise typer.Exit(0 if report.ok else FAILED)


def _read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        found: dict[str, Any] = json.loads(text)
    else:
        import yaml  # schemathesis has it

        found = yaml.safe_load(text)
    return found
