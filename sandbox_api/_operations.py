"""Each operation as a value: what to send, and what to make of the answer. No I/O."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

from attrs import frozen

from sandbox_client.api.sandbox import (
    check_environment,
    check_file,
    download_environment,
    download_file,
    execute as execute_,
    libraries as libraries_,
    specifications as specifications_,
    usage as usage_,
)

from ._transfer import sendable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    import httpx

    from sandbox_client.models import (
        ExecuteConfig,
        ExecutionResult,
        Libraries,
        Specifications,
        Usage,
    )

T = TypeVar("T")


@frozen
class Call(Generic[T]):
    """One call of an operation."""

    request: dict[str, Any]
    """Arguments of `httpx.Client.build_request`."""

    parse: Callable[[httpx.Response], T]
    """What makes the result of a success; raises DescriptionError."""

    not_found: T | None = None
    """The result where the server answers 404, if that is no error."""

    upload: BinaryIO | None = None
    """A stream that is sent, and closed afterwards."""

    sink: BinaryIO | None = None
    """Where a success's body goes, chunk by chunk, in place of memory."""


def specifications() -> Call[Specifications]:
    return Call(specifications_.request(), specifications_.parse)


def usage() -> Call[Usage]:
    return Call(usage_.request(), usage_.parse)


def libraries() -> Call[Libraries]:
    return Call(libraries_.request(), libraries_.parse)


def execute(
    config: ExecuteConfig | Mapping[str, Any], environ: BinaryIO | None
) -> Call[ExecutionResult]:
    upload = sendable(environ) if environ is not None else None
    return Call(execute_.request(config, upload), execute_.parse, upload=upload)


def download(uuid: UUID | str, path: str | None) -> Call[io.BytesIO]:
    request = (
        download_environment.request(uuid) if path is None else download_file.request(uuid, path)
    )
    sink = io.BytesIO()

    def rewind(_: httpx.Response) -> io.BytesIO:
        sink.seek(0)
        return sink

    return Call(request, rewind, sink=sink)


def check(uuid: UUID | str, path: str | None) -> Call[int]:
    if path is None:
        return Call(check_environment.request(uuid), check_environment.parse, not_found=0)
    return Call(check_file.request(uuid, path), check_file.parse, not_found=0)
