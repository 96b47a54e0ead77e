"""Where a sandbox is, and how it is reached."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import pickle
import re
import shelve
import socket
import ssl
import threading
import traceback
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api import (
    ASandbox,
    ConnectionFailed,
    InvalidConfig,
    InvalidReply,
    InvalidURL,
    Sandbox,
    SandboxError,
)
from sandbox_api._settings import _usual_context
from sandbox_api._urls import redacted

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OK = reply("200 OK", "{}", "Set-Cookie: a=1")
SECRET = "s3cret"


def ask(sandbox: Sandbox, **options: Any) -> None:
    """Send a request whose reply does not matter."""
    with contextlib.suppress(SandboxError):
        sandbox.request("GET", "/", **options)


def header(request: bytes, name: str) -> str | None:
    found = re.search(rb"(?im)^%b: (.*?)\r$" % name.encode(), request)
    return found[1].decode() if found else None


def test_url_from_the_environment(
    connect: Callable[..., Sandbox], raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_URL", raw_server.url)
    sandbox = connect()
    assert sandbox.url == raw_server.url
    ask(sandbox)
    assert len(raw_server.requests) == 1


@pytest.mark.parametrize("value", [None, ""])
def test_no_url_at_all(
    value: str | None, connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SANDBOX_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("SANDBOX_URL", value)
    with pytest.raises(InvalidURL, match="SANDBOX_URL"):
        connect()


def test_ipv6(connect: Callable[..., Sandbox]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(OK)

        requests: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()
        ask(connect(f"http://[::1]:{port}/prefix"))
        thread.join()
    assert requests[0].startswith(b"GET /prefix/ HTTP/1.1\r\n")
    assert header(requests[0], "Host") == f"[::1]:{port}"


def test_unix_socket(connect: Callable[..., Sandbox], tmp_path: Path) -> None:
    path = tmp_path / "sandbox.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(OK)

        requests: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()
        ask(connect(f"unix://{path}"))
        thread.join()
    assert requests[0].startswith(b"GET / HTTP/1.1\r\nHost: localhost\r\n")


def test_unix_socket_is_shown_as_given(
    connect: Callable[..., Sandbox], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"unix://{tmp_path}/sandbox.sock"
    place = f"GET {url}:/usages/"
    sandbox = connect(url, retries=0)
    with pytest.raises(ConnectionFailed) as unreachable:
        sandbox.usage()
    answers = [reply("500 Internal Server Error", "words"), reply("200 OK", "odd")]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/sandbox.sock")
        listener.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

        thread = threading.Thread(target=serve)
        thread.start()
        with caplog.at_level(logging.DEBUG, "sandbox_api"):
            with pytest.raises(SandboxError) as refused:
                sandbox.usage()
            with pytest.raises(InvalidReply) as misread:
                sandbox.usage()
        thread.join()
    errors = [unreachable.value, refused.value, misread.value]
    again = [pickle.loads(pickle.dumps(error)) for error in errors]
    lines = [record.getMessage() for record in caplog.records if record.name == "sandbox_api"]
    for text in [*map(str, [*errors, *again]), *lines]:
        assert text.startswith(place), text
    assert str(again[1]) == f"{place}: 500 Internal Server Error: words"


def test_unix_socket_needs_no_proxy(
    connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(ConnectionFailed, match="No such file"):
        connect(f"unix://{tmp_path}/none.sock", retries=0).usage()


def test_headers_auth_and_cookies(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    sandbox = connect(
        raw_server.url,
        headers={"X-Course": "algorithms"},
        auth=("user", SECRET),
        cookies={"session": "1"},
    )
    ask(sandbox, headers={"X-Request-ID": "42"})
    (request,) = raw_server.requests
    assert header(request, "X-Course") == "algorithms"
    assert header(request, "X-Request-ID") == "42"
    assert header(request, "Cookie") == "session=1"
    basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert header(request, "Authorization") == f"Basic {basic}"
    ask(sandbox)
    assert header(raw_server.requests[1], "X-Request-ID") is None


def test_password_that_can_not_be_sent(connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(ValueError, match=r"^auth has characters that can't be encoded"):
        connect("http://127.0.0.1:1", auth=("user", f"{SECRET}\udcff"))


@pytest.mark.parametrize(
    ("config", "options"),
    [({}, {}), ({"commands": ["true"]}, {"timeout": "x"}), ({"commands": ["true"]}, {"foo": 1})],
)
def test_what_is_not_sent_for_a_fault_is_closed(
    config: dict[str, Any], options: dict[str, Any], connect: Callable[..., Sandbox]
) -> None:
    stream = io.BytesIO(b"environment")
    with pytest.raises((InvalidConfig, TypeError)):
        connect("http://127.0.0.1:1").execute(config, stream, **options)
    assert stream.closed


def test_mapping_that_can_be_closed_is_left_open(
    connect: Callable[..., Sandbox], tmp_path: Path
) -> None:
    with shelve.open(str(tmp_path / "shelf")) as files:
        files["a"] = "b"
        with pytest.raises(InvalidConfig):
            connect("http://127.0.0.1:1").execute({}, files)
        assert files["a"] == "b"


def test_user_agent_can_be_replaced(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    ask(connect(raw_server.url, headers={"User-Agent": "grader/1"}))
    assert header(raw_server.requests[0], "User-Agent") == "grader/1"


def test_hooks(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    seen: list[str] = []
    is_async = not isinstance(connect("http://127.0.0.1:1"), Sandbox)

    def request_hook(request: httpx.Request) -> None:
        seen.append(request.method)

    async def async_hook(request: httpx.Request) -> None:
        seen.append(request.method)

    hooks = {"request": [async_hook if is_async else request_hook]}
    ask(connect(raw_server.url, hooks=hooks))
    assert seen == ["GET"]


@pytest.mark.parametrize(
    ("hooks", "fault"),
    [
        ({"request": ["other"]}, "must be (plain|async) functions in an? A?Sandbox, unlike"),
        ({"request": lambda _: None}, "must be a list of functions"),
        ({"requests": []}, "there is no hook 'requests', but 'request' and 'response'"),
    ],
)
def test_hooks_that_can_not_be(
    hooks: dict[str, Any], fault: str, connect: Callable[..., Sandbox]
) -> None:
    is_async = not isinstance(connect("http://127.0.0.1:1"), Sandbox)

    async def async_hook(_: object) -> None:
        pass

    if hooks.get("request") == ["other"]:
        hooks = {"request": [(lambda _: None) if is_async else async_hook]}
    with pytest.raises(TypeError, match=fault):
        connect("http://127.0.0.1:1", hooks=hooks)


@pytest.mark.parametrize(
    ("by", "raised"),
    [
        ("progress", TimeoutError("mine")),
        ("progress", httpx.ConnectError("mine")),
        ("request", TimeoutError("mine")),
        ("request", KeyError("mine")),
        ("request", httpx.ConnectError("mine")),
        ("response", httpx.ConnectError("mine")),
    ],
)
def test_exception_of_the_users_own(
    by: str,
    raised: Exception,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    tmp_path: Path,
) -> None:
    raw_server.answer = reply("200 OK", "file")
    is_async = not isinstance(connect("http://127.0.0.1:1"), Sandbox)

    def fail(*_: object) -> None:
        raise raised

    async def fail_async(*_: object) -> None:
        raise raised

    call: Any
    if by == "progress":
        call = lambda: connect(raw_server.url).download_to(tmp_path / "x", "id", progress=fail)  # noqa: E731
    else:
        sandbox = connect(raw_server.url, hooks={by: [fail_async if is_async else fail]})
        call = lambda: sandbox.execute({"commands": ["true"]})  # noqa: E731
    with pytest.raises(type(raised)) as caught:
        call()
    assert caught.value is raised
    assert len(raw_server.requests) == (by != "request")  # and no second time


def test_reply_that_is_cut_while_a_hook_reads_it(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply("200 OK", "{", length=9))
        connection.shutdown(socket.SHUT_RDWR)

    async def read(response: httpx.Response) -> None:
        await response.aread()

    raw_server.answer = answer
    is_async = not isinstance(connect("http://127.0.0.1:1"), Sandbox)
    hooks = {"response": [read if is_async else httpx.Response.read]}
    with pytest.raises(ConnectionFailed):
        connect(raw_server.url, hooks=hooks, retries=0).execute({"commands": ["true"]})


@pytest.mark.parametrize("given", [(1, 2), "5", httpx.Timeout(3), True, float("nan"), [1]])
def test_time_out_that_is_none(given: Any, connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(TypeError, match=r"(timeout|total) must be a number of seconds, or None"):
        connect("http://127.0.0.1:1", given)
    with pytest.raises(TypeError, match="timeout must be a number of seconds, or None"):
        connect("http://127.0.0.1:1").usage(timeout=given)


def test_steps_that_are_no_time_outs() -> None:
    for step in ("connect", "sock_connect", "sock_read"):
        options: Any = {step: (1, 2)}
        with pytest.raises(TypeError, match=f"{step} must be a number of seconds"):
            ASandbox("http://127.0.0.1:1", **options)


@pytest.mark.parametrize("given", [5, 0.5, 0, None, float("inf"), Fraction(1, 2), 1e10])
def test_time_out_that_is_one(
    given: Any, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("404 Not Found")
    assert connect(raw_server.url, given).check("x") == 0


def test_url_of_httpx(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    url = httpx.URL(f"{raw_server.url}/prefix").copy_with(username="user", password=SECRET)
    sandbox = connect(url)
    ask(sandbox)
    assert sandbox.url == str(url)
    assert SECRET not in repr(sandbox)
    assert raw_server.requests[0].startswith(b"GET /prefix/ ")


@pytest.mark.parametrize("url", [b"http://localhost:7000", 7000])
def test_url_that_is_no_text(url: Any, connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(TypeError, match=f"URL must be a string, not {type(url).__name__}"):
        connect(url)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"retries": "5"}, "retries must be a whole number, not '5'"),
        ({"retries": True}, "retries must be a whole number, not True"),
        ({"hooks": {"request": 5}}, "the hooks of 'request' must be a list of functions"),
        ({"hooks": {"request": [5]}}, "the hooks of 'request' must be functions, not 5"),
        ({"headers": {"X-Number": 5}}, "headers must be text, and the name or value of 'X-Number'"),
        ({"headers": {b"X-Bytes": b"5"}}, "headers must be text"),
        ({"headers": [("X-Pair", "5")]}, "headers must be a mapping of names to values, not list"),
        ({"cookies": {"session": 5}}, "cookies must be text"),
        ({"hooks": [print]}, "hooks must be a mapping of events to functions"),
        ({"verify": None}, "verify must be True, False, a path or an ssl.SSLContext, not None"),
        ({"cert": 5}, "cert must be a path or a tuple of two or three, not int$"),
        ({"cert": ("a", 5)}, "cert must be .*, not another tuple$"),
        ({"cert": ("a", "b", SECRET, "d")}, "cert must be .*, not another tuple$"),
        ({"proxy": {"https": SECRET}}, "proxy must be a URL or an httpx.Proxy, not dict$"),
        ({"proxy": b"http://localhost:1"}, "proxy must be a URL or an httpx.Proxy, not bytes$"),
        ({"trust_env": "no"}, "trust_env must be True or False, not 'no'"),
        ({"auth": SECRET}, "auth must be a tuple of user and password, .*, not str$"),
        ({"auth": ["user", SECRET]}, "auth must be .*, not list$"),
        ({"auth": ("user", SECRET, "x")}, "auth must be .*, not another tuple$"),
        ({"auth": ("user", None)}, "auth must be .*, not another tuple$"),
        ({"http_client": 3}, "http_client must be an httpx.(Async)?Client, not int"),
    ],
)
def test_options_of_the_wrong_kind(
    options: dict[str, Any], fault: str, connect: Callable[..., Sandbox]
) -> None:
    with pytest.raises(TypeError, match=fault):
        connect("http://127.0.0.1:1", **options)


@pytest.mark.parametrize(
    "auth",
    [
        ("user", "word"),
        (b"user", b"word"),
        httpx.BasicAuth("user", "word"),
        lambda request: request,
        None,
    ],
)
def test_auth_that_httpx_takes(
    auth: Any, connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = OK
    ask(connect(raw_server.url, auth=auth))
    sent = header(raw_server.requests[0], "Authorization")
    assert sent == (None if auth is None or callable(auth) else "Basic dXNlcjp3b3Jk")


def test_authorities_that_are_not_there(
    connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a new process, which has none yet.
    monkeypatch.setattr("sandbox_api._settings._usual_context", _usual_context.__wrapped__)
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/authorities")
    with pytest.raises(FileNotFoundError, match="'/no/such/authorities'"):
        ask(connect("https://127.0.0.1:1"))


def test_option_that_does_not_exist(connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(TypeError, match="there is no option verfy"):
        connect("http://127.0.0.1:1", verfy=False)
    with pytest.raises(TypeError, match=r"there is no option timeout; an ASandbox has `total`$"):
        ASandbox("http://127.0.0.1:1", timeout=3)  # type: ignore[call-arg]


def test_client_of_ones_own(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("200 OK", "{}", "Connection: close")
    asynchronous = not isinstance(connect("http://127.0.0.1:1"), Sandbox)
    client: Any = httpx.AsyncClient if asynchronous else httpx.Client
    own = client(headers={"X-Own": "yes"}, base_url="http://elsewhere")
    sandbox = connect(f"{raw_server.url}/prefix", http_client=own)
    ask(sandbox)
    sandbox.close()
    assert raw_server.requests[0].startswith(b"GET /prefix/ ")
    assert header(raw_server.requests[0], "X-Own") == "yes"
    assert not own.is_closed
    with pytest.raises(TypeError, match="set headers on the http_client"):
        connect(raw_server.url, http_client=own, headers={"A": "b"})


def test_proxy(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = OK
    ask(connect("http://sandbox.example/prefix", proxy=raw_server.url))
    assert raw_server.requests[0].startswith(b"GET http://sandbox.example/prefix/ HTTP/1.1")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_not_there(scheme: str, connect: Callable[..., Sandbox]) -> None:
    proxy = f"http://user:{SECRET}@127.0.0.1:1"
    told = r"can't be reached \(the proxy 127.0.0.1:1, given or in HTTP_PROXY or the like: "
    with pytest.raises(ConnectionFailed, match=told) as caught:
        ask(connect(f"{scheme}://sandbox.example", proxy=proxy, retries=0))
    assert SECRET not in str(caught.value)


def test_proxy_whose_name_is_unknown(
    connect: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    sandbox = connect("https://sandbox.example", proxy="http://proxy.example:3128", retries=0)
    with pytest.raises(ConnectionFailed, match=r"\(the proxy proxy.example:3128, given or .*known"):
        ask(sandbox)


def test_proxy_that_refuses(connect: Callable[..., Sandbox], raw_server: RawServer) -> None:
    raw_server.answer = reply("407 Proxy Authentication Required")
    told = r"the proxy does not lead there \(407 Proxy Authentication Required\)$"
    with pytest.raises(ConnectionFailed, match=told):
        ask(connect("https://sandbox.example", proxy=raw_server.url, retries=0))


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("trusted", [True, False])
def test_proxy_of_the_environment(
    trusted: bool,
    changed: bool,
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw_server.answer = OK
    if changed:  # as in some later httpx
        monkeypatch.delattr("httpx._utils.get_environment_proxies")
    monkeypatch.setenv("HTTP_PROXY", raw_server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    sandbox = connect("http://127.0.0.1:1", trust_env=trusted, retries=0)
    if trusted:
        ask(sandbox)
        assert raw_server.requests[0].startswith(b"GET http://127.0.0.1:1/ HTTP/1.1")
    else:
        with pytest.raises(ConnectionFailed):
            ask(sandbox)


def test_secrets_are_never_shown(
    connect: Callable[..., Sandbox], raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = raw_server.url.replace("://", f"://user:{SECRET}@")
    sandbox = connect(url, headers={"Authorization-2": SECRET}, retries=1)
    shown = [repr(sandbox), repr(sandbox._settings)]
    for answer in (reply("500 Oops"), reply("200 OK", "odd"), reply("503 Busy")):
        raw_server.answer = answer
        with caplog.at_level(logging.DEBUG), pytest.raises(Exception) as caught:  # noqa: PT011
            sandbox.usage()
        shown += [str(caught.value), repr(caught.value)]
    gone = connect(f"http://user:{SECRET}@127.0.0.1:1", retries=0)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectionFailed) as failed:
        gone.usage()
    shown += [str(failed.value), str(failed.value.__cause__), repr(failed.value)]
    shown += [record.getMessage() for record in caplog.records]
    assert header(raw_server.requests[0], "Authorization")
    # httpcore logs, at DEBUG, how it is called; its own redaction is not ours to test.
    ours = [text for text in shown if "send_request_headers" not in text]
    assert not [text for text in ours if SECRET in text]


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": f"Bearer {SECRET}\n"}},
        {"cookies": {"session": f"{SECRET}\r\nX: y"}},
        {"headers": {"Authorization": f"Bearer {SECRET}\u2026"}},
        {"cookies": {"session": f"{SECRET}\xe9"}},
        {"headers": {"X-Token": f"{SECRET}\x1b[31m"}},
        {"headers": {"X Token": SECRET}},
        {"cookies": {"session;": SECRET}},
        {"cookies": {"session": f"{SECRET}; admin=1"}},
        {"proxy": f"user:{SECRET}@h:3128"},
        {"proxy": f"http://user:{SECRET}/@h:1"},
        {"proxy": f"socks5://user:{SECRET}@h:1"},
    ],
)
def test_secret_that_can_not_be_sent_is_not_shown(
    options: dict[str, Any], connect: Callable[..., Sandbox]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is looked at)
        connect("http://127.0.0.1:1", **options).usage()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown + repr(caught.value)


def test_header_of_one_call_that_can_not_be_sent(connect: Callable[..., Sandbox]) -> None:
    with pytest.raises(ValueError, match="'X-Token' has white space") as caught:
        connect("http://127.0.0.1:1").usage(headers={"X-Token": f"{SECRET}\n"})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"http://user:{SECRET}@host/a", "http://host/a"),
        ("http://host/a@b", "http://host/"),
        (f"http://host/?token={SECRET}", "http://host/"),
        (f"http://host:{SECRET}", "http://host"),
        (f"user:{SECRET}@host", "host"),
        ("localhost:7000", "localhost:7000"),
        ("localhost:7000/sandbox", "localhost:7000"),
        ("//host/sandbox", "//host"),
        ("http://", "http://"),
        ("unix:/run/sandbox.sock", "unix:/run/sandbox.sock"),
        (f"unix:/user:{SECRET}@host", "host"),
        (f"//user:{SECRET}@host:70", "//host:70"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_pickled_error_has_no_secrets(
    connect: Callable[..., Sandbox], raw_server: RawServer
) -> None:
    raw_server.answer = reply("500 Oops", "words")
    sandbox = connect(
        raw_server.url.replace("://", f"://user:{SECRET}@"), headers={"X-Token": SECRET}
    )
    with pytest.raises(SandboxError) as caught:
        sandbox.usage()
    data = pickle.dumps(caught.value)
    assert SECRET.encode() not in data
    assert b"Authorization" not in data
    assert "GET http://127.0.0.1" in str(pickle.loads(data))


def test_options_that_can_not_be(raw_server: RawServer) -> None:
    with pytest.raises(ValueError, match="retries must be 0 or more, not -1"):
        Sandbox(raw_server.url, retries=-1)
    url = raw_server.url.replace("://", f"://user:{SECRET}@")
    with (
        httpx.Client() as client,
        pytest.raises(TypeError, match="set the user and password on the http_client"),
    ):
        Sandbox(url, http_client=client)
    with (
        httpx.Client() as client,
        pytest.raises(TypeError, match="set the socket on the http_client"),
    ):
        Sandbox("unix:///run/sandbox.sock", http_client=client)


@pytest.mark.parametrize("option", ["verify", "cert"])
def test_certificates_that_are_not_there(
    option: Any, connect: Callable[..., Sandbox], tmp_path: Path
) -> None:
    missing = tmp_path / "none.pem"
    pairs = [(__file__, missing)] if option == "cert" else []
    for given in (missing, str(missing), *pairs):
        with pytest.raises(FileNotFoundError, match=str(missing)):
            connect("https://127.0.0.1:1", **{option: given}).usage()


@pytest.mark.parametrize(
    ("retries", "error"), [("5", TypeError), (None, TypeError), (-1, ValueError)]
)
def test_retries_of_a_call_that_can_not_be(
    retries: Any, error: type[Exception], connect: Callable[..., Sandbox]
) -> None:
    with pytest.raises(error, match="retries must be"):
        connect("http://127.0.0.1:1").usage(retries=retries)


def test_client_of_the_other_flavour() -> None:
    with (
        httpx.Client() as client,
        pytest.raises(TypeError, match=r"must be an httpx.AsyncClient, not Client"),
    ):
        ASandbox("http://127.0.0.1:1", http_client=client)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an httpx.Client, not AsyncClient"):
        Sandbox("http://127.0.0.1:1", http_client=httpx.AsyncClient())  # type: ignore[arg-type]


def test_misspelt_option_of_a_call(connect: Callable[..., Sandbox]) -> None:
    sandbox: Any = connect("http://127.0.0.1:1")
    with pytest.raises(TypeError, match="there is no option timout"):
        sandbox.usage(timout=3)


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        ({}, {"X-Request-ID": "42"}),
        ({}, {"x-request-id": "42"}),
        ({"headers": {"X-Request-ID": "42"}}, {}),
    ],
)
def test_one_line_is_logged_for_each_request(
    given: dict[str, Any],
    headers: dict[str, str],
    connect: Callable[..., Sandbox],
    raw_server: RawServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw_server.answer = reply("200 OK", '{"a": "body"}')
    with caplog.at_level(logging.DEBUG, "sandbox_api"):
        ask(connect(raw_server.url, **given), headers=headers)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "sandbox_api"]
    assert re.fullmatch(rf"GET {raw_server.url}/ 200 [\d.]+ ms 13 bytes attempt 1 id 42", line), (
        line
    )


def test_certificate_that_nobody_vouches_for(
    connect: Callable[..., Sandbox], tls_server: str
) -> None:
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        connect(tls_server, retries=0).request("GET", "/")


@pytest.mark.parametrize("how", ["file", "path", "context", "not at all", "client certificate"])
def test_certificate_that_is_accepted(
    how: str, connect: Callable[..., Sandbox], tls_server: str, certificate: Path
) -> None:
    options: dict[str, Any] = {
        "file": {"verify": str(certificate)},
        "path": {"verify": certificate, "cert": certificate},
        "context": {"verify": ssl.create_default_context(cafile=certificate)},
        "not at all": {"verify": False},
        "client certificate": {"verify": str(certificate), "cert": str(certificate)},
    }
    response = connect(tls_server, **options[how]).request("GET", "/")
    assert response.json() == {}


def test_context_is_made_once_and_only_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    create = httpx.create_ssl_context

    def counted(**options: Any) -> ssl.SSLContext:
        made.append(options)
        return create(**options)

    monkeypatch.setattr(httpx, "create_ssl_context", counted)
    from sandbox_api import _settings

    _settings._usual_context.cache_clear()
    for url in ("http://localhost:1", "https://localhost:1", "https://localhost:2"):
        with Sandbox(url, retries=0) as sandbox, contextlib.suppress(ConnectionFailed):
            sandbox.usage()
    assert len(made) == 1
