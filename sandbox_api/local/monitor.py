"""Describe the machine: what it is, how busy it is, and what sandboxes find on it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

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

from .machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from .engine import Engine


# How often to look how busy the machine is, in seconds.
SAMPLE = 2.0
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
        self._machine = Machine()
        self.sample()

    def specifications(self) -> Specifications:
        """Return what the machine is, and what each sandbox may use of it."""
        machine, limits = self._machine, self._engine.limits
        _, lowest, highest = machine.frequency()
        period, quota = machine.cpu_quota()
        isolator = self._engine.isolator
        return Specifications(
            host=HostSpecifications(
                cpu=HostCpu(
                    core=machine.cores(),
                    logical=machine.logical(),
                    freq_min=lowest,
                    freq_max=highest,
                ),
                memory=HostMemory(
                    ram=machine.ram(),
                    swap=machine.swap()[0],
                    storage={device: usage.total for device, usage in machine.devices().items()},
                ),
                docker_version=isolator.version,
                sandbox_version=SERVER_VERSION,
            ),
            container=ContainerSpecifications(
                count=limits.slots,
                cpu=ContainerCpu(
                    count=machine.logical() or 1, period=period, shares=-1, quota=quota
                ),
                memory=ContainerMemory(ram=limits.memory, swap=0, storage=limits.disk),
                io=ContainerIo(read_iops={}, read_bps={}, write_iops={}, write_bps={}),
                process=limits.processes if isolator.bounds_processes else -1,
                working_dir_device=machine.device_of(self._work),
            ),
        )

    def usage(self) -> Usage:
        """Return how busy the machine is, and was between the last two samples."""
        machine = self._machine
        return Usage(
            cpu=CpuUsage(
                frequency=machine.frequency()[0], usage=self._cpu, usage_avg=machine.load()
            ),
            memory=MemoryUsage(
                ram=machine.ram_used(),
                swap=machine.swap()[1],
                storage={device: usage.used for device, usage in machine.devices().items()},
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
            process=machine.processes(),
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

    def sample(self) -> None:
        """Work out the rates since the last sample; not to be called twice at once."""
        now = time.monotonic()
        elapsed, self._sampled = now - self._sampled, now
        self._cpu = self._machine.busy()
        totals = self._machine.counters()
        for name, values in totals.items():
            before = self._totals.get(name, values)
            self._rates[name] = {
                key: max(value - before.get(key, value), 0) / elapsed
                for key, value in values.items()
            }
        self._totals = totals


def versions(lines: list[str]) -> dict[str, str]:
    """Return the versions by name in lines of a name, a tab and a version."""
    pairs = (line.partition("\t") for line in lines)
    return {name: version or "?" for name, _, version in sorted(pairs) if name}


def c_versions(files: list[str]) -> dict[str, str]:
    """Return the versions of shared libraries, from the names of their files."""
    found = (re.fullmatch(r"(.+?)\.so(?:\.(.+))?", name) for name in sorted(files))
    return {match[1]: match[2] or "?" for match in found if match}
