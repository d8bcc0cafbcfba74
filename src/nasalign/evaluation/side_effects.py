"""What a change of a model does beside yes/no answers: other texts, and free answers (Table 5)."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.evaluation.metrics import bootstrap_weights, interval
from nasalign.inference.kernels import quick_kernels
from nasalign.models.loading import context_length
from nasalign.models.memory import explained
from nasalign.nasa.knowledge import Parametric
from nasalign.progress import Progress

Change = Callable[[PreTrainedModel], AbstractContextManager[Any]]
"""Applies a change to the untouched model that it is given, and takes it off again."""


def neutral_texts() -> list[str]:
    """Return fixed texts that ask for no yes or no: prose, instructions, code, other languages."""
    file = resources.files("nasalign.evaluation") / "neutral.txt"
    return file.read_text(encoding="utf-8").strip().split("\n---\n")


@torch.no_grad()
def compare_neutral(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    on: Change,
    bootstrap_samples: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare the changed model with the untouched one on the neutral texts.

    Args:
        model: untouched, and left so.
        tokenizer: its tokenizer.
        on: the change.
        bootstrap_samples: for the interval, which is by text.
        seed: of the bootstrap.
        progress: called after each text.

    Returns:
        ``kl``: KL(untouched || changed) of the next token in nats at every position: mean with its
        95 % interval, largest, and the share of positions with the same likeliest token.
        ``perplexity``: of the texts before and after.
    """
    parts = []
    for text in neutral_texts():  # one at a time: a vocabulary of float64 a token is large
        ids = torch.tensor(tokenizer(text)["input_ids"][: context_length(model)])
        with explained("comparing neutral texts", model):
            before = _log_probabilities(model, ids)
            with on(model):
                after = _log_probabilities(model, ids)
            parts.append(_differences(before, after, ids))
        if progress:
            progress(1)
    divergences = [part["kl"] for part in parts]
    every = torch.cat(divergences)
    sums = np.array([[float(kl.sum()), len(kl)] for kl in divergences])
    names = [str(number) for number in range(len(parts))]
    drawn = bootstrap_weights(names, bootstrap_samples, seed) @ sums
    same, *surprises = (
        torch.cat([part[name] for part in parts]) for name in ("same", "before", "after")
    )
    return {
        "kl": {
            "prompts": len(parts),
            "tokens": len(every),
            "mean": float(every.mean()),
            "interval": list(interval(drawn[:, 0] / drawn[:, 1])),
            "max": float(every.max()),
            "same_top_token": float(same.double().mean()),
        },
        "perplexity": {
            "tokens": len(surprises[0]),
            "before": math.exp(float(surprises[0].mean())),
            "after": math.exp(float(surprises[1].mean())),
        },
    }


def accuracy_change(before: Sequence[Parametric], after: Sequence[Parametric]) -> dict[str, Any]:
    """Return the share of right free answers of both models, and an interval of its change.

    The interval is that of Bonett and Price (2012) for paired proportions; unlike a bootstrap it
    has a width where no verdict changes.

    Returns:
        ``n``, ``before``, ``after``, ``change_interval`` (95 %), and ``cut``: of both models, the
        share of answers that the limit of tokens ended.
    """
    pairs = [(old.known, new.known) for old, new in zip(before, after, strict=True)]
    n = len(pairs)
    gained = (sum(new and not old for old, new in pairs) + 1) / (n + 2)
    lost = (sum(old and not new for old, new in pairs) + 1) / (n + 2)
    centre = gained - lost
    reach = NormalDist().inv_cdf(0.975) * math.sqrt((gained + lost - centre**2) / (n + 2))
    return {
        "n": n,
        "before": sum(old for old, _ in pairs) / n,
        "after": sum(new for _, new in pairs) / n,
        "change_interval": [max(-1.0, centre - reach), min(1.0, centre + reach)],
        "cut": [sum(one.cut for one in answers) / n for answers in (before, after)],
    }


def _log_probabilities(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Log probabilities of the next token after each of T tokens, float64 [T, vocabulary]."""
    device = model.get_input_embeddings().weight.device
    with quick_kernels(model):
        logits = model(input_ids=ids[None].to(device), use_cache=False).logits[0]
    return logits.cpu().double().log_softmax(dim=-1)  # some devices have no float64


def _differences(before: Tensor, after: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Differences of two models on a text of T tokens, by position.

    Args:
        before: log probabilities of the untouched model, [T, vocabulary].
        after: those of the changed one.
        ids: the tokens.

    Returns:
        ``kl`` [T] in nats, ``same`` [T] likeliest token, and the negative log likelihood of each
        token but the first, ``before`` and ``after`` [T - 1].
    """
    kl = functional.kl_div(after, before, reduction="none", log_target=True).sum(dim=-1)
    return {
        "kl": kl.clamp(min=0),  # but for rounding it is never negative
        "same": before.argmax(dim=-1) == after.argmax(dim=-1),
        "before": -before[:-1].gather(1, ids[1:, None])[:, 0],
        "after": -after[:-1].gather(1, ids[1:, None])[:, 0],
    }
