"""A stored environment, as a gzipped tar archive.

Members are named without a leading `./`; directories are members of their own.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ... import types


def request(
    uuid: UUID | str,
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "GET",
        "url": "/environments/{uuid}/".format(
            uuid=types.segment(uuid),
        ),
    }
