"""A sandbox server on this machine, for use without a real one.

`LocalServer` is a private server that ends with its parent; `serve` is a public one that runs until
it is stopped. Both isolate commands with bubblewrap, and raise `IsolationError` when they can not.
`SettingError` tells of settings that a public one can not start with.
"""

from .isolation import IsolationError
from .options import SettingError
from .private import LocalServer
from .server import serve

__all__ = ["IsolationError", "LocalServer", "SettingError", "serve"]
