"""Whether an environment is stored, and its size.

An answer other than 200 may be followed by a body all the same, against the rules of HTTP:
the real server sends what a GET would have had, and closes the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from ... import types

if TYPE_CHECKING:
    import httpx


def request(
    uuid: UUID | str,
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "HEAD",
        "url": "/environments/{uuid}/".format(
            uuid=types.segment(uuid),
        ),
    }


def parse(response: httpx.Response) -> int:
    """Return the size that a success announces, in bytes.

    Raises:
        DescriptionError: it announces none.
    """
    return types.content_length(response)
