"""The small process that starts others, as a script of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from sandbox_api.local import launch

from .public import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


class Launch:
    """Such a process, and this end of its socket."""

    def __init__(
        self,
        account: str = "",
        spares: str = "",
        mounts: tuple[tuple[str, str], ...] = (),
        memory: str = "",
    ) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(20)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-m", launch.__name__, str(other.fileno()), account, spares],
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        self._socket.send(json.dumps([mounts, memory]).encode())
        self.mounted = self._socket.recv(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.process.wait(20)

    def ask(self, descriptors: dict[int, int], **wanted: Any) -> tuple[bytes, list[int]]:
        """Ask for a process, and return the answer and what came with it."""
        wanted["numbers"] = [str(number) for number in descriptors]
        socket.send_fds(self._socket, [json.dumps(wanted).encode()], [*descriptors.values()])
        answer, found, _, _ = socket.recv_fds(self._socket, launch.SIZE, 1)
        return answer, found

    def start(self, folder: Path, *command: str) -> int:
        """Start a process, and return a descriptor of it."""
        _, [pidfd] = self.ask({}, command=command, folder=[str(folder)])
        return pidfd


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


@contextlib.contextmanager
def piped() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


def output(launching: Launch, folder: Path, script: str, **wanted: Any) -> str:
    """Return what a script writes that the launcher starts."""
    with piped() as (reading, writing):
        command = ["/bin/bash", "-c", script]
        _, [pidfd] = launching.ask(
            {1: writing, 101: writing}, command=command, folder=[str(folder)], **wanted
        )
        os.close(writing)
        with os.fdopen(os.dup(reading)) as file:
            text = file.read()
        os.close(pidfd)
        return text


def test_what_is_started_has_what_is_wanted_for_it_and_no_more(tmp_path: Path) -> None:
    with Launch() as launching:
        assert output(launching, tmp_path, "pwd; echo more >&101") == f"{tmp_path}\nmore\n"
        assert output(launching, tmp_path, "cat; read x || echo nothing") == "nothing\n"
        listed = output(launching, tmp_path, "exec ls /proc/self/fd").split()
        # Of the descriptors of a server, none; 3 is that of ls itself.
        assert {*listed} <= {"0", "1", "2", "3", "101"}
        assert output(launching, tmp_path, 'echo "$A"', environ=["A=b=c"]) == "b=c\n"
        assert os.environ["PATH"] in output(launching, tmp_path, 'echo "$PATH"')
        session = "cut -d' ' -f6 /proc/$$/stat; echo $$"
        first, second = output(launching, tmp_path, session).split()
        assert first == second
        ignored = output(launching, tmp_path, "grep SigIgn /proc/$$/status").split()[1]
        assert int(ignored, 16) & 0x7FFFFFFF == 0  # those above are libc's own
    assert launching.process.returncode == 0


def test_one_that_does_not_start_keeps_no_other_from_it(tmp_path: Path) -> None:
    with Launch() as launching:
        missing = [str(tmp_path / "missing")]
        for wanted in (
            {"command": missing, "folder": ["/"]},
            {"command": ["x"], "folder": missing},
        ):
            answer, found = launching.ask({}, **wanted)
            assert b"No such file or directory" in answer
            assert found == []
        assert output(launching, tmp_path, "echo fine") == "fine\n"


def test_what_is_left_of_a_session_dies_with_its_first_process(tmp_path: Path) -> None:
    with Launch() as launching, piped() as (reading, writing):
        command = ["/bin/sh", "-c", "sleep 1000 & exit"]
        _, [pidfd] = launching.ask({1: writing}, command=command, folder=[str(tmp_path)])
        os.close(writing)
        # All of it is dead when nobody has the other end any more.
        assert select.select([reading], [], [], 20)[0]
        assert os.read(reading, 1) == b""
        os.close(pidfd)


@pytest.mark.parametrize("end", ["closing", "killing the others", "an interrupt"])
def test_all_die_with_the_launcher(end: str, tmp_path: Path) -> None:
    with Launch() as launching:
        pidfd = launching.start(tmp_path, "/bin/sleep", "1000")
        other = launching.start(tmp_path, "/bin/sleep", "1000")
        if end == "killing the others":
            signal.pidfd_send_signal(other, signal.SIGKILL)
            wait_for(lambda: ended(other))
        elif end == "an interrupt":  # of a terminal, is not for it
            launching.process.send_signal(signal.SIGINT)
        assert not ended(pidfd)
        assert output(launching, tmp_path, "echo fine") == "fine\n"
    wait_for(lambda: ended(pidfd) and ended(other))
    os.close(pidfd)
    os.close(other)


def test_what_is_spared_lives_on(tmp_path: Path) -> None:
    with Launch(spares="spares") as launching:
        pidfd = launching.start(tmp_path, "/bin/sleep", "1000")
    assert not ended(pidfd)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_for(lambda: ended(pidfd))
    os.close(pidfd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
@pytest.mark.parametrize("account", [0, 65534])
def test_an_account_is_taken_without_its_groups(account: int, tmp_path: Path) -> None:
    with Launch(str(account)) as launching:
        text = output(launching, tmp_path.parents[-1], "grep -E 'Uid|Gid|Groups' /proc/$$/status")
    uid, gid, groups = (line.split()[1:] for line in text.splitlines())
    assert (uid, gid, groups) == ([str(account)] * 4, [str(account)] * 4, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_an_account_has_one_right_of_root_and_what_it_starts_none(tmp_path: Path) -> None:
    def rights(status: str) -> dict[str, int]:
        lines = [line.split() for line in status.splitlines()]
        return {name: int(value, 16) for name, value in lines}

    with Launch("65534") as launching:
        own = "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/%s/status"
        started = rights(output(launching, tmp_path.parents[-1], own % "$$"))
        pid = launching.process.pid
        starting = rights(output(launching, tmp_path.parents[-1], own % pid))
    assert set(started.values()) == {0}
    admin = launch.ADMIN if launching.mounted == b"1" else 0
    assert starting == {"CapInh:": 0, "CapPrm:": admin, "CapEff:": admin, "CapAmb:": 0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_what_is_started_for_an_account_does_not_see_the_mounts_of_sys(tmp_path: Path) -> None:
    def mounted(text: str) -> set[str]:
        return {line.split()[4] for line in text.splitlines()}

    before = mounted(Path("/proc/self/mountinfo").read_text())
    with Launch("65534") as launching:
        seen = mounted(output(launching, tmp_path.parents[-1], "cat /proc/self/mountinfo"))
        assert mounted(Path("/proc/self/mountinfo").read_text()) == before
    # In a container, it may not be allowed to do without them.
    assert seen in (before, {each for each in before if not f"{each}/".startswith("/sys/")})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_mounts_are_made_read_only_for_what_is_started_and_nobody_else(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "file").touch()
    with Launch("0", mounts=((str(source), str(target)),)) as launching:
        listed = output(launching, tmp_path, "ls target; touch target/more 2>/dev/null")
        # In a container, it may not be allowed to mount anything.
        assert (launching.mounted, listed) in ((b"1", "file\n"), (b"0", ""))
        assert not list(target.iterdir())
    assert [path.name for path in source.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_a_folder_is_held_in_memory_with_copies_of_what_is_shown_in_it(tmp_path: Path) -> None:
    # As with /etc: what is shown in it has the same path below root.
    root, shown = tmp_path / "root", tmp_path / "shown"
    memory, place = root / tmp_path.parts[1], Path(f"{root}{shown}")
    for folder in (place, memory / "own", shown / "deep"):
        folder.mkdir(parents=True)
    (memory / "own/file").write_text("own\n")
    (shown / "deep/file").write_text("shown\n")
    (shown / "link").symlink_to("deep/file")
    (shown / "script").touch(mode=0o750)
    with Launch("0", mounts=((str(shown), str(place)),), memory=str(memory)) as launching:
        if launching.mounted == b"0":
            pytest.skip("nothing can be mounted here")
        (shown / "deep/file").write_text("changed\n")
        script = (
            f"cat {memory}/own/file; cd {place}; cat link; stat -c %a script; touch x || echo no"
        )
        assert output(launching, tmp_path, script).splitlines() == ["own", "shown", "750", "no"]
        assert f" {place} " not in output(launching, tmp_path, "cat /proc/self/mountinfo")
    assert not list(place.iterdir())
    assert (memory / "own/file").read_text() == "own\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_a_folder_that_is_removed_meanwhile_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where the server was killed while it started, and what it left is just being removed.
    root, shown, marks = tmp_path / "root", tmp_path / "shown", tmp_path / "marks"
    memory, place = root / tmp_path.parts[1], Path(f"{root}{shown}")
    for folder in (place, shown, marks):
        folder.mkdir(parents=True)
    (shown / "file").touch()
    slow = marks / "cp"
    slow.write_text(
        f'#!/bin/sh\nPATH=/usr/bin:/bin\ncase "$*" in *--parents*) touch {marks}/begun\n'
        f'while [ ! -e {marks}/go ]; do sleep 0.02; done;; esac\nexec cp "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(marks), prepend=os.pathsep)

    def remove() -> None:
        wait_for((marks / "begun").exists)
        shutil.rmtree(memory)
        (marks / "go").touch()

    thread = threading.Thread(target=remove)
    thread.start()
    with Launch("0", mounts=((str(shown), str(place)),), memory=str(memory)) as launching:
        if launching.mounted == b"0" and not (marks / "begun").exists():
            (marks / "begun").touch()
            pytest.skip("nothing can be mounted here")
        thread.join()
    assert not memory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take an account")
def test_a_folder_that_can_not_be_held_in_memory_is_as_it_was(tmp_path: Path) -> None:
    memory, missing = tmp_path / "memory", str(tmp_path / "missing")
    memory.mkdir()
    (memory / "file").write_text("own\n")
    with Launch("0", mounts=((missing, f"{memory}/x"),), memory=str(memory)) as launching:
        assert launching.mounted == b"0"
        assert output(launching, tmp_path, "cat memory/file") == "own\n"
    with Launch("0", memory=missing) as launching:
        assert launching.mounted == b"0"


@pytest.mark.parametrize("account", ["", str(os.geteuid())])
def test_what_can_not_be_mounted_is_said(account: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with Launch(account, mounts=((missing, missing),)) as launching:
        assert launching.mounted == b"0"
        assert output(launching, tmp_path, "echo fine") == "fine\n"
