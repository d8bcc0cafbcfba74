"""The stages of an alignment in order; each reads and leaves plain files in the run directory."""

import math
from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.binary import sample
from nasalign.data.records import Question
from nasalign.errors import DataError
from nasalign.io.files import (
    append_jsonl,
    read_jsonl,
    read_tensors,
    write_json,
    write_jsonl,
    write_tensors,
)
from nasalign.nas.heads import ALIGNMENT, Head, scaled, select_heads
from nasalign.nasa.algorithm import (
    EpochRecord,
    HeadRecord,
    Limits,
    as_row,
    incremental_tuning,
    records_from_rows,
)
from nasalign.nasa.checkpoint import CheckpointedTuner
from nasalign.nasa.direction import WEIGHED, Lean, weigh, wrong_examples
from nasalign.nasa.knowledge import (
    Parametric,
    free_answers,
    judged,
    parametric_from_rows,
    parametric_rows,
)
from nasalign.nasa.probing import (
    ProbingSet,
    build_probing_set,
    known_of,
    probing_set_from_rows,
)
from nasalign.nasa.training import RowTuner
from nasalign.run import Run
from nasalign.run_file import as_written


def ask_what_it_knows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: Settings,
    run: Run,
) -> list[Parametric]:
    """Asks questions by Prompt II and has the answers judged as the settings say."""
    judge = run.chat(settings.judge, settings, model, tokenizer)
    with run.stage("parametric", "Asking what it knows", len(questions)) as done:
        answers = free_answers(model, tokenizer, questions, settings, done)
    with run.asking("judging", "Judging its answers", len(questions), judge) as done:
        samples = judged(questions, answers, judge, done)
    unclear = sum(sample.right is None for sample in samples)
    if unclear:
        run.reporter.say(
            f"Of {len(samples)} verdicts of {settings.judge}, {unclear} are neither yes nor no; "
            "they count as not known."
        )
    run.facts["judged"] = {"by": settings.judge, "answers": len(samples), "unclear": unclear}
    return samples


def probe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: Settings,
    run: Run,
) -> ProbingSet:
    """Asks what the model knows and builds the probing set, as the next two stages say."""
    parametric = what_it_knows(model, tokenizer, questions, settings, run)
    return probing_set(model, tokenizer, parametric, settings, run)


def what_it_knows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: Settings,
    run: Run,
) -> list[Parametric]:
    """Asks the probing questions by Prompt II, or reads what was answered before.

    Writes ``parametric.jsonl``.
    """
    asked = sample(questions, settings.probing_questions, settings.seed)
    known_already = run.left("parametric.jsonl")
    if known_already:
        with as_written(known_already.parent):
            parametric = parametric_from_rows(asked, read_jsonl(known_already))
    else:
        parametric = ask_what_it_knows(model, tokenizer, asked, settings, run)
    if run.folder and not known_already:
        write_jsonl(run.folder / "parametric.jsonl", parametric_rows(parametric))
        run.seal("parametric.jsonl")
    known = sum(item.known for item in parametric)
    run.reporter.say(f"The model answers {known} of {len(asked)} questions correctly (Prompt II).")
    return parametric


def probing_set(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parametric: Sequence[Parametric],
    settings: Settings,
    run: Run,
) -> ProbingSet:
    """Builds the probing set from what the model knows.

    Writes ``probing.jsonl`` and ``nas.safetensors``.
    """
    known = known_of(parametric)
    probed_already, nas_file = run.left("probing.jsonl"), run.left("nas.safetensors")
    if probed_already and nas_file:
        with as_written(nas_file.parent):
            rows, nas = read_jsonl(probed_already), read_tensors(nas_file)["nas"]
            probing = probing_set_from_rows(tokenizer, parametric, settings, rows, nas)
        run.facts.setdefault("direction", {"chosen": probing.direction})
    else:
        direction = choose_direction(model, tokenizer, parametric, settings, run)
        if direction == "positive":
            run.drop(wrong_examples(known, parametric, settings)[2], "probing")
        with run.stage("probing", "Asking Is the answer ...?", len(known)) as done:
            probing = build_probing_set(model, tokenizer, parametric, settings, done, direction)
    counts = {part: probing.count(part) for part in ("TP", "tuning", "validation", "unused")}
    counts |= {"asked": len(parametric), "known": len(known), "invalid": probing.count("invalid")}
    run.facts["probing"] = counts | {"smallest_model_nas_of_TP": probing.tau}
    does = ("affirms", "denies") if probing.direction == "negative" else ("denies", "affirms")
    whose = "Of these" if probing.direction == "negative" else "Of wrong answers to these"
    run.reporter.say(
        f"{whose} it {does[0]} {counts['TP']} and {does[1]} {probing.mistakes}: "
        f"{counts['tuning']} to tune on (D), {counts['validation']} to watch (V), "
        f"{counts['unused']} unused; {counts['invalid']} answers invalid."
    )
    if run.folder and not (probed_already and nas_file):
        write_tensors(run.folder / "nas.safetensors", {"nas": probing.nas})
        run.seal("nas.safetensors")
        write_jsonl(run.folder / "probing.jsonl", probing.rows())
        run.seal("probing.jsonl")
    return probing


def choose_direction(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parametric: Sequence[Parametric],
    settings: Settings,
    run: Run,
) -> Lean:
    """Returns which lean is corrected: the settings', or by ``auto`` that of more mistakes."""
    if settings.direction != "auto":
        run.facts["direction"] = {"chosen": settings.direction}
        return settings.direction
    total = 2 * min(WEIGHED, len(known_of(parametric)))
    with run.stage("direction", "Asking for right and wrong answers", total) as done:
        found = weigh(model, tokenizer, parametric, settings, done)
    denied, affirmed = found.shares
    way = "No" if found.larger == "negative" else "Yes"
    run.facts["direction"] = {"chosen": found.larger} | found.as_dict()
    run.reporter.say(
        f"It denies {denied:.1%} of {found.right} right answers and affirms {affirmed:.1%} of "
        f"{found.wrong} wrong ones to what it knows, so the lean to {way} is corrected."
    )
    return found.larger


def choose_heads(probing: ProbingSet, settings: Settings, run: Run) -> list[Head]:
    """Selects the heads to tune (Eq. 2-4, Section 4.2); writes ``heads.json``.

    Raises:
        DataError: no head is in enough of the samples' lists.
    """
    counts = scaled(ALIGNMENT, probing.nas[0].numel())
    k, n = settings.k or counts.k, settings.n or counts.n
    heads = select_heads(probing.nas, k=k, n=n, consistency=settings.consistency)
    if not heads:
        raise DataError(
            f"No head is among the {k} of highest NAS in {settings.consistency:.0%} of the "
            "samples; raise k or lower consistency."
        )
    run.reporter.say(
        f"{len(heads)} heads are among the {k} of highest NAS in {settings.consistency:.0%} of the "
        f"samples (at most {n} are taken); the first is layer {heads[0].layer}, head "
        f"{heads[0].head} with a NAS of {heads[0].nas:.2f}."
    )
    if run.folder:
        write_json(run.folder / "heads.json", [head._asdict() for head in heads])
    return heads


def tune(
    model: PreTrainedModel,
    probing: ProbingSet,
    heads: Sequence[Head],
    settings: Settings,
    run: Run,
) -> list[EpochRecord | HeadRecord]:
    """Runs Algorithm 1, which changes the model; writes ``tuning.jsonl`` as it goes."""
    right = probing.count("TP")
    tau = probing.tau if right >= settings.min_true_positives else -math.inf
    answer = "Yes" if probing.direction == "negative" else "No"
    limits = Limits(settings.epochs, settings.rho, tau, settings.halting_share, answer)
    if tau == -math.inf:
        run.reporter.say(
            f"The model says {answer} to {right} of the answers it is probed with, too few for tau "
            "(Eq. 5), which is taken as minus infinity; in its stead, tuning halts when it says so "
            f"to more than {limits.halting_share:.0%} of V."
        )
        how = "positively" if answer == "Yes" else "negatively"
        run.facts["halting"] = f"share of V answered {how} above {limits.halting_share}"
    else:
        run.facts["halting"] = f"model NAS on V below tau = {tau:.4f}"
    tuning, validation = probing.of("tuning"), probing.of("validation")
    an_epoch = len(tuning) + len(validation)
    epochs_left = len(heads) * settings.epochs
    budget = len(validation) + epochs_left * an_epoch
    with run.stage("tuning", "Tuning head by head", budget) as done:
        folder = run.folder / "checkpoint" if run.folder else None
        rows = RowTuner(model, tuning, validation, settings, heads, done)
        run.reporter.say(rows.replay_plan())
        tuner = CheckpointedTuner(rows, folder, run.reporter.say)
        history = _history(run, tuner.history)
        if history and cast(HeadRecord, history[-1]).halted:
            return history
        epochs_left -= tuner.heads_done * settings.epochs
        done(tuner.heads_done * settings.epochs * an_epoch)
        try:
            for record in incremental_tuning(heads[tuner.heads_done :], tuner, limits):
                history.append(record)
                if run.folder:
                    append_jsonl(run.folder / "tuning.jsonl", as_row(record))
                if isinstance(record, HeadRecord):
                    tuner.head_is_done(history)
                    epochs_left -= settings.epochs
                    spared = settings.epochs - record.epochs + (epochs_left if record.halted else 0)
                    done(spared * an_epoch)
                    run.reporter.say(_sentence(record, answer))
        except KeyboardInterrupt:
            tuner.abandon()
            raise
        run.facts["replay"] = rows.memory.describe()
    return history


def _history(run: Run, rows: list[dict[str, Any]]) -> list[EpochRecord | HeadRecord]:
    """The records of heads that are done already, which ``tuning.jsonl`` then has and no more."""
    if run.folder:
        write_jsonl(run.folder / "tuning.jsonl", rows)
    if rows:
        heads = sum(row["record"] == "head" for row in rows)
        run.reporter.say(f"Going on after {heads} heads.")
    return records_from_rows(rows)


def _sentence(record: HeadRecord, answer: str) -> str:
    """A head's fate in one line."""
    fate = f"cancelled: {record.cancelled}" if record.cancelled else "kept"
    halt = f"; tuning halts: {record.halted}" if record.halted else ""
    return (
        f"  layer {record.layer:>2}, head {record.head:>2}: {record.epochs} epoch(s), "
        f"{record.stopped}; head NAS {record.alpha_before:.2f} -> {record.alpha:.2f}, model NAS "
        f"{record.beta_before:.1f} -> {record.beta:.1f}, {record.yes_share:.0%} of V {answer}; "
        f"{fate}{halt}"
    )
