"""A run says how long it takes, and its counts are lowered to a budget."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cases import DENIES, case, sets
from fault_tools import Stop, done, invoke
from nasalign.commands import budget, speed
from nasalign.commands.budget import LEAST, Workload, fit_to_budget, parse_budget
from nasalign.commands.speed import Speed
from nasalign.config import Settings, load_preset
from nasalign.errors import NasAlignError
from nasalign.nasa import training
from nasalign.run import Run

WORK = Workload(
    {"facts": (400, 2.0, 50.0)}, "facts", probed=2000, asked=True, heads=270, texts=1500
)
FAST = load_preset().replace({"direction": "negative"})
QUICK = ("sides=both", "k=8", "n=4", "learning_rate=1e-3", "bootstrap_samples=50")
QUICK += ("answer_tokens=6", "halting_share=1.0", "rho=-1000", "line_search=false")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("20m", 20), ("90s", 1.5), ("1.5h", 90), ("20", 20), ("0.5m", 0.5), ("none", "none")],
)
def test_a_time_is_read(text: str, minutes: float | str) -> None:
    assert parse_budget(text) == minutes


@pytest.mark.parametrize("text", ["", "m", "soon", "-5m", "0", "nan", "infh", "5 days", "1e9h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(NasAlignError, match=r"--budget .* takes a time such as 20m"):
        parse_budget(text)


@pytest.mark.parametrize(("fixed", "each"), [(0.5, 0.05), (0.0, 0.1), (2.0, 0.001)])
def test_the_time_of_a_batch_and_of_a_sample_are_told_apart(fixed: float, each: float) -> None:
    sizes: list[int] = []

    def seconds(count: int) -> float:
        sizes.append(count)
        return 9.0 if len(sizes) == 1 else fixed + each * count  # the first pass is slower

    assert speed._line(seconds, 32) == pytest.approx((fixed, each))


@dataclass(frozen=True)
class Ids:
    token_ids: list[int]


def test_prompts_of_middle_length_are_timed() -> None:
    prompts = [Ids([0] * length) for length in (9, 1, 5, 7, 3)]
    assert [len(one.token_ids) for one in speed._alike(prompts, 3)] == [3, 5, 7]
    assert len(speed._alike(prompts, 5)) == 5
    assert speed._mean_length(speed._alike(prompts, 3)) == 5


def test_a_record_that_is_one_prompt_is_counted_once() -> None:
    one = replace(WORK, sizes={"facts": (400, 1.0, 50.0)}, asked=False)
    rates = Speed(token=0.01, answer=0.5)
    found, both = one.seconds(FAST, rates), WORK.seconds(FAST, rates)
    assert 2 * found["evaluation before"] == both["evaluation before"]
    assert found["free answers"] == 0


def test_a_slow_model_is_not_tried_for_long() -> None:
    sizes: list[int] = []

    def seconds(count: int) -> float:
        sizes.append(count)
        return 10.0 * count

    assert speed._line(seconds, 32) == (0.0, 10.0)
    assert sizes == [1, 2]


@pytest.mark.parametrize(("took", "seconds"), [([3.0, 1.0], 1.0), ([2.0, 4.0], 2.0), ([9.0], 9.0)])
def test_a_disturbed_trial_is_not_believed(
    took: list[float], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, times = [0.0], iter(took)

    def work() -> None:
        clock[0] += next(times)

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    assert speed._timed(work) == seconds
    assert next(times, None) is None


def test_seconds_are_those_of_the_counts() -> None:
    """By hand: 400 questions, two sides, 50 tokens, 10 ms a token."""
    found = WORK.seconds(FAST, Speed(token=0.01, answer=0.5))
    assert found["evaluation before"] == found["evaluation after"] == 400 * 2 * 50 * 0.01
    assert found["free answers"] == 480 * 0.5
    assert found["probing"] == 240 * 50 * 0.01  # half of 480 are taken as known
    assert found["side effects"] == 2 * 100 * 0.5 + 4 * 1500 * 0.01
    one = 0.5 * (3 * 96 + 32 + 0.4 * 128)  # prompts of an epoch, each 0.5 s
    assert found["tuning"] == pytest.approx(0.4 * 8 * 4 * one * 0.6 + 2 * one)
    by_tau = WORK.seconds(FAST.replace({"halting": "tau"}), Speed(token=0.01, answer=0.5))
    assert by_tau["tuning"] < found["tuning"]
    twice = WORK.seconds(FAST, Speed(token=0.02, answer=1.0))
    assert sum(twice.values()) - 30 == pytest.approx(2 * (sum(found.values()) - 30))


@pytest.mark.parametrize(
    ("minutes", "method"), [(15, "nasa"), (20, "nasa"), (35, "nasa"), (30, "nasa+"), (40, "nasa+")]
)
def test_counts_are_lowered_together_and_fit(minutes: int, method: str) -> None:
    speed, given = Speed(token=0.01, answer=0.5), FAST.replace({"method": method})
    assert sum(WORK.seconds(given, speed).values()) > 40 * 60
    found = budget._lowered(given, WORK, speed, minutes * 60, {"epochs": 4})
    seconds = sum(WORK.seconds(found, speed).values())
    assert 0.8 * minutes * 60 <= seconds <= minutes * 60
    assert found.epochs == given.epochs  # the user's own
    changed = {name for name in LEAST if getattr(found, name) != getattr(given, name)}
    assert {"evaluation_questions", "probing_questions", "side_effect_questions"} <= changed
    assert ("known_pairs" in changed, "tuning_samples" in changed) == (
        (True, False) if method == "nasa+" else (False, True)
    )
    free = [name for name in changed if getattr(found, name) > LEAST[name]]  # and not at the least
    shares = [getattr(found, name) / (getattr(given, name) or 8) for name in free]
    assert max(shares) - min(shares) < 0.13  # an eighth is one head


def test_no_count_is_lowered_beyond_its_least_or_raised() -> None:
    given = FAST.replace({"validation_samples": 8, "n": 1})
    found = budget._lowered(given, WORK, Speed(1.0, 10.0), 60, {})
    assert found.validation_samples == 8
    assert found.n == 1
    for name in ("evaluation_questions", "probing_questions", "tuning_samples", "epochs"):
        assert getattr(found, name) == LEAST[name]


def run_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model, data = case(tmp_path_factory.mktemp("case"), DENIES, questions=80)
    return ["align", str(model), "--data", str(data), *sets(QUICK)]


def test_a_run_that_fits_keeps_its_counts(command: list[str], tmp_path: Path) -> None:
    said = invoke(*command, "--budget", "10h", "--out", tmp_path / "run").output
    assert "At the speed of this machine, the run takes about" in said
    facts = run_of(tmp_path / "run")
    assert facts["budget"]["given"] == {}
    assert facts["budget"]["minutes"] == 600
    assert facts["settings"]["tuning_samples"] == load_preset().tuning_samples


def test_a_budget_lowers_counts_and_a_resumed_run_takes_the_same(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real, heads = tmp_path / "run", training.RowTuner.begin, 0

    def begin(self: training.RowTuner, *head: Any) -> None:
        nonlocal heads
        heads += 1
        if heads == 2:
            raise Stop
        real(self, *head)

    speeds = iter([Speed(0.01, 0.5), Speed(1e-6, 1e-6)])
    monkeypatch.setattr(budget, "measure_speed", lambda *_: next(speeds))
    monkeypatch.setattr(training.RowTuner, "begin", begin)
    stopped = invoke(*command, "--budget", "4m", "--out", folder)
    assert isinstance(stopped.exception, Stop)
    begun = run_of(folder)
    assert begun["budget"]["given"]["probing_questions"] == 480
    assert begun["settings"]["probing_questions"] < 480
    monkeypatch.setattr(training.RowTuner, "begin", real)
    done(*command, "--budget", "1h", "--out", folder, "--resume")
    ended = run_of(folder)
    assert ended["settings"] == begun["settings"]
    assert ended["budget"] == begun["budget"]
    page = (folder / "report.html").read_text()
    assert "4 minutes: " in page
    assert f"probing_questions {ended['settings']['probing_questions']} of 480" in page
    assert "--budget none" in page  # in the command that makes the run again


def test_tuning_ends_where_its_time_is_used_up(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure_speed", lambda *_: Speed(1e-9, 1e-9))
    folder = tmp_path / "run"
    said = invoke(*command, "--budget", "1s", "--out", folder).output
    assert "The time for tuning is used up, so it ends here" in said
    assert run_of(folder)["budget"]["used_up"] is True
    rows = [json.loads(line) for line in (folder / "tuning.jsonl").read_text().splitlines()]
    assert len({row["head"] for row in rows}) == 1  # of four
    assert (folder / "metrics.json").exists()


@pytest.mark.parametrize(
    ("now", "took", "goes_on"),
    [(99, 10, True), (101, 10, False), (69, 20, True), (71, 20, False), (99, 0, True)],
)
def test_what_follows_tuning_is_slower_where_what_was_before_it_was(
    now: int, took: float, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: until 150 s; before tuning 8 s of evaluation and 2 of held-back questions."""
    parts = {"evaluation before": 8.0, "evaluation after": 8.0, "held-back questions": 4.0}
    parts |= {"side effects": 20.0, "report": 20.0}
    run = Run()
    run.facts["timings"] |= {"before/facts": took * 0.8, "held back/before": took * 0.2}
    run.facts["timings"]["probing"] = 77.0
    run.facts["budget"] = {}
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now)
    assert budget._in_time(run, 150.0, parts) is goes_on
    assert ("used_up" in run.facts["budget"]) is not goes_on


def test_auto_is_a_quarter_of_an_hour_on_a_cpu_and_none_is_none(llama: Any) -> None:
    from nasalign.session import Session

    session = Session.start(*llama, Settings(budget_minutes="auto"), Run())
    assert budget._minutes(session) == 15
    assert budget._minutes(session.with_settings(budget_minutes=None)) is None
    assert load_preset("paper").budget_minutes is None


def test_what_cannot_be_measured_is_left_to_the_stage_that_needs_it(llama: Any) -> None:
    from nasalign.data.splits import Splits
    from nasalign.session import Session

    session = Session.start(*llama, load_preset(), Run())
    empty = Splits.__new__(Splits)
    for name, value in {"name": "x", "test": [], "pool": [], "probing": []}.items():
        object.__setattr__(empty, name, value)
    assert fit_to_budget(session, empty, {}, (), {})[0] is session
