"""Free answers: greedy decoding in batches, of one line or of many.

The tokens that all prompts of a batch begin with run once.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from nasalign.data.conversation import Conversation
from nasalign.inference.batches import HasTokens, check_lengths, in_batches
from nasalign.inference.forward import prefix_worth_sharing
from nasalign.inference.kept_results import reusing
from nasalign.inference.kernels import quick_kernels
from nasalign.inference.prefix import common_beginning, is_recurrent, prefix_cache
from nasalign.models import processes
from nasalign.models.loading import context_length
from nasalign.progress import Progress
from nasalign.prompts.chat_template import chat_template_of
from nasalign.prompts.encoding import Encoder

FIRST_LINE = re.compile(r"\S[^\n]*\n")
"""Where an answer of one line ends: after the first line with a word."""


@dataclass(frozen=True)
class TokenIds:
    """A prompt given by its tokens alone."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Generated:
    """N free answers."""

    texts: list[str]  # without special tokens
    entropies: list[float]  # of the distribution of the first token, in nats (Appendix G)
    cut: list[bool]  # whether the limit of tokens ended it


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[HasTokens],
    max_new_tokens: int,
    *,
    until: re.Pattern[str] | None = FIRST_LINE,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Continue each prompt greedily up to ``max_new_tokens`` or the first match of ``until``.

    Without ``until``, only the model itself ends an answer. Raise PromptError if a prompt with its
    answer exceeds the model's context.
    """
    check_lengths(model, prompts, max_new_tokens)
    return reusing(
        "free answers",
        prompts,
        (max_new_tokens, until, batch_size),
        lambda: _generate(model, tokenizer, prompts, max_new_tokens, until, batch_size, progress),
        pack=lambda found: ({}, asdict(found)),
        unpack=lambda _, values: Generated(**values),
        progress=progress,
    )


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[HasTokens],
    max_new_tokens: int,
    until: re.Pattern[str] | None,
    batch_size: int | None,
    progress: Progress | None,
) -> Generated:
    texts, entropies = [""] * len(prompts), torch.zeros(len(prompts), dtype=torch.float64)
    cut = torch.zeros(len(prompts), dtype=torch.int64)
    stops = _stop_tokens(model)

    def work(indices: list[int]) -> None:
        inputs = _inputs(model, tokenizer, [prompts[index] for index in indices], max_new_tokens)
        length = inputs["input_ids"].shape[1]
        first = _FirstTokenEntropy()
        # Not ``model.generate``: that of Janus drops the processors.
        output = GenerationMixin.generate(
            model,
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            # The generation_config of a checkpoint may set others.
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            suppress_tokens=None,
            num_return_sequences=1,
            return_dict_in_generate=False,
            pad_token_id=_padding(model, tokenizer),
            logits_processor=LogitsProcessorList([first]),
            stopping_criteria=StoppingCriteriaList(
                [_Ended(tokenizer, length, until)] if until else []
            ),
        )
        for row, index in enumerate(indices):
            text = tokenizer.decode(output[row, length:], skip_special_tokens=True)
            end = until.search(text) if until else None
            texts[index] = text[: end.end() if end else None].strip()
            entropies[index] = first.entropies[row]
            whole = end or not stops.isdisjoint(output[row, length:].tolist())
            cut[index] = not whole and output.shape[1] - length == max_new_tokens

    with quick_kernels(model):
        # The state of recurrent layers would take padding in, and sparse attention would pick it.
        sparse = getattr(model.config.get_text_config(), "index_topk", None) is not None
        how: dict[str, Any] = {"padding": 0 if sparse or is_recurrent(model) else None}
        in_batches(model, prompts, batch_size, work, progress, doing="generating answers", **how)
    processes.add_up(entropies, cut)
    return Generated(processes.put_together(texts), entropies.tolist(), cut.bool().tolist())


def _inputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[HasTokens],
    max_new_tokens: int,
) -> dict[str, Any]:
    """The inputs of ``model.generate``: ids and mask, int64 [B, T], and the cache of the prefix.

    Padding stands between the shared prefix and the rest. This changes distances between cached
    keys, which only a window depends on, so longer prompts than it are padded on the left; so are
    those of multimodal models, not all of which read the positions that go with the mask.
    """
    longest, text = max(len(prompt.token_ids) for prompt in prompts), model.config.get_text_config()
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    within = longest + max_new_tokens <= min([one for one in windows if one], default=math.inf)
    prefix = common_beginning(prompts) if within and text is model.config else 0
    prefix = prefix_worth_sharing(model, prompts, prefix)
    ids = torch.full((len(prompts), longest), _padding(model, tokenizer))
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt.token_ids) + prefix
        ids[row, :prefix] = torch.tensor(prompt.token_ids[:prefix])
        ids[row, start:] = torch.tensor(prompt.token_ids[prefix:])
        mask[row, :prefix] = mask[row, start:] = 1
    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    return inputs | ({"past_key_values": prefix_cache(model, prompts, prefix)} if prefix else {})


def _padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills up a row: the tokenizer's, or one that ends an answer.

    Some tokenizers have none, or one that was added beyond the model's embedding.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    choices = (tokenizer.pad_token_id, tokenizer.eos_token_id, *sorted(_stop_tokens(model)))
    return next((one for one in choices if one is not None and one < rows), 0)


def _stop_tokens(model: PreTrainedModel) -> set[int]:
    """The tokens at which ``model.generate`` ends an answer."""
    found = model.generation_config.eos_token_id
    return set() if found is None else {found} if isinstance(found, int) else set(found)


class ModelChat:
    """A ``data.conversation.Chat`` with a model in memory, such as the one under study.

    Without a chat template, instruction and message are lines.
    """

    name = "self"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
        batch_size: int | None,
        date: str | None = None,
    ) -> None:
        self._model, self._tokenizer, self._date = model, tokenizer, date
        self._max_new_tokens, self._batch_size = max_new_tokens, batch_size

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Return the greedy answer to each conversation, in order.

        Where the model's context leaves less than ``max_new_tokens``, an answer has what is left.
        """
        prompts = [TokenIds(self._tokens(conversation)) for conversation in conversations]
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        limit = context_length(self._model)
        room = self._max_new_tokens if limit is None else max(1, limit - longest)
        how: dict[str, Any] = {"batch_size": self._batch_size, "progress": progress}
        most = min(self._max_new_tokens, room)
        said = generate(self._model, self._tokenizer, prompts, most, **how)
        return list(said.texts)

    def _tokens(self, conversation: Conversation) -> tuple[int, ...]:
        if self._tokenizer.chat_template is None:
            text = f"{conversation.system}\n{conversation.user}"
            return tuple(Encoder(self._tokenizer, special=True)(text, [text])[0])
        template = chat_template_of(self._tokenizer, self._date)
        turns = [("system", conversation.system), ("user", conversation.user)]
        if not template.takes_system:  # some templates, such as Gemma's
            turns = [("user", f"{conversation.system}\n{conversation.user}")]
        text = template.prompt(turns)
        encode = Encoder(self._tokenizer, special=False)
        return tuple(encode(text, [conversation.user.strip()])[0])


class _FirstTokenEntropy(LogitsProcessor):
    """Keeps the entropy of the first distribution, [B], and changes nothing."""

    def __init__(self) -> None:
        self.entropies: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self.entropies:
            logs = scores.float().log_softmax(dim=-1)
            self.entropies = torch.special.entr(logs.exp()).sum(dim=-1).tolist()
        return scores


class _Ended(StoppingCriteria):
    """Ends a row once a pattern is found in what was generated."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, length: int, until: re.Pattern[str]
    ) -> None:
        self._tokenizer, self._length, self._until = tokenizer, length, until

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: object) -> Tensor:
        texts = self._tokenizer.batch_decode(input_ids[:, self._length :], skip_special_tokens=True)
        ended = [self._until.search(text) is not None for text in texts]
        return torch.tensor(ended, device=input_ids.device)
