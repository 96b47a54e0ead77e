"""What schemathesis cannot know from the description.

What a gzipped tar archive looks like, how a file comes to be where `result_path` says, and where
the local sandbox is stricter than the real server, as docs/local.md tells.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.transport.serialization import Binary


def archive(files: dict[str, bytes]) -> bytes:
    """Return a gzipped tar archive of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return stream.getvalue()


NAMES = strategies.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}\.txt)?", fullmatch=True)

schemathesis.openapi.format(
    "binary",
    strategies.dictionaries(NAMES, strategies.binary(max_size=100), max_size=3)
    .map(archive)
    .map(Binary),
)


@schemathesis.hook
def filter_body(_: schemathesis.HookContext, body: Any) -> bool:
    """Tell whether a body may be sent: what the local sandbox refuses on purpose may not."""
    config = body.get("config") if isinstance(body, dict) else None
    if not isinstance(config, dict):
        return True
    path, environ = config.get("result_path"), config.get("environ")
    if isinstance(path, str) and (path.startswith("/") or ".." in path.split("/")):
        return False
    return not isinstance(environ, dict) or all(name and "=" not in name for name in environ)


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Have the first command make the file that an execution asks for, so that links find it."""
    config = body.get("config") if isinstance(body, dict) else None
    if isinstance(config, dict) and isinstance(commands := config.get("commands"), list):
        path = config.get("result_path")
        if commands and isinstance(path, str) and path:
            make = f"-install -D /dev/null -- {shlex.quote(path)}"
            return {**body, "config": {**config, "commands": [make, *commands]}}
    return body
