"""The libraries and executables that commands find in a container.

Takes 1 to 2 s on the real server, which starts a container to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import types
from ...models.libraries import Libraries

if TYPE_CHECKING:
    import httpx


def request() -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "GET",
        "url": "/libraries/",
    }


def parse(response: httpx.Response) -> Libraries:
    """Return what a success, already read, carries.

    Raises:
        DescriptionError: its body is not JSON, or contradicts the description.
    """
    return Libraries.from_dict(types.json_body(response))
