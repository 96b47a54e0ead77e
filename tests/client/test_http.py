"""HTTP/1.1 without I/O: what is made of replies, by whole and in pieces, and what is sent."""

from __future__ import annotations

import random
import weakref
from typing import TYPE_CHECKING

import h11
import httpx
import pytest

from sandbox_api._http import HEAD_SIZE, Reply, Unsendable, body_length, chunk, head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OK = b"HTTP/1.1 200 OK\r\n"
ONE = OK + b"Content-Length: 1\r\n\r\nx"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def received(pieces: Iterable[bytes], method: str = "GET") -> tuple[Reply, bytes]:
    """Return what was made of a reply, and its body."""
    reply = Reply(method)
    body = b""
    for piece in pieces:
        reply.receive(piece)
        body += reply.take()
    return reply, body


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("data", "method", "body", "reusable"),
    [
        (OK + b"Content-Length: 2\r\n\r\nab", "GET", b"ab", True),
        (OK + b"CONTENT-LENGTH:2 \r\nEmpty:\r\n\r\nab", "POST", b"ab", True),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nab", "GET", b"ab", False),
        (OK + b"Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n", "GET", b"ab", False),
        (OK + b"Content-Length: 2\r\n\r\nab and more", "GET", b"ab", False),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nab, more", "GET", b"ab", False),
        (CHUNKED + b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\nC: d\r\n\r\n", "GET", b"abc", True),
        (OK + b"\r\nab", "GET", b"ab", False),
        (OK + b"Upgrade: h2\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na", "", b"a", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "GET", b"ab", False),
        (b"HTTP/1.1 204 None\r\n\r\n", "GET", b"", True),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\n", "GET", b"", True),
        (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", "GET", b"", True),
        (OK + b"Content-Length: 2\r\n\r\n", "HEAD", b"", True),
        (OK + b"Content-Length: 2\r\n\r\nab", "HEAD", b"", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\nnot here", "HEAD", b"", False),
        # The real server sends the body, perhaps later.
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\n", "HEAD", b"", False),
        (
            b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
            "",
            b"",
            True,
        ),
        (
            b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
            "",
            b"x",
            True,
        ),
        (b"HTTP/1.0 100 Continue\r\n\r\n" + ONE, "", b"x", True),
        (b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + ONE + b"y", "", b"x", False),
        (b"HTTP/1.0 100 Continue\r\n\r\n" + ONE + ONE, "", b"x", False),
        (b"HTTP/1.0 100 Continue\r\n\r\n" + OK + b"\r\nxy", "", b"xy", False),
    ],
)
def test_reply(data: bytes, method: str, body: bytes, reusable: bool, size: int) -> None:
    reply, found = received(in_pieces(data, size), method)
    if not reply.ended:
        reply.receive(b"")
    assert found == body
    assert (reply.ended, reply.reusable) == (True, reusable)
    assert reply.status in {200, 204, 304, 404}
    assert reply.asked == (b" 100 " in data)


@pytest.mark.parametrize("size", [1, 100_000])
def test_head_of_a_reply(size: int) -> None:
    data = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    data += b"HTTP/1.1 201 Caf\xe9\r\nA: b\r\nA:\t c d \t\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n"
    reply, _ = received(in_pieces(data, size))
    assert (reply.status, reply.reason, reply.version) == (201, b"Caf\xe9", "1.1")
    assert reply.headers == [
        (b"A", b"b"),
        (b"A", b"c d"),
        (b"X", b"\xe9"),
        (b"Content-Length", b"0"),
    ]


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: -2\r\n\r\nab",
        OK + b"Content-Length: 2, 2\r\n\r\nab",
        OK + b"Content-Length: 99999999999999999999\r\n\r\nab",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nab",
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"A: b\0c\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        CHUNKED + b"x\r\nab\r\n",
        CHUNKED + b"-2\r\nab\r\n",
        CHUNKED + b"2\r\nabc\r\n",
    ],
)
def test_what_is_no_reply(data: bytes, size: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        received(in_pieces(data, size))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no reply"),
        (b"HTTP/1.1 20", "not whole"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "not whole"),
        (OK + b"Content-Length: 3\r\n\r\n", "not whole"),
        (OK + b"Content-Length: 3\r\n\r\nab", "not whole"),
        (CHUNKED + b"2\r\nab\r\n", "not whole"),
        (CHUNKED + b"2\r\nab\r\n0\r\n", "not whole"),
    ],
)
def test_reply_that_is_cut(data: bytes, reason: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=reason):
        received([*in_pieces(data, 7), b""])


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 ", b"x"),
        (OK + b"A: ", b"x"),
        (OK, b"A: b\r\n"),
        (b"", b"HTTP/1.1 103 Hints\r\n\r\n"),
        (CHUNKED + b"2\r\nab\r\n0\r\n", b"A: b\r\n"),
        (CHUNKED + b"2\r\nab\r\n0\r\nA: ", b"x"),
        (CHUNKED + b"2;", b"x"),
    ],
)
def test_reply_without_end(start: bytes, more: bytes) -> None:
    pieces = [start or more, *[more * (1000 // len(more))] * (2 * HEAD_SIZE // 1000)]
    with pytest.raises(httpx.RemoteProtocolError, match="too long"):
        received(pieces)


WHOLE = [
    OK + b"Content-Length: 5\r\nX-A: b c\r\n\r\nhello",
    CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n",
]
TOKENS = [b"\r\n", b"\n", b" ", b":", b"\0", b"1", b"f" * 9, b"-", b"HTTP/1.1 ", b"101", b"gzip, "]
TOKENS += [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]


def read_by_h11(data: bytes, method: str) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, headers, body = 0, [], b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, headers = event.status_code, [*event.headers]
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, headers, body


def read_by_us(
    data: bytes, method: str, size: int
) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    try:
        reply, body = received(in_pieces(data, size), method)
        if not reply.ended:
            reply.receive(b"")
    except httpx.RemoteProtocolError:
        return None
    return reply.status, [(name.lower(), value) for name, value in reply.headers], body


def test_what_h11_accepts_too_is_read_alike() -> None:
    chance = random.Random(1)
    alike = 0
    for _ in range(10_000):
        data = chance.choice(WHOLE)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            changed = chance.choice([*TOKENS, b"", chance.randbytes(1)])
            data = data[:at] + changed + data[at + chance.randrange(5) :]
        method = chance.choice(["GET", "HEAD"])
        ours = read_by_us(data, method, chance.choice([1, 5, 1000]))
        theirs = read_by_h11(data, method)
        if ours and theirs:
            assert ours == theirs, data
            alike += 1
    assert alike > 1000


def test_long_body_is_not_too_long() -> None:
    reply, body = received([CHUNKED, *[b"400\r\n" + bytes(0x400) + b"\r\n"] * 300, b"0\r\n\r\n"])
    assert (len(body), reply.ended) == (300 * 0x400, True)


def test_reply_goes_with_its_last_name() -> None:
    """Not when a collector comes by, or each call would leave it some work."""
    for pieces in ([OK + b"Content-Length: 2\r\n\r\nab"], [OK + b"\r\nab", b""]):
        reply = Reply("GET")
        known = weakref.ref(reply)
        for piece in pieces:
            reply.receive(piece)
        del reply
        assert known() is None


def test_server_that_hangs_up_after_a_reply() -> None:
    reply, body = received([OK + b"Content-Length: 2\r\n\r\nab", b""])
    assert (body, reply.ended, reply.reusable) == (b"ab", True, False)


def test_head_of_a_request() -> None:
    headers = [(b"Host", b"x"), (b"X-Some.Thing", b"a\tb \xe9"), (b"Empty", b"")]
    assert head("POST", b"/a%20b?c=d", headers) == (
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Some.Thing: a\tb \xe9\r\nEmpty: \r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("GET s3cret", b"/", b"A", b"b"),
        ("", b"/", b"A", b"b"),
        ("G\xc9T", b"/", b"A", b"b"),
        ("GET", b"/ HTTP/1.1\r\ns3cret: x", b"A", b"b"),
        ("GET", b"/s3cret\xe9", b"A", b"b"),
        ("GET", b"", b"A", b"b"),
        ("GET", b"/", b"A s3cret", b"b"),
        ("GET", b"/", b"", b"b"),
        ("GET", b"/", b"A:", b"b"),
        ("GET", b"/", b"A", b"b\r\ns3cret: c"),
        ("GET", b"/", b"A", b"s3cret\n"),
        ("GET", b"/", b"A", b"s3cret\0"),
    ],
)
def test_head_that_would_say_something_else(
    method: str, target: bytes, name: bytes, value: bytes
) -> None:
    with pytest.raises(Unsendable) as caught:
        head(method, target, [(b"Host", b"x"), (name, value)])
    assert "s3cret" not in str(caught.value)


def test_body_length() -> None:
    assert body_length([(b"Host", b"x")]) == 0
    assert body_length([(b"content-length", b"12")]) == 12
    assert body_length([(b"Host", b"x"), (b"transfer-encoding", b"Chunked")]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {b"Content-Length": b"-1"},
        {b"Content-Length": b"9" * 5000},
        {b"Transfer-Encoding": b"identity"},
        {b"Transfer-Encoding": b"gzip, chunked"},
        {b"Content-Length": b"12", b"transfer-encoding": b"chunked"},
        {b"Transfer-Encoding": b"chunked", b"Content-Length": b"12"},
        {b"Content-Length": b"12", b"content-length": b"13"},
    ],
)
def test_body_of_no_sure_length(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(Unsendable):
        body_length([*fields.items()])


def test_chunks() -> None:
    assert chunk(bytes(16)) == b"10\r\n" + bytes(16) + b"\r\n"
    assert chunk(b"") == b"0\r\n\r\n"
