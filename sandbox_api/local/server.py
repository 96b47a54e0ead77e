"""Serve the local sandbox: in this process, or in a child that ends with it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .files import remove
from .isolation import Isolation, Isolator, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlette.applications import Starlette

UNISOLATED = "Commands run WITHOUT ANY ISOLATION, with all that this account may do."

# How long running executions may go on when a server is stopped, and a private server may take
# to end, in seconds.
LAST_EXECUTIONS = 10
LAST_BREATH = 10.0
# Longer than clients keep connections, so that they do not send on one that is being closed.
KEEP_ALIVE = 120


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7000,
    fd: int | None = None,
    data: str | os.PathLike[str] | None = None,
    isolation: Isolation = "bubblewrap",
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, and print on standard error where and how.

    Listen on host and port, or on the listening socket with the descriptor fd. Port 0 is any free
    one. Keep environments in the folder data, by default only until the end. Call ready with the
    URL once clients can connect.

    Raise OSError when the address can not be listened on, and IsolationError when commands can not
    be isolated.
    """
    with listener(host, port, fd) as listening:
        url, hosts = address(listening, host)
        isolator = trial(isolation)
        isolates = f"{isolator.version} isolates commands." if isolator.isolates else UNISOLATED
        print(f"The sandbox listens on {url}. {isolates}", file=sys.stderr, flush=True)  # noqa: T201
        if ready is not None:
            ready(url)
        from .app import create_app

        app = create_app(isolation=isolation, data=Path(data) if data else None, hosts=hosts)
        run(app, listening)


def serve_parent(fd: int, folder: Path, isolation: Isolation) -> None:
    """Serve on the listening socket fd until standard input ends, then remove folder."""
    from .app import create_app

    with socket.socket(fileno=fd) as listening:
        run(create_app(isolation=isolation), listening, parent=sys.stdin.fileno())
    # Not after an error, which the parent reads there.
    remove(folder)


def run(app: Starlette, listening: socket.socket, *, parent: int | None = None) -> None:
    """Run app until a signal comes, or until there is nobody at the other end of parent."""
    import asyncio
    import resource

    import uvicorn

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
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_EXECUTIONS if parent is None else 0,
        )
    )

    def stop() -> None:
        # Asked a second time, it does not wait for what is running.
        server.force_exit = server.should_exit
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

    asyncio.run(main())


def trial(isolation: Isolation) -> Isolator:
    """Return what isolates commands; raise IsolationError when nothing does as asked for."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        Path(name).chmod(0o711)
        return probe(isolation, Path(name))


def listener(host: str, port: int, fd: int | None) -> socket.socket:
    """Return a listening socket."""
    if fd is not None:
        return socket.socket(fileno=fd)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, f"Can not listen on {host} port {port}: {error}") from error


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


class LocalServer:
    """A private server in a child process, that ends with this object or with its process.

    Clients can connect to `url` at once. Raise IsolationError when commands can not be isolated.
    """

    def __init__(self, isolation: Isolation = "bubblewrap") -> None:
        if isolation == "none":
            warnings.warn(UNISOLATED, RuntimeWarning, stacklevel=2)
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-"))
        try:
            # Another account has to get at the folders of its sandboxes.
            self._folder.chmod(0o711)
            probe(isolation, self._folder)
            path = self._folder / "sandbox.sock"
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
                path.chmod(0o600)
                listening.listen(2048)
                self._process = self._start(listening, isolation)
        except BaseException:
            remove(self._folder)
            raise
        self.url = f"unix://{path}"
        """Where it listens: `unix://` and the path of a socket."""
        self._finalizer = weakref.finalize(self, end, self._process, self._folder, os.getpid())

    def stop(self) -> None:
        """Stop the server, and whatever runs in its sandboxes. Do nothing when it is stopped."""
        self._finalizer()

    def failure(self) -> str | None:
        """Return the last that the server wrote to standard error, if it ended by itself."""
        if not self._finalizer.alive or self._process.poll() is None:
            return None
        text = ""
        with contextlib.suppress(FileNotFoundError):
            text = (self._folder / "stderr").read_text(errors="replace").strip()
        return text[-2000:] or f"exit code {self._process.returncode}"

    def _start(self, listening: socket.socket, isolation: Isolation) -> subprocess.Popen[bytes]:
        fd = str(listening.fileno())
        options = ["--fd", fd, "--private", str(self._folder), "--isolation", isolation]
        with (self._folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "sandbox_api.local", *options],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )


def end(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    """End a private server and remove its folder, in the process that started it."""
    if os.getpid() != owner:
        return
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(LAST_BREATH)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    remove(folder)
