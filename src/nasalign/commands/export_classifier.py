"""A checkpoint that loads as a classifier of texts, from two rows of the output embedding."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.commands.scored import ScoredModel, padded, with_padding
from nasalign.errors import ModelError
from nasalign.inference.forward import answer_logits
from nasalign.prompts.builder import BinaryPrompt
from nasalign.reporting.card import ScoreFacts


def write_classifier(scored: ScoredModel, folder: Path) -> ScoreFacts:
    """Write a checkpoint that loads as ``AutoModelForSequenceClassification``, with one label.

    Its head is the difference of the two tokens' rows of the output embedding, times the slope of
    the calibration: the sigmoid of its logit is the softmax over both tokens. The classes of
    transformers have no bias there, so the offset is in ``config.json`` under ``nasalign``.

    Raises:
        ModelError: transformers has no such class for the model, or the model does more with its
            logits than to scale them.
        PromptError: the prompt cannot be written as a template of pairs.
    """
    facts, tokenizer = scored.facts(), scored.pair.tokenizer()
    with_padding(tokenizer, scored.pair.prompts)
    row, bias = _row(scored, *facts.tokens)
    facts = replace(facts, offset=facts.offset + facts.slope * bias)
    classifier = _classifier(scored.model, facts.slope * row, facts, int(tokenizer.pad_token_id))
    found = _classified(classifier, scored.pair.prompts) + facts.offset
    scored.check(found, scored.scale.of(scored.odds()), type(classifier).__name__)
    folder.mkdir()
    classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return facts


def _classifier(model: PreTrainedModel, row: Tensor, facts: ScoreFacts, pad: int) -> Any:
    """The classifier of a model, which shares its weights, with a head of one row [hidden]."""
    from transformers import AutoModelForSequenceClassification

    kinds = AutoModelForSequenceClassification._model_mapping
    config = copy.deepcopy(model.config)
    if type(config) not in kinds:
        raise ModelError(
            f"transformers has no class for the classification of texts by {type(model).__name__}; "
            "take --format cross-encoder or merged."
        )
    config.num_labels, config.id2label = 1, {0: facts.words[0]}
    config.label2id = {facts.words[0]: 0}
    config.get_text_config().pad_token_id = pad
    config.nasalign = {"slope": facts.slope, "offset": facts.offset, "words": list(facts.words)}
    with torch.device("meta"):
        classifier = kinds[type(config)](config)
    head = getattr(classifier, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(
            f"The head of {type(classifier).__name__} is not one linear layer; take --format "
            "cross-encoder or merged."
        )
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    classifier.score.weight = nn.Parameter(row[None].to(model.dtype), requires_grad=False)
    return classifier.eval()


@torch.no_grad()
def _row(scored: ScoredModel, yes: int, no: int) -> tuple[Tensor, float]:
    """Weight [hidden] and bias of the log odds of two tokens, by the state before the output.

    Raises:
        ModelError: the logits are not those of the output embedding times a number.
    """
    model, output = scored.model, scored.model.get_output_embeddings()
    raw: list[Tensor] = []
    hook = output.register_forward_hook(lambda module, inputs, result: raw.append(result))
    try:
        final = answer_logits(model, scored.pair.prompts, prefix=0).double()
    finally:
        hook.remove()
    plain = raw[0][:, 0].double()
    scale = (final * plain).sum() / plain.square().sum()  # Cohere's and Granite's is not 1
    # A soft cap of 30 takes more than this off the largest logits of Gemma 2.
    rounding = 1e-4 if model.dtype == torch.float32 else 0.02
    if (final - scale * plain).abs().max() > rounding * final.abs().max():
        raise ModelError(
            f"{type(model).__name__} changes its logits after the output embedding by more than a "
            "factor, as a soft cap does, which a linear head cannot; take --format cross-encoder "
            "or merged."
        )
    weight, bias = output.weight, getattr(output, "bias", None)
    row = scale.float() * (weight[yes].float() - weight[no].float())
    return row, 0.0 if bias is None else float(scale * (bias[yes] - bias[no]))


@torch.no_grad()
def _classified(classifier: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Logits of a classifier for prompts, padded together on the right, [N] float64."""
    pad = classifier.config.get_text_config().pad_token_id
    ids, mask = padded(prompts, pad, left=False)
    device = classifier.device
    return classifier(ids.to(device), attention_mask=mask.to(device)).logits[:, 0].double().cpu()
