"""A sandbox server on this machine, for use without a real one.

`LocalServer` is a private server that ends with its parent; `serve` is a public one that runs until
it is stopped. Both isolate commands with bubblewrap, and raise `IsolationError` when they can not.
"""

from .isolation import IsolationError
from .server import LocalServer, serve

__all__ = ["IsolationError", "LocalServer", "serve"]
