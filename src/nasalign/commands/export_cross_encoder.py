"""A checkpoint for the CrossEncoder of sentence-transformers: the difference of two logits."""

from pathlib import Path

import torch

from nasalign.adapters.scaling import PlattScaling
from nasalign.commands.scored import ScoredModel, padded, with_padding
from nasalign.io.files import write_json, write_tensors
from nasalign.reporting.card import ScoreFacts

_AT_ONCE = 4  # prompts that are tried in a batch


def write_cross_encoder(scored: ScoredModel, folder: Path) -> ScoreFacts:
    """Write a checkpoint that sentence-transformers loads as a CrossEncoder (5.4 or later).

    Its modules are the causal model, the difference of two logits, and with a calibration a layer
    of one weight and one bias.

    Raises:
        ModelError: the model does not give the same where a prompt is padded on the left, as
            sentence-transformers does.
        PromptError: the prompt cannot be written as a template of pairs.
    """
    facts, tokenizer = scored.facts(), scored.pair.tokenizer()
    with_padding(tokenizer, scored.pair.prompts)
    _check_left_padding(scored, int(tokenizer.pad_token_id))
    folder.mkdir()
    scored.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    base = "sentence_transformers"
    modules = [("", f"{base}.base.modules.transformer.Transformer")]
    modules.append(("1_LogitScore", f"{base}.cross_encoder.modules.logit_score.LogitScore"))
    yes, no = facts.tokens
    score = {"true_token_id": yes, "false_token_id": no, "module_input_name": "causal_logits"}
    (folder / "1_LogitScore").mkdir()
    write_json(folder / "1_LogitScore" / "config.json", score)
    if scored.scaling:
        modules.append(("2_Dense", f"{base}.base.modules.dense.Dense"))
        _write_dense(folder / "2_Dense", scored.scaling)
    rows = [
        {"idx": place, "name": str(place), "path": path, "type": kind}
        for place, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", rows)
    text = {"method": "forward", "method_output_name": "logits"}
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": {"text": text, "message": text | {"format": "flat"}},
            "module_output_name": "causal_logits",
        },
    )
    own = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"}
    write_json(folder / "config_sentence_transformers.json", own)
    return facts


@torch.no_grad()
def _check_left_padding(scored: ScoredModel, pad: int) -> None:
    """Refuse a model that counts padding on the left as positions."""
    prompts, (yes, no), found = scored.pair.prompts, scored.tokens(), []
    for start in range(0, len(prompts), _AT_ONCE):  # the logits of all positions are large
        ids, mask = padded(prompts[start : start + _AT_ONCE], pad, left=True)
        ids, mask = (part.to(scored.model.device) for part in (ids, mask))
        logits = scored.model(ids, attention_mask=mask).logits[:, -1].double().cpu()
        found.append(logits[:, yes] - logits[:, no])
    what = f"{type(scored.model).__name__} with padding on the left"
    scored.check(torch.cat(found), scored.odds(), what)


def _write_dense(folder: Path, scaling: PlattScaling) -> None:
    """Write a layer of sentence-transformers that turns a score into a calibrated one."""
    folder.mkdir()
    config = {
        "in_features": 1,
        "out_features": 1,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_input_name": "scores",
        "module_output_name": "scores",
    }
    write_json(folder / "config.json", config)
    tensors = {
        "linear.weight": torch.tensor([[scaling.slope]]),
        "linear.bias": torch.tensor([scaling.offset]),
    }
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
