"""Warnings that point to the users' own lines, and what will go: see docs/versions.md for when."""

from __future__ import annotations

import inspect
import warnings

_warned: set[str] = set()


def deprecate(name: str, *, instead: str, gone: str) -> None:
    """Warn, once in a process, that something is used that will go.

    The warning, a DeprecationWarning, points to the users' own line, however deep in ours this is
    called, so that Python shows it to them and not to those who use what they wrote.

    Args:
        name: what will go, as users write it.
        instead: what to write in its place.
        gone: the version that will not have it.

    Examples:

        >>> deprecate("Sandbox.run", instead="Sandbox.execute", gone="3.0")
    """
    if name in _warned:
        return
    _warned.add(name)
    warnings.warn(
        f"{name} is deprecated, and will be gone in {gone}: use {instead}",
        DeprecationWarning,
        stacklevel=users_level(),
    )


def users_level() -> int:
    """Return the level, for a warning of the caller's, of the code that uses this package."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith("sandbox_api."):
        level, frame = level + 1, frame.f_back
    return level
