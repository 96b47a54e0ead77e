"""Patterns that say what is not packed, like those of a `.gitignore`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Excluded:
    """Tells what some patterns exclude; the last one that matches decides."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []
        for pattern in patterns:
            text = re.sub(r"(?<!\\)\s+\Z", "", pattern)
            negated = text.startswith("!")
            body = text.removeprefix("!")
            only_directories = body.endswith("/")
            body = body.removesuffix("/")
            if body and not text.startswith("#"):
                compiled = re.compile(translate(body), re.DOTALL)
                self._rules.append((compiled, only_directories, negated))
        self._rules.reverse()

    def __call__(self, name: str, is_directory: bool) -> bool:
        for pattern, only_directories, negated in self._rules:
            if (is_directory or not only_directories) and pattern.match(name):
                return not negated
        return False

    def with_above(self, name: str) -> bool:
        """Tell whether a file is excluded, or a directory above it."""
        above = [name[: slash.start()] for slash in re.finditer("/", name)]
        return any(self(each, True) for each in above) or self(name, False)


_TOKEN = re.compile(
    r"(?P<folders>(?<![^/])\*\*/)|(?P<all>\*\*)|(?P<star>\*)|(?P<one>\?)"
    r"|\[(?P<negated>[!^]?)(?P<set>\][^\]]*|[^\]]+)\]|\\?(?P<character>.)",
    re.DOTALL,
)
# Any number of directories, each with its slash, none at first.
_FOLDERS = r"(?:.*?/)??"


def translate(pattern: str) -> str:
    """Return a pattern of a `.gitignore` as a regular expression of whole paths.

    Wherever a wildcard comes, what lies before it may match as early as it can and never again, so
    those groups are atomic: a hostile pattern takes no more than quadratic time.
    """
    anchored = "/" in pattern
    # For each `**`: how it begins, and what lies between the single stars after it.
    sections = [["" if anchored else _FOLDERS, ""]]
    for token in _TOKEN.finditer(pattern.removeprefix("/")):
        match token.lastgroup:
            case "folders":
                sections.append([_FOLDERS, ""])
            case "all":
                sections.append([".*?", ""])
            case "star":
                sections[-1].append("")
            case "one":
                sections[-1][-1] += "[^/]"
            case "set":
                sections[-1][-1] += _set(token["set"], negated=bool(token["negated"]))
            case _:
                sections[-1][-1] += re.escape(token["character"])
    sections[-1][-1] += r"\Z"
    return "".join(
        f"(?>{start}{first}{''.join(f'(?>[^/]*?{chunk})' for chunk in rest)})"
        for start, first, *rest in sections
    )


def _set(characters: str, *, negated: bool) -> str:
    def escaped(part: re.Match[str]) -> str:
        if part[3]:
            return re.escape(part[3])
        return f"{re.escape(part[1])}-{re.escape(part[2])}" if part[1] <= part[2] else ""

    inside = re.sub(r"(.)-(.)|(.)", escaped, characters, flags=re.DOTALL)
    if negated:
        return f"[^/{inside}]"
    return f"(?!/)[{inside}]" if inside else "(?!)"
