"""How long a run of ``align`` will take, and the counts that fit a budget of time.

The model is tried on a few prompts of the run itself. From its speed and the counts of the settings
follows the time of every stage; where that exceeds the budget, the counts are lowered together.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasalign.commands.speed import Speed, measure_speed
from nasalign.config import Settings
from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError, PromptError
from nasalign.evaluation.examples import example_sets
from nasalign.evaluation.held_back import held_back_pairs
from nasalign.evaluation.run_data import Further
from nasalign.evaluation.side_effects import neutral_texts
from nasalign.head_rows.rates import PART
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import ALIGNMENT, head_counts
from nasalign.nasa.direction import FIRST
from nasalign.nasa.parts import VALIDATION_ONE_OF
from nasalign.progress import in_words
from nasalign.run import Run
from nasalign.session import Session

MINUTES_ON_A_CPU = 15.0
"""The budget ``auto`` on a CPU; an accelerator has none."""
LEAST = {
    "evaluation_questions": 50,
    "probing_questions": 100,
    "tuning_samples": 32,
    "validation_samples": 16,
    "side_effect_questions": 10,
    "n": 5,
    "epochs": 3,
    "known_pairs": 40,
    "joint_epochs": 2,
}
"""Counts that a budget may lower, and what each has at least; a smaller one is left as it is.

The halting point was reached after four and five heads (docs/log.md); V of fewer samples is noise.
"""
_UNUSED = {"nasa": ("known_pairs", "joint_epochs"), "nasa+": ("tuning_samples", "n", "epochs")}
"""Counts that a method does not use."""
_TRIED = 24  # questions of a data set whose prompts are looked at
_ANSWERED = 32  # questions asked freely in a trial at most
_KNOWN = 0.5  # share of probing questions that a model knows, at most, for most models
_ABOVE = 0.6  # share of the layers that replay runs, where heads lie in the middle
_BACKWARD = 3.0  # time of a training step, in forward passes
_LIKELY = 0.4  # share of all epochs of all heads that is run until tuning halts
_WEIGHED = 0.4  # share of the balance set that is scored in a measurement
_WRITING = 30.0  # seconds of bootstrap intervals, attention and the report


@dataclass(frozen=True)
class Workload:
    """What a run is about: examples by data set, and tokens.

    Attributes:
        sizes: by data set, how many records it has, how many prompts each gives, and the tokens of
            a prompt.
        main: name of the data set that is tuned on.
        probed: how many records may be probed.
        asked: whether they are asked freely; labelled rows are taken as they are.
        heads: heads of the model.
        texts: tokens of the neutral texts.
    """

    sizes: dict[str, tuple[int, float, float]]
    main: str
    probed: int
    asked: bool
    heads: int
    texts: int

    def seconds(self, settings: Settings, speed: Speed) -> dict[str, float]:
        """Return the estimated seconds of each stage with some counts."""
        length = self.sizes[self.main][2] * speed.token  # of a prompt
        evaluated = sum(
            min(count, settings.size_of(name)) * each * tokens * speed.token
            for name, (count, each, tokens) in self.sizes.items()
        )
        probed = min(settings.probing_questions, self.probed)
        known = probed * (_KNOWN if self.asked else 1)
        weighed = 2 * min(FIRST, known) if settings.direction == "auto" else 0
        return {
            "evaluation before": evaluated,
            "held-back questions": 2 * 2 * held_back_pairs(settings) * length,  # of both models
            "free answers": probed * speed.answer if self.asked else 0.0,
            "probing": (known + weighed) * length,
            "tuning": self._tuning(settings, probed, known) * length,
            "evaluation after": evaluated,
            "side effects": 2 * settings.side_effect_questions * speed.answer
            + 4 * self.texts * speed.token,
            "report": _WRITING,
        }

    def _tuning(self, settings: Settings, probed: float, known: float) -> float:
        """The work of tuning, in prompts scored by the whole model."""
        if settings.method == "nasa+":  # kinds are 2.7 times the known pairs, of two prompts each
            pairs = min(settings.known_pairs, known) * 2.7
            trained = settings.joint_epochs * _BACKWARD
            if settings.joint_learning_rate == "auto":
                trained += trained / PART
            return 2 * pairs * (trained + 1.5 * settings.joint_epochs + _BACKWARD)
        heads = head_counts(ALIGNMENT, settings.k, settings.n, self.heads).n
        epoch = _BACKWARD * min(settings.tuning_samples, known)
        epoch += min(settings.validation_samples, known / VALIDATION_ONE_OF)
        if settings.halting == "balance":
            epoch += _WEIGHED * 2 * min(settings.balance_pairs, probed / VALIDATION_ONE_OF)
        return _LIKELY * heads * settings.epochs * epoch * _ABOVE + 2 * epoch  # two find the rate


def fit_to_budget(
    session: Session,
    splits: Splits,
    further: Further,
    shots: Sequence[BinaryExample],
    fixed: Mapping[str, Any],
) -> tuple[Session, Callable[[Any], bool]]:
    """Say how long a run will take, and lower its counts to the budget.

    The counts become settings of the session and of ``run.json``; a resumed run takes those with
    which it began.

    Args:
        session: with the untouched model.
        splits: the data.
        further: further data sets to evaluate on.
        shots: few-shot examples.
        fixed: settings that the user gave by name, which are not lowered.

    Returns:
        The session with its counts, and what ``align`` calls after each record of tuning: False
        where the time for tuning is used up.
    """
    run, given = session.run, session.settings
    if run.resuming and "budget" in run.facts:
        counts = {name: run.facts["settings"][name] for name in run.facts["budget"]["given"]}
        return session.with_settings(**counts), lambda record: True
    begun = time.perf_counter() - run.facts["timings"].get("loading", 0.0)
    try:
        with processes.alone():  # how many batches are timed depends on how long they take
            work, speed = _measured(session, splits, further, shots)
    except (DataError, PromptError):  # the stage that needs it says what is wrong
        return session, lambda record: True
    work, speed, spent = processes.agreed((work, speed, time.perf_counter() - begun))
    whole = sum(work.seconds(given, speed).values())
    budget = _minutes(session)
    planned = given
    if budget is not None and whole > budget * 60 - spent:
        planned = _lowered(given, work, speed, budget * 60 - spent, fixed)
    parts = work.seconds(planned, speed)
    before, after = ({name: getattr(one, name) for name in LEAST} for one in (given, planned))
    changed = {name: count for name, count in before.items() if count != after[name]}
    run.facts["budget"] = {
        "minutes": budget,
        "given": changed,
        "estimated_seconds": {name: round(value, 1) for name, value in parts.items()},
        "unlimited_seconds": round(whole, 1),
    }
    run.facts["settings"] = planned.as_dict()
    run.save()
    run.say(_sentence(budget, whole, sum(parts.values()) + spent, changed, planned))
    session = session.with_settings(**{name: after[name] for name in changed})
    if budget is None:
        return session, lambda record: True
    end = begun + budget * 60
    return session, lambda record: _in_time(run, end, parts)


def _in_time(run: Run, end: float, parts: Mapping[str, float]) -> bool:
    """Whether tuning may go on, with what follows it done by ``end``; say so once where not."""
    asked = parts["held-back questions"] / 2  # of each of the two models
    before, timings = parts["evaluation before"] + asked, run.facts["timings"]
    took = sum(timings[name] for name in timings if name.startswith(("before/", "held back/")))
    after = asked + parts["evaluation after"] + parts["side effects"]
    # Where the machine is slower than it was when it was measured, so will be what follows.
    left = after * max(1.0, took / before) + parts["report"]
    if processes.agreed(time.perf_counter() <= end - left):
        return True
    if run.facts["budget"].get("used_up"):
        return False
    run.facts["budget"]["used_up"] = True
    run.say("The time for tuning is used up, so it ends here (--budget gives it more).")
    return False


def parse_budget(text: str) -> float | str:
    """Return the minutes of ``20m``, ``90s``, ``1.5h`` or ``20``, or ``none``.

    Raises:
        NasAlignError: it is none of these.
    """
    seconds = {"s": 1 / 60, "m": 1.0, "h": 60.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in seconds else (text, "m")
    try:
        minutes = float(number) * seconds[unit]
    except ValueError:
        minutes = 0.0
    if text == "none":
        return text
    if not 0 < minutes < 1e6:
        raise NasAlignError(
            f"--budget is {text!r}, but takes a time such as 20m, 1h or 90s, or none."
        )
    return minutes


def _minutes(session: Session) -> float | None:
    """The budget of the settings; ``auto`` is a quarter of an hour on a CPU."""
    budget = session.settings.budget_minutes
    if budget == "auto":
        return MINUTES_ON_A_CPU if session.model.device.type == "cpu" else None
    return budget


def _measured(
    session: Session, splits: Splits, further: Further, shots: Sequence[BinaryExample]
) -> tuple[Workload, Speed]:
    """Look at some prompts of the run, and time the model on them."""
    quiet = session.with_run(Run()).with_settings(evaluation_questions=_TRIED, evaluation_sizes={})
    _, sets = example_sets(quiet, splits, further, shots)
    builder = session.builder(shots)
    prompts = {name: [builder.binary(one) for one in some] for name, some in sets.items()}
    counts = {splits.name: len(splits.test)}
    counts |= {name: len(about[0]) for name, about in further.items()}
    sizes = {
        name: (
            counts[name],
            len(some) / min(_TRIED, counts[name]),
            sum(len(one.token_ids) for one in some) / len(some),
        )
        for name, some in prompts.items()
    }
    own = [one for one in splits.probing if isinstance(one, Question)]
    texts = sum(len(session.tokenizer(text)["input_ids"]) for text in neutral_texts())
    heads = len(HeadGeometry.of(session.model).places)
    work = Workload(sizes, splits.name, len(splits.probing), bool(own), heads, texts)
    asked = (own or load_facts("probing"))[:_ANSWERED]
    return work, measure_speed(session, prompts[splits.name], asked)


def _lowered(
    given: Settings, work: Workload, speed: Speed, seconds: float, fixed: Mapping[str, Any]
) -> Settings:
    """The largest counts, lowered by one factor, whose run fits; the least where none does."""

    def at(factor: float) -> Settings:
        heads = head_counts(ALIGNMENT, given.k, given.n, work.heads).n
        unused = (*_UNUSED[given.method], *fixed)
        now = {name: getattr(given, name) or heads for name in LEAST if name not in unused}
        lower = {
            name: max(min(value, LEAST[name]), round(factor * value)) for name, value in now.items()
        }
        return given.replace({name: new for name, new in lower.items() if new < now[name]})

    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        fits = sum(work.seconds(at(middle), speed).values()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return at(low)


def _sentence(
    budget: float | None,
    whole: float,
    planned: float,
    changed: Mapping[str, int | None],
    settings: Settings,
) -> str:
    """What a run will take, and which counts were lowered for it."""
    if not changed:
        slow = "" if budget or whole < 3600 else "; --budget 30m lowers its counts"
        return f"At the speed of this machine, the run takes about {in_words(planned)}{slow}."
    counts = ", ".join(
        f"{name}={getattr(settings, name)}" + (f" ({old})" if old is not None else "")
        for name, old in changed.items()
    )
    late = ""
    if budget is not None and planned > budget * 60 * 1.05:
        late = " Smaller counts would tell nothing, so the budget is exceeded."
    return (
        f"At the speed of this machine, the run would take about {in_words(whole)}; for a budget "
        f"of {in_words((budget or 0) * 60)} its counts are lowered: {counts}. It takes about "
        f"{in_words(planned)}.{late}"
    )
