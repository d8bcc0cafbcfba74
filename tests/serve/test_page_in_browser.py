"""The page in a browser: a question, both answers, where a head looks, and hostile text."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

import browsing
from browsing import PATIENCE, Seen
from nasalign.commands.ask import open_both
from nasalign.commands.job import Job
from nasalign.data.records import BinaryExample
from nasalign.evaluation.both_models import BothModels
from served_page import opened, serving

pytestmark = browsing.needed

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script></textarea><b>Is it?</b>"


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> BothModels:
    return opened(folders)


@pytest.fixture(scope="module")
def url(pair: BothModels) -> Iterator[str]:
    with serving(pair) as url:
        yield url


def visited(browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> Seen:
    seen = browsing.opened(browser, f"{url}/", width=width, color_scheme=scheme)
    seen.page.wait_for_selector("body[data-ready]")
    return seen


def shading(page: Page, side: str) -> list[str]:
    tokens = page.locator(f"#texts .{side} .tokens span")
    return tokens.evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_question_is_answered_on_both_sides(
    browser: Browser, url: str, pair: BothModels, width: int, scheme: str
) -> None:
    seen = visited(browser, url, width=width, scheme=scheme)
    page = seen.page
    assert page.evaluate("document.activeElement.id") == "question"
    assert not page.locator("#result").is_visible()
    page.fill("#question", "Who wrote Hamlet?")
    page.fill("#answer", "Shakespeare")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#asked").inner_text() == "Who wrote Hamlet? Is the answer Shakespeare?"

    answers = pair.ask(BinaryExample("Who wrote Hamlet?", True, "Shakespeare"))
    words = {"positive": "Yes", "negative": "No"}
    for side, answer in answers.items():
        card = page.locator(f"#answers .{side}")
        assert card.locator(".said").inner_text() == words[answer["verdict"]]
        figures = card.locator(".figure").all_inner_texts()
        assert figures[:2] == [f"{answer['p_yes']:.3f}", f"{answer['p_no']:.3f}"]
        assert float(card.locator("strong").inner_text().replace("\u2212", "-")) == pytest.approx(
            answer["nas"], abs=0.06
        )
        filled = card.locator(".toward-yes .track span").evaluate("bar => bar.style.cssText")
        assert float(filled.split(":")[1].strip(" ;")) == pytest.approx(answer["p_yes"], abs=1e-6)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.asked == [f"{url}/", f"{url}/api/about", f"{url}/api/ask"]
    assert seen.said == []


def test_a_head_that_is_clicked_shades_the_prompt(browser: Browser, url: str) -> None:
    page = visited(browser, url).page
    page.fill("#question", "Is Paris in France?")
    page.press("#question", "Enter")
    page.wait_for_selector("#result:not([hidden])")
    heads = page.locator(".head")
    assert heads.count() >= 8
    before = {side: shading(page, side) for side in ("untouched", "aligned")}
    for colours in before.values():
        assert len(set(colours)) > 5
    heads.nth(2).click()
    assert heads.nth(2).locator("input").is_checked()
    after = shading(page, "untouched")
    assert after != before["untouched"]
    page.keyboard.press("ArrowUp")  # and without a mouse
    assert heads.nth(1).locator("input").is_checked()
    assert shading(page, "untouched") != after

    tokens = page.locator("#texts .untouched .tokens span")
    weights = map(float, tokens.evaluate_all("all => all.map((one) => one.dataset.weight)"))
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert page.locator("#texts .untouched .word.yes").inner_text() == "Yes"
    assert page.locator("#texts .untouched .word.no").inner_text() == "No"
    assert "Is Paris in France?" in page.locator("#texts .untouched .tokens").inner_text()
    page.locator("#texts .aligned .word.no").click()
    assert re.search(r"“No”, aligned: [\d.e-]+\.", page.locator("#token").inner_text())


def test_hostile_text_is_text(browser: Browser, url: str) -> None:
    seen = visited(browser, url, width=390)
    page = seen.page
    for part in ("question", "answer", "context"):
        page.fill(f"#{part}", HOSTILE)
    page.fill("#answer", HOSTILE + "x" * 60)  # too wide for a phone, and no space to break at
    page.press("#question", "Enter")
    page.wait_for_selector("#result:not([hidden])")
    assert HOSTILE in page.locator("#asked").inner_text()
    assert page.locator("#texts .untouched .tokens").inner_text().count(HOSTILE) == 3
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.locator("b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert {request.removeprefix(url) for request in seen.asked} == {"/", "/api/about", "/api/ask"}
    assert seen.said == []


def test_the_policy_holds_where_a_script_gets_in(browser: Browser, url: str) -> None:
    seen = visited(browser, url)
    seen.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.body.dataset.ran = 'yes'";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<i onclick='1' style='color: red'>i</i>");
          const image = new Image(); image.src = "http://192.0.2.1/leak.png";
          document.body.append(image);
        }"""
    )
    assert seen.page.evaluate("document.body.dataset.ran") is None
    assert sum("Content Security Policy" in line for line in seen.said) >= 3


def test_what_cannot_be_answered_is_said_and_the_next_is_answered(
    browser: Browser, url: str
) -> None:
    page = visited(browser, url).page
    page.fill("#question", "word " * 400 + "?")
    page.press("#question", "Enter")
    expect(page.locator("#error")).not_to_be_empty(timeout=PATIENCE)
    assert "longer than" in page.locator("#error").inner_text()
    assert not page.locator("#result").is_visible()
    page.get_by_role("button", name="Is Oslo the capital of Norway?").click()
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#error").inner_text() == ""
    assert page.locator("#asked").inner_text() == "Is Oslo the capital of Norway?"


def test_everything_has_a_name(browser: Browser, url: str) -> None:
    page = visited(browser, url).page
    for name in ("Question", "Is the answer …? (optional)", "Context to answer from (optional)"):
        assert page.get_by_role("textbox", name=name).count() == 1
    page.fill("#question", "Is it?")
    page.press("#question", "Enter")
    page.wait_for_selector("#result:not([hidden])")
    assert page.get_by_role("article", name="untouched model").count() == 1
    assert page.get_by_role("article", name="aligned: attention").count() == 1
    assert page.get_by_role("group", name="Head, and its NAS (untouched, aligned)").count() == 1
    assert page.get_by_role("radio", name=re.compile(r"layer \d, head \d")).count() >= 8
    said = page.locator("#status").inner_text()
    one = r"(neither Yes nor No is likely, (Yes|No) is ahead|Yes|No)"
    assert re.fullmatch(rf"untouched: {one}; aligned: {one}\.", said)


def answered(browser: Browser, url: str, *shares: tuple[float, float], width: int = 1280) -> Page:
    """Asks, and has each side's probabilities of Yes and No replaced by these."""

    def replaced(route: Route) -> None:
        answer = route.fetch().json()
        for side, (yes, no) in zip(("untouched", "aligned"), shares, strict=True):
            verdict = "positive" if yes > no else "negative"
            answer["sides"][side] |= {"p_yes": yes, "p_no": no, "verdict": verdict}
        route.fulfill(json=answer)

    page = visited(browser, url, width=width).page
    page.route("**/api/ask", replaced)
    page.fill("#question", "Is it?")
    page.press("#question", "Enter")
    page.wait_for_selector("#result:not([hidden])")
    return page


@pytest.mark.parametrize(
    ("untouched", "aligned", "said"),
    [
        ((0.2, 0.13), (0.2, 0.1), "Neither Yes nor No is likely (all else 0.67 untouched, "
         "0.70 aligned); Yes is ahead in both."),
        ((0.1, 0.23), (0.2, 0.1), "Neither Yes nor No is likely (all else 0.67 untouched, "
         "0.70 aligned); No is ahead in the untouched model, Yes in the aligned one."),
        ((0.1, 0.6), (0.2, 0.1), "The untouched model says No, in the aligned model neither "
         "Yes nor No is likely (all else 0.70)."),
        ((0.1, 0.6), (0.6, 0.1), "The untouched model says No, the aligned model says Yes."),
        ((0.6, 0.3), (0.7, 0.2), "Both say Yes."),
    ],
)  # fmt: skip
def test_that_neither_word_is_likely_is_said_first(
    browser: Browser,
    url: str,
    untouched: tuple[float, float],
    aligned: tuple[float, float],
    said: str,
) -> None:
    page = answered(browser, url, untouched, aligned)
    assert page.locator("#change").inner_text().startswith(said + " P(Yes) goes from ")
    likely = [sum(shares) > 0.5 for shares in (untouched, aligned)]
    for side, is_likely in zip(("untouched", "aligned"), likely, strict=True):
        note = page.locator(f"#answers .{side} .rest")
        assert note.is_visible() is not is_likely
        assert page.locator(f"#answers .{side} .said.unlikely").count() == (not is_likely)
    changed = page.locator("#verdict.changed").count()
    assert changed == (all(likely) and "Both" not in said)


def until(holds: Callable[[], bool]) -> None:
    """Waits; Playwright's own waiting evaluates a string in the page, which its policy forbids."""
    for _ in range(100):
        if holds():
            return
        time.sleep(0.05)
    assert holds()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_answer_is_in_view(browser: Browser, url: str, width: int) -> None:
    page = answered(browser, url, (0.1, 0.6), (0.6, 0.1), width=width)
    if width > 600:
        assert page.evaluate("scrollY") == 0  # it is in view as it is
    else:
        top = "document.getElementById('verdict').getBoundingClientRect().y"
        until(lambda: page.evaluate("scrollY") > 100 and page.evaluate(top) < 20)
    expect(page.locator("#verdict")).to_be_in_viewport(ratio=1)


def test_without_an_adapter_there_is_one_side(browser: Browser, folders: tuple[Path, Path]) -> None:
    with serving(open_both(Job(model=str(folders[0])))) as url:
        page = visited(browser, url).page
        assert "give --adapter" in page.locator("#model").inner_text()
        page.fill("#question", "Is it?")
        page.press("#question", "Enter")
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#answers article").count() == 1
        assert page.locator("#texts article").count() == 1
    page.press("#question", "Enter")  # the server has ended
    expect(page.locator("#error")).not_to_be_empty(timeout=PATIENCE)
    assert "does not answer" in page.locator("#error").inner_text()
