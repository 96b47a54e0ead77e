"""Names of hosts, and their addresses."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import httpx

# The family of a host's address, and what a socket of it connects to.
Address = tuple[int, Any]


def numeric(host: str, port: int) -> list[Address]:
    """Return the address that a host is given by, or nothing for a name."""
    with contextlib.suppress(OSError, UnicodeError):
        return look_up(host, port, socket.AI_NUMERICHOST)
    return []


def look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    """Return the addresses of a host, as the system's resolver gives them."""
    # As bytes, for Python takes long to load what encodes names, which httpx has done.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, *_, address in found]


def resolve(host: str, port: int, timeout: float | None) -> list[Address]:
    """Return the addresses of a host.

    The system's resolver takes the time it takes, so a thread waits for it, which a process that
    ends does not wait for.

    Raises:
        httpx.ConnectError: it has none.
        httpx.ConnectTimeout: the resolver took too long.
    """
    if known := numeric(host, port):
        return known
    found: list[Address] = []
    failures: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found.extend(look_up(host, port))
        except (OSError, UnicodeError) as error:
            failures.append(error)

    thread = threading.Thread(target=ask, name=f"look-up of {host}", daemon=True)
    thread.start()
    thread.join(timeout)
    if failures:
        raise httpx.ConnectError(str(failures[0])) from failures[0]
    if not found:
        raise httpx.ConnectTimeout(f"looking up {host} took too long")
    return found
