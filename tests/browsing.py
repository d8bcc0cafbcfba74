"""A browser for the tests of pages, where one is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 60_000  # ms: how long the browser waits at most where the machine is busy
needed = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is here")


@contextmanager
def started() -> "Iterator[Browser]":
    """Runs the browser until the context ends."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses it to root
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page; what it asked for, and what it said to the console, as an error or in a dialog."""

    page: "Page"
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def opened(browser: "Browser", url: str, *, width: int = 1280, **options: Any) -> Seen:
    """Opens a page in a context of its own, with ``options`` of that."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.set_default_timeout(PATIENCE)
    seen = Seen(context.new_page())
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))

    def refuse(dialog: Any) -> None:
        seen.said.append(dialog.message)
        dialog.dismiss()

    seen.page.on("dialog", refuse)
    seen.page.goto(url)
    return seen
