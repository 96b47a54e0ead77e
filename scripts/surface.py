"""Compare what users can see with the last release: `python -m scripts.surface [--base REVISION]`.

Fails for each name, signature or type that changed against users and that `CHANGELOG.md` does not
announce: in a line that says **Breaking:** and names it, above the section of that release.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sandbox_api", "generated/sandbox_client")


def load(root: Path) -> list[Any]:
    """Return what users can see of the packages below a folder: ours, and all models."""
    loader = griffe.GriffeLoader(search_paths=[str(root), str(root / "generated")])
    client = loader.load("sandbox_client", try_relative_path=False)
    package = loader.load("sandbox_api", try_relative_path=False)
    loader.resolve_aliases(external=False)
    return [package, client["models"]]


def breakages(old: list[Any], new: list[Any]) -> list[tuple[str, str]]:
    """Return the name of each thing that changed against users, and a line about it."""
    found: dict[str, str] = {}
    pairs = [*zip(old, new, strict=True)]
    for each in (each for pair in pairs for each in griffe.find_breaking_changes(*pair)):
        name = short(each.obj.path)
        text = each.kind.value[0].lower() + each.kind.value[1:]
        was, is_ = each.old_value, each.new_value
        if isinstance(was, griffe.Object | griffe.Alias):
            found[name] = f"{name}: {text}"
        else:
            shown = str(getattr(is_ if is_ is not None else was, "name", is_))
            found[name] = f"{name}: {text} ({shown})"
    for name, was, is_ in (each for pair in pairs for each in retyped(*pair)):
        found.setdefault(name, f"{name}: attribute's type was {was}, is {is_}")
    return sorted(found.items())


def short(path: str) -> str:
    """Return a path as users write it: `CommandResult.time`."""
    parts = [part for part in path.split(".") if not part.islower() or part == path.split(".")[-1]]
    return re.sub(r"\(.*", "", ".".join(parts))


def retyped(old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield each attribute of a class whose type changed, which griffe does not look at."""
    for name in old.exports or ():
        one, other = old.members.get(str(name)), new.members.get(str(name))
        if one is None or other is None or not (one.is_class and other.is_class):
            continue
        for key, attribute in one.members.items():
            there = other.members.get(key)
            if key.startswith("_") or there is None or not attribute.is_attribute:
                continue
            was, is_ = str(attribute.annotation), str(getattr(there, "annotation", None))
            if was != is_:
                yield f"{name}.{key}", was, is_


def announced(changelog: str, base: str) -> str:
    """Return the lines that say what breaks, of all sections above the one of a release.

    Where none has its name, as of a commit, they are those of the first section.
    """
    _, *sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    names = [re.split(r"[\s,]", section, maxsplit=1)[0] for section in sections]
    name = base.removeprefix("v")
    newer = sections[: names.index(name) if name in names else 1]
    entries = [entry for section in newer for entry in re.split(r"\n(?=\s*- )", section)]
    return "\n".join(entry for entry in entries if "**Breaking:**" in entry)


def last_release() -> str | None:
    """Return the tag of the last release, if there is one."""
    if shutil.which("git") is None:
        return None
    told = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or None


def unpack(revision: str, folder: Path) -> None:
    """Write the packages as they were at a revision of git to a folder."""
    packed = subprocess.run(
        ["git", "archive", revision, *PACKAGES], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode:
        sys.exit(f"{revision}: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default=last_release(), help="a revision of git; the last tag")
    options = parser.parse_args()
    if not options.base:
        return  # nothing is released yet
    with tempfile.TemporaryDirectory() as folder:
        unpack(options.base, Path(folder))
        found = breakages(load(Path(folder)), load(ROOT))
    told = announced((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), options.base)
    lines = [line for name, line in found if name not in told]
    if lines:
        sys.exit(
            f"Users of {options.base} will find that these break; announce each in CHANGELOG.md, "
            "in a line with **Breaking:**\n  " + "\n  ".join(lines)
        )


if __name__ == "__main__":
    main()
