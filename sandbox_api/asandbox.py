"""The sandbox, asynchronously: sandbox.py with async and await."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

import httpx

from . import _operations
from ._exchange import exchange, result
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


class ASandbox:
    """A sandbox server, which runs commands in isolated containers, for asyncio.

    Every method raises a SandboxError where the server answers a status of 300 or above, and a
    SandboxFailure where it gives no answer, or none that makes sense. Close it when done, by
    `await close()` or at the end of an `async with` block.

    Args:
        url: where the server is: `http://host[:port][/prefix]`, https likewise, or
            `unix:///path/to.sock`.
        total: how long a call may take, in seconds. Executions take 10 seconds or more where their
            commands do, so keep it above that.
        connect: how long a call may wait for a connection, new or from the pool, in seconds.
        sock_connect: how long a new connection may take to be established, in seconds.
        sock_read: how long the server may send nothing, in seconds.
            Of all four, None or 0 is for ever.

    Raises:
        InvalidURL: the URL can not be used.

    Example:

        >>> async with ASandbox("http://localhost:7000") as sandbox:
        ...     result = await sandbox.execute({"commands": ["echo $((2+2))"]})
        >>> result.execution[0].stdout
        '4'
    """

    def __init__(
        self,
        url: str,
        total: float | None = 60,
        connect: float | None = None,
        sock_connect: float | None = None,
        sock_read: float | None = None,
    ) -> None:
        self.url = url
        self.total = total
        self._server: LocalServer | None = None
        base_url, socket = parse_url(url)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(
                connect=seconds(connect, sock_connect),
                read=seconds(sock_read),
                write=None,
                pool=seconds(connect),
            ),
            transport=httpx.AsyncHTTPTransport(uds=socket, **transport_arguments(base_url))
            if socket
            else None,
            **client_arguments(base_url, socket),
        )

    @classmethod
    def local(
        cls,
        total: float | None = 60,
        connect: float | None = None,
        sock_connect: float | None = None,
        sock_read: float | None = None,
    ) -> Self:
        """Start a private local sandbox, and return a client of it that stops it when closed.

        It needs the extra `sandbox-api[local]`, and Linux with user namespaces.

        Args:
            total, connect, sock_connect, sock_read: as above, in seconds.

        Raises:
            LocalSandboxError: it can not run here; the message says why, and what to do.

        Example:

            >>> async with ASandbox.local() as sandbox:
            ...     result = await sandbox.execute({"commands": ["echo $((2+2))"]})
            >>> result.execution[0].stdout
            '4'
        """
        from ._local import start

        server = start()
        sandbox = cls(server.url, total, connect, sock_connect, sock_read)
        sandbox._server = server
        return sandbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redacted(self.url)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        # There is none where the URL was refused.
        client = getattr(self, "_client", None)
        if client is not None and not client.is_closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)

    async def close(self) -> None:
        """Close the connections, and stop the local sandbox if there is one."""
        await self._client.aclose()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def specifications(self) -> Specifications:
        """Return the server's host and the limits of its containers."""
        return await self._perform(_operations.specifications())

    async def usage(self) -> Usage:
        """Return the server's current load. The real server takes 2 seconds to measure it."""
        return await self._perform(_operations.usage())

    async def libraries(self) -> Libraries:
        """Return the libraries and executables that commands find in a container."""
        return await self._perform(_operations.libraries())

    async def execute(
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

            >>> result = await sandbox.execute({"commands": ["./grade > marks"], "save": True})
            >>> result.status, result.execution[0].stderr, result.environment
            (0, '', UUID('6aca4bc6-2382-40d2-87c4-e5f9977ce4db'))
        """
        return await self._perform(_operations.execute(config, environ))

    async def download(self, uuid: UUID | str, path: str | None = None) -> io.BytesIO:
        """Return a stored environment, as a gzipped tar archive, or one of its files.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Raises:
            Sandbox404: the environment is not stored, or the file is not in it.

        Example:

            >>> (await sandbox.download(result.environment, "marks")).read()
            b'17/20\\n'
        """
        return await self._perform(_operations.download(uuid, path))

    async def check(self, uuid: UUID | str, path: str | None = None) -> int:
        """Return the size of a stored environment or of one of its files, in bytes; 0 if not found.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Example:

            >>> await sandbox.check(result.environment, "marks")
            6
        """
        return await self._perform(_operations.check(uuid, path))

    async def _perform(self, call: Call[T]) -> T:
        total = seconds(self.total)
        with exchange(call, total, self._server):
            async with asyncio.timeout(total), self._client.stream(**call.request) as response:
                if call.sink and response.is_success:
                    async for chunk in response.aiter_bytes():
                        call.sink.write(chunk)
                else:
                    await response.aread()
        return result(call, response)
