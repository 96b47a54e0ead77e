"""Whether a file is in a stored environment, and its size.

An answer other than 200 may be followed by a body all the same, as for an environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from ... import types

if TYPE_CHECKING:
    import httpx


def request(
    uuid: UUID | str,
    path: str,
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "HEAD",
        "url": "/files/{uuid}/{path}/".format(
            uuid=types.segment(uuid),
            path=types.segments(path),
        ),
    }


def parse(response: httpx.Response) -> int:
    """Return the size that a success announces, in bytes.

    Raises:
        DescriptionError: it announces none.
    """
    return types.content_length(response)
