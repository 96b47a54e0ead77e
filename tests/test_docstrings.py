"""The examples of docstrings show what happens: in a sandbox, or as the description has it."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import sys
import traceback
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

import sandbox_api
from sandbox_api import ASandbox, Sandbox
from sandbox_api.testing import FakeASandbox, FakeSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = [
    importlib.import_module(f"sandbox_api.{found.name}")
    for found in pkgutil.iter_modules(sandbox_api.__path__)
    if not found.ispkg
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What they show is of one server, as the description has it, or of an add-on: the fake answers so.
DESCRIBED = {"specifications", "server_version", "usage", "libraries"}
LOADER = {"load", "demo", "playexo", "exec"}


def found(module: types.ModuleType) -> Iterator[doctest.DocTest]:
    """Return the examples of a module, of its own classes and functions."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return (test for test in finder.find(module, module.__name__) if test.examples)


TESTS = {
    test.name.removeprefix("sandbox_api."): test
    for module in [sandbox_api, *MODULES]
    for test in found(module)
}


@pytest.fixture
def namespace(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Any]:
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    files = {
        "handed-in/alice/main.py": "print(7)",
        "handed-in/alice/answer": "49",
        "handed-in/bob/main.py": "print(7",
        "test/test": 'test "$(cat answer)" = 49',
        "exercise/grade.py": "print(17)",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    Path("test/test").chmod(0o755)
    monkeypatch.setitem(sys.modules, "grader", types.ModuleType("grader"))
    monkeypatch.setattr("grader.Sandbox", Sandbox, raising=False)
    names: dict[str, Any] = {}
    for module in (*MODULES, sandbox_api):
        names |= {name: getattr(module, name) for name in getattr(module, "__all__", vars(module))}
    names |= {"httpx": httpx, "monkeypatch": monkeypatch, "MySandbox": Sandbox}

    test = TESTS[request.node.callspec.params["name"]]
    home, _, method = test.name.removeprefix("sandbox_api.").partition(".")
    method = method.rpartition(".")[2]
    if home == "testing" or method in DESCRIBED | LOADER:
        fake = FakeASandbox() if home == "asandbox" else FakeSandbox()
        for operation in LOADER:
            fake.server.always({"answer": 49}, to=operation)
        return {**names, "sandbox": fake, "server": fake.server}
    url = request.getfixturevalue("sandbox_url")
    with Sandbox(url) as sandbox:
        config = {"commands": ["echo 17/20 > marks"], "save": True}
        result = sandbox.execute(config, {"square.py": "print(7 ** 2)"})
    kind = ASandbox if home == "asandbox" else Sandbox
    return {**names, "sandbox": kind(url), "result": result}


async def shown(source: str, names: dict[str, Any]) -> str:
    """Return what an example prints, or the last lines of the traceback that it ends with."""
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            running = eval(code, names)
            if inspect.iscoroutine(running):
                await running
        except Exception as error:
            return "".join(traceback.format_exception_only(error))
    return output.getvalue()


@pytest.mark.parametrize("name", TESTS)
def test_examples(name: str, namespace: dict[str, Any], sandbox_url: str) -> None:
    async def follow() -> None:
        sandbox = namespace["sandbox"]
        async with sandbox if isinstance(sandbox, ASandbox) else contextlib.nullcontext():
            for example in TESTS[name].examples:
                source = example.source.replace("http://localhost:7000", sandbox_url)
                got = await shown(source, namespace)
                wanted = example.exc_msg or example.want
                right = doctest.OutputChecker().check_output(wanted, got, FLAGS)
                assert right, f"{source}\n{got}"

    with warnings.catch_warnings():
        if name == "_deprecation.deprecate":  # it shows how to warn
            warnings.simplefilter("ignore", DeprecationWarning)
        anyio.run(follow)


def test_there_are_examples() -> None:
    assert len(TESTS) > 60
