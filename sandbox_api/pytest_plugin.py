"""Fixtures for pytest, there wherever sandbox-api is installed: see docs/testing.md.

`sandbox` and `asandbox` are fakes, unless the command line says `--sandbox local` or
`--sandbox-url URL`: the same tests then run on a local sandbox, or on any other server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .asandbox import ASandbox
    from .sandbox import Sandbox

# All of it is imported when it is used: every run of pytest loads this file.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("sandbox-api")
    group.addoption(
        "--sandbox",
        choices=["fake", "local"],
        default="fake",
        help="what the fixtures `sandbox` and `asandbox` are: fakes (the default), or clients of a "
        "local sandbox",
    )
    group.addoption(
        "--sandbox-url", metavar="URL", help="or of this server, in place of what --sandbox says"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and refuse an URL that is empty, as that of a variable may be."""
    if config.getoption("sandbox_url") == "":
        raise pytest.UsageError("--sandbox-url is empty: give a server's, or leave it out")
    config.addinivalue_line(
        "markers", "fake_sandbox: needs the fake that can be scripted; skipped on any server"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what scripts a fake, where there is none."""
    if config.getoption("sandbox_url") or config.getoption("sandbox") != "fake":
        for item in items:
            if item.get_closest_marker("fake_sandbox"):
                item.add_marker(pytest.mark.skip(reason="it needs a fake sandbox"))


@pytest.fixture(scope="session")
def sandbox_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Tell where a sandbox server is, one for the whole run; None for a fake."""
    if url := request.config.getoption("sandbox_url"):
        yield url
    elif request.config.getoption("sandbox") == "fake":
        yield None
    else:
        from .sandbox import Sandbox

        with Sandbox.local() as sandbox:
            yield sandbox.url


@pytest.fixture
def sandbox(sandbox_url: str | None) -> Iterator[Sandbox]:
    """Make a Sandbox: a fake, new for each test, or a client of a server."""
    from .sandbox import Sandbox
    from .testing import FakeSandbox

    with FakeSandbox() if sandbox_url is None else Sandbox(sandbox_url) as made:
        yield made


@pytest.fixture
def asandbox(sandbox_url: str | None) -> Iterator[ASandbox]:
    """Make an ASandbox: a fake, new for each test, or a client of a server; it needs no closing.

    It is made outside of any event loop, so that it goes with every plugin that runs async tests.
    """
    import anyio

    from .asandbox import ASandbox
    from .testing import FakeASandbox

    if sandbox_url is None:
        made: ASandbox = FakeASandbox()
    else:
        # The test's event loop is gone when it could be closed, so it keeps no connection open.
        made = ASandbox(sandbox_url, headers={"Connection": "close"})
    yield made
    anyio.run(made.close)
