"""A process that outlives the server, however that ends, and removes what it left."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["group", "folder", "podman", "docker"]

# Lines of a kind and a path come until the server is gone. Whatever ran in sandboxes died with it,
# but it may take the kernel a moment to notice. Not so what an engine of containers runs: of those
# kinds it removes what has a label, and looks whether one was still being made.
SCRIPT = """
trap '' HUP INT QUIT TERM
while read -r kind path; do set -- "$@" "$kind" "$path"; done
for round in 1 2 3 4 5 6 7 8 9 10; do
  left=$# again=''
  while [ "$left" -gt 0 ]; do
    case $1 in
    group) for each in "$2"/*/ "$2"; do [ ! -d "$each" ] || rmdir "$each" || again=1; done ;;
    podman | docker)
      found=$("$1" ps -aq --filter "label=$2")
      [ ! "$found" ] || { "$1" rm -f $found; again=1; }
      ;;
    folder) chmod -R u+rwX "$2" && rm -rf "$2" || [ ! -e "$2" ] || again=1 ;;
    esac
    set -- "$@" "$1" "$2"
    shift 2
    left=$((left - 2))
  done
  [ "$again" ] || exit 0
  sleep 0.2
done
"""


class Undertaker:
    """Remove groups, folders and containers when this process ends, or at the end of all work."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            # An engine finds its settings in all kinds of variables.
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{os.defpath}"},
        )

    def take(self, kind: Kind, path: Path | str) -> None:
        """Name something to remove, before it is made: a path, or a label of containers."""
        if self._process.stdin and b"\n" not in os.fsencode(path):
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"%b %b\n" % (kind.encode(), os.fsencode(path)))
                self._process.stdin.flush()

    def close(self) -> None:
        """Let it do its work, and wait for it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
