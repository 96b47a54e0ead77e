from __future__ import annotations

import errno
import os
import platform
import struct
from typing import TYPE_CHECKING

import pytest

from sandbox_api.local import seccomp
from sandbox_api.local.seccomp import ALLOW, DEPENDS, ERROR, KILL, MACHINES, REFUSED

if TYPE_CHECKING:
    from .conftest import Client

REFUSE, ABSENT = ERROR | errno.EPERM, ERROR | errno.ENOSYS
MACHINE = platform.machine()

# Calls made from Python, as the C library's wrappers could refuse them themselves.
CALL = """
import ctypes, errno, sys
number, *arguments = map(int, sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(number, *map(ctypes.c_long, arguments))
print(errno.errorcode[ctypes.get_errno()] if result < 0 else "done")
"""


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Return what the filter says to a call, as the kernel would work it out."""
    code = seccomp.program(machine)
    assert code
    call = {0: number, 4: MACHINES[machine][0] if architecture is None else architecture}
    call |= {16 + 8 * index: value for index, value in enumerate(arguments)}
    steps = list(struct.iter_unpack("<HBBI", code))
    word = at = 0
    while True:
        kind, then, otherwise, value = steps[at]
        at += 1
        if kind == seccomp.RETURN:
            return int(value)
        if kind == seccomp.LOAD:
            word = call.get(value, 0)
            continue
        passed = {
            seccomp.EQUAL: word == value,
            seccomp.AT_LEAST: word >= value,
            seccomp.ANY_BIT: word & value,
        }
        at += then if passed[kind] else otherwise


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_it_should_and_nothing_else(machine: str) -> None:
    column = MACHINES[machine][1]
    refused = {numbers[column] for numbers in REFUSED.values()}
    refused |= {*seccomp.NEWER.values(), *MACHINES[machine][2]}
    depends = {name: numbers[column] for name, numbers in DEPENDS.items()}
    for number in range(600):
        if number in refused:
            assert verdict(machine, number) == REFUSE
        elif number in seccomp.ABSENT.values():
            assert verdict(machine, number) == ABSENT
        elif number not in depends.values():
            assert verdict(machine, number) == ALLOW
    # A thread, a process, and one in a new user namespace.
    assert verdict(machine, depends["clone"], 0x3D0F00) == ALLOW
    assert verdict(machine, depends["clone"], 0x1200011) == ALLOW
    assert verdict(machine, depends["clone"], 0x10000011) == REFUSE
    assert verdict(machine, depends["unshare"], 0x400) == ALLOW
    assert verdict(machine, depends["unshare"], 0x80) == REFUSE
    families = {family: verdict(machine, depends["socket"], family, 1) for family in range(50)}
    allowed = {family for family, value in families.items() if value == ALLOW}
    assert allowed == {1, 2, 10, 16}
    assert verdict(machine, depends["socket"], 16, 3, 12) == ERROR | errno.EAFNOSUPPORT
    assert verdict(machine, depends["ioctl"], 0, 0x5412) == REFUSE
    assert verdict(machine, depends["ioctl"], 0, 0x5401) == ALLOW
    assert verdict(machine, depends["personality"], 0xFFFFFFFF) == ALLOW
    assert verdict(machine, depends["personality"], 0x0040000) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_no_way_around_the_filter(machine: str) -> None:
    other = next(value[0] for name, value in MACHINES.items() if name != machine)
    assert verdict(machine, 1, architecture=other) == KILL
    assert verdict(machine, 1, architecture=0x40000003) == KILL
    if machine == "x86_64":
        assert verdict(machine, seccomp.X32 | 1) == ABSENT


def test_there_is_no_filter_for_an_unknown_machine() -> None:
    assert seccomp.program("vax") is None


@pytest.mark.skipif(MACHINE not in MACHINES, reason="there is no filter for this machine")
@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("keyctl", (0, -3, 0), "EPERM"),
        ("add_key", (0, 0, 0, 0, -3), "EPERM"),
        ("request_key", (0, 0, 0, 0), "EPERM"),
        ("bpf", (0, 0, 0), "EPERM"),
        ("userfaultfd", (1,), "EPERM"),
        ("perf_event_open", (0, 0, -1, -1, 0), "EPERM"),
        ("mount", (0, 0, 0, 0, 0), "EPERM"),
        ("umount2", (0, 0), "EPERM"),
        ("pivot_root", (0, 0), "EPERM"),
        ("fsopen", (0, 0), "EPERM"),
        ("open_tree", (-100, 0, 1), "EPERM"),
        ("move_mount", (0, 0, 0, 0, 0), "EPERM"),
        ("ptrace", (0, 0, 0, 0), "EPERM"),
        ("process_vm_readv", (1, 0, 0, 0, 0, 0), "EPERM"),
        ("process_vm_writev", (1, 0, 0, 0, 0, 0), "EPERM"),
        ("pidfd_getfd", (0, 0, 0), "EPERM"),
        ("kcmp", (1, 1, 0, 0, 0), "EPERM"),
        ("open_by_handle_at", (-100, 0, 0), "EPERM"),
        ("name_to_handle_at", (-100, 0, 0, 0, 0), "EPERM"),
        ("kexec_load", (0, 0, 0, 0), "EPERM"),
        ("init_module", (0, 0, 0), "EPERM"),
        ("finit_module", (0, 0, 0), "EPERM"),
        ("reboot", (0, 0, 0, 0), "EPERM"),
        ("swapon", (0, 0), "EPERM"),
        ("settimeofday", (0, 0), "EPERM"),
        ("sethostname", (0, 0), "EPERM"),
        ("syslog", (3, 0, 0), "EPERM"),
        ("quotactl", (0, 0, 0, 0), "EPERM"),
        ("fanotify_init", (0, 0), "EPERM"),
        ("setns", (0, 0), "EPERM"),
        ("unshare", (0x10000000,), "EPERM"),
        ("clone", (0x10000011, 0, 0, 0, 0), "EPERM"),
        ("clone3", (0, 0), "ENOSYS"),
        ("io_uring_setup", (1, 0), "ENOSYS"),
        ("personality", (0x0040000,), "EPERM"),
        ("socket", (40, 1, 0), "EAFNOSUPPORT"),
        ("socket", (38, 5, 0), "EAFNOSUPPORT"),
        ("socket", (17, 3, 0), "EAFNOSUPPORT"),
        ("socket", (16, 3, 12), "EAFNOSUPPORT"),
    ],
)
def test_the_kernel_refuses_the_call(
    client: Client, name: str, arguments: tuple[int, ...], result: str
) -> None:
    named = {**REFUSED, **DEPENDS}
    newer = {**seccomp.NEWER, **seccomp.ABSENT}
    number = named[name][MACHINES[MACHINE][1]] if name in named else newer[name]
    words = " ".join(map(str, (number, *arguments)))
    assert client.output(f"python3 -c '{CALL}' {words}") == result


def test_a_typed_command_does_not_reach_the_terminal_of_the_server(client: Client) -> None:
    inject = "import fcntl, os; fcntl.ioctl(os.openpty()[1], 0x5412, b'x')"
    assert "Operation not permitted" in client.output(f'python3 -c "{inject}"')


@pytest.mark.skipif(MACHINE != "x86_64", reason="other machines have no second numbering")
def test_the_second_numbering_of_calls_is_no_way_around(client: Client) -> None:
    assert client.output(f"python3 -c '{CALL}' {0x40000000 | 101}") == "ENOSYS"


def test_filters_stay_when_a_program_is_replaced_and_in_its_children(client: Client) -> None:
    show = "grep ^Seccomp: /proc/self/status"
    assert client.output(f"(exec sh -c '{show}') & wait").split()[-1] == "2"


def test_ordinary_programs_do_not_notice(client: Client) -> None:
    threads = (
        "import threading, socket, subprocess, multiprocessing, asyncio\n"
        "threading.Thread(target=print, args=(1,)).start()\n"
        'a, b = socket.socketpair(); a.send(b"2"); print(b.recv(1).decode())\n'
        'print(subprocess.run(["echo", "3"], capture_output=True, text=True).stdout.strip())\n'
        "print(asyncio.run(asyncio.sleep(0, 4)))\n"
        "with multiprocessing.Pool(2) as pool: print(sum(pool.map(int, [2, 3])))"
    )
    assert client.output(f"python3 -c '{threads}'").split() == list("12345")
    assert os.name == "posix"
