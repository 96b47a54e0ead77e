"""Functions of users' that httpx calls with each request and response."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import httpx

Hooks = Mapping[str, Sequence[Callable[..., Any]]]


def check_hooks(hooks: Any, *, awaited: bool) -> None:
    """Check that hooks can be called, or awaited.

    Raises:
        TypeError: they cannot.
    """
    if not isinstance(hooks, Mapping):
        raise TypeError(f"hooks must be a mapping of events to functions, not {hooks!r}")
    for event, functions in cast("dict[str, Any]", hooks).items():
        if event not in {"request", "response"}:
            raise TypeError(f"there is no hook {event!r}, but 'request' and 'response'")
        if callable(functions) or not hasattr(functions, "__iter__"):
            raise TypeError(f"the hooks of {event!r} must be a list of functions")
        for function in functions:
            if not callable(function):
                raise TypeError(f"the hooks of {event!r} must be functions, not {function!r}")
            if awaited is not is_async(function):
                kind = (
                    "async functions in an ASandbox" if awaited else "plain functions in a Sandbox"
                )
                raise TypeError(f"hooks must be {kind}, unlike {function!r}")


def is_async(function: Any) -> bool:
    """Tell whether a function, or an object that is called like one, has to be awaited."""
    call = getattr(function, "__call__", None)  # noqa: B004
    return any(map(inspect.iscoroutinefunction, (function, call)))


def marked_hooks(hooks: Hooks) -> dict[str, list[Callable[..., Any]]]:
    """Return hooks for httpx whose own failures are not taken for those of the call."""
    return {event: [*map(marking, functions)] for event, functions in hooks.items()}


def marking(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that marks what it raises, but where reading the answer fails in it."""

    def mark(error: httpx.RequestError, given: httpx.Request | httpx.Response) -> None:
        ours = given if isinstance(given, httpx.Request) else given.request
        vars(error)["of_hook"] = vars(error).get("_request") is not ours

    def call(given: httpx.Request | httpx.Response) -> None:
        try:
            hook(given)
        except httpx.RequestError as error:
            mark(error, given)
            raise

    async def acall(given: httpx.Request | httpx.Response) -> None:
        try:
            await hook(given)
        except httpx.RequestError as error:
            mark(error, given)
            raise

    return acall if is_async(hook) else call
