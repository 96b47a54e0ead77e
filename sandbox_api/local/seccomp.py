"""Keep commands away from the kernel's sharp edges: a filter of system calls, made here.

The filter is a program of the kernel's classic packet filter, see seccomp(2). It does not replace
namespaces, but takes away what programs of students never need and what kernels often had holes in.
"""

from __future__ import annotations

import errno
import struct

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
# Where the number of the call, the architecture and its arguments are in what is filtered.
NUMBER, ARCHITECTURE = 0, 4
FIRST, SECOND, THIRD = 16, 24, 32

# Calls have this bit in the second numbering of x86-64, which would be a way around the filter.
X32 = 0x40000000

# Flags of clone() and unshare() for new namespaces; the last is one of unshare() only.
NAMESPACES = 0x7E020000
TIME_NAMESPACE = 0x80

# Unix, IPv4, IPv6 and netlink; not those that know no network namespaces (vsock), nor those
# that lead to seldom used parts of the kernel.
FAMILIES = (1, 2, 10, 16)
NETLINK = 16
# What programs set to look like on another machine; all else weakens their own protection.
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# Ways to type into the terminal that the server was started from.
TERMINAL = (0x5412, 0x541C)

# Newer calls have the same numbers everywhere. Programs have other ways to do what these do.
ABSENT: dict[str, int] = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "clone3": 435,  # its flags cannot be seen from here
    "memfd_secret": 447,
}
NEWER: dict[str, int] = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "set_mempolicy_home_node": 450,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "open_tree_attr": 467,
}
# The calls that are refused, with their numbers on x86-64 and on 64-bit ARM.
REFUSED: dict[str, tuple[int, int]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# Those where it depends on their arguments.
DEPENDS: dict[str, tuple[int, int]] = {
    "personality": (135, 92),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "clone": (56, 220),
    "unshare": (272, 97),
}
# Only on x86-64: uselib, ustat, modify_ldt, _sysctl, iopl, ioperm, and three for modules.
X86_64_ONLY = (134, 136, 154, 156, 172, 173, 174, 177, 178)

# What each architecture is called in what is filtered, which of the numbers above it has, and more.
MACHINES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (0xC000003E, 0, X86_64_ONLY),
    "aarch64": (0xC00000B7, 1, ()),
}


class Assembler:
    """A program that is put together from the start, with labels ahead."""

    def __init__(self) -> None:
        self._code: list[tuple[int, str, str, int]] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        """Look at the word at offset."""
        self._code.append((LOAD, "", "", offset))

    def jump(self, test: int, value: int, then: str, otherwise: str = "") -> None:
        """Go on at then when the word passes the test, else at otherwise or with what follows."""
        self._code.append((test, then, otherwise, value))

    def label(self, name: str) -> None:
        """Name what follows."""
        self._labels[name] = len(self._code)

    def end(self, verdict: int) -> None:
        """End with a verdict."""
        self._code.append((RETURN, "", "", verdict))

    def program(self) -> bytes:
        """Return the program in the form that the kernel takes."""
        return b"".join(
            struct.pack("<HBBI", code, self._skip(then, at), self._skip(otherwise, at), value)
            for at, (code, then, otherwise, value) in enumerate(self._code)
        )

    def _skip(self, label: str, at: int) -> int:
        return self._labels[label] - at - 1 if label else 0


def program(machine: str) -> bytes | None:
    """Return the filter for a kind of processor, or None when there is none for it."""
    if machine not in MACHINES:
        return None
    architecture, column, more = MACHINES[machine]
    into = Assembler()
    into.load(ARCHITECTURE)
    into.jump(EQUAL, architecture, "", "foreign")
    into.load(NUMBER)
    if machine == "x86_64":
        into.jump(AT_LEAST, X32, "absent")
    for number in ABSENT.values():
        into.jump(EQUAL, number, "absent")
    for name, numbers in DEPENDS.items():
        into.jump(EQUAL, numbers[column], name)
    for number in (*(numbers[column] for numbers in REFUSED.values()), *NEWER.values(), *more):
        into.jump(EQUAL, number, "refused")
    into.end(ALLOW)
    arguments(into)
    into.label("allowed")
    into.end(ALLOW)
    into.label("refused")
    into.end(ERROR | errno.EPERM)
    into.label("absent")
    into.end(ERROR | errno.ENOSYS)
    into.label("family")
    into.end(ERROR | errno.EAFNOSUPPORT)
    into.label("foreign")
    into.end(KILL)
    return into.program()


def arguments(into: Assembler) -> None:
    """Add what looks at the arguments of calls."""
    into.label("personality")
    into.load(FIRST)
    for persona in PERSONALITIES:
        into.jump(EQUAL, persona, "allowed")
    into.end(ERROR | errno.EPERM)
    into.label("ioctl")
    into.load(SECOND)
    for request in TERMINAL:
        into.jump(EQUAL, request, "refused")
    into.end(ALLOW)
    into.label("socket")
    into.load(FIRST)
    into.jump(EQUAL, NETLINK, "netlink")
    for family in FAMILIES:
        into.jump(EQUAL, family, "allowed")
    into.end(ERROR | errno.EAFNOSUPPORT)
    into.label("netlink")
    into.load(THIRD)
    # Only the kind that lists the network's devices and addresses.
    into.jump(EQUAL, 0, "allowed", "family")
    into.label("clone")
    into.load(FIRST)
    into.jump(ANY_BIT, NAMESPACES, "refused", "allowed")
    into.label("unshare")
    into.load(FIRST)
    into.jump(ANY_BIT, NAMESPACES | TIME_NAMESPACE, "refused", "allowed")
