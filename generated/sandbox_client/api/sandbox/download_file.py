"""One file of a stored environment.

Symbolic links inside the archive are followed. `Range` is ignored. A path that names a
directory is answered 500.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ... import types


def request(
    uuid: UUID | str,
    path: str,
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "GET",
        "url": "/files/{uuid}/{path}/".format(
            uuid=types.segment(uuid),
            path=types.segments(path),
        ),
    }
