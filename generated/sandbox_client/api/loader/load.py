"""Freeze a resource of the loader.

Only on servers that carry the loader add-on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ... import types

if TYPE_CHECKING:
    import httpx


def request(
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what to send, as the arguments of `httpx.Client.build_request`."""
    files: list[tuple[str, Any]] = [
        ("data", (None, json.dumps(data))),
    ]
    return {
        "method": "POST",
        "url": "/loader/fr/",
        "files": files,
    }


def parse(response: httpx.Response) -> dict[str, Any]:
    """Return what a success, already read, carries.

    Raises:
        DescriptionError: its body is not JSON, or contradicts the description.
    """
    return cast("dict[str, Any]", types.members(types.anything)(types.json_body(response)))
