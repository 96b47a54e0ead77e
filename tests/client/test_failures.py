"""What either flavour does where no answer comes, or none that makes sense."""

from __future__ import annotations

import io
import json
import pickle
import re
import socket
import threading
import time
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import sandbox_api
from sandbox_api import (
    ConnectionFailed,
    ExecutionFailed,
    InvalidReply,
    InvalidURL,
    Sandbox,
    Sandbox413,
    Sandbox503,
    SandboxClientError,
    SandboxErrCode,
    SandboxError,
    SandboxFailure,
    SandboxRedirection,
    SandboxServerError,
    TimedOut,
    status_exceptions,
)

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT: dict[str, Any] = {"status": 0, "execution": [], "total_time": 0.1}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("localhost:7000", "has no scheme"),
        ("", "has no scheme"),
        ("ftp://localhost", "is neither http nor https"),
        ("http://", "has no host"),
        ("http://localhost:port", "is not valid"),
        ("http://localhost:72536", "has a port above 65535"),
        ("http://localhost/?x=1", "has a query"),
        ("unix://sandbox.sock", "has no absolute path"),
        ("unix:/run/sandbox.sock", "'unix:/run/sandbox.sock' has no absolute path"),
        ("unix:sandbox.sock", "has no absolute path"),
        ("http:/localhost", "has no scheme"),
        ("http://localhost/a\udcff", "'http://localhost/a%FF' is not UTF-8"),
        ("http://localhost/a\ud800", "'http://localhost' is not UTF-8"),
        ("http://local\udcffhost/", "is not valid"),
    ],
)
def test_url_that_can_not_be_used(url: str, fault: str, connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(InvalidURL, match=fault) as caught:
        connect(url)
    assert isinstance(caught.value, ValueError)
    assert "write it like http://" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "user:s3cret@host",
        "http://user:s3cret@",
        "ht:tp://u:s3cret@h/p@x",
        "http://u:s3cret\udcff@h/",
        "http://u:s3cret\ud800@host/",
    ],
)
def test_message_about_a_url_hides_its_password(url: str, connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect(url)
    assert "s3cret" not in str(caught.value)


def test_half_made_sandbox_can_be_shown(connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect("nonsense")
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert re.search(r"self = <A?Sandbox>", shown)


def test_password_in_a_url_is_sent_and_never_shown(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    sandbox = connect(raw_server.url.replace("://", "://user:s3cret@"))
    raw_server.answer = reply("500 Internal Server Error", "oops")
    with pytest.raises(SandboxError) as answered:
        sandbox.usage()
    assert b"Authorization: Basic" in raw_server.requests[0]
    raw_server.answer = reply("200 OK", "no JSON")
    with pytest.raises(InvalidReply) as misread:
        sandbox.usage()
    for text in [str(answered.value), str(misread.value), repr(Sandbox("http://user:s3cret@host"))]:
        assert "s3cret" not in text


def test_server_that_is_not_there(connect: Callable[..., Sandbox]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionFailed, match="can't be reached") as caught:
        connect(url).usage()
    assert f"GET {url}/usages/" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, SandboxFailure)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_server_that_hangs_up(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = lambda connection, _: connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionFailed, match="hung up"):
        connect(raw_server.url).usage()


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("when", ["at once", "half-way"])
def test_server_that_refuses_an_upload_and_hangs_up(
    when: str, announced: bool, connect: Callable[..., Sandbox]
) -> None:
    head = "HTTP/1.1 413 Too Large\r\n" + ("Content-Length: 7\r\n" if announced else "")

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            read = 0
            while read < (1 if when == "at once" else 1_000_000):
                read += len(connection.recv(65536))
            connection.sendall(f"{head}Connection: close\r\n\r\ntoo big".encode())
            time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Sandbox413) as caught:
            connect(url).execute({"commands": ["true"]}, io.BytesIO(bytes(50_000_000)))
        thread.join()
    if announced:
        assert str(caught.value).endswith("413 Too Large: too big")


def test_body_that_is_not_encoded_as_it_says(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", b"no gzip at all", "Content-Encoding: gzip")
    with pytest.raises(InvalidReply, match="can't be decoded"):
        connect(raw_server.url).usage()


def test_environment_that_a_server_did_not_store(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", '{"status": 0, "execution": [], "total_time": 0.1}')
    with pytest.raises(ExecutionFailed):
        connect(raw_server.url).store({"a": "b"})


def test_status_of_a_sandbox_that_is_newer(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", '{"status": -99, "execution": [], "total_time": 0.1}')
    result = connect(raw_server.url).execute({"commands": ["true"]})
    assert (result.ok, result.error) == (False, SandboxErrCode.UNKNOWN)


def test_error_whose_body_is_cut(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply("503 Busy", b"\x1f\x8b", "Content-Encoding: gzip", length=100))
        connection.shutdown(socket.SHUT_RDWR)

    raw_server.answer = answer
    with pytest.raises(Sandbox503, match=r"503 Service Unavailable$"):
        connect(raw_server.url, retries=1).execute({"commands": ["true"]})
    assert len(raw_server.requests) == 2


def test_body_shorter_than_announced(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply("200 OK", "x", length=1000))
        connection.shutdown(socket.SHUT_RDWR)

    raw_server.answer = answer
    with pytest.raises(ConnectionFailed):
        connect(raw_server.url).download("872b604c-9cce-42e2-8888-9a0311f3a724")


def test_json_cut_where_no_length_is_announced(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    body = json.dumps(RESULT)[:-10]
    raw_server.answer = f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}".encode()
    with pytest.raises(InvalidReply, match="must be JSON"):
        connect(raw_server.url).execute({"commands": ["true"]})


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<html>It works!</html>", "must be JSON"),
        ("", "must be JSON"),
        ("[" * 100_000, "must be JSON (nested more than 100 deep)"),
        ('{"a":' * 101, "must be JSON (nested more than 100 deep)"),
        ("[[]," * 99 + "{}" + "]" * 99, "the value: must be an object"),
        ("[[]," * 100 + "{}" + "]" * 100, "must be JSON (nested more than 100 deep)"),
        ("[]," * 200 + '{"a":[' * 51 + "]}" * 51, "must be JSON (nested more than 100 deep)"),
        ("]" * 200 + "[" * 99, "must be JSON (Expecting value"),
        # What is in strings neither nests nor closes.
        ('["]]]]]", ' * 101, "must be JSON (nested more than 100 deep)"),
        (r'["\"]]]]]", ' * 101, "must be JSON (nested more than 100 deep)"),
        ('"' + r"\"" * 1_000_000 + "[" * 1000 + "\\", "must be JSON (Unterminated string"),
        ("\x80", "must be"),
        ("[]", "the value: must be an object, not []"),
        ("{}", "status: is missing"),
        (json.dumps({**RESULT, "status": "0"}), "status: must be an integer, not '0'"),
        (json.dumps({**RESULT, "status": True}), "status: must be an integer, not True"),
        (
            json.dumps({**RESULT, "execution": [{"command": "a"}]}),
            "execution[0].exit_code: is missing",
        ),
        (json.dumps({**RESULT, "expire": "soon"}), "expire: must be a date and time, not 'soon'"),
        (json.dumps({**RESULT, "environment": "x"}), "environment: must be a UUID, not 'x'"),
    ],
)
def test_reply_that_contradicts_the_description(
    body: str, fault: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", body)
    with pytest.raises(InvalidReply) as caught:
        connect(raw_server.url).execute({"commands": ["true"]})
    assert fault in str(caught.value)
    assert str(caught.value).startswith(f"POST {raw_server.url}/execute/: ")
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, KeyError)


def test_brackets_of_a_reply_that_do_not_nest(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    command = {"command": "[[", "exit_code": 0, "stdout": '["{' * 999, "stderr": "\\", "time": 0}
    body = {**RESULT, "execution": [command] * 300}
    raw_server.answer = reply("200 OK", json.dumps(body))
    assert connect(raw_server.url).execute({"commands": ["true"]}) == body


@pytest.mark.parametrize("header", ["Content-Length: many", "X-Other: 1"])
def test_size_that_is_not_announced(
    header: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = f"HTTP/1.1 200 OK\r\n{header}\r\nConnection: close\r\n\r\n".encode()
    with pytest.raises((InvalidReply, ConnectionFailed)):
        connect(raw_server.url).check("872b604c-9cce-42e2-8888-9a0311f3a724")


def test_server_that_never_answers(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = lambda *_: None
    started = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        connect(raw_server.url, timeout=0.3).usage()
    assert time.monotonic() - started < 5
    assert isinstance(caught.value, TimeoutError)


def test_server_that_drips(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply("200 OK", length=1_000_000))
        while True:
            time.sleep(0.05)
            connection.sendall(b" ")

    raw_server.answer = answer
    started = time.monotonic()
    with pytest.raises(TimedOut):
        connect(raw_server.url, timeout=0.5).usage()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("timeout", [None, 0])
def test_no_time_out(
    timeout: float | None, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.2)
        connection.sendall(reply("404 Not Found"))

    raw_server.answer = answer
    assert connect(raw_server.url, timeout=timeout).check("x") == 0


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 300])
def test_status_has_an_exception(status: HTTPStatus) -> None:
    response = httpx.Response(status, request=httpx.Request("GET", "http://host/usages/"))
    error = status_exceptions(response)
    assert type(error) is getattr(sandbox_api, f"Sandbox{status.value}")
    assert f"Sandbox{status.value}" in sandbox_api.__all__
    group = {3: SandboxRedirection, 4: SandboxClientError, 5: SandboxServerError}
    assert isinstance(error, group[status // 100])
    assert isinstance(error, SandboxError)
    assert error.response is response


@pytest.mark.parametrize("status", [302, 418, 425, 404, 520, 599, 799])
def test_status_raises_its_exception(
    status: int, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply(f"{status} Whatever", "words", "Location: http://127.0.0.1:1/")
    with pytest.raises(getattr(sandbox_api, f"Sandbox{status}")) as caught:
        connect(raw_server.url).usage()
    assert caught.value.response.status_code == status
    assert f"GET {raw_server.url}/usages/: {status}" in str(caught.value)
    assert len(raw_server.requests) == 1  # no redirect was followed
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert again.response.text == "words"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<p>Gateway <b>down</b>: a &lt; b</p>", "Gateway down : a < b"),
        ("a < b & c > d", "a < b & c > d"),
        ("<script is < not allowed", "<script is < not allowed"),
        ("<STYLE>a {</ style>}</style >b<script src=x>c < d</script>e", "b e"),
        ("<p>a<title>b", "a"),
        ("<p>&nbsp; a&amp;b", "a&b"),
    ],
)
def test_message_of_a_piece_of_html_and_of_none(body: str, words: str) -> None:
    assert str(status_exceptions(httpx.Response(502, text=body))).endswith(f": {words}")


def test_message_without_tags_and_not_too_long() -> None:
    page = "<!doctype html>\n<html><head><title>Oops</title></head><body><h1>Oops</h1>"
    response = httpx.Response(500, text=f"{page}<p>{'word ' * 1000}</p></body></html>")
    message = str(status_exceptions(response))
    assert "<" not in message
    assert message.startswith("sandbox: 500 Internal Server Error: Oops word word")
    assert len(message) < 600


@pytest.mark.parametrize(
    "piece", ["<", "<a", "<script ", "<script>", "<script></script ", "&lt;", "\n <"]
)
def test_message_of_a_page_that_is_never_closed_comes_soon(piece: str) -> None:
    response = httpx.Response(500, text="<p>" + piece * (200_000 // len(piece)))
    started = time.process_time()
    assert len(str(status_exceptions(response))) < 600
    assert time.process_time() - started < 1


def test_message_of_a_page_with_a_character_of_no_number() -> None:
    response = httpx.Response(500, text=f"<p>Oops &#{'9' * 5000};")
    assert "500 Internal Server Error: Oops" in str(status_exceptions(response))


@pytest.mark.parametrize(
    "error", [TimedOut("late"), ConnectionFailed("gone"), InvalidReply("odd"), InvalidURL("bad")]
)
def test_failure_can_be_pickled(error: SandboxFailure) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("make", [lambda: io.StringIO("text"), lambda: 3])
def test_environment_that_is_none(make: Callable[[], Any], connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(TypeError, match="environ must be"):
        connect("http://127.0.0.1:1").execute({"commands": ["true"]}, make())


def test_unicode_error_body(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("400 Bad Request", b"caf\xe9 \xff", "Content-Type: text/html")
    with pytest.raises(SandboxError, match="caf"):
        connect(raw_server.url).usage()
