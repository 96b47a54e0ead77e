from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api.local import cgroups, isolation, watch
from sandbox_api.local.cell import Isolator, Unisolated
from sandbox_api.local.isolation import Bubblewrap, probe
from sandbox_api.local.limits import Limits
from sandbox_api.local.watch import Watch, hides, usage

from .tight import ask, mib, run, running

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = cgroups.find(Limits())
grouped = pytest.mark.skipif(
    GROUPS is None or "memory" not in GROUPS.folders, reason="no control groups may be made here"
)

HOG = "python3 -c 'x = bytearray(300 << 20); print(len(x))'"
HOLD = 'import time; x = b"x" * (40 << 20); time.sleep(2)'
HOGS = f"for i in 1 2 3 4 5 6; do python3 -c '{HOLD}' & done"
BUSY = "python3 -c 'while True: pass'"
FILL = "-for i in $(seq 200); do head -c 4000000 /dev/zero > $i; sleep 0.01; done"

NAMELESS = "-exec 3<>a; rm a; head -c 90000000 /dev/zero >&3; sleep 9"

# Of six files, nothing is left but a page of each in memory.
MAPPED = """
import ctypes, os, time
map = ctypes.CDLL(None).mmap
for _ in range(6):
    file = open("a", "wb+", 0)
    os.unlink("a")
    map(None, ctypes.c_size_t(4096), 3, 1, file.fileno(), ctypes.c_long(0))
    file.write(bytes(30000000))
    file.close()
time.sleep(9)
"""


@pytest.fixture
def ungrouped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no control groups."""
    monkeypatch.setattr(cgroups, "find", lambda _: None)


@grouped
def test_a_command_that_takes_too_much_memory_is_killed_and_the_run_goes_on() -> None:
    first, second = run(f"-{HOG}", "echo next", memory=mib(100))
    assert (first["exit_code"], first["exceeded"], first["stdout"]) == (137, "memory", "")
    assert second["stdout"] == "next"
    assert "exceeded" not in second


@grouped
def test_a_driver_keeps_no_door_to_its_groups_open() -> None:
    [result] = run("readlink /proc/1/fd/*")
    assert "pipe:" in result["stdout"]
    assert "tasks" not in result["stdout"]
    assert "cgroup.procs" not in result["stdout"]


@grouped
def test_memory_of_all_processes_counts_together() -> None:
    [result] = run(f"{HOGS}; wait; exit 9", memory=mib(100))
    assert result["exceeded"] == "memory"


@grouped
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_files_in_memory_count_as_memory(folder: str) -> None:
    [result] = run(f"head -c 300M /dev/zero > {folder}/file", memory=mib(100))
    assert result["exit_code"] == 137


@grouped
def test_a_sandbox_whose_driver_is_killed_for_memory_says_so() -> None:
    # Many small ones: the largest process may then be the driver.
    many = "-for i in $(seq 400); do sleep 5 & done; sleep 5"
    results = run(many, memory=mib(4), processes=1000)
    assert results[0]["exit_code"] in (137, -2, 0)


def test_without_groups_a_process_gets_no_more_memory(ungrouped: None) -> None:
    [result] = run(HOG, memory=mib(100))
    assert (result["exit_code"], "MemoryError" in result["stderr"]) == (1, True)


def test_without_groups_memory_of_all_processes_is_watched(ungrouped: None) -> None:
    [result] = run(f"-{HOGS}; wait", "echo never", memory=mib(100))
    assert (result["exit_code"], result["exceeded"]) == (137, "memory")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param("import mmap; file = mmap.mmap(-1, 300 << 20)", id="mapped"),
        pytest.param("file = open(os.memfd_create('file'), 'wb')", id="open"),
    ],
)
def test_without_groups_shared_memory_is_watched(ungrouped: None, make: str) -> None:
    fill = f"import os, time; {make}; [file.write(bytes(1 << 20)) for _ in range(300)]"
    [result] = run(f'-python3 -c "{fill}; time.sleep(9)"', "echo never", memory=mib(100))
    assert (result["exit_code"], result.get("exceeded")) == (137, "memory"), result


@pytest.mark.parametrize("command", [BUSY, f"-{BUSY} & {BUSY} & {BUSY} & wait"])
def test_processor_time_is_bounded(command: str) -> None:
    results = run(command, cpu_time=0.6)
    assert [result["exit_code"] for result in results] == [137]


def test_processor_time_of_dead_processes_counts() -> None:
    burn = "-while :; do python3 -c 'for i in range(10 ** 6): pass'; done"
    [result] = run(burn, "echo never", cpu_time=0.6)
    assert (result["exit_code"], result["exceeded"]) == (137, "cpu")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(FILL, id="files"),
        pytest.param(f"-mkdir d; cd d; chmod 300 .; {FILL[1:]}", id="in a folder without access"),
        pytest.param(NAMELESS, id="without a name"),
        pytest.param(f"-python3 -c '{MAPPED}'", id="only mapped"),
        pytest.param(
            "-for i in $(seq 120); do mkdir d; cd d; done; " + FILL[1:], id="in a deep folder"
        ),
    ],
)
def test_the_working_directory_does_not_fill_the_disk(command: str) -> None:
    # The run ends, for what follows could go on filling it.
    [result] = run(command, "echo never", disk=mib(32))
    assert (result["exit_code"], result["exceeded"]) == (137, "disk")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(NAMELESS, id="open"),
        pytest.param(
            f"-python3 -c '{MAPPED}'",
            id="only mapped",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what is mapped"),
        ),
    ],
)
def test_files_without_a_name_count_though_others_free_as_much(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "free_space", lambda _: mib(1000))
    [result] = run(command, "echo never", disk=mib(32))
    assert (result["exit_code"], result["exceeded"]) == (137, "disk")


@pytest.mark.parametrize("dumpable", [0, 1])
def test_a_process_that_hides_what_it_has_open_is_noticed(dumpable: int) -> None:
    root, nobody = os.geteuid() == 0, 65534

    def seen() -> bool:
        if root:
            os.seteuid(nobody)
        try:
            return hides(process.pid)
        finally:
            if root:
                os.seteuid(0)

    become = f"os.setresuid({nobody}, {nobody}, {nobody})" if root else "pass"
    script = f"import ctypes, os; {become}; ctypes.CDLL(None).prctl(4, {dumpable}, 0, 0, 0)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert seen() is not bool(dumpable)
        process.kill()
        # It stays in /proc until it is waited for.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not seen()


def test_links_to_one_file_count_once() -> None:
    once = "head -c 20M /dev/zero > a; for i in $(seq 30); do ln a b$i; done; sleep 0.5"
    assert run(once, disk=mib(64))[0]["exit_code"] == 0


def test_the_working_directory_holds_no_more_files_than_allowed() -> None:
    [result] = run("-for i in $(seq 5000); do : > f$i; done; sleep 9", files=1000)
    assert (result["exit_code"], result["exceeded"]) == (137, "disk")


def test_what_is_too_deep_or_gone_is_not_looked_at(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(105):
        folder /= "d"
        folder.mkdir()
    (folder / "file").write_bytes(bytes(10000))
    (tmp_path / "link").symlink_to("/")
    use = usage(tmp_path, Limits())
    assert use.hidden
    assert use.number < 120
    assert not usage(tmp_path, Limits(files=10)).hidden


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400])
@pytest.mark.parametrize("path", [".", "d", "d/e"])
def test_whatever_a_folder_forbids_counts(no_root: Path, path: str, mode: int) -> None:
    folder = no_root / "d/e"
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(bytes(100_000))
    (no_root / path).chmod(mode)
    use = usage(no_root, Limits())
    assert (use.size > 100_000, use.number) == (True, 3)


def test_files_and_processes_are_bounded_as_asked_for() -> None:
    show = "ulimit -n; ulimit -f; ulimit -t; ulimit -u; ulimit -c"
    asked: dict[str, Any] = {
        "open_files": 99,
        "file_size": mib(3),
        "cpu_time": 7.0,
        "processes": 55,
    }
    [result] = run(show, **asked)
    assert result["stdout"].split() == ["99", "3072", "7", "55", "0"]
    [result] = run("head -c 5M /dev/zero > f; stat -c %s f", file_size=mib(3))
    assert result["stdout"] == str(mib(3))


@grouped
def test_threads_count_as_processes() -> None:
    threads = (
        "python3 -c 'import threading, time\ntry:\n  for n in range(99):\n"
        "    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()\n"
        "except RuntimeError: print(n)'"
    )
    [result] = run(threads, processes=40)
    assert 20 < int(result["stdout"]) < 41


def test_scratch_folders_have_the_size_asked_for() -> None:
    [result] = run("df -B1 --output=size /tmp /dev/shm | tail -n 2", scratch=mib(7))
    assert result["stdout"].split() == [str(mib(7))] * 2


def test_the_server_reports_the_limits() -> None:
    async def scenario() -> dict[str, Any]:
        limits: dict[str, Any] = {"memory": mib(77), "disk": mib(88), "processes": 99, "slots": 3}
        async with running(**limits) as client:
            reported: dict[str, Any] = (await client.get("/specifications/")).json()
            return reported

    container = asyncio.run(scenario())["container"]
    assert container["memory"] == {"ram": mib(77), "swap": 0, "storage": mib(88)}
    assert (container["process"], container["count"]) == (99, 3)


def test_who_waited_longest_is_served_first() -> None:
    async def scenario() -> list[str]:
        async with running(slots=1, patience=30) as client:
            order: list[str] = []

            async def one(number: int) -> None:
                answer = await ask(client, f"echo {number}; sleep 0.02")
                order.append(answer.json()["execution"][0]["stdout"])

            first = asyncio.ensure_future(ask(client, "sleep 0.5"))
            await asyncio.sleep(0.1)
            waiting: list[asyncio.Future[None]] = []
            for number in range(8):
                waiting.append(asyncio.ensure_future(one(number)))
                await asyncio.sleep(0.02)
            await asyncio.gather(first, *waiting)
            return order

    assert asyncio.run(scenario()) == [str(number) for number in range(8)]


def test_a_queue_that_is_full_takes_nobody() -> None:
    async def scenario() -> None:
        async with running(slots=1, patience=30, queue=2) as client:
            tasks = [asyncio.ensure_future(ask(client, "sleep 0.7")) for _ in range(6)]
            answers = await asyncio.gather(*tasks)
            assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 3
            refused = [answer for answer in answers if answer.status_code == 503]
            assert {answer.headers["retry-after"] for answer in refused} == {"1"}

    asyncio.run(scenario())


def test_the_network_is_there_only_by_name() -> None:
    show = "readlink /proc/self/ns/net; ls /etc/resolv.conf"
    without, with_network = (run(f"-{show}", network=network)[0] for network in (False, True))
    assert without["stdout"] != with_network["stdout"]


@pytest.mark.parametrize(
    ("isolator", "text"),
    [
        (Bubblewrap("b", filter=b"x"), "memory, processor time, disk space are only looked"),
        (Bubblewrap("b"), "no filter of system calls"),
        (Bubblewrap("b", network=True), "can use the network"),
        (Unisolated(), "Processes are not bounded"),
        (Bubblewrap("b", mounts=GROUPS), "Each request may use 1024 MiB of memory"),
    ],
)
def test_the_server_says_what_bounds_and_what_is_unguarded(isolator: Isolator, text: str) -> None:
    assert text in isolator.guards(Limits())


@grouped
def test_the_server_says_that_groups_are_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    text = probe("none", tmp_path).guards(Limits())
    assert "Control groups (version" in text
    assert "bound memory" in text


def test_groups_of_both_versions_are_found_where_they_are_mounted(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "user/shell").mkdir(parents=True)
    for folder in (top, top / "user", top / "user/shell"):
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    old = tmp_path / "old"
    (old / "inner").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("3:cpu,memory:/box/inner\n0::/user/shell\n")
    (tmp_path / "mountinfo").write_text(
        f"1 1 0:1 / {top} rw - cgroup2 cgroup2 rw\n1 1 0:1 /box {old} rw - cgroup x rw,cpu,memory\n"
    )
    found = list(cgroups.candidates(tmp_path))
    assert [(each.version, each.folders["memory"]) for each in found] == [
        (2, top / "user/shell"),
        (2, top / "user"),
        (2, top),
        (1, old / "inner"),
    ]
    assert list(cgroups.candidates(tmp_path / "nowhere")) == []


def test_places_where_groups_can_not_be_made_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"  # makes folders, as any file system, and has no files in them
    folder.mkdir()
    mounts = [
        cgroups.Mounts(version, dict.fromkeys(("memory", "pids"), place))
        for version in (1, 2)
        for place in (folder, tmp_path / "missing")
    ]
    monkeypatch.setattr(cgroups, "candidates", lambda _: iter(mounts))
    assert cgroups.find(Limits()) is None
    assert [*folder.iterdir()] == []


def test_bounds_that_a_kernel_does_not_have_are_asked_for_once(tmp_path: Path) -> None:
    groups = cgroups.Groups(cgroups.Mounts(1, {"memory": tmp_path}), Limits())
    groups.open()
    first, second = groups.make(), groups.make()
    assert groups._settings == {"memory": {}}
    for group in (first, second):
        group.remove()
        group.remove()  # which is no mistake
    groups.close()
    assert [*tmp_path.iterdir()] == []


def test_a_group_that_can_not_be_bounded_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    groups = cgroups.Groups(cgroups.Mounts(2, {"memory": tmp_path, "pids": tmp_path}), Limits())
    groups.folders["memory"].mkdir()
    monkeypatch.setattr(cgroups, "write", refuse)
    with pytest.raises(PermissionError):
        groups.make()
    groups.close()
    assert [*tmp_path.iterdir()] == []


def test_a_group_is_removed_when_the_kernel_lets_go_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("soon", "never"):
        (tmp_path / name / "process").mkdir(parents=True)
    timer = threading.Timer(0.1, (tmp_path / "soon/process").rmdir)
    timer.start()
    cgroups.remove(tmp_path / "soon")
    timer.join()
    monkeypatch.setattr(cgroups, "GRACE", 0.05)
    cgroups.remove(tmp_path / "never")
    assert [path.name for path in tmp_path.iterdir()] == ["never"]


def test_bounds_of_version_2_are_enabled_where_they_are_not(tmp_path: Path) -> None:
    control = tmp_path / "cgroup.subtree_control"
    for before, after in (("cpu memory pids\n", "cpu memory pids\n"), ("cpu memory\n", "+pids")):
        control.write_text(before)
        cgroups.enable(tmp_path)
        assert control.read_text() == after


def test_what_a_group_of_version_2_tells(tmp_path: Path) -> None:
    group = cgroups.Group(2, dict.fromkeys(("memory", "pids"), tmp_path))
    assert (group.killed(), group.cpu_time()) == (False, None)
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
    assert group.cpu_time() == 1.5
    events = tmp_path / "memory.events"
    killed: list[bool] = []
    for kills in (0, 1, 1, 3):
        events.write_text(f"low 0\noom 9\noom_kill {kills}\n")
        killed.append(group.killed())
    assert killed == [False, True, False, True]
    events.write_text("oom_kill many\n")
    assert not group.killed()
    assert not cgroups.Group(1, {"pids": tmp_path}).killed()


def test_no_group_bounds_the_memory_of_a_process_that_is_gone(tmp_path: Path) -> None:
    assert cgroups.memory_group(tmp_path / "gone") is None


def test_a_watch_survives_what_it_can_not_read(tmp_path: Path) -> None:
    class Nothing:
        group = None
        home = tmp_path
        pid = 2**22 + 1

    watch = Watch(Nothing(), Limits())  # type: ignore[arg-type]
    assert watch.exceeded() is None


def test_a_kernel_without_filters_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o711)
    whole = isolation.trial
    monkeypatch.setattr(
        isolation, "trial", lambda each, work: "no" if each.filter else whole(each, work)
    )
    folder = tmp_path / "x"
    folder.mkdir(mode=0o711)
    found = probe("bubblewrap", folder)
    assert isinstance(found, Bubblewrap)
    assert found.filter is None
