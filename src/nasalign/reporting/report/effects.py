"""What tuning did beside its purpose, from ``side_effects.json``."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, str]


def effect_rows(effects: Mapping[str, Any]) -> list[Row]:
    """Returns a row a measure that was taken: ``name``, ``before``, ``after``, ``says``."""
    rows = []
    answers, kl, perplexity = (effects.get(name) for name in ("general_qa", "kl", "perplexity"))
    if answers:
        rows.append(_general(answers))
    if kl:
        low, high = kl["interval"]
        rows.append(
            {
                "name": "Divergence of the next token",
                "before": "",
                "after": f"{kl['mean']:.3g}",
                "says": f"Mean KL divergence in nats on {kl['tokens']:,} tokens of "
                f"{kl['prompts']:,} neutral texts, "
                f"95\N{NO-BREAK SPACE}% {low:.2g} to {high:.2g}, at most "
                f"{kl['max']:.2g}; the likeliest token is the same in "
                f"{kl['same_top_token']:.1%}.",
            }
        )
    if perplexity:
        rows.append(
            {
                "name": "Perplexity",
                "before": f"{perplexity['before']:.2f}",
                "after": f"{perplexity['after']:.2f}",
                "says": f"On {perplexity['tokens']:,} tokens of neutral texts; lower is better.",
            }
        )
    return rows


def _general(answers: Mapping[str, Any]) -> Row:
    low, high = answers["change_interval"]
    change = answers["after"] - answers["before"]
    told = "cannot be told from none" if low <= 0 <= high else "is more than chance"
    return {
        "name": "Right free answers",
        "before": f"{answers['before']:.3f}",
        "after": f"{answers['after']:.3f}",
        "says": f"{answers['n']:,} questions of {answers['data']} asked freely, judged by "
        f"{answers['judge']}. The change of {change:+.3f} "
        f"(95\N{NO-BREAK SPACE}% {low:+.3f} to {high:+.3f}) {told}.",
    }
