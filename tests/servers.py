"""A server for what real ones seldom do: replies byte for byte, slow, broken or lying."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Answer = Callable[[socket.socket, bytes], None]


def reply(
    status: str = "200 OK", body: bytes | str = b"", *headers: str, length: int | None = None
) -> bytes:
    """Return a reply as it travels; `length` is what it announces, when that is not the truth."""
    content = body.encode() if isinstance(body, str) else body
    announced = len(content) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {announced}", *headers])
    return f"{head}\r\n\r\n".encode("latin-1") + content


class Held:
    """An answer that is held back until it is released, at the end of a `with` block at last."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self._reached, self._over = threading.Event(), threading.Event()

    def __call__(self, connection: socket.socket, _: bytes) -> None:
        self._reached.set()
        self._over.wait(20)
        connection.sendall(self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def wait(self) -> None:
        """Wait until a request has come."""
        assert self._reached.wait(20)

    def release(self) -> None:
        """Give the answer."""
        self._over.set()


class RawServer:
    """Answers each request with `answer`: bytes, or a function of connection and request."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.answer: bytes | Answer = reply()
        self.requests: list[bytes] = []
        self.asks = True
        """Whether to ask for bodies where a client expects that."""
        self.early = b""
        """What to send before asking."""
        self.instead: bytes | None = None
        """What to answer in place of asking, before hanging up."""
        self.accepted = 0
        """How many connections came."""
        self.heads = 0
        """How many requests came, as far as their heads."""
        self.forget = False
        """Whether to keep no bodies, for large ones."""
        self._listener = socket.create_server(("127.0.0.1", port))
        number = self._listener.getsockname()[1]
        self.url = f"https://localhost:{number}" if context else f"http://127.0.0.1:{number}"
        self._context = context
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=[connection]))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                stack.callback(connection.close)
                self._connections.append(connection)
            while request := self._read(connection):
                self.requests.append(request)
                answer = self.answer
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                    if b"Content-Length:" not in answer:
                        return
                else:
                    answer(connection, request)

    def _read(self, connection: socket.socket) -> bytes:
        """Return a whole request, or nothing where the client hung up."""
        request = b""
        while b"\r\n\r\n" not in request:
            if not (chunk := connection.recv(65536)):
                return b""
            request += chunk
        head, _, body = request.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.heads += 1
        if b"\r\nexpect: 100-continue" in head.lower():
            if self.instead is not None:
                connection.sendall(self.instead)
                return b""
            if self.asks:
                connection.sendall(self.early + b"HTTP/1.1 100 Continue\r\n\r\n")
        received = len(body)
        chunks = [body]
        while received < length:
            if not (chunk := connection.recv(65536)):
                return b""
            received += len(chunk)
            if not self.forget:
                chunks.append(chunk)
        return head + b"\r\n\r\n" + b"".join(chunks)
