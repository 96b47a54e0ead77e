"""Each operation as a value: what to send, and what to make of the answer. Sends nothing."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar
from urllib.parse import unquote

from attrs import frozen

from sandbox_client import SERVER_VERSION
from sandbox_client.types import json_body

from ._deprecation import users_level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    import httpx

    from sandbox_client.models import (
        ExecuteConfig,
        ExecuteConfigDict,
        ExecutionResult,
        Libraries,
        Specifications,
        Usage,
    )
    from sandbox_client.types import Model

    from .environment import EnvironmentSource

T = TypeVar("T")
M = TypeVar("M", bound="Model")


@frozen
class Call(Generic[T]):
    """One call of an operation."""

    request: dict[str, Any]
    """Arguments of `httpx.Client.build_request`, with a URL below the sandbox's."""

    parse: Callable[[httpx.Response], T]
    """What makes the result of a success; raises DescriptionError."""

    not_found: T | None = None
    """The result where the server answers 404, if that is no error."""

    uploads: tuple[BinaryIO, ...] = ()
    """Streams that are sent, and closed afterwards."""

    sink: BinaryIO | None = None
    """Where a success's body goes, chunk by chunk, in place of memory."""

    progress: Callable[[int, int | None], object] | None = None
    """What is told the bytes received and, where known, to come in all."""


# What is executed to store files: nothing is done with them, and all are kept.
STORE: ExecuteConfigDict = {"commands": ["true"], "save": True}


# Endpoints are imported where they are used: their models take long to be made.


def specifications() -> Call[Specifications]:
    from sandbox_client.api.sandbox import specifications

    def parse(response: httpx.Response) -> Specifications:
        found = specifications.parse(response)
        _warn_if_newer(found.host.sandbox_version)
        return found

    return Call(specifications.request(), parse)


def server_version() -> Call[str]:
    call = specifications()
    return Call(call.request, lambda response: call.parse(response).host.sandbox_version)


def usage() -> Call[Usage]:
    from sandbox_client.api.sandbox import usage

    return Call(usage.request(), usage.parse)


def libraries() -> Call[Libraries]:
    from sandbox_client.api.sandbox import libraries

    return Call(libraries.request(), libraries.parse)


def execute(
    config: ExecuteConfig | ExecuteConfigDict | Mapping[str, Any], environ: EnvironmentSource | None
) -> Call[ExecutionResult]:
    from sandbox_client.api.sandbox import execute

    from .config import checked

    try:
        config = checked(config)
        if environ is None:
            return Call(execute.request(config), execute.parse)
        from .environment import open_environment  # here, for archives take long to be imported

        upload = open_environment(environ)
        try:
            return Call(execute.request(config, upload), execute.parse, uploads=(upload,))
        except BaseException:
            upload.close()
            raise
    except Exception as error:
        # As where it is sent; a mapping may be a shelf, which is the user's own to close.
        if hasattr(environ, "read") and (close := getattr(environ, "close", None)):
            close()
        vars(error)["unsent"] = True  # for a batch, which tells how often each job was sent
        raise


def download(
    uuid: UUID | str,
    path: str | None,
    sink: BinaryIO,
    progress: Callable[[int, int | None], object] | None = None,
) -> Call[None]:
    from sandbox_client.api.sandbox import download_environment, download_file

    if path is None:
        request = download_environment.request(uuid)
    else:
        request = download_file.request(uuid, _inside(path))
    return Call(request, lambda _: None, sink=sink, progress=progress)


def check(uuid: UUID | str, path: str | None) -> Call[int]:
    from sandbox_client.api.sandbox import check_environment, check_file

    if path is None:
        return Call(check_environment.request(uuid), check_environment.parse, not_found=0)
    return Call(check_file.request(uuid, _inside(path)), check_file.parse, not_found=0)


def exists(uuid: UUID | str, path: str | None) -> Call[bool]:
    return Call(check(uuid, path).request, lambda _: True, not_found=False)


def _inside(path: object) -> str:
    if not isinstance(path, str):
        raise TypeError(f"path must be text, as 'src/main.py', not {type(path).__name__}")
    return path


def load(environ: Mapping[str, Any]) -> Call[dict[str, Any]]:
    from sandbox_client.api.loader import load

    return Call(load.request(environ), load.parse)


def demo(environ: Mapping[str, Any]) -> Call[dict[str, Any]]:
    from sandbox_client.api.loader import demo

    return Call(demo.request(environ), demo.parse)


def playexo(config: Mapping[str, Any], environ: Mapping[str, Any]) -> Call[dict[str, Any]]:
    from sandbox_client.api.loader import playexo

    return Call(playexo.request(config, environ), playexo.parse)


def exec(datas: Mapping[str, Any]) -> Call[dict[str, Any]]:  # noqa: A001 (the old client's name)
    from sandbox_client.api.loader import exec_

    # As the old client sends them: "True" and "None", not JSON's words.
    plain = (bool, int, float, type(None))
    fields = {
        str(name): str(value) if isinstance(value, plain) else _text(value)
        for name, value in datas.items()
    }
    return Call(exec_.request(datas, fields), exec_.parse)


def request(
    method: str,
    path: str,
    fields: Mapping[str, Any] | None,
    files: Mapping[str, EnvironmentSource] | None,
    json: Any,
    params: Mapping[str, Any] | None,
    parse: Callable[[httpx.Response], T],
) -> Call[T]:
    if json is not None and (fields or files):
        raise TypeError("a request has one body: give json, or fields and files")
    shown = re.split("[?#]", path)[0]
    if ".." in unquote(shown).split("/"):
        raise ValueError(f"the path {shown!r} must not lead out of the sandbox's URL by '..'")
    arguments: dict[str, Any] = {"method": method.upper(), "url": path}
    if params is not None:
        arguments["params"] = params
    if json is not None:
        arguments["json"] = json
    uploads: list[BinaryIO] = []
    if fields or files:
        from .environment import open_environment

        parts: list[tuple[str, Any]] = [
            (name, (None, _text(value))) for name, value in (fields or {}).items()
        ]
        try:
            for name, source in (files or {}).items():
                uploads.append(open_environment(source))
                parts.append((name, (f"{name}.tgz", uploads[-1], "application/gzip")))
        except BaseException:
            for upload in uploads:
                upload.close()
            raise
        arguments["files"] = parts
    return Call(arguments, parse, uploads=tuple(uploads))


def read_model(model: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: model.from_dict(json_body(response))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_warned: set[str] = set()


def _warn_if_newer(version: str) -> None:
    """Warn, once for each version, of a server that is newer than the description."""
    if version in _warned or _numbers(version) <= _numbers(SERVER_VERSION):
        return
    _warned.add(version)
    warnings.warn(
        f"the sandbox server is of version {version}, and this client was made for "
        f"{SERVER_VERSION}: what is new there has no attributes here, but is in the dictionaries. "
        "Is there a newer sandbox-api?",
        stacklevel=users_level(),
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
