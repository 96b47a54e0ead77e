"""What all tests share: servers to talk to, and a sandbox of either flavour to talk through."""

from __future__ import annotations

import asyncio
import http.server
import inspect
import io
import json
import os
import shutil
import signal
import ssl
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from attrs import evolve

from sandbox_api import (
    AEnvironment,
    AExecution,
    ASandbox,
    JobResult,
    Sandbox,
    SandboxError,
    SandboxFailure,
)
from sandbox_api._results import bind

from .servers import RawServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

TESTS = Path(__file__).parent
# Of Debian, by the names of its packages, that some tests need.
PROGRAMS = {
    "chromium": shutil.which("chromium") or shutil.which("chromium-browser"),
    "zsh": shutil.which("zsh"),
    "nginx": shutil.which("nginx") or shutil.which("/usr/sbin/nginx"),
}

# The least of an environment: where programs are, and how to count what is reached of them.
KEPT = {"PATH", "COVERAGE_PROCESS_CONFIG"}
BARE = {name: value for name, value in os.environ.items() if name in KEPT}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real_lacks(reason): the real server is known not to do this; skipped on others"
    )
    config.addinivalue_line(
        "markers", "cluster(*packages): needs what Debian has; skipped without, but with -m cluster"
    )
    # A shell starts what it runs in the background without them, and so all that tests start.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("cluster"):
        for package in mark.args:
            if not PROGRAMS[package]:
                text = f"{package} is not installed"
                if item.config.getoption("-m") == "cluster":
                    pytest.fail(text, pytrace=False)
                pytest.skip(text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--sandbox-url"):
        for item in items:
            if mark := item.get_closest_marker("real_lacks"):
                item.add_marker(
                    pytest.mark.skip(reason=f"the real server lacks this: {mark.args[0]}")
                )


@pytest.fixture(scope="session")
def sandbox_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a sandbox server is: a local one, unless the command line names another.

    The option is that of `sandbox_api.pytest_plugin`, whose fixtures of this name and the next are
    fakes where it is not given; here they are the real thing, in both flavours.
    """
    if url := request.config.getoption("--sandbox-url"):
        try:  # rather than let each test find out
            with Sandbox(url, 10) as asked:
                asked.specifications()
        except (SandboxError, SandboxFailure) as error:
            pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)
        yield url
        return
    with Sandbox.local() as sandbox:
        yield sandbox.url


class Driven:
    """An ASandbox that is called like a Sandbox: each coroutine is run to its end."""

    def __init__(self, runner: asyncio.Runner, sandbox: ASandbox | AEnvironment) -> None:
        self._runner = runner
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return repr(self._sandbox)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._sandbox, name)
        if inspect.iscoroutinefunction(attribute):
            return lambda *args, **options: self._drive(attribute(*args, **options))
        if inspect.isasyncgenfunction(attribute):
            return lambda *args, **options: self._iterate(attribute(*args, **options))
        if inspect.ismethod(attribute):
            return lambda *args, **options: self._handle(attribute(*args, **options))
        return attribute

    def _drive(self, coroutine: Any) -> Any:
        return self._handle(self._runner.run(coroutine))

    def _iterate(self, chunks: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(chunks, self)

        try:
            while (chunk := self._runner.run(following())) is not self:
                yield self._handle(chunk)
        finally:
            self._runner.run(chunks.aclose())

    def _handle(self, value: Any) -> Any:
        """Drive what is returned, too."""
        if isinstance(value, AEnvironment):
            return Driven(self._runner, value)
        if isinstance(value, JobResult):
            return evolve(value, result=self._handle(value.result))
        if isinstance(value, AExecution):
            driven = bind(DrivenExecution, value, value._origin())
            driven.__dict__["_runner"] = self._runner
            return driven
        return value


class DrivenExecution(AExecution):
    """A result whose `saved` is driven."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_runner"}

    @property
    def saved(self) -> Any:
        saved = super().saved
        return saved and Driven(self.__dict__["_runner"], saved)


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Sandbox]]:
    """Make a sandbox, of either flavour, that the test's end closes."""
    made: list[Sandbox] = []
    with asyncio.Runner() as runner:

        def connect(
            url: str | None = None,
            timeout: float | None = 60,
            subclass: tuple[type[Sandbox], type[ASandbox]] = (Sandbox, ASandbox),
            **options: Any,
        ) -> Sandbox:
            if request.param == "sync":
                sandbox = subclass[0](url, timeout, **options)
            else:
                asandbox = subclass[1](url, timeout, **options)
                sandbox = cast("Sandbox", Driven(runner, asandbox))
            made.append(sandbox)
            return sandbox

        yield connect
        for sandbox in made:
            sandbox.close()


@pytest.fixture
def sandbox(connect: Callable[..., Sandbox], sandbox_url: str) -> Sandbox:
    """A sandbox, of either flavour, to run things on."""
    return connect(sandbox_url)


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run an asynchronous function, in either event loop."""
    return lambda function, *args: anyio.run(function, *args, backend=request.param)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server that answers what the test says, byte for byte."""
    with RawServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, with its key, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {path}.key -out {path}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_name("localhost.pem.key").read_bytes())
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            connection.settimeout(10)
            return context.wrap_socket(connection, server_side=True), address

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def recordings() -> dict[str, Any]:
    """Exchanges with the real server, by name."""
    text = (TESTS / "recordings" / "sandbox-3.0.3.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def tgz(files: Mapping[str, str | bytes]) -> io.BytesIO:
    """Return an environment of some files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    stream.seek(0)
    return stream
