"""The description of a server's version, put together from the files in openapi/.

python -m scripts.description            print the newest version with all add-ons, as JSON
python -m scripts.description 2.0        print another one: the names of overlays, in their order

`sandbox.yaml` is the newest server, whole. A file in `overlays/` says what another version answers
otherwise, or what an add-on brings, and nothing that is the same: an OpenAPI Overlay 1.0. Applying
one is a few lines here, since the one tool for it on PyPI (oas-patch) brings seven packages and
takes a target that matches nothing for done.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import jsonpath
import yaml

OPENAPI = Path(__file__).resolve().parent.parent / "openapi"
ADD_ONS = ("loader",)
"""What is part of the client, though not of every server."""


def load(file: Path) -> Any:
    """Return what a file of YAML or JSON holds."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def overlays(folder: Path = OPENAPI) -> list[str]:
    """Return the names of all overlays."""
    return sorted(file.stem for file in (folder / "overlays").glob("*.yaml"))


def describe(*names: str, folder: Path = OPENAPI) -> dict[str, Any]:
    """Return the newest version with some overlays applied.

    Raises:
        ValueError: there is no such overlay, or it changes what is not there.
    """
    document: dict[str, Any] = load(folder / "sandbox.yaml")
    for name in names:
        for overlay in _chain(name, folder):
            apply(overlay, document)
    return document


def _chain(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return an overlay, after those that it `extends`."""
    if name not in overlays(folder):
        raise ValueError(f"there is no overlay {name!r}, but {', '.join(overlays(folder))}")
    overlay: dict[str, Any] = load(folder / "overlays" / f"{name}.yaml")
    below = Path(overlay["extends"]).stem if "extends" in overlay else ""
    return [*(_chain(below, folder) if below else ()), overlay]


def apply(overlay: dict[str, Any], document: dict[str, Any]) -> None:
    """Change a document as an overlay says."""
    for action in overlay["actions"]:
        matches = [*jsonpath.finditer(action["target"], document)]
        if not matches:
            raise ValueError(f"{overlay['info']['title']}: nothing is at {action['target']}")
        # From the end, so that the places of a list that are still to come stay what they are.
        for match in reversed(matches):
            if action.get("remove"):
                del match.parent.obj[match.parts[-1]]  # type: ignore[union-attr]
            else:
                update(match.obj, action["update"])


def update(target: Any, change: Any) -> None:
    """Merge a change into an object, or append it to a list."""
    if isinstance(target, list):
        target.extend(copy.deepcopy(change) if isinstance(change, list) else [change])
        return
    for key, value in change.items():
        there = target.get(key)
        if isinstance(value, dict | list) and isinstance(there, type(value)):
            update(there, value)
        else:
            target[key] = copy.deepcopy(value)


def dump(document: dict[str, Any]) -> str:
    """Return a description as the text of a JSON file."""
    return f"{json.dumps(document, ensure_ascii=False, indent=1)}\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(dump(describe(*(sys.argv[1:] or ADD_ONS))))
    except ValueError as error:
        sys.exit(str(error))
