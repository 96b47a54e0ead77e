"""The site: it builds without a warning, leads nowhere wrong, and is read everywhere, offline."""

from __future__ import annotations

import functools
import html
import http.server
import re
import subprocess
import sys
import threading
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from scripts import drawing, pictures, site as scripts_site

from .local.browser import OUTSIDE, Tab, browsing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
NAV = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("built") / "site"
    command: list[str | Path] = [sys.executable, "-m", "scripts.site", "--to", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return folder


class Page(HTMLParser):
    """What a page links to, loads and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])
        self.loaded += [part.split()[0] for part in given.get("srcset", "").split(",") if part]


def listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        yield from listed(list(nav.values()))
    else:
        for each in nav:
            yield from listed(each)


def test_links_lead_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    wrong: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":  # is shown at any address, so its links begin at the root
            continue
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                outside = parts.scheme == "https" and link not in page.loaded
                if not outside and parts.scheme != "data":
                    wrong.append(f"{path}: {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            found = target.is_file() and (
                not parts.fragment
                or (target in pages and unquote(parts.fragment) in pages[target].ids)
                or parts.fragment in {"only-light", "only-dark"}  # of a picture: when it is shown
            )
            if not found:
                wrong.append(f"{path}: {link}")
    assert wrong == []


def test_where_it_is_published_is_known_to_what_needs_it(tmp_path: Path) -> None:
    assert scripts_site.build(tmp_path / "site", "https://example.org/sub") == 0
    missing = Page(tmp_path / "site" / "404.html")
    links = [each for each in missing.links + missing.loaded if not urlsplit(each).scheme]
    assert links
    for link in links:
        path, _, _ = link.partition("#")
        assert path.startswith("/sub/") or not path, link
        assert (tmp_path / "site" / path.removeprefix("/sub/")).exists(), link
    sitemap = (tmp_path / "site" / "sitemap.xml").read_text(encoding="utf-8")
    assert "<loc>https://example.org/sub/cli.html</loc>" in sitemap


def test_each_page_can_be_reached(tmp_path: Path) -> None:
    scripts_site.gather(tmp_path / "docs")
    pages = {path.relative_to(tmp_path / "docs").as_posix() for path in tmp_path.rglob("*.md")}
    assert sorted(listed(NAV)) == sorted(pages)


def test_what_is_not_on_the_site_is_told() -> None:
    with pytest.raises(ValueError, match=r"noxfile\.py is not on the site"):
        scripts_site.mended("[this](../noxfile.py)", "docs/cli.md")


def test_a_warning_fails_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(folder: Path) -> None:
        real(folder)
        (folder / "cli.md").write_text("# Title\n\n[nowhere](#nowhere)\n", encoding="utf-8")

    real = scripts_site.gather
    monkeypatch.setattr(scripts_site, "gather", gather)
    assert scripts_site.build(tmp_path / "site") == 1
    assert not (tmp_path / "site").exists()


def test_the_architecture_is_drawn_as_it_is() -> None:
    drawn = drawing.TARGET.read_text(encoding="utf-8")
    assert drawn == drawing.drawing(), "make pictures WHICH=architecture"
    rooms = [*drawing.layers("sandbox_api"), *drawing.layers("sandbox_api.local")]
    for room in re.findall(r"\w+", " ".join(rooms)):
        assert f">{room}</text>" in drawn or room == "local"
    # Each layer is a row: the heights at which rooms stand are as many.
    boxes = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" [^>]*class="room"', drawn)
    heights = {(float(x) > drawing.RIGHT, y) for x, y in boxes}
    assert len(heights) == len(rooms)


def test_pictures_are_made_and_used() -> None:
    made = {path.name for path in pictures.TARGET.iterdir()}
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "".join(path.read_text(encoding="utf-8") for path in documents)
    assert set(re.findall(r"pictures/([\w-]+\.(?:svg|png))", text)) == made
    script = Path(pictures.__file__).read_text(encoding="utf-8")
    terminals = {f"{name}.svg" for name in re.findall(r' terminal\("(\w+)"', script)}
    pages = {"page-light.png", "page-dark.png"}
    assert made == {drawing.TARGET.name} | terminals | pages
    for path in pictures.TARGET.glob("*.svg"):
        # Nothing is fetched by them either.
        assert not re.search(r"(href|src|url)\W+https?:", path.read_text(encoding="utf-8"))


def test_a_terminal_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TARGET", tmp_path)
    line = r"printf 'one\ntwo\n\033[1A\033[2K\033[31mthree\033[0m\n'"
    pictures.terminal("picture", line, tmp_path)
    drawn = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    shown = re.findall(r">(\w+)</text>", drawn)
    assert shown[-2:] == ["one", "three"]


def test_pictures_of_commands_show_what_they_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(folder: Path, name: str) -> list[str]:
        drawn = (folder / name).read_text(encoding="utf-8")
        texts = [html.unescape(text).split() for text in re.findall(r">([^<]+)</text>", drawn)]
        # Times differ, and so does the order in which jobs end.
        return sorted(re.sub(r"[\d.]+ s\b", "0 s", " ".join(text)) for text in texts)

    old = pictures.TARGET
    monkeypatch.setattr(pictures, "TARGET", tmp_path)
    pictures.in_terminals(tmp_path)
    for name in ("execute.svg", "batch.svg"):
        assert words(tmp_path, name) == words(old, name), "make pictures WHICH=terminals"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and tells nobody."""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    if "tab" in request.fixturenames:
        request.getfixturevalue("tab").forget()


def brightness(tab: Tab, selector: str, colour: str) -> float:
    """Return how bright the colour of an element is, or of what it stands on, from 0 to 255."""
    value: float = tab.run(
        f"(() => {{ let e = document.querySelector('{selector}');"
        f" while (getComputedStyle(e).{colour} === 'rgba(0, 0, 0, 0)') e = e.parentElement;"
        " const canvas = document.createElement('canvas').getContext('2d');"
        f" canvas.fillStyle = getComputedStyle(e).{colour};"
        " canvas.fillRect(0, 0, 1, 1);"
        " return canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((a, b) => a + b) / 3; })()"
    )
    return value


@pytest.mark.cluster("chromium")
@pytest.mark.parametrize("page", sorted(set(listed(NAV))))
def test_it_can_be_read_on_every_screen(page: str, address: str, tab: Tab) -> None:
    tab.size(390, 844)
    tab.scheme("dark")
    tab.open(address + page.replace("README.md", "index.md").removesuffix(".md") + ".html")
    if page == "reference/http.md":
        tab.wait_for("document.body.innerText.includes('/execute/')")
    for scheme in ("dark", "light"):
        tab.scheme(scheme)
        shade = "slate" if scheme == "dark" else "default"
        tab.wait_for(f"document.body.dataset.mdColorScheme === '{shade}'")
        tab.wait_for("document.getAnimations().every(each => each.playState !== 'running')")
        # Nothing sticks out at the side, also in a window.
        for width in (390, 1280):
            tab.size(width, 844)
            assert tab.run("document.documentElement.scrollWidth") <= width
        paper = brightness(tab, "article", "backgroundColor")
        assert (paper > 128) == (scheme == "light")
        for selector in ("h1", "article p"):
            ink = brightness(tab, selector, "color")
            assert abs(ink - paper) > 90, (scheme, selector)
    # Nothing has to be moved aside in a window: 100 columns of code, and whole tables.
    wide = "[...document.querySelectorAll('pre > code, .md-typeset__scrollwrap')]"
    wide += ".filter(each => each.scrollWidth > each.clientWidth + 1)"
    assert tab.run(f"{wide}.map(each => each.innerText)") == []
    # Nor is a name in a table broken over lines.
    broken = "[...document.querySelectorAll('article table:not([class]) td code')]"
    broken += ".filter(each => each.getClientRects().length > 1)"
    assert tab.run(f"{broken}.map(each => each.innerText)") == []
    pictures_shown = "[...document.querySelectorAll('article img')]"
    assert tab.run(f"{pictures_shown}.every(each => each.complete && each.naturalWidth > 0)")
    assert tab.run(f"{pictures_shown}.every(each => each.alt)")
    assert tab.complaints == []
    assert all(url.startswith((address, "data:", "blob:")) for url in tab.urls), tab.urls


@pytest.mark.cluster("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_operation_can_be_read(scheme: str, width: int, address: str, tab: Tab) -> None:
    tab.size(width, 844)
    tab.scheme(scheme)
    tab.open(f"{address}reference/http.html")
    open_operation(tab)
    assert tab.run(f"{OUTSIDE}('.opblock-post')") == []
    # Nor is a field cut until nothing is left of it.
    fields = "[...document.querySelectorAll('.opblock-post select')]"
    assert tab.run(f"Math.min(...{fields}.map(each => each.clientWidth))") > 80
    example = "#reference .opblock-post pre.example code"
    for part in (example, f"{example} span[style]"):
        paper = brightness(tab, part, "backgroundColor")
        assert brightness(tab, part, "color") - paper > 60, part
    assert "`" not in tab.run("document.querySelector('#reference').innerText")


def open_operation(tab: Tab) -> None:
    tab.wait_for("!!document.querySelector('.opblock-post .opblock-summary-control')")
    tab.run("document.querySelector('.opblock-post .opblock-summary-control').click()")
    tab.wait_for("!!document.querySelector('.opblock-post pre.example code')")


@pytest.mark.cluster("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["architecture", "local", "performance"])
def test_pictures_are_as_light_or_dark_as_the_page(
    page: str, scheme: str, address: str, tab: Tab
) -> None:
    tab.size(1280, 844)
    # The system says otherwise.
    tab.scheme("dark" if scheme == "light" else "light")
    tab.open(f"{address}{page}.html")
    shade = "default" if scheme == "light" else "slate"
    tab.run(f"document.body.dataset.mdColorScheme = '{shade}'")
    shown = "[...document.querySelectorAll('article img')].filter(each => each.offsetParent)"
    for number in range(tab.run(f"{shown}.length")):
        corner = tab.run(
            f"(() => {{ const box = {shown}[{number}].getBoundingClientRect();"
            " return {x: box.x + scrollX + 5, y: box.y + scrollY + 5}; })()"
        )
        clip = {**corner, "width": 1, "height": 1, "scale": 1}
        picture = tab.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        value: float = tab.run(
            "(async () => { const image = new Image();"
            f" image.src = 'data:image/png;base64,{picture['data']}'; await image.decode();"
            " const canvas = document.createElement('canvas').getContext('2d');"
            " canvas.drawImage(image, 0, 0); return canvas.getImageData(0, 0, 1, 1).data[0]; })()"
        )
        assert (value > 128) == (scheme == "light"), number


@pytest.mark.cluster("chromium")
def test_pictures_can_be_read_on_a_phone(address: str, tab: Tab) -> None:
    tab.size(390, 844)
    for page in ("architecture", "cli", "local", "performance"):
        tab.open(f"{address}{page}.html")
        shown = "[...document.querySelectorAll('article img')].filter(each => each.offsetParent)"
        assert tab.run(f"Math.min(...{shown}.map(each => each.clientWidth))") >= 700


@pytest.mark.cluster("chromium")
@pytest.mark.parametrize("opened", ["served", "as files"])
def test_it_can_be_searched(opened: str, site: Path, address: str, tab: Tab) -> None:
    start = address if opened == "served" else f"{site.as_uri()}/"
    tab.open(start + "tutorials/grade.html")
    tab.run("document.querySelector('.md-search__button').click()")
    box = (
        "[...document.querySelectorAll('*')].find(each => each.shadowRoot?.querySelector('dialog'))"
    )
    tab.wait_for(f"{box}?.shadowRoot.activeElement?.tagName === 'INPUT'")
    tab.call("Input.insertText", text="SSLContext")
    tab.wait_for(f"{box}.shadowRoot.innerHTML.includes('proxies.html')")
    assert tab.complaints == []
    assert all(url.startswith((start, "data:", "about:", "blob:")) for url in tab.urls), tab.urls


@pytest.mark.cluster("chromium")
def test_it_can_be_opened_as_files(site: Path, tab: Tab) -> None:
    for page in ("index.html", "architecture.html", "reference/http.html"):
        tab.open((site / page).as_uri())
        tab.wait_for("document.querySelector('article').innerText.length > 100")
    open_operation(tab)
    assert not tab.run("!!document.querySelector('.errors-wrapper')")
    assert tab.complaints == []
    assert all(url.startswith(("file:", "data:", "about:", "blob:")) for url in tab.urls)
