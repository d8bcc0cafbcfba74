"""The probing set: what the model knows, and what it nevertheless denies (Section 4.1, App. E).

Where a lean to Yes is corrected, all is mirrored: the answers asked about are wrong ones, those it
denies play the part of TP, and those it nevertheless affirms are split into D and V.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasalign.data.records import BinaryExample, Record
from nasalign.errors import DataError, NothingToFixError
from nasalign.inference.scoring import Scores, score_prompts, with_generated
from nasalign.inference.verdicts import Verdict
from nasalign.io.files import check_rows, read_jsonl, read_tensors, write_jsonl, write_tensors
from nasalign.nas.heads import model_nas
from nasalign.nasa.direction import (
    Lean,
    choose_direction,
    right_examples,
    wrong_examples,
)
from nasalign.nasa.knowledge import Parametric, known_of, what_it_knows
from nasalign.nasa.parts import Part, balance_prompts, split
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.prompts.wordings import Vocabulary
from nasalign.session import Session

NAS_FILE = "nas.safetensors"


@dataclass(frozen=True)
class ProbingSet:
    """N parametric samples under Prompt I with the true answer; every label is positive.

    Attributes:
        samples: the known questions with the model's free answers.
        prompts: their Prompt I; mirrored where a lean to Yes is corrected.
        verdicts: the model's answers to the prompts.
        p_positive: probability of the positive word, [N].
        p_negative: probability of the negative word, [N].
        nas: NAS of the prompts, [N, L, H].
        parts: ``TP``; of the false negatives ``tuning`` (D), ``validation`` (V) or ``unused``;
            ``invalid`` for an invalid verdict.
        wrong: where a lean to Yes is corrected, the wrong answers that are asked about, so that
            every label is negative; else None.
        balance: where tuning halts by balance, right and wrong answers in turn, to questions of
            the subjects of V, whether the model knows them or not.
    """

    samples: list[Parametric]
    prompts: list[BinaryPrompt]
    verdicts: list[Verdict]
    p_positive: Tensor
    p_negative: Tensor
    nas: Tensor
    parts: list[Part]
    wrong: list[str] | None = None
    balance: list[BinaryPrompt] = field(default_factory=list)

    @property
    def direction(self) -> Lean:
        """Which lean is corrected: ``negative``, too many No, or ``positive``, too many Yes."""
        return "negative" if self.wrong is None else "positive"

    @property
    def mistakes(self) -> int:
        """Number of false negatives, or of false positives where a lean to Yes is corrected."""
        return self.verdicts.count(self.direction)

    def of(self, part: Part) -> list[BinaryPrompt]:
        """Return the prompts of a part."""
        return [
            prompt for prompt, mine in zip(self.prompts, self.parts, strict=True) if mine == part
        ]

    @property
    def tau(self) -> float:
        """Smallest model NAS among TP (Eq. 5); minus infinity if TP is empty."""
        values = model_nas(self.nas).tolist()
        return min(
            (nas for nas, part in zip(values, self.parts, strict=True) if part == "TP"),
            default=-math.inf,
        )

    def count(self, part: Part) -> int:
        """Return the size of a part."""
        return self.parts.count(part)

    def rows(self) -> list[dict[str, Any]]:
        """Return a plain row for each sample, for ``probing.jsonl``."""
        nas = model_nas(self.nas)
        return [
            {
                "question": sample.question.question,
                "answer": sample.question.answer,
                "subject": sample.question.subject,
                "prediction": sample.prediction,
                "verdict": self.verdicts[index],
                "p_yes": float(self.p_positive[index]),
                "p_no": float(self.p_negative[index]),
                "nas": float(nas[index]),
                "split": self.parts[index],
            }
            | ({} if self.wrong is None else {"answer_asked": self.wrong[index]})
            for index, sample in enumerate(self.samples)
        ]


def probe(session: Session, questions: Sequence[Record]) -> ProbingSet:
    """Ask what the model knows and build the probing set (``what_it_knows``, ``probing_set``)."""
    return probing_set(session, what_it_knows(session, questions))


def probing_set(session: Session, samples: Sequence[Parametric]) -> ProbingSet:
    """Build the probing set from what the model knows.

    Writes ``probing.jsonl`` and ``nas.safetensors``.
    """
    run = session.run

    def make() -> ProbingSet:
        known = known_of(samples)
        with session.untouched():
            direction = choose_direction(session, samples)
        if direction == "positive":
            run.drop(wrong_examples(known, samples, session.settings)[2], "probing")
        asking = run.stage("probing", "Asking Is the answer ...?", len(known))
        with session.untouched(), asking as done:
            return build_probing_set(session, samples, done, direction)

    def load(path: Path) -> ProbingSet:
        nas = read_tensors(path.with_name(NAS_FILE))["nas"]
        found = probing_set_from_rows(session, samples, read_jsonl(path), nas)
        run.facts.setdefault("direction", {"chosen": found.direction})
        return found

    def dump(path: Path, found: ProbingSet) -> None:
        write_tensors(path.with_name(NAS_FILE), {"nas": found.nas})
        write_jsonl(path, found.rows())

    probing = run.cached("probing.jsonl", make, dump, load, also=(NAS_FILE,))
    counts = {part: probing.count(part) for part in ("TP", "tuning", "validation", "unused")}
    known, invalid = len(known_of(samples)), probing.count("invalid")
    counts |= {"asked": len(samples), "known": known, "invalid": invalid}
    counts["balance"] = len(probing.balance)
    run.facts["probing"] = counts | {"smallest_model_nas_of_TP": probing.tau}
    does = ("affirms", "denies") if probing.direction == "negative" else ("denies", "affirms")
    whose = "Of these" if probing.direction == "negative" else "Of wrong answers to these"
    run.say(
        f"{whose} it {does[0]} {counts['TP']} and {does[1]} {probing.mistakes}: "
        f"{counts['tuning']} to tune on, {counts['validation']} held back to watch, "
        f"{counts['unused']} unused; {invalid} answers invalid."
    )
    return probing


def build_probing_set(
    session: Session,
    samples: Sequence[Parametric],
    progress: Progress | None = None,
    direction: Lean = "negative",
) -> ProbingSet:
    """Turn known questions into Prompt I, score them, and split them by verdict.

    Raises:
        DataError: the model knows no answer, or none with a wrong answer where one is needed.
    """
    model, settings = session.model, session.settings
    known, examples, prompts, words = _rendered(session, samples, direction)
    scores = score_prompts(model, prompts, batch_size=settings.batch_size, progress=progress)
    if direction == "positive":
        scores = _put_back(scores)
    if settings.decoder == "generate":
        scores = with_generated(
            scores, model, session.tokenizer, prompts, words, settings.batch_size
        )
    parts, held = split(samples, known, scores.verdicts, settings, direction)
    return ProbingSet(
        known,
        prompts,
        scores.verdicts,
        scores.p_positive,
        scores.p_negative,
        scores.nas,
        parts,
        _wrong(examples, direction),
        balance_prompts(session, samples, held, direction),
    )


def _put_back(scores: Scores) -> Scores:
    """Swap probabilities and verdicts of mirrored prompts back; NAS stays mirrored."""
    names: dict[Verdict, Verdict] = {"positive": "negative", "negative": "positive"}
    return replace(
        scores,
        p_positive=scores.p_negative,
        p_negative=scores.p_positive,
        verdicts=[names.get(verdict, verdict) for verdict in scores.verdicts],
    )


def _wrong(examples: Sequence[BinaryExample], direction: Lean) -> list[str] | None:
    return None if direction == "negative" else [example.answer or "" for example in examples]


def probing_set_from_rows(
    session: Session,
    samples: Sequence[Parametric],
    rows: Sequence[dict[str, Any]],
    nas: Tensor,
) -> ProbingSet:
    """Return the probing set that rows of ``probing.jsonl`` and its NAS [N, L, H] describe.

    Raises:
        NasAlignError: they are of other questions.
    """
    direction: Lean = "positive" if rows and "answer_asked" in rows[0] else "negative"
    known, examples, prompts, _ = _rendered(session, samples, direction)
    questions = [sample.question for sample in known]
    asked = [{"question": one.question, "answer": one.answer} for one in questions]
    check_rows(rows, asked, "probing.jsonl")
    verdicts: list[Verdict] = [row["verdict"] for row in rows]
    _, held = split(samples, known, verdicts, session.settings, direction)
    return ProbingSet(
        known,
        prompts,
        verdicts,
        torch.tensor([row["p_yes"] for row in rows]),
        torch.tensor([row["p_no"] for row in rows]),
        nas,
        [row["split"] for row in rows],
        _wrong(examples, direction),
        balance_prompts(session, samples, held, direction),
    )


def _rendered(
    session: Session, samples: Sequence[Parametric], direction: Lean
) -> tuple[list[Parametric], list[BinaryExample], list[BinaryPrompt], Vocabulary]:
    """What is known, the answers asked about, their Prompt I, and the answer words."""
    known, builder = known_of(samples), session.builder()
    if direction == "negative":
        known, examples = right_examples(known)
        if not known:
            raise DataError("No labelled row has the answer Yes, so a lean to No has no example.")
        return known, examples, [builder.binary(example) for example in examples], builder.words
    known, examples, _ = wrong_examples(known, samples, session.settings)
    if not known:
        raise DataError(
            "No known question has a wrong answer, so a lean to Yes cannot be corrected: give the "
            "column wrong_answer, or take direction=negative."
        )
    prompts = [builder.binary(example).mirrored() for example in examples]
    return known, examples, prompts, builder.words


def check_probing_set(probing: ProbingSet) -> None:
    """Refuse a probing set that cannot be tuned on.

    Raises:
        NothingToFixError: no known answer is denied, or no wrong one affirmed.
        DataError: the mistakes are too few to be split into D and V.
    """
    if probing.mistakes == 0:
        n = len(probing.samples)
        does_not = f"denies none of the {n} answers it knows"
        if probing.direction == "positive":
            does_not = f"affirms none of {n} wrong answers to what it knows"
        raise NothingToFixError(f"Nothing to fix: the model {does_not}.")
    if not probing.count("tuning") or not probing.count("validation"):
        raise DataError(
            f"The probing set has {probing.mistakes} false {probing.direction}(s) about one "
            "subject, too few to split into a fine-tuning and a validation set; give more "
            "questions with --data."
        )
