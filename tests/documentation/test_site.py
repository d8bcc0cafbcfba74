"""The site is built without a warning, and its pages live in a browser without the network."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


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


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *what: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    handler = functools.partial(Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_no_page_names_an_address_that_a_browser_would_ask(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag in page.read_text(encoding="utf-8").split("<"):
            if tag.startswith(("script", "img", "link", "iframe")):
                assert 'src="http' not in tag, (page.name, tag)
                assert 'href="http' not in tag, (page.name, tag)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is here")
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), pytest.param(390, "dark", marks=pytest.mark.long)]
)
def test_every_page_lives(site: Path, served: str, width: int, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses it to root
    shots = os.environ.get("NASALIGN_SITE_SHOTS")  # a folder for pictures of what was seen
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=arguments)
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        for path in sorted(site.glob("*.html")):
            page, asked, said = context.new_page(), [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto(served + path.name)
            assert page.locator("h1").count() == 1, path.name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
            broken = "images => images.filter(one => one.offsetParent && !one.naturalWidth).length"
            assert page.locator("article img").evaluate_all(broken) == 0, path.name
            assert [url for url in asked if not url.startswith((served, "data:"))] == []
            assert [text for text in said if path.name != "404.html"] == [], path.name
            if shots:
                page.screenshot(path=f"{shots}/{path.stem}-{width}.png", full_page=True)
            page.close()
        browser.close()


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is here")
def test_the_search_finds_a_setting(served: str) -> None:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=arguments)
        page = browser.new_page()
        page.goto(served)
        page.click("input[name=query]")
        page.get_by_text("Type to start searching").wait_for()  # the index is there
        page.keyboard.type("halting_share")
        page.locator(".md-search-result__link").first.wait_for()
        assert "settings" in "".join(
            link.get_attribute("href") or ""
            for link in page.locator(".md-search-result__link").all()
        )
        browser.close()
