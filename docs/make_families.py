"""Writes docs/families.md from what tests/sweep.py finds, type by type.

    python docs/make_families.py [TYPE ...]

All types take some minutes; with some types named, the rows of the others stay. The tests of the
types compare each with its row.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("families.md")
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from sweep import CAUSAL, MULTIMODAL, Outcome, outcome  # noqa: E402

HEAD = """\
---
hide: [toc]
---

# Families of models

This page is written by `docs/make_families.py`. Every row is a test: a tiny model with random
weights is built from the configuration class of the type, and

* its checkpoint loads, multimodal ones as a whole,
* answers of two prompts at once are those of the likeliest tokens, found without a cache,
* the score of every head equals the paper's Eq. 1, computed the slow way from the eager attention
  of the modeling file, in float64, also where prompts share a prefix,
* tuning heads of the first and of the last layer moves their query and key rows and nothing else,
* the merged checkpoint, read by transformers alone, and the adapter, read by PEFT alone and by
  nasalign, give the logits of the aligned model.

Or it is refused by one sentence, before its weights are read or fetched: its configuration is
enough. The tests check that the code fits an architecture; what an alignment does to a real model
of the type they cannot say. With `--trust-remote-code` a model's own code decides.

Of a multimodal model the text part alone is asked and tuned; what is for images and sound is saved
again as it was. A layer without attention over the prompt (state space, linear attention,
convolution, attention to images) has no heads. With multi-head latent attention (MLA), the rows of
a head are those of its query and, in `kv_b_proj`, those of its key.
"""
TITLES = {
    "causal": "Causal language models",
    "multimodal": "Multimodal models with a text model inside",
    "refused": "What is refused",
}


def page(outcomes: Iterable[Outcome]) -> str:
    """Returns the text of the page."""
    parts: dict[str, list[Outcome]] = {name: [] for name in TITLES}
    order = {name: place for place, name in enumerate([*CAUSAL, *MULTIMODAL])}
    for one in sorted(outcomes, key=lambda one: order[one.model_type]):
        kind = "causal" if one.model_type in CAUSAL else "multimodal"
        parts[kind if one.works else "refused"].append(one)
    text = HEAD
    for name, title in TITLES.items():
        text += f"\n## {title}\n\n{len(parts[name])} types.\n\n"
        text += f"| type | class | {'since' if name == 'refused' else 'what is special'} |\n"
        text += "| --- | --- | --- |\n"
        text += "".join(f"{one.row}\n" for one in parts[name])
    return text


def read() -> dict[str, Outcome]:
    """Returns what the page says of each type."""
    text = PAGE.read_text(encoding="utf-8")
    works, _, refused = text.partition(f"## {TITLES['refused']}")
    row = re.compile(r"^\| `(\S+)` \| `(\w+)` \| (.*) \|$", re.MULTILINE)
    found = [(match, part is works) for part in (works, refused) for match in row.finditer(part)]
    return {match[1]: Outcome(match[1], match[2], fits, match[3]) for match, fits in found}


if __name__ == "__main__":
    known = read() if sys.argv[1:] else {}
    for model_type in sys.argv[1:] or [*CAUSAL, *MULTIMODAL]:
        with tempfile.TemporaryDirectory() as folder:
            known[model_type] = outcome(model_type, Path(folder))
        print(known[model_type].row, flush=True)
    PAGE.write_text(page(known.values()), encoding="utf-8")
