"""Aligning a model in memory: the stages, and what they leave."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter
from nasalign.config import Settings, load_preset, preset_name
from nasalign.data.binary import sample
from nasalign.data.records import Question
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry, RowSlice
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import EpochRecord, HeadRecord
from nasalign.nasa.probing import ProbingSet, check_probing_set
from nasalign.nasa.stages import choose_heads, probe, tune
from nasalign.nasa_plus.joint_stages import choose_by_attribution, kinds_of, rendered, tune_jointly
from nasalign.nasa_plus.joint_tuning import JointRecord
from nasalign.run import Run, describe


@dataclass(frozen=True)
class AlignResult:
    """What an alignment found and did.

    Attributes:
        probing: the probing set with its NAS.
        heads: the selected heads, of falling single head NAS.
        history: every decision of Algorithm 1, or every epoch of nasa+, in order.
        adapter: the changed rows; ``adapter.revert(model)`` undoes them to the bit.
    """

    probing: ProbingSet
    heads: list[Head]
    history: list[EpochRecord | HeadRecord] | list[JointRecord]
    adapter: Adapter

    @property
    def kept(self) -> list[tuple[int, int]]:
        """Layer and head of those whose rows stay changed; of nasa+ all or none are."""
        if self.history and isinstance(self.history[0], JointRecord):
            return [head[:2] for head in self.heads] if self.adapter.after else []
        records = [one for one in self.history if isinstance(one, HeadRecord)]
        return [(one.layer, one.head) for one in records if one.kept]


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
    """Corrects a model in memory (NASA or nasa+), and so changes it.

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
        NothingToFixError: the model denies nothing that it knows, or affirms no wrong answer.
        NasAlignError: the data, the model or a setting does not fit; the model is unchanged.
    """
    run = run or Run()
    chosen = settings_for(model, preset, settings)
    model.requires_grad_(False).eval()
    if "model" not in run.facts:  # a job has described it already
        run.facts |= describe(model, tokenizer) | {"settings": chosen.as_dict()}
    probing = probe(model, tokenizer, questions, chosen, run)
    fingerprint = str(run.facts["model"]["fingerprint"])
    if chosen.method == "nasa+":
        asked = sample(questions, chosen.probing_questions, chosen.seed)
        return align_plus(model, tokenizer, asked, probing, chosen, run, fingerprint)
    heads = choose_heads(probing, chosen, run)
    run.save()
    check_probing_set(probing)

    def keep(partial: Adapter) -> None:
        if run.folder:
            _keep_partial(partial, model, run)

    history, adapter = tune_rows(model, probing, heads, chosen, run, fingerprint, keep)
    return AlignResult(probing, heads, history, adapter)


def align_plus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Question],
    probing: ProbingSet,
    settings: Settings,
    run: Run,
    fingerprint: str,
) -> AlignResult:
    """Corrects a model by nasa+, which changes it; after an error it is as it was.

    Args:
        model: the untouched model.
        tokenizer: its tokenizer.
        asked: the questions that were probed.
        probing: what the model knows of them.
        settings: of the samples and the tuning.
        run: where to write and whom to tell.
        fingerprint: of the untouched model.

    Raises:
        DataError: there are too few questions.
    """
    samples = rendered(kinds_of(asked, probing, settings), probing, tokenizer, settings)
    if settings.selection == "attribution":
        heads = choose_by_attribution(model, samples.tuning, probing, settings, run)
    else:
        heads = choose_heads(probing, settings, run)
    run.save()
    with rows_kept(model, heads, settings) as before:
        history = tune_jointly(model, samples, heads, settings, run)
    return AlignResult(probing, heads, history, Adapter.between(before, model, fingerprint))


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
    with rows_kept(model, heads, settings) as before:
        try:
            history = tune(model, probing, heads, settings, run)
        except KeyboardInterrupt:
            if interrupted:
                interrupted(Adapter.between(before, model, fingerprint))
            raise
    return history, Adapter.between(before, model, fingerprint)


@contextmanager
def rows_kept(
    model: PreTrainedModel, heads: Sequence[Head], settings: Settings
) -> Iterator[dict[RowSlice, Tensor]]:
    """Yields the rows that tuning heads may move, and after an error writes them back."""
    geometry = HeadGeometry.of(model)
    slices = [head_slices(geometry, *head[:2], settings.k_scope) for head in heads]
    before = {where: read_weight_rows(model, where) for part in slices for where in part}
    try:
        yield before
    except BaseException:
        for where, rows in before.items():
            write_rows(model, where, rows)
        raise


def _keep_partial(adapter: Adapter, model: PreTrainedModel, run: Run) -> None:
    """Writes the adapter of the heads so far, after an interruption."""
    assert run.folder is not None
    what = "No head was kept so far."
    if adapter.after:
        adapter.save(run.folder / "adapter", model.name_or_path)
        what = f"The adapter of the heads so far is in {run.folder / 'adapter'}."
    run.reporter.say(f"{what} Go on with --resume.")
