from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from sandbox_api.local.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


def contained(tmp_path: Path, **files: str) -> Machine:
    """Return the machine of a process in a container with these files of control groups."""
    for version in ("v2", "v1"):
        folder = tmp_path / version / "inner"
        folder.mkdir(parents=True)
        for name, text in files.items():
            if name.startswith(version):
                (folder / name[3:].replace("__", ".")).write_text(text)
    (tmp_path / "cgroup").write_text("2:memory,cpu:/pod/inner\n0::/inner\n")
    (tmp_path / "mountinfo").write_text(
        f"1 1 0:1 / {tmp_path / 'v2'} rw - cgroup2 cgroup2 rw\n"
        f"1 1 0:1 /pod {tmp_path / 'v1'} rw - cgroup x rw,memory,cpu\n"
    )
    return Machine(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"v2_memory__max": f"{GIB // 8}", "v2_memory__current": "5000"},
        {"v1_memory__limit_in_bytes": f"{GIB // 8}", "v1_memory__usage_in_bytes": "5000"},
    ],
)
def test_the_memory_of_a_container_is_what_it_may_use(
    tmp_path: Path, files: dict[str, str]
) -> None:
    found = contained(tmp_path, **files)
    assert (found.ram(), found.ram_used()) == (GIB // 8, 5000)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"v2_memory__max": "max", "v2_memory__current": "5000"},
        {"v1_memory__limit_in_bytes": f"{2**63}", "v1_memory__usage_in_bytes": "5000"},
        {"v1_memory__limit_in_bytes": "nonsense"},
    ],
)
def test_without_a_bound_the_memory_is_the_machines(tmp_path: Path, files: dict[str, str]) -> None:
    found = contained(tmp_path, **files)
    assert found.ram() == psutil.virtual_memory().total
    assert found.ram_used() > 5000


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"v2_cpu__max": "50000 100000"}, (100000, 50000)),
        ({"v2_cpu__max": "max 100000"}, (-1, -1)),
        ({"v1_cpu__cfs_quota_us": "70000", "v1_cpu__cfs_period_us": "100000"}, (100000, 70000)),
        ({"v1_cpu__cfs_quota_us": "-1", "v1_cpu__cfs_period_us": "100000"}, (-1, -1)),
        ({"v2_cpu__max": "x y"}, (-1, -1)),
        ({"v2_cpu__max": "5"}, (-1, -1)),
        ({}, (-1, -1)),
    ],
)
def test_processors_are_bounded_by_the_quota(
    tmp_path: Path, files: dict[str, str], quota: tuple[int, int]
) -> None:
    found = contained(tmp_path, **files)
    assert found.cpu_quota() == quota
    if quota[0] > 0:
        assert found.logical() == 1


def test_what_is_not_known_is_nothing_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    for name in psutil.__all__:
        if name.islower() and callable(getattr(psutil, name)):
            monkeypatch.setattr(psutil, name, fail)
    for name in ("getloadavg", "sched_getaffinity"):
        monkeypatch.setattr(os, name, fail)
    found = Machine(tmp_path / "nowhere")
    assert found.cores() is None
    assert found.logical() is None
    assert (found.ram(), found.ram_used(), found.swap()) == (0, 0, (0, 0))
    assert found.frequency() == (0.0, 0.0, 0.0)
    assert found.load() == [0.0, 0.0, 0.0]
    assert (found.busy(), found.processes(), found.devices()) == (0.0, 0, {})
    assert found.device_of(tmp_path) == ""
    assert set(found.counters()["bytes_sent"].values()) == {0}
