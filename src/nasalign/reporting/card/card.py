"""The card of an exported model: ``README.md`` in the hub's format, from the run's plain files."""

import math
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from nasalign.adapters.activated import Activation
from nasalign.adapters.adapter_file import read_adapter
from nasalign.adapters.rank import vllm_text
from nasalign.adapters.rounding import Rounding
from nasalign.evaluation.metrics import METRICS
from nasalign.models.classes import loading_class
from nasalign.prompts.wordings import INSTRUCTIONS
from nasalign.reporting.card.base import Base
from nasalign.reporting.card.scores import ScoreFacts, score_texts
from nasalign.reporting.console_tables import reduction_rows, reduction_text, rounding_text
from nasalign.reporting.formats import (
    METRIC_NAMES,
    between,
    metric_name,
    rounded,
    signed,
    undefined,
    with_interval,
)
from nasalign.reporting.report.data_sets import DataSet, data_sets
from nasalign.reporting.report.origin import (
    command_line,
    further_origins,
    limits,
    public,
    published,
)
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.story import run_verdict
from nasalign.reporting.report.tables import calibration_rows, effect_rows
from nasalign.run_file import as_written

FILE = "README.md"
Form = Literal["merged", "adapter", "gguf", "gguf-adapter", "cross-encoder", "classifier"]
SCORED: tuple[Form, ...] = ("cross-encoder", "classifier")
"""The forms that score texts: a probability comes out, not a text."""
ADAPTERS: tuple[Form, ...] = ("adapter", "gguf-adapter")
"""The forms that hold the change alone."""
GGUF: tuple[Form, ...] = ("gguf", "gguf-adapter")
"""The forms that are one file, with the card beside it."""
_CAUSAL = "AutoModelForCausalLM"
_TAGS: dict[str, tuple[str, ...]] = {"adapter": ("lora",), "gguf": ("gguf",)}
_TAGS |= {"gguf-adapter": ("gguf", "lora"), "cross-encoder": ("cross-encoder", "reranker")}
_LIBRARIES = {"adapter": "peft", "merged": "transformers", "classifier": "transformers"}
_LIBRARIES["cross-encoder"] = "sentence-transformers"
_TASKS = {"cross-encoder": "text-ranking", "classifier": "text-classification"}
_TEMPLATES = Path(__file__).parent / "templates"


class Markdown(str):
    """A text that is Markdown already; every other text is escaped."""


def model_card(
    run: Path | None,
    adapter: Path,
    form: Form,
    base: str,
    rounding: Rounding | None = None,
    name: str = "",
    scores: ScoreFacts | None = None,
    activation: Activation | None = None,
) -> str:
    """Return the card of an exported model.

    Args:
        run: the run directory, or None where there is only an adapter.
        adapter: the folder of the adapter.
        form: a whole checkpoint, the adapter alone, a GGUF file of either, or a form that scores
            texts.
        base: the name by which the base model is loaded.
        rounding: what is left of the change, where the checkpoint was rounded to another dtype.
        name: name of the GGUF file.
        scores: what a form that scores texts computes.
        activation: by what an adapter is activated, if it is.

    Raises:
        NasAlignError: a file of the run is broken, or nasalign did not write the adapter.
    """
    with as_written(run or adapter):
        files = public(RunFiles.read(run)) if run else None
        of = Base.of(base)
        title = f"{of.title.rpartition('/')[2]} aligned by nasalign"
        sets = data_sets(files) if files else []
        file = read_adapter(adapter)
        reduction = file.origin.lacking
        return _template().render(
            front=Markdown(_front_matter(files, of, form, title).to_yaml()),
            title=title,
            form=form,
            name=name,
            base=of,
            auto=loading_class(files.facts["model"]["architecture"]) if files else _CAUSAL,
            reduction=reduction_text(reduction) if reduction else "",
            reduced=reduction_rows(reduction) if reduction else [],
            rounding=rounding_text(rounding) if rounding else "",
            weights=file.changed_weights,
            vllm=vllm_text(file.rank) if form == "adapter" else "",
            files=files,
            verdict=run_verdict(files, sets) if files and sets and sets[0].changes else None,
            sets=[_figures(one, files) for one in sets if one.name in files.metrics]
            if files
            else [],
            effects=effect_rows(files.side_effects or {}) if files else [],
            command=Markdown(_command(files)) if files else None,
            limits=limits(files, sets) if files else [],
            scores=scores,
            activation=activation,
            said=list(score_texts(scores, form)) if scores else [],
            calibration=file.origin.calibration,
            errors=calibration_rows(files) if files else [],
            prompt=Markdown(_prompt(files)),
        )


def _template() -> Template:
    """The template, in which every text but Markdown is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"rounded": rounded, "with_interval": with_interval}
    environment.filters["code"] = lambda text: Markdown(repr(str(text)))
    environment.filters["word"] = lambda text: Markdown(shlex.quote(" ".join(text.split())))
    return environment.get_template("card.md.jinja")


def _front_matter(files: RunFiles | None, base: Base, form: Form, title: str) -> ModelCardData:
    """The metadata that the hub reads; text is quoted as YAML needs it."""
    probed = published(str(files.facts.get("probing_origin"))) if files else None
    bias = "positive-bias" if files and files.to_no else "negative-bias"
    return ModelCardData(
        base_model=base.hub or (base.into.hub if base.into else None),
        base_model_relation="adapter" if form in ADAPTERS else "finetune",
        library_name=_LIBRARIES.get(form),
        pipeline_tag=_TASKS.get(form, "text-generation"),
        datasets=[probed] if probed else None,
        tags=["nasalign", bias, "attention-heads", *_TAGS.get(form, ())],
        model_name=title,
        eval_results=_results(files) if files else None,
        license=base.license.get("license"),
        license_name=base.license.get("license_name"),
        license_link=base.license.get("license_link"),
    )


def _results(files: RunFiles) -> list[EvalResult] | None:
    """The figures after alignment, each with what it was before and its interval."""
    found, facts = [], files.facts
    read_from = further_origins(facts) | {facts.get("data"): facts.get("data_origin")}
    for name, sides in files.metrics.items():
        if "after" not in sides:
            continue
        after, before = sides["after"], sides.get("before", {})
        origin = str(read_from.get(name))
        other = "nasalign-facts" if origin == "embedded" else "local-file"  # unknown to the hub
        for metric in (name for name in METRICS if after.get(name) is not None):
            found.append(
                EvalResult(
                    task_type="text-generation",
                    task_name="yes/no questions",
                    dataset_type=published(origin) or other,
                    dataset_name=name,
                    dataset_split=_part(name, files),
                    metric_type=metric,
                    metric_name=METRIC_NAMES[metric],
                    metric_value=after[metric],
                    metric_args={
                        "before": before.get(metric),
                        "interval_95": list(after["intervals"][metric]),
                        "n": after["n"],
                        "decoder": files.settings.get("decoder"),
                    },
                )
            )
    return found or None


def _figures(data: DataSet, files: RunFiles) -> dict[str, Any]:
    """A table of a data set: each metric before, after, and its change."""
    sides = files.metrics[data.name]
    rows = []
    given = [metric for metric in METRICS if all(metric in side for side in sides.values())]
    for metric in given:
        cells = {"before": "", "after": "", "change": ""}
        for side, metrics in sides.items():
            value, bounds = metrics[metric], metrics["intervals"][metric]
            cells[side] = (
                undefined(metric, files.words) if value is None else with_interval(value, bounds)
            )
        if metric in data.changes:
            change, *bounds = data.changes[metric]
            cells["change"] = "-"
            if not math.isnan(change):
                cells["change"] = f"{signed(change)} ({between(bounds, sign=True)})"
        rows.append((metric_name(metric, files.words), *map(Markdown, cells.values())))
    return {"name": data.name, "part": _part(data.name, files), "n": data.n, "rows": rows}


def _part(name: str, files: RunFiles) -> str:
    """Which subjects of a data set were evaluated."""
    if name != files.facts.get("data"):
        return "all"  # further data, but for what is probed
    return str(files.facts.get("data_part") or files.settings.get("split", "auto"))


def _prompt(files: RunFiles | None) -> str:
    settings = files.settings if files else {}
    own = settings.get("template")
    if own:
        return "\n".join(filter(None, (settings.get("system"), own)))
    positive, negative = files.words if files else ("Yes", "No")
    wording = INSTRUCTIONS[settings.get("instruction", "nasa")]
    said = wording.format(positive=positive, negative=negative)
    return f"{said} Question: QUESTION Is the answer ANSWER? Answer:"


def _command(files: RunFiles) -> str:
    """A command that makes the run again, on one line."""
    words = [*shlex.split(command_line(files)), "--dtype", files.facts["model"]["dtype"]]
    return shlex.join(re.sub(r"\s+", " ", word) for word in words)


def _escaped(value: Any) -> Any:
    """Escape a text for Markdown, on one line; leave numbers and Markdown as they are."""
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~$!])", r"\\\1", text)
