"""The server's current load.

Takes 2 s on the real server, which measures for that long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import types
from ...models.usage import Usage

if TYPE_CHECKING:
    import httpx


def request() -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "GET",
        "url": "/usages/",
    }


def parse(response: httpx.Response) -> Usage:
    """Return what a success, already read, carries.

    Raises:
        DescriptionError: its body is not JSON, or contradicts the description.
    """
    return Usage.from_dict(types.json_body(response))
