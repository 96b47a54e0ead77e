from __future__ import annotations

import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api.local import api
from sandbox_api.local.app import create_app
from sandbox_api.local.connection import Patience
from sandbox_api.local.limits import Limits
from sandbox_api.local.server import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = b"POST /execute/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
# Longer than what is tested takes on a slow machine, shorter than its bound on a server in use.
PATIENCE = Patience(connections=8, head=1.0, rest=1.0, stall=1.0)


class Server:
    """A server in a thread, whose patience is short."""

    def __init__(self, data: Path) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        reading, self._parent = os.pipe()
        app = create_app(
            data=data, hosts=["127.0.0.1"], limits=Limits(upload_size=40_000_000), seen=True
        )
        arguments = {"parent": reading, "patience": PATIENCE}
        self._thread = threading.Thread(target=run, args=(app, self._listening), kwargs=arguments)
        self._thread.start()
        self._reading = reading
        assert self.works()

    def works(self) -> bool:
        """Tell whether the server answers, once connections that others left are gone."""
        for _ in range(200):
            response = httpx.get(f"{self.url}/healthz", timeout=30)
            if response.status_code == 200:
                return True
            time.sleep(0.05)
        return False

    def connect(self, data: bytes = b"") -> socket.socket:
        """Return a connection over which data was sent."""
        connection = socket.create_connection(self.address, timeout=30)
        connection.sendall(data)
        return connection

    def stop(self) -> None:
        """End the server."""
        os.close(self._parent)
        self._thread.join(30)
        assert not self._thread.is_alive()
        os.close(self._reading)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("data"))
    yield server
    server.stop()


def rest(connection: socket.socket) -> bytes:
    """Return all that comes, until the server closes or cuts the connection."""
    answer = b""
    with connection:
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
    return answer


@pytest.mark.parametrize(
    "sent", [b"", b"GET /usages/ HT", b"GET /usages/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "]
)
def test_a_head_that_does_not_come_is_not_waited_for(server: Server, sent: bytes) -> None:
    assert rest(server.connect(sent)) == b""


def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(server: Server) -> None:
    with server.connect(b"GET / HTTP/1.1\r\n") as connection:
        for _ in range(400):
            try:
                connection.sendall(b"X-A: b\r\n")
            except ConnectionError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the head may be as long as it likes")
    assert server.works()


def test_a_second_head_is_not_waited_for_either(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with server.connect(request) as connection:
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += connection.recv(65536)
        # It may be idle for longer than a head may take.
        time.sleep(PATIENCE.head * 1.5)
        connection.sendall(request + b"GET")
        assert rest(connection).endswith(b"ok\n")


def test_a_body_that_does_not_come_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "ARRIVAL", 0.5)
    answer = rest(server.connect(HEAD + FORM + b"config="))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"The request did not come within 0.51 seconds")
    assert server.works()


def test_the_rest_of_a_refused_request_is_not_waited_for(server: Server) -> None:
    for head in (HEAD.replace(b"127.0.0.1", b"evil"), HEAD.replace(b"POST", b"PUT")):
        started = time.monotonic()
        answer = rest(server.connect(head + b"\r\nx"))
        assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 405 "))
        assert time.monotonic() - started < 15


def test_who_does_not_read_is_cut(server: Server) -> None:
    form = {"config": json.dumps({"commands": ["head -c 30000000 /dev/urandom > f"], "save": True})}
    saved = httpx.post(f"{server.url}/execute/", data=form, timeout=60).json()["environment"]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(server.address)
        connection.sendall(b"GET /environments/%b/ HTTP/1.1\r\n" % saved.encode())
        connection.sendall(b"Host: 127.0.0.1\r\n\r\n")
        time.sleep(PATIENCE.stall * 2 + 1)
        assert len(rest(connection)) < 30_000_000
    # Who reads, if slowly, is not.
    content = httpx.get(f"{server.url}/environments/{saved}/", timeout=60).content
    assert len(content) > 30_000_000


def test_too_many_connections_are_overload(server: Server) -> None:
    assert server.works()
    # They ask for nothing, and so are soon cut.
    idle = [server.connect() for _ in range(PATIENCE.connections)]
    response = httpx.get(f"{server.url}/healthz", timeout=30)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.text == "Sandbox overloaded, retry after a few seconds."
    more = [server.connect() for _ in range(PATIENCE.connections * 2)]
    assert rest(more[-1]) == b""
    for connection in idle + more[:-1]:
        rest(connection)
    assert server.works()


def test_a_head_is_limited_in_size(server: Server) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX: %b\r\n\r\n"
    assert rest(server.connect(head % (b"x" * 50_000))).startswith(b"HTTP/1.1 200 ")
    with server.connect() as connection:
        try:
            connection.sendall(head % (b"x" * 1_000_000))
        except ConnectionError:
            return
        # Of the answer, a client that is not done sending may not see anything.
        assert not rest(connection).startswith(b"HTTP/1.1 200 ")


def test_uploads_on_their_way_are_limited_together(server: Server) -> None:
    head = HEAD.replace(b"1000", b"40000000") + FORM + b"config="
    uploads = [server.connect(head) for _ in range(api.UPLOADS)]
    time.sleep(0.3)
    form = {"config": '{"commands": ["true"]}'}
    response = httpx.post(f"{server.url}/execute/", data=form)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    for connection in uploads:
        connection.close()
    for _ in range(100):
        response = httpx.post(f"{server.url}/execute/", data=form)
        if response.status_code == 200:
            break
        time.sleep(0.05)
    assert response.json()["status"] == 0


@pytest.mark.parametrize(
    "request_line",
    [b"OPTIONS * HTTP/1.1", b"GET http://evil/ HTTP/1.1", b"CONNECT evil:1 HTTP/1.1"],
)
def test_unusual_targets_are_guarded_too(server: Server, request_line: bytes) -> None:
    tail = b"\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert rest(server.connect(request_line + tail)).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX : y\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(
    server: Server, request_: bytes, capfd: pytest.CaptureFixture[Any]
) -> None:
    assert rest(server.connect(request_)).startswith(b"HTTP/1.1 400 ")
    # Whoever knocks can not fill the log.
    assert capfd.readouterr().err == ""
    assert server.works()
