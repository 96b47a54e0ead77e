"""What either flavour sends, byte for byte."""

from __future__ import annotations

import email
import email.policy
import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from sandbox_api import Sandbox, __version__

from ..conftest import tgz
from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage

ENV = "872b604c-9cce-42e2-8888-9a0311f3a724"
OK = reply("200 OK", json.dumps({"status": 0, "execution": [], "total_time": 0.1}))


def form(request: bytes) -> tuple[dict[str, EmailMessage], str]:
    """Return the parts of a multipart request by name, and its boundary."""
    head, _, body = request.partition(b"\r\n\r\n")
    content_type = next(
        line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")
    )
    message: Any = email.message_from_bytes(
        content_type + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts = {
        str(part.get_param("name", header="content-disposition")): part
        for part in message.iter_parts()
    }
    return parts, message.get_boundary()


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("", "/usages/"),
        ("/", "/usages/"),
        ("/sandbox", "/sandbox/usages/"),
        ("/a/b/", "/a/b/usages/"),
        ("/a%2Fb%2541/", "/a%2Fb%2541/usages/"),
        ("/a b", "/a%20b/usages/"),
    ],
)
def test_url_with_a_prefix(
    prefix: str, path: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")
    with pytest.raises(Exception, match="404"):
        connect(raw_server.url + prefix).usage()
    assert raw_server.requests[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())
    assert f"User-Agent: sandbox-api/{__version__} python/".encode() in raw_server.requests[0]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("file1.txt", "file1.txt"),
        ("dir/file1.txt", "dir/file1.txt"),
        ("with space.txt", "with%20space.txt"),
        ("hé.txt", "h%C3%A9.txt"),
        ("a#b?c%d.txt", "a%23b%3Fc%25d.txt"),
        ("100%25.txt", "100%2525.txt"),
        ("../../specifications", "%2E%2E/%2E%2E/specifications"),
        ("./a", "%2E/a"),
        ("a//b", "a//b"),
        ("...", "..."),
        ("a\r\nHost: x", "a%0D%0AHost%3A%20x"),
        ("d/a\udcff", "d/a%FF"),
    ],
)
def test_path_of_a_file(
    path: str, sent: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")
    assert connect(raw_server.url).check(ENV, path) == 0
    assert raw_server.requests[0].startswith(f"HEAD /files/{ENV}/{sent}/ HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("method", ["download", "check"])
@pytest.mark.parametrize("path", [Path("a"), 7, b"a"])
def test_path_that_is_no_text(method: str, path: Any, connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(TypeError, match=r"^path must be text, as 'src/main.py', not \w+$"):
        getattr(connect("http://127.0.0.1:1"), method)(ENV, path)


def test_path_that_is_neither_text_nor_bytes(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    sandbox = connect(raw_server.url)
    for call in (sandbox.check, sandbox.download):
        with pytest.raises(ValueError, match=r"'d/a\\ud800' can't be part of a path") as caught:
            call(ENV, "d/a\ud800")
        assert type(caught.value) is ValueError
    assert raw_server.requests == []


@pytest.mark.parametrize(
    ("uuid", "sent"),
    [(ENV, ENV), (UUID(ENV), ENV), ("unknown", "unknown"), ("../usages", "..%2Fusages")],
)
def test_id_of_an_environment(
    uuid: UUID | str, sent: str, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")
    assert connect(raw_server.url).check(uuid) == 0
    assert raw_server.requests[0].startswith(f"HEAD /environments/{sent}/ HTTP/1.1\r\n".encode())


def test_form_without_an_environment(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    config = {"commands": ["echo hé"], "save": True}
    connect(raw_server.url).execute(config)
    parts, _ = form(raw_server.requests[0])
    assert list(parts) == ["config"]
    assert parts["config"].get_filename() is None
    assert json.loads(parts["config"].get_content()) == config
    assert b"chunked" not in raw_server.requests[0].lower()


def test_form_with_an_environment(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    environ = tgz({"a": "1"})
    sent = environ.getvalue()
    connect(raw_server.url).execute({"commands": ["true"]}, environ)
    parts, _ = form(raw_server.requests[0])
    assert list(parts) == ["config", "environment"]
    assert parts["environment"].get_filename() == "environment.tgz"
    assert parts["environment"].get_content_type() == "application/gzip"
    assert parts["environment"].get_payload(decode=True) == sent
    assert environ.closed
    assert b"chunked" not in raw_server.requests[0].lower()


def test_environment_can_not_end_its_own_part(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    # With a fixed boundary, a student's file could add a second `config` and change what is run.
    raw_server.answer = OK
    boundaries: set[str] = set()
    hostile = b'\r\n--+++\r\nContent-Disposition: form-data; name="config"\r\n\r\n{}\r\n--+++--\r\n'
    for _ in range(3):
        connect(raw_server.url).execute({"commands": ["true"]}, io.BytesIO(hostile))
        parts, boundary = form(raw_server.requests[-1])
        assert parts["environment"].get_payload(decode=True) == hostile
        boundaries.add(boundary)
    assert len(boundaries) == 3
    assert all(len(boundary) >= 32 for boundary in boundaries)


def test_environment_is_closed_when_the_request_fails(connect: Callable[..., Sandbox]) -> None:
    environ = tgz({})
    with pytest.raises(ConnectionError):
        connect("http://127.0.0.1:1").execute({"commands": ["true"]}, environ)
    assert environ.closed


def test_environment_is_read_from_where_it_stands(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    stream = io.BytesIO(b"headerrest")
    stream.seek(6)
    connect(raw_server.url).execute({"commands": ["true"]}, stream)
    parts, _ = form(raw_server.requests[0])
    assert parts["environment"].get_payload(decode=True) == b"rest"
    assert stream.closed


def test_environment_from_a_pipe(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(b"x" * 300_000)

    thread = threading.Thread(target=write)
    thread.start()
    connect(raw_server.url).execute({"commands": ["true"]}, open(reader, "rb"))
    thread.join()
    parts, _ = form(raw_server.requests[0])
    assert parts["environment"].get_payload(decode=True) == b"x" * 300_000
    assert b"chunked" not in raw_server.requests[0].lower()


def test_environment_whose_descriptor_tells_another_length(
    tmp_path: Any, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    path = tmp_path / "env.tgz.gz"
    path.write_bytes(gzip.compress(b"y" * 5000))
    connect(raw_server.url).execute({"commands": ["true"]}, gzip.open(path))  # type: ignore[arg-type]
    parts, _ = form(raw_server.requests[0])
    assert parts["environment"].get_payload(decode=True) == b"y" * 5000


def test_connection_is_kept(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("404 Not Found")
    sandbox = connect(raw_server.url)
    for _ in range(3):
        sandbox.check("x")
    assert raw_server.accepted == 1
    raw_server.answer = OK
    for _ in range(3):
        sandbox.execute({"commands": ["true"]})
    assert raw_server.accepted == 1
    # But what can't be repeated, and has no body to hold back, is not sent over one that was idle.
    for _ in range(3):
        sandbox.request("POST", "x")
    assert raw_server.accepted == 4
