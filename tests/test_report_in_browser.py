"""The report in a browser: with scripts and without, on a phone, and never on the network."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import browsing
from browsing import Seen
from comparison_folder import MARKED, make_comparison
from nasalign.io.files import write_json, write_jsonl
from nasalign.reporting.report import write_report
from run_folder import FACTS, SCRIPT, SETTINGS, head, make_run, write_attention, write_side_effects

pytestmark = browsing.needed

SECTIONS = ("verdict", "figures", "gap", "confidence", "heads", "tuning", "shifts", "examples")
SECTIONS += ("attention", "effects", "origin", "limits")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("browser") / "run", more=True)
    write_attention(folder)
    write_side_effects(folder)
    return write_report(folder)


def opened(
    browser: Browser, report: Path, *, width: int = 1280, scheme: str = "light", live: bool = True
) -> Seen:
    how = {"color_scheme": scheme, "java_script_enabled": live, "offline": True}
    seen = browsing.opened(browser, report.as_uri(), width=width, **how)
    if live:
        seen.page.wait_for_selector("body[data-charts=live]")
    return seen


@pytest.fixture(scope="module")
def desktop(browser: Browser, report: Path) -> Seen:
    """A page that several tests use, each another part of it."""
    return opened(browser, report)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_lives_without_an_error_or_a_request(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    seen = opened(browser, report, width=width, scheme=scheme)
    page = seen.page
    for name in SECTIONS:
        assert page.locator(f"#{name}").is_visible(), name
    plots = page.locator(".plot").all()
    assert len(plots) == 2 * (1 + 4 + 1) + 1 + 1 + 3
    for plot in plots:
        assert plot.get_attribute("data-live") == "yes"
        assert plot.locator("svg").count() == 1
        assert plot.locator("svg path, svg line").count() > 5
        box = plot.locator("svg").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (seen.asked, seen.said) == ([report.as_uri()], [])


def test_pictures_and_text_are_there_without_scripts(browser: Browser, report: Path) -> None:
    seen = opened(browser, report, width=390, live=False)
    page = seen.page
    for plot in page.locator(".plot > svg").all():
        box = plot.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 40
    assert page.locator(".plot > svg").count() == page.locator(".plot").count()
    assert not page.locator("#filters").is_visible()
    assert not page.locator("#viewer").is_visible()
    assert page.locator("#tokens-before [data-toward=no]").count() == 3
    assert page.locator(".examples li").count() > 10
    assert seen.asked == [report.as_uri()]


def test_text_of_the_data_is_text(desktop: Seen) -> None:
    seen = desktop
    assert seen.page.get_by_text(SCRIPT).count() > 0
    assert SCRIPT in seen.page.locator("#tokens-after").inner_text()
    seen.page.fill("input[name=text]", SCRIPT)
    assert seen.said == []
    assert seen.page.locator("script").count() == 4


def test_a_mark_says_its_figures(desktop: Seen) -> None:
    page = desktop.page
    page.locator("#heads").scroll_into_view_if_needed()
    page.locator("#heads .mark-rect path").first.hover()
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    says = tooltip.inner_text()
    for name in ("layer", "head", "NAS", "fate"):
        assert name in says


def test_the_table_of_heads_is_sorted(desktop: Seen) -> None:
    page = desktop.page

    def column(number: int) -> list[str]:
        cells = page.locator(f"#head-table tbody td:nth-child({number})")
        return [text.strip() for text in cells.all_inner_texts()]

    assert column(1) == ["1", "2", "3"]
    layer = page.locator("#head-table th:nth-child(2) button")
    layer.click()
    assert column(2) == ["1", "2", "3"]
    assert page.locator("#head-table th:nth-child(2)").get_attribute("aria-sort") == "ascending"
    layer.click()
    assert column(2) == ["3", "2", "1"]
    page.locator("#head-table th:nth-child(4) button").click()
    assert column(4) == ["cancelled", "kept", "not reached"]
    assert page.locator("th[aria-sort]").count() == 1


def test_examples_are_filtered(desktop: Seen) -> None:
    page = desktop.page
    page.fill("input[name=text]", "")
    shown = page.locator(".examples li:visible")
    everything = shown.count()
    assert everything == int(page.locator("#shown").inner_text())
    page.select_option("select[name=shift]", "FN to TP")
    some = shown.count()
    assert 0 < some < everything
    assert some == int(page.locator("#shown").inner_text())
    assert {item.get_attribute("data-shift") for item in shown.all()} == {"FN to TP"}
    page.select_option("select[name=data]", "other.set")
    assert 0 < shown.count() < some
    page.fill("input[name=text]", "QUESTION 7?")
    assert all("question 7?" in item.inner_text() for item in shown.all())
    page.fill("input[name=text]", "nothing has this")
    assert shown.count() == 0


def test_the_viewer_shows_what_is_chosen(desktop: Seen) -> None:
    page = desktop.page
    page.select_option("select[name=example]", "1")
    page.select_option("select[name=head]", "1")
    assert "it? 1 Right: Yes. Layer 2, head 1." in page.locator("#viewer-question").inner_text()
    assert page.locator("#tokens-before .word.yes").inner_text().strip() == "Yes"
    assert page.locator("#tokens-before [data-toward=no]").count() == 3
    assert page.locator("#tokens-after [data-toward=no]").count() == 1
    strongest = page.locator("#tokens-before [data-toward=no]").nth(1)
    assert strongest.evaluate("token => token.style.getPropertyValue('--pull')") == "1"
    strongest.click()
    assert "to Yes 0.02, to No 0.09" in page.locator("#viewer-weights").inner_text()


def test_pictures_painted_by_both_are_the_same(browser: Browser, report: Path) -> None:
    told = []
    for live in (True, False):
        tokens = opened(browser, report, live=live).page.locator("#tokens-before span").all()
        marks = [[one.get_attribute(name) or "" for name in ("title", "class")] for one in tokens]
        told.append([(one.inner_text(), *mark) for one, mark in zip(tokens, marks, strict=True)])
    assert told[0] == told[1]


def test_everything_is_printed(browser: Browser, report: Path) -> None:
    page = opened(browser, report, scheme="dark").page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("nav").is_visible()
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    assert len(page.pdf()) > 10_000


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_comparison_lives_too(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    report = write_report(make_comparison(tmp_path / "run"))
    seen = opened(browser, report, width=width, scheme=scheme)
    page = seen.page
    assert page.get_by_text(MARKED).count() > 1
    assert page.locator(".plot[data-live=yes]").count() == page.locator(".plot").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator("table.rows").first
    table.locator("th button", has_text="accuracy").click()
    shown = table.locator("tbody td:nth-child(2)")
    values = [float(cell.get_attribute("data-value") or "") for cell in shown.all()]
    assert values == sorted(values)
    assert table.locator("tfoot th").inner_text() == "unibias"
    assert (seen.asked, seen.said) == ([report.as_uri()], [])


@pytest.fixture(scope="module")
def plain_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch a head, without a Yes before, with long floats among its facts."""
    folder = make_run(tmp_path_factory.mktemp("plain") / "run", yes_before=0.0)
    write_attention(folder)
    write_side_effects(folder)
    long = 10 / 3
    facts: dict[str, Any] = {
        "settings": SETTINGS | {"learning_rate": long},
        "halting": {"kind": "tau", "value": 10 * long, "answer": "Yes"},
        "probing": FACTS["probing"] | {"smallest_model_nas_of_TP": long},
        "timings": {"loading": long, "side_effects/before": long},
        "adapter": {"heads_kept": 1, "parameters": 24},
    }
    write_json(folder / "run.json", FACTS | facts)
    fate = {"halted": "enough Yes", "yes_share_before": 0.0}
    write_jsonl(folder / "tuning.jsonl", head(2, 1, [5.0, 4.0], [60.0, 59.0], **fate))
    return write_report(folder)


OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((part) => {
    const box = part.getBoundingClientRect();
    if (box.width === 0 || box.right <= innerWidth + 1) return false;
    for (let above = part.parentElement; above; above = above.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(above).overflowX)) return false;
    return true;
}).map((part) => part.outerHTML.slice(0, 120))"""
SCROLLED = """() => [...document.querySelectorAll("#figures .scroll")]
    .filter((part) => part.scrollWidth > part.clientWidth).length"""
TICKS = """() => [...document.querySelectorAll(".plot .role-axis-label")]
    .map((axis) => [...axis.querySelectorAll("text")].map((text) => text.textContent))"""
PROSE = """() => {
    const page = document.body.cloneNode(true);
    const left_out = "script, style, code, pre, svg, .tokens";
    page.querySelectorAll(left_out).forEach((part) => part.remove());
    return page.textContent;
}"""


def significant(number: str) -> int:
    """How many digits of a decimal say something: 0.0040 has two, 147456 is no decimal."""
    return len(number.replace(".", "").lstrip("0"))


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_everything_is_seen_at_this_width(
    browser: Browser, plain_report: Path, width: int, scheme: str
) -> None:
    page = opened(browser, plain_report, width=width, scheme=scheme).page
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(SCROLLED) == 0
    for labels in page.evaluate(TICKS):
        shown = [label for label in labels if label]
        assert len(shown) == len(set(shown)), labels


def test_text_has_no_long_number_and_no_raw_key(browser: Browser, plain_report: Path) -> None:
    page = opened(browser, plain_report).page
    text = page.evaluate(PROSE)
    versions = re.compile(r"\d+(\.\d+){2,}\S*")
    decimals = re.findall(r"\d+\.\d+", versions.sub("", text))
    assert len(decimals) > 100
    assert [one for one in decimals if significant(one) > 6] == []
    without_tokens = re.sub(r"<\|\w+\|>", "", text)  # of the tokenizer
    assert re.findall(r"\b[a-z]+_[a-z_]+\b", without_tokens) == []
    assert re.findall(r"\b1 (?:times|heads|questions|examples|answers|epochs)\b", text) == []


def test_a_head_of_one_epoch_has_a_line_in_each_chart(browser: Browser, plain_report: Path) -> None:
    page = opened(browser, plain_report).page
    for name in ("model-nas", "yes-share", "head-nas"):
        plot = page.locator(f"[data-chart={name}]")
        assert plot.locator(".mark-symbol path").count() >= 2
        lines = plot.locator(".mark-line path").all()
        assert any("L" in (line.get_attribute("d") or "") for line in lines), name
