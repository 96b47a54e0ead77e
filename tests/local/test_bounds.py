from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request

from sandbox_api.local import api
from sandbox_api.local.app import create_app
from sandbox_api.local.connection import WAITING, Patience
from sandbox_api.local.limits import Limits
from sandbox_api.local.server import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = b"POST /execute/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CLOSED = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
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


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


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


@pytest.mark.parametrize(
    "start",
    [
        # Nothing of these comes to an end, though a request is answered.
        HEALTHZ + b"\r\n",
        HEALTHZ[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        HEALTHZ[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["empty lines", "a trailer", "an extension of a chunk"],
)
def test_what_is_not_passed_on_is_limited_in_size(server: Server, start: bytes) -> None:
    with server.connect(start) as connection:
        for _ in range(200):
            try:
                connection.sendall(b"\r\n" * 8192 if start.endswith(b"\n") else b"x" * 16384)
            except ConnectionError:
                break
            time.sleep(0.001)
        else:
            pytest.fail("the server takes whatever comes")
    assert server.works()


def test_a_trailer_is_no_part_of_the_head(server: Server) -> None:
    head = b"PUT /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailer = b"0\r\nOrigin: http://evil\r\nHost: evil\r\n\r\n"
    answer = rest(server.connect(head + trailer + CLOSED))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"HTTP/1.1 200 " in answer


@pytest.mark.parametrize(
    "more",
    [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Content-Length: +5\r\n"],
)
def test_a_body_that_may_end_in_two_places_ends_the_connection(server: Server, more: bytes) -> None:
    head = b"PUT /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
    answer = rest(server.connect(head + more + b"\r\n0\r\n\r\n" + HEALTHZ))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " not in answer


def test_requests_in_a_row_are_answered_in_their_order(server: Server) -> None:
    form = b"config=" + quote(json.dumps({"commands": ["sleep 0.2; echo first"]})).encode()
    first = HEAD.replace(b"1000", b"%d" % len(form)) + FORM + form
    answer = rest(server.connect(first + HEALTHZ + CLOSED))
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.index(b"first") < answer.index(b"ok\n")
    # What is no request comes after those that are.
    answer = rest(server.connect(first + b"nonsense\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"first" in answer


def test_requests_in_a_row_are_limited_in_number(server: Server) -> None:
    answer = rest(server.connect(HEALTHZ * (WAITING - 1) + CLOSED))
    assert answer.count(b"HTTP/1.1 200 ") == WAITING
    answer = rest(server.connect(HEALTHZ * 3 * WAITING))
    assert answer.count(b"HTTP/1.1 200 ") == WAITING
    assert b"HTTP/1.1 4" not in answer


def test_an_execution_ends_with_its_connection_whatever_else_was_asked(server: Server) -> None:
    form = b"config=" + quote(json.dumps({"commands": ["sleep 9"]})).encode()
    first = HEAD.replace(b"1000", b"%d" % len(form)) + FORM + form

    def running() -> int:
        number: int = httpx.get(f"{server.url}/activity", timeout=30).json()["running"]
        return number

    with server.connect(first + HEALTHZ):
        wait_until(lambda: running() == 1)
    wait_until(lambda: running() == 0, seconds=5)


def test_another_protocol_is_not_begun(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    form = b"config=" + quote(json.dumps({"commands": ["echo done"]})).encode()
    head = HEAD.replace(b"1000", b"%d" % len(form)) + upgrade + FORM
    with server.connect(HEALTHZ[:-2] + upgrade + b"\r\n" + head) as connection:
        # A body may come in pieces, and another request at once after it.
        for piece in (form[:5], form[5:9], form[9:] + CLOSED):
            time.sleep(0.1)
            connection.sendall(piece)
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.index(b"ok\n") < answer.index(b"done") < answer.rindex(b"ok\n")
    # Where its body ends cannot be known.
    chunked = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = rest(server.connect(HEALTHZ[:-2] + upgrade + chunked + HEALTHZ))
    assert answer.startswith(b"HTTP/1.1 400 ")


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
    [b"OPTIONS * HTTP/1.1", b"GET http://evil/ HTTP/1.1"],
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
        b"CONNECT evil:1 HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(
    server: Server, request_: bytes, capfd: pytest.CaptureFixture[Any]
) -> None:
    assert rest(server.connect(request_)).startswith(b"HTTP/1.1 400 ")
    # Whoever knocks cannot fill the log.
    assert capfd.readouterr().err == ""
    assert server.works()


def test_an_execution_that_fails_when_its_client_is_gone_is_no_surprise() -> None:
    told: list[dict[str, Any]] = []

    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("the disk is gone too") from None

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        with pytest.raises(ClientDisconnect):
            await api.while_connected(Request({"type": "http"}, receive), failing())
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert told == []
