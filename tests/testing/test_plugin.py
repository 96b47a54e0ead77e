"""The fixtures of pytest, tried as another project's tests would use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    def test_sandbox(sandbox):
        result = sandbox.execute({"commands": ["true"], "save": True}, {"a": "b"})
        assert result.saved.read_text("a") == "b"

    @pytest.mark.fake_sandbox
    def test_script(sandbox):
        assert not sandbox.server.calls
        sandbox.server.script("4")
        assert sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout == "4"

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
    async def test_asandbox(asandbox):
        assert (await asandbox.execute({"commands": ["true"]})).ok
        assert (await asandbox.usage()).process >= 0
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Another project."""
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:randomly\nfilterwarnings = error")
    return pytester


def test_fakes_by_default(project: pytest.Pytester) -> None:
    project.runpytest_subprocess().assert_outcomes(passed=4)


def test_local_sandbox(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--sandbox=local").assert_outcomes(passed=3, skipped=1)


def test_server_by_its_url(project: pytest.Pytester, sandbox_url: str) -> None:
    result = project.runpytest_subprocess("--sandbox-url", sandbox_url)
    result.assert_outcomes(passed=3, skipped=1)


def test_url_that_is_empty(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--sandbox-url", "")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--sandbox-url is empty*"])


def test_what_the_page_shows(pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"## With pytest\n.*?```python\n(.*?)```", page, re.DOTALL)
    pytester.makepyfile(shown)
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=2)


def test_help(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["sandbox-api:", "*--sandbox={fake,local}*", "*--sandbox-url=URL*"])
