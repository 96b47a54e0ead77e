"""Networks with nothing in them, made ahead of the boxes that have them: each box one of its own.

To make a network, and to remove it, is the most that the kernel has to do for a box. One that its
box made no use of is as good as a new one, and only such a one is given to another box, once the
first is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading

# Of Linux's <sched.h>, <linux/sockios.h> and <net/if.h>.
NEW_NETWORK = 0x40000000
SET_FLAGS, UP = 0x8914, 1

LIBC = ctypes.CDLL(None, use_errno=True)

NO_SOCKETS = b"sockets: used 0\n"
# Where it shows that something was sent; the second is only where there is IPv6.
TRACES = "net/dev", "net/ip6_flowlabel"


class Network:
    """A network of which nothing but its own loopback interface can be reached.

    To be made where this process may, and to be closed. Raise OSError where it may not.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        """By which processes enter it."""
        self._files: list[int] = []
        failures: list[OSError] = []
        # Only a thread leaves the network of its process.
        thread = threading.Thread(target=self._make, args=(failures,))
        thread.start()
        thread.join()
        if failures:
            self.close()
            raise failures[0]
        self.descriptor, self._sockets, *self._traces = self._files
        self._none = self._traced()

    def unused(self) -> bool:
        """Tell whether no packet was ever sent in it, and there is no socket any more.

        What else there may be in a network that has no processes, as ports that rest for a minute
        after a connection, comes of packets, but for labels of flows.
        """
        no_socket = os.pread(self._sockets, 99, 0).startswith(NO_SOCKETS)
        return no_socket and self._traced() == self._none

    def close(self) -> None:
        """Let go of it. It ends with the last process in it."""
        while self._files:
            os.close(self._files.pop())

    def _make(self, failures: list[OSError]) -> None:
        try:
            if LIBC.unshare(NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "no network can be made")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
            for name in ("ns/net", "net/sockstat", *TRACES):
                path = f"/proc/thread-self/{name}"
                if name not in TRACES or os.path.exists(path):  # noqa: PTH110
                    self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            failures.append(error)

    def _traced(self) -> list[bytes]:
        return [os.pread(trace, 4096, 0) for trace in self._traces]


class Networks:
    """The networks of one server."""

    def __init__(self) -> None:
        self._unused: list[Network] = []

    def take(self) -> Network | None:
        """Return one for a box, or None where none can be made. Take a millisecond.

        It has to be given back or closed.
        """
        if self._unused:
            return self._unused.pop()
        with contextlib.suppress(OSError):
            return Network()
        return None

    def give_back(self, network: Network) -> None:
        """Keep a network, in which all is dead, for another box, or close it if it was used."""
        if network.unused():
            self._unused.append(network)
        else:
            network.close()

    def close(self) -> None:
        """Let go of those that were given back."""
        while self._unused:
            self._unused.pop().close()
