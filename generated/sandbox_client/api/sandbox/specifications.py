"""The server's host and the limits of its containers.

Does not change while the server runs. Takes some 20 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import types
from ...models.specifications import Specifications

if TYPE_CHECKING:
    import httpx


def request() -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    return {
        "method": "GET",
        "url": "/specifications/",
    }


def parse(response: httpx.Response) -> Specifications:
    """Return what a success, already read, carries.

    Raises:
        DescriptionError: its body is not JSON, or contradicts the description.
    """
    return Specifications.from_dict(types.json_body(response))
