"""What one server and one request may use."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

MIB = 1024 * 1024


def default_slots() -> int:
    """Return how many executions may run at once by default: two a core."""
    return 2 * (os.cpu_count() or 1)


def default_warm() -> int:
    """Return how many sandboxes are kept ready by default: one a core, but not many."""
    return min(os.cpu_count() or 1, 4)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one server. Sizes are in bytes, times in seconds."""

    slots: int = field(default_factory=default_slots)
    """Executions at once."""

    patience: float = 2.0
    """How long a request waits for a slot."""

    queue: int = 256
    """Requests that wait for a slot at once."""

    warm: int = field(default_factory=default_warm)
    """Sandboxes that are started before a request needs them."""

    network: bool = False
    """Whether commands may use the network of the host."""

    run_time: float = 10.0
    """How long all the commands of a request may take together."""

    cpu_time: float = 20.0
    """Processor time that all processes of a request may use together."""

    memory: int = 1024 * MIB
    """Memory of all processes of a request together, files in /tmp and /dev/shm included."""

    processes: int = 256
    """Processes and threads of a request at once."""

    open_files: int = 1024
    """Files that a process may have open."""

    file_size: int = 1024 * MIB
    """Size of a file that a command writes."""

    disk: int = 2048 * MIB
    """Disk space that the working directory may take."""

    files: int = 200_000
    """Files and directories that the working directory may hold."""

    scratch: int = 512 * MIB
    """Size of /tmp, and as much of /dev/shm."""

    config_size: int = 2_621_440
    """Size of the `config` field."""

    upload_size: int = 2048 * MIB
    """Size of a whole request."""

    unpacked_size: int = 2048 * MIB
    """Size of the files that one archive, or a working directory to save, may hold."""

    members: int = 100_000
    """Files and directories that one archive, or a working directory to save, may hold."""

    output_size: int = 16 * MIB
    """What is kept of one command's standard output, and as much of its standard error."""

    request_output_size: int = 64 * MIB
    """What is kept of the output of all commands of a request."""

    result_size: int = 64 * MIB
    """Size of the result file."""

    lifetime: float = 24 * 3600.0
    """How long a saved environment is kept."""
