"""Aligning a model in memory: NASA or nasa+ as one function."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter
from nasalign.config import Settings
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import PromptError
from nasalign.evaluation.head_map import head_map, map_height
from nasalign.extras import require
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.head_tuning import OnRecord, Record, choose_heads, tune
from nasalign.nasa.knowledge import Parametric, what_it_knows
from nasalign.nasa.probing import ProbingSet, check_probing_set, probing_set
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.nasa_plus.joint_pairs import JointRecord
from nasalign.nasa_plus.joint_run import (
    choose_by_attribution,
    pairs_by_kind,
    rendered,
    tune_jointly,
)
from nasalign.run import Run
from nasalign.session import Session


@dataclass(frozen=True, repr=False)
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
    history: list[Record] | list[JointRecord]
    adapter: Adapter

    @property
    def kept(self) -> list[tuple[int, int]]:
        """Layer and head of those whose rows stay changed; with nasa+ all or none are."""
        if self.history and isinstance(self.history[0], JointRecord):
            return [head[:2] for head in self.heads] if self.adapter.after else []
        records = [one for one in self.history if isinstance(one, HeadRecord)]
        return [(one.layer, one.head) for one in records if one.kept]

    def __repr__(self) -> str:
        """Return how many heads were selected and kept, and of how many samples, in a line."""
        return (
            f"AlignResult({len(self.kept)} of {len(self.heads)} selected heads kept, "
            f"{self.adapter.parameters:,} changed weights, probing set of "
            f"{len(self.probing.samples):,})"
        )

    def summary(self) -> str:
        """Return what was found and done as a few sentences, one a line."""
        probing, kept = self.probing, self.kept
        does, did = "denies", "Yes"
        if probing.direction == "positive":
            does, did = "affirms", "No"
        said = [
            f"Of {len(probing.samples):,} answers that it was probed with, the untouched model "
            f"wrongly {does} {probing.mistakes:,}; it was tuned to say {did}.",
            f"{len(self.heads)} heads were selected, and the changes of {len(kept)} kept"
            + (f": {', '.join(f'layer {a}, head {b}' for a, b in kept)}." if kept else "."),
            f"{self.adapter.parameters:,} weights differ from the untouched model's; "
            "adapter.revert(model) puts them back.",
            "Whether it answers better, evaluate() tells on questions that it was not tuned on.",
        ]
        return "\n".join(said)

    def plot_heads(self) -> Any:
        """Return an Altair chart of the NAS of every head before tuning, with the heads marked.

        Raises:
            NasAlignError: the extra ``plots`` is not installed.
        """
        require("plots")
        nas = single_head_nas(self.probing.nas)
        layers, heads = nas.shape
        chart = head_map(nas, self._fates())
        return chart.properties(width=14 * layers, height=map_height(heads))

    def _fates(self) -> dict[tuple[int, int], str]:
        """What became of each selected head, by layer and head."""
        kept, joint = set(self.kept), any(isinstance(one, JointRecord) for one in self.history)
        tuned = {(one.layer, one.head) for one in self.history if isinstance(one, HeadRecord)}
        found = {}
        for layer, head, _ in self.heads:
            done = joint or (layer, head) in tuned
            fate = "kept" if (layer, head) in kept else "cancelled" if done else "not reached"
            found[layer, head] = fate
        return found

    def _repr_html_(self) -> str:
        """Return the summary and a table of the selected heads, for notebooks."""
        kept = set(self.kept)
        rows = "".join(
            f"<tr><td>{head.layer}</td><td>{head.head}</td><td>{head.nas:.3f}</td>"
            f"<td>{'kept' if head[:2] in kept else ''}</td></tr>"
            for head in self.heads
        )
        lines = "<br>".join(map(escape, self.summary().splitlines()))
        titles = "".join(f"<th>{title}</th>" for title in ("layer", "head", "NAS", "rows"))
        return f"<p>{lines}</p><table><tr>{titles}</tr>{rows}</table>"


def align(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question | BinaryExample],
    settings: Settings | None = None,
    *,
    run: Run | None = None,
    on_record: OnRecord | None = None,
) -> AlignResult:
    """Correct a model in memory by NASA or nasa+; changes it.

    Args:
        model: a causal language model; the query and key rows of some heads change, with nasa+
            their output projections too, and its parameters no longer require gradients.
        tokenizer: its tokenizer.
        questions: short-answer questions, of which those the model answers correctly are the
            probing set; or labelled yes/no examples, which are tuned on as they are.
        settings: the preset ``fast`` unless given (``load_preset``).
        run: where to write and show progress; nothing is written or shown unless given.
        on_record: called after each epoch and head with an ``EpochRecord``, ``HeadRecord`` or, with
            nasa+, ``JointRecord``. If it returns False, tuning ends with the head at hand: it
            trains no further epoch, and is kept or cancelled as it is.

    Returns:
        The heads, the history of the tuning, and the adapter, which can revert the change.

    Raises:
        NothingToFixError: the model denies nothing that it knows, or affirms no wrong answer.
        NasAlignError: the data, the model or a setting does not fit; the model is unchanged.
    """
    session = Session.start(model, tokenizer, settings, run)
    session.run.facts["command"] = "align"  # the folder can be reported on and exported
    if session.run.folder:
        session.run.folder.mkdir(parents=True, exist_ok=True)
    return correct(session, questions, on_record)


def correct(
    session: Session,
    records: Sequence[Question | BinaryExample],
    on_record: OnRecord | None = None,
) -> AlignResult:
    """Correct the model of a session as ``align`` does; changes it."""
    settings, run = session.settings, session.run
    check_names_words(session)
    parametric = what_it_knows(session, records)
    probing = probing_set(session, parametric)
    if settings.method == "nasa+":
        return correct_jointly(session, parametric, probing, on_record)
    heads = choose_heads(session, probing)
    run.save()
    check_probing_set(probing)
    history, adapter = tune_rows(session, probing, heads, on_record, keep_partial=True)
    return AlignResult(probing, heads, history, adapter)


def check_names_words(session: Session) -> None:
    """Refuse a template without both answer words where heads are chosen or tuned by NAS.

    Raises:
        PromptError: the user's template does not name both.
    """
    settings, builder = session.settings, session.builder()
    if settings.method == "nasa+" and settings.selection == "attribution":
        return
    if not builder.names_words:
        words = builder.words
        raise PromptError(
            f"The template does not name both {words.positive} and {words.negative}, between which "
            "NAS compares the attention; name them, or take --method nasa+ with "
            "selection=attribution."
        )


def correct_jointly(
    session: Session,
    asked: Sequence[Parametric],
    probing: ProbingSet,
    on_record: OnRecord | None = None,
    *,
    explain: bool = True,
) -> AlignResult:
    """Correct a model by nasa+, which changes it; after an error it is as it was.

    Args:
        session: with the untouched model.
        asked: what was probed.
        probing: what the model knows of it.
        on_record: as for ``align``.
        explain: whether to measure what each head carries, if there is a run directory.

    Raises:
        DataError: there are too few questions.
    """
    samples = rendered(session, pairs_by_kind(session, asked, probing), probing)
    if session.settings.selection == "attribution":
        heads = choose_by_attribution(session, samples.tuning, probing)
    else:
        heads = choose_heads(session, probing)
    session.run.save()
    slices, _ = joint_slices(session.model, heads, session.settings)
    with _rows_restored(session, slices) as before:
        history, factors = tune_jointly(session, samples, heads, on_record, explain=explain)
    adapter = Adapter.between(before, session.model, session.fingerprint, factors)
    return AlignResult(probing, heads, history, adapter)


def tune_rows(
    session: Session,
    probing: ProbingSet,
    heads: Sequence[Head],
    on_record: OnRecord | None = None,
    *,
    keep_partial: bool = False,
) -> tuple[list[Record], Adapter]:
    """Run Algorithm 1, which changes the model; after an error the model is as it was.

    Args:
        session: with the untouched model.
        probing: the probing set.
        heads: P, in the order of tuning.
        on_record: as for ``align``.
        keep_partial: whether to write the adapter of the heads so far after an interruption.

    Returns:
        The history and the adapter.
    """
    geometry = HeadGeometry.of(session.model)
    slices = [head_slices(geometry, *head[:2], session.settings.k_scope) for head in heads]
    with _rows_restored(session, [where for part in slices for where in part]) as before:
        try:
            history = tune(session, probing, heads, on_record)
        except KeyboardInterrupt:
            if keep_partial:
                partial = Adapter.between(before, session.model, session.fingerprint)
                _keep_partial(session, partial)
            raise
    return history, Adapter.between(before, session.model, session.fingerprint)


@contextmanager
def _rows_restored(
    session: Session, slices: Sequence[RowSlice]
) -> Iterator[dict[RowSlice, Tensor]]:
    """Yield copies of the rows that tuning may move; write them back after an error."""
    model = session.model
    before = {where: read_weight_rows(model, where) for where in slices}
    try:
        yield before
    except BaseException:  # KeyboardInterrupt too: nobody expects a half-tuned model
        for where, rows in before.items():
            write_rows(model, where, rows)
        raise


def _keep_partial(session: Session, adapter: Adapter) -> None:
    """Write the adapter of the heads so far, after an interruption."""
    folder = session.run.folder
    if folder is None:
        return
    what = "No head was kept so far."
    if adapter.after:
        adapter.save(folder / "adapter", session.model.name_or_path)
        what = f"The adapter of the heads so far is in {folder / 'adapter'}."
    session.run.say(f"{what} Resume the run with --resume.")
