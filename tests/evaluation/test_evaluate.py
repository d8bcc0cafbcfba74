"""Evaluating a model in memory gives the metrics of ``metrics.json`` and a row an example."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import nasalign
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import DataError, NasAlignError, PromptError
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.inference import scoring
from nasalign.inference.generation import Generated
from nasalign.inference.scoring import score

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
KEYS = {"accuracy", "precision", "recall", "f1", "ece", "ece_two_words", "nas", "yes_rate"}
KEYS |= {"specificity", "invalid_rate", "coverage", "n"}
EXAMPLES = [
    BinaryExample(f"What is the capital of {place}?", label, answer)
    for place, label, answer in (
        ("France", True, "Paris"),
        ("France", False, "Rome"),
        ("Brazil and of the world", True, "London"),
        ("Japan", False, "Tokyo"),
        ("gold", True, "the yen"),
    )
] + [BinaryExample("Is Paris the capital of France?", True, context="Paris is the capital.")]


@pytest.mark.parametrize("decoder", ["logits", "generate"])
def test_the_metrics_are_those_of_metrics_json(decoder: str, llama: Llama) -> None:
    metrics = nasalign.evaluate(*llama, EXAMPLES, Settings(decoder=decoder, batch_size=2))
    assert set(metrics) == KEYS | {"intervals"}
    assert set(metrics["intervals"]) == KEYS - {"n"}
    assert metrics["n"] == 6
    scores = score(*llama, EXAMPLES, decoder=decoder)
    assert metrics["yes_rate"] == pytest.approx(scores.verdicts.count("positive") / 6)
    both = (scores.p_positive + scores.p_negative).double().mean()
    assert metrics["coverage"] == pytest.approx(float(both))
    assert metrics["invalid_rate"] == pytest.approx(scores.verdicts.count("invalid") / 6)
    assert metrics["nas"] == pytest.approx(float(scores.nas.sum(dim=(1, 2)).mean()), rel=1e-5)
    rights = [
        verdict == ("positive" if example.label else "negative")
        for verdict, example in zip(scores.verdicts, EXAMPLES, strict=True)
    ]
    assert metrics["accuracy"] == pytest.approx(sum(rights) / 6)


def test_the_seed_decides_the_intervals_and_no_metric(llama: Llama) -> None:
    first, same, other = (
        nasalign.evaluate(*llama, EXAMPLES, Settings(seed=seed, bootstrap_samples=50))
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first["intervals"] != other["intervals"]
    assert {name: first[name] for name in KEYS} == {name: other[name] for name in KEYS}


def test_the_model_is_left_as_it_was(llama: Llama) -> None:
    model, tokenizer = llama
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    implementation = model.config._attn_implementation
    nasalign.evaluate(model, tokenizer, EXAMPLES, Settings(decoder="generate"))
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("decoder", ["logits", "generate"])
def test_a_row_says_everything_of_an_example(
    decoder: str, llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["Yes", "", "no", "Nothing", "Yes.", "No"]
    generated = Generated(answers, [0.0] * 6, [False] * 6)
    monkeypatch.setattr(scoring, "generate", lambda *args, **options: generated)
    settings = Settings().replace({"decoder": decoder})
    evaluation = run_evaluation(*llama, EXAMPLES, settings)
    scores, rows = evaluation.scores, evaluation.rows()
    assert len(rows) == 6
    for index, (row, example) in enumerate(zip(rows, EXAMPLES, strict=True)):
        generated = {"generated": answers[index]} if decoder == "generate" else {}
        assert row == generated | {
            "question": example.question,
            "answer": example.answer,
            "label": example.label,
            "verdict": scores.verdicts[index],
            "p_yes": float(scores.p_positive[index]),
            "p_no": float(scores.p_negative[index]),
            "nas": pytest.approx(float(scores.nas[index].sum()), rel=1e-5),
        }
    if decoder == "generate":
        expected = ["positive", "invalid", "negative", "invalid", "positive", "negative"]
        assert [row["verdict"] for row in rows] == expected


def test_settings_reach_the_prompts(llama: Llama) -> None:
    model, tokenizer = llama
    settings = Settings(vocabulary="true/false", instruction="A", chat=False, batch_size=2)
    done: list[int] = []
    shots = EXAMPLES[3:5]
    evaluation = run_evaluation(model, tokenizer, EXAMPLES, settings, shots, done.append)
    worded = {"vocabulary": "true/false", "instruction": "A", "chat": False, "shots": shots}
    expected = score(model, tokenizer, EXAMPLES, batch_size=2, **worded)
    assert torch.equal(evaluation.scores.p_positive, expected.p_positive)
    assert torch.equal(evaluation.scores.nas, expected.nas)
    assert not torch.equal(expected.nas, score(model, tokenizer, EXAMPLES, batch_size=2).nas)
    assert done == [2, 2, 2]


def test_what_cannot_be_evaluated_is_named(llama: Llama) -> None:
    with pytest.raises(DataError, match="no example to evaluate"):
        nasalign.evaluate(*llama, [])
    with pytest.raises(NasAlignError, match="no setting 'batchsize'"):
        Settings().replace({"batchsize": 2})
    with pytest.raises(PromptError, match="The answer words are 'oui'"):
        nasalign.evaluate(*llama, EXAMPLES, Settings(vocabulary="oui"))
