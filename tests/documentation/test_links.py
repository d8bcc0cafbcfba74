"""Every link of the documentation leads somewhere."""

import re
from pathlib import Path

import pytest
import yaml

from pages import DOCS, PAGES, ROOT, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+?)\s*$", re.M)
LEFT_OUT = {"log.md"}  # of the site: it is for those who have the repository


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them of our headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in HEADING.findall(text))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one).strip()) for one in plain}


def links(page: Path) -> list[str]:
    return [first or second for first, second in LINK.findall(prose(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_its_anchor(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if page.parent == DOCS:
            assert target.is_relative_to(DOCS), f"{link} is not part of the site"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_links_are_found_at_all() -> None:
    assert sum(len(links(page)) for page in PAGES) > 80


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w-]+\.md)(?: #.*)?$", text, flags=re.M))
    assert named == {page.name for page in DOCS.glob("*.md")} - LEFT_OUT
    assert yaml.safe_load(text)["strict"] is True
