"""What a client needs of the local sandbox, which is loaded only when it is asked for."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from ._deprecation import users_level
from .exceptions import LocalSandboxError

if TYPE_CHECKING:
    from .local import LocalServer

# What the extra `local` installs, but for bubblewrap, which may be the system's.
NEEDED = (
    "offapi",
    "platformdirs",
    "prometheus_client",
    "psutil",
    "python_multipart",
    "starlette",
    *([] if sys.platform == "win32" else ["uvloop"]),
    "uvicorn",
)

# How commands are shut in; "none" is for commands that one trusts as oneself, and for no others.
Isolation = Literal["bubblewrap", "podman", "docker", "none"]


class WrongSetting(LocalSandboxError):
    """A local sandbox cannot serve with these settings."""


def start(isolation: Isolation, image: str | None, run_time: float) -> LocalServer:
    """Start a private local sandbox, with podman and docker in containers of an image.

    Raises:
        LocalSandboxError: it cannot run here.
        WrongSetting: it cannot run with these options.
    """
    _need_extra()
    from .local import UNISOLATED, IsolationError, LocalServer, SettingError

    if isolation == "none":
        warnings.warn(UNISOLATED, RuntimeWarning, stacklevel=users_level())
    try:
        return LocalServer(isolation, image, run_time)
    except SettingError as error:
        raise WrongSetting(str(error)) from error
    except IsolationError as error:
        # It says all that there is to say, and would say it twice.
        raise LocalSandboxError(str(error)) from None


def serve(**options: Any) -> None:
    """Serve a local sandbox over HTTP until interrupted, with the options of `local.serve`.

    Raises:
        LocalSandboxError: it cannot run here.
        WrongSetting: it cannot run with these options.
    """
    _need_extra()
    from .local import IsolationError, SettingError, serve

    try:
        serve(**options)
    except SettingError as error:
        raise WrongSetting(str(error)) from error
    except (IsolationError, OSError) as error:
        raise LocalSandboxError(str(error)) from error


def missing() -> list[str]:
    """Return the packages of the extra `local` that are not installed, as pip names them."""
    return [name.replace("_", "-") for name in NEEDED if not find_spec(name)]


def _need_extra() -> None:
    if sys.platform == "win32":
        # It cannot even be imported.
        raise LocalSandboxError(
            "the local sandbox needs Linux, and this is Windows. Run it in WSL 2, where "
            "bubblewrap, podman or docker can isolate commands, or use a sandbox on another "
            "machine, by its URL."
        )
    if lacks := missing():
        raise LocalSandboxError(
            f"the local sandbox needs more packages ({', '.join(lacks)}): "
            "pip install 'sandbox-api[local]'"
        )
