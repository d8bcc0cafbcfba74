"""What the site has beyond its Markdown files: the notebook as a page."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

NOTEBOOK = "quickstart.ipynb"
PAGE = "quickstart.md"


def on_files(files: Any, config: Any) -> Any:
    """Adds the notebook as a page."""
    notebook = json.loads((Path(config.docs_dir) / NOTEBOOK).read_text(encoding="utf-8"))
    text = "\n\n".join(_cell(cell) for cell in notebook["cells"])
    first, _, rest = text.partition("\n")
    link = f'<a href="{NOTEBOOK}" download>The notebook as a file</a>'
    files.append(File.generated(config, PAGE, content=f"{first}\n\n{link}\n{rest}\n"))
    return files


def _cell(cell: Any) -> str:
    """A cell as Markdown, with what it printed and drew."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            parts.append(f"```text\n{''.join(output['text'])}```")
        elif "image/svg+xml" in output.get("data", {}):
            picture = "".join(output["data"]["image/svg+xml"])
            parts.append(f'<div class="drawn">\n{picture}\n</div>')
    return "\n\n".join(parts)


def on_page_content(html: str, **_: Any) -> str:
    """Marks what is so short that it needs no break, such as an option after its hyphens."""
    return re.sub(r"<code>([^<]{1,24})</code>", r'<code class="short">\1</code>', html)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lets links to the notebook lead to its page."""
    return markdown.replace(f"]({NOTEBOOK})", f"]({PAGE})")
