"""Through proxies, also one that is reached by TLS itself: TLS inside of TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api import ASandbox, ConnectionFailed, Sandbox, TimedOut

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from pathlib import Path

BOUND = 0.6
OK = reply("200 OK", json.dumps({"status": 0, "execution": [], "total_time": 0.1}))


class Proxy:
    """A proxy for one connection: answers CONNECT, then does what `then` says."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"
        self.then: Callable[[ssl.SSLSocket, bytes], None] = lambda *_: None
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            accepted.settimeout(20)
            with self._context.wrap_socket(accepted, server_side=True) as connection:
                request = connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self.then(connection, request)

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def proxy(certificate: Path) -> Iterator[Proxy]:
    made = Proxy(certificate)
    yield made
    made.close()


def options(proxy: Proxy, certificate: Path) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=certificate)
    return {"proxy": httpx.Proxy(proxy.url, ssl_context=context), "verify": str(certificate)}


def relay(connection: ssl.SSLSocket, request: bytes) -> None:
    """Carry what is sent to where the client asked to be connected."""
    host, _, port = request.split()[1].decode().partition(":")
    with (
        socket.create_connection((host, int(port)), 20) as server,
        selectors.DefaultSelector() as selector,
    ):
        # In one thread, for two must not use TLS at once.
        for source in (connection, server):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(20):
                source, target = (
                    (connection, server) if key.fileobj is connection else (server, connection)
                )
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)
                while source is connection and connection.pending():
                    target.sendall(connection.recv(65536))


def test_tls_inside_tls(
    connect: Callable[..., Sandbox], proxy: Proxy, certificate: Path, tls_server: str
) -> None:
    proxy.then = relay
    sandbox = connect(tls_server, 20, **options(proxy, certificate))
    body = os.urandom(300_000)
    assert sandbox.request("POST", "/", files={"a": body}).json() == {}
    sandbox.close()


@pytest.mark.parametrize("whole", [True, False])
def test_end_of_tls_inside_tls(
    whole: bool, connect: Callable[..., Sandbox], proxy: Proxy, certificate: Path
) -> None:
    def answer(connection: Any, _: bytes) -> None:
        if whole:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            connection.unwrap()
        else:
            connection.sendall(reply("200 OK", "half", length=8))
        connection.shutdown(socket.SHUT_RDWR)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy.then = relay
    with RawServer(context=context) as server:
        server.answer = answer
        sandbox = connect(server.url, 20, retries=0, **options(proxy, certificate))
        if whole:
            assert sandbox.request("GET", "/").text == "all of it"
        else:
            with pytest.raises(ConnectionFailed):
                sandbox.request("GET", "/")
        sandbox.close()


def test_inner_handshake_that_fails(
    connect: Callable[..., Sandbox], proxy: Proxy, certificate: Path
) -> None:
    proxy.then = lambda connection, _: connection.sendall(b"no TLS at all, for sure")
    with pytest.raises(ConnectionFailed):
        connect("https://sandbox.example", retries=0, **options(proxy, certificate)).usage()


def test_inner_handshake_that_stalls(
    connect: Callable[..., Sandbox], proxy: Proxy, certificate: Path
) -> None:
    def drip(connection: ssl.SSLSocket, _: bytes) -> None:
        connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of TLS, that does not end
        for _number in range(200):
            if not proxy.over.wait(0.05):
                connection.sendall(b"\x00")

    proxy.then = drip
    sandbox = connect("https://sandbox.example", BOUND, retries=0, **options(proxy, certificate))
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timed out"):
        sandbox.usage()
    assert time.monotonic() - started < BOUND * 1.1 + 0.8


def test_connection_through_a_proxy_is_used_once(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = connect("http://sandbox.example", proxy=raw_server.url)
    for _ in range(2):
        assert sandbox.execute({"commands": ["true"]}).ok
    assert raw_server.accepted == 2
    for request in raw_server.requests:
        assert request.startswith(b"POST http://sandbox.example/execute/ HTTP/1.1\r\n")
        assert b"\r\nconnection: close\r\n" in request.lower()


@pytest.mark.parametrize(
    "variables",
    [
        {"NO_PROXY": "localhost"},
        {"HTTPS_PROXY": "http://127.0.0.1:1"},
        {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"},
        {"HTTPS_PROXY": "socks5://127.0.0.1:1"},
        {"ALL_PROXY": "nonsense://127.0.0.1:1", "NO_PROXY": "127.0.0.1"},
        {"NO_PROXY": "[::1]"},
    ],
)
def test_proxy_that_is_not_for_this_server_changes_nothing(
    variables: dict[str, str],
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw_server.answer = OK
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sandbox = connect(raw_server.url)
    for _ in range(2):
        assert sandbox.execute({"commands": ["true"]}).ok
    assert raw_server.accepted == 1
    for request in raw_server.requests:
        assert b"\r\nconnection: close\r\n" not in request.lower()


def test_body_of_a_users_authentication_that_only_tasks_can_read(raw_server: RawServer) -> None:
    raw_server.answer = OK

    class Auth(httpx.Auth):
        async def async_auth_flow(
            self, request: httpx.Request
        ) -> AsyncGenerator[httpx.Request, httpx.Response]:
            async def body() -> AsyncIterator[bytes]:
                yield b"user="
                yield b"me"

            headers = {"Content-Length": "7"}
            login = httpx.Request("POST", raw_server.url, content=body(), headers=headers)
            await (yield login).aread()
            yield request

    async def main() -> None:
        async with ASandbox(raw_server.url, auth=Auth()) as sandbox:
            assert (await sandbox.execute({"commands": ["true"]})).ok

    asyncio.run(main())
    assert raw_server.requests[0].endswith(b"\r\n\r\nuser=me")
    assert len(raw_server.requests) == 2
