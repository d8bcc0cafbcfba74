"""The mirror image: which way a model is wrong, mirrored prompts, and their probing set."""

import math
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import reference
import tiny
from nasalign.config import Settings
from nasalign.data.binary import positive_example
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import DataError, NothingToFixError, PromptError
from nasalign.inference.scoring import Scores, score, score_prompts
from nasalign.inference.verdicts import Verdict, likeliest
from nasalign.nasa import probing as module
from nasalign.nasa.direction import Mistakes, choose_direction, weigh, wrong_examples
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import (
    ProbingSet,
    build_probing_set,
    check_probing_set,
    probing_set_from_rows,
)
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.run import Run
from nasalign.session import Session

EXAMPLE = BinaryExample("Who wrote Hamlet?", False, "Paris")


def known(count: int) -> list[Parametric]:
    """Known questions of one kind, so that each has the others' answers as wrong ones."""
    asked = [
        Question(f"What is {index}?", f"thing {index}", kind="things", subject=f"{index}")
        for index in range(count)
    ]
    return [Parametric(question, question.answer, True) for question in asked]


@pytest.mark.parametrize("chat", [True, False])
def test_a_mirrored_prompt_has_the_answer_words_in_each_others_place(chat: bool) -> None:
    tokenizer = tiny.build_tokenizer()
    prompt = PromptBuilder(tokenizer, chat=chat).binary(EXAMPLE)
    mirror = prompt.mirrored()
    assert (mirror.text, mirror.token_ids) == (prompt.text, prompt.token_ids)
    assert mirror.first_row == prompt.first_row
    assert mirror.positive_position == prompt.negative_position
    assert mirror.negative_position == prompt.positive_position
    assert mirror.answers.positive == prompt.answers.negative
    assert mirror.answers.negative == prompt.answers.positive
    lead = "" if chat else "Ġ"
    targets = [mirror.answers.target, mirror.answers.other_target]
    assert tokenizer.convert_ids_to_tokens(targets) == [f"{lead}No", f"{lead}Yes"]
    assert mirror.mirrored() == prompt


def test_a_word_without_a_token_of_its_own_cannot_be_mirrored(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    prompt = PromptBuilder(tokenizer).binary(EXAMPLE)
    odd = type(prompt.answers)(prompt.answers.positive, prompt.answers.negative, 1, None)
    with pytest.raises(PromptError, match="take direction=negative"):
        odd.mirrored()


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_the_nas_of_a_mirrored_prompt_is_eq_1_with_yes_and_no_swapped(family: str) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    builder = PromptBuilder(tiny.build_tokenizer())
    plain = [builder.binary(EXAMPLE), builder.binary(BinaryExample("What?", True, "Rome"))]
    scores = score_prompts(model, [prompt.mirrored() for prompt in plain])
    for prompt, nas in zip(plain, scores.nas, strict=True):
        ids = torch.tensor(prompt.token_ids)
        yes, no = prompt.positive_position, prompt.negative_position
        swapped = reference.nas_of_sample(model, ids, no, yes, prompt.first_row)
        torch.testing.assert_close(nas, swapped, atol=1e-10, rtol=1e-10)
    straight = score_prompts(model, plain)
    torch.testing.assert_close(scores.nas, -straight.nas)
    assert torch.equal(scores.p_positive, straight.p_negative)


def test_mistakes_are_counted_by_label() -> None:
    verdicts: list[Verdict] = ["negative", "positive", "invalid", "positive", "negative"]
    found = Mistakes.of(verdicts, [True, True, True, False, False])
    assert found == Mistakes(denied=1, right=3, affirmed=1, wrong=2)
    assert found.shares == (1 / 3, 1 / 2)
    assert (found.larger, found.lean) == ("positive", "neither")


@pytest.mark.parametrize(
    ("mistakes", "larger", "lean"),
    [
        (Mistakes(40, 50, 5, 50), "negative", "negative"),
        (Mistakes(5, 50, 40, 50), "positive", "positive"),
        (Mistakes(20, 50, 18, 50), "negative", "neither"),
        (Mistakes(0, 50, 0, 50), "negative", "neither"),
        (Mistakes(0, 0, 0, 0), "negative", "neither"),
    ],
)
def test_the_lean_is_told_where_the_intervals_part(
    mistakes: Mistakes, larger: str, lean: str
) -> None:
    assert (mistakes.larger, mistakes.lean) == (larger, lean)


def test_intervals_are_those_of_wilson() -> None:
    found = Mistakes(10, 40, 0, 0).as_dict()
    z, p, n = 1.959963984540054, 0.25, 40
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["false_negatives"]["interval"] == pytest.approx([middle - half, middle + half])
    assert found["false_positives"] == {"share": 0.0, "interval": [0.0, 1.0], "n": 0}


def test_both_answers_to_the_same_questions_are_weighed(
    llama: tuple[PreTrainedModel, PreTrainedTokenizerFast], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    monkeypatch.setattr("nasalign.nasa.direction.WEIGHED", 4)
    unknown = [Parametric(Question("Who?", "me"), "", False)]
    settings, done = Settings(batch_size=3), []
    found = weigh(Session(model, tokenizer, settings), known(9) + unknown, done.append)
    assert (found.right, found.wrong, sum(done)) == (4, 4, 8)
    monkeypatch.setattr("nasalign.nasa.direction.WEIGHED", 9)
    found = weigh(Session(model, tokenizer, settings), known(9))
    right = [positive_example(one.question) for one in known(9)]
    _, wrong, _ = wrong_examples(known(9), known(9), settings)
    denied, affirmed = (score(model, tokenizer, part).verdicts for part in (right, wrong))
    assert found.denied == denied.count("negative")
    assert found.affirmed == affirmed.count("positive")


@pytest.mark.parametrize(("denied", "asked"), [(30, [32]), (16, [32, 200])])
def test_more_are_asked_only_where_the_first_do_not_tell(
    denied: int, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def weighed(session: object, samples: object, done: object, count: int = 200) -> Mistakes:
        counts.append(count)
        return Mistakes(denied, 32, 15, 32)

    monkeypatch.setattr("nasalign.nasa.direction.weigh", weighed)
    session = Session(None, None, Settings(direction="auto"), Run())
    assert choose_direction(session, known(40)) == "negative"
    assert counts == asked
    counts.clear()
    choose_direction(session, known(32))  # there are no more
    assert counts == [32]


def test_without_any_wrong_answer_nothing_is_weighed() -> None:
    alone = [Parametric(Question("What is it?", "a thing", kind="things"), "a thing", True)]
    found = weigh(Session(None, None, Settings()), alone)
    assert (found, found.larger) == (Mistakes(0, 0, 0, 0), "negative")


class Said:
    """Stands in for ``score_prompts`` of mirrored prompts: says Yes or No as scripted."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = list(verdicts)

    def __call__(self, model: object, prompts: list[BinaryPrompt], **options: object) -> Scores:
        p_no = torch.tensor([0.2 if said == "positive" else 0.7 for said in self.verdicts])
        p_yes = 0.9 - p_no
        mirrored = [likeliest(no, 0.9 - no) for no in p_no.tolist()]
        nas = torch.arange(1.0, len(prompts) + 1)[:, None, None].expand(-1, 2, 2) / 4
        return Scores(p_no, p_yes, mirrored, nas)


def built(
    samples: list[Parametric], verdicts: Sequence[Verdict], monkeypatch: pytest.MonkeyPatch
) -> tuple[ProbingSet, PreTrainedTokenizerFast]:
    monkeypatch.setattr(module, "score_prompts", Said(verdicts))
    tokenizer = tiny.build_tokenizer()
    session = Session(None, tokenizer, Settings())
    return build_probing_set(session, samples, direction="positive"), tokenizer


def test_what_it_affirms_wrongly_is_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: list[Verdict] = ["negative", *["positive"] * 10, "negative"]
    probing, tokenizer = built(known(12), verdicts, monkeypatch)
    assert (probing.direction, probing.mistakes) == ("positive", 10)
    assert probing.verdicts == verdicts
    assert [probing.parts[0], probing.parts[11]] == ["TP", "TP"]
    assert (probing.count("validation"), probing.count("tuning")) == (3, 7)
    assert probing.tau == 1.0
    check_probing_set(probing)

    builder, row = PromptBuilder(tokenizer), probing.rows()[1]
    for sample, wrong, prompt in zip(probing.samples, probing.wrong, probing.prompts, strict=True):
        assert wrong != sample.question.answer
        asked = BinaryExample(sample.question.question, False, wrong)
        assert prompt == builder.binary(asked).mirrored()
    assert (row["verdict"], row["answer"]) == ("positive", "thing 1")
    assert row["answer_asked"] == probing.wrong[1]
    assert row["p_yes"] == pytest.approx(0.7)
    assert row["p_no"] == pytest.approx(0.2)

    again = probing_set_from_rows(
        Session(None, tokenizer, Settings()), known(12), probing.rows(), probing.nas
    )
    assert again.rows() == probing.rows()
    assert again.prompts == probing.prompts
    assert again.direction == "positive"


def test_questions_without_a_wrong_answer_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Parametric(Question("Who?", "me", kind="persons"), "me", True)
    _, _, dropped = wrong_examples([*known(3), alone], [*known(3), alone], Settings())
    assert sum(dropped.counts.values()) == 1
    probing, _ = built([*known(3), alone], ["positive"] * 3, monkeypatch)
    assert len(probing.samples) == 3
    with pytest.raises(DataError, match="No known question has a wrong answer"):
        built([alone], [], monkeypatch)


def test_something_must_be_affirmed_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    probing, _ = built(known(3), ["negative"] * 3, monkeypatch)
    with pytest.raises(NothingToFixError, match="affirms none of 3 wrong answers"):
        check_probing_set(probing)
    probing, _ = built(known(3), ["negative", "negative", "positive"], monkeypatch)
    with pytest.raises(DataError, match="1 false positive"):
        check_probing_set(probing)
