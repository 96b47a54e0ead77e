"""Describe the machine: what it is, how busy it is, and what sandboxes find on it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from sandbox_client import SERVER_VERSION
from sandbox_client.models import (
    ContainerCpu,
    ContainerIo,
    ContainerMemory,
    ContainerSpecifications,
    CpuUsage,
    HostCpu,
    HostMemory,
    HostSpecifications,
    IoUsage,
    Libraries,
    LibrariesByKind,
    MemoryUsage,
    NetworkUsage,
    Specifications,
    Usage,
)

from .isolation import PROCESSES

if TYPE_CHECKING:
    from .engine import Engine


# Rates over less than this, in seconds, would be noise.
SHORTEST = 0.5
LIBRARIES_SECONDS = 60.0

# What to run in a sandbox to list each kind; each line of output is a name, a tab and a version.
SYSTEM = (
    r"dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\n' | sed -n 's/^installed\t//p'"
)
PYTHON = """python3 -c '
from importlib.metadata import distributions
for each in distributions():
    print(each.metadata["Name"], each.version, sep="\\t")
'"""
PERL = r"""perl -MFile::Find -e '
for my $top (grep { -d && m{^/} } @INC) {
  find({no_chdir => 1, wanted => sub {
    return unless /\.pm\z/ && open my $file, "<", $_;
    my ($name, $version) = (substr($_, 1 + length $top), "?");
    $name =~ s{/}{::}g; $name =~ s/\.pm\z//;
    while (<$file>) {
      last if /^__END__/;
      if (/VERSION\b[^=\n]*=\s*\D{0,20}?(\d[\w.]*)/) { $version = $1; last }
    }
    print "$name\t$version\n" unless $seen{$name}++;
  }}, $top);
}'"""
C = r"/sbin/ldconfig -p | sed -n 's/.* => //p' | xargs -r readlink -f | sed -n 's/.*\///p'"
PROGRAMS = r"IFS=:; find -L $PATH -maxdepth 1 -type f -executable -printf '%f\n'"


class Monitor:
    """Answers about the machine of an engine."""

    def __init__(self, engine: Engine, work: Path) -> None:
        self._engine = engine
        self._work = work
        self._libraries: Libraries | None = None
        self._lock = asyncio.Lock()
        self._sampled = 0.0
        self._totals: dict[str, dict[str, float]] = {}
        self._rates: dict[str, dict[str, float]] = {}
        self._cpu = 0.0
        self._sample()

    def specifications(self) -> Specifications:
        """Return what the machine is."""
        frequency = cpu_frequency()
        storage = devices()
        return Specifications(
            host=HostSpecifications(
                cpu=HostCpu(
                    core=psutil.cpu_count(logical=False),
                    logical=psutil.cpu_count(),
                    freq_min=frequency[1],
                    freq_max=frequency[2],
                ),
                memory=HostMemory(
                    ram=psutil.virtual_memory().total,
                    swap=psutil.swap_memory().total,
                    storage={device: usage.total for device, usage in storage.items()},
                ),
                docker_version=self._engine.isolator.version,
                sandbox_version=SERVER_VERSION,
            ),
            container=ContainerSpecifications(
                count=self._engine.limits.slots,
                cpu=ContainerCpu(count=psutil.cpu_count() or 1, period=-1, shares=-1, quota=-1),
                memory=ContainerMemory(ram=-1, swap=-1, storage=-1),
                io=ContainerIo(read_iops={}, read_bps={}, write_iops={}, write_bps={}),
                process=PROCESSES if self._engine.isolator.isolates else -1,
                working_dir_device=device_of(self._work),
            ),
        )

    def usage(self) -> Usage:
        """Return how busy the machine is, since the last time that this was asked."""
        self._sample()
        cores = psutil.cpu_count() or 1
        return Usage(
            cpu=CpuUsage(
                frequency=cpu_frequency()[0],
                usage=self._cpu,
                usage_avg=[load / cores for load in os.getloadavg()],
            ),
            memory=MemoryUsage(
                ram=psutil.virtual_memory().used,
                swap=psutil.swap_memory().used,
                storage={device: usage.used for device, usage in devices().items()},
            ),
            io=IoUsage(
                read_iops=self._rates["read_count"],
                read_bps=self._rates["read_bytes"],
                write_iops=self._rates["write_count"],
                write_bps=self._rates["write_bytes"],
            ),
            network=NetworkUsage(
                sent_bytes=self._rates["bytes_sent"][""],
                received_bytes=self._rates["bytes_recv"][""],
                sent_packets=self._rates["packets_sent"][""],
                received_packets=self._rates["packets_recv"][""],
            ),
            process=len(psutil.pids()),
            container=self._engine.busy,
        )

    async def libraries(self) -> Libraries:
        """Return what sandboxes find on the machine; it is looked up once."""
        async with self._lock:
            if self._libraries is None:
                commands = [SYSTEM, PYTHON, PERL, C, PROGRAMS]
                found = await self._engine.output(commands, LIBRARIES_SECONDS)
                system, python, perl, c, programs = (text.splitlines() for text in found)
                self._libraries = Libraries(
                    libraries=LibrariesByKind(
                        system=versions(system),
                        python=versions(python),
                        perl=versions(perl),
                        c=c_versions(c),
                    ),
                    bin=sorted(set(programs)),
                )
            return self._libraries

    def _sample(self) -> None:
        """Work out the rates since the last sample."""
        elapsed = time.monotonic() - self._sampled
        if self._totals and elapsed < SHORTEST:
            return
        self._sampled = time.monotonic()
        self._cpu = psutil.cpu_percent(interval=None) / 100
        totals = counters()
        for name, values in totals.items():
            before = self._totals.get(name, values)
            self._rates[name] = {
                key: max(value - before.get(key, value), 0) / elapsed
                for key, value in values.items()
            }
        self._totals = totals


def counters() -> dict[str, dict[str, float]]:
    """Return what was read, written, sent and received since the machine started."""
    disks: dict[str, Any] = psutil.disk_io_counters(perdisk=True) or {}
    known = {device: disks[Path(device).name] for device in devices() if Path(device).name in disks}
    network = psutil.net_io_counters()
    totals: dict[str, dict[str, float]] = {
        name: {device: getattr(disk, name) for device, disk in known.items()}
        for name in ("read_count", "read_bytes", "write_count", "write_bytes")
    }
    for name in ("bytes_sent", "bytes_recv", "packets_sent", "packets_recv"):
        totals[name] = {"": getattr(network, name, 0)}
    return totals


def cpu_frequency() -> tuple[float, float, float]:
    """Return the current, lowest and highest frequency in MHz, 0.0 for what is not known."""
    try:
        found = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError):
        found = None
    return (found.current, found.min, found.max) if found else (0.0, 0.0, 0.0)


def devices() -> dict[str, Any]:
    """Return psutil's usage of each device that holds a file system."""
    found: dict[str, Any] = {}
    for partition in psutil.disk_partitions():
        try:
            found.setdefault(partition.device, psutil.disk_usage(partition.mountpoint))
        except OSError:
            continue
    return found


def device_of(folder: Path) -> str:
    """Return the device that folder lies on, or nothing when it is not known."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        for partition in psutil.disk_partitions(all=True):
            if partition.mountpoint == str(parent):
                return str(partition.device)
    return ""


def versions(lines: list[str]) -> dict[str, str]:
    """Return the versions by name in lines of a name, a tab and a version."""
    pairs = (line.partition("\t") for line in lines)
    return {name: version or "?" for name, _, version in sorted(pairs) if name}


def c_versions(files: list[str]) -> dict[str, str]:
    """Return the versions of shared libraries, from the names of their files."""
    found = (re.fullmatch(r"(.+?)\.so(?:\.(.+))?", name) for name in sorted(files))
    return {match[1]: match[2] or "?" for match in found if match}
