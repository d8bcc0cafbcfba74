"""The site is built without a warning, and its pages live in a browser without the network."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import browsing
from loopback import serve
from pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings", reason="the documentation's packages are not here")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["-d", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert not (built.stdout + built.stderr).strip()
    return folder


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    class Pages(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(site))

    with serve(Pages) as address:
        yield address + "/"


def test_no_page_names_an_address_that_a_browser_would_ask(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        for tag in page.read_text(encoding="utf-8").split("<"):
            if tag.startswith(("script", "img", "link", "iframe")):
                assert 'src="http' not in tag, (page.name, tag)
                assert 'href="http' not in tag, (page.name, tag)


@pytest.mark.slow
@pytest.mark.long
@browsing.needed
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_lives(
    browser: Browser, site: Path, served: str, width: int, scheme: str
) -> None:
    shots = os.environ.get("NASALIGN_SITE_SHOTS")  # a folder for pictures of what was seen
    for path in sorted(site.glob("*.html")):
        url = served + path.name
        seen = browsing.opened(browser, url, width=width, color_scheme=scheme)
        page = seen.page
        assert page.locator("h1").count() == 1, path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        broken = "images => images.filter(one => one.offsetParent && !one.naturalWidth).length"
        assert page.locator("article img").evaluate_all(broken) == 0, path.name
        assert [url for url in seen.asked if not url.startswith((served, "data:"))] == []
        assert seen.said == [] or path.name == "404.html", path.name
        if shots:
            page.screenshot(path=f"{shots}/{path.stem}-{width}.png", full_page=True)
        page.context.close()


def test_the_log_is_named_and_left_out(site: Path) -> None:
    assert not (site / "log.html").exists()
    limits = (site / "limits.html").read_text(encoding="utf-8")
    assert re.search(r"docs/log\.md</code>, 20\d\d-\d\d-\d\d", limits)
    assert "log.md#" not in limits


def test_the_notebook_is_a_section_of_a_page(site: Path) -> None:
    page = (site / "python.html").read_text(encoding="utf-8")
    section = page[page.index('<h2 id="in-a-notebook"') :]
    assert "<h2" not in section[3:]  # its sections are below the page's own
    assert section.count("<h3") > 3
    assert section.count('<div class="drawn">') == 2
    assert 'href="quickstart.ipynb"' in section


@browsing.needed
@pytest.mark.parametrize("place", ["served", "folder"])
def test_the_search_finds_a_setting(browser: Browser, site: Path, served: str, place: str) -> None:
    start = served if place == "served" else (site / "index.html").as_uri()
    seen = browsing.opened(browser, start)
    page = seen.page
    page.click("input[name=query]")
    page.get_by_text("Type to start searching").wait_for()  # the index is there
    page.keyboard.type("halting_share")
    # Waited for, as the results are drawn anew with every letter.
    page.locator('.md-search-result__link[href*="settings"]').first.wait_for(state="attached")
    root = served if place == "served" else site.as_uri()
    assert [url for url in seen.asked if not url.startswith((root, "data:", "blob:"))] == []
