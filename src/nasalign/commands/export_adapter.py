"""The adapter alone: of PEFT or as a GGUF file, acting everywhere or activated by the prompt."""

from pathlib import Path

from transformers.utils import CONFIG_NAME

from nasalign.adapters.activated import Activation, activation_of, write_activated
from nasalign.adapters.adapter_file import read_adapter, write_adapter
from nasalign.adapters.rank import reduce_adapter
from nasalign.commands.converter import convert, find_converter
from nasalign.commands.export_files import Exported, all_or_nothing, card_path, files_in
from nasalign.commands.job import Job
from nasalign.commands.pairs import tried_facts
from nasalign.evaluation.both_models import BothModels
from nasalign.io.files import write_json
from nasalign.io.storage import write_text
from nasalign.reporting.card import FILE, Form, model_card
from nasalign.session import Session


def export_adapter(
    job: Job,
    run: Path | None,
    adapter: Path,
    target: Path,
    form: Form,
    rank: int | None,
    activated: bool,
) -> Exported:
    """Write an adapter anew from what was read and checked, or reduces it to a rank.

    The base model is loaded where tokens activate the adapter, which is tried out, and for a GGUF
    file, whose converter reads the model's configuration.
    """
    converter, card = find_converter(form), card_path(target, form)
    session = job.session() if converter or activated else None
    with all_or_nothing(target, *[card] * bool(converter)) as workplace:
        place = workplace / target.name
        folder = workplace / "adapter" if converter else place
        if rank:
            reduce_adapter(adapter, folder, rank, job.model)
        else:
            file = read_adapter(adapter)
            write_adapter(folder, file.changes, file.origin, job.model)
        made = read_adapter(folder)
        activation = activation_in(session, folder) if session and activated else None
        text = model_card(run, folder, form, job.model, name=target.name, activation=activation)
        if activation:
            # llama.cpp's server lets an adapter act from the token before the sequence on, and
            # takes what that token left in its cache for the next prompt, whatever it is.
            first = 1 if converter and len(activation.tokens) > 1 else 0
            write_activated(folder, made.changes, activation.tokens[first:], made.base_model)
        write_text(card_path(place, form), text)
        if converter and session:
            base = workplace / "base"
            base.mkdir()
            config = session.model.config.to_dict()
            config["architectures"] = [type(session.model).__name__]
            write_json(base / CONFIG_NAME, config)
            convert(converter, folder, place, "f32", ["--base", str(base)])
        files = {target.name: target, FILE: card} if converter else files_in(place, target)
    lacking = made.origin.lacking
    return Exported(target, "float32", files, None, lacking, rank=made.rank, activation=activation)


def activation_in(session: Session, folder: Path) -> Activation:
    """Return how an adapter is activated by the prompt of a session, tried on embedded facts."""
    asked, builder, tried = BothModels(session, None), session.builder(), tried_facts()
    filled = [dict(zip(asked.columns, (one.question, one.answer), strict=False)) for one in tried]
    for place, one in enumerate(filled):  # a context, or a further placeholder: not in all
        further = asked.columns[2:]
        if further and (place % 2 or session.settings.template):
            one |= dict.fromkeys(further, tried[place - 1].answer)
    prompts = [builder.binary(asked.example(one)) for one in filled]
    return activation_of(session.model, folder, builder, prompts, tried[0])
