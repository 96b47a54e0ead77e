"""Kill what commands started that nothing isolates."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_session(leader: int, home: Path) -> None:
    """Kill what a process that leads a session started, as far as that can be found."""
    # Several times, for a process may fork while the list is read.
    for _ in range(10):
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        found = [pid for pid in pids if pid != leader and belongs(pid, leader, home)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break


def belongs(pid: int, leader: int, home: Path) -> bool:
    """Tell whether a process is in the session of leader, or was given the home of a sandbox."""
    with contextlib.suppress(OSError):
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return os.getsid(pid) == leader or b"HOME=%b" % os.fsencode(home) in environ
    return False
