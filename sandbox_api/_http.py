"""HTTP/1.1 without I/O: what is sent of a request, and what has come of its reply, by httptools."""

from __future__ import annotations

import re
from typing import Any

import httptools
import httpx

# Longest head of a reply, in bytes, and most of it that may come without any of its body.
HEAD_SIZE = 100 * 1024

TARGET = re.compile(rb"[!-~]+").fullmatch
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch

Headers = list[tuple[bytes, bytes]]


class Unsendable(httpx.LocalProtocolError):
    """A request that can't be sent; its message shows nothing of it."""


class Reply:
    """What has come of a reply. httptools calls what begins with `on_`."""

    def __init__(self, method: str) -> None:
        self.status = 0
        """Its status, once the head has come."""
        self.reason = b""
        self.version = ""
        self.headers: Headers = []
        self.asked = False
        """Whether the server asked for the request's body."""
        self.ended = False
        """Whether it has come whole."""
        self.reusable = False
        """Whether the connection may be used again, when it has."""
        self._of_head = method == "HEAD"
        self._framed = False  # not by the end of the connection
        self._chunks: list[bytes] = []
        self._size = 0  # of what came of late and was no body
        self._problem = ""
        self._parser: Any = httptools.HttpResponseParser(self)

    def receive(self, data: bytes) -> None:
        """Take in what the server sent, or nothing when it closed the connection.

        Raises:
            httpx.RemoteProtocolError: it is not HTTP, too long, or not whole.
        """
        if self.ended:  # it goes on, with what nobody asked for, or hangs up
            self.reusable = False
        elif data:
            self._size += len(data)
            self._feed(data)
        elif self.status and not self._framed:
            self.ended = True
        else:
            heard = self.status or self._size
            self._problem = "the reply is not whole" if heard else "there was no reply"
        if self._problem:
            raise httpx.RemoteProtocolError(self._problem)
        if self.ended:
            self._parser = None  # which refers to this, or a collector had to come by

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.ended:
                self._problem = self._problem or str(error)
            self.reusable = False
        if self._size > HEAD_SIZE:
            self._problem = self._problem or "the head of the reply is too long"

    def take(self) -> bytes:
        """Return what has come of the body since it was asked before."""
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)

    def on_message_begin(self) -> None:
        if self.ended:  # another, for which nobody asked
            self.reusable = False

    def on_status(self, reason: bytes) -> None:
        if not self.ended:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # no trailer
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.ended:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self.asked = self.asked or status == 100
            # Whatever it says of the connection, the reply follows; what follows that is left out.
            self._parser.set_dangerous_leniencies(lenient_keep_alive=True)
            self.reason = b""
            self.headers.clear()
            return
        self.status, self._size = status, 0
        self.version = self._parser.get_http_version()
        fields = {name.lower(): value.lower() for name, value in self.headers}
        coding = fields.get(b"transfer-encoding", b"")
        if coding:  # which may be told in several headers
            codings = [
                value for name, value in self.headers if name.lower() == b"transfer-encoding"
            ]
            coding = b",".join(codings).lower()
        if self.version not in {"1.0", "1.1"} or coding not in {b"", b"chunked"}:
            self._problem = "the reply is not in HTTP/1.1 as it was asked for"
        if not VALUE(self.reason):  # which is shown
            self._problem = "the status has characters that it may not have"
        self._framed = bool(coding) or b"content-length" in fields
        self.reusable = self._parser.should_keep_alive()
        if self._of_head:
            self.ended = True
            # The real server sends the body of an error nevertheless, and it may be on its way.
            if status >= 300 and fields.get(b"content-length") != b"0":
                self.reusable = False

    def on_body(self, data: bytes) -> None:
        if self.ended:  # the real server answers HEAD with one
            self.reusable = False
        else:
            self._size = 0
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        self.ended = bool(self.status)  # or what was complete only informs


def head(method: str, target: bytes, headers: Headers) -> bytes:
    """Return the head of a request.

    Raises:
        Unsendable: it can't be sent, or would say something else.
    """
    if not NAME(method.encode()) or not TARGET(target):
        raise Unsendable("the method or the URL has characters that it may not have")
    names, values = zip(*headers, strict=True)
    if not (all(names) and NAME(b"".join(names)) and VALUE(b"".join(values))):
        raise Unsendable("a header has characters that it may not have")
    fields = b"".join([b"%b: %b\r\n" % field for field in headers])
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, fields)


def body_length(headers: Headers) -> int | None:
    """Return how long the body of a request with these headers is, in bytes; None if in chunks.

    Raises:
        Unsendable: they don't say.
    """
    length: int | None = 0
    told = False
    for name, value in headers:
        name = name.lower()
        if name not in {b"content-length", b"transfer-encoding"}:
            continue
        if told:  # a proxy and the server might each believe another
            raise Unsendable("the length of its body is told twice")
        told = True
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise Unsendable("the Content-Length is no number")
            length = int(value)
        elif value.lower() == b"chunked":
            length = None
        else:
            raise Unsendable("its body can't have that Transfer-Encoding")
    return length


def chunk(data: bytes) -> bytes:
    """Return some of a body as a chunk of it; of nothing, the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)
