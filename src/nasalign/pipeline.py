"""Aligning a model in memory: the stages, and what they leave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment.adapter import Adapter
from nasalign.alignment.probing import ProbingSet, check_probing_set
from nasalign.alignment.rows import head_slices, read_rows, write_rows
from nasalign.alignment.tuning import EpochRecord, HeadRecord
from nasalign.config import Settings, load_preset, preset_name
from nasalign.data.qa import Question
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.run import Run, describe
from nasalign.stages import choose_heads, probe, tune


@dataclass(frozen=True)
class AlignResult:
    """What an alignment found and did.

    Attributes:
        probing: the probing set with its NAS.
        heads: the selected heads, of falling single head NAS.
        history: every decision of Algorithm 1, in order.
        adapter: the changed rows; ``adapter.revert(model)`` undoes them to the bit.
    """

    probing: ProbingSet
    heads: list[Head]
    history: list[EpochRecord | HeadRecord]
    adapter: Adapter


def settings_for(
    model: PreTrainedModel, base: Settings | None, changes: Mapping[str, Any]
) -> Settings:
    """Returns ``base``, or the preset for the model's size, with changes on top."""
    return (base or load_preset(preset_name(model.num_parameters()))).replace(changes)


def align(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    run: Run | None = None,
    preset: Settings | None = None,
    **settings: Any,
) -> AlignResult:
    """Corrects the negative bias of a model in memory (NASA). Changes the model it is given.

    Args:
        model: a causal language model; its q and k rows of some heads change, and its
            parameters no longer require gradients.
        tokenizer: its tokenizer.
        questions: short-answer questions; those the model answers correctly are the probing set.
        run: where to write and whom to tell; nothing and nobody unless given.
        preset: settings to start from; those for the model's size unless given.
        **settings: changes by name, as in ``config.Settings``.

    Returns:
        The heads, the history of Algorithm 1, and the adapter, which can revert the change.

    Raises:
        NothingToFixError: the model denies nothing that it knows.
        NasAlignError: the data, the model or a setting does not fit; the model is unchanged.
    """
    run = run or Run()
    chosen = settings_for(model, preset, settings)
    model.requires_grad_(False).eval()
    if "model" not in run.facts:  # a job has described it already
        run.facts |= describe(model, tokenizer) | {"settings": chosen.as_dict()}
    probing = probe(model, tokenizer, questions, chosen, run)
    heads = choose_heads(probing, chosen, run)
    run.save()
    check_probing_set(probing)
    fingerprint = str(run.facts["model"]["fingerprint"])

    def keep(partial: Adapter) -> None:
        if run.folder:
            _keep_partial(partial, model, run)

    history, adapter = tune_rows(model, probing, heads, chosen, run, fingerprint, keep)
    return AlignResult(probing, heads, history, adapter)


def tune_rows(
    model: PreTrainedModel,
    probing: ProbingSet,
    heads: Sequence[Head],
    settings: Settings,
    run: Run,
    fingerprint: str,
    interrupted: Callable[[Adapter], None] | None = None,
) -> tuple[list[EpochRecord | HeadRecord], Adapter]:
    """Runs Algorithm 1, which changes the model; returns its history and the adapter.

    After an error the model is as it was.

    Args:
        model: the untouched model.
        probing: the probing set.
        heads: P, in the order of their tuning.
        settings: of the tuning.
        run: where to write and whom to tell.
        fingerprint: of the untouched model.
        interrupted: is given the adapter of the heads so far after an interruption.
    """
    geometry = HeadGeometry.of(model)
    slices = [head_slices(geometry, head.layer, head.head, settings.k_scope) for head in heads]
    before = {where: read_rows(model, where) for part in slices for where in part}
    try:
        history = tune(model, probing, heads, settings, run)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and interrupted:
            interrupted(Adapter.between(before, model, fingerprint))
        for where, rows in before.items():
            write_rows(model, where, rows)
        raise
    return history, Adapter.between(before, model, fingerprint)


def _keep_partial(adapter: Adapter, model: PreTrainedModel, run: Run) -> None:
    """Writes the adapter of the heads so far, after an interruption."""
    assert run.folder is not None
    what = "No head was kept so far."
    if adapter.after:
        adapter.save(run.folder / "adapter", model.name_or_path)
        what = f"The adapter of the heads so far is in {run.folder / 'adapter'}."
    run.reporter.say(f"{what} Go on with --resume.")
