"""A container engine for machines without any: as much as the local sandbox uses, by bubblewrap.

The folder FAKE_ENGINE has a file for each container, named as it is, that holds its process id.
FAKE_REFUSES is an option that it does not take, FAKE_LOSES a folder that it does not share, and
FAKE_SAYS what `info` fails with.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_ENGINE"])
FLAGS = {"--rm", "--interactive", "--read-only", "--read-only-tmpfs=false", "--no-healthcheck"}


def main(engine: str, command: str, *arguments: str) -> int:
    """Do what the command line of an engine does."""
    match command, arguments:
        case "info", _:
            if text := os.environ.get("FAKE_SAYS"):
                return failed(text)
            rootless = "true" if os.geteuid() else "false"
            print("9.9.9", rootless if engine == "podman" else '["name=seccomp"]')
        case "image", ("inspect", *_, image):
            if image == "missing":
                return failed(f"{image}: image not known")
            environ = ["PATH=/usr/bin:/bin:/of/the/image", "GREETING=hello"]
            print(json.dumps({"Env": environ, "Volumes": {"/data": {}}}))
        case "container", ("inspect", *_, name):
            # It was started, but that may not be written down yet.
            for _ in range(500):
                if (STATE / name).exists():
                    break
                time.sleep(0.01)
            print((STATE / name).read_text())
        case "ps", ("-aq", *_, wanted):
            print(*[path.name for path in STATE.iterdir() if wanted.split("=")[-1] in path.name])
        case "ps", _:
            print(*[path.name for path in STATE.iterdir()], sep="\n")
        case "rm", (_, *names):
            for name in names:
                if not (STATE / name).exists():
                    return failed(f"no such container: {name}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int((STATE / name).read_text()), signal.SIGKILL)
                (STATE / name).unlink(missing_ok=True)
        case "create", ("--name", name, *_):
            (STATE / name).write_text("99999999")
        case "run", _:
            return run(list(arguments))
        case _:
            return failed(f"unknown command {command}")
    return 0


def failed(text: str) -> int:
    print("Error:", text, file=sys.stderr)
    return 125


def run(arguments: list[str]) -> int:
    """Run a container, and wait for its end."""
    options: dict[str, list[str]] = {}
    while arguments[0].startswith("-"):
        option = arguments.pop(0)
        options.setdefault(option, []).append("" if option in FLAGS else arguments.pop(0))
    _image, *command = arguments
    if os.environ.get("FAKE_REFUSES") in options:
        return failed("cannot set that without control groups")
    [user] = options["--user"]
    uid, _, gid = user.partition(":")
    parts = ["--unshare-all", "--uid", uid, "--gid", gid, "--as-pid-1", "--clearenv"]
    parts += ["--setenv", "SECRET", "of the engine", "--hostname", "sandbox"]
    parts += ["--share-net"] if options["--network"] == ["host"] else []
    parts += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for path in (Path("/", name) for name in ("bin", "sbin", "lib", "lib64")):
        if path.exists():
            parts += ["--symlink", f"usr{path}", str(path)]
    for mount in options["--tmpfs"]:
        parts += ["--perms", "1777", "--tmpfs", mount.partition(":")[0]]
    for volume in options["--volume"]:
        source, target, mode = volume.split(":")
        if target == os.environ.get("FAKE_LOSES"):
            source = elsewhere()
        parts += ["--bind" if "rw" in mode else "--ro-bind", source, target]
    parts += ["--remount-ro", "/", "--chdir", *options["--workdir"]]
    return start(options["--name"][0], parts, [*options["--entrypoint"], *command])


def elsewhere() -> str:
    """Return a folder that takes the place of one, as on another machine."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    os.mkfifo(folder / "pipe")
    for path in (folder / "pipe", folder):
        path.chmod(0o777)
    return str(folder)


def start(name: str, parts: list[str], command: list[str]) -> int:
    """Run a command in a sandbox, and wait for its end."""
    info, info_end = os.pipe()
    account = 65534 if os.geteuid() == 0 else None
    with subprocess.Popen(
        [os.environ["FAKE_BWRAP"], *parts, "--info-fd", str(info_end), "--", *command],
        pass_fds=[info_end],
        # Like those of an engine, it outlives the one who waits for it.
        start_new_session=True,
        user=account,
        group=account,
        extra_groups=None if account is None else [],
    ) as process:
        os.close(info_end)
        with open(info) as file:
            pid = json.loads(file.read() or '{"child-pid": 0}')["child-pid"]
        (STATE / name).write_text(str(pid))
        code = process.wait()
    (STATE / name).unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
