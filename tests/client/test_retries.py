"""A call is tried again where the server can't have started the work, and only there."""

from __future__ import annotations

import email.utils
import io
import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api import (
    ASandbox,
    ConnectionFailed,
    Sandbox,
    Sandbox429,
    Sandbox500,
    Sandbox502,
    Sandbox503,
    SandboxError,
)

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

RESULT = {"status": 0, "execution": [], "total_time": 0.1}
OK = reply("200 OK", json.dumps(RESULT))
USAGE: dict[str, Any] = {
    "cpu": {"frequency": 1.0, "usage": 0.1, "usage_avg": [0, 0, 0]},
    "memory": {"ram": 1, "swap": 0, "storage": {}},
    "io": {"read_iops": {}, "read_bps": {}, "write_iops": {}, "write_bps": {}},
    "network": {"sent_bytes": 0, "received_bytes": 0, "sent_packets": 0, "received_packets": 0},
    "process": 1,
    "container": 0,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox_api._exchange.FIRST_WAIT", 0.01)
    monkeypatch.setattr("sandbox_api._exchange.LONGEST_WAIT", 0.05)


def in_turn(*answers: bytes) -> Callable[[socket.socket, bytes], None]:
    """Answer each request with the next reply; an empty one hangs up."""
    left = list(answers)

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(left[0])
        if not left.pop(0):
            connection.shutdown(socket.SHUT_RDWR)

    return answer


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_execution_that_was_not_started(
    status: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = in_turn(reply(status), reply(status), OK)
    environ = io.BytesIO(b"archive")
    assert connect(raw_server.url).execute({"commands": ["true"]}, environ) == RESULT
    assert len(raw_server.requests) == 3
    # The upload was rewound.
    assert all(request.count(b"archive") == 1 for request in raw_server.requests)


@pytest.mark.parametrize(
    "answer", [b"", reply("500 Oops"), reply("502 Bad"), reply("504 Late"), OK[:-10]]
)
def test_execution_that_may_have_been_started(
    answer: bytes, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def once(connection: socket.socket, _: bytes) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    raw_server.answer = once
    with pytest.raises((SandboxError, ConnectionFailed)):
        connect(raw_server.url).execute({"commands": ["true"]})
    assert len(raw_server.requests) == 1


@pytest.mark.parametrize("answer", [b"", reply("502 Bad"), reply("504 Late"), reply("503 Busy")])
def test_question_is_asked_again(
    answer: bytes, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = in_turn(answer, answer, reply("200 OK", json.dumps(USAGE)))
    assert connect(raw_server.url).usage() == USAGE
    assert len(raw_server.requests) == 3


def test_download_that_breaks_begins_anew(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    answers = [reply("200 OK", b"half", length=8), reply("200 OK", b"all of it")]

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(answers.pop(0))
        if answers:
            connection.shutdown(socket.SHUT_RDWR)

    raw_server.answer = answer
    assert connect(raw_server.url).download("x").read() == b"all of it"


def test_chunks_of_a_server_that_is_busy_at_first(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = in_turn(reply("503 Busy"), reply("200 OK", b"all of it"))
    assert b"".join(connect(raw_server.url).iter_download("x")) == b"all of it"


def test_chunks_that_were_passed_on_are_not_sent_again(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply("200 OK", b"half", length=8))
        connection.shutdown(socket.SHUT_RDWR)

    raw_server.answer = answer
    with pytest.raises(ConnectionFailed):
        list(connect(raw_server.url).iter_download("x"))
    assert len(raw_server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [("400 Bad", SandboxError), ("404 None", SandboxError), ("500 Oops", Sandbox500)],
)
def test_answer_that_another_would_not_change(
    status: str, error: type[Exception], connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply(status)
    with pytest.raises(error):
        connect(raw_server.url).usage()
    assert len(raw_server.requests) == 1


def test_two_retries_by_default(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("503 Service Unavailable", "busy")
    with pytest.raises(Sandbox503, match="busy"):
        connect(raw_server.url).execute({"commands": ["true"]})
    assert len(raw_server.requests) == 3


@pytest.mark.parametrize("retries", [0, 4])
def test_other_number_of_retries(
    retries: int, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("502 Bad Gateway")
    with pytest.raises(Sandbox502):
        connect(raw_server.url, retries=retries).usage()
    assert len(raw_server.requests) == retries + 1


def test_server_that_comes_up_late(connect: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sandbox = connect(f"http://127.0.0.1:{port}", retries=100)

    def late() -> None:
        server = RawServer(port)
        server.answer = OK
        with server:
            came.wait(20)

    came = threading.Event()
    thread = threading.Timer(0.3, late)
    thread.start()
    assert sandbox.execute({"commands": ["true"]}, io.BytesIO(b"archive")) == RESULT
    came.set()
    thread.join()


def test_authentication_that_fails_once_there_is_an_answer(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    class Auth(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
            yield request
            raise httpx.ConnectError("where tokens come from")

    raw_server.answer = OK
    with pytest.raises(ConnectionFailed, match="where tokens come from"):
        connect(raw_server.url, auth=Auth()).execute({"commands": ["true"]})
    assert len(raw_server.requests) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(
    form: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now
    value = "1" if form == "seconds" else date
    raw_server.answer = in_turn(reply("503 Busy", "", f"Retry-After: {value}"), OK)
    started = time.monotonic()
    connect(raw_server.url).execute({"commands": ["true"]})
    assert 0.9 < time.monotonic() - started < 6


@pytest.mark.parametrize("value", ["3600", "soon", "-1", "", "Mon, 01 Jan 9999999999 00:00:00 GMT"])
def test_retry_after_that_is_too_long_or_nonsense(
    value: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("429 Too Many Requests", "", f"Retry-After: {value}")
    started = time.monotonic()
    with pytest.raises(Sandbox429):
        connect(raw_server.url).usage()
    assert time.monotonic() - started < 5
    assert len(raw_server.requests) == (1 if value == "3600" else 3)


@pytest.mark.parametrize("after", [0, 0.05])
def test_idle_connection_that_the_server_closes(
    after: float, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    # At the worst moment: as the next request comes.
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(OK)
        if not after:
            connection.shutdown(socket.SHUT_RDWR)
        connection.settimeout(after or None)

    raw_server.answer = answer
    sandbox = connect(raw_server.url)
    for number in range(40):
        time.sleep(after + (number - 20) / 20_000 if after else number % 4 / 1000)
        assert sandbox.execute({"commands": ["true"]}) == RESULT
    assert len(raw_server.requests) == 40


def test_idle_connections_are_given_up_soon(
    connect: Callable[..., Sandbox], raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_api._pool.IDLE", 0.1)
    raw_server.answer = reply("404 Not Found")
    sandbox = connect(raw_server.url)
    for _ in range(3):
        sandbox.check("x")
    assert raw_server.accepted == 1
    time.sleep(0.2)
    sandbox.check("x")
    assert raw_server.accepted == 2


def expects(request: bytes) -> bool:
    return b"\r\nexpect: 100-continue\r\n" in request.lower()


def test_body_is_held_back_only_where_a_connection_was_idle(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = connect(raw_server.url)
    for _ in range(3):
        sandbox.execute({"commands": ["true"]})
    raw_server.answer = reply("404 Not Found")
    sandbox.check("x")
    assert [*map(expects, raw_server.requests)] == [False, True, True, False]


@pytest.mark.parametrize("refusal", ["silence", "417 Expectation Failed", "closing"])
def test_server_that_does_not_ask_for_bodies(
    refusal: str,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_api._connection.CONTINUE", 0.1)
    raw_server.answer = OK
    raw_server.asks = False
    if refusal != "silence":
        raw_server.instead = b"" if refusal == "closing" else reply(refusal)
    sandbox = connect(raw_server.url)
    started = time.monotonic()
    for _ in range(5):
        assert sandbox.execute({"commands": ["true"]}) == RESULT
    # Each was sent whole once, and held back no more once the server was known for that.
    assert len(raw_server.requests) == 5
    assert not any(map(expects, raw_server.requests))
    assert raw_server.heads == 5 + (4 if refusal == "closing" else 1)
    assert time.monotonic() - started < 2


def test_waiting_for_a_server_to_ask_takes_no_more_than_its_share_of_a_call(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    raw_server.asks = False
    sandbox = connect(raw_server.url, 0.8)
    for _ in range(3):
        assert sandbox.execute({"commands": ["true"]}) == RESULT


def test_wait_that_was_cut_short_proves_nothing_of_the_server(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = connect(raw_server.url)
    sandbox.execute({"commands": ["true"]})
    raw_server.asks = False
    sandbox.execute({"commands": ["true"]}, timeout=0.8)
    raw_server.asks = True
    for _ in range(2):
        sandbox.execute({"commands": ["true"]})
    assert [*map(expects, raw_server.requests)] == [False, False, True, True]


def test_answer_in_place_of_asking_for_the_body(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = connect(raw_server.url, retries=0)
    sandbox.execute({"commands": ["true"]})
    raw_server.instead = reply("503 Service Unavailable", "Sandbox overloaded")
    with pytest.raises(Sandbox503, match="Sandbox overloaded"):
        sandbox.execute({"commands": ["true"]})
    raw_server.instead = None
    assert sandbox.execute({"commands": ["true"]}) == RESULT
    assert len(raw_server.requests) == 2


def test_server_that_asks_for_a_body_and_hangs_up(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    sandbox = connect(raw_server.url)
    sandbox.execute({"commands": ["true"]})
    raw_server.answer = lambda connection, _: connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionFailed):
        sandbox.execute({"commands": ["true"]})
    assert len(raw_server.requests) == 2


@pytest.mark.parametrize("announced", [b"", b"Content-Length: 18\r\n"])
def test_connection_of_a_head_with_a_body_is_not_used_again(
    announced: bytes, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    # As the real server answers.
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\n" + announced + b"\r\n")
        time.sleep(0.01)
        connection.sendall(b"<h1>Not Found</h1>")

    raw_server.answer = answer
    sandbox = connect(raw_server.url, retries=0)
    for _ in range(3):
        assert sandbox.check("x") == 0
    assert raw_server.accepted == 3


def test_retry_is_logged(
    connect: Callable[..., Sandbox], raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    raw_server.answer = in_turn(reply("503 Busy"), OK)
    with caplog.at_level(logging.INFO, "sandbox_api"):
        connect(raw_server.url).execute({"commands": ["true"]})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "sandbox_api"]
    assert line.startswith(f"POST {raw_server.url}/execute/: trying again in 0.0")


def test_asynchronous_gather_waits_for_connections(
    run: Callable[..., object], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.01)
        connection.sendall(OK)

    raw_server.answer = answer

    async def main() -> None:
        import anyio

        async with ASandbox(raw_server.url) as sandbox, anyio.create_task_group() as group:
            for _ in range(250):
                group.start_soon(sandbox.execute, {"commands": ["true"]})

    run(main)
    assert len(raw_server.requests) == 250
