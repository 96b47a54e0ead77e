"""What users can see, and what it costs them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import sandbox_api
from sandbox_api import ASandbox, Sandbox

from ..servers import RawServer, reply

ROOT = Path(__file__).parents[2]


def test_every_public_name_exists() -> None:
    for name in sandbox_api.__all__:
        assert getattr(sandbox_api, name) is not None
    assert not set(sandbox_api.__all__) - set(dir(sandbox_api))
    with pytest.raises(AttributeError, match="no_such_name"):
        sandbox_api.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from sandbox_api import SandboxNothing  # type: ignore[attr-defined]  # noqa: F401


def test_version_has_one_source() -> None:
    assert sandbox_api.__version__ == sandbox_api.VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", sandbox_api.VERSION)
    assert sandbox_api.VERSION not in (ROOT / "pyproject.toml").read_text()


def public(cls: type) -> dict[str, object]:
    return {
        name: member
        for name, member in vars(cls).items()
        if not name.startswith("_") and callable(getattr(cls, name))
    }


def test_both_flavours_are_the_same() -> None:
    flavours = public(Sandbox), public(ASandbox)
    assert list(flavours[0]) == list(flavours[1])
    for name in flavours[0]:
        one, other = getattr(Sandbox, name), getattr(ASandbox, name)
        if name != "local":  # it takes what its class takes
            assert inspect.signature(one) == inspect.signature(other), name
            assert inspect.iscoroutinefunction(other), name
        text = re.sub(r"\(await (.*?)\)\.", r"\1.", inspect.getdoc(other) or "").replace(
            "await ", ""
        )
        if name != "local":
            assert inspect.getdoc(one) == text, name


def test_constructors_keep_the_old_clients_order() -> None:
    assert str(inspect.signature(Sandbox)).startswith("(url: 'str', timeout: 'float | None' = 60")
    assert list(inspect.signature(ASandbox).parameters)[:5] == [
        "url",
        "total",
        "connect",
        "sock_connect",
        "sock_read",
    ]


def test_sandbox_that_goes_out_of_use_closes_its_connections(raw_server: RawServer) -> None:
    raw_server.answer = reply("404 Not Found")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sandbox = Sandbox(raw_server.url)
        sandbox.check("x")
        client = sandbox._client
        del sandbox
        gc.collect()
        assert client.is_closed


def test_asandbox_left_unclosed_warns() -> None:
    sandbox = ASandbox("http://127.0.0.1:1")
    client = sandbox._client
    with pytest.warns(ResourceWarning, match=r"<ASandbox http://127.0.0.1:1> was not closed"):
        del sandbox  # collected at once: nothing else holds it
    asyncio.run(client.aclose())


def test_asandbox_that_was_closed_does_not_warn() -> None:
    async def main() -> None:
        async with ASandbox("http://127.0.0.1:1"):
            pass

    asyncio.run(main())
    gc.collect()


def test_closing_twice_does_no_harm(raw_server: RawServer) -> None:
    with Sandbox(raw_server.url) as sandbox:
        sandbox.close()


def test_import_is_light() -> None:
    heavy = ["starlette", "uvicorn", "psutil", "typer", "httpx", "attrs", "dateutil"]
    code = f"import sys, sandbox_api; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
    code = code.replace("sandbox_api;", "sandbox_api; sandbox_api.Sandbox, sandbox_api.ASandbox;")
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "['httpx', 'attrs']"
