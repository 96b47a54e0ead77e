"""Support another version of the server, from its description.

python -m scripts.bump --to new.yaml    put it in place of openapi/sandbox.yaml, and go on
python -m scripts.bump --from REVISION  go on from what was edited there since

Checks the description, tells what changed for users, writes that to CHANGELOG.md, generates the
client anew and looks whether all that breaks is announced.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from . import compare, description

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
UNRELEASED = "## Unreleased\n"


def noted(changelog: str, versions: tuple[str, str], changes: list[compare.Change]) -> str:
    """Return a changelog with lines about changes that it does not have yet."""
    lines = [f"- {change}" for change in changes if f"- {change}" not in changelog]
    if not lines:
        return changelog
    if UNRELEASED not in changelog:
        head, mark, rest = changelog.partition("\n## ")
        changelog = f"{head}\n{UNRELEASED}{mark}{rest}"
    head, _, rest = changelog.partition(UNRELEASED)
    if versions[0] == versions[1]:  # a correction, which no server brings
        rest = rest.lstrip("\n")
        gap = "\n" if rest and not rest.startswith("- ") else ""
        return f"{head}{UNRELEASED}\n" + "\n".join(lines) + f"\n{gap}{rest}"
    title = "### Server {1}, after {0}".format(*versions)
    if title in rest:
        before, _, after = rest.partition(f"{title}\n")
        return f"{head}{UNRELEASED}{before}{title}\n\n" + "\n".join(lines) + after
    kept, mark, older = rest.partition("\n## ")
    before = f"{kept.rstrip()}\n" if kept.strip() else ""
    section = f"{before}\n{title}\n\n" + "\n".join(lines)
    return f"{head}{UNRELEASED}{section}\n{mark}{older}"


def summary(changes: list[compare.Change]) -> str:
    """Say in a sentence how many changes there are."""
    broken = sum(not change.compatible for change in changes)
    if not changes:
        return "Nothing changes for users."
    if len(changes) == 1:
        return f"1 change, which is {'' if broken else 'not '}breaking, is in CHANGELOG.md."
    return f"{len(changes)} changes, {broken} of them breaking, are in CHANGELOG.md."


def run(name: str, *options: str) -> None:
    """Run another of the scripts; its messages are ours."""
    command = [sys.executable, "-m", f"scripts.{name}", *options]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="old", default="HEAD", help="what it was; HEAD by default")
    parser.add_argument("--to", dest="new", default="", help="a file; openapi/ by default")
    options = parser.parse_args()
    try:
        old = compare.find(options.old)
        if options.new and options.new != "now":
            shutil.copy(options.new, description.OPENAPI / "sandbox.yaml")
        run("lint")
        new = compare.find("now")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    changes = compare.compare(old, new)
    for change in changes:
        print(f"- {change}")
    versions = (old["info"]["version"], new["info"]["version"])
    text = noted(CHANGELOG.read_text(encoding="utf-8"), versions, changes)
    CHANGELOG.write_text(text, encoding="utf-8")
    run("generate")
    is_revision = not Path(options.old).exists() and options.old not in description.overlays()
    run("surface", "--base", options.old if is_revision else "HEAD")
    print(summary(changes))


if __name__ == "__main__":
    main()
