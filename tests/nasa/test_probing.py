"""The probing set: what the model knows, what it denies, and how that is split."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.config import Settings
from nasalign.data.binary import positive_example
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import DataError, NothingToFixError
from nasalign.inference import scoring
from nasalign.inference.generation import Generated
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.inference.verdicts import Verdict
from nasalign.nasa import probing as module
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.parts import Part
from nasalign.nasa.probing import (
    ProbingSet,
    build_probing_set,
    check_probing_set,
    probing_set_from_rows,
)
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.session import Session

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
Build = Callable[..., ProbingSet]
PLACES = ("France", "Japan", "Brazil", "gold", "oxygen", "Hamlet", "the novel", "a spider")


def questions(count: int, per_subject: int = 1) -> list[Question]:
    return [
        Question(
            f"What is number {index} of {PLACES[index % 8]}?",
            f"thing {index}",
            subject=f"subject {index // per_subject}",
        )
        for index in range(count)
    ]


def known(count: int, per_subject: int = 1) -> list[Parametric]:
    return [Parametric(item, item.answer, True) for item in questions(count, per_subject)]


class Verdicts:
    """Stands in for ``score_prompts``: gives the verdicts and a model NAS of 1, 2, 3, ..."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = list(verdicts)
        self.prompts: list[BinaryPrompt] = []

    def __call__(self, model: object, prompts: list[BinaryPrompt], **options: object) -> Scores:
        self.prompts = prompts
        count = len(prompts)
        nas = torch.arange(1.0, count + 1)[:, None, None].expand(count, 2, 2) / 4
        return Scores(torch.full((count,), 0.1), torch.full((count,), 0.6), self.verdicts, nas)


@pytest.fixture
def build(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds a probing set of scripted verdicts."""

    def build(
        samples: list[Parametric], verdicts: Sequence[Verdict], **settings: object
    ) -> ProbingSet:
        monkeypatch.setattr(module, "score_prompts", Verdicts(verdicts))
        chosen = Settings().replace(settings)
        return build_probing_set(Session(None, tokenizer, chosen), samples)

    return build


def subjects(probing: ProbingSet, *parts: Part) -> set[str]:
    return {
        sample.question.subject
        for sample, part in zip(probing.samples, probing.parts, strict=True)
        if part in parts
    }


def test_what_is_known_is_scored(llama: Llama) -> None:
    model, tokenizer = llama
    settings = Settings(answer_tokens=2, batch_size=3)
    done: list[int] = []
    samples = known(4) + [Parametric(question, "", False) for question in questions(4)]
    probing = build_probing_set(Session(model, tokenizer, settings), samples, done.append)
    assert done == [3, 1]
    builder = PromptBuilder(tokenizer)
    prompts = [builder.binary(positive_example(question)) for question in questions(4)]
    scores = score_prompts(model, prompts, batch_size=3)
    assert probing.samples == samples[:4]
    assert probing.prompts == prompts
    assert torch.equal(probing.nas, scores.nas)
    assert probing.verdicts == scores.verdicts
    assert "Is the answer thing 2? Answer:" in probing.prompts[2].text


def test_parts_follow_the_verdicts(build: Build) -> None:
    verdicts: list[Verdict] = ["positive", "negative", "invalid", *["negative"] * 9]
    probing = build(known(12), verdicts)
    assert [probing.parts[0], probing.parts[2]] == ["TP", "invalid"]
    assert (probing.count("TP"), probing.count("invalid")) == (1, 1)
    assert (probing.count("validation"), probing.count("tuning")) == (3, 7)  # a third of ten
    denied = [index for index, verdict in enumerate(verdicts) if verdict == "negative"]
    assert {probing.parts[index] for index in denied} == {"validation", "tuning"}
    assert len(probing.of("tuning")) == 7
    assert all(prompt in probing.prompts for prompt in probing.of("tuning"))
    check_probing_set(probing)


@pytest.mark.parametrize(
    ("denied", "settings", "validation", "tuning"),
    [
        (2, {}, 1, 1),
        (9, {}, 3, 6),
        (11, {}, 3, 8),
        (50, {"validation_samples": 4}, 4, 46),
        (50, {"validation_samples": 4, "tuning_samples": 20}, 4, 20),  # the others are unused
    ],
)
def test_the_validation_set_is_a_third_up_to_its_limit(
    denied: int, settings: dict[str, object], validation: int, tuning: int, build
) -> None:
    probing = build(known(denied), ["negative"] * denied, **settings)
    assert (probing.count("validation"), probing.count("tuning")) == (validation, tuning)
    assert probing.count("unused") == denied - validation - tuning


@pytest.mark.parametrize("seed", range(10))
def test_tuning_and_validation_share_no_subject(seed: int, build: Build) -> None:
    samples = known(47, per_subject=3)
    probing = build(samples, ["negative"] * 47, seed=seed, tuning_samples=25)
    assert subjects(probing, "validation").isdisjoint(subjects(probing, "tuning"))
    assert (probing.count("validation"), probing.count("tuning")) == (15, 25)
    assert probing.count("unused") == 7


def balanced(build: Build, samples: list[Parametric], **settings: object) -> ProbingSet:
    """A probing set that halts by balance; every known answer is denied."""
    count = sum(one.known for one in samples)
    return build(samples, ["negative"] * count, halting="balance", **settings)


def test_the_balance_set_is_of_held_back_subjects_known_or_not(build: Build) -> None:
    samples = [replace(one, right=place % 3 > 0) for place, one in enumerate(known(120))]
    probing = balanced(build, samples)
    tuned = {prompt.text.split("?")[0] for prompt in probing.of("tuning")}
    watched = {prompt.text.split("?")[0] for prompt in probing.of("validation")}
    asked = [prompt.text.split("?")[0] for prompt in probing.balance]
    assert asked[::2] == asked[1::2]  # a right and a wrong answer in turn
    assert watched < set(asked)
    assert tuned.isdisjoint(asked)
    unknown = {one.question.question[:-1] for one in samples if not one.known}
    held = len(set(asked))
    assert sum(any(name in text for name in unknown) for text in set(asked)) == held - len(watched)
    assert held == pytest.approx(40, abs=8)  # a third of the mistakes, so a third of the questions
    right, wrong = probing.balance[0].text, probing.balance[1].text
    assert right != wrong


def test_the_balance_set_has_its_limit_and_none_where_tau_halts(build: Build) -> None:
    assert len(balanced(build, known(60), balance_pairs=5).balance) == 10
    assert build(known(60), ["negative"] * 60).balance == []


def test_the_balance_set_is_read_back(build: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    samples = known(30)
    probing = balanced(build, samples)
    session = Session(None, tokenizer, Settings(halting="balance"))
    back = probing_set_from_rows(session, samples, probing.rows(), probing.nas)
    assert back.balance == probing.balance != []


def test_labelled_rows_of_both_labels_make_the_balance_set(build: Build) -> None:
    rows = [BinaryExample(f"Is {index} even?", index % 2 == 0) for index in range(60)]
    samples = [Parametric(Question(one.question, "Yes"), "", True, example=one) for one in rows]
    probing = build(samples, ["negative"] * 30, halting="balance")
    asked = [prompt.text.split("Is ")[1] for prompt in probing.balance]
    even = [int(text.split()[0]) % 2 == 0 for text in asked]
    assert even == [True, False] * (len(asked) // 2)
    assert len(asked) > 10


def test_the_seed_and_not_the_order_of_the_questions_decides_the_split(build: Build) -> None:
    first, same, other = (build(known(40), ["negative"] * 40, seed=seed) for seed in (1, 1, 2))
    assert first.parts == same.parts != other.parts
    back = build(known(40)[::-1], ["negative"] * 40, seed=1)
    assert subjects(first, "validation") == subjects(back, "validation")


def test_questions_without_a_subject_are_each_their_own(build: Build) -> None:
    asked = [Question(f"What is {index}?", "a thing") for index in range(10)]
    samples = [Parametric(question, "a thing", True) for question in asked]
    probing = build(samples, ["negative"] * 10)
    assert (probing.count("validation"), probing.count("tuning")) == (3, 7)


def test_tau_is_the_smallest_model_nas_of_the_true_positives(build: Build) -> None:
    assert build(known(4), ["negative", "positive", "invalid", "positive"]).tau == 2.0
    assert build(known(4), ["negative", "negative", "invalid", "negative"]).tau == -math.inf


def test_rows_say_everything_of_a_sample(build: Build) -> None:
    row = build(known(3), ["negative", "negative", "positive"]).rows()[2]
    assert row.pop("p_yes") == pytest.approx(0.1)
    assert row.pop("p_no") == pytest.approx(0.6)
    assert row == {
        "question": "What is number 2 of Brazil?",
        "answer": "thing 2",
        "subject": "subject 2",
        "prediction": "thing 2",
        "verdict": "positive",
        "nas": 3.0,
        "split": "TP",
    }


def test_the_generating_decoder_decides_the_parts(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["Yes", "No", "Perhaps", "no."]
    generated = Generated(answers, [0.0] * 4, [False] * 4)
    monkeypatch.setattr(scoring, "generate", lambda *args, **options: generated)
    probing = build(known(4), ["negative"] * 4, decoder="generate")
    assert probing.verdicts == ["positive", "negative", "invalid", "negative"]
    assert [probing.parts[0], probing.parts[2]] == ["TP", "invalid"]


def test_something_must_be_known(llama: Llama) -> None:
    unknown = [Parametric(question, "", False) for question in questions(3)]
    with pytest.raises(DataError, match="answers none of the 3 probing questions"):
        build_probing_set(Session(*llama, Settings()), unknown)


def test_something_must_be_denied(build: Build) -> None:
    probing = build(known(3), ["positive", "invalid", "positive"])
    with pytest.raises(NothingToFixError, match="denies none of the 3"):
        check_probing_set(probing)


@pytest.mark.parametrize(("count", "per_subject"), [(1, 1), (6, 6)])
def test_one_denied_subject_cannot_be_split(count: int, per_subject: int, build: Build) -> None:
    probing = build(known(count, per_subject), ["negative"] * count)
    with pytest.raises(DataError, match=f"{count} false negative"):
        check_probing_set(probing)
