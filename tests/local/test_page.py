from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from ..servers import RawServer, reply
from .browser import OUTSIDE, Tab, browsing
from .public import TOKEN, Public, execute, serving, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster("chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    with serving(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(autouse=True)
def clean(tab: Tab) -> None:
    tab.forget()


def text(tab: Tab, selector: str) -> str:
    return str(tab.run(f"document.querySelector({selector!r}).innerText"))


def enter(tab: Tab, commands: str) -> None:
    tab.run(f"document.getElementById('commands').value = {json.dumps(commands)}")
    tab.run("document.getElementById('go').click()")
    tab.wait_for("!document.getElementById('go').disabled")


def keep(tab: Tab, name: str) -> None:
    """Save a picture to look at, in the folder that SANDBOX_PICTURES names."""
    if folder := os.environ.get("SANDBOX_PICTURES"):
        Path(folder, f"{name}.png").write_bytes(tab.picture())


def test_the_page_shows_what_is_used(server: Public, tab: Tab) -> None:
    execute(server.url, "true", "exit 3")
    execute(server.url, "true")
    tab.open(f"{server.url}/")
    tab.wait_for("document.getElementById('state').textContent.endsWith('live')")
    assert text(tab, "#slots").startswith("0 of ")
    assert text(tab, "#waiting") == "0"
    assert text(tab, "#cpu").endswith(" %")
    assert " GiB" in text(tab, "#memory")
    assert text(tab, "#environments") == "0, 0 B of 10.0 GiB"
    assert text(tab, "#isolation").startswith("bubblewrap ")
    first, second, *_ = (line.split("\t") for line in text(tab, "#recent").splitlines())
    assert (first[1], first[2]) == ("1", "done")
    assert (second[1], second[2]) == ("2", "exit code 3")
    # Of one whose client left, too, which is nobody's fault.
    form = {"config": '{"commands": ["sleep 8"]}'}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/execute/", data=form, timeout=0.5)
    tab.wait_for("document.querySelector('#recent td:nth-child(3)').innerText === 'cancelled'")
    assert tab.run("document.querySelector('#recent td:nth-child(3)').className") == ""
    # It goes on doing so.
    execute(server.url, "exit 9")
    tab.wait_for("document.getElementById('recent').innerText.includes('exit code 9')")
    assert tab.complaints == []
    assert all(url.startswith((server.url, "data:")) for url in tab.urls)


def test_commands_are_run_from_the_page(server: Public, tab: Tab) -> None:
    tab.open(f"{server.url}/")
    tab.wait_for("document.getElementById('state').textContent.endsWith('live')")
    enter(tab, "echo one; echo problem >&2\n\necho '<b>two</b>'; exit 7\necho never")
    output = text(tab, "#output")
    for words in ("one", "problem", "done, 0.", "<b>two</b>", "exit code 7"):
        assert words in output
    assert "\nnever" not in output
    assert tab.run("document.querySelectorAll('#output b').length") == 0
    # So is why something was killed.
    killed = {"command": "hog", "exit_code": 137, "stdout": "", "stderr": "", "time": 1.0}
    tab.run(f"showResult({json.dumps({'execution': [killed | {'exceeded': 'memory'}]})})")
    assert "exit code 137, that took too much memory, 1.000 s" in text(tab, "#output")
    # The server's own refusals are shown, too.
    enter(tab, " ")
    assert "Command list cannot be empty" in text(tab, "#output") or tab.run(
        "!document.getElementById('commands').checkValidity()"
    )
    keep(tab, "run")


def test_what_runs_is_seen(server: Public, tab: Tab) -> None:
    tab.open(f"{server.url}/")
    tab.wait_for("document.getElementById('state').textContent.endsWith('live')")
    tab.run("document.getElementById('commands').value = 'sleep 4'")
    tab.run("document.getElementById('go').click()")
    tab.wait_for("document.getElementById('slots').textContent.startsWith('1 of')")
    assert tab.run("document.getElementById('slots-meter').value") == 1
    assert tab.run("document.getElementById('go').disabled")
    tab.wait_for("!document.getElementById('go').disabled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_can_be_read_on_every_screen(server: Public, tab: Tab, scheme: str, width: int) -> None:
    tab.size(width, 800)
    tab.scheme(scheme)
    tab.open(f"{server.url}/")
    tab.wait_for("document.getElementById('state').textContent.endsWith('live')")
    enter(tab, "echo " + "long" * 100)
    # Nothing sticks out at the side.
    assert tab.run("document.documentElement.scrollWidth") <= width
    light = "(s) => s.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    for selector in ("body", "dt", "pre", "th", "button", "textarea", "a"):
        colours = f"getComputedStyle(document.querySelector('{selector}'))"
        ink = tab.run(f"({light})({colours}.color)")
        paper = tab.run(
            f"(() => {{ let e = document.querySelector('{selector}');"
            " while (getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)')"
            " e = e.parentElement;"
            f" return ({light})(getComputedStyle(e).backgroundColor); }})()"
        )
        assert abs(ink - paper) > 90, selector
        if selector != "button":
            assert (paper > 128) == (scheme == "light"), selector
    assert tab.run("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    keep(tab, f"{scheme}-{width}")
    assert tab.complaints == []


def test_a_token_is_asked_for(tmp_path: Path, tab: Tab) -> None:
    with serving(tmp_path, "--token", TOKEN) as server:
        tab.open(f"{server.url}/")
        tab.wait_for("!document.getElementById('entry').hidden")
        for token, opened in (("wrong-wrong-wrong", "false"), (TOKEN, "true")):
            tab.run(f"document.getElementById('token').value = {token!r}")
            tab.run("document.querySelector('#entry button').click()")
            live = "document.getElementById('state').textContent.endsWith('live')"
            tab.wait_for(f"{live} === {opened}")
        tab.wait_for("document.getElementById('entry').hidden")
        enter(tab, "echo opened")
        assert "opened" in text(tab, "#output")
        # Not in the address, where it could be seen and copied.
        assert TOKEN not in tab.run("document.location.href")


def test_the_reference_works_without_the_internet(server: Public, tab: Tab) -> None:
    tab.size(1280, 800)
    tab.open(f"{server.url}/docs")
    tab.wait_for("document.body.innerText.includes('/execute/')")
    keep(tab, "docs")
    # What can be tried there works; it could not send what execute needs.
    for kind, tried in (("get", True), ("post", False)):
        tab.run(f"document.querySelector('.opblock-{kind} .opblock-summary-control').click()")
        tab.wait_for(f"!!document.querySelector('.opblock-{kind} .responses-wrapper')")
        assert tab.run(f"!!document.querySelector('.opblock-{kind} .try-out')") is tried
    assert "loader" not in tab.run("document.body.innerText")
    assert tab.run(f"{OUTSIDE}('.swagger-ui')") == []
    # Also on a phone, as light or dark as it is.
    tab.size(390, 800)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run(f"{OUTSIDE}('.swagger-ui')") == []
    for scheme in ("light", "dark"):
        tab.scheme(scheme)
        dark = "document.documentElement.classList.contains('dark-mode')"
        tab.wait_for(f"{dark} === {str(scheme == 'dark').lower()}")
    assert all(url.startswith((server.url, "data:")) for url in tab.urls)
    assert tab.complaints == []


def test_other_pages_can_not_use_the_server(
    server: Public, tab: Tab, raw_server: RawServer
) -> None:
    raw_server.answer = reply("200 OK", "<p>elsewhere</p>", "Content-Type: text/html")
    tab.open(raw_server.url)
    # Browsers send such requests, and only keep what is answered from the page.
    tab.run(
        f"fetch('{server.url}/execute/', {{method: 'POST', mode: 'no-cors', body: "
        "new URLSearchParams({config: JSON.stringify({commands: ['true']})})}).catch(() => 0)"
    )
    tab.run(f"fetch('{server.url}/usages/').catch(() => 0)")
    wait_for(lambda: "GET /usages/ 403" in server.text.splitlines()[-1])
    assert "POST /execute/ 403" in server.text.splitlines()[-2]
