"""Groups of options that several commands share."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nasalign.config import Preset
from nasalign.data.file_format import FileFormat

DATA_HELP = (
    "facts; hotpotqa, strategyqa, musique, gsm8k-rephrased, math-rephrased, gsm8k, math, ar-lsat; "
    "or your own: a .jsonl, .json, .csv, .tsv or .parquet file, a folder of datasets, or "
    "OWNER/NAME on the hub."
)
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id, a local folder, a GGUF file, or the alias smollm2-135m; a hub id or a "
        "folder may be a LoRA adapter, which is merged into its base model.",
        show_default=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; all else goes to standard error.")
]
AdapterOf = Annotated[
    Path | None, typer.Option("--adapter", help="A run directory, or an adapter folder.")
]
Further = Annotated[
    list[str] | None,
    typer.Option(
        "--eval", metavar="NAME|FILE", help="Further data to evaluate on; may be repeated."
    ),
]
Track = Annotated[
    Literal["trackio", "wandb"] | None,
    typer.Option(
        metavar="TOOL",  # a longer one leaves no room for long options on 60 columns
        help="Also log metrics and charts with trackio, which keeps them here, or with wandb, "
        "which sends them to your account unless WANDB_MODE is offline; it has to be installed.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume a run that was interrupted.")]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="[NAME=]FILE",
        help="Read a named data set from a local file in its upstream layout, or from a folder in "
        "the hub's layout, in place of the hub; may be repeated.",
    ),
]
Generator = Annotated[
    str | None,
    typer.Option(
        metavar="WHO", help="Who writes wrong answers: rules, self, or openai:MODEL (Table 13)."
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        metavar="WHO", help="Who judges free answers: match, self, or openai:MODEL (Table 15)."
    ),
]
MaxCalls = Annotated[int | None, typer.Option(help="Calls of an endpoint at most.")]
Limit = Annotated[int | None, typer.Option(help="Questions to take at most.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OURS=YOURS,...",
        help="Which column of your file is which, such as question=claim,context=evidence; "
        "context= says that there is none. May be repeated.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="YES/NO",
        help="What means Yes and what means No in your file, such as SUPPORTS/REFUTES or "
        "Y|T/N|F; a third value is neither. none: no answer is a verdict.",
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Rows of one value of this column stay in one split."),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Stop at the first row that does not fit, not leave it out."),
]
HarnessOut = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Also write the same examples there as a task of lm_eval."),
]


@dataclass(frozen=True)
class DataOptions:
    """What a model is asked, by whom wrong answers are written, and who judges."""

    data: Annotated[str, typer.Option(metavar="NAME|FILE", help=DATA_HELP)] = "facts"
    probing_data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What is asked to find what the model knows; --data unless given. To evaluate, "
            "few-shot examples are from there.",
        ),
    ] = None
    source: Source = None
    judge: Judge = None
    generator: Generator = None
    max_calls: MaxCalls = None
    limit: Limit = None
    columns: Columns = None
    labels: Labels = None
    group_by: GroupBy = None
    strict: Strict = False

    @property
    def file_format(self) -> FileFormat:
        """How your own files are to be read; DataError if an option does not have its form."""
        return FileFormat.of(self.columns or (), self.labels, self.group_by, self.strict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings among the options; None where one was not given."""
        return {
            "judge": self.judge,
            "generator": self.generator,
            "max_calls": self.max_calls,
            "evaluation_questions": self.limit,
        }


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded."""

    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1 or mps; the best there is unless given. auto spreads a model "
            "over all devices."
        ),
    ] = None
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; by the device unless given.")
    ] = None
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="BITS",
            help="8bit or 4bit: frozen weights by bitsandbytes; query and key projections stay in "
            "the dtype.",
        ),
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")
    ] = False


@dataclass(frozen=True)
class SettingOptions:
    """Settings from a preset, from a file, and one by one; the prompt is among them."""

    preset: Annotated[
        Preset | None,
        typer.Option(
            help="fast: counts for a laptop, a learning rate that is found; paper: the paper's. "
            "fast unless given."
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of settings, on top of the preset if that is given too, else of the "
            "paper's."
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated."),
    ] = None
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your own prompt: a text with placeholders such as {question} and {context}, or a "
            "TOML or JSON file with user, system and words.",
        ),
    ] = None
    words: Annotated[
        str | None,
        typer.Option(
            metavar="YES/NO",
            help="The answer words, such as Ja/Nein or Yes|True/No|False; a third one is for not "
            "being sure.",
        ),
    ] = None


@dataclass(frozen=True)
class OutOptions:
    """Where a run is written."""

    out: Annotated[
        Path | None,
        typer.Option(help="The run directory; diagnose and evaluate write none unless given."),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Use a run directory again.")] = (
        False
    )


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: each field of such a dataclass becomes an option."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = parameter.annotation
        parameters += [
            inspect.Parameter(
                part.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=part.default,
                annotation=part.type,
            )
            for part in fields(parameter.annotation)
        ]

    def call(**given: Any) -> None:
        packed = {
            name: group(**{part.name: given.pop(part.name) for part in fields(group)})
            for name, group in groups.items()
        }
        function(**given, **packed)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def run_folder(model: str, end: str = "") -> Path:
    """The run directory unless --out names one; a model such as ``..`` does not lead out of it."""
    return Path("runs") / f"{Path(model).name.strip('.') or 'model'}{end}"
