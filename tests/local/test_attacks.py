"""What commands may try against the host, the server and each other, one test an attempt.

Attempts with system calls are in test_seccomp, with archives in test_archives, with result files in
test_results, with namespaces, time-outs and the driver in test_isolation, with memory, processor
time and disk in test_limits, and with requests in test_http and test_bounds.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import Client, archive, processes
from .public import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def unharmed(client: Client) -> Iterator[None]:
    """See after each attack that the server answers and that nothing is left."""
    yield
    assert client.output("echo alive") == "alive"
    wait_for(lambda: client.left() == [])


@pytest.fixture
def mark() -> str:
    """Return a number of seconds that no other process sleeps for."""
    return f"{uuid.uuid4().int % 10**9 + 10**6}"


DRIVER = Path(__file__).parents[2] / "sandbox_api/local/driver.sh"

REFUSED = r"denied|not permitted|Read-only|No such file|Invalid|cannot|busy|superuser|exceeded"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("echo x > /run/sandbox/driver", id="rewrite the driver"),
        pytest.param("echo true > /run/sandbox/command", id="write the next command"),
        pytest.param("rm -f /run/sandbox/command", id="remove the commands"),
        pytest.param("chmod 777 /run/sandbox", id="open the control folder"),
        pytest.param("mv /run/sandbox /tmp/x", id="move the control folder"),
        pytest.param("rmdir /home/student", id="remove the working directory"),
        pytest.param("mv /home/student /tmp/x", id="move the working directory"),
        pytest.param("ln /usr/bin/env hard", id="keep a hard link to a program of the host"),
        pytest.param("echo x >> /usr/bin/env", id="change a program of the host"),
        pytest.param("echo x >> /etc/passwd", id="add an account"),
        pytest.param("echo x > /etc/ld.so.preload", id="preload a library everywhere"),
        pytest.param("mount -o remount,rw /", id="make the root writable"),
        pytest.param("mount --bind / /tmp", id="mount the root again"),
        pytest.param("mknod sda b 8 0", id="make a disk device"),
        pytest.param("mknod mem c 1 1", id="make a memory device"),
        pytest.param("cat /dev/mem /dev/kmem /dev/sda /dev/vda /dev/kmsg", id="read devices"),
        pytest.param("head -c 1 /proc/1/mem", id="read the memory of the driver"),
        pytest.param("cat /proc/kcore /proc/kallsyms.x", id="read the memory of the kernel"),
        pytest.param("echo -1000 > /proc/self/oom_score_adj", id="be spared when memory is out"),
        pytest.param("echo c > /proc/sysrq-trigger", id="crash the host"),
        pytest.param("echo '|/tmp/x' > /proc/sys/kernel/core_pattern", id="have a core handled"),
        pytest.param("echo 0 > /proc/sys/kernel/randomize_va_space", id="switch off protection"),
        pytest.param("ls /sys/fs/cgroup /sys/kernel", id="see control groups"),
        pytest.param("mkdir /dev/x", id="write to the device folder"),
        pytest.param("truncate -s 900G sparse", id="make a huge sparse file"),
        pytest.param("ulimit -Hn 99999", id="raise the limit on open files"),
        pytest.param("ulimit -Hu 99999", id="raise the limit on processes"),
        pytest.param("ulimit -Hf unlimited", id="raise the limit on file sizes"),
        pytest.param("ulimit -Ht unlimited", id="raise the limit on processor time"),
        pytest.param("chown 0:0 .", id="give a folder to root"),
        pytest.param("chroot /tmp true", id="change the root"),
        pytest.param("nsenter -t 1 -a true", id="enter other namespaces"),
        pytest.param("unshare -Ur true", id="become root in a user namespace"),
        pytest.param("nice -n -10 true 2>&1 | grep cannot", id="get a higher priority"),
        pytest.param("date -s 2000-01-01", id="set the clock"),
        pytest.param("hostname evil", id="rename the host"),
        pytest.param("su -c id < /dev/null; false", id="become root with su"),
        pytest.param("ls /root /home/user /var/log /boot /mnt /opt /srv", id="look around"),
        pytest.param("cat /proc/1/root/etc/shadow", id="read through the root of the driver"),
        pytest.param("ls /proc/1/cwd/../../../root", id="leave by the folder of the driver"),
    ],
)
def test_it_is_refused_to(client: Client, command: str) -> None:
    output = client.output(f"({command}) 2>&1; echo done $?")
    code = int(re.findall(r"done (\d+)", output)[-1])
    if "grep cannot" in command:
        assert "cannot" in output
        return
    assert code != 0
    assert code == 1 or re.search(REFUSED, output), output


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("kill -9 1", id="kill the driver"),
        pytest.param("kill -STOP 1", id="stop the driver"),
        pytest.param("kill -TERM 1; kill -HUP 1; kill -INT 1; kill -QUIT 1", id="end the driver"),
        pytest.param("kill -CHLD 1; kill -CONT 1; kill -ALRM 1; kill -PIPE 1", id="confuse it"),
        pytest.param("for n in $(seq 34 64); do kill -$n 1; done", id="send real-time signals"),
        pytest.param("kill -9 -1", id="kill everything"),
        pytest.param("kill -STOP -1", id="stop everything"),
        pytest.param("kill -9 0", id="kill its own group"),
        pytest.param("kill -USR1 1; sleep 1", id="ask the driver to kill"),
        pytest.param("kill -9 $PPID $$", id="kill its shell"),
        pytest.param("exec 2>&- 1>&- 0>&-; sleep 0.01", id="close all descriptors"),
        pytest.param("for fd in /proc/1/fd/*; do : > $fd & done; sleep 0.1", id="open its pipes"),
        pytest.param("cat /proc/1/fd/100 & sleep 0.1; kill %1", id="read the orders"),
        pytest.param("yes 1 > /proc/1/fd/101 & sleep 0.1", id="flood the answers"),
        pytest.param("printf '1 0\\n1 0\\n2 0\\n3 0\\n' > /proc/1/fd/101", id="forge answers"),
        pytest.param("prlimit --pid 1 --nofile=3", id="take the driver's descriptors"),
        pytest.param("prlimit --pid 1 --nproc=1", id="take the driver's processes"),
        pytest.param("prlimit --pid 1 --cpu=1", id="take the driver's time"),
        pytest.param("prlimit --pid 1 --as=1000", id="take the driver's memory"),
        pytest.param("renice 19 1; taskset -p 1 1; chrt -i -p 0 1", id="slow the driver down"),
        pytest.param("cd /; rm -rf /* 2> /dev/null", id="remove everything"),
        pytest.param("rm -rf ~; mkdir -p ~", id="remove its home"),
        pytest.param("chmod 0 . /tmp /dev/shm", id="close its folders"),
        pytest.param("for i in $(seq 300); do (exit 0) & done", id="leave zombies"),
        pytest.param("mkfifo command 1.out; ln -s / 1.err", id="make files like the driver's"),
    ],
)
def test_the_request_is_answered_after_trying_to(client: Client, command: str) -> None:
    more = {"command": "-true", "timeout": 1}
    results = client.run({"command": f"-{command}", "timeout": 1.5}, *[more] * 2)["execution"]
    assert all(-2 <= result["exit_code"] <= 255 for result in results)
    # It did not grow longer, nor did a command get another's place.
    assert [result["command"] for result in results[1:]] == ["true", "true"][: len(results) - 1]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("sleep {} &", id="a background process"),
        pytest.param("setsid -f sleep {}", id="a session"),
        pytest.param("nohup setsid sh -c 'trap : TERM HUP INT; sleep {}' &", id="deaf ears"),
        pytest.param("(( sleep {} & ) & )", id="a double fork"),
        pytest.param("sleep {} & kill -STOP $!", id="a stopped process"),
        pytest.param("python3 -c 'import os, time\nif not os.fork(): time.sleep({})'", id="a fork"),
        pytest.param("coproc sleep {}; disown -a", id="a coprocess"),
        pytest.param("exec -a kworker sleep {} &", id="another name"),
    ],
)
def test_nothing_outlives_the_request_by(client: Client, command: str, mark: str) -> None:
    client.run(f"-{command.replace('{}', mark)}")
    assert processes(mark) == []


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"LD_PRELOAD": "/home/student/evil.so"}, id="a preloaded library"),
        pytest.param({"LD_LIBRARY_PATH": "/home/student"}, id="libraries of its own"),
        pytest.param({"BASH_ENV": "/home/student/f", "ENV": "/home/student/f"}, id="a start file"),
        pytest.param({"BASH_FUNC_true%%": "() { exit 9; }"}, id="a function"),
        pytest.param({"BASH_FUNC_wait%%": "() { kill -9 1; }"}, id="a builtin replaced"),
        pytest.param({"SHELLOPTS": "xtrace:noexec"}, id="options of the shell"),
        pytest.param({"BASHOPTS": "extdebug", "POSIXLY_CORRECT": "1"}, id="another shell"),
        pytest.param({"IFS": "/", "PS4": "$(kill -9 1)"}, id="separators and prompts"),
        pytest.param({"PATH": "/nonexistent"}, id="no programs"),
        pytest.param({"TMOUT": "1", "OPTIND": "9", "RANDOM": "1"}, id="numbers"),
        pytest.param({"LC_ALL": "nonsense", "LANG": "tr_TR.UTF-8"}, id="languages"),
        pytest.param({"GCONV_PATH": ".", "LOCPATH": ".", "TZ": "/etc/shadow"}, id="the library"),
        pytest.param({"A" * 100000: "x"}, id="a long name"),
        pytest.param({"x": "y" * 100000}, id="a long value"),
        pytest.param({f"v{n}": "y" * 1000 for n in range(1000)}, id="many"),
    ],
)
def test_the_driver_is_not_bent_by_variables_like(client: Client, environ: Any) -> None:
    results = client.run("-/bin/true", "-/bin/echo x", environ=environ)["execution"]
    assert all(-2 <= result["exit_code"] <= 255 for result in results)


def test_variables_of_the_driver_are_no_others(client: Client) -> None:
    # What it calls its own must reach commands when they are given one of that name.
    names = re.findall(r"\b([a-z]+)(?==|\+=)", DRIVER.read_text())
    names += ["environment", "each", "name", "REPLY", "in", "SHLVL"]
    environ = {name: f"<{name}>" for name in names}
    results = client.run("env -0 | tr '\\0' '\\n'", "env", environ=environ)["execution"]
    for result in results:
        lines = set(result["stdout"].splitlines())
        assert {f"{key}={value}" for key, value in environ.items() if key != "SHLVL"} <= lines


@pytest.mark.parametrize("name", ["x", "x y", "PATH", "LD_DEBUG_OUTPUT", "a.b"])
def test_variables_are_the_same_however_they_are_handed_over(client: Client, name: str) -> None:
    value = "a'b\"c $(id) `id` \\ \n é"
    show = "/usr/bin/env -0 | /usr/bin/tr '\\0\\n' '\\n|'"
    shown = client.output(show, environ={name: value})
    assert f"{name}={value.replace(chr(10), '|')}" in shown.splitlines()
    assert len(shown.splitlines()) <= 9


@pytest.mark.parametrize("more", [{}, {"LC_ALL": "C"}, {"a.b": "1"}])
def test_commands_are_run_wherever_they_look_for_programs(client: Client, more: Any) -> None:
    show = "/bin/echo $PATH"
    assert client.output(show, environ={"PATH": "/nowhere:.", **more}) == "/nowhere:."


def test_a_listening_port_of_the_host_is_out_of_reach(client: Client) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0", "localhost"):
            assert client.run(f": < /dev/tcp/{host}/{port}")["status"] == 1


def test_datagrams_do_not_leave(client: Client) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.3)
        client.run(f"-echo x > /dev/udp/127.0.0.1/{server.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            server.recv(10)


def test_an_abstract_socket_of_the_host_is_out_of_reach(client: Client, mark: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0sandbox-{mark}")
        server.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + 'sandbox-{mark}')"
        assert "refused" in client.output(f'python3 -c "{code}"')


def test_the_servers_own_socket_is_out_of_reach(client: Client) -> None:
    assert client.run(f"ls {client.socket}")["status"] == 2
    assert client.folder.name not in client.output("cat /proc/mounts; env; cat /proc/1/cmdline")


def test_names_are_not_looked_up_outside(client: Client) -> None:
    code = 'import socket; socket.getaddrinfo("example.com", 80)'
    assert "rror" in client.output(f"timeout 5 python3 -c '{code}'")


def test_two_requests_do_not_see_each_other(client: Client, mark: str) -> None:
    client.run(f"echo {mark} | tee secret /tmp/secret /dev/shm/secret; chmod -R 777 . /tmp")
    shown = client.output("cat secret /tmp/secret /dev/shm/secret; ls -A / /home /tmp; ps -ef")
    assert mark not in shown


def test_a_setuid_file_gives_nothing_and_is_not_saved(client: Client) -> None:
    make = "cp /usr/bin/id id; chmod 6755 id; ./id -u"
    answer = client.run(make, save=True)
    assert answer["execution"][0]["stdout"] == "1000"
    again = client.run("stat -c %a id", environment=answer["environment"])
    assert again["execution"][0]["stdout"] == "755"


def test_a_setuid_file_is_out_of_reach_of_others_on_the_host(client: Client) -> None:
    client.run("cp /usr/bin/id x; chmod 4755 x; chmod 777 .")
    [work] = client.folder.glob("sandbox-work-*")
    status = work.stat()
    assert not status.st_mode & 0o007
    assert not status.st_mode & 0o070 or status.st_gid == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs sandboxes as another account")
def test_processes_of_the_sandbox_are_not_roots_on_the_host(client: Client, mark: str) -> None:
    def sleep() -> None:
        with Client(client.server) as own:
            own.run({"command": f"-sleep {mark}", "timeout": 1})

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(sleep)
        wait_for(lambda: processes(f"sleep\0{mark}"))
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes(f"sleep\0{mark}")}
        asked.result()
    assert owners == {65534}


def test_a_program_in_an_upload_gets_no_privileges(client: Client) -> None:
    upload = archive(("run.sh", b"#!/bin/sh\nid -u; cat /etc/shadow\n"))
    output = client.output("chmod 4755 run.sh; ./run.sh", upload=upload)
    assert output.startswith("1000")
    assert "No such file" in output


def test_output_that_is_no_text_does_no_harm(client: Client) -> None:
    [result] = client.run("head -c 100000 /dev/urandom; printf '\\033[2J\\0\\ud800'")["execution"]
    assert result["exit_code"] == 0


def test_a_command_of_control_characters_does_no_harm(client: Client) -> None:
    client.run("-\x01\x02\r\n\x1b[2J\u2028", "-printf 'a\\0b'", "-\n\n", "-", "-   ")


def test_hundreds_of_commands_are_run_in_order(client: Client) -> None:
    commands = [f"echo {number}" for number in range(300)]
    results = client.run(*commands)["execution"]
    assert [result["stdout"] for result in results] == [str(number) for number in range(300)]
