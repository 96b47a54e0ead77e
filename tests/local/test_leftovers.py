"""After many hostile requests, and after the end of a server however it comes, nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sandbox_api.local import LocalServer, cgroups
from sandbox_api.local.isolation import OPTIONS
from sandbox_api.local.limits import Limits, default_warm

from .conftest import Client, archive, pid, processes, special
from .public import wait_for

# How many requests, by how many clients. They take about 13 s on two cores, if they have
# nothing else to do.
REQUESTS, CLIENTS = 1000, 8

# No other process sleeps for as long.
NAP = 7654321

HOSTILE: list[dict[str, Any]] = [
    {"commands": [f"sleep {NAP} & setsid sleep {NAP} &"]},
    {"commands": [f"for i in 1 2 3 4 5; do (setsid sleep {NAP} &) & done; sleep {NAP} & exit"]},
    {"commands": [{"command": f"-sleep {NAP} & kill -STOP $! $$", "timeout": 0.02}]},
    {"commands": [{"command": f"-trap '' TERM; sleep {NAP}", "timeout": 0.02}, "true"]},
    {"commands": ["kill -9 -1", "true"]},
    {"commands": ["-kill -9 1; kill -STOP 1", "exit 3"], "result_path": "none"},
    {"commands": ["mkdir -p a/b/c; touch a/b/c/d; chmod 0 a/b a"], "save": True},
    {"commands": ["mkfifo p; ln -s / l; ln -s /proc/1/fd x"], "result_path": "l"},
    {"commands": ["printf '1 0\\n' > /proc/1/fd/101; exec >&-; exec 2>&-"]},
    {"commands": ["head -c 300000 /dev/zero; yes > /dev/stderr & sleep 0.02"]},
    {"commands": ["head -c 5000000 /dev/zero > /tmp/x; cp /tmp/x /dev/shm; exit 7"]},
    {"commands": ["for i in $(seq 40); do : > f$i & done"], "environ": {"a b": "c"}},
    {"commands": ["true"], "environment": "../../etc/passwd"},
    {"commands": []},
]
UPLOADS = [
    b"nonsense",
    archive(("../x", b"x")),
    archive(special("l", b"2", "/etc")),
    archive(special("d", b"5"), ("d/f", b"text")),
]


class State(NamedTuple):
    """What there is of a server."""

    descriptors: int
    children: int
    inside: int
    mounts: int
    homes: int
    controls: int
    groups: int


def state(server: int, folder: Path) -> State:
    """Return what there is of a server."""
    family = descendants(server)
    mounts = {
        line
        for pid in (os.getpid(), server)
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        # Those are of containers, which other tests may run meanwhile.
        if "/overlay" not in line and " nsfs " not in line
    }
    return State(
        len(os.listdir(f"/proc/{server}/fd")),
        len(Path(f"/proc/{server}/task/{server}/children").read_text().split()),
        len(family),
        len(mounts),
        len(list(folder.glob("sandbox-work-*/home-*"))),
        sum(len(list(path.iterdir())) for path in controls(server)),
        sum(len([each for each in path.iterdir() if each.is_dir()]) for path in groups(server)),
    )


def descendants(root: int) -> list[int]:
    """Return the ids of the processes that descend from one."""
    found: list[int] = []
    todo = [root]
    while todo:
        pid = todo.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                todo += map(int, task.read_text().split())
            except OSError:
                continue
        found.append(pid)
    return found[1:]


def controls(server: int) -> list[Path]:
    """Return the folders in memory of a server, which its boxes have mounted."""
    names: set[str] = set()
    for number in descendants(server):
        try:
            text = Path(f"/proc/{number}/mountinfo").read_text()
        except OSError:
            continue
        fields = [line.split() for line in text.splitlines()]
        names |= {field[3].split("/")[1] for field in fields if field[4] == "/run/sandbox"}
    found = [Path("/dev/shm") / name for name in names]
    return [path for path in found if path.is_dir()]


def groups(server: int) -> list[Path]:
    """Return the places of the control groups of a server."""
    mounts = cgroups.find(Limits())
    folders = set(mounts.folders.values()) if mounts else set()
    return [path for folder in folders for path in folder.glob(f"sandbox-{server}-*")]


def settled(client: Client) -> State:
    """Return what there is of a server when it has its idle boxes and nothing else to do."""
    server = pid(client)
    last, since = state(server, client.folder), time.monotonic()
    end = since + 30
    while time.monotonic() < since + 0.7:
        assert time.monotonic() < end, last
        time.sleep(0.05)
        now = state(server, client.folder)
        if now != last or now.homes != default_warm():
            last, since = now, time.monotonic()
    return last


def test_a_thousand_hostile_requests_leave_nothing(own: Client) -> None:
    own.run("true", save=True)
    # What is made once, as threads and what they need, is made by now.
    hostile(own, 40)
    before = settled(own)
    hostile(own, REQUESTS)
    assert settled(own) == before
    assert processes(f"sleep\0{NAP}") == []
    assert own.output("echo alive") == "alive"


def hostile(own: Client, number: int) -> None:
    """Send hostile requests, some at once."""

    def work(first: int) -> None:
        with Client(own.server) as client:
            for index in range(first, number, CLIENTS):
                config = dict(HOSTILE[index % len(HOSTILE)])
                upload = UPLOADS[index % len(UPLOADS)] if index % 5 == 0 else None
                response = client.ask(*config.pop("commands"), upload=upload, **config)
                assert response.status_code in (200, 400, 404, 503), response.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_end_of_a_server_leaves_nothing(own: Client, end: signal.Signals) -> None:
    own.run("true")
    settled(own)
    server = pid(own)
    places = [*groups(server), *controls(server)]
    family = descendants(server)
    assert places
    assert len(family) > 2 * default_warm()
    os.kill(server, end)
    wait_for(lambda: not any(path.exists() for path in places))
    wait_for(lambda: not any(running(each) for each in family))


def test_the_end_of_a_server_that_starts_sandboxes_leaves_none_of_them() -> None:
    folders: list[Path] = []
    for delay in range(12):
        server = LocalServer()
        with Client(server) as client, ThreadPoolExecutor(2) as pool:
            folders.append(client.folder)
            client.get("/usages/")
            if not delay:
                # There is one that is ready, so that whoever looks for them finds some.
                wait_for(lambda: orphans(folders))
            # Each needs a new one, and some are being built when the end comes.
            asked = [pool.submit(attempt, server) for _ in range(2)]
            time.sleep(delay / 1000)
            os.kill(pid(client), signal.SIGKILL)
            for task in asked:
                task.result()
        server.stop()
    wait_for(lambda: not orphans(folders))


def attempt(server: LocalServer) -> None:
    """Send a request to a server that may be gone before it answers."""
    body = b'config={"commands": ["true"]}'
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(server.url.removeprefix("unix://"))
        connection.sendall(
            b"POST /execute/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b" % (len(body), body)
        )
        connection.recv(65536)


def orphans(folders: list[Path]) -> list[int]:
    """Return the processes that build or watch sandboxes below folders, of servers that ended."""
    found: list[int] = []
    for number in processes(f"--args\0{OPTIONS}\0--\0/bin/bash"):
        with contextlib.suppress(OSError):
            # That it is deleted by now is told behind the path.
            if any(folder in Path(f"/proc/{number}/cwd").readlink().parents for folder in folders):
                found.append(number)
    return found


def running(number: int) -> bool:
    """Tell whether a process runs."""
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
