"""Build the site: docs/ and what stands beside it, put together, and made into pages.

Pages are put into a folder of their own first, with links that suit them: in the repository a
page links to `../CHANGELOG.md`, on the site to `changelog.md`. The reference of HTTP gets its files
there too, so that nothing is fetched when the site is read.

Where the site is published is told by $SITE_URL, for the list of its pages, and for the page of
addresses that are not there, whose links can't be relative.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from sandbox_api.local.seen import BUNDLED, HERE, bundle

ROOT = Path(__file__).parents[1]
# What is not in docs/, and where it is on the site.
BESIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
# What is linked to and is no page, and the page that shows it.
SHOWN = {"README.md": "index.md", "openapi/sandbox.yaml": "reference/http.md"}
# Of a page: targets of links and pictures, but not of addresses and places within the page.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
# A picture that is light or dark as the system is. The site has a switch of its own.
PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(.*?)">\s*'
    r'<img src="(.*?)" alt="(.*?)">\s*</picture>'
)

# What a build says where all is well.
QUIET = re.compile(r"(Build (started|finished)[^\n]*\n|No issues found\n)*")
# What searching a page that was opened as a file would fetch; docs/assets/worker.js does as well.
FETCHED = "https://unpkg.com/iframe-worker/shim"


def place(path: str) -> str:
    """Return where on the site a path of the repository is.

    Raises:
        ValueError: nowhere.
    """
    if found := {**BESIDE, **SHOWN}.get(path):
        return found
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    raise ValueError(f"{path} is not on the site")


def mended(text: str, source: str) -> str:
    """Return a page whose links lead to where their targets are on the site."""
    page = place(source)

    def mend(match: re.Match[str]) -> str:
        target = os.path.normpath(Path(source).parent / match[1])
        return os.path.relpath(place(target), Path(page).parent)

    text = PICTURE.sub(r"![\3](\2#only-light)\n![\3](\1#only-dark)", text)
    return LINK.sub(mend, text)


def gather(folder: Path) -> None:
    """Put all that the site is made of into a folder, which must not be there."""
    shutil.copytree(ROOT / "docs", folder)
    for name, page in BESIDE.items():
        shutil.copyfile(ROOT / name, folder / page)
    sources = {page: name for name, page in BESIDE.items()}
    for path in folder.rglob("*.md"):
        page = path.relative_to(folder).as_posix()
        source = sources.get(page, f"docs/{page}")
        try:
            text = mended(path.read_text(encoding="utf-8"), source)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        path.write_text(text, encoding="utf-8")
    swagger = folder / "reference" / "http"
    swagger.mkdir()
    for url, (name, _) in BUNDLED.items():
        shutil.copyfile(bundle() / name, swagger / Path(url).name)
    shutil.copyfile(HERE / "docs.css", swagger / "docs.css")
    description = json.loads((ROOT / "generated/sandbox_client/openapi.json").read_bytes())
    # A script, not JSON: a page that was opened as a file may fetch nothing.
    (swagger / "description.js").write_text(
        f"var description = {json.dumps(description, sort_keys=True)};\n", encoding="utf-8"
    )


def build(site: Path, url: str = "") -> int:
    """Build the site into a folder, in place of what is there; return how it ended.

    It may be told the URL at which it will be.
    """
    url = url.rstrip("/") + "/"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        gather(work / "docs")
        settings = (ROOT / "zensical.toml").read_text(encoding="utf-8")
        if url != "/":
            settings = settings.replace("[project]", f"[project]\nsite_url = {json.dumps(url)}", 1)
        (work / "zensical.toml").write_text(settings, encoding="utf-8")
        zensical = Path(sysconfig.get_path("scripts"), "zensical")
        command: list[str | Path] = [zensical, "build", "--strict"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        words = done.stdout + done.stderr
        # Not all that is wrong with a docstring fails it.
        if done.returncode or not QUIET.fullmatch(words):
            # A warning is told with its place; what Python then says adds nothing to it.
            print(words.partition("Traceback")[0] if "Warning" in words else words, end="")
            return 1
        for page in (work / "site").rglob("*.html"):
            at = os.path.relpath(work / "site" / "assets" / "worker.js", page.parent)
            if page.name == "404.html":  # is shown at any address
                at = f"{urlsplit(url).path}{at}"
            text = page.read_text(encoding="utf-8")
            page.write_text(text.replace(FETCHED, at), encoding="utf-8")
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(work / "site", site)
    return 0


def main() -> int:
    """Build the site, where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts.site")
    parser.add_argument("--to", type=Path, default=ROOT / "site", help="folder (default: site/)")
    options = parser.parse_args()
    if code := build(options.to, os.environ.get("SITE_URL", "")):
        return code
    print(f"{os.path.relpath(options.to / 'index.html')} is the first page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
