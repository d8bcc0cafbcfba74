"""Trials of tail tuning: a LoRA that acts on the last tokens of a prompt alone.

All prompts end in the same tokens (``? Answer:`` and what the chat template puts after it). Keys
and values of everything before them are those of the untouched model and are computed once; a
training step then runs the tail alone, in the layers that are changed. What is learnt is evaluated
on the development split in the tail alone (an activated LoRA) and at every token (merged), and may
be finished by some epochs on whole prompts. Seconds are those of the CPU, all threads together.

    python benchmarks/tail_tuning.py smollm2-135m --first 10 --rate 4e-3 --epochs 2
    python benchmarks/tail_tuning.py smollm2-135m --leave-out context --whole-epochs 1
"""

import math
import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, get_cosine_schedule_with_warmup

from common import finish, machine, parser, relative_difference, require, table
from nasalign.data.binary import sample
from nasalign.data.judge import matches
from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.evaluation.platt import fit_platt
from nasalign.evaluation.ranking import auc
from nasalign.head_rows.activations import ActivationMemory
from nasalign.inference.forward import answer_logits
from nasalign.inference.generation import TokenIds, generate
from nasalign.models.loading import load
from nasalign.nasa_plus.anchors import anchors
from nasalign.nasa_plus.attribution import answer_log_odds
from nasalign.nasa_plus.divergence import Answered, Divergence
from nasalign.nasa_plus.kinds import Pair, held_back, pairs_of
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals.change_training import BETAS, GRADIENT_NORM, PAIRS_A_STEP, WARMUP_STEPS

BATCH = 32
PARTS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
Judged = tuple[BinaryPrompt, bool]


class Lora(nn.Module):
    """Low-rank updates of some linear layers, made by hooks."""

    def __init__(self, layers: Sequence[nn.Module], parts: Sequence[str], rank: int) -> None:
        super().__init__()
        self.places = [layer.get_submodule(PARTS[part]) for layer in layers for part in parts]
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for linear in self.places:
            down = torch.empty(rank, linear.in_features)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(torch.zeros(linear.out_features, rank)))

    @contextmanager
    def on(self) -> Iterator[None]:
        with ExitStack() as stack:
            for linear, down, up in zip(self.places, self.down, self.up, strict=True):

                def add(_: nn.Module, inputs: Any, out: Tensor, down=down, up=up) -> Tensor:
                    return out + 2 * functional.linear(functional.linear(inputs[0], down), up)

                stack.callback(linear.register_forward_hook(add).remove)
            yield


class Tail:
    """The last ``size`` tokens of prompts, run in the layers from ``first`` on."""

    def __init__(self, model: PreTrainedModel, first: int, size: int) -> None:
        self.model, self.first, self.size = model, first, size
        self.layers = model.model.layers
        self.kept: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def keep(self, prompts: Sequence[BinaryPrompt]) -> None:
        """Keeps keys and values before the tail, and what enters layer ``first`` in it."""
        order = sorted({one.token_ids for one in prompts} - set(self.kept), key=len)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            ids = torch.zeros(len(batch), len(batch[-1]), dtype=torch.long)
            for row, tokens in enumerate(batch):
                ids[row, : len(tokens)] = torch.tensor(tokens)
            entered: list[Tensor] = []

            def note(_: nn.Module, inputs: Any, entered: list[Tensor] = entered) -> None:
                entered.append(inputs[0])

            hook = self.layers[self.first].register_forward_pre_hook(note)
            cache = DynamicCache(config=self.model.config)
            self.model.model(input_ids=ids, past_key_values=cache, use_cache=True)
            hook.remove()
            changed = cache.layers[self.first :]
            for row, tokens in enumerate(batch):
                end, before = len(tokens), len(tokens) - self.size
                self.kept[tokens] = (
                    entered[0][row, before:end].clone(),
                    torch.stack([one.keys[row, :, :before] for one in changed]),
                    torch.stack([one.values[row, :, :before] for one in changed]),
                )

    def logits(self, prompts: Sequence[BinaryPrompt]) -> Tensor:
        """Returns logits [B, vocabulary] after the last token; cached parts are constants."""
        kept = [self.kept[one.token_ids] for one in prompts]
        before = torch.tensor([one[1].shape[2] for one in kept])
        longest, count = int(before.max()), len(kept)
        cache = DynamicCache(config=self.model.config)
        padded = [
            torch.stack(
                [functional.pad(one[side], (0, 0, longest - one[side].shape[2], 0)) for one in kept]
            )
            for side in (1, 2)
        ]  # each [B, layers, key heads, longest, head size], padded on the left
        for place in range(len(self.layers) - self.first):
            cache.update(padded[0][:, place], padded[1][:, place], self.first + place)
        columns = torch.arange(longest + self.size)
        rows = torch.arange(self.size)
        seen = (columns >= longest - before[:, None])[:, None] & (
            columns <= longest + rows[:, None]
        )
        mask = torch.zeros(count, 1, *seen.shape[1:]).masked_fill(~seen[:, None], -torch.inf)
        positions = before[:, None] + rows
        hidden = torch.stack([one[0] for one in kept])
        turned = self.model.model.rotary_emb(hidden, positions)
        for layer in self.layers[self.first :]:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                position_embeddings=turned,
            )
        return self.model.lm_head(self.model.model.norm(hidden[:, -1]))


class FreeAnswers:
    """What the model answers freely: embedded facts by Prompt II."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, builder: PromptBuilder, arguments: Namespace
    ) -> None:
        self.model, self.tokenizer, self.builder = model, tokenizer, builder
        self.first, self.count = arguments.first, arguments.free

    def _asked(self, split: Any) -> tuple[list[Question], list[str]]:
        facts = sample(load_facts(split), self.count, 0)
        prompts = [TokenIds(self.builder.parametric(fact)) for fact in facts]
        return facts, generate(self.model, self.tokenizer, prompts, 16).texts

    def right(self, lora: Lora | None) -> float:
        """Share of the development facts that are answered rightly."""
        with lora.on() if lora else nullcontext():
            facts, texts = self._asked("development")
        return sum(map(matches, texts, facts)) / len(facts)

    def divergence(self) -> Divergence:
        """KL(untouched || changed) of the untouched model's answers to probing facts."""
        facts, texts = self._asked("probing")
        whole = [self.builder.parametric(*one) for one in zip(facts, texts, strict=True)]
        asked = [len(self.builder.parametric(fact)) for fact in facts]
        answers = [
            Answered(ids, len(ids) - before + 1) for ids, before in zip(whole, asked, strict=True)
        ]
        return Divergence(self.model, answers, self.first, None, ActivationMemory())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("model")
    options.add_argument("--parts", default="qkvo", help="of q, k, v, o; or all")
    options.add_argument("--first", type=int, default=10, help="lowest layer that is changed")
    options.add_argument("--rank", type=int, default=8)
    options.add_argument("--rate", type=float, default=4e-3)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--whole-epochs", type=int, default=0, help="on whole prompts afterwards")
    options.add_argument("--whole-rate", type=float, default=1e-3)
    options.add_argument("--divergence", type=float, default=0.0, help="weight of free answers")
    options.add_argument("--free", type=int, default=48, help="free answers that are held, judged")
    options.add_argument("--centring", type=float, default=0.1)
    options.add_argument("--facts", type=int, default=130)
    options.add_argument("--leave-out", help="a kind that is not trained on")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--judged", type=int, default=100, help="development facts")
    arguments = options.parse_args()
    torch.manual_seed(arguments.seed)
    result, lines = _trial(arguments)
    finish(result, lines, arguments.json)


def _trial(arguments: Namespace) -> tuple[dict[str, Any], list[str]]:
    model, tokenizer = load(arguments.model, dtype="float32")
    model.requires_grad_(False)
    builder = PromptBuilder(tokenizer)
    kinds = _kinds(arguments)
    learnt: list[tuple[Judged, Judged]] = []
    held: dict[str, list[Judged]] = {}
    for kind, pairs in kinds.items():
        for pair in pairs:
            sides = tuple((builder.binary(one), one.label) for one in (pair.right, pair.wrong))
            if kind == arguments.leave_out or held_back(pair.subject, arguments.seed):
                held.setdefault(kind, []).extend(sides)
            else:
                learnt.append(sides)
    development = {"facts": _judged(builder, "development", arguments)} | {
        f"held back {kind}": judged for kind, judged in held.items()
    }
    every = [side[0] for pair in learnt for side in pair]
    every += [prompt for judged in development.values() for prompt, _ in judged]
    tail = Tail(model, arguments.first, _common_tail(every))
    parts = list(PARTS) if arguments.parts == "all" else list(arguments.parts)
    free = FreeAnswers(model, tokenizer, builder, arguments)
    lora = Lora(model.model.layers[arguments.first :], parts, arguments.rank)
    seconds = {"cache": _cpu(lambda: tail.keep([side[0] for pair in learnt for side in pair]))}
    tail.keep(every)

    def whole(prompts: Sequence[BinaryPrompt]) -> Tensor:
        return answer_logits(model, prompts)

    with torch.no_grad():
        apart = relative_difference(tail.logits(every[:9]), whole(every[:9]))
    require(apart < 1e-4, f"The tail's logits are not those of whole prompts: {apart:.1e} apart.")
    figures: dict[str, Any] = {}
    answers = {"untouched": free.right(None)}
    figures["untouched"] = _figures(whole, development, None)
    seconds["tail"] = _cpu(
        lambda: _train(lora, tail.logits, learnt, arguments.rate, arguments.epochs, arguments)
    )
    figures["in the tail"] = _figures(tail.logits, development, lora)
    figures["at every token"] = _figures(whole, development, lora)
    answers["at every token"] = free.right(lora)
    if arguments.whole_epochs:
        seconds["whole"] = _cpu(
            lambda: _train(
                lora,
                whole,
                learnt,
                arguments.whole_rate,
                arguments.whole_epochs,
                arguments,
                free.divergence() if arguments.divergence else None,
            )
        )
        figures["finished"] = _figures(whole, development, lora)
        answers["finished"] = free.right(lora)
    numbers = sum(one.numel() for one in lora.parameters())
    result = {
        "machine": machine("cpu"),
        "options": vars(arguments),
        "tail": tail.size,
        "pairs": len(learnt),
        "numbers": numbers,
        "seconds": seconds,
        "figures": figures,
        "free answers": answers,
    }
    header = ["", "data", "n", "accuracy", "AUC", "Yes", "ECE", "with Platt: accuracy", "ECE"]
    rows = [
        [state, data, *(f"{value:.3f}" if isinstance(value, float) else value for value in found)]
        for state, by_data in figures.items()
        for data, found in ((name, one.values()) for name, one in by_data.items())
    ]
    said = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    title = f"{len(learnt)} pairs, tail of {tail.size} tokens, {numbers:,} numbers; {said}"
    said = ", ".join(f"{state} {share:.3f}" for state, share in answers.items())
    return result, [title, f"free answers ({arguments.free}): {said}", "", *table(header, rows)]


def _cpu(work: Callable[[], Any]) -> float:
    """Seconds of the CPU, which do not depend on what else the machine does."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _kinds(arguments: Namespace) -> dict[str, list[Pair]]:
    count, seed = arguments.facts, arguments.seed
    pool = load_facts("probing")
    sizes = {"direct": count // 3, "context": count // 4, "numbers": count // 6}
    return {"facts": pairs_of(sample(pool, count, seed), pool, seed), **anchors(sizes, seed)}


def _judged(builder: PromptBuilder, split: Any, arguments: Namespace) -> list[Judged]:
    pool = load_facts(split)
    pairs = pairs_of(sample(pool, arguments.judged, 0), pool, 0)
    sides: list[BinaryExample] = [one for pair in pairs for one in (pair.right, pair.wrong)]
    return [(builder.binary(one), one.known_label) for one in sides]


def _common_tail(prompts: Sequence[BinaryPrompt]) -> int:
    reversed_ids = zip(*(one.token_ids[::-1] for one in prompts), strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, reversed_ids)))


def _train(
    lora: Lora,
    logits_of: Callable[[Sequence[BinaryPrompt]], Tensor],
    pairs: Sequence[tuple[Judged, Judged]],
    rate: float,
    epochs: int,
    arguments: Namespace,
    divergence: Divergence | None = None,
) -> None:
    adam = torch.optim.AdamW(lora.parameters(), lr=rate, betas=BETAS, weight_decay=0.0)
    steps = epochs * math.ceil(len(pairs) / PAIRS_A_STEP)
    schedule = get_cosine_schedule_with_warmup(adam, min(WARMUP_STEPS, steps // 4), steps)
    rng = random.Random(f"{arguments.seed}/tail")
    for epoch in range(1, epochs + 1):
        order, total = rng.sample(list(pairs), len(pairs)), 0.0
        for start in range(0, len(order), PAIRS_A_STEP):
            batch = [side for pair in order[start : start + PAIRS_A_STEP] for side in pair]
            prompts = [prompt for prompt, _ in batch]
            with lora.on():
                logits = logits_of(prompts)
            wanted = [
                one.answers.target if label else one.answers.other_target for one, label in batch
            ]
            odds = answer_log_odds(logits, prompts)
            loss = functional.cross_entropy(logits, torch.tensor(wanted))
            (loss + arguments.centring * odds.mean() ** 2).backward()
            if divergence:
                with lora.on():
                    places = range(start, start + PAIRS_A_STEP)
                    (arguments.divergence * divergence.of(places)).backward()
            nn.utils.clip_grad_norm_(lora.parameters(), GRADIENT_NORM)
            adam.step()
            adam.zero_grad()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        if not arguments.json:
            print(f"epoch {epoch}: loss {total / 2 / len(order):.3f}", flush=True)


@torch.no_grad()
def _figures(
    logits_of: Callable[[Sequence[BinaryPrompt]], Tensor],
    data: dict[str, list[Judged]],
    lora: Lora | None,
) -> dict[str, dict[str, float]]:
    """Accuracy, AUC, share of Yes and calibration error; Platt scaling is fitted on held back."""
    found: dict[str, tuple[Tensor, list[bool]]] = {}
    for name, judged in data.items():
        odds = []
        with lora.on() if lora else nullcontext():
            for start in range(0, len(judged), BATCH):
                prompts = [prompt for prompt, _ in judged[start : start + BATCH]]
                odds.append(answer_log_odds(logits_of(prompts), prompts))
        found[name] = torch.cat(odds), [label for _, label in judged]
    held = [one for name, one in found.items() if name != "facts"]
    labels = [label for _, known in held for label in known]
    platt = fit_platt(torch.cat([odds for odds, _ in held]), labels)
    return {name: _measures(*one, platt) for name, one in found.items()}


def _measures(odds: Tensor, labels: list[bool], platt: Any) -> dict[str, float]:
    right = torch.tensor(labels)
    scaled = platt.of(odds)
    return {
        "n": len(labels),
        "accuracy": float(((odds > 0) == right).float().mean()),
        "auc": float(auc(odds.numpy(), labels, np.ones((1, len(labels))))[0]),
        "yes": float((odds > 0).float().mean()),
        "ece": _ece(odds.sigmoid(), right),
        "platt accuracy": float(((scaled > 0) == right).float().mean()),
        "platt ece": _ece(scaled.sigmoid(), right),
    }


def _ece(p: Tensor, right: Tensor) -> float:
    """Calibration error of the verdict's confidence, in ten bins."""
    confidence, correct = torch.maximum(p, 1 - p), ((p > 0.5) == right).float()
    bins = (confidence * 10).long().clamp(max=9)
    sums = torch.zeros(10).index_add_(0, bins, confidence - correct)
    return float(sums.abs().sum() / len(p))


if __name__ == "__main__":
    main()
