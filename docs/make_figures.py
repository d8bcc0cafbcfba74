"""Makes the pictures of the documentation from the run directory of a real run.

    nasalign align smollm2-135m --out runs/demo
    python docs/make_figures.py runs/demo

The charts are those of the report, once for light pages and once for dark ones, as a picture cannot
take the colour of the page that it is on; the screenshots are of the report itself, in Chromium.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from nasalign.reporting.report.charts import metrics_chart
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.head_charts import head_chart, heads_chart
from nasalign.reporting.report.page import write_report
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.tuning import epochs

IMAGES = Path(__file__).with_name("images")
INKS = {"light": "#1f2328", "dark": "#dfe3e8"}
SECTIONS = ("figures", "gap", "confidence", "heads", "tuning", "shifts", "examples", "attention")
SECTIONS += ("effects", "origin")
WIDTH, TALLEST = 780, 1000  # of a screenshot; what is longer is cut there
MARGIN = 12  # around a section
BOX = """(section, tallest) => {
  const whole = section.getBoundingClientRect();
  const ends = [...section.querySelectorAll("tr, p, li, form, pre, svg, .tokens")]
    .map(part => part.getBoundingClientRect().bottom - whole.top)
    .filter(end => end <= tallest);
  const height = Math.max(...ends);
  return {x: whole.x, y: whole.y + window.scrollY, width: whole.width, height};
}"""  # of a section, down to the last of its parts that has room
ROOM = 24  # pixels beside a chart, where the reader's font is wider than the one it was made with


def charts(run: Path) -> None:
    """Writes the charts of a run as SVG."""
    files = RunFiles.read(run)
    [facts] = [data for data in data_sets(files) if data.name == "facts"]
    found = {
        "figures": metrics_chart(facts, files.words),
        "heads": heads_chart(files),
        "tuning": head_chart(epochs(files)),
    }
    for name, chart in found.items():
        assert chart is not None, f"the run has nothing for {name}"
        for scheme, ink in INKS.items():
            path = IMAGES / f"{name}-{scheme}.svg"
            path.write_text(roomy(chart.svg).replace("currentColor", ink), encoding="utf-8")


def roomy(svg: str) -> str:
    """Widens a picture to its left."""

    def wider(found: re.Match[str]) -> str:
        width, height = int(found[1]) + ROOM, found[2]
        return f'width="{width}" height="{height}" viewBox="-{ROOM} 0 {width} {height}"'

    size = r'width="(\d+)" height="(\d+)" viewBox="0 0 \1 \2"'
    return re.sub(size, wider, svg, count=1)


def screenshots(run: Path) -> None:
    """Writes a picture of each section of the report, and of the whole as it opens."""
    report = write_report(run).resolve().as_uri()
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        size = {"width": WIDTH, "height": TALLEST}
        page = browser.new_page(viewport=size, color_scheme="light")
        page.goto(report)
        page.wait_for_selector("body[data-charts=live]")
        edge = page.locator("#figures").bounding_box()
        assert edge is not None
        opening = {"x": 0, "y": 0, "width": WIDTH, "height": edge["y"] - MARGIN}
        page.screenshot(path=IMAGES / "report-top.png", clip=opening)
        for name in SECTIONS:
            box = page.locator(f"#{name}").evaluate(BOX, TALLEST)
            clip = {"x": box["x"] - MARGIN, "y": box["y"] - MARGIN}
            clip |= {"width": box["width"] + 2 * MARGIN, "height": box["height"] + MARGIN + 2}
            page.screenshot(path=IMAGES / f"report-{name}.png", full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    charts(Path(sys.argv[1]))
    screenshots(Path(sys.argv[1]))
