"""What is in an archive, by name; and whether its links stay inside."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from .exceptions import InvalidEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

# Shows names in messages, shortened where they are long.
_REPR = reprlib.Repr()
_REPR.maxstring = 300
shown = _REPR.repr
# How many steps the links of an archive may take altogether, and how many others one may lead to.
_STEPS = 1_000_000
_HOPS = 40


@frozen
class Link:
    """A symbolic link of a tree."""

    target: str


Entry: TypeAlias = bytes | str | Link | None
"""Of a tree: the content of a file, where a file is to be read, a link, or None: a directory.

A tree holds them by name, directories also where they hold something.
"""


def grow(tree: dict[str, Entry], name: str, entry: Entry) -> list[str]:
    """Add an entry to a tree, and return the directories above it that were added, outermost first.

    Raises:
        InvalidEnvironment: what is above it is not a directory.
    """
    added: list[str] = []
    above = name.rpartition("/")[0]
    while above and above not in tree:
        added.insert(0, above)
        above = above.rpartition("/")[0]
    if above and tree[above] is not None:
        raise InvalidEnvironment(
            f"{shown(above)} is not a directory, yet has {shown(name)} in it: rename one of them"
        )
    tree.update(dict.fromkeys(added))
    tree[name] = entry
    return added


def check_links(tree: Mapping[str, Entry], *, dangling: bool) -> None:
    """Check that the links of a tree stay inside it, the way the system would follow them.

    Args:
        tree: what to check.
        dangling: whether they may lead to nothing.

    Raises:
        InvalidEnvironment: one does not; the message names it.
    """
    left = _STEPS
    for name, link in tree.items():
        if not isinstance(link, Link):
            continue
        told = f"the symbolic link {shown(name)} leads to {shown(link.target)}"
        if link.target.startswith("/"):
            raise InvalidEnvironment(f"{told}, an absolute path: make it relative, or remove it")
        above = name.rpartition("/")[0]
        todo = link.target.split("/")[::-1]
        hops = 0
        while todo:
            left -= 1
            part = todo.pop()
            if part == "..":
                if not above:
                    raise InvalidEnvironment(f"{told}, outside the environment: remove it")
                above = above.rpartition("/")[0]
            elif part not in ("", "."):
                here = f"{above}/{part}" if above else part
                entry = tree.get(here, b"")
                if isinstance(entry, Link):
                    hops += 1
                    if hops > _HOPS or left < 0:
                        raise InvalidEnvironment(f"{told}, a maze of other links: remove it")
                    todo += entry.target.split("/")[::-1]
                    continue
                if entry is not None and (todo or here not in tree):
                    # A link may come to be there later, or be there by another case of its name.
                    if not dangling or ".." in todo:
                        raise InvalidEnvironment(
                            f"{told}, which is not in the environment: remove the link, or stop"
                            " excluding what it leads to"
                        )
                    break
                above = here
