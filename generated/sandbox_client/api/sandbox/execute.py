"""Run commands in a container of their own.

The working directory is `/home/student`. The stored environment named in `config` is laid
down first, then the uploaded one, whose files win by exact member name (so pack without a
leading `./`). The commands of a request run one after another in the same container, each
in a fresh `bash -c` with an empty standard input: files and background processes carry
over, `cd` and `export` do not.

The whole request has 10 seconds by default; a command gets the smaller of its own time-out
and what is left.

Checks are made in this order, each ending the request: `config` missing, not JSON, not an
object (400); `environment` unknown (404); `commands` missing or not an array (400);
`environ` not an object (400); `commands` empty or badly formatted (400); `result_path` not
a string (400); `save` not a boolean (400); no free container (503).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from ... import types
from ...models.execute_config import ExecuteConfig, ExecuteConfigDict
from ...models.execution_result import ExecutionResult

if TYPE_CHECKING:
    import httpx


def request(
    config: ExecuteConfig | ExecuteConfigDict | Mapping[str, Any],
    environment: BinaryIO | None = None,
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    files: list[tuple[str, Any]] = [
        ("config", (None, json.dumps(config))),
    ]
    if environment is not None:
        files.append(("environment", ("environment.tgz", environment, "application/gzip")))
    return {
        "method": "POST",
        "url": "/execute/",
        "files": files,
    }


def parse(response: httpx.Response) -> ExecutionResult:
    """Return what a success, already read, carries.

    Raises:
        DescriptionError: its body is not JSON, or contradicts the description.
    """
    return ExecutionResult.from_dict(types.json_body(response))
