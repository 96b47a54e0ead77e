"""Code as users write it: every documented attribute, with the type that it is said to have.

It is never run: type checkers read it, and `assert_type` fails where a type is another.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_type
from uuid import UUID

import httpx

from sandbox_api import (
    AEnvironment,
    AExecution,
    ASandbox,
    BatchOptions,
    CallOptions,
    ClientOptions,
    Command,
    CommandDict,
    CommandResult,
    Environment,
    EnvironmentFile,
    ExecuteConfig,
    ExecuteConfigDict,
    Execution,
    ExecutionFailed,
    ExecutionResult,
    InvalidConfig,
    InvalidEnvironment,
    InvalidReply,
    Job,
    JobResult,
    Libraries,
    Progress,
    Sandbox,
    Sandbox404,
    Sandbox418,
    Sandbox503,
    SandboxErrCode,
    SandboxError,
    SandboxFailure,
    SandboxServerError,
    Specifications,
    TimedOut,
    Usage,
    status_exceptions,
)
from sandbox_api.utils import validate, validate_command


def specifications(sandbox: Sandbox) -> None:
    found = assert_type(sandbox.specifications(), Specifications)
    assert_type(found.host.cpu.core, int | None)
    assert_type(found.host.cpu.logical, int | None)
    assert_type(found.host.cpu.freq_min, float)
    assert_type(found.host.cpu.freq_max, float)
    assert_type(found.host.memory.ram, int)
    assert_type(found.host.memory.swap, int)
    assert_type(found.host.memory.storage, dict[str, int])
    assert_type(found.host.docker_version, str)
    assert_type(found.host.sandbox_version, str)
    assert_type(found.container.count, int)
    assert_type(found.container.cpu.count, int)
    assert_type(found.container.cpu.period, int)
    assert_type(found.container.cpu.shares, int)
    assert_type(found.container.cpu.quota, int)
    assert_type(found.container.memory.ram, int)
    assert_type(found.container.memory.swap, int)
    assert_type(found.container.memory.storage, int)
    assert_type(found.container.io.read_iops, dict[str, float])
    assert_type(found.container.io.read_bps, dict[str, float])
    assert_type(found.container.io.write_iops, dict[str, float])
    assert_type(found.container.io.write_bps, dict[str, float])
    assert_type(found.container.process, int)
    assert_type(found.container.working_dir_device, str)
    assert_type(found["host"]["memory"]["storage"], Any)


def usage(sandbox: Sandbox) -> list[float]:
    found = assert_type(sandbox.usage(), Usage)
    assert_type(found.cpu.frequency, float)
    assert_type(found.cpu.usage, float)
    assert_type(found.cpu.usage_avg, list[float])
    assert_type(found.memory.ram, int)
    assert_type(found.memory.swap, int)
    assert_type(found.memory.storage, dict[str, int])
    assert_type(found.io.read_iops, dict[str, float])
    assert_type(found.io.read_bps, dict[str, float])
    assert_type(found.io.write_iops, dict[str, float])
    assert_type(found.io.write_bps, dict[str, float])
    assert_type(found.network.sent_bytes, float)
    assert_type(found.network.received_bytes, float)
    assert_type(found.network.sent_packets, float)
    assert_type(found.network.received_packets, float)
    assert_type(found.process, int)
    assert_type(found.container, int)
    return [found.cpu.usage, *found.cpu.usage_avg]


def libraries(sandbox: Sandbox) -> None:
    found = assert_type(sandbox.libraries(), Libraries)
    assert_type(found.libraries.system, dict[str, str])
    assert_type(found.libraries.python, dict[str, str])
    assert_type(found.libraries.perl, dict[str, str])
    assert_type(found.libraries.c, dict[str, str])
    assert_type(found.bin, list[str])


def execute(sandbox: Sandbox) -> None:
    config = ExecuteConfig(
        commands=[Command("make", timeout=3), "-true"],
        environ={"A": "1"},
        environment="872b604c-9cce-42e2-8888-9a0311f3a724",
        result_path="out.json",
        save=True,
    )
    assert_type(config.commands, Sequence[str | Command])
    assert_type(config.environ, Mapping[str, Any] | None)
    assert_type(config.environment, UUID | str | None)
    assert_type(config.result_path, str | None)
    assert_type(config.save, bool | None)
    assert_type(Command("make").command, str)
    assert_type(Command("make").timeout, float | None)
    with open("env.tgz", "rb") as environ:
        result = assert_type(sandbox.execute(config, environ), Execution)
    assert_type(result.raise_for_status(), Execution)
    assert_type(result.ok, bool)
    assert_type(result.timed_out, bool)
    assert_type(result.error, SandboxErrCode | None)
    assert_type(result.json(), Any)
    assert_type(result.saved, Environment | None)
    assert_type(result.status, int)
    assert_type(result.status == SandboxErrCode.TIMEOUT, bool)
    assert_type(result.total_time, float)
    assert_type(result.result, str | None)
    assert_type(result.environment, UUID | None)
    assert_type(result.expire, datetime | None)
    for command in assert_type(result.execution, list[CommandResult]):
        assert_type(command.command, str)
        assert_type(command.exit_code, int)
        assert_type(command.stdout, str)
        assert_type(command.stderr, str)
        assert_type(command.time, float)
        assert_type(command.stdout_truncated, bool | None)
        assert_type(command.stderr_truncated, bool | None)
        assert_type(command.exceeded, str | None)
    sandbox.execute({"commands": ["true"]}, io.BytesIO())
    assert_type(validate({"commands": ["true"]}), tuple[bool, str])
    assert_type(validate_command({"command": "true"}), bool)
    if result.environment:
        ExecuteConfig(["true"], environ=os.environ, environment=result.environment)
        sandbox.execute({"commands": ["true"], "environment": result.environment})
        assert_type(sandbox.download(result.environment), io.BytesIO)
        assert_type(sandbox.download(str(result.environment), "out.json").read(), bytes)
        assert_type(sandbox.check(result.environment, "out.json"), int)


def transfers(sandbox: Sandbox, folder: Path) -> None:
    sandbox.execute({"commands": ["true"]}, folder, timeout=5)
    sandbox.execute({"commands": ["true"]}, {"a": "text", "b": b"bytes", "c": folder / "c"})
    sandbox.execute({"commands": ["true"]}, b"archive", headers={"X-Request-ID": "42"})
    plain: ExecuteConfigDict = {
        "commands": ["true", {"command": "make", "timeout": 3}, Command("./tests")],
        "environ": {"A": 1},
        "environment": None,
        "result_path": "out.json",
        "save": True,
    }
    command: CommandDict = {"command": "make", "timeout": 0.5}
    saved = sandbox.execute({**plain, "commands": [command]}).saved
    if saved:
        assert_type(saved, Environment)
        assert_type(saved.uuid, UUID | str)
        assert_type(saved.expires, datetime | None)
        assert_type(saved.size(), int)
        assert_type(saved.exists("a", timeout=1), bool)
        assert_type(saved.read_text("a"), str)
        assert_type(saved.read_bytes("a"), bytes)
        assert_type(saved.download_to("env.tgz"), Path)
        for file in assert_type(saved.files(), list[EnvironmentFile]):
            assert_type(file.name, str)
            assert_type(file.size, int)
            assert_type(file.type, Literal["file", "directory", "symlink", "other"])
        assert_type(
            sandbox.download_to(folder, saved.uuid, extract=True, progress=lambda done, _: done),
            Path,
        )
        assert_type(sandbox.iter_download(saved.uuid, "a"), Iterator[bytes])
        assert_type(sandbox.environment(saved.uuid), Environment)


def batches(sandbox: Sandbox) -> None:
    config: ExecuteConfigDict = {"commands": ["make"]}
    jobs = [Job("a", config), Job(7, ExecuteConfig(commands=["make"]), {"a": "b"}, meta=[1])]
    results = assert_type(sandbox.execute_many(jobs), Iterator[JobResult[Execution]])
    for done in results:
        assert_type(done.id, Any)
        assert_type(done.meta, Any)
        assert_type(done.result, Execution | None)
        assert_type(done.error, Exception | None)
        assert_type(done.attempts, int)
        assert_type(done.seconds, float)
        assert_type(done.ok, bool)
        assert_type(done.outcome, Literal["passed", "failed", "timed out", "error"])
    sandbox.execute_many(
        [config, config], concurrency=4, ordered=True, executor=ThreadPoolExecutor()
    )
    sandbox.execute_many(((config, {"a": "b"}) for _ in range(3)), stop_on=lambda done: done.error)
    sandbox.execute_many([{"commands": ["make"]}, {"commands": [{"command": "true"}]}])
    sandbox.execute_many([], on_progress=progress)
    more: BatchOptions = {"concurrency": 4}
    graded = sandbox.grade("handed-in", config, base={"test.sh": "true"}, **more)
    assert_type(next(graded).id, Any)
    assert_type(sandbox.store({"a": "b"}), Environment)


def progress(so_far: Progress) -> None:
    assert_type(so_far.done, int)
    assert_type((so_far.passed, so_far.failed), tuple[int, int])
    assert_type((so_far.timed_out, so_far.errors), tuple[int, int])
    assert_type((so_far.running, so_far.concurrency), tuple[int, int])
    assert_type(so_far.total, int | None)
    assert_type(so_far.seconds, float)


def options() -> None:
    call: CallOptions = {"timeout": None, "headers": {"X-Request-ID": "42"}}
    client: ClientOptions = {"retries": 0, "verify": False, "auth": ("user", "secret")}
    sandbox = Sandbox(headers={"A": "b"}, proxy="http://proxy:3128", trust_env=False)
    assert_type(sandbox.usage(**call), Usage)
    assert_type(sandbox.server_version(), str)
    Sandbox("http://localhost:7000", 5, **client)
    Sandbox("http://localhost:7000", http_client=httpx.Client())
    ASandbox("http://localhost:7000", http_client=httpx.AsyncClient(), retries=1)


def endpoints(sandbox: Sandbox) -> None:
    assert_type(sandbox.request("GET", "runner/"), httpx.Response)
    assert_type(
        sandbox.request(
            "POST",
            "runner/",
            fields={"config": {}, "loader": "x"},
            files={"environment": {"a": "b"}},
            model=ExecutionResult,
        ),
        ExecutionResult,
    )
    assert_type(sandbox.load({}), dict[str, Any])
    assert_type(sandbox.demo({}), dict[str, Any])
    assert_type(sandbox.playexo({}, {}), dict[str, Any])
    assert_type(sandbox.exec({}), dict[str, Any])


def errors(sandbox: Sandbox) -> None:
    try:
        sandbox.execute({"commands": ["true"]}).raise_for_status()
    except InvalidConfig as error:
        assert_type([(each.path, each.reason) for each in error.errors], list[tuple[str, str]])
    except InvalidEnvironment as error:
        print(error)
    except ExecutionFailed as error:
        assert_type(error.result, ExecutionResult)
        assert_type(error.command, CommandResult | None)
    except Sandbox404 as error:
        assert_type(error.response, httpx.Response)
    except (Sandbox418, Sandbox503) as error:
        assert_type(error.response.status_code, int)
    except SandboxServerError as error:
        assert_type(error.message, str | None)
    except SandboxError as error:
        assert_type(status_exceptions(error.response), SandboxError)
    except (TimedOut, InvalidReply) as error:
        print(error)
    except SandboxFailure as error:
        assert_type(error.__cause__, BaseException | None)


async def asynchronous() -> None:
    async with ASandbox("http://localhost:7000", total=2.5, connect=0.5) as sandbox:
        assert_type(await sandbox.specifications(), Specifications)
        assert_type(await sandbox.usage(), Usage)
        assert_type(await sandbox.libraries(), Libraries)
        result = assert_type(await sandbox.execute({"commands": ["true"]}), AExecution)
        assert_type(result.saved, AEnvironment | None)
        if result.environment:
            assert_type(await sandbox.download(result.environment), io.BytesIO)
            assert_type(await sandbox.check(result.environment), int)
            async for chunk in sandbox.iter_download(result.environment):
                assert_type(chunk, bytes)
        async for done in sandbox.execute_many([{"commands": ["true"]}]):
            assert_type(done, JobResult[AExecution])
        if result.saved:
            assert_type(await result.saved.read_text("a"), str)
            assert_type(await result.saved.files(), list[EnvironmentFile])
    async with ASandbox.local() as local:
        assert_type(local, ASandbox)
    with Sandbox.local(timeout=5) as sync:
        assert_type(sync, Sandbox)
