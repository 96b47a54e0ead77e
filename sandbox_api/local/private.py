"""A private server in a child process, that ends with what started it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .files import remove
from .isolation import Isolation, probe
from .limits import Limits
from .options import lasting
from .work import let_in

if TYPE_CHECKING:
    from collections.abc import Generator

# How long a private server may take to end, in seconds.
LAST_BREATH = 10.0


class LocalServer:
    """A private server in a child process, that ends with this object or with its process.

    Clients can connect to `url` at once. With podman or docker as isolation, its containers are of
    image. The commands of a request may take run_time seconds together. Raise IsolationError when
    commands cannot be isolated, and SettingError when that is no time.
    """

    def __init__(
        self,
        isolation: Isolation = "bubblewrap",
        image: str | None = None,
        run_time: float = Limits.run_time,
    ) -> None:
        lasting(Limits(), run_time)
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-"))
        try:
            with standard_streams():
                let_in(self._folder)
                probe(isolation, self._folder, image=image)
                # In a folder of its own, at which not even the account of commands is let.
                path = self._folder / "own" / "socket"
                path.parent.mkdir(0o700)
                with socket.socket(socket.AF_UNIX) as listening:
                    listening.bind(str(path))
                    path.chmod(0o600)
                    listening.listen(2048)
                    self._process = self._start(listening, isolation, image, run_time)
        except BaseException:
            remove(self._folder)
            raise
        self.url = f"unix://{path}"
        """Where it listens: `unix://` and the path of a socket."""
        self._finalizer = weakref.finalize(self, end, self._process, self._folder, os.getpid())

    def stop(self) -> None:
        """Stop the server, and whatever runs in its sandboxes. Do nothing when it is stopped."""
        self._finalizer()

    def failure(self) -> str | None:
        """Return the last that the server wrote to standard error, if it ended by itself."""
        if not self._finalizer.alive or self._process.poll() is None:
            return None
        text = ""
        with contextlib.suppress(FileNotFoundError):
            text = (self._folder / "stderr").read_text(errors="replace").strip()
        return text[-2000:] or f"exit code {self._process.returncode}"

    def _start(
        self, listening: socket.socket, isolation: Isolation, image: str | None, run_time: float
    ) -> subprocess.Popen[bytes]:
        options = [f"--fd={listening.fileno()}", "--private", str(self._folder)]
        options += [f"--isolation={isolation}", f"--run-time={run_time}"]
        options += [] if image is None else [f"--image={image}"]
        with (self._folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "sandbox_api.local", *options],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )


@contextlib.contextmanager
def standard_streams() -> Generator[None]:
    """Hold the descriptors of standard streams that are closed, as in daemons.

    Else files that a child is to have would get them, and the child's own streams their places.
    """
    held: list[int] = []
    try:
        while not held or held[-1] < 3:
            held.append(os.open(os.devnull, os.O_RDWR))
        yield
    finally:
        for each in held:
            os.close(each)


def end(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    """End a private server and remove its folder, in the process that started it."""
    if os.getpid() != owner:
        return
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(LAST_BREATH)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    remove(folder)
