"""What commands write, taken from pipes that serve one command after another."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from sandbox_api.local.output import MORE, PATIENCE, Pipe

from .test_pool import pooled, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sandbox_api.local.pool import Pool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pipe"


def piped(path: Path, scenario: Callable[[Pipe], Awaitable[None]]) -> None:
    async def main() -> None:
        pipe = Pipe(str(path))
        await scenario(pipe)
        pipe.finish()
        pipe.close()

    asyncio.run(main())


def test_a_pipe_serves_one_command_after_another(path: Path) -> None:
    async def scenario(pipe: Pipe) -> None:
        for content in (b"one", b"", b"three"):
            output = pipe.listen(100)
            await asyncio.to_thread(path.write_bytes, content)
            assert pipe.finish()
            assert bytes(output.data) == content

    piped(path, scenario)


def test_a_pipe_that_somebody_may_write_to_is_not_free(path: Path) -> None:
    async def scenario(pipe: Pipe) -> None:
        output = pipe.listen(100)
        with path.open("wb") as writing:
            writing.write(b"now")
            writing.flush()
            assert not pipe.finish()
            writing.write(b"later")
        assert output.data == b"now"

    piped(path, scenario)


@pytest.mark.parametrize("seconds", [0, PATIENCE, PATIENCE + MORE, PATIENCE + 4 * MORE])
def test_more_than_a_pipe_holds_is_read_whenever_it_comes(path: Path, seconds: float) -> None:
    many = b"x" * 1_000_000

    async def scenario(pipe: Pipe) -> None:
        # The second time, there was a writer who is gone.
        for _ in range(2):
            output = pipe.listen(len(many) - 1)
            await asyncio.sleep(seconds)
            writing = asyncio.create_task(asyncio.to_thread(path.write_bytes, many))
            await asyncio.wait({writing}, timeout=5)
            if not writing.done():
                await asyncio.to_thread(path.read_bytes)
                pytest.fail("nobody read it")
            assert pipe.finish()
            assert len(output.data) == len(many) - 1
            assert output.truncated

    piped(path, scenario)


def test_an_ended_pipe_is_not_listened_to_all_the_time(path: Path) -> None:
    async def scenario(pipe: Pipe) -> None:
        pipe.listen(100)
        await asyncio.to_thread(path.write_bytes, b"")
        heard = 0
        hear = pipe._hear

        def count() -> None:
            nonlocal heard
            heard += 1
            hear()

        pipe._hear = count  # type: ignore[method-assign]
        await asyncio.sleep(PATIENCE + 10 * MORE)
        assert 1 <= heard <= 11

    piped(path, scenario)


def test_commands_share_pipes_unless_one_leaves_something_running(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            box.set({})

            def pipes() -> set[str]:
                return {name for name in os.listdir(box._channel.control) if "." in name}

            async def run(command: str) -> tuple[str, str]:
                outcome = await box.run(command, 20, 1_000_000)
                assert outcome
                return outcome.stdout.data.decode(), outcome.stderr.data.decode()

            assert await run("echo one; echo two >&2") == ("one\n", "two\n")
            assert await run("seq 10000 | wc -l") == ("10000\n", "")
            assert pipes() == {"1.out", "1.err"}
            # What goes on must not write into the output of the next.
            more = "(trap '' PIPE; sleep 0.05; while :; do echo more; sleep 0.01; done) &"
            assert await run(f"{more} echo first") == ("first\n", "")
            assert await run("sleep 0.2; echo next") == ("next\n", "")
            assert pipes() == {"1.out", "1.err", "2.out", "2.err"}
            assert await box.run("sleep 30", 0.05, 100) is None
            await until(lambda: not box.exceeded)
            assert await run("echo last") == ("last\n", "")

    pooled(work, scenario)
