"""What users can see, and what it costs them."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sandbox_api
from sandbox_api import AEnvironment, ASandbox, Environment, Sandbox

from ..servers import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SURFACE = Path(__file__).with_name("surface.txt")
# docs/versions.md calls these public too; all of `exceptions` is in the package itself.
MODULES = ("batch", "config", "enums", "environment", "testing", "utils")


def test_every_public_name_exists() -> None:
    for name in sandbox_api.__all__:
        assert getattr(sandbox_api, name) is not None
    assert not set(sandbox_api.__all__) - set(dir(sandbox_api))
    with pytest.raises(AttributeError, match="no_such_name"):
        sandbox_api.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from sandbox_api import SandboxNothing  # type: ignore[attr-defined]  # noqa: F401


def visible() -> Iterator[tuple[str, Any]]:
    """Yield each public name with what it stands for, once."""
    for name in sandbox_api.__all__:
        yield name, getattr(sandbox_api, name)
    for module in MODULES:
        found: Any = importlib.import_module(f"sandbox_api.{module}")
        for name in sorted({*found.__all__} - {*sandbox_api.__all__}):
            yield f"{module}.{name}", getattr(found, name)


def surface() -> str:
    """Return all that users can see: a line for each name, attribute and signature."""
    lines: list[str] = []
    for name, value in visible():
        if not inspect.isclass(value):
            lines.append(f"{name}{inspect.signature(value) if inspect.isfunction(value) else ''}")
            continue
        bases = ", ".join(base.__name__ for base in value.__bases__)
        lines.append(f"{name}({bases})")
        for key in sorted({*vars(value), *inspect.get_annotations(value)}):
            if key.startswith("_") and key != "__init__":
                continue
            member = inspect.getattr_static(value, key, None)
            member = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            shown = str(inspect.signature(member)) if inspect.isfunction(member) else ""
            if not shown and key in inspect.get_annotations(value):
                shown = f": {inspect.get_annotations(value)[key]}"
            lines.append(f"  {key}{shown}")
    return re.sub(r" object at 0x\w+|ForwardRef\('(.*?)'.*?\)", r"\1", "\n".join(lines)) + "\n"


def test_public_surface_is_the_one_on_record() -> None:
    # After a change that is meant: python -m tests.client.test_surface
    assert surface() == SURFACE.read_text(encoding="utf-8")


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
        if name == "local":  # it takes what its class takes
            continue
        one, other = getattr(Sandbox, name), getattr(ASandbox, name)
        assert str(inspect.signature(one)) == sync(str(inspect.signature(other))), name
        awaited = inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)
        assert awaited or name == "environment", name
        assert inspect.getdoc(one) == sync(inspect.getdoc(other) or ""), name


def test_asandbox_that_is_not_closed_when_the_process_ends() -> None:
    code = """if True:
        import asyncio
        from sandbox_api import ASandbox, ConnectionFailed

        sandbox = ASandbox("http://127.0.0.1:1", retries=0)

        async def main():
            try:
                await sandbox.usage()
            except ConnectionFailed:
                pass

        asyncio.run(main())
        kept = [sandbox]
        kept.append(kept)
    """
    command = [sys.executable, "-W", "default", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = "ResourceWarning: <ASandbox http://127.0.0.1:1> was not closed"
    assert done.stderr.strip().endswith(told)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def sync(text: str) -> str:
    """Return what a text about an ASandbox would say of a Sandbox."""
    text = re.sub(r"\(await (.*?)\)\.", r"\1.", text)
    for name in ("Execution", "Environment", "Sandbox"):
        text = text.replace(f"A{name}", name)
    text = text.replace("AsyncIterator", "Iterator").replace("async def", "def")
    text = text.replace("[len(chunk) async for chunk in chunks]", "len(chunk) for chunk in chunks")
    return text.replace("await ", "").replace("async for done", "for done")


@pytest.mark.parametrize("flavour", [Sandbox, ASandbox])
def test_methods_are_documented_in_full(flavour: type) -> None:
    for name in public(flavour).keys() - {"close"}:
        text = inspect.getdoc(getattr(flavour, name)) or ""
        assert "Examples:" in text, name
        own = inspect.signature(getattr(flavour, name)).parameters.keys() - {"self", "options"}
        assert not own or name == "environment" or "Args:" in text, name
        assert name in {"environment", "check"} or "Raises:" in text, name


def test_both_flavours_of_environments_are_the_same() -> None:
    flavours = public(Environment), public(AEnvironment)
    assert list(flavours[0]) == list(flavours[1])
    for name in flavours[0]:
        one, other = getattr(Environment, name), getattr(AEnvironment, name)
        assert inspect.signature(one) == inspect.signature(other), name
        assert inspect.iscoroutinefunction(other), name
        assert inspect.getdoc(one) == sync(inspect.getdoc(other) or ""), name


def test_constructors_keep_the_old_clients_order() -> None:
    parameters = str(inspect.signature(Sandbox))
    assert parameters.startswith(
        "(url: 'str | httpx.URL | None' = None, timeout: 'float | None' = 60, *"
    )
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
        (client,) = sandbox._clients.values()
        del sandbox
        gc.collect()
        assert client.is_closed


def test_asandbox_left_unclosed_warns() -> None:
    sandbox = ASandbox("http://127.0.0.1:1")
    with pytest.warns(ResourceWarning, match=r"<ASandbox http://127.0.0.1:1> was not closed"):
        del sandbox  # collected at once: nothing else holds it


def test_connections_of_an_asandbox_left_unclosed_are_closed(raw_server: RawServer) -> None:
    async def main() -> None:
        sandbox = ASandbox(raw_server.url)
        await sandbox.check("x")
        with pytest.warns(ResourceWarning, match="was not closed") as warned:
            del sandbox  # collected at once: nothing else holds it
        gc.collect()  # no socket is left to be warned of
        assert len(warned) == 1

    asyncio.run(main())


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


if __name__ == "__main__":
    SURFACE.write_text(surface(), encoding="utf-8")
