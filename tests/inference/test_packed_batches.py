"""Prompts scored in packed rows have the probabilities and the NAS of prompts one by one."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import architectures
import reference
import tiny
from nasalign.data.records import BinaryExample
from nasalign.inference import packed_batches as packed_module
from nasalign.inference.packed_batches import PackedBatches, packed_batches, prompt_rows
from nasalign.inference.prefix import common_beginning
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.models import processes
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.prompts.user_template import PromptTemplate
from nasalign.rivals.observed import last_inputs

QUESTIONS = ["What is one?", "Who is the author of six seven eight?", "Who is the man?"]
ANSWERS = ["two", "three four", "three five six"]
EXAMPLES = [BinaryExample(question, True, one) for question in QUESTIONS for one in ANSWERS]
SHOTS = [BinaryExample("Is the sea red?", False), BinaryExample("What is two?", True, "two")]


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [builder.binary(example) for example in EXAMPLES]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[PackedBatches]:
    """Rows are tried also for a few prompts; here is what has scored."""
    monkeypatch.setattr(packed_module, "TRIED_OUT", 0)
    found: list[PackedBatches] = []
    logits = PackedBatches.logits

    def seen(self: PackedBatches, *given: object) -> torch.Tensor:
        found.append(self)
        return logits(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(PackedBatches, "logits", seen)
    return found


def assert_equal(found: Scores, expected: Scores, tolerance: float = 1e-6) -> None:
    near = {"atol": tolerance, "rtol": tolerance, "equal_nan": True}
    torch.testing.assert_close(found.p_positive, expected.p_positive, **near)
    torch.testing.assert_close(found.p_negative, expected.p_negative, **near)
    torch.testing.assert_close(found.nas, expected.nas, **near)
    assert found.verdicts == expected.verdicts


def test_nas_equals_the_literal_sum_in_every_family(
    family: str, prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    with torch.no_grad(), reference.as_precise(model):
        found = score_prompts(model, prompts)
        alone = score_prompts(model, prompts, batch_size=1)
    assert bool(used) == (family not in tiny.SHORT_WINDOWS)
    assert_equal(found, alone)
    for prompt, nas in zip(prompts, found.nas, strict=True):
        places = (prompt.positive_position, prompt.negative_position, prompt.first_row)
        with reference.as_precise(model):
            expected = reference.nas_of_sample(model, torch.tensor(prompt.token_ids), *places)
        torch.testing.assert_close(nas, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", list(architectures.TYPES))
def test_every_other_architecture_is_scored_as_one_by_one(
    name: str, prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    model = architectures.build(name, torch.float64)
    with torch.no_grad():
        found = score_prompts(model, prompts)
        assert_equal(found, score_prompts(model, prompts, batch_size=1), 1e-4)


def test_examples_before_the_question_run_once_and_count(
    tokenizer: PreTrainedTokenizerFast, used: list[PackedBatches]
) -> None:
    builder = PromptBuilder(tokenizer, shots=SHOTS)
    prompts = [builder.binary(example) for example in EXAMPLES]
    model = tiny.build_model("llama", dtype=torch.float64)
    found = score_prompts(model, prompts)
    assert used[0].prefix > prompts[0].first_row + 10
    assert_equal(found, score_prompts(model, prompts, batch_size=1))


def test_eager_attention_is_recorded_too(
    prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    model.set_attn_implementation("eager")
    with reference.softmax_in_float64():
        found = score_prompts(model, prompts)
        assert used
        assert_equal(found, score_prompts(model, prompts, batch_size=1), 1e-10)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_padded_rows_are_finite_in_half_precision(
    dtype: torch.dtype,
    attention: str,
    prompts: list[BinaryPrompt],
    used: list[PackedBatches],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_module, "ROW_TOKENS", 1)
    model = tiny.build_model("llama", dtype=dtype)
    model.set_attn_implementation(attention)
    found = score_prompts(model, prompts)
    assert len({len(row.token_ids) for row in used[0].rows}) > 1
    assert found.finite
    assert found.nas.isfinite().all()
    assert_equal(found, score_prompts(model, prompts, batch_size=1), 0.1)


def test_rows_hold_every_prompt_once_and_what_it_shares_once(prompts: list[BinaryPrompt]) -> None:
    prefix = common_beginning(prompts)
    (row,) = prompt_rows(prompts, prefix)
    assert sorted(row.members) == list(range(len(prompts)))
    beginnings = {one.token_ids[:size] for one in prompts for size in range(len(one.token_ids) + 1)}
    assert len(row.token_ids) == len(beginnings) - 1  # less the empty one


def test_a_row_ends_where_it_has_no_room(
    prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_module, "ROW_TOKENS", 1)
    rows = prompt_rows(prompts, common_beginning(prompts))
    assert 1 < len(rows) < len(prompts)  # one that saves more than it adds joins all the same
    assert sorted(index for row in rows for index in row.members) == list(range(len(prompts)))
    monkeypatch.setattr(packed_module, "CPU_TOKENS", 1)
    assert len(prompt_rows(prompts, common_beginning(prompts))) == len(prompts)


def test_the_same_prompt_many_times_is_not_one_row(prompts: list[BinaryPrompt]) -> None:
    """Each has logits of its own, which would fill the memory."""
    rows = prompt_rows(prompts[:1] * 200, len(prompts[0].token_ids) - 1)
    assert [len(row.members) for row in rows] == [64, 64, 64, 8]
    assert {row.token_ids for row in rows} == {prompts[0].token_ids}


def test_processes_that_share_the_prompts_decide_alike(
    prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else some would score rows and others prompts, and a prompt is in none or in two shares."""
    model = tiny.build_model("llama")
    monkeypatch.setattr(packed_module, "TRIED_OUT", 0)
    monkeypatch.setattr(processes, "shares", lambda: 1 if processes._ALONE.get() else 9)
    monkeypatch.setattr(processes, "mine", lambda place: place % processes.shares() == 0)
    assert packed_batches(model, prompts, record=True) is not None
    monkeypatch.setattr(processes, "agreed", lambda own: not own)  # what the first has found
    assert packed_batches(model, prompts, record=True) is None


def test_the_progress_counts_prompts(
    prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    counts: list[int] = []
    score_prompts(tiny.build_model("llama"), prompts, progress=counts.append)
    assert used
    assert sum(counts) == len(prompts)


def test_rows_that_do_not_fit_in_memory_are_split(
    prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    packed_batches(model, prompts, record=True)  # tries it out
    longest = max(len(prompt.token_ids) for prompt in prompts) - common_beginning(prompts)
    counts: list[int] = []

    def no_more_than_one(module: object, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].shape[1] > longest and len(used) > 0 and not prefix_alone(inputs[0]):
            raise torch.OutOfMemoryError("out of memory")

    def prefix_alone(hidden: torch.Tensor) -> bool:
        return hidden.shape[1] == common_beginning(prompts)

    with model.model.layers[1].register_forward_pre_hook(no_more_than_one):
        found = score_prompts(model, prompts, progress=counts.append)
    assert len(used) > len(prompts)
    assert sum(counts) == len(prompts)
    assert_equal(found, score_prompts(model, prompts, batch_size=1))


def test_few_prompts_or_a_size_given_are_scored_as_they_are(
    prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_model("llama")
    assert packed_batches(model, prompts[:1], record=True) is None
    assert packed_batches(model, prompts, record=True) is None  # no more than the trial takes
    monkeypatch.setattr(packed_module, "TRIED_OUT", 0)
    assert packed_batches(model, prompts, record=True) is not None


def test_words_after_the_question_are_recorded_prompt_by_prompt(
    tokenizer: PreTrainedTokenizerFast, used: list[PackedBatches]
) -> None:
    """The two words do not stand in what all prompts share."""
    template = PromptTemplate("Question: {question} {answer}\nSay Yes or No.\nAnswer:")
    builder = PromptBuilder(tokenizer, template=template)
    prompts = [builder.binary(example) for example in EXAMPLES]
    model = tiny.build_model("llama", dtype=torch.float64)
    found = score_prompts(model, prompts)
    assert not used
    assert_equal(found, score_prompts(model, prompts, batch_size=1))
    score_prompts(model, prompts, record=False)
    assert used


def test_a_change_that_acts_by_place_is_not_packed(
    prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    """What is wrong in a row is found out by the trial."""
    model = tiny.build_model("llama", dtype=torch.float64)

    def odd_places(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[:, 1::2] += 1.0
        return changed

    with model.model.layers[1].mlp.register_forward_hook(odd_places):
        score_prompts(model, prompts)
    assert not used


def test_inner_states_are_those_of_the_last_tokens(
    prompts: list[BinaryPrompt], used: list[PackedBatches]
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    names = ["model.layers.1", "model.layers.2.mlp.down_proj"]
    found = last_inputs(model, prompts, names)
    assert used
    for one, other in zip(found, last_inputs(model, prompts, names, batch_size=1), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
