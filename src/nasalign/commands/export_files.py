"""The files of an export: all of them are written, or none."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel

from nasalign.adapters.activated import Activation
from nasalign.adapters.adapter import load_adapter
from nasalign.adapters.adapter_file import Reduction, read_adapter, read_calibration
from nasalign.adapters.rounding import Rounding
from nasalign.commands.converter import TYPES, convert, find_converter
from nasalign.commands.export_classifier import write_classifier
from nasalign.commands.export_cross_encoder import write_cross_encoder
from nasalign.commands.job import Job
from nasalign.commands.pairs import PairPrompt
from nasalign.commands.scored import ScoredModel
from nasalign.errors import NasAlignError, OutOfMemoryError, StorageError
from nasalign.io.storage import beside, write_text
from nasalign.models.companions import Copied, copy_companions
from nasalign.models.loading import DTYPES
from nasalign.models.memory import explained
from nasalign.reporting.card import (
    FILE,
    GGUF,
    SCORED,
    Form,
    ScoreFacts,
    model_card,
)
from nasalign.session import Session


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        target: a folder, or a GGUF file.
        dtype: of the weights.
        files: each file by its name in a repository of the hub. Listed when they are written:
            what somebody else adds to the folder is not uploaded.
        rounding: what is left of the change, where the weights were rounded to another dtype.
        reduction: what the adapter lacks of the exact one, where it was reduced.
        copied: what was copied into a checkpoint of what stands beside the base model's weights.
        rank: of an adapter's modules; None for a checkpoint.
        scores: what a form that scores texts computes.
        activation: by what an adapter is activated, if it is.
    """

    target: Path
    dtype: str
    files: Mapping[str, Path]
    rounding: Rounding | None
    reduction: Reduction | None
    copied: Copied = field(default_factory=Copied)
    rank: int | None = None
    scores: ScoreFacts | None = None
    activation: Activation | None = None


def export_model(
    job: Job, run: Path | None, adapter: Path, target: Path, form: Form, dtype: str | None
) -> Exported:
    """Merge an adapter into its model, and write that as a checkpoint or as a GGUF file."""
    try:
        session = job.session()
        model, tokenizer = session.model, session.tokenizer
    except OutOfMemoryError as error:  # it is loaded as it was tuned, so no dtype helps
        if job.load.device == "cpu":
            raise
        raise OutOfMemoryError(
            f"The model {job.model!r} does not fit into the memory of the device; take --device "
            "cpu."
        ) from error
    rounding = _merge(model, adapter, dtype)
    reduction = read_adapter(adapter).origin.lacking
    written = str(model.dtype).removeprefix("torch.")
    scored = _scored(session, adapter) if form in SCORED else None
    converter, card = find_converter(form), card_path(target, form)
    with all_or_nothing(target, *[card] * bool(converter)) as workplace:
        place = workplace / target.name
        checkpoint = workplace / "checkpoint" if converter else place
        scores = None
        if scored:
            scores = (write_classifier if form == "classifier" else write_cross_encoder)(
                scored, checkpoint
            )
        else:
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
        copied = copy_companions(job.model, checkpoint, code=job.load.trust_remote_code)
        if converter:
            job.run.say(f"Converting it by {converter}.")
            convert(converter, checkpoint, place, TYPES[written])
        text = model_card(run, adapter, form, job.model, rounding, target.name, scores)
        write_text(card_path(place, form), text)
        files = {target.name: target, FILE: card} if converter else files_in(place, target)
    if converter:  # which has read what it needs of them
        copied = Copied()
    return Exported(target, written, files, rounding, reduction, copied, scores=scores)


def _scored(session: Session, adapter: Path) -> ScoredModel:
    """The aligned model of a session with its calibration, where that fits the prompt."""
    found, settings = read_calibration(adapter), session.settings
    pair = PairPrompt.of(session)
    if found is None or not found.fits(settings):
        return ScoredModel(session.model, pair, None)
    return ScoredModel(session.model, pair, found.after, found.n)


def _merge(model: PreTrainedModel, folder: Path, dtype: str | None) -> Rounding | None:
    """Apply an adapter to its model, and rounds all weights to a dtype; changes the model."""
    adapter = load_adapter(folder, model)
    adapter.apply(model)
    if dtype is None or DTYPES[dtype] == model.dtype:
        return None
    rounding = Rounding.of(adapter, DTYPES[dtype])
    if not rounding.entries:
        raise NasAlignError(f"Nothing of the change is left in {dtype}; choose a finer dtype.")
    ways = ["--device cpu"] if model.device.type != "cpu" else []
    with explained(f"turning the weights into {dtype} on {model.device}", ways=ways):
        model.to(DTYPES[dtype])
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NasAlignError(
                    f"{dtype} cannot hold all of {name}; choose bfloat16 or float32."
                )
    return rounding


def card_path(target: Path, form: Form) -> Path:
    """The card: in the folder, or beside the GGUF file."""
    return target.with_suffix(".md") if form in GGUF else target / FILE


def files_in(place: Path, target: Path) -> dict[str, Path]:
    """The files of a folder that is going to be moved to the target, by their names."""
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    return {name: target / name for name in names}


@contextmanager
def all_or_nothing(*targets: Path) -> Iterator[Path]:
    """Yield a folder in which to make the targets, each by its name; they are moved at the end."""
    try:
        with beside(*targets) as workplace:
            yield workplace
    except Exception as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        # The tokenizers library raises a bare Exception where the system refuses to write.
        bare = type(cause) is Exception and "os error" in str(cause)
        if not (isinstance(cause, OSError | SafetensorError) or bare):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        raise NasAlignError(
            f"The export cannot be written to {targets[0]}: {reason}; nothing was left there."
        ) from error
