"""nginx, with the configuration that the documents show."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..conftest import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = Path(__file__).parents[2] / "docs" / "deployment" / "nginx.conf"

MAIN = """
daemon off;
{user}
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {site}
}}
"""


def configured(folder: Path, port: int, upstreams: list[str], certificate: Path) -> list[str]:
    """Write the shown configuration for these places, and return the command that uses it."""
    site = SITE.read_text(encoding="utf-8")
    for shown, real in {
        "192.0.2.11:7000": upstreams[0],
        "192.0.2.12:7000": upstreams[1],
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/sandbox-api/certificate.pem": str(certificate),
        "/etc/ssl/sandbox-api/key.pem": str(certificate),
    }.items():
        assert site.count(shown) == 1, shown
        site = site.replace(shown, real)
    file = folder / "nginx.conf"
    # Else its workers would become an account that does not get at the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(MAIN.format(site=site, user=user), encoding="utf-8")
    return [str(PROGRAMS["nginx"]), "-p", str(folder), "-c", str(file), "-e", "stderr"]


def listens(port: int) -> bool:
    """Tell whether somebody listens at a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextlib.contextmanager
def balancing(folder: Path, upstreams: list[str], certificate: Path) -> Iterator[str]:
    """Run nginx before two servers, for as long as the context lasts; give its URL."""
    # It listens by itself, at a port that was free a moment ago.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = configured(folder, port, upstreams, certificate)
    with (
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(command, stderr=stderr) as nginx,
    ):
        try:
            end = time.monotonic() + 20
            while not listens(port):
                assert nginx.poll() is None, (folder / "stderr").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield f"https://localhost:{port}"
        finally:
            nginx.terminate()
