"""Algorithm 1: its decisions recomputed from what was measured, and a head trained literally."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from paper_literal.model import Literal, nas_of_heads
from paper_literal.prompts import Tokens

Row = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What Algorithm 1 decides about a head."""

    epochs: int
    kept: bool
    halted: bool


def replay(
    rows: Sequence[Row], start: tuple[dict[tuple[int, int], float], float], limits: Row
) -> tuple[dict[tuple[int, int], Decision], list[str]]:
    """Goes through Algorithm 1 with the alpha and beta that were recorded.

    Args:
        rows: of ``tuning.jsonl``: the epochs of each head, and then its outcome.
        start: single head NAS of V by head, and its sum, both before tuning.
        limits: ``T``, ``rho``, ``tau``; ``share``, which halts where tau is minus infinity;
            ``by_model``, whether model NAS above its start ends and cancels a head, and alone does.

    Returns:
        The decision on each head, and what the record does that Algorithm 1 does not.
    """
    decisions: dict[tuple[int, int], Decision] = {}
    wrong: list[str] = []
    beta_now, halted = start[1], False
    epochs: list[Row] = []
    for row in rows:
        if row["record"] == "epoch":
            epochs.append(row)
            continue
        head = row["layer"], row["head"]
        if halted:
            wrong.append(f"{head} was tuned after halting")
        beta_initial, alpha_initial = beta_now, row["alpha_before"]  # lines 3 and 4
        if not decisions and not math.isclose(alpha_initial, start[0][head], rel_tol=1e-4):
            wrong.append(f"{head} begins at {alpha_initial}, not at {start[0][head]}")
        if not math.isclose(row["beta_before"], beta_initial, rel_tol=1e-4):
            wrong.append(f"{head} begins at beta {row['beta_before']}, not {beta_initial}")
        alpha = beta = math.inf  # line 5
        stopped = limits["T"]
        for number, one in enumerate(epochs, start=1):  # lines 6 to 13
            enough = limits["tau"] == -math.inf and one["yes_share"] > limits["share"]
            above = limits["by_model"] and one["beta"] > beta_initial
            ended = one["alpha"] > alpha or one["alpha"] < limits["rho"] or one["beta"] > beta
            if ended or enough or above:
                stopped = number
                break
            alpha, beta = one["alpha"], one["beta"]
        last = epochs[-1]
        cancel = last["beta"] > beta_initial  # line 14
        cancel |= last["alpha"] > alpha_initial and not limits["by_model"]
        beta_now = beta_initial if cancel else last["beta"]  # line 15
        enough = limits["tau"] == -math.inf and last["yes_share"] > limits["share"] and not cancel
        halted = last["beta"] < limits["tau"] or enough  # line 16
        if stopped != len(epochs):
            wrong.append(f"{head} has {len(epochs)} epochs where Algorithm 1 has {stopped}")
        decisions[head] = Decision(stopped, not cancel, halted)
        epochs = []
    return decisions, wrong


def train(
    literal: Literal,
    tuning: Sequence[Tokens],
    validation: Sequence[Tokens],
    head: tuple[int, int],
    target: int,
    settings: Row,
    epochs: int,
) -> list[tuple[float, float]]:
    """Trains the q and k rows of one head on all of D at once, and measures V after each epoch.

    The whole weights are given to AdamW, with gradients that are 0 outside the rows.

    Returns:
        Single head NAS and model NAS of V after each epoch.
    """
    layer, number = head
    attention = literal.model.model.layers[layer].self_attn
    config = literal.model.config
    size = attention.head_dim
    group = number // (config.num_attention_heads // config.num_key_value_heads)
    rows = {attention.q_proj.weight: number}
    if settings["k_scope"] == "group":
        rows[attention.k_proj.weight] = group
    for weight in rows:
        weight.requires_grad_(True)
    adam = torch.optim.AdamW(rows, lr=settings["learning_rate"], weight_decay=0.0)
    steps = settings["epochs"]
    warm = round(settings["warmup_ratio"] * steps)
    measured = []
    for step in range(epochs):
        adam.zero_grad()
        for tokens in tuning:
            logits = literal.model(torch.tensor([tokens.ids]), use_cache=False).logits[0, -1]
            (-logits.log_softmax(-1)[target] / len(tuning)).backward()
        for weight, place in rows.items():
            outside = torch.ones(len(weight), dtype=torch.bool)
            outside[place * size : (place + 1) * size] = False
            weight.grad[outside] = 0
        share = step / warm if step < warm else _cosine((step - warm) / max(1, steps - warm))
        for one in adam.param_groups:
            one["lr"] = settings["learning_rate"] * share
        adam.step()
        measured.append(measure(literal, validation, head))
    for weight in rows:
        weight.requires_grad_(False)
    return measured


def measure(
    literal: Literal, validation: Sequence[Tokens], head: tuple[int, int]
) -> tuple[float, float]:
    """Single head NAS and model NAS of V."""
    values = [nas_of_heads(literal.run(tokens.ids)[0], tokens) for tokens in validation]
    alpha = math.fsum(one[head[0]][head[1]] for one in values) / len(values)
    beta = math.fsum(nas for one in values for layer in one for nas in layer) / len(values)
    return alpha, beta


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
