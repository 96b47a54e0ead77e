"""The settings of a public server: read, checked, and said."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .remote import Remote, Unreachable, open_store

if TYPE_CHECKING:
    from .cell import Isolator
    from .limits import Limits

MAX_STORAGE = "10G"
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

UNISOLATED = "Commands run WITHOUT ANY ISOLATION, with all that this account may do."

# Shorter ones can be guessed.
TOKEN_SIZE = 16


class SettingError(ValueError):
    """A server cannot start with these settings; the text says why, and shows no secret."""


def parse_size(size: int | str) -> int:
    """Return a number of bytes, from one as in 500M or 10G. Raise SettingError."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)(iB|B)?", str(size), re.IGNORECASE)
    if not match:
        raise SettingError(f"{size!r} is no size: write it like 500M or 10G")
    return int(match[1]) * UNITS[match[2].upper()]


def lasting(limits: Limits, run_time: float) -> Limits:
    """Return bounds that let the commands of a request take so long, in seconds.

    They may use two processors all the time. Raise SettingError where it is no time.
    """
    if not 0 < run_time < math.inf:
        raise SettingError(f"The commands of a request cannot take {run_time:g} s together")
    return replace(limits, run_time=run_time, cpu_time=2 * run_time)


def usable_token(token: str | None, *, needed: bool) -> str | None:
    """Return the token to demand, if any. Raise SettingError when it is needed or can't be used."""
    if not token:
        if needed:
            raise SettingError(
                "Others than this machine can reach that address, so that the server must demand a "
                "token, or whoever reaches it can run commands. Set one as SANDBOX_TOKEN or with "
                "--token, made by `openssl rand -hex 16` for example, or listen on 127.0.0.1."
            )
        return None
    if len(token) < TOKEN_SIZE or not re.fullmatch(r"[!-~]+", token):
        raise SettingError(
            f"The token must have {TOKEN_SIZE} characters at least, all of ASCII and none a space: "
            "`openssl rand -hex 16` makes one."
        )
    return token


def data_folder() -> Path:
    """Return the folder in which this platform keeps a user's data for this program."""
    from platformdirs import user_data_path

    return user_data_path("sandbox-api", appauthor=False)


def place(data: str | os.PathLike[str] | None) -> Path | str:
    """Return where to keep environments: a folder, or the URL of a store. Raise SettingError."""
    if data == "":
        raise SettingError("The folder of environments has no name")
    text = os.fspath(data or data_folder())
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    # What is refused is not shown: it may hold a password.
    wrong = SettingError(
        "A URL to keep environments at is like s3://bucket/folder or file:///folder"
    )
    try:
        parts = urlsplit(text)
        secret = parts.password is not None or "?" in rest or "#" in rest
    except ValueError:
        raise wrong from None
    if secret:
        raise SettingError(
            "A URL to keep environments at must have no password, ? or #: others see command "
            "lines. Set what is secret as variables, as for s3:// AWS_SECRET_ACCESS_KEY."
        )
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest:
        raise wrong
    if scheme != "file":
        return text
    if parts.netloc not in ("", "localhost"):
        raise wrong
    return Path(url2pathname(parts.path))


def try_store(place: Path | str, limits: Limits) -> None:
    """Look whether environments can be kept in a place.

    Raise SettingError when not, and OSError when the store there does not answer as it should.
    """
    try:
        store = open_store(place, limits.lifetime, None)
        if isinstance(store, Remote):
            store.check()
    except ImportError:
        scheme = str(place).partition("://")[0]
        extra = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}.get(scheme)
        install = f"'sandbox-api[{extra}]'" if extra else f"fsspec, and what it has for {scheme}://"
        raise SettingError(f"{scheme}:// needs more packages: pip install {install}") from None
    except Unreachable as error:
        raise OSError(f"Environments cannot be kept at {place}: {error.reason}") from None
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise SettingError(f"Environments cannot be kept at {place}: {reason}") from None


def greeting(
    url: str, isolator: Isolator, limits: Limits, data: Path | str, room: int, token: str | None
) -> str:
    """Return what a server says at its start: where it listens, what isolates, what is limited."""
    isolates = f"{isolator.version} isolates commands." if isolator.isolates else UNISOLATED
    lines = [
        f"The sandbox listens on {url}. {isolates}",
        f"  It executes {limits.slots} requests at once, others wait {limits.patience:g} s. "
        f"Each has {limits.run_time:g} s.",
        f"  {isolator.guards(limits)}",
        f"  Environments are kept {limits.lifetime / 3600:g} hours in {data}, "
        f"{size_text(room)} at most.",
        "  Requests must carry the token." if token else "  Requests need no token.",
    ]
    if url.startswith("http"):
        lines.append(f"  Open {url}/ in a browser, or set SANDBOX_URL={url}.")
    return "\n".join(lines)


def size_text(size: int) -> str:
    """Return a number of bytes as people read it."""
    unit = next((unit for unit in "TGMK" if size >= UNITS[unit] and not size % UNITS[unit]), "")
    return f"{size // UNITS[unit]} {unit}iB" if unit else f"{size} bytes"
