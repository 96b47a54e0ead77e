"""What is left out of httpx for plain calls changes nothing that can be seen."""

from __future__ import annotations

import email
import email.policy
import functools
import gzip
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api import ConnectionFailed, Sandbox, Sandbox400, SandboxFailure

from ..servers import reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..servers import RawServer

TRUE = {"commands": ["true", "echo é \"'\r\n--"]}
DONE = '{"status": 0, "execution": [], "total_time": 1}'
METHODS = [
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
]


def parts(request: bytes) -> tuple[bytes, list[tuple[str, str]], list[tuple[str, Any]]]:
    """Return the first line of a request, its headers and the fields of its form."""
    line, _, rest = request.partition(b"\r\n")
    message: Any = email.message_from_bytes(rest, policy=email.policy.HTTP)
    fields = [(part["Content-Disposition"], part.get_content()) for part in message.iter_parts()]
    boundary = message.get_boundary()
    headers = [
        (name.lower(), value.replace(boundary, "BOUNDARY")) for name, value in message.items()
    ]
    return line, sorted(headers), fields


def hanging_up(answer: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    """Return what sends an answer and ends the connection."""

    def end(connection: socket.socket, _: bytes) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    return end


@pytest.mark.parametrize(
    "call",
    [
        lambda sandbox: sandbox.execute(TRUE),
        lambda sandbox: sandbox.execute(TRUE, headers={"X-Request-ID": "1", "Accept": "a/b"}),
        lambda sandbox: sandbox.request("POST", "own/?a=b", fields={"a": "é\r\n", "b": {"c": 1}}),
        lambda sandbox: sandbox.request("POST", "own/", fields={'quo"ted': "a", "new\nline": ""}),
        lambda sandbox: sandbox.execute(TRUE, {"a": "b"}),
    ],
)
def test_requests_are_those_of_httpx(
    call: Callable[[Sandbox], object],
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    request: pytest.FixtureRequest,
) -> None:
    raw_server.answer = reply("200 OK", DONE)
    call(connect(raw_server.url, headers={"User-Agent": "tests", "X-Course": "2"}))
    # The same with what makes httpx do all of it.
    hook: Any = lambda _: None  # noqa: E731
    if request.node.callspec.params["connect"] != "sync":

        async def hook(_: object) -> None:
            pass

    hooks = {"response": [hook]}
    call(connect(raw_server.url, headers={"User-Agent": "tests", "X-Course": "2"}, hooks=hooks))
    ours, theirs = map(parts, raw_server.requests)
    assert ours == theirs


def test_headers_of_the_client_do_not_change_what_the_body_is(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", DONE)
    connect(raw_server.url, headers={"content-type": "text/plain", "Content-Length": "1"}).execute(
        TRUE
    )
    _, headers, fields = parts(raw_server.requests[0])
    of_body = [name for name, _ in headers if name in {"content-type", "content-length"}]
    assert (of_body, len(fields)) == (["content-length", "content-type"], 1)


def test_cookies_are_kept(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", DONE, "Set-Cookie: node=7; Path=/")
    sandbox = connect(raw_server.url)
    for _ in range(3):
        sandbox.execute(TRUE)
    assert [b"\r\nCookie: node=7\r\n" in request for request in raw_server.requests] == [
        False,
        True,
        True,
    ]


def test_answers_are_those_of_httpx(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", gzip.compress(b"compressed"), "Content-Encoding: gzip")
    answer = connect(raw_server.url).request("POST", "own/", fields={"a": "b"})
    assert answer.content == b"compressed"
    raw_server.answer = reply("200 OK", "plain")
    answer = connect(raw_server.url).request("POST", "own/", fields={"a": "b"})
    assert (answer.text, answer.num_bytes_downloaded) == ("plain", 5)
    assert answer.is_closed
    assert answer.read() == b"plain"
    assert answer.request.method == "POST"
    assert 0 < answer.elapsed.total_seconds() < 20
    raw_server.answer = reply("400 Bad Request", "no")
    with pytest.raises(Sandbox400) as caught:
        connect(raw_server.url).execute(TRUE)
    assert caught.value.response.elapsed.total_seconds() > 0


@pytest.mark.parametrize("raw", [b"", reply("200 OK", DONE, length=1000)])
def test_failures_know_their_request(
    raw: bytes, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = hanging_up(raw)
    with pytest.raises(SandboxFailure) as caught:
        connect(raw_server.url, retries=0).execute(TRUE)
    cause = caught.value.__cause__
    assert isinstance(cause, httpx.RequestError)
    assert cause.request.url == f"{raw_server.url}/execute/"


@pytest.mark.parametrize("early", [False, True])
def test_what_wraps_the_transports_of_httpx_sees_all(
    early: bool,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def wrap(method: Any) -> Any:
        @functools.wraps(method)
        def wrapped(transport: object, request: httpx.Request) -> Any:
            seen.append(request.method)
            return method(transport, request)

        return wrapped

    sandbox = connect(raw_server.url, retries=0)
    raw_server.answer = reply("200 OK", DONE)
    if not early:
        sandbox.execute(TRUE)
    for kind, name in METHODS:
        monkeypatch.setattr(kind, name, wrap(getattr(kind, name)))
    for _ in range(2):
        assert sandbox.execute(TRUE).ok
    raw_server.answer = reply("200 OK", "saved")
    assert sandbox.download("872ed7a6-7c93-4a5b-a1ce-3a9d0f0c2b1e").read() == b"saved"
    assert seen == ["POST", "POST", "GET"]
    assert raw_server.accepted == 1
    raw_server.answer = hanging_up()
    with pytest.raises(ConnectionFailed, match="hung up"):
        sandbox.execute(TRUE)
