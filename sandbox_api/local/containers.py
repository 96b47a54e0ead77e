"""Shut commands in with a container engine, podman or docker: a container for each request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from . import cgroups
from .cell import (
    ANSWERS,
    DRIVER,
    ORDERS,
    UNSAFE,
    Cell,
    CellError,
    IsolationError,
    Isolator,
    Start,
    alive,
    kill,
)
from .layout import CONTROL, ENVIRON, HOME, NOBODY, quick

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from .limits import Limits
    from .undertaker import Kind

Engine = Literal["podman", "docker"]
ENGINES = ("podman", "docker")

IMAGE = "docker.io/library/python:3-slim"

# Every container has this label; its value names the server that it is of.
LABEL = "sandbox-api"

# What an engine says about itself: its version, and whether it runs without root.
ABOUT = {
    "podman": "{{.Version.Version}} {{.Host.Security.Rootless}}",
    "docker": "{{.ServerVersion}} {{json .SecurityOptions}}",
}

# Engines hand over no descriptors but the standard streams, so these carry orders and answers.
# What starts the driver puts them where it expects them, and takes all variables from it that it
# was not given.
ENTRY = f'exec /usr/bin/env -i "$@" {ORDERS}<&0 {ANSWERS}>&1 </dev/null >/dev/null'

# Writes where a driver and its commands will, and tells what bounds the kernel really has. The pipe
# is opened for reading too, for there may be nobody at its other end.
TRIAL = f"""
mkdir "$HOME/made" || exit
{{
  cd /sys/fs/cgroup
  for name in memory.max memory/memory.limit_in_bytes; do echo memory "$(<$name)"; done
  for name in pids.max pids/pids.max; do echo pids "$(<$name)"; done
}} 1<>{CONTROL}/pipe 2>/dev/null
"""

# Not told how many processes an account may have, podman asks for more than it may get itself. They
# are bounded otherwise.
PROCESSES = 32768

# How long an engine may take for what mostly takes a tenth of a second, and for the first container
# of an image, whose files it may have to copy for another account. In seconds.
SECONDS, FIRST_SECONDS = 30.0, 300.0

REMEDY = (
    "It needs podman 4.3 or later, or docker, used by this account and run on this machine itself, "
    "not in a virtual one, and an image with bash and coreutils (`--image`). "
    'isolation="bubblewrap", the default, needs neither. '
    f"{UNSAFE}"
)


class EngineError(CellError):
    """An engine did not do what it was told."""


@dataclass(frozen=True)
class Containers(Isolator):
    """Isolation by a container engine."""

    name: Engine = "podman"

    engine: str = ""
    """The path of the engine."""

    image: str = IMAGE

    options: tuple[str, ...] = ()
    """Its options up to what differs between containers."""

    bounds: tuple[str, ...] = ()
    """Those of them that control groups are needed for."""

    variables: dict[str, str] = field(default_factory=lambda: dict(ENVIRON))
    """What commands have, if they are not given others: what the image sets, and who they are."""

    controllers: frozenset[str] = frozenset()
    """What control groups were seen to bound."""

    namespace: bool = False
    """Whether the account is not the host's, so that its processes are counted apart."""

    # Podman that is killed while it makes a container leaves processes that it will not find again.
    spares: ClassVar[bool] = True

    patience: ClassVar[float] = SECONDS

    @property
    def starter(self) -> int | None:
        """User and group id that starts drivers: the server's, which knows the engine."""
        return None

    @property
    def held(self) -> frozenset[str]:
        """What control groups bound."""
        return self.controllers

    @property
    def counts(self) -> bool:
        """Whether processes of a container are counted apart from all others of their account."""
        return self.namespace

    def environ(self, home: Path) -> dict[str, str]:
        """Return the variables that commands have, if they are not given others."""
        return dict(self.variables)

    def cell(self, home: Path, control: Path) -> Cell:
        """Return a cell for a box with these folders."""
        return Container(self, home, control)

    def group(self, pid: int) -> cgroups.Group | None:
        """Return the control group that the engine made for a driver."""
        held = "memory" in self.controllers
        return cgroups.memory_group(Path(f"/proc/{pid}")) if held else None

    def remains(self) -> list[tuple[Kind, str]]:
        """Return what an undertaker has to remove after the server: its containers."""
        return [(self.name, f"{LABEL}={this_server()}")]

    def guards(self, limits: Limits) -> str:
        """Say in a few sentences what bounds commands, and what that leaves unguarded."""
        return f"They run in containers of {self.image}. {super().guards(limits)}"

    def command(self, name: str, home: Path, control: Path, driver: Sequence[str]) -> list[str]:
        """Return the command line that runs driver in a new container."""
        # The driver itself needs none of the image's.
        own = {key: self.variables[key] for key in ENVIRON} | DRIVER
        given = [f"{key}={value}" for key, value in own.items()]
        return [
            *(self.engine, "run", "--name", name),
            *self.options,
            *self.bounds,
            # Where there is SELinux, nobody else gets at them from now on.
            *("--volume", f"{home}:{HOME}:rw,Z", "--volume", f"{control}:{CONTROL}:ro,Z"),
            *(self.image, "-p", "-c", ENTRY, "bash", *given, *driver),
        ]


class Container(Cell):
    """A container, which ends with its driver and is then removed by the engine."""

    def __init__(self, isolator: Containers, home: Path, control: Path) -> None:
        self._isolator = isolator
        self._home = home
        self._control = control
        self._name = f"{LABEL}-{this_server()}-{secrets.token_hex(6)}"

    def start(
        self, driver: Sequence[str], ends: tuple[int, ...], errors: int, network: int | None = None
    ) -> Start:
        """Return how to start driver."""
        command = self._isolator.command(self._name, self._home, self._control, driver)
        return Start(command, None, {0: ends[0], 1: ends[1], 2: errors})

    async def find(self, launched: int, ready: Callable[[], Awaitable[object]]) -> int:
        """Return the process id of the driver."""
        await ready()
        show = ("container", "inspect", "--format", "{{.State.Pid}}", self._name)
        pid = int(await ask_aside(self._isolator.engine, *show))
        # So that no other process is ever taken for it, and killed.
        if not is_driver(pid):
            raise CellError("processes of the engine's containers are not visible to the server")
        return pid

    async def end(self, pid: int, launched: int, driver: int) -> None:
        """Kill everything, and wait until it is gone; the engine then removes the container."""
        if driver == launched and alive(launched):
            # There is no driver that is known, but it may run. The engine ends with it.
            with contextlib.suppress(EngineError):
                await ask_aside(self._isolator.engine, "rm", "--force", self._name)
        # The end of a pid namespace's first process is the end of all others.
        await kill(driver)


async def ask_aside(engine: str, *arguments: str) -> str:
    """Do the same as ask, without stopping the event loop."""
    # Whoever only tries what isolates, as clients do, is not to load it.
    import asyncio

    return await asyncio.to_thread(ask, engine, *arguments)


def is_driver(pid: int) -> bool:
    """Tell whether a process is a driver in a container."""
    try:
        return f"{CONTROL}/driver".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def probe(name: Engine, image: str, work: Path, limits: Limits) -> Containers:
    """Return an isolator by containers that really works below the folder work."""

    def refuse(reason: str, remedy: str = "") -> IsolationError:
        return IsolationError(f"{name} {reason}", remedy or REMEDY)

    engine = shutil.which(name)
    if engine is None:
        raise refuse("is not on PATH")
    try:
        version, _, more = ask(engine, "info", "--format", ABOUT[name]).strip().partition(" ")
    except EngineError as error:
        raise refuse(f"does not work: {error}") from error
    if not re.fullmatch(r"[\w.:/@-]+", image) or image.startswith("-"):
        raise refuse(f"can have no image {image!r}")
    try:
        text = ask(engine, "image", "inspect", "--format", "{{json .Config}}", image)
        config: dict[str, Any] = json.loads(text)
    except (EngineError, ValueError) as error:
        remedy = f"Get it with `{name} pull {image}`, or name another with bash and coreutils."
        raise refuse(f"has no image {image}", remedy) from error
    rootless = "true" in more or "rootless" in more
    inside, options = account(name, rootless=rootless)
    etc = work / "etc"
    make_etc(etc, inside)
    # What an image calls a volume would be a folder on the disk, without bounds.
    volumes: dict[str, object] = config.get("Volumes") or {}
    folders = ["/tmp", "/var/tmp", *volumes]  # noqa: S108
    variables = dict(each.split("=", 1) for each in config.get("Env") or ())
    isolator = Containers(
        f"{name} {version}",
        name=name,
        account=NOBODY if os.geteuid() == 0 else None,
        network=limits.network,
        engine=engine,
        image=image,
        options=(*common(name, limits, etc, folders), *options),
        bounds=(
            *("--memory", str(limits.memory), "--memory-swap", str(limits.memory)),
            # The driver counts too.
            *("--pids-limit", str(limits.processes + 1)),
        ),
        variables=ENVIRON | variables | {"HOME": HOME, "USER": "student"},
        namespace=rootless,
    )
    sweep(engine)
    try:
        return replace(isolator, controllers=trial(isolator, work, limits))
    except EngineError:
        # Where it may make no groups with bounds.
        isolator = replace(isolator, bounds=())
    try:
        return replace(isolator, controllers=trial(isolator, work, limits))
    except EngineError as error:
        raise refuse(f"cannot run {image}: {error}") from error


def account(name: Engine, *, rootless: bool) -> tuple[int, list[str]]:
    """Return the user id that commands have in containers, and the options that give it to them.

    On the host, it is what the working directory belongs to.
    """
    user = os.geteuid()
    if user == 0:
        return NOBODY, ["--user", f"{NOBODY}:{NOBODY}"]
    if name == "podman":
        return 1000, ["--userns", "keep-id:uid=1000,gid=1000", "--user", "1000:1000"]
    if rootless:
        # This one has no other way to be the account of the server. Without capabilities, root is
        # as any other.
        return 0, ["--user", "0:0"]
    return user, ["--user", f"{user}:{os.getegid()}"]


def common(name: Engine, limits: Limits, etc: Path, folders: Iterable[str]) -> list[str]:
    """Return the options that are the same for all containers of this server.

    Commands may write to folders, which are in memory.
    """
    # Not on all systems, and this module is loaded before it is known which one it is.
    import resource

    scratch = f"rw,exec,nosuid,nodev,mode=1777,size={limits.scratch}"
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    bound = PROCESSES if processes == resource.RLIM_INFINITY else min(processes, PROCESSES)
    return [
        *("--rm", "--interactive", "--pull", "never", "--entrypoint", "/bin/bash"),
        *("--label", f"{LABEL}={this_server()}", "--log-driver", "none", "--no-healthcheck"),
        # Else the engine would first ask kindly, and wait.
        *("--stop-signal", "KILL"),
        *("--hostname", "sandbox", "--network", "host" if limits.network else "none"),
        *("--ipc", "private", "--cgroupns", "private"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        # Podman would have folders in memory in more places, and take more than it may.
        *("--read-only", *(["--read-only-tmpfs=false"] if name == "podman" else [])),
        *(part for folder in folders for part in ("--tmpfs", f"{folder}:{scratch}")),
        *("--shm-size", str(limits.scratch), "--workdir", HOME),
        # The driver has the other bounds set, as everywhere.
        *("--ulimit", f"nofile={limits.open_files}:{limits.open_files}"),
        *(["--ulimit", f"nproc={bound}:{bound}"] if name == "podman" else []),
        *("--volume", f"{etc}/passwd:/etc/passwd:ro,z"),
        *("--volume", f"{etc}/group:/etc/group:ro,z"),
    ]


def make_etc(etc: Path, user: int) -> None:
    """Make the files that give the user of commands its name."""
    etc.mkdir(exist_ok=True)
    etc.chmod(0o755)
    texts = {
        "passwd": f"student:x:{user}:{user}::{HOME}:/bin/bash\nroot:x:0:0:root:/root:/bin/bash\n",
        "group": f"student:x:{user}:\nroot:x:0:\n",
    }
    for name, text in texts.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)


def trial(isolator: Containers, work: Path, limits: Limits) -> frozenset[str]:
    """Run a container, and return what its control groups bound. Raise EngineError."""
    with contextlib.ExitStack() as stack:
        # Where those of boxes are.
        home, control = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            for folder in (work, quick(work))
        )
        for folder in (home, control):
            isolator.give(folder)
        os.mkfifo(control / "pipe")
        (control / "pipe").chmod(0o666)
        pipe = os.open(control / "pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, pipe)
        driver = ["/bin/bash", "-p", "-c", TRIAL]
        start = Container(isolator, home, control).start(driver, (0, 0), 0)
        ask(*start.command, seconds=FIRST_SECONDS)
        text = os.read(pipe, 4096)
        if not text or not (home / "made").exists():
            raise EngineError("what is written in its containers does not arrive on this machine")
        owner = (home / "made").stat().st_uid
        if owner != home.stat().st_uid:
            raise EngineError(f"what is written in its containers belongs to account {owner}")
    wanted = {"memory": limits.memory, "pids": limits.processes + 1}
    found: set[str] = set()
    for line in text.decode().splitlines():
        controller, _, bound = line.partition(" ")
        # Some engines only warn when they cannot bound something.
        if bound.isdigit() and 0 < int(bound) <= wanted[controller]:
            found.add(controller)
    return frozenset(found)


def ask(engine: str, *arguments: str, seconds: float = SECONDS) -> str:
    """Run an engine, and return what it says. Raise EngineError, which tells why it did not."""
    try:
        result = subprocess.run(  # noqa: S603
            [engine, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(str(error)) from error
    if result.returncode:
        raise EngineError(result.stderr.strip()[-500:] or f"exit code {result.returncode}")
    return result.stdout


def sweep(engine: str) -> None:
    """Remove the containers of servers that were killed, with what would have removed them."""
    names = ("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}")
    # What cannot be removed now will perhaps be the next time.
    with contextlib.suppress(EngineError):
        for name in ask(engine, *names).split():
            server = name.removeprefix(f"{LABEL}-").rpartition("-")[0]
            if not runs(server):
                ask(engine, "rm", "--force", name)


def this_server() -> str:
    """Return a name of this process that no other has, and that tells where it can be found."""
    return f"{namespace()}-{os.getpid()}-{started(os.getpid())}"


def runs(server: str) -> bool:
    """Tell whether a server may run: not when it is known that it does not."""
    match = re.fullmatch(r"(\d+)-(\d+)-(\d+)", server)
    if not match or int(match[1]) != namespace():
        return True
    return started(int(match[2])) == match[3]


def namespace() -> int:
    """Return the number of the namespace that process ids of this machine are in."""
    return Path("/proc/self/ns/pid").stat().st_ino


def started(pid: int) -> str:
    """Return when a process started, in ticks since the machine did; nothing when there is none."""
    with contextlib.suppress(OSError):
        # Its name is in parentheses, and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
