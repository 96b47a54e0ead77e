"""Connections by TLS, which may have to be read to be written to, and the other way round."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from sandbox_api import (
    ASandbox,
    ConnectionFailed,
    InvalidReply,
    Sandbox,
    Sandbox413,
    TimedOut,
)

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = {"commands": ["true"]}
OK = reply("200 OK", json.dumps({"status": 0, "execution": [], "total_time": 0.1}))
ENV = "872b604c-9cce-42e2-8888-9a0311f3a724"
LARGE = 20_000_000


@pytest.fixture
def server(certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with RawServer(context=context) as server:
        server.answer = OK
        server.forget = True
        yield server


@pytest.fixture
def secure(
    connect: Callable[..., Sandbox], server: RawServer, certificate: Path
) -> Callable[..., Sandbox]:
    return lambda *args, **options: connect(server.url, *args, verify=str(certificate), **options)


def test_connection_is_kept(secure: Callable[..., Sandbox], server: RawServer) -> None:
    server.answer = OK
    sandbox = secure()
    for _ in range(4):
        assert sandbox.execute(CONFIG).ok
    assert server.accepted == 1


def test_connection_that_the_server_closes(
    secure: Callable[..., Sandbox], server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(OK)
        connection.close()

    server.answer = answer
    sandbox = secure()
    for number in range(20):
        time.sleep(number % 4 / 1000)
        assert sandbox.execute(CONFIG).ok
    assert len(server.requests) == 20


def test_reply_without_a_length_whose_end_is_not_told(
    secure: Callable[..., Sandbox], server: RawServer
) -> None:
    # Servers in Python end TLS without a word, so that can't count as a cut; JSON shows its own.
    whole = b"HTTP/1.1 200 OK\r\n\r\n" + OK.partition(b"\r\n\r\n")[2]
    server.answer = whole
    sandbox = secure()
    assert sandbox.execute(CONFIG).ok
    server.answer = whole[:-1]
    with pytest.raises(InvalidReply, match="must be JSON"):
        sandbox.execute(CONFIG)


def test_large_bodies(secure: Callable[..., Sandbox], server: RawServer, tmp_path: Path) -> None:
    sandbox = secure()
    assert sandbox.execute(CONFIG, io.BytesIO(bytes(LARGE))).ok
    server.answer = reply("200 OK", bytes(LARGE))
    sandbox.download_to(tmp_path / "file", ENV)
    assert (tmp_path / "file").stat().st_size == LARGE


def test_server_that_refuses_an_upload_half_way(
    secure: Callable[..., Sandbox], server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(connection: socket.socket) -> bytes:
        for _ in range(20):
            connection.recv(65536)
        connection.sendall(reply("413 Too Large", "too big", "Connection: close"))
        time.sleep(0.05)
        return b""

    monkeypatch.setattr(server, "_read", read)
    with pytest.raises(Sandbox413, match="too big"):
        secure().execute(CONFIG, io.BytesIO(bytes(LARGE)))


def test_server_that_reads_nothing(
    secure: Callable[..., Sandbox], server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(connection: socket.socket) -> bytes:
        with contextlib.suppress(OSError):
            connection.settimeout(5)
            socket.socket.recv(connection, 1, socket.MSG_PEEK)
            time.sleep(1)
        return b""

    monkeypatch.setattr(server, "_read", read)
    started = time.monotonic()
    with pytest.raises(TimedOut, match="sending the request"):
        secure(0.5).execute(CONFIG, io.BytesIO(bytes(LARGE)))
    assert time.monotonic() - started < 0.9


def test_handshake_that_stalls(connect: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        with pytest.raises(TimedOut, match="timed out connecting"):
            connect(f"https://localhost:{listener.getsockname()[1]}", 0.5, retries=0).usage()
        assert time.monotonic() - started < 0.9


def test_handshake_that_fails(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    def garble(connection: socket.socket) -> bytes:
        connection.recv(65536)
        connection.sendall(b"what?" * 10)
        return b""

    raw_server._read = garble  # type: ignore[method-assign]
    url = raw_server.url.replace("http://127.0.0.1", "https://localhost")
    with pytest.raises(ConnectionFailed, match="can't be reached"):
        connect(url, retries=0).usage()


def test_in_every_event_loop(
    run: Callable[..., object], server: RawServer, certificate: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with ASandbox(server.url, verify=str(certificate)) as sandbox:
            assert (await sandbox.execute(CONFIG, io.BytesIO(bytes(LARGE)))).ok
            assert (await sandbox.execute(CONFIG)).ok
            server.answer = reply("200 OK", bytes(LARGE))
            await sandbox.download_to(tmp_path / "file", ENV)

    run(main)
    assert (tmp_path / "file").stat().st_size == LARGE
