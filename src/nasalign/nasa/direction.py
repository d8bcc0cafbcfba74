"""Which way a model is wrong: whether it denies right answers, or affirms wrong ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from nasalign.config import Settings
from nasalign.data.binary import positive_example, sample, to_binary
from nasalign.data.reading import Dropped
from nasalign.data.records import BinaryExample
from nasalign.inference.scoring import score_as
from nasalign.inference.verdicts import Verdict
from nasalign.nasa.knowledge import Parametric, known_of
from nasalign.progress import Progress
from nasalign.session import Session

Lean = Literal["negative", "positive"]

WEIGHED = 200
"""Known questions at most by whose right and wrong answers the direction is chosen."""
FIRST = 32
"""So many are asked at first, and all only where these do not tell: most models lean far."""


@dataclass(frozen=True)
class Mistakes:
    """How many right answers a model denies, and how many wrong ones it affirms.

    Attributes:
        denied: false negatives.
        right: examples whose right verdict is the positive word.
        affirmed: false positives.
        wrong: examples whose right verdict is the negative word.
    """

    denied: int
    right: int
    affirmed: int
    wrong: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], labels: Sequence[bool]) -> "Mistakes":
        """Count the mistakes; a label is True where the right verdict is positive."""
        said = list(zip(verdicts, labels, strict=True))
        return cls(
            denied=said.count(("negative", True)),
            right=labels.count(True),
            affirmed=said.count(("positive", False)),
            wrong=labels.count(False),
        )

    @property
    def shares(self) -> tuple[float, float]:
        """Share of right answers denied, and of wrong ones affirmed; 0/0 counts as 0."""
        return self.denied / max(1, self.right), self.affirmed / max(1, self.wrong)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Their 95 % intervals, by Wilson; 0 to 1 without an example."""
        return wilson(self.denied, self.right), wilson(self.affirmed, self.wrong)

    @property
    def larger(self) -> Lean:
        """The lean of the larger share; negative where they are equal."""
        denied, affirmed = self.shares
        return "positive" if affirmed > denied else "negative"

    @property
    def lean(self) -> Lean | Literal["neither"]:
        """The lean, or ``neither`` where the intervals overlap."""
        denied, affirmed = self.intervals
        apart = denied[0] > affirmed[1] or affirmed[0] > denied[1]
        return self.larger if apart else "neither"

    def as_dict(self) -> dict[str, Any]:
        """Return share, interval and number of examples of both kinds as plain values."""
        kinds = zip(self.shares, self.intervals, (self.right, self.wrong), strict=True)
        names = ("false_negatives", "false_positives")
        return {
            name: {"share": share, "interval": list(interval), "n": n}
            for name, (share, interval, n) in zip(names, kinds, strict=True)
        }


def right_examples(
    known: Sequence[Parametric],
) -> tuple[list[Parametric], list[BinaryExample]]:
    """Return what is known with its examples of label Yes: all but labelled rows of label No."""
    both = [(one, one.example or positive_example(one.question)) for one in known]
    right = [(one, example) for one, example in both if example.known_label]
    return [one for one, _ in right], [example for _, example in right]


def wrong_examples(
    known: Sequence[Parametric], asked: Sequence[Parametric], settings: Settings
) -> tuple[list[Parametric], list[BinaryExample], Dropped]:
    """Return the known questions with a wrong answer, their examples, and why others have none.

    Of labelled rows, these are those whose label is No.

    Args:
        known: what the model knows.
        asked: all questions; their answers may serve as wrong ones.
        settings: the seed decides which.
    """
    rows = [(one, one.example) for one in known if one.example]
    if rows:
        denied = [(one, row) for one, row in rows if not row.known_label]
        return [one for one, _ in denied], [row for _, row in denied], Dropped()
    questions = [one.question for one in known]
    binary = to_binary(questions, settings.seed, [one.question for one in asked])
    wrong = [
        (known[origin], example)
        for origin, example in zip(binary.origins, binary.examples, strict=True)
        if not example.label
    ]
    return [one for one, _ in wrong], [example for _, example in wrong], binary.dropped


def right_and_wrong(
    chosen: Sequence[Parametric], asked: Sequence[Parametric], count: int, settings: Settings
) -> tuple[list[BinaryExample], list[BinaryExample]]:
    """Return a right and a wrong answer to some questions, or labelled rows of both labels.

    Args:
        chosen: the questions; those without a wrong answer are left out.
        asked: all questions; their answers may serve as wrong ones.
        count: how many of each side at most.
        settings: the seed decides which are drawn, and the wrong answers.
    """
    with_wrong, wrong, _ = wrong_examples(chosen, asked, settings)
    if any(one.example for one in chosen):
        right = right_examples(chosen)[1]
        return sample(right, count, settings.seed), sample(wrong, count, settings.seed)
    pairs = sample(list(zip(with_wrong, wrong, strict=True)), count, settings.seed)
    return [positive_example(one.question) for one, _ in pairs], [false for _, false in pairs]


def weigh(
    session: Session,
    samples: Sequence[Parametric],
    progress: Progress | None = None,
    count: int | None = None,
) -> Mistakes:
    """Ask for the right and a wrong answer to known questions, and count mistakes.

    Args:
        session: with the untouched model.
        samples: what was probed.
        progress: called as examples are scored.
        count: of the questions at most; ``WEIGHED`` unless given.
    """
    most = WEIGHED if count is None else count
    right, wrong = right_and_wrong(known_of(samples), samples, most, session.settings)
    examples = right + wrong
    if not examples:
        return Mistakes(0, 0, 0, 0)
    plain = replace(session.settings, scenario="plain")  # as heads are tuned
    scores = score_as(
        session.model, session.tokenizer, examples, plain, record=False, progress=progress
    )
    return Mistakes.of(scores.verdicts, [example.known_label for example in examples])


def choose_direction(session: Session, samples: Sequence[Parametric]) -> Lean:
    """Return which lean is corrected: the settings', or with ``auto`` that of more mistakes."""
    settings, run = session.settings, session.run
    if settings.direction != "auto":
        run.facts["direction"] = {"chosen": settings.direction}
        return settings.direction
    known = len(known_of(samples))
    title = "Asking for right and wrong answers"
    with run.stage("direction", title, 2 * min(FIRST, known)) as done:
        found = weigh(session, samples, done, FIRST)
    if found.lean == "neither" and known > FIRST:
        with run.stage("direction/all", title, 2 * min(WEIGHED, known)) as done:
            found = weigh(session, samples, done)
    denied, affirmed = found.shares
    way = "No" if found.larger == "negative" else "Yes"
    run.facts["direction"] = {"chosen": found.larger} | found.as_dict()
    run.say(
        f"It denies {denied:.1%} of {found.right} right answers and affirms {affirmed:.1%} of "
        f"{found.wrong} wrong ones to what it knows, so the lean to {way} is corrected."
    )
    return found.larger


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson; 0 to 1 without an example."""
    if total == 0:
        return 0.0, 1.0
    from statsmodels.stats.proportion import proportion_confint  # takes a second

    low, high = proportion_confint(count, total, method="wilson")
    return float(low), float(high)
