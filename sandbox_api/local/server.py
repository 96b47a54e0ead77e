"""Serve the local sandbox in this process: to everybody, or to the process that started it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .containers import ENGINES
from .files import remove
from .isolation import Isolation, probe
from .limits import Limits
from .options import (
    MAX_STORAGE,
    SettingError,
    greeting,
    lasting,
    parse_size,
    place,
    try_store,
    usable_token,
)
from .work import let_in

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator

    from starlette.applications import Starlette

    from .cell import Isolator
    from .connection import Patience
    from .journal import LogFormat

# How long answers may take, when a server is stopped, once the time of executions is over. Then for
# how long cancelled requests may go on. In seconds.
DRAIN = 5.0
LAST_WORDS = 1
# Longer than clients keep connections, so that they do not send on one that is being closed.
KEEP_ALIVE = 120


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7000,
    fd: int | None = None,
    data: str | os.PathLike[str] | None = None,
    max_storage: int | str = MAX_STORAGE,
    token: str | None = None,
    isolation: Isolation = "bubblewrap",
    image: str | None = None,
    network: bool = False,
    slots: int | None = None,
    wait: float | None = None,
    run_time: float | None = None,
    log_format: LogFormat = "text",
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, and print on standard error where, how and what is asked.

    Listen on host and port, or on the listening socket with the descriptor fd. Port 0 is any free
    one. Demand the token of all requests; on an address that others than this machine reach, there
    must be one. Keep environments in data, a folder or the URL of a store, by default a folder of
    the user's, up to max_storage, as in 10G. With podman or docker as isolation, run commands in
    containers of image. Let commands use the network only with network. Execute so many requests
    at once as there are slots, and let others wait that many seconds; let the commands of each take
    run_time seconds together. Call ready with the URL once clients can connect.

    Raise OSError when the address cannot be listened on or a store does not answer,
    IsolationError when commands cannot be isolated, and SettingError when something else is not
    as it must be.
    """
    limits = Limits(network=network)
    if slots is not None:
        limits = replace(limits, slots=slots)
    if wait is not None:
        limits = replace(limits, patience=wait)
    if run_time is not None:
        limits = lasting(limits, run_time)
    if image is not None and isolation not in ENGINES:
        raise SettingError(f"Only podman and docker use an image, and isolation is {isolation}")
    if limits.slots < 1 or not limits.patience >= 0:
        raise SettingError("There must be a slot at least, and requests cannot wait less than 0 s")
    room = parse_size(max_storage)
    kept = place(data)
    with listener(host, port, fd) as listening:
        url, hosts = address(listening, host)
        token = usable_token(token, needed=hosts is None and listening.family != socket.AF_UNIX)
        isolator = trial(isolation, image, limits)
        try_store(kept, limits)
        print(  # noqa: T201
            greeting(url, isolator, limits, kept, room, token),
            file=sys.stderr,
            flush=True,
        )
        if ready is not None:
            ready(url)
        from .app import create_app

        app = create_app(
            isolation=isolation,
            image=image,
            data=kept,
            limits=limits,
            hosts=hosts,
            token=token,
            max_storage=room,
            log_format=log_format,
            seen=True,
        )
        run(app, listening, drain=limits.run_time + DRAIN)


def serve_parent(
    fd: int, folder: Path, isolation: Isolation, image: str | None, run_time: float
) -> None:
    """Serve on the listening socket fd until standard input ends, then remove folder."""
    from .app import create_app

    limits = lasting(Limits(), run_time)
    app = create_app(isolation=isolation, image=image, limits=limits)
    with socket.socket(fileno=fd) as listening:
        run(app, listening, parent=sys.stdin.fileno())
    # Not after an error, which the parent reads there.
    remove(folder)


def run(
    app: Starlette,
    listening: socket.socket,
    *,
    parent: int | None = None,
    patience: Patience | None = None,
    drain: float = DRAIN,
) -> None:
    """Run app until a signal comes, or until there is nobody at the other end of parent.

    Without one, what runs when a signal comes has so many seconds to end as drain says.
    """
    import asyncio
    import resource

    import uvicorn
    import uvloop

    from .connection import Patience, protocol

    # A running execution takes a dozen descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            # uvicorn would raise the signal again at the end, before anything is cleaned up.
            yield

    server = Server(
        uvicorn.Config(
            app,
            http=protocol(patience or Patience()),
            ws="none",
            loop="asyncio",
            lifespan="on",
            # Below that it tells of each client that does not speak HTTP.
            log_level="error",
            access_log=False,
            server_header=False,
            # Who sends them can say what he likes.
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_WORDS if parent is None else 0,
        )
    )
    logging.getLogger("uvicorn.error").addFilter(is_news)
    leaving: list[asyncio.Task[None]] = []

    async def leave() -> None:
        await app.state.guard.drain(drain)
        server.should_exit = True

    def stop() -> None:
        # Asked a second time, it does not wait for what is running, nor does a private server.
        if parent is None and not leaving:
            leaving.append(asyncio.ensure_future(leave()))
        else:
            server.should_exit = True

    def ended() -> None:
        asyncio.get_running_loop().remove_reader(parent or 0)
        stop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        # Signals go to the main thread only; another one is stopped by other means.
        with contextlib.suppress(ValueError, RuntimeError):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)
        if parent is not None:
            # Nothing is ever written to it, so that it becomes readable means that it ended.
            loop.add_reader(parent, ended)
        await server.serve(sockets=[listening])
        if not server.started:
            raise RuntimeError("the application of the sandbox did not start")

    # Half the work of asyncio's own loop.
    uvloop.run(main())


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether uvicorn logs anything but where requests were that the server gave up."""
    import asyncio

    return not record.exc_info or record.exc_info[0] is not asyncio.CancelledError


def trial(isolation: Isolation, image: str | None, limits: Limits) -> Isolator:
    """Return what isolates commands; raise IsolationError when nothing does as asked for."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        let_in(Path(name))
        return probe(isolation, Path(name), image=image, limits=limits)


def listener(host: str, port: int, fd: int | None) -> socket.socket:
    """Return a listening socket."""
    if fd is not None:
        return socket.socket(fileno=fd)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", "there is no such port")
        # Python adds the address to the system's words.
        words = reason.partition(" (while")[0]
        raise OSError(f"Cannot listen on {host} port {port}: {words}") from error


def address(listening: socket.socket, host: str) -> tuple[str, set[str] | None]:
    """Return the URL of a listening socket, and the names it may be addressed by (None: any)."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix://{name}", None
    shown = f"[{name[0]}]" if ":" in name[0] else name[0]
    # A web page can give any name of its own an address of this machine.
    local = ipaddress.ip_address(name[0].partition("%")[0]).is_loopback
    hosts = {"localhost", "127.0.0.1", "::1", host.lower(), name[0]} if local else None
    return f"http://{shown}:{name[1]}", hosts
