"""The stages of nasa+: samples of both labels and several kinds, heads by attribution, all at once.

Where the paper tunes one head after the other towards Yes, on answers the model knows and denies,
nasa+ tunes the rows of all chosen heads together, on right and wrong answers alike.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.binary import sample
from nasalign.data.records import Question, place_of
from nasalign.errors import DataError
from nasalign.io.files import append_jsonl, write_json
from nasalign.models import processes
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nasa.probing import ProbingSet
from nasalign.nasa_plus.attribution import attribution
from nasalign.nasa_plus.divergence import answered
from nasalign.nasa_plus.joint_tuning import JointRecord, JointTuner, Samples, Twins
from nasalign.nasa_plus.kinds import Pair, anchors, pairs_of
from nasalign.prompts.builder import PromptBuilder
from nasalign.run import Run

HELD_BACK = 0.15
"""Share of the subjects whose pairs choose the epoch and are never learnt from."""
FREE_ANSWERS = 64
"""Right free answers at most that it goes on giving; what is kept of them takes megabytes each."""
ONE_FOR = {"known": 1, "unknown": 3, "direct": 2, "context": 2, "numbers": 3}
"""For how many known pairs there is one of a kind."""
ONE_OF = 10
"""Of how many heads one is tuned: a tenth does most of what all of them can (docs/study.md)."""


def kinds_of(
    questions: Sequence[Question], probing: ProbingSet, settings: Settings
) -> dict[str, list[Pair]]:
    """Returns the pairs that nasa+ may use, by kind: ``known_pairs`` at most, of others a share.

    ``known`` and ``unknown`` are questions of the probing data, by whether the model answers them
    under Prompt II; the others need no data (``data.kinds.anchors``).

    Args:
        questions: those that were probed.
        probing: what the model knows of them.
        settings: of the sizes and the seed.
    """
    known = {one.question.question for one in probing.samples}
    parts = {
        "known": [one for one in questions if one.question in known],
        "unknown": [one for one in questions if one.question not in known],
    }
    seed = settings.seed
    sizes = {kind: -(-settings.known_pairs // part) for kind, part in ONE_FOR.items()}
    own = {
        kind: pairs_of(sample(part, sizes[kind], seed), questions, seed)
        for kind, part in parts.items()
        if part
    }
    if settings.kinds == "known":
        return {kind: pairs for kind, pairs in own.items() if kind == "known"}
    return own | anchors(sizes, seed)


def held_back(subject: str, seed: int) -> bool:
    """Says whether the pairs of a subject choose the epoch; the same for all kinds."""
    return place_of(f"{seed}/{subject}") < HELD_BACK


def rendered(
    kinds: Mapping[str, Sequence[Pair]],
    probing: ProbingSet,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
) -> Samples:
    """Returns the pairs to learn from and those held back, of other subjects, as prompts.

    Beside them stand the free answers by which the model knew what was probed.

    Raises:
        DataError: one of the two would be empty.
    """
    builder = PromptBuilder.of(tokenizer, settings)
    parts: tuple[list[Twins], list[Twins]] = ([], [])
    for kind, pairs in kinds.items():
        for pair in pairs:
            one = Twins(builder.binary(pair.right), builder.binary(pair.wrong), kind)
            parts[held_back(pair.subject, settings.seed)].append(one)
    if not all(parts):
        raise DataError("There are too few questions to learn from some and hold others back.")
    free = sample(probing.samples, FREE_ANSWERS if settings.kl_weight else 0, settings.seed)
    return Samples(*parts, answered(builder, free))


def choose_by_attribution(
    model: PreTrainedModel,
    samples: Sequence[Twins],
    probing: ProbingSet,
    settings: Settings,
    run: Run,
) -> list[Head]:
    """Chooses the N heads of highest attribution on the known pairs; writes ``heads.json``.

    Args:
        model: the untouched model.
        samples: pairs to learn from.
        probing: what the heads' NAS is of.
        settings: N is a tenth of all heads unless set.
        run: where to write and whom to tell.
    """
    pairs = [(one.right, one.wrong) for one in samples if one.kind == "known"]
    with run.stage("attribution", "What each head does to the answer", 2 * len(pairs)) as done:
        norms = attribution(model, pairs, settings.batch_size, done)
    count = settings.n or max(1, norms.numel() // ONE_OF)
    nas = single_head_nas(probing.nas)
    heads = [Head(*place, float(nas[place])) for place in _highest(norms, count)]
    run.reporter.say(
        f"{len(heads)} heads of {norms.numel()} have the highest attribution on {len(pairs)} known "
        f"pairs; the first is layer {heads[0].layer}, head {heads[0].head}."
    )
    if run.folder:
        rows = [head._asdict() | {"attribution": float(norms[head[:2]])} for head in heads]
        write_json(run.folder / "heads.json", rows)
    return heads


def tune_jointly(
    model: PreTrainedModel,
    samples: Samples,
    heads: Sequence[Head],
    settings: Settings,
    run: Run,
) -> list[JointRecord]:
    """Tunes all heads together, which changes the model; writes ``joint.jsonl`` as it goes.

    Of several processes each does all of it: a batch is small, and its lean is of the whole.
    """
    if run.folder:  # what an interrupted run left is begun anew: it takes minutes
        (run.folder / "joint.jsonl").unlink(missing_ok=True)
    history: list[JointRecord] = []
    learnt, measured = 2 * len(samples.tuning), 2 * len(samples.validation)
    total = settings.joint_epochs * (learnt + measured) + measured
    title = f"Tuning {len(heads)} heads together"
    with run.stage("joint", title, total) as done, processes.alone():
        tuner = JointTuner(model, samples, heads, settings, done)
        for record in tuner.tune():
            history.append(record)
            if run.folder:
                append_jsonl(run.folder / "joint.jsonl", record.as_row())
            run.reporter.say(_sentence(record))
    processes.as_the_first(*tuner.rows.parameters.values())
    tuner.rows.write()
    return history


def _highest(norms: Tensor, count: int) -> list[tuple[int, int]]:
    order = torch.argsort(norms.flatten(), descending=True, stable=True)[:count].tolist()
    return [divmod(place, norms.shape[1]) for place in order]


def _sentence(record: JointRecord) -> str:
    parts = ", ".join(
        f"{kind} {record.accuracy[kind]:.0%} right and {record.yes_rate[kind]:.0%} Yes"
        for kind in record.accuracy
    )
    best = " (best so far)" if record.kept and record.epoch else ""
    return f"  epoch {record.epoch}: held back loss {record.validation:.3f}{best}; {parts}"
