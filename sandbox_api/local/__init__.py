"""A sandbox server on this machine, for use without a real one.

`LocalServer` is a private server that ends with its parent; `serve` is a public one that runs until
it is stopped. Both isolate commands with bubblewrap, or as they are told with podman or docker, and
raise `IsolationError` when they cannot.
`SettingError` tells of settings that a public one cannot start with, and `UNISOLATED` that nothing
isolates commands, which a private one leaves to who starts it.
"""

from .isolation import IsolationError
from .options import UNISOLATED, SettingError
from .private import LocalServer
from .server import serve

__all__ = ["UNISOLATED", "IsolationError", "LocalServer", "SettingError", "serve"]
