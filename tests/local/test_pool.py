from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from sandbox_api.local import launcher
from sandbox_api.local.box import Box, BoxError
from sandbox_api.local.cell import Start
from sandbox_api.local.channel import Channel, ChannelError
from sandbox_api.local.isolation import Bubblewrap, probe
from sandbox_api.local.launcher import Launcher, LaunchError
from sandbox_api.local.layout import Tree
from sandbox_api.local.limits import Limits
from sandbox_api.local.pool import Pool
from sandbox_api.local.undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def pooled(work: Path, scenario: Callable[[Pool], Awaitable[None]], **limits: Any) -> None:
    """Run a scenario with a pool; nothing of it may be left."""

    async def main() -> Path:
        pool = Pool(probe("bubblewrap", work), work, Limits(**{"warm": 2} | limits))
        try:
            await scenario(pool)
        finally:
            await pool.close()
        return pool._controls

    # The server's own loop.
    controls = uvloop.run(main())
    assert not controls.exists()
    assert [path.name for path in work.iterdir()] == ["root"]


def mounts(pid: int) -> str:
    """Return what is mounted where a process looks."""
    return Path(f"/proc/{pid}/mountinfo").read_text()


def homes(work: Path) -> set[str]:
    """Return the working directories that there are."""
    return {path.name for path in work.glob("home-*")}


def test_no_command_is_cut_before_its_time(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            box.set({})
            # Timers know milliseconds, and where in one a command starts is chance.
            for _ in range(100):
                started = time.monotonic()
                assert await box.run("sleep 5", 0.004, 100) is None
                assert time.monotonic() - started >= 0.004

    pooled(work, scenario)


def test_a_box_that_is_taken_just_as_another_gets_ready_is_replaced(work: Path) -> None:
    taken: list[Box] = []

    async def scenario(pool: Pool) -> None:
        make = pool._make

        def take() -> None:
            taken.append(pool._ready.popleft())
            pool.fill()

        async def make_and_take() -> Box:
            box = await make()
            if not taken:
                # Next, when whoever asked for this box has it and has ended.
                asyncio.get_running_loop().call_soon(take)
            return box

        async with pool.box():
            pass
        await until(lambda: not pool._filling)
        pool._make = make_and_take  # type: ignore[method-assign]
        async with pool.box():
            await until(lambda: bool(taken))
        await until(lambda: not pool._filling)
        assert len(pool._ready) == 2
        await pool._discard(taken[0])

    pooled(work, scenario)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def output(box: Box, command: str) -> str:
    """Return what a command writes."""
    box.set({})
    outcome = await box.run(command, 20, 1000)
    assert outcome
    return outcome.stdout.data.decode().strip()


def test_boxes_are_ready_before_they_are_needed_and_replaced(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        pool.fill()
        await until(lambda: len(homes(work)) == 1)
        await asyncio.sleep(0.3)
        [ready] = homes(work)
        async with pool.box() as box:
            assert box.home.name == ready
            assert await output(box, "pwd") == "/home/student"
            # Now that one was needed, there will be two.
            await until(lambda: len(homes(work)) == 3)
        assert ready not in homes(work)
        assert len(homes(work)) == 2

    pooled(work, scenario)


def test_no_box_serves_twice(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        seen: set[str] = set()
        for _ in range(8):
            async with pool.box() as box:
                assert await output(box, "ls -A . /tmp /dev/shm | grep mine; touch mine") == ""
                seen.add(str(box.home))
        assert len(seen) == 8

    pooled(work, scenario)


def test_a_box_that_died_waiting_is_not_given(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            await output(box, "true")
        await until(lambda: len(homes(work)) == 2)
        await asyncio.sleep(0.3)
        ready = [*pool._ready]
        for box in ready:
            os.kill(box.pid, signal.SIGKILL)
        await until(lambda: not any(box.alive for box in ready))
        async with pool.box() as box:
            assert await output(box, "echo fine") == "fine"

    pooled(work, scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts anything for all boxes")
def test_what_all_boxes_see_is_mounted_for_them_alone(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            assert await output(box, "echo fine") == "fine"
        tree, process = pool._isolator.tree, pool._launcher._process
        assert tree
        assert process
        there, here = mounts(process.pid), mounts(os.getpid())
        if tree.mounted:
            held = {target for _, target in tree.mounts() if target.startswith(tree.memory)}
            for target in {target for _, target in tree.mounts()} - held | {tree.memory}:
                assert f" {target} " in there
        assert tree.root not in here

    pooled(work, scenario)


def test_what_can_not_be_mounted_for_all_boxes_is_for_each(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(work / "missing")
    monkeypatch.setattr(Tree, "mounts", lambda _: [("/usr", missing)])

    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            assert await output(box, "echo fine") == "fine"
        assert pool._isolator.tree
        assert not pool._isolator.tree.mounted

    pooled(work, scenario)


def test_a_launcher_that_was_killed_is_replaced(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.box() as box:
            await output(box, "true")
        process = pool._launcher._process
        assert process
        ready = [*pool._ready]  # others may be made meanwhile, by another launcher
        process.kill()
        process.wait()
        await until(lambda: not any(box.alive for box in ready))
        async with pool.box() as box:
            assert await output(box, "echo fine") == "fine"

    pooled(work, scenario)


def test_a_launcher_that_dies_each_time_is_told(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = work / "script.py"
    script.write_text("")
    monkeypatch.setattr(launcher, "SCRIPT", script)

    async def main() -> None:
        dying = Launcher(None)
        with pytest.raises(LaunchError, match="was killed"):
            await dying.launch(Start(["/bin/true"], {}, {}), work)
        dying.close()

    asyncio.run(main())


def test_a_pool_without_ready_boxes_starts_them_when_they_are_asked_for(work: Path) -> None:
    async def scenario(pool: Pool) -> None:
        pool.fill()
        await asyncio.sleep(0.1)
        assert homes(work) == set()
        async with pool.box() as box:
            assert await output(box, "echo fine") == "fine"

    pooled(work, scenario, warm=0)


def test_a_box_that_does_not_start_says_why_and_leaves_nothing(work: Path) -> None:
    broken = work / "broken"
    broken.write_text("#!/bin/sh\necho out of order >&2\n")
    broken.chmod(0o755)

    async def main() -> None:
        pool = Pool(Bubblewrap("broken", bwrap=str(broken)), work, Limits(warm=1))
        pool.fill()
        with pytest.raises(BoxError, match="out of order"):
            async with pool.box():
                pass
        # It does not try again and again.
        await asyncio.sleep(0.2)
        await pool.close()

    asyncio.run(main())
    assert [path.name for path in work.iterdir()] == ["broken"]


def test_the_launcher_says_why_a_process_does_not_start(work: Path) -> None:
    async def main() -> None:
        starting = Launcher(None)
        nothing = os.open(os.devnull, os.O_WRONLY)
        with pytest.raises(LaunchError, match="No such file"):
            await starting.launch(Start(["/nonexistent"], {}, {1: nothing}), work)
        with pytest.raises(LaunchError, match="too long"):
            await starting.launch(Start(["x" * 100000], {}, {1: nothing}), work)
        os.close(nothing)
        starting.close()
        starting.close()

    asyncio.run(main())


def test_an_undertaker_removes_what_a_killed_server_leaves(tmp_path: Path) -> None:
    (tmp_path / "folder/inner").mkdir(parents=True)
    (tmp_path / "folder/inner").chmod(0)
    (tmp_path / "group/1").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    undertaker = Undertaker()
    undertaker.take("folder", tmp_path / "folder")
    undertaker.take("group", tmp_path / "group")
    undertaker.take("folder", tmp_path / "missing")
    undertaker.take("folder", tmp_path / "new\nfolder")
    undertaker.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_only_answers_to_what_was_asked_count(tmp_path: Path) -> None:
    async def main() -> None:
        channel = Channel(tmp_path)
        with pytest.raises(ChannelError):
            await channel.answer(20)
        channel.open()
        _, replies = channel.ends
        os.write(
            replies, b"nonsense\n\n0 \n0 -1\n0 999\n7 0\n" + b"9" * 200 + b"\n\xff 0\n0 5\n0 6\n"
        )
        assert await channel.answer(20) == 5
        channel.send("true", 10)
        channel.finish()
        os.write(replies, b"0 1\n1 ")
        os.write(replies, b"7\n")
        assert await channel.answer(20) == 7
        channel.handed_over()
        channel.send("true", 10)
        channel.finish()
        with pytest.raises(ChannelError, match="died"):
            await channel.answer(20)
        channel.close()

    asyncio.run(main())
