"""Containers in place of bubblewrap: the same contract, by podman, docker, and an engine of ours.

That one isolates by bubblewrap, so that what uses engines is tested on machines without any. The
real ones need to work for the account of the tests; an image is made from the machine's own files.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
from typer.testing import CliRunner

from sandbox_api import ASandbox, LocalSandboxError, Sandbox
from sandbox_api.cli.app import app
from sandbox_api.local import IsolationError, LocalServer, cgroups, containers
from sandbox_api.local.box import BoxError
from sandbox_api.local.isolation import find_bwrap, probe
from sandbox_api.local.layout import CONTROL
from sandbox_api.local.limits import Limits, default_warm
from sandbox_api.local.pool import Pool

from .conftest import Client, archive, pid, processes
from .public import execute, serving, wait_for
from .test_isolation import gone, unused
from .tight import mib, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox_api.local.containers import Engine

# What the image of the tests has, beside what these need.
PROGRAMS = (
    "bash",
    "cat",
    "chmod",
    "df",
    "env",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "seq",
    "sleep",
    "tail",
    "touch",
    "tr",
    "true",
)
FAKE = Path(__file__).with_name("fake_engine.py")


class Given(NamedTuple):
    """An engine to test with."""

    name: Engine
    image: str
    real: bool
    held: frozenset[str] = frozenset()
    """What its control groups bound."""

    @property
    def options(self) -> dict[str, Any]:
        """How to ask for it."""
        return {"isolation": self.name, "image": self.image}

    def ask(self, *arguments: str, **options: Any) -> str:
        """Return what the engine says."""
        command = [self.name, *arguments]
        found: bytes = subprocess.run(command, check=True, capture_output=True, **options).stdout
        return found.decode()

    def containers(self, server: int) -> list[str]:
        """Return the containers of the server with this process id."""
        label = f"label={containers.LABEL}"
        found = self.ask("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
        return [name for name in found if f"-{server}-" in name]


def rootfs() -> bytes:
    """Return an archive of what a shell and some programs need."""
    files: set[str] = set()
    for name in PROGRAMS:
        path = shutil.which(name) or pytest.skip(f"there is no {name} to make an image of")
        loaded = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        files |= {f"/bin/{name}", f"/usr/bin/{name}"}
        files |= {word for word in loaded.split() if word.startswith("/")}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", dereference=True) as image:
        for file in sorted(files):
            image.add(file if Path(file).exists() else shutil.which(Path(file).name) or file, file)
    return stream.getvalue()


def fake(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fake engine before all others."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    script = folder / "bin" / name
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} {name} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_ENGINE", str(folder / "state"))
    monkeypatch.setenv("FAKE_BWRAP", find_bwrap())


def usable(given: Given) -> str:
    """Return why an engine cannot be used, or nothing."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        try:
            probe(given.name, Path(name), image=given.image)
        except IsolationError as error:
            return str(error).partition(" It needs ")[0]
    return ""


@pytest.fixture(scope="module", params=["fake", "podman", "docker"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Given]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("engine")
        if request.param == "fake":
            fake(folder, "podman", monkeypatch)
            yield Given("podman", "an/image:of-it", real=False)
            return
        given = Given(request.param, f"localhost/sandbox-api-test:{uuid.uuid4().hex}", real=True)
        if shutil.which(given.name) is None:
            pytest.skip(f"{given.name} is not installed")
        try:
            change = ["--change", "ENV GREETING=hello", "--change", "VOLUME /data"]
            given.ask("import", *change, "-", given.image, input=rootfs())
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{given.name} takes no image: {error.stderr.decode().strip()}")
        try:
            if usable(given) and given.name == "podman" and shutil.which("runc"):
                # The other runtime, crun, cannot do with control groups of both versions at once.
                (folder / "containers.conf").write_text('[engine]\nruntime = "runc"\n')
                monkeypatch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
            if reason := usable(given):
                pytest.skip(reason)
            with tempfile.TemporaryDirectory() as name:
                Path(name).chmod(0o711)
                found = probe(given.name, Path(name), image=given.image)
            yield given._replace(held=frozenset(found.held))
        finally:
            given.ask("rmi", "--force", given.image)


@pytest.fixture(scope="module")
def client(engine: Given) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SECRET_OF_THE_HOST", "hush-hush")
        server = LocalServer(**engine.options)
    try:
        with Client(server) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """The fake one, for what real ones do not do on demand."""
    fake(tmp_path, "podman", monkeypatch)
    return Given("podman", "an/image:of-it", real=False)


def gone_from_here(server: int) -> None:
    """Wait until no process has the name of a server's container as an argument."""
    wait_for(lambda: not processes(f"{containers.LABEL}-{containers.namespace()}-{server}-"))


def test_commands_are_the_student_at_home_with_a_known_environment(client: Client) -> None:
    shown = client.output("id -un; pwd; cat /proc/sys/kernel/hostname; env -u PWD -u SHLVL -u _")
    assert shown.splitlines()[:3] == ["student", "/home/student", "sandbox"]
    variables = dict(line.split("=", 1) for line in shown.splitlines()[3:])
    path = variables.pop("PATH")
    assert "/usr/bin" in path.split(":")
    # One is the image's own.
    others = {"HOME": "/home/student", "USER": "student", "LANG": "C.UTF-8", "GREETING": "hello"}
    assert variables == others


def test_given_variables_go_before_those_of_the_image(client: Client) -> None:
    shown = client.output('echo "$GREETING, $A"', environ={"GREETING": "bye", "A": "b c"})
    assert shown == "bye, b c"


def test_neither_the_host_nor_the_engine_gives_variables(client: Client) -> None:
    shown = client.output("env; cat /proc/1/environ /proc/1/cmdline")
    assert "hush" not in shown
    assert "SECRET" not in shown
    assert "container=" not in shown


def test_commands_are_not_root_and_have_no_capabilities(client: Client) -> None:
    lines = client.output("id -u; cat /proc/self/status").splitlines()
    values = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert int(lines[0]) != 0
    assert values["NoNewPrivs"] == "1"
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


@pytest.mark.parametrize("path", ["/", "/usr/", "/etc/", "/home/", f"{CONTROL}/", "/var/", "/run/"])
def test_nothing_can_be_written_there(client: Client, path: str) -> None:
    assert client.run(f"touch {path}new")["status"] == 1


def test_scratch_folders_can_be_written_and_end_with_the_request(client: Client) -> None:
    # The last is a volume of the image.
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/data"):
        assert client.run(f"echo x > {folder}/new && cat {folder}/new")["status"] == 0
        assert client.run(f"cat {folder}/new")["status"] == 1


def test_scratch_folders_are_bounded(client: Client, engine: Given) -> None:
    if not engine.real:
        pytest.skip("the fake engine does not bound them")
    sizes = client.output("df -B1 --output=size /tmp /var/tmp /dev/shm /data").split()[1:]
    assert [int(size) for size in sizes] == [Limits().scratch] * 4


def test_there_is_no_network(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert client.run(f": < /dev/tcp/127.0.0.1/{port}")["status"] == 1


def test_the_network_is_there_by_name(engine: Given) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [result] = run(f": < /dev/tcp/127.0.0.1/{port}", network=True, **engine.options)
    assert result["exit_code"] == 0


def test_processes_of_the_host_are_not_visible(client: Client) -> None:
    assert int(client.output("set -- /proc/[0-9]*; echo $#")) < 6


@pytest.mark.parametrize(
    "command",
    [
        "sleep {} & sleep {}",
        "(trap '' TERM INT HUP; sleep {} & disown) & trap '' TERM; sleep {}",
        "sleep {} & kill -STOP $!; kill -STOP $$; sleep {}",
    ],
)
def test_a_time_out_kills_all_and_the_run_goes_on(client: Client, command: str) -> None:
    number = unused()
    slow = {"command": "-" + command.replace("{}", number), "timeout": 0.2}
    # Those that were killed may not be dead yet.
    answer = client.run(slow, "sleep 0.3; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; exit 4")
    assert [result["exit_code"] for result in answer["execution"]] == [-2, 4]
    assert answer["execution"][0]["stderr"] == "Command timed out after 0.2 seconds\n"
    assert f"sleep {number}" not in answer["execution"][1]["stdout"]
    assert gone(number)


def test_a_background_process_lives_until_the_request_ends(client: Client) -> None:
    number = unused()
    answer = client.run(f"sleep {number} &", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert f"sleep {number}" in answer["execution"][1]["stdout"]
    assert processes(f"sleep\0{number}") == []


def test_a_driver_that_is_killed_ends_the_run_and_nothing_else(client: Client) -> None:
    # The tenth signal is the host's own, by which it has everything else killed.
    command = "for n in $(seq 64); do [ $n = 10 ] || kill -$n 1; done 2>/dev/null; exit 3"
    answer = client.run(f"-{command}", "kill -10 1; sleep 5", "echo never")
    assert [result["exit_code"] for result in answer["execution"]] == [3, 137]


def test_files_come_and_go_as_with_bubblewrap(client: Client) -> None:
    first = client.run(
        "cat a/given; echo made > a/new",
        upload=archive(("a/given", b"content")),
        result_path="a/new",
        save=True,
    )
    assert first["execution"][0]["stdout"] == "content"
    assert (first["status"], first["result"]) == (0, "made\n")
    second = client.run("cat a/given a/new", environment=first["environment"])
    assert second["execution"][0]["stdout"] == "contentmade"
    assert client.get(f"/files/{first['environment']}/a/new/").text == "made\n"


def test_no_link_leads_out_of_the_working_directory(client: Client) -> None:
    links = "ln -s /etc/passwd out; echo inside > in; ln -s /home/student/in absolute"
    assert client.run(links, result_path="out")["status"] == -3
    assert client.run(links, result_path="absolute")["result"] == "inside\n"


def test_commands_may_not_have_more_descriptors_than_bubblewraps(client: Client) -> None:
    assert (
        client.output("ls /proc/self/fd | tr '\\n' ' '; ulimit -n; ulimit -c") == "0 1 2 3 1024\n0"
    )


def test_much_output_is_read_and_cut(client: Client) -> None:
    [result] = client.run("head -c 20000000 /dev/zero | tr '\\0' x; echo err >&2")["execution"]
    assert len(result["stdout"]) > 16_000_000
    assert (result["stderr"], result["stdout_truncated"]) == ("err", True)


def test_processor_time_is_bounded(engine: Given) -> None:
    [result] = run("while :; do :; done", cpu_time=0.6, **engine.options)
    assert result["exit_code"] == 137


def test_memory_of_all_processes_is_bounded(engine: Given) -> None:
    if "memory" not in engine.held:
        pytest.skip("the engine makes no control groups")
    hogs = "-head -c 300M /dev/zero | tail -c 299M >/dev/null"
    first, second = run(hogs, "echo next", memory=mib(100), **engine.options)
    assert (first["exit_code"], second["stdout"]) == (137, "next")
    assert first["exceeded"] == "memory"


def test_the_number_of_processes_is_bounded(engine: Given) -> None:
    if "pids" not in engine.held:
        pytest.skip("the engine makes no control groups")
    many = "(for i in $(seq 200); do sleep 9 & done) & until ((SECONDS > 1)); do :; done"
    [result] = run(f"{many}; set -- /proc/[0-9]*; echo $#", processes=40, **engine.options)
    assert 30 < int(result["stdout"]) <= 41


def test_requests_leave_no_container_and_no_process(client: Client, engine: Given) -> None:
    for _ in range(6):
        client.run({"command": "-sleep 60", "timeout": 0.05}, "true")
    server = pid(client)
    wait_for(lambda: len(engine.containers(server)) <= default_warm())
    wait_for(lambda: len(processes(f"-{server}-")) <= 2 * default_warm())


def test_the_server_says_what_isolates(engine: Given, tmp_path: Path) -> None:
    options = ["--isolation", engine.name, "--image", engine.image]
    with serving(tmp_path, *options) as server:
        assert execute(server.url, "exit 5").json()["status"] == 5
    assert f"{engine.name} " in server.lines[0]
    assert " isolates commands." in server.lines[0]
    assert f"containers of {engine.image}" in server.text
    held = "Control groups bound memory and processes" in server.text
    assert held or "Unguarded: memory, processor time" in server.text


def test_specifications_name_the_engine(client: Client, engine: Given) -> None:
    found = client.get("/specifications/").json()
    assert found["host"]["docker_version"].startswith(f"{engine.name} ")
    bounded = "pids" in engine.held or (engine.name == "podman" and os.geteuid() != 0)
    assert found["container"]["process"] == (Limits().processes if bounded else -1)


def test_the_end_of_a_server_leaves_no_container(engine: Given) -> None:
    server = LocalServer(**engine.options)
    with Client(server) as client:
        client.run("true")
        number = pid(client)
    wait_for(lambda: bool(engine.containers(number)))  # one is made ahead
    server.stop()
    assert engine.containers(number) == []


def test_the_death_of_a_server_leaves_no_container(engine: Given) -> None:
    server = LocalServer(**engine.options)
    nap = unused()
    with Client(server) as client, ThreadPoolExecutor() as pool:
        client.run("true")
        number = pid(client)
        pool.submit(client.ask, f"sleep {nap}")
        wait_for(lambda: processes(f"sleep\0{nap}"))
        os.kill(number, signal.SIGKILL)
    wait_for(lambda: not engine.containers(number))
    assert gone(nap)
    server.stop()


def test_the_death_of_a_server_that_starts_containers_leaves_none(engine: Given) -> None:
    for delay in (0.05, 0.1, 0.15, 0.2):
        server = LocalServer(**engine.options)
        with Client(server) as client, ThreadPoolExecutor() as pool:
            client.get("/usages/")
            number = pid(client)
            for _ in range(2):
                pool.submit(client.ask, "true")
            time.sleep(delay)
            os.kill(number, signal.SIGKILL)
        server.stop()
        gone_from_here(number)
        assert engine.containers(number) == []


def test_what_a_killed_server_left_is_removed_by_the_next(engine: Given) -> None:
    with subprocess.Popen(["sleep", "0"]) as ended:
        pass
    this = containers.this_server()
    # Of one that is dead, and its undertaker too; of this one; of one in another place; of nobody.
    dead = f"{this.partition('-')[0]}-{ended.pid}-1"
    names = [
        f"{containers.LABEL}-{server}-{uuid.uuid4().hex}"
        for server in (dead, this, f"1-{ended.pid}-1", "other")
    ]

    def left() -> list[str]:
        found = engine.ask("ps", "--all", "--format", "{{.Names}}").split()
        return [name for name in names if name in found]

    label = f"{containers.LABEL}=test"
    try:
        for name in names:
            engine.ask("create", "--name", name, "--label", label, engine.image, "true")
        # Any server of another test may be the next, so that the first can be gone already.
        assert left()[-3:] == names[1:]
        assert usable(engine) == ""
        assert left() == names[1:]
    finally:
        engine.ask("rm", "--force", *left())


def test_both_flavours_start_with_an_engine(podman: Given) -> None:
    with Sandbox.local(isolation="podman", image=podman.image) as sandbox:
        assert sandbox.execute({"commands": ["id -un"]}).execution[0].stdout == "student"

    async def main() -> str:
        async with ASandbox.local(isolation="podman", image=podman.image) as sandbox:
            return (await sandbox.execute({"commands": ["id -un"]})).execution[0].stdout

    assert asyncio.run(main()) == "student"


@pytest.mark.parametrize("flavour", [Sandbox, ASandbox])
def test_an_image_that_is_not_there_is_an_error_that_says_how_to_get_it(
    podman: Given, flavour: type[Sandbox] | type[ASandbox]
) -> None:
    with pytest.raises(
        LocalSandboxError, match=r"podman has no image missing\. Get it with `podman p"
    ):
        flavour.local(isolation="podman", image="missing")


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_the_default_image_is_named_where_it_is_missing(
    name: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    monkeypatch.setattr(containers, "IMAGE", "missing")
    fake(tmp_path, name, monkeypatch)
    with pytest.raises(IsolationError, match=f"`{name} pull missing`"):
        probe(name, work)


def test_the_image_of_a_real_engine_is_missed_too(engine: Given, work: Path) -> None:
    if not engine.real:
        pytest.skip("there is another test for the fake engine")
    image = f"localhost/{uuid.uuid4().hex}:1"
    with pytest.raises(IsolationError, match=f"has no image {image}.*`{engine.name} pull"):
        probe(engine.name, work, image=image)


@pytest.mark.parametrize("image", ["--privileged", "a b", "", "a;b"])
def test_what_can_be_no_image_is_refused(podman: Given, work: Path, image: str) -> None:
    with pytest.raises(IsolationError, match="podman can have no image"):
        probe("podman", work, image=image)


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_a_missing_engine_is_an_error_that_names_the_alternatives(
    name: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError) as caught:
        LocalServer(name)
    text = str(caught.value)
    assert f"{name} is not on PATH" in text
    for words in ("podman 4.3", "bash and coreutils", 'isolation="bubblewrap"', 'isolation="none"'):
        assert words in text
    assert "\n" not in text


def test_bubblewraps_error_names_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("no program")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError, match='isolation="podman" or isolation="docker"'):
        LocalServer()


def test_an_engine_that_does_not_work_tells_why(
    podman: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SAYS", "cannot connect\nto the daemon")
    with pytest.raises(IsolationError, match="podman does not work: Error: cannot connect to the"):
        LocalServer("podman")


def test_an_engine_that_has_no_bounds_is_used_without(
    podman: Given, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    monkeypatch.setenv("FAKE_REFUSES", "--memory")
    isolator = probe("podman", work, image=podman.image)
    assert isolator.held == set()
    assert "memory, processor time, disk space are only looked at" in isolator.guards(Limits())
    assert run("ulimit -d", memory=mib(100), **podman.options)[0]["stdout"] == str(100 * 1024)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FAKE_REFUSES", "--read-only", "cannot set that"),
        ("FAKE_LOSES", CONTROL, "does not arrive on this machine"),
        ("FAKE_LOSES", "/home/student", "does not arrive on this machine"),
    ],
)
def test_an_engine_that_can_not_run_the_image_tells_why(
    podman: Given,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(IsolationError, match=f"podman cannot run an/image:of-it: .*{words}"):
        LocalServer("podman", podman.image)


def test_a_container_that_does_not_start_leaves_nothing(
    podman: Given, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    isolator = probe("podman", work, image=podman.image)
    # Its driver is not found; or it has none.
    monkeypatch.setattr(containers, "is_driver", lambda _: False)

    async def main() -> None:
        pool = Pool(isolator, work, Limits(warm=0))
        with pytest.raises(BoxError, match="not visible to the server"):
            async with pool.box():
                pass
        monkeypatch.setenv("FAKE_REFUSES", "--read-only")
        pool._launcher.close()
        pool._launcher._open()
        with pytest.raises(BoxError, match="cannot set that"):
            async with pool.box():
                pass
        assert podman.containers(os.getpid()) == []
        await pool.close()

    asyncio.run(main())
    assert [path.name for path in work.iterdir()] == ["etc"]


def test_an_image_where_none_is_used_is_an_error(tmp_path: Path) -> None:
    for isolation in ("bubblewrap", "none"):
        with pytest.raises(ValueError, match="uses no image"):
            probe(isolation, tmp_path, image="x")
    found = CliRunner().invoke(app, ["serve", "--image", "x"])
    assert (found.exit_code, "isolation is bubblewrap" in found.stderr) == (2, True)


def test_the_command_line_takes_an_engine_and_an_image(podman: Given) -> None:
    found = CliRunner().invoke(app, ["serve", "--isolation", "podman", "--image", "missing"])
    assert found.exit_code == 69
    assert "`podman pull missing`" in found.stderr


@pytest.mark.parametrize(
    ("name", "user", "rootless", "inside", "options"),
    [
        ("podman", 0, False, 65534, ["--user", "65534:65534"]),
        ("docker", 0, False, 65534, ["--user", "65534:65534"]),
        ("podman", 7, True, 1000, ["--userns", "keep-id:uid=1000,gid=1000", "--user", "1000:1000"]),
        ("docker", 7, False, 7, ["--user", "7:8"]),
        ("docker", 7, True, 0, ["--user", "0:0"]),
    ],
)
def test_commands_have_the_account_that_owns_their_files(
    monkeypatch: pytest.MonkeyPatch,
    name: Engine,
    user: int,
    rootless: bool,
    inside: int,
    options: list[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: 8)
    assert containers.account(name, rootless=rootless) == (inside, options)


def test_the_command_line_of_a_container_shuts_everything(podman: Given, work: Path) -> None:
    isolator = cast("containers.Containers", probe("podman", work, image=podman.image))
    home, control = Path("/x/home"), Path("/x/control")
    command = isolator.command("a-name", home, control, ["/bin/bash", "driver"])
    text = " ".join(command)
    for words in (
        "run --name a-name --rm --interactive --pull never",
        "--network none",
        "--cap-drop ALL --security-opt no-new-privileges",
        "--read-only --read-only-tmpfs=false",
        f"--memory {Limits().memory} --memory-swap {Limits().memory} --pids-limit 257",
        "--volume /x/home:/home/student:rw,Z --volume /x/control:/run/sandbox:ro,Z an/image:of-it",
    ):
        assert words in text
    assert "--privileged" not in text
    assert "LC_ALL=C SHELL=/bin/bash /bin/bash driver" in text


def test_control_groups_of_other_makers_are_found(tmp_path: Path) -> None:
    assert cgroups.memory_group(tmp_path) is None
    for name in ("9:name=systemd:/\n0::/\n", "4:memory:/\n", "0::/no/such/group\n"):
        (tmp_path / "cgroup").write_text(name)
        assert cgroups.memory_group(tmp_path) is None


@pytest.mark.parametrize("isolation", ["bubblewrap", "podman", "docker"])
def test_other_systems_are_refused_with_one_paragraph(
    monkeypatch: pytest.MonkeyPatch, isolation: Any
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(LocalSandboxError, match=r"needs Linux, and this is darwin\. Run it in a "):
        Sandbox.local(isolation=isolation)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        LocalSandboxError, match=r"needs Linux, and this is Windows\. Run it in WSL"
    ):
        Sandbox.local(isolation=isolation)
