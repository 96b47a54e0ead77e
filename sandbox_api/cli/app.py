"""The commands of the command line. What they do is in other modules, loaded when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from sandbox_api._local import Isolation  # noqa: TC001 (typer asks for it)

from .shared import (
    FAILED,
    TIMED_OUT,
    UNAVAILABLE,
    USAGE,
    connected,
    connected_to,
    fail,
    failures,
    flattened,
    print_json,
    print_table,
    read_config,
    seconds,
    transfer,
    uploading,
)
from .verify import verify

if TYPE_CHECKING:
    from sandbox_api import ExecutionResult


class Commands(typer.core.TyperGroup):
    """The commands, each of which may fail."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and end with the exit code that tells what went wrong."""
        with failures():
            return super().invoke(ctx)

    def get_params(self, ctx: Any) -> Any:
        """Return the options, but typer's of completion, for which there is a command."""
        return [each for each in super().get_params(ctx) if "_completion" not in str(each.name)]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Help that is drawn takes half as long again to appear.
    rich_markup_mode=None,
)

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="SANDBOX_URL",
        help="The sandbox server; a private local sandbox when not given.",
        show_default=False,
    ),
]
StoredUrl = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", envvar="SANDBOX_URL", help="The sandbox server.", show_default=False
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        callback=seconds,
        help="How long to wait for the server; 0 is for ever.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Uuid = Annotated[str, typer.Argument(metavar="UUID", help="Id of the stored environment.")]
Inside = Annotated[
    str | None,
    typer.Argument(
        metavar="PATH",
        help="A file in it; the whole environment when not given.",
        show_default=False,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from sandbox_api import __version__

        typer.echo(f"sandbox-api {__version__}")
        raise typer.Exit


def _there(path: Path | None) -> Path | None:
    # As `exists` does, which with `allow_dash` refuses `-` in typer 0.29.
    if path is not None and str(path) != "-" and not path.exists():
        raise typer.BadParameter(f"'{path}' does not exist")
    return path


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run commands in isolated sandboxes.

    Exit codes: 2 wrong usage, 69 no server there, 75 server overloaded, 124 time-out, 130
    interrupted, 1 all other failures; `execute` gives the execution's own.
    """


@app.command()
def execute(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND...",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=_there,
            dir_okay=False,
            allow_dash=True,
            help="JSON to start from, as the API takes it; - is standard input.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Folder to lay into the working directory.",
        ),
    ] = None,
    env: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The same, as a gzipped tar archive.",
        ),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(metavar="UUID", help="Stored environment to start from.")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Store the environment afterwards.")] = False,
    result: Annotated[
        str | None, typer.Option(metavar="PATH", help="File in the sandbox to print at the end.")
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option("-e", metavar="VAR=VALUE", help="Variable to set; may be repeated."),
    ] = None,
    url: Url = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """Run bash commands one after another, until one fails.

    Each is an argument, in quotes. A leading "-" means that its failure is ignored; put "--" before
    such commands.

    Exits with the status of the execution: that of the command that ended it, or 124 when that
    timed out; 69 when the sandbox can't be reached or started, 75 when it is overloaded.
    """
    if folder is not None and env is not None:
        fail("give either --dir or --env", USAGE)
    for option, value in (("--environment", environment), ("--result", result)):
        if value == "":  # as of a variable that is not set
            fail(f"{option} is empty: give a value, or leave it out", USAGE)
    wanted = read_config(config) if config is not None else {}
    given: dict[str, Any] = {
        "commands": command,
        "environment": environment,
        "save": save,
        "result_path": result,
    }
    wanted |= {name: value for name, value in given.items() if value}
    if variables and isinstance(wanted.setdefault("environ", {}), dict):
        wanted["environ"] |= _variables(variables)
    if not wanted.get("commands"):
        _tell_ignored(wanted)
        raise typer.BadParameter("give commands, or a --config that has some")
    connect = connected_to if wanted.get("save") or wanted.get("environment") else connected
    with connect(url, timeout) as sandbox, uploading(folder or env) as files:
        done = sandbox.execute(wanted, files)
    if as_json:
        print_json(done)
    else:
        _show(done)
    raise typer.Exit(_exit_code(done))


def _tell_ignored(config: dict[str, Any]) -> None:
    from sandbox_api.config import ignored

    for key, meant in ignored(config):
        better = f"; is {meant} meant?" if meant else ""
        typer.echo(f"{key}: no sandbox knows this key, so it is ignored{better}", err=True)


def _variables(given: list[str]) -> dict[str, str]:
    for each in given:
        if each.find("=") < 1:
            fail(f"-e takes VAR=VALUE, not {each!r}", USAGE)
    return dict(each.split("=", 1) for each in given)


def _show(done: ExecutionResult) -> None:
    from sandbox_api import ExecutionFailed
    from sandbox_api._results import too_much

    bound = None
    # In colour is as it is: click would take what programs draw with out of what goes into a pipe.
    for command in done.execution:
        if command.stdout:
            typer.echo(command.stdout, color=True)
        if command.stderr:
            typer.echo(command.stderr.rstrip("\n"), err=True, color=True)
        if bound := too_much(command):
            typer.echo(f"sandbox-api: {bound}", err=True)
    if done.error and not done.timed_out and (failure := str(ExecutionFailed(done))) != bound:
        typer.echo(f"sandbox-api: {failure}", err=True)
    if done.result is not None:
        typer.echo(done.result, nl=not done.result.endswith("\n"), color=True)
    if done.environment is not None:
        until = f" until {done.expire:%Y-%m-%d %H:%M %Z}" if done.expire else ""
        typer.echo(f"stored as {done.environment}{until}", err=True)


def _exit_code(done: ExecutionResult) -> int:
    if done.timed_out:
        return TIMED_OUT
    return done.status if done.status >= 0 else FAILED


@app.command()
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS.jsonl|DIR",
            callback=_there,
            allow_dash=True,
            help="Jobs, one a line, - for standard input; or a folder of submissions.",
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND...",
            help="For a folder: what to run for each.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File of the results, one a line as JSON."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=_there,
            dir_okay=False,
            allow_dash=True,
            help="For a folder: JSON to start from; - is standard input.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|FILE",
            exists=True,
            help="For a folder: folder or archive that all start from, sent once.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="How many at once, at most; by default what it can take."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only what has no result in the file yet.")
    ] = False,
    retry_errors: Annotated[
        bool,
        typer.Option("--retry-errors", help="The same, and again what ended in an error."),
    ] = False,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster to run on.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of a report to look at.",
        ),
    ] = None,
    url: Url = None,
    timeout: Timeout = 60,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON, one a line.")
    ] = False,
) -> None:
    """Run many jobs, several at once, and tell what became of each.

    A line of JOBS.jsonl is a configuration as the API takes it, or {"id", "config", "environ",
    "meta"}, of which only "config" must be: "environ" is the path of a folder or archive, from
    where the file is, or an object of paths and contents. Of a folder, each sub-folder is a job.

    Each result is on disk before it counts, so a batch that was ended, however that was, goes on
    with --resume. Exits with 0 when all jobs passed, 1 when not; 69 or 75 when the server is not
    there or stays overloaded, 130 when interrupted: jobs without a result then have no line.
    """
    from .batch import Request, run

    if base is not None and dask is not None and not url:
        fail("a base is stored on one server: give the --url of one that all workers reach", USAGE)
    wanted = read_config(config) if config is not None else {}
    wanted |= {"commands": command} if command else {}
    request = Request(
        jobs=jobs,
        config=wanted,
        base=base,
        output=output,
        resume=resume or retry_errors,
        retry_errors=retry_errors,
        concurrency=concurrency,
        dask=dask,
        html=html,
        as_json=as_json,
    )
    code = run(request, lambda: connected(url, timeout))
    raise typer.Exit(code)


@app.command()
def specs(url: Url = None, timeout: Timeout = 60, as_json: Json = False) -> None:
    """Show the server's host and the limits of its containers."""
    with connected(url, timeout) as sandbox:
        found = sandbox.specifications()
    print_json(found) if as_json else print_table(flattened(found), "What", "")


@app.command()
def usage(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl+C.")] = False,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, callback=seconds, help="Between two looks, with --watch."
        ),
    ] = 1,
    url: Url = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """Show the server's load: processor, memory, slots, network."""
    with connected(url, timeout) as sandbox:
        if watch:
            from .watch import watch as keep_watching

            keep_watching(sandbox, interval, as_json=as_json)
        else:
            found = sandbox.usage()
            print_json(found) if as_json else print_table(flattened(found), "What", "")


@app.command()
def libraries(
    text: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only names that have this in them.")
    ] = "",
    url: Url = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """List the libraries and programs that commands find."""
    with connected(url, timeout) as sandbox:
        found = sandbox.libraries()

    def wanted(name: str) -> bool:
        return text.lower() in name.lower()

    kept: dict[str, Any] = {
        "libraries": {
            kind: {name: version for name, version in versions.items() if wanted(name)}
            for kind, versions in found["libraries"].items()
        },
        "bin": [name for name in found["bin"] if wanted(name)],
    }
    if as_json:
        print_json({**found, **kept})
        return
    rows = [
        (k, name, v) for k, versions in kept["libraries"].items() for name, v in versions.items()
    ]
    print_table([*rows, *(("bin", name, "") for name in kept["bin"])], "Kind", "Name", "Version")


@app.command()
def download(
    uuid: Uuid,
    path: Inside = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to; - is standard output. By default, a file of the same name here.",
            show_default=False,
        ),
    ] = None,
    extract: Annotated[
        bool, typer.Option("--extract", help="Unpack it, safely, into a new folder.")
    ] = False,
    url: StoredUrl = None,
    timeout: Timeout = 60,
) -> None:
    """Download a stored environment, or one of its files.

    An environment is a gzipped tar archive, unless it is to be unpacked.
    """
    if extract and (path or str(output) == "-"):
        fail("--extract is for whole environments, into a folder", USAGE)
    with connected_to(url, timeout) as sandbox:
        if str(output) == "-":
            for chunk in sandbox.iter_download(uuid, path):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        name = path.rpartition("/")[2] if path else uuid if extract else f"{uuid}.tgz"
        with transfer("Downloading") as tell:
            written = sandbox.download_to(
                output or name, uuid, path, extract=extract, progress=tell
            )
    typer.echo(written)


@app.command()
def ls(uuid: Uuid, url: StoredUrl = None, timeout: Timeout = 60, as_json: Json = False) -> None:
    """List the files of a stored environment.

    Tells the size of each in bytes, its type and its name.
    """
    with connected_to(url, timeout) as sandbox:
        files = sorted(sandbox.environment(uuid).files(), key=lambda each: each.name)
    if as_json:
        print_json([{"name": each.name, "size": each.size, "type": each.type} for each in files])
    else:
        print_table([(each.size, each.type, each.name) for each in files], "Size", "Type", "Name")


@app.command()
def check(uuid: Uuid, path: Inside = None, url: StoredUrl = None, timeout: Timeout = 60) -> None:
    """Print the size of a stored environment or file, in bytes.

    Exits with 1 when it is not there.
    """
    with connected_to(url, timeout) as sandbox:
        size = sandbox.check(uuid, path)
        # An empty file is there all the same.
        if not size and not sandbox.environment(uuid).exists(path):
            fail(f"{path or uuid} is not stored there", FAILED)
    typer.echo(size)


@app.command()
def validate(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            callback=_there,
            dir_okay=False,
            allow_dash=True,
            help="File of JSON; - is standard input.",
        ),
    ],
) -> None:
    """Check a configuration without running it.

    Prints each fault, and exits with 2 if there is any. Keys that a sandbox ignores are no faults;
    standard error tells them.
    """
    from sandbox_api import InvalidConfig
    from sandbox_api.config import checked

    given = read_config(config)
    _tell_ignored(given)
    try:
        checked(given)
    except InvalidConfig as error:
        for fault in error.errors:
            typer.echo(fault)
        raise typer.Exit(USAGE) from None


@app.command()
def doctor(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="SANDBOX_URL",
            help="A server to reach, too.",
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = 10,
) -> None:
    """Look at what this machine has, and tell how to get the rest.

    Exits with 1 when something that is needed is missing.
    """
    from .doctor import examine

    if not examine(url, timeout):
        raise typer.Exit(FAILED)


@app.command()
def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        typer.Argument(
            metavar="bash|zsh|fish", help="By default, the one in $SHELL.", show_default=False
        ),
    ] = None,
) -> None:
    """Print what makes a shell complete these commands.

    In bash: eval "$(sandbox-api completion bash)", e.g. in ~/.bashrc; likewise in zsh, after
    compinit. In fish: sandbox-api completion fish | source.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in ("bash", "zsh", "fish"):
        fail(f"which shell? bash, zsh or fish, not {name!r}", USAGE)
    os.environ["_SANDBOX_API_COMPLETE"] = f"source_{name}"
    app(prog_name="sandbox-api")


@app.command()
def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="HOST",
            help="Address to listen on; any but this machine's own needs a token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port to listen on; 0 takes a free one.",
        ),
    ] = 7000,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="Where to keep environments: a folder, by default one of the user's data, or a "
            "URL like s3://bucket/folder, where servers share them.",
            show_default=False,
        ),
    ] = None,
    max_storage: Annotated[
        str, typer.Option(metavar="SIZE", help="How much all environments may take.")
    ] = "10G",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="SANDBOX_TOKEN",
            help="What requests must carry. Others can see command lines: rather set the variable.",
            show_default=False,
        ),
    ] = None,
    isolation: Annotated[
        Isolation,
        typer.Option(help='How to shut commands in; "none" is for commands you trust as yourself.'),
    ] = "bubblewrap",
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="Image of containers, with podman or docker; by default "
            "docker.io/library/python:3-slim. Get it yourself first.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Let commands use this machine's network.")
    ] = False,
    slots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Requests to execute at once; by default two a core.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            callback=seconds,
            help="How long others wait before they get 503.",
        ),
    ] = 2,
    run_time: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How long the commands of a request may take together."
        ),
    ] = 10,
    log_format: Annotated[
        Literal["text", "json", "none"], typer.Option(help="How to log requests.")
    ] = "text",
) -> None:
    """Serve a local sandbox over HTTP until interrupted.

    Asked to end, by Ctrl+C or SIGTERM, it finishes what runs; asked twice, it does not.
    """
    from sandbox_api import LocalSandboxError
    from sandbox_api._local import WrongSetting, serve

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
            run_time=run_time,
            log_format=log_format,
        )
    except WrongSetting as error:
        fail(error, USAGE)
    except LocalSandboxError as error:
        fail(error, UNAVAILABLE)


app.command()(verify)
