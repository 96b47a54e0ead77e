"""The commands of the command line."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated, Literal, NoReturn

import typer

from sandbox_api import (
    ExecutionResult,
    InvalidURL,
    LocalSandboxError,
    Sandbox,
    Sandbox503,
    SandboxErrCode,
    SandboxError,
    SandboxFailure,
    TimedOut,
    __version__,
)

from .verify import verify

# Exit codes beside the execution's own, as coreutils' timeout and sysexits.h have them.
FAILED = 1
USAGE = 2
UNAVAILABLE = 69
OVERLOADED = 75
TIMED_OUT = 124

app = typer.Typer(
    help="Run commands in isolated sandboxes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sandbox-api {__version__}")
        raise typer.Exit


app.command()(verify)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run commands in isolated sandboxes."""


@app.command()
def execute(
    commands: Annotated[list[str], typer.Argument(metavar="COMMAND...", show_default=False)],
    url: Annotated[
        str | None,
        typer.Option(
            envvar="SANDBOX_URL",
            help="The sandbox server; a private local sandbox when not given.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for the server.")
    ] = 60,
) -> None:
    """Run bash commands one after another, each in quotes, until one fails.

    A leading "-" means that a command's failure is ignored; put "--" before such commands.

    Exits with the status of the execution: that of the command that ended it, or 124 when that
    timed out; 69 when the sandbox can't be reached or started, 75 when it is overloaded.
    """
    try:
        with Sandbox(url, timeout) if url else Sandbox.local(timeout) as sandbox:
            result = sandbox.execute({"commands": commands})
    except InvalidURL as error:
        _fail(error, USAGE)
    except Sandbox503 as error:
        _fail(error, OVERLOADED)
    except TimedOut as error:
        _fail(error, TIMED_OUT)
    except SandboxFailure as error:
        _fail(error, UNAVAILABLE)
    except SandboxError as error:
        _fail(error, FAILED)
    for command in result.execution:
        if command.stdout:
            typer.echo(command.stdout)
        if command.stderr:
            typer.echo(command.stderr.rstrip("\n"), err=True)
    raise typer.Exit(_exit_code(result))


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 7000,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps environments; by default one of the user's data."),
    ] = None,
    max_storage: Annotated[
        str, typer.Option(metavar="SIZE", help="How much all environments may take.")
    ] = "10G",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SANDBOX_TOKEN",
            help="What requests must carry. Others can see command lines: rather set the variable.",
            show_default=False,
        ),
    ] = None,
    isolation: Annotated[
        Literal["bubblewrap", "podman", "docker", "none"],
        typer.Option(help='How to shut commands in; "none" is for commands you trust as yourself.'),
    ] = "bubblewrap",
    image: Annotated[
        str | None,
        typer.Option(
            help="Image of containers, with podman or docker; by default "
            "docker.io/library/python:3-slim. Get it yourself first.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Let commands use this machine's network.")
    ] = False,
    slots: Annotated[
        int | None, typer.Option(help="Requests to execute at once; by default two a core.")
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long others wait before they get 503.")
    ] = 2,
    log_format: Annotated[
        Literal["text", "json", "none"], typer.Option(help="How to log requests.")
    ] = "text",
) -> None:
    """Serve a local sandbox over HTTP until interrupted.

    Asked to end, by Ctrl+C or SIGTERM, it finishes what runs; asked twice, it does not.
    """
    from sandbox_api._local import serve

    try:
        serve(
            host=host,
            port=port,
            data=data,
            max_storage=max_storage,
            token=token,
            isolation=isolation,
            image=image,
            network=network,
            slots=slots,
            wait=wait,
            log_format=log_format,
        )
    except LocalSandboxError as error:
        _fail(error, UNAVAILABLE)


def _exit_code(result: ExecutionResult) -> int:
    if result.status == SandboxErrCode.TIMEOUT:
        return TIMED_OUT
    return result.status if result.status >= 0 else FAILED


def _fail(error: Exception, code: int) -> NoReturn:
    typer.echo(f"sandbox-api: {error}", err=True)
    raise typer.Exit(code)
