"""Start the processes that a server asks for. Run as a script, by `launcher`.

Here is little that has to be copied for a new process, it has the account already that commands
run as. Nothing of the package is imported, for that account need not be able to read it.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys

LIBC = ctypes.CDLL(None)

SIZE = 65536

# Of Linux's <sched.h>, <sys/mount.h> and <linux/mount.h>.
NEW_MOUNTS = 0x20000
BIND, REC, SLAVE, DETACH = 1 << 12, 1 << 14, 1 << 19, 2
SET_ATTRIBUTES, HERE, RECURSIVE = 442, -100, 0x8000
READ_ONLY, NO_SUID, NO_DEVICES = 1, 2, 4
# Of <sched.h>, <sys/prctl.h> and <linux/capability.h>.
NETWORK = 0x40000000
KEEP, CAPABILITIES, ADMIN = 8, 0x20080522, 1 << 21


def main(server: socket.socket, account: int | None, *, spares: bool) -> None:
    """Answer requests until there is nobody any more who could make one.

    The first is for mounts, of which each has a path and another where it is to be shown, and for a
    folder that is to be in memory with what is shown in it; it is answered by whether that was
    done, and what is started can be put into networks. In the end, kill what was started, unless it
    is to be spared.
    """
    mounts, memory = json.loads(server.recv(SIZE) or b'[[], ""]')
    able = False
    if account is not None:
        able = look_away(mounts, memory) and not LIBC.prctl(KEEP, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(account, account, account)
        os.setresuid(account, account, account)
        able = able and keep_one()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.set_inheritable(False)
    # The processes that were started, by descriptors of them.
    started: dict[int, int] = {}
    try:
        server.send(b"%d" % able)
        serve(server, started)
    except ConnectionError:
        pass
    finally:
        for pid in () if spares else started.values():
            kill(pid)


def keep_one() -> bool:
    """Keep no right of root's but the one to enter networks, and tell whether it is there.

    What is started has no part in it: the kernel takes all from an account that runs a program.
    """
    wanted = struct.pack("6I", ADMIN, ADMIN, 0, 0, 0, 0)
    return not LIBC.capset(struct.pack("Ii", CAPABILITIES, 0), wanted)


def look_away(mounts: list[list[str]], memory: str) -> bool:
    """Have mounts of this process's own, if it may, and tell whether all that are wanted are made.

    For each mount of a sandbox, bubblewrap reads a list of all. What is mounted here, it has to
    mount no more, what is copied into memory is no mount at all, and most of the host's mounts are
    in /sys, of which no sandbox has anything.
    """
    # What is mounted here must not be so on the host.
    if LIBC.unshare(NEW_MOUNTS) or LIBC.mount(None, b"/", None, REC | SLAVE, None):
        return False
    LIBC.umount2(b"/sys", DETACH)
    targets: list[str] = []
    if memory:
        copied = [source for source, target in mounts if target.startswith(f"{memory}/")]
        if not hold(memory, copied):
            return False
        mounts = [each for each in mounts if each[0] not in copied]
        targets.append(memory)
    for source, target in mounts:
        if LIBC.mount(os.fsencode(source), os.fsencode(target), None, BIND | REC, None):
            return False
        targets.append(target)
    # Kernels before 5.12 do not know that, and leave it to bubblewrap, which looks in any case.
    attributes = struct.pack("4Q", READ_ONLY | NO_SUID | NO_DEVICES, 0, 0, 0)
    for target in targets:
        where = ctypes.c_long(HERE), os.fsencode(target), ctypes.c_long(RECURSIVE)
        LIBC.syscall(
            ctypes.c_long(SET_ATTRIBUTES), *where, attributes, ctypes.c_long(len(attributes))
        )
    return True


def hold(folder: str, sources: list[str]) -> bool:
    """Have a folder in memory, and in it copies of others, and tell whether that succeeded.

    What is shown in it has the same path below another root, as /etc.
    """
    path, shown = os.fsencode(folder), f"/{os.path.basename(folder)}"  # noqa: PTH119
    with contextlib.suppress(OSError):
        # From here, what it has now can be seen when something is mounted there.
        os.chdir(folder)
        if LIBC.mount(b"tmpfs", path, b"tmpfs", NO_SUID | NO_DEVICES, b"mode=755"):
            return False
        # By a descriptor: where the server was killed, its folders are removed meanwhile, and cp
        # would make them again.
        inside = os.open(folder, os.O_PATH)
        os.set_inheritable(inside, True)
        place = f"/proc/self/fd/{inside}/"
        copied = run("cp", "-a", "--", ".", place)
        if copied and sources:
            os.chdir(shown)
            names = [os.path.relpath(source, shown) for source in sources]
            copied = run("cp", "-a", "--parents", "--", *names, place)
        os.close(inside)
        if copied:
            return True
        LIBC.umount2(path, DETACH)
    return False


def run(*command: str) -> bool:
    """Run a command, and tell whether it succeeded."""
    try:
        pid = os.posix_spawnp(command[0], command, os.environ)
    except OSError:  # there is none
        return False
    return os.waitpid(pid, 0)[1] == 0


def serve(server: socket.socket, started: dict[int, int]) -> None:
    """Answer each request with a process id and a descriptor of it, or why there is none.

    Bury what was started when it has ended.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in started:
                poll.unregister(ready)
                kill(started[ready])
                os.waitid(os.P_PIDFD, ready, os.WEXITED)
                os.close(ready)
                del started[ready]
                continue
            text, descriptors, _, _ = socket.recv_fds(server, SIZE, 16)
            if not text:
                return
            try:
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                pid = start(json.loads(text), descriptors, nothing)
            except OSError as error:
                server.send(str(error).encode())
                continue
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            # Until it is buried, its number is no other's.
            pidfd = os.pidfd_open(pid)
            started[pidfd] = pid
            poll.register(pidfd, select.POLLIN)
            socket.send_fds(server, [b"%d" % pid], [pidfd])


def kill(pid: int) -> None:
    """Kill a process that was started, which may be dead, and what is building a sandbox for it.

    Else bubblewrap's inner process would wait for ever for an outer one that was killed.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def start(wanted: dict[str, list[str]], descriptors: list[int], nothing: int) -> int:
    """Start a process that has the descriptors under the numbers that are wanted for them.

    If one more is given, it is of a network, which the process is in.
    """
    os.chdir(wanted["folder"][0])
    numbers = [int(number) for number in wanted["numbers"]]
    # This process stays there, which is of no use to it, until it enters the next.
    for network in descriptors[len(numbers) :]:
        if LIBC.setns(network, NETWORK):
            raise OSError("its network cannot be entered")
    actions = [(os.POSIX_SPAWN_DUP2, nothing, 0)]
    # The numbers are those of standard streams, or above all that are open here.
    actions += [
        (os.POSIX_SPAWN_DUP2, descriptor, number)
        for number, descriptor in zip(numbers, descriptors, strict=False)
    ]
    # None are wanted other than those of this process, which are the server's.
    given = wanted.get("environ")
    return os.posix_spawn(
        wanted["command"][0],
        wanted["command"],
        os.environ if given is None else dict(pair.split("=", 1) for pair in given),
        file_actions=actions,
        setsid=True,
        setsigdef=set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP},
    )


if __name__ == "__main__":
    number, name, spares = sys.argv[1:]
    main(
        socket.socket(fileno=int(number)),
        int(name) if name else None,
        spares=spares == "spares",
    )
