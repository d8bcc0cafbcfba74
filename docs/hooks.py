"""What the site has beyond its pages, the notebook's cells, and what it leaves out: the log."""

import json
import re
from pathlib import Path
from typing import Any

NOTEBOOK = "quickstart.ipynb"
PAGE = "python.md"  # its last section is about the notebook, whose cells follow here
LOG = re.compile(r"\[[^\]]*\]\(log\.md(?:#(\d{4}-\d\d-\d\d)[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Adds the notebook to its page, and lets links to the log name the file and the date."""
    if page.file.src_uri == PAGE:
        markdown += "\n\n" + _cells(Path(config.docs_dir) / NOTEBOOK)
    return LOG.sub(_entry, markdown)


def _cells(path: Path) -> str:
    """A notebook as Markdown: without its title, its sections below one of the page."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    _, _, text = "\n\n".join(map(_cell, cells)).partition("\n")
    return text


def _cell(cell: Any) -> str:
    """A cell as Markdown, with what it printed and drew."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return re.sub(r"^#", "##", source, flags=re.M)
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            parts.append(f"```text\n{''.join(output['text'])}```")
        elif "image/svg+xml" in output.get("data", {}):
            picture = "".join(output["data"]["image/svg+xml"])
            parts.append(f'<div class="drawn">\n{picture}\n</div>')
    return "\n\n".join(parts)


def _entry(link: re.Match[str]) -> str:
    """The log is not part of the site: a link to it says where it is in the repository."""
    date = link[1]
    return "`docs/log.md`" + (f", {date}" if date else "")


def on_page_content(html: str, **_: Any) -> str:
    """Marks what is so short that it needs no break, such as an option after its hyphens."""
    return re.sub(r"<code>([^<]{1,24})</code>", r'<code class="short">\1</code>', html)
