"""Exports that score texts, in a process that has their own library alone: our probabilities."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor

import tiny
from aligned import aligned
from fault_tools import python
from nasalign.adapters.adapter import load_adapter
from nasalign.adapters.scaling import Calibration, PlattScaling, prompt_facts
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.config import load_preset
from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError, NasAlignError, PromptError
from nasalign.inference.forward import answer_logits
from nasalign.inference.scoring import score_prompts
from nasalign.models.loading import load
from nasalign.prompts.builder import PromptBuilder
from nasalign.reporting.card import Form

PAIRS = [
    ("What is the capital of France?", "Paris"),
    ("Who?", "the author of the novel, William Shakespeare, who wrote Hamlet"),
    ('What is "it"\\in {{ braces }},\nand «é»?', "Rome 🏛"),
]
SCALING = PlattScaling(0.7, -1.3)
FITTED = Calibration(None, SCALING, 40, "facts", prompt_facts(load_preset()))
FAMILIES = {
    "llama": FITTED,
    "qwen2": None,
    "gpt_neox": FITTED,
    "gemma": None,  # its embeddings are tied
}
PROGRAM = """
import json, sys
from pathlib import Path
import torch
said = {}
for name, folder in json.loads(Path("exports.json").read_text()).items():
    if name.endswith("cross-encoder"):
        from sentence_transformers import CrossEncoder
        model = CrossEncoder(folder, device="cpu")
        pairs = [tuple(pair) for pair in PAIRS]
        said[name] = model.predict(pairs, batch_size=2).tolist()
    else:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        roles = ("query", "document")
        asked = [
            [{"role": role, "content": text} for role, text in zip(roles, pair)] for pair in PAIRS
        ]
        batch = tokenizer.apply_chat_template(
            asked, padding=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            logits = model.eval()(**batch).logits[:, 0]
        said[name] = (logits + model.config.nasalign["offset"]).sigmoid().tolist()
Path("said.json").write_text(json.dumps(said))
assert "nasalign" not in sys.modules
"""


def elsewhere(folder: Path, exports: dict[str, Path]) -> dict[str, list[float]]:
    """Probabilities of ``PAIRS`` by exports, from a fresh process."""
    paths = {name: str(path) for name, path in exports.items()}
    (folder / "exports.json").write_text(json.dumps(paths))
    program = f"import os\nos.chdir({str(folder)!r})\n" + PROGRAM.replace("PAIRS", repr(PAIRS))
    done = python("-c", program, PYTHONPATH="", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text())


@torch.no_grad()
def here(place: Path, scaling: PlattScaling | None) -> tuple[Tensor, Tensor]:
    """P(Yes) of ``PAIRS`` by the aligned model: of the two tokens, and of all spellings."""
    model, tokenizer = load(str(place / "model"))
    load_adapter(place / "run" / "adapter", model).apply(model)
    builder = PromptBuilder(tokenizer)
    prompts = [builder.binary(BinaryExample(*pair[:1], True, pair[1])) for pair in PAIRS]
    yes, no = prompts[0].answers.target, prompts[0].answers.other_target
    logits = answer_logits(model, prompts)
    scores = score_prompts(model, prompts, record=False)
    every = scores.p_positive.log() - scores.p_negative.log()
    used = scaling or PlattScaling(1.0, 0.0)
    return tuple(used.probability(odds) for odds in (logits[:, yes] - logits[:, no], every))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family, with its run and its exports."""
    pytest.importorskip("sentence_transformers", minversion="5.4")
    places = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    for family, place in places.items():
        run = aligned(place, family, calibration=FAMILIES[family])
        for form in ("cross-encoder", "classifier"):
            done = export_job(Job(), run, place / form, form)
            assert done.scores
            assert done.scores.calibrated == (40 if FAMILIES[family] else 0)
    return places


@pytest.fixture(scope="module")
def said(
    places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[float]]:
    """What all exports say, from one process."""
    exports = {
        f"{family} {form}": place / form
        for family, place in places.items()
        for form in ("cross-encoder", "classifier")
    }
    return elsewhere(tmp_path_factory.mktemp("elsewhere"), exports)


@pytest.mark.parametrize("form", ["cross-encoder", "classifier"])
@pytest.mark.parametrize("family", FAMILIES)
def test_its_own_library_gives_the_probabilities_of_the_aligned_model(
    family: str, form: str, places: dict[str, Path], said: dict[str, list[float]]
) -> None:
    two, every = here(places[family], FAMILIES[family] and SCALING)
    found = torch.tensor(said[f"{family} {form}"])
    torch.testing.assert_close(found, two, atol=1e-4, rtol=0)
    assert (two - two.mean()).abs().max() > 0.01  # they tell the pairs apart
    assert not torch.allclose(two, every, atol=1e-4)  # other spellings count here


def test_the_card_and_the_command_say_how_far_it_is(places: dict[str, Path]) -> None:
    card = ModelCard.load(places["llama"] / "classifier" / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert "differ by up to 0." in card.text
    assert "half of them right answers" in card.text
    config = json.loads((places["llama"] / "classifier" / "config.json").read_text())
    assert config["nasalign"] == {"slope": 0.7, "offset": -1.3, "words": ["Yes", "No"]}
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "Yes"}
    card = ModelCard.load(places["qwen2"] / "cross-encoder" / "README.md")
    assert card.data.pipeline_tag == "text-ranking"
    assert "without a calibration" in card.text


def test_a_chat_is_written_as_before(places: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    chat = [{"role": "user", "content": "Who wrote Hamlet?"}]
    before, after = (
        AutoTokenizer.from_pretrained(places["llama"] / name).apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        for name in ("model", "cross-encoder")
    )
    assert before == after


@pytest.mark.parametrize(
    ("family", "form", "says"),
    [
        ("gemma2", "classifier", "changes its logits after the output embedding"),
        ("granite", "classifier", "has no class for the classification of texts"),
    ],
)
def test_what_a_linear_head_cannot_do_is_refused(
    family: str, form: Form, says: str, tmp_path: Path
) -> None:
    run = aligned(tmp_path, family)
    with pytest.raises(ModelError, match=says):
        export_job(Job(), run, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_a_prompt_of_three_parts_and_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    facts = json.loads((run / "run.json").read_text())
    facts["settings"]["template"] = "{a} {b} {c} Yes or No?"
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(PromptError, match="fills two placeholders"):
        export_job(Job(), run, tmp_path / "out", "cross-encoder")
    with pytest.raises(NasAlignError, match="--rank is for"):
        export_job(Job(), run, tmp_path / "out", "classifier", rank=8)


def test_a_calibration_of_another_prompt_is_left_out(tmp_path: Path) -> None:
    other = Calibration(None, SCALING, 40, "facts", prompt_facts(load_preset()) | {"shots": 2})
    run = aligned(tmp_path, calibration=other)
    done = export_job(Job(), run, tmp_path / "out", "classifier")
    assert done.scores
    assert (done.scores.slope, done.scores.offset, done.scores.calibrated) == (1, 0, 0)


def test_a_template_of_two_placeholders_fills_them_in_order(tmp_path: Path) -> None:
    tokenizer = tiny.build_tokenizer(chat_template=False)
    run = aligned(tmp_path)
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    facts = json.loads((run / "run.json").read_text())
    facts["settings"]["template"] = "Text: {passage}\nClaim: {claim}\nYes or No?"
    (run / "run.json").write_text(json.dumps(facts))
    done = export_job(Job(), run, tmp_path / "out", "cross-encoder")
    assert done.scores
    assert done.scores.columns == ("passage", "claim")
    template = (tmp_path / "out" / "chat_template.jinja").read_text()
    assert "<s>Text: " in template  # which the tokenizer writes itself before a text
