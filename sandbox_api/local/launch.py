"""Start the processes that a server asks for. Run as a script, by `launcher`.

Here is little that has to be copied for a new process, it has the account already that commands
run as. Nothing of the package is imported, for that account need not be able to read it.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

SIZE = 65536
# Above all that are open here.
FIRST = 100


def main(server: socket.socket, account: int | None) -> None:
    """Answer requests until there is nobody any more who could make one."""
    if account is not None:
        os.setgroups([])
        os.setresgid(account, account, account)
        os.setresuid(account, account, account)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.set_inheritable(False)
    # The processes that were started, by descriptors of them.
    started: dict[int, int] = {}
    try:
        serve(server, started)
    except ConnectionError:
        pass
    finally:
        # They end with this process, but not those that are just building a sandbox: bubblewrap's
        # inner process would wait for the outer one for ever.
        for pid in started.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def serve(server: socket.socket, started: dict[int, int]) -> None:
    """Answer requests, and bury what was started when it has ended."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in started:
                os.waitid(os.P_PIDFD, ready, os.WEXITED)
                poll.unregister(ready)
                os.close(ready)
                del started[ready]
                continue
            text, descriptors, _, _ = socket.recv_fds(server, SIZE, 16)
            if not text:
                return
            if new := answer(server, json.loads(text), descriptors, nothing):
                pid, pidfd = new
                started[pidfd] = pid
                poll.register(pidfd, select.POLLIN)


def answer(
    server: socket.socket, wanted: dict[str, list[str]], descriptors: list[int], nothing: int
) -> tuple[int, int] | None:
    """Start a process, and send its id and a descriptor of it, or why there is none."""
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        pid = start(wanted, descriptors, nothing)
    except OSError as error:
        server.send(str(error).encode())
        return None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    # Until it is buried, its number is no other's.
    pidfd = os.pidfd_open(pid)
    socket.send_fds(server, [b"%d" % pid], [pidfd])
    return pid, pidfd


def start(wanted: dict[str, list[str]], descriptors: list[int], nothing: int) -> int:
    """Start a process; its output is the last descriptor, the others get numbers from FIRST on."""
    os.chdir(wanted["folder"][0])
    *others, output = descriptors
    actions = [(os.POSIX_SPAWN_DUP2, nothing, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, one, FIRST + index) for index, one in enumerate(others)]
    return os.posix_spawn(
        wanted["command"][0],
        wanted["command"],
        dict(pair.split("=", 1) for pair in wanted["environ"]),
        file_actions=actions,
        setsid=True,
        setsigdef=set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP},
    )


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]) if len(sys.argv) > 2 else None)
