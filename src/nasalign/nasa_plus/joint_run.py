"""Running nasa+: pairs of both labels and several kinds, heads by attribution, joint tuning.

Where the paper tunes one head after the other towards Yes, on answers the model knows and denies,
nasa+ tunes the rows of all chosen heads together, on right and wrong answers alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nasalign.data.binary import sample
from nasalign.data.records import Question, load_facts
from nasalign.errors import DataError, OutOfMemoryError
from nasalign.head_rows.low_rank import Factors
from nasalign.io.files import append_jsonl
from nasalign.models import processes
from nasalign.models.loading import context_length
from nasalign.nas.heads import Head, places, single_head_nas
from nasalign.nasa.knowledge import Parametric, ask_and_judge
from nasalign.nasa.probing import ProbingSet
from nasalign.nasa_plus.anchors import anchors
from nasalign.nasa_plus.attribution import attribution, most_attributed
from nasalign.nasa_plus.divergence import answered
from nasalign.nasa_plus.head_effects import head_effects, sizes_kept
from nasalign.nasa_plus.joint_pairs import JointRecord, JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner, pairs_a_step, steps_of
from nasalign.nasa_plus.kinds import Pair, held_back, pairs_of, row_pairs
from nasalign.session import Session

FREE_ANSWERS = 64
"""Right free answers at most in the divergence term; each takes megabytes."""
ONE_FOR = {
    "known": 1,
    "unknown": 3,
    "direct": 2,
    "context": 2,
    "negated": 4,
    "compared": 4,
    "unknowable": 8,
    "long": 8,
    "numbers": 3,
}
"""Number of known pairs for each pair of a kind."""
USUAL = ("known", "unknown", "direct", "context", "numbers")
"""Kinds that are taken unless all are asked for (docs/study.md)."""
OWN_KINDS = ("known", "rows")
"""Kinds whose right answers are known to the model, or given by the user."""


def pairs_by_kind(
    session: Session, asked: Sequence[Parametric], probing: ProbingSet
) -> dict[str, list[Pair]]:
    """Return the pairs that nasa+ may use, by kind: ``known_pairs`` at most, of others a share.

    ``known`` and ``unknown`` are questions of the probing data, by whether the model answers them
    under Prompt II; ``rows`` are labelled rows. The others need no data (``anchors``), and
    are of Prompt I, so that a template of the user's own leaves them out.

    Args:
        session: sizes, kinds and seed.
        asked: what was probed.
        probing: what the model knows of it.
    """
    settings, seed = session.settings, session.settings.seed
    sizes = {
        kind: -(-settings.known_pairs // part)
        for kind, part in ONE_FOR.items()
        if settings.kinds == "all" or kind in USUAL
    }
    rows = [one.example for one in asked if one.example]
    if rows:
        drawn = sample(row_pairs(rows, seed), settings.known_pairs, seed)
        own = {"rows": drawn}
    else:
        own = _pairs_of_questions([one.question for one in asked], probing, sizes, seed)
    if settings.kinds == "known":
        return {kind: pairs for kind, pairs in own.items() if kind in OWN_KINDS}
    return own if settings.template else own | _that_fit(session, anchors(sizes, seed))


def _that_fit(session: Session, kinds: Mapping[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Those pairs whose prompts, with an answer, the model can read; say how many it cannot."""
    builder, limit = session.builder(), context_length(session.model) or math.inf
    found = {}
    for kind, pairs in kinds.items():
        found[kind] = [
            pair
            for pair in pairs
            if all(len(builder.binary(one).token_ids) < limit for one in (pair.right, pair.wrong))
        ]
        if lacking := len(pairs) - len(found[kind]):
            session.run.say(
                f"{lacking} of {len(pairs)} pairs of the kind {kind} exceed the model's context of "
                f"{limit} tokens and are left out."
            )
    return {kind: pairs for kind, pairs in found.items() if pairs}


def _pairs_of_questions(
    questions: Sequence[Question], probing: ProbingSet, sizes: Mapping[str, int], seed: int
) -> dict[str, list[Pair]]:
    known = {one.question.question for one in probing.samples}
    parts = {
        "known": [one for one in questions if one.question in known],
        "unknown": [one for one in questions if one.question not in known],
    }
    return {
        kind: pairs_of(sample(part, sizes[kind], seed), questions, seed)
        for kind, part in parts.items()
        if part
    }


def rendered(
    session: Session, kinds: Mapping[str, Sequence[Pair]], probing: ProbingSet
) -> JointSamples:
    """Return the pairs to learn from and the held-back ones, of other subjects, as prompts.

    With them come the free answers by which the model knew what was probed, or, of labelled rows,
    what it knows of the embedded facts.

    Raises:
        DataError: one of the two would be empty.
    """
    builder, settings = session.builder(), session.settings
    parts: tuple[list[PromptPair], list[PromptPair]] = ([], [])
    for kind, pairs in kinds.items():
        for pair in pairs:
            one = PromptPair(builder.binary(pair.right), builder.binary(pair.wrong), kind)
            parts[held_back(pair.subject, settings.seed)].append(one)
    if not all(parts):
        raise DataError("There are too few questions to learn from some and hold others back.")
    return JointSamples(*parts, answered(builder, right_free_answers(session, probing)))


def right_free_answers(session: Session, probing: ProbingSet) -> list[Parametric]:
    """Return free answers of the untouched model that are right, at most ``FREE_ANSWERS``."""
    settings, known = session.settings, probing.samples
    if not settings.kl_weight:
        return []
    if any(one.example for one in known):
        facts = sample(load_facts("probing"), 4 * FREE_ANSWERS, settings.seed)
        known = [one for one in ask_and_judge(session, facts) if one.known]
        if not known:
            session.run.say("The model answers no embedded fact, so free answers are not held.")
    return sample(known, FREE_ANSWERS, settings.seed)


def choose_by_attribution(
    session: Session, pairs: Sequence[PromptPair], probing: ProbingSet
) -> list[Head]:
    """Choose the N heads of highest attribution on the known pairs; write ``heads.json``.

    Args:
        session: with the untouched model; N is a tenth of all heads unless set.
        pairs: those to learn from.
        probing: the heads' NAS is the mean over its samples.
    """
    settings, run = session.settings, session.run
    known = [(one.right, one.wrong) for one in pairs if one.kind in OWN_KINDS]
    with run.stage("attribution", "What each head does to the answer", 2 * len(known)) as done:
        norms = attribution(session.model, known, settings.batch_size, done)
    measured = probing.nas.numel()
    nas = single_head_nas(probing.nas) if measured else torch.zeros_like(norms)
    heads = [
        Head(*place, float(nas[place])) for place in most_attributed(norms, settings.joint_heads)
    ]
    run.say(
        f"{len(heads)} heads of {len(places(norms))} have the highest attribution on {len(known)} "
        f"pairs; the first is layer {heads[0].layer}, head {heads[0].head}."
    )
    rows = [head._asdict() | {"attribution": float(norms[head[:2]])} for head in heads]
    run.write("heads.json", rows)
    return heads


def tune_jointly(
    session: Session,
    samples: JointSamples,
    heads: Sequence[Head],
    on_record: Callable[[JointRecord], Any] | None = None,
    *,
    explain: bool = True,
) -> tuple[list[JointRecord], Factors]:
    """Tune all heads together, which changes the model; write ``joint.jsonl`` as it goes.

    With several processes, each of them does all of the work: a batch is small, and its mean log
    odds are of the whole batch.

    Args:
        session: with the untouched model.
        samples: pairs and free answers.
        heads: those that change.
        on_record: called with each record; tuning stops where it returns False.
        explain: whether to measure what each head carries, if there is a run directory.

    Returns:
        The epochs, and the change of each module.
    """
    settings, run = session.settings, session.run
    if run.folder:  # an interrupted run tunes again from the start: it takes minutes
        for name in ("joint.jsonl", "head_effects.json"):
            (run.folder / name).unlink(missing_ok=True)
    history: list[JointRecord] = []
    learnt, measured = 2 * len(samples.tuning), 2 * len(samples.validation)
    total = settings.joint_epochs * (learnt + measured) + measured
    if settings.joint_learning_rate == "auto":  # a second one is tried
        _, tried = steps_of(settings, len(samples.tuning))
        total += 2 * pairs_a_step(settings) * tried
    title = f"Tuning {len(heads)} heads together"
    with run.stage("joint", title, total) as done, processes.alone():
        tuner = JointTuner(session.model, samples, heads, settings, done)
        run.say(tuner.replay_plan())
        for record in tuner.tune():
            if record.epoch == 1 and tuner.tried:
                run.say(_found_rate(tuner))
            history.append(record)
            if run.folder:
                append_jsonl(run.folder / "joint.jsonl", record.as_row())
            run.say(_sentence(record))
            if on_record and on_record(record) is False:
                tuner.take_best()
                break
    # Sums in another order may have led the processes apart by a bit; the first one decides.
    processes.as_the_first(*tuner.change.parameters())
    tuner.write()
    if explain and run.folder and any(record.kept for record in history[1:]):  # for the report
        _explain(session, tuner, history)
    return history, tuner.change.factors


def _explain(session: Session, tuner: JointTuner, history: Sequence[JointRecord]) -> None:
    """Measure what each head carries, and write ``head_effects.json``.

    The tuned heads are not lost if memory does not suffice for that.
    """
    run, asked = session.run, 2 * len(tuner.validation)
    passes = 1 + len(sizes_kept(len(tuner.heads)))
    with (
        run.stage("head effects", "What each head carries", passes * asked) as done,
        processes.alone(),
    ):
        tuner.progress = done
        try:
            found = head_effects(tuner, history)
        except OutOfMemoryError as error:
            run.say(f"What each head carries was not measured. {error}")
            return
    most, few, whole = found.heads[0], found.kept[1], found.kept[-1]
    run.say(
        f"The head that carries most is layer {most['layer']}, head {most['head']}. With the "
        f"changes of {few['heads']} heads alone {few['accuracy']:.0%} of what was held back are "
        f"answered rightly, with those of all {whole['heads']} {whole['accuracy']:.0%}."
    )
    run.write("head_effects.json", found.as_dict())


def _found_rate(tuner: JointTuner) -> str:
    tried = ", ".join(f"{loss:.3f} at {rate:g}" for rate, loss in tuner.tried.items())
    return f"The learning rate is {tuner.rate:g}: the loss in the first steps was {tried}."


def _sentence(record: JointRecord) -> str:
    parts = ", ".join(
        f"{kind} {record.accuracy[kind]:.0%} right and {record.yes_rate[kind]:.0%} Yes"
        for kind in record.accuracy
    )
    best = " (best so far)" if record.kept and record.epoch else ""
    return f"  epoch {record.epoch}: held back loss {record.validation:.3f}{best}; {parts}"
