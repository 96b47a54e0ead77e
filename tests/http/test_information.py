"""What a server tells of itself, by either flavour, over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox_api import Sandbox


def test_specifications(sandbox: Sandbox) -> None:
    specifications = sandbox.specifications()
    host, container = specifications.host, specifications.container
    assert host.cpu.logical is None or host.cpu.logical >= 1
    assert host.memory.ram > 0
    assert all(size > 0 for size in host.memory.storage.values())
    assert host.sandbox_version.startswith("3.")
    assert container.count >= 1
    assert container.working_dir_device
    assert json.loads(json.dumps(specifications)) == specifications


def test_usage(sandbox: Sandbox) -> None:
    usage = sandbox.usage()
    assert 0 <= usage.cpu.usage <= 1
    assert len(usage.cpu.usage_avg) == 3
    assert usage.memory.ram > 0
    assert usage.process > 0
    assert usage.container >= 0
    assert [usage["cpu"]["usage"]] + usage["cpu"]["usage_avg"] == [
        usage.cpu.usage,
        *usage.cpu.usage_avg,
    ]


def test_libraries(sandbox: Sandbox) -> None:
    libraries = sandbox.libraries()
    assert "bash" in libraries.bin
    assert libraries.bin == sorted(set(libraries.bin)) or "[" in libraries.bin
    assert set(libraries["libraries"]) == {"system", "python", "perl", "c"}
    assert libraries.libraries.c
