"""The sandbox, synchronously."""

from __future__ import annotations

import math
import time
import weakref
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, cast

import httpx

from . import _operations
from ._exchange import TimedStream, exchange, result
from ._settings import client_arguments, parse_url, redacted, seconds, transport_arguments

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping
    from types import TracebackType
    from uuid import UUID

    from sandbox_client.models import (
        ExecuteConfig,
        ExecutionResult,
        Libraries,
        Specifications,
        Usage,
    )

    from ._operations import Call
    from .local import LocalServer

T = TypeVar("T")


class Sandbox:
    """A sandbox server, which runs commands in isolated containers.

    Every method raises a SandboxError where the server answers a status of 300 or above, and a
    SandboxFailure where it gives no answer, or none that makes sense. A sandbox may be shared
    between threads; its connections are closed by `close()`, at the end of a `with` block, or when
    it goes out of use.

    Args:
        url: where the server is: `http://host[:port][/prefix]`, https likewise, or
            `unix:///path/to.sock`.
        timeout: how long a call may take, in seconds; None or 0 is for ever. Executions take 10
            seconds or more where their commands do, so keep it above that.

    Raises:
        InvalidURL: the URL can not be used.

    Example:

        >>> sandbox = Sandbox("http://localhost:7000")
        >>> sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
        '4'
    """

    def __init__(self, url: str, timeout: float | None = 60) -> None:
        self.url = url
        self.timeout = timeout
        self._server: LocalServer | None = None
        base_url, socket = parse_url(url)
        self._client = httpx.Client(
            timeout=seconds(timeout),
            transport=httpx.HTTPTransport(uds=socket, **transport_arguments(base_url))
            if socket
            else None,
            **client_arguments(base_url, socket),
        )
        # Old code never closed anything.
        weakref.finalize(self, self._client.close)

    @classmethod
    def local(cls, timeout: float | None = 60) -> Self:
        """Start a private local sandbox, and return a client of it that stops it when closed.

        It needs the extra `sandbox-api[local]`, and Linux with user namespaces.

        Args:
            timeout: as above, in seconds.

        Raises:
            LocalSandboxError: it can not run here; the message says why, and what to do.

        Example:

            >>> with Sandbox.local() as sandbox:
            ...     sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
            '4'
        """
        from ._local import start

        server = start()
        sandbox = cls(server.url, timeout)
        sandbox._server = server
        return sandbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redacted(self.url)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and stop the local sandbox if there is one."""
        self._client.close()
        if self._server is not None:
            self._server.stop()

    def specifications(self) -> Specifications:
        """Return the server's host and the limits of its containers."""
        return self._perform(_operations.specifications())

    def usage(self) -> Usage:
        """Return the server's current load. The real server takes 2 seconds to measure it."""
        return self._perform(_operations.usage())

    def libraries(self) -> Libraries:
        """Return the libraries and executables that commands find in a container."""
        return self._perform(_operations.libraries())

    def execute(
        self, config: ExecuteConfig | Mapping[str, Any], environ: BinaryIO | None = None
    ) -> ExecutionResult:
        """Run commands in a container of their own, and return what they did.

        That a command fails, or times out, is told by the result and raises nothing.

        Args:
            config: what to run, and how; see ExecuteConfig for its keys.
            environ: a gzipped tar archive to unpack into the working directory first, as a binary
                stream; read from where it stands, and closed.

        Raises:
            Sandbox400: the configuration is wrong; the message says how.
            Sandbox404: `config["environment"]` is not stored on the server.
            Sandbox503: the server is overloaded; nothing was run.
            TypeError: `environ` is not a binary stream.

        Example:

            >>> result = sandbox.execute({"commands": ["./grade > marks"], "save": True})
            >>> result.status, result.execution[0].stderr, result.environment
            (0, '', UUID('6aca4bc6-2382-40d2-87c4-e5f9977ce4db'))
        """
        return self._perform(_operations.execute(config, environ))

    def download(self, uuid: UUID | str, path: str | None = None) -> io.BytesIO:
        """Return a stored environment, as a gzipped tar archive, or one of its files.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Raises:
            Sandbox404: the environment is not stored, or the file is not in it.

        Example:

            >>> sandbox.download(result.environment, "marks").read()
            b'17/20\\n'
        """
        return self._perform(_operations.download(uuid, path))

    def check(self, uuid: UUID | str, path: str | None = None) -> int:
        """Return the size of a stored environment or of one of its files, in bytes; 0 if not found.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Example:

            >>> sandbox.check(result.environment, "marks")
            6
        """
        return self._perform(_operations.check(uuid, path))

    def _perform(self, call: Call[T]) -> T:
        total = seconds(self.timeout)
        deadline = time.monotonic() + total if total else math.inf
        with exchange(call, total, self._server), self._client.stream(**call.request) as response:
            response.stream = TimedStream(cast("httpx.SyncByteStream", response.stream), deadline)
            if call.sink and response.is_success:
                for chunk in response.iter_bytes():
                    call.sink.write(chunk)
            else:
                response.read()
        return result(call, response)
