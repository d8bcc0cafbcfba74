"""Settings of a run: defaults of the paper, presets, TOML files and key=value."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from nasalign.errors import NasAlignError, did_you_mean, shortened

Decoder = Literal["logits", "generate"]
KeyScope = Literal["group", "none"]
Balance = Literal["one", "both"]
ContextMode = Literal["fit", "all", "supporting", "none"]
SplitChoice = Literal["auto", "test", "development", "all"]
Method = Literal["nasa", "nasa+"]
Selection = Literal["nas", "attribution"]
Kinds = Literal["usual", "all", "known"]
Direction = Literal["auto", "negative", "positive"]
Halting = Literal["tau", "balance"]
Cancellation = Literal["head or model", "model"]
NasRows = Literal["after_instruction", "from_instruction_end"]
Scenario = Literal["plain", "context", "unsure", "cot", "negated"]

# An integer of more than 18 digits is no setting anybody means, and TOML has none.
Count = Annotated[int, Field(gt=0, lt=2**63)]
Amount = Annotated[int, Field(ge=0, lt=2**63)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e30)]  # beyond, AdamW itself overflows
Minutes = Annotated[float, Field(gt=0, lt=1e6)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
Writer = Annotated[str, Field(pattern=r"^(rules|self|openai:\S+)$")]
Examiner = Annotated[str, Field(pattern=r"^(match|self|openai:\S+)$")]
Date = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
Endpoint = Annotated[str, Field(pattern=r"^openai:\S+$")]

Preset = Literal["fast", "paper"]
DEFAULT_PRESET: Preset = "fast"
"""What every model takes unless the user gives another preset, or a file."""


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    ),
)
class Settings:
    """Everything that decides the figures of a run; the defaults are the paper's (Section 5.1).

    A settings file or ``--set key=value`` overrides them by name. The text under each setting is
    its explanation in ``configs/*.toml`` and docs/settings.md (``docs/make_settings.py``).

    Raises:
        NasAlignError: there is no setting of a name, or a value has the wrong type or is out of
            range.
    """

    # Prompts
    vocabulary: str = "yes/no"
    """Answer words: or "true/false", "correct/wrong" (Table 10), or your own: "Ja/Nein"."""
    instruction: str = "nasa"
    """Wording of Prompt I: or "A", "B" (Table 12)."""
    template: str | None = None
    """Your own prompt in place of Prompt I: a text with placeholders such as {question}."""
    system: str | None = None
    """System message of your own prompt, with placeholders or without."""
    date: Date | None = None
    """Date that a chat template is told, as "2026-01-31"; unset, that on which the run begins."""
    chat: bool | None = None
    """Whether to use the chat template; unset, where the tokenizer has one."""
    shots: Amount = 0
    """Held-out examples shown before each question, half of them with the answer Yes (Table 7)."""
    scenario: Scenario = "plain"
    """How it is asked: or with a "context", "unsure" (may not know), "cot" (reasons), "negated"."""
    # Data (Section 3.1.1, Appendix D)
    sides: Balance = "one"
    """A positive or a negative example a question; "both": one of each."""
    context: ContextMode = "fit"
    """Of MuSiQue "all" paragraphs if they fit, else the "supporting" ones; "none": no context."""
    split: SplitChoice = "auto"
    """Subjects: all of a data set of the paper, else "test"; or "test", "development", "all"."""
    data_revision: str | None = None
    """Commit of a data set on the hub; unset, a pinned one."""
    generator: Writer = "rules"
    """What writes wrong answers: or "self", or "openai:MODEL" (Table 13)."""
    judge: Examiner = "match"
    """What judges free answers: or "self", or "openai:MODEL" (Table 15)."""
    max_calls: Count | None = None
    """Calls of an endpoint at most."""
    concurrency: Count = 8
    """Calls of an endpoint under way at once."""
    # Probing set (Section 4.1)
    direction: Direction = "negative"
    """Bias to correct: towards No (the paper's), "positive" towards Yes, "auto" the larger one."""
    probing_questions: Count = 2000
    """Short-answer questions asked under Prompt II at most."""
    answer_tokens: Count = 24
    """Tokens of a short answer at most, of which the first line is taken (Appendix E)."""
    tuning_samples: Count = 1000
    """Size of the tuning set D at most."""
    validation_samples: Count = 100
    """Size of the validation set V at most, and a third of the denied."""
    balance_pairs: Count = 100
    """With halting=balance: held-back questions at most, asked with a right and a wrong answer."""
    min_true_positives: Count = 1
    """With halting=tau and fewer, tau is minus infinity; halting_share takes its place."""
    # Head selection (Eq. 2-4)
    k: Count | None = 100
    """Heads in each sample's list (Eq. 2); unset, 100 scaled down with the model's heads."""
    n: Count | None = 30
    """Heads to tune at most (Eq. 4); unset, 30 scaled down with the model's heads."""
    study_k: Count | None = 200
    """The same as k in the study of Table 2; unset, 200 scaled down."""
    study_n: Count | None = 100
    """The same as n in the study of Table 2; unset, 100 scaled down."""
    consistency: Share = 0.9
    """Share of the lists a head must be in (Eq. 3)."""
    nas_rows: NasRows = "after_instruction"
    """Rows that Eq. 1 adds up; "from_instruction_end": one more, that of its last token (L_I)."""
    # Algorithm 1 (Appendix F)
    learning_rate: Rate | Literal["auto"] = 1e-6
    """Highest rate of AdamW; "auto" finds it on the first head, as a share of its rows' size."""
    epochs: Count = 30
    """Epochs of one head at most."""
    tuning_batch_size: Count = 32
    """Samples a step."""
    rho: float = 0.5
    """Single head NAS below which a head is done."""
    warmup_ratio: Fraction = 0.03
    """Share of the steps over which the rate rises."""
    k_scope: KeyScope = "group"
    """Key rows that are tuned too: those of the head's group, or "none" (Table 19)."""
    cancellation: Cancellation = "head or model"
    """Whose NAS above its start in the end cancels a head; "model": its alone, after any epoch."""
    halting: Halting = "tau"
    """What ends tuning: model NAS on V below tau (Eq. 5); "balance": enough Yes to both answers."""
    halting_share: Share = 0.5
    """Without a tau, halt when the share of Yes exceeds this: of V, or of both answers."""
    line_search: bool = False
    """Whether an epoch that passes the halting point is shortened to where it is just passed."""
    # nasa+ (docs/study.md)
    method: Method = "nasa"
    """The paper's; "nasa+" tunes all heads together on right and wrong answers of several kinds."""
    selection: Selection = "attribution"
    """Of nasa+: heads by what their rows do to the answer; "nas": by Eq. 2-4."""
    kinds: Kinds = "usual"
    """Of samples of nasa+: five kinds; "all": nine; "known": known or your own alone."""
    joint_heads: Count | None = None
    """Heads that nasa+ tunes by attribution; unset, a tenth of all."""
    known_pairs: Count = 300
    """Pairs of a right and a wrong answer to known questions at most; of each other kind there are
    a half or fewer."""
    joint_outputs: bool = True
    """Whether nasa+ changes values and output projections of its heads, beside queries and keys."""
    joint_batch_size: Count = 8
    """Samples a step of nasa+."""
    joint_learning_rate: Rate | Literal["auto"] = "auto"
    """Highest rate of AdamW of nasa+; "auto" tries 0.003 and lower ones for an eighth of the
    steps."""
    joint_epochs: Count = 2
    """Epochs of nasa+."""
    centring: Weight = 0.1
    """Weight of the squared lean of each pair, which holds the share of Yes at one half."""
    kl_weight: Weight = 1.0
    """Weight of the divergence from the untouched model on its own free answers."""
    # Evaluation
    decoder: Decoder = "logits"
    """How a verdict is read: by probabilities, or "generate": off a text decoded greedily."""
    reasoning_tokens: Count = 256
    """Tokens of a chain of thought at most, in the scenario "cot"."""
    evaluation_questions: Count = 1000
    """Questions of a data set at most."""
    evaluation_sizes: dict[str, Count] = dataclasses.field(default_factory=dict, hash=False)
    """Questions at most of single data sets, by name; fewer than evaluation_questions."""
    study_questions: Count = 500
    """Questions of each domain in the studies of Tables 1, 2 and 9 at most."""
    free_answer_tokens: Count = 256
    """Tokens at most of the free answers of Tables 5 and 16 to 18; they may have many lines."""
    endpoint_model: Endpoint | None = None
    """Model of an endpoint that Figure 1 shows too, such as "openai:gpt-4"."""
    side_effect_questions: Amount = 200
    """Free questions asked before and after at most (Table 5); 0: none."""
    bootstrap_samples: Count = 2000
    """Resamples of a confidence interval."""
    # Everywhere
    budget_minutes: Minutes | Literal["auto"] | None = None
    """Minutes that align may take, to which its counts are lowered; "auto": 15 on a CPU."""
    batch_size: Count | None = None
    """Prompts a batch; unset, as many as fit a number of tokens."""
    replay_gib: Weight | None = None
    """GiB on the device for the activations of replay; unset, a quarter of what is free; then main
    memory, then a file."""
    reuse: bool = True
    """Whether answers and scores of the untouched model are read back from earlier runs."""
    seed: Seed = 0
    """Of everything that is drawn."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, values: Any, check: ModelWrapValidatorHandler["Settings"]) -> Any:
        try:
            return check(values)
        except ValidationError as error:
            raise _refusal(error, cls) from None

    def replace(self, changes: Mapping[str, Any]) -> "Settings":
        """Return a copy with some settings changed; ``"none"`` unsets one that can be unset.

        Raises:
            NasAlignError: a name is unknown, or a value has the wrong type or is out of range.
        """
        types = {field.name: field.type for field in dataclasses.fields(self)}
        # TOML, and so --set, has no null.
        unset = {name for name, value in changes.items() if value == "none"}
        nulls = {name: None for name in unset if type(None) in get_args(types.get(name))}
        return dataclasses.replace(self, **(dict(changes) | nulls))

    def size_of(self, data: str) -> int:
        """Return how many questions of a data set are evaluated at most."""
        cap = self.evaluation_questions
        return min(cap, self.evaluation_sizes.get(data, cap))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for ``run.json``."""
        return dataclasses.asdict(self)


def _refusal(error: ValidationError, kind: type[Settings]) -> NasAlignError:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # pydantic does not name what it cannot encode
        return NasAlignError("The name of a setting is not valid Unicode.")
    name, value = str(first["loc"][0]), first["input"]
    if first["type"] == "unexpected_keyword_argument":
        names = [field.name for field in dataclasses.fields(kind)]
        near = did_you_mean(name, names) or f" The settings are {', '.join(names)}."
        return NasAlignError(f"There is no setting {shortened(name)}.{near}")
    rule, near = first["msg"].replace("Input should", "must"), ""
    if name in ("learning_rate", "joint_learning_rate"):
        rule += ' or "auto"'
    if first["type"] == "literal_error":
        rule = f"must be one of {first['ctx']['expected']}"
        near = did_you_mean(str(value), re.findall(r"'([^']*)'", rule))
    if first["type"] == "string_pattern_mismatch":
        others = {"generator": "rules, self or ", "judge": "match, self or "}
        rule = f"must be {others.get(name, '')}openai:MODEL"
        rule = "must be as 2026-01-31" if name == "date" else rule
    return NasAlignError(f"The setting {name} is {_shown(value)}, but it {rule}.{near}")


def load_preset(name: str = DEFAULT_PRESET) -> Settings:
    """Return the settings of a preset in ``configs/``: ``"fast"``, or ``"paper"``."""
    return settings_from_file(_presets_folder() / f"{name}.toml")


def settings_from_file(path: Path, base: Settings | None = None) -> Settings:
    """Return ``base`` (the paper's defaults unless given) with a TOML file's settings on top.

    Raises:
        NasAlignError: the file cannot be read, is not TOML, or has a wrong setting.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasAlignError(f"Cannot read the settings file {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise NasAlignError(f"{path} is not valid TOML: it is nested too deep.") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise NasAlignError(f"{path} is not valid TOML: {_on_one_line(error)}.") from error
    try:
        return (base or Settings()).replace(values)
    except NasAlignError as error:
        raise NasAlignError(f"{path}: {error}") from error


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Parse ``key=value`` texts; a value is read as TOML, and as plain text if it is not TOML.

    Raises:
        NasAlignError: a text has no ``=``, or more than one line.
    """
    values = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise NasAlignError(f"--set takes key=value, not {shortened(assignment)}.")
        if "\n" in text:
            raise NasAlignError(f"--set takes one line, not {shortened(assignment)}.")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            values[name.strip()] = text.strip()
    return values


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _presets_folder() -> Path:
    """The folder of presets: inside an installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def _shown(value: object) -> str:
    """A value as messages name it; Python refuses to write out an int of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 18 digits"
    return shortened(value) if isinstance(value, str) else repr(value)[:200]
