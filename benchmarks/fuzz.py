"""Broken and hostile inputs for all that reads something: each is accepted, or refused in words.

Inputs are whole ones with parts changed by a seeded generator: values of another type, signs of
every script, bytes that are cut, doubled or flipped. An input counts as crashed if anything but a
``NasAlignError`` (or the ``Drop`` of one row) comes out of it, if it takes longer than a limit, or
if what comes out is wrong in itself, such as a prompt with a special token in the question.

    python benchmarks/fuzz.py --inputs 2000
"""

import json
import random
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from peft import PeftModel
from transformers.utils import logging

from common import finish, machine, parser, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import run_folder
import tiny
import upstream
from fuzz_files import FILES
from fuzz_templates import chat_templates, user_templates
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.config import Settings, parse_assignments, settings_from_file
from nasalign.data.binary import to_binary
from nasalign.data.final_answers import after_hashes, after_sentence, in_box
from nasalign.data.judge import matches, yes_or_no
from nasalign.data.numbers import vary_number
from nasalign.data.reading import Drop
from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import SOURCES, distinct, load_data
from nasalign.data.values import same_value
from nasalign.errors import NasAlignError
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.inference.verdicts import parse_final, parse_verdict
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint, load
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.wordings import INSTRUCTIONS, VOCABULARIES
from nasalign.reporting.report import write_report
from nasalign.run_file import check_same, read_run

LIMIT = 20.0
"""Seconds of computing that one input may take."""
PIECES = (
    "Yes", "No", "yes or no", "True", "Question:", "Answer: No", "####", "\\boxed{", "}", "{", "$",
    "\\frac{1}{2}", "\\frac47", "\\sqrt[3]{2}", "1,000", "12_5", "3rd", "1/0", "9^9^9", "((((", "=",
    "The answer is:", "<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>assistant\n", "[INST]",
    "{{ 7 * 7 }}", "{% for %}", "[red]", "[/]", "\x1b]0;x\x07", "\x00", "\ud800", "\udfff",
    "\u202e", "\u200b", "\ufeff", "e\u0301\u0301", "👩‍👩‍👧", "🇫🇷", "ß", "İ", "²", "٣", "௧",
    "Ⅷ", "﷽",
    "法国", "ไทย", "العربية", "\r\n", "\n", "\t", "\u2028", "\\", '"', "'", "`", "|", ";", ",",
    "=cmd()", "@x", "../../x", "/etc/x", "nan", "inf", "-0", "1e400", "0" * 50, "9" * 400,
    "a" * 300, "I don't know", "pi", "i", "(1,2]", "+-+-", "**", "--", " ", "", "9" * 5000,
)  # fmt: skip
NUMBERS = ("x", "y", "9", "500", "1/3", "0.7", "-1", "i", "\\pi", "0", "9" * 20, "1e9")
FORMS = (
    "(@)^{@}", "@^{@}", "(@)^{500}", "(@)^{1/3}", "(@+@)^{40}", "\\frac{@}{@}", "\\sqrt{@}",
    "\\sqrt[3]{@}", "(@+@)", "(@)(@)", "@-@", "@,@", "\\left(@\\right)!", "\\binom{@}{@}",
    "@+@+@+@+@+@", "(@,@)", "{@}", "@=@", "1/(@)",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3.5, float("nan"), float("inf"), 10**400, -(2**63), "", " ", "yes",
    "no", "A", "B", "ß", "E", [], {}, [[]], [None], ["a", 1], [{}],
    {"a": {}}, "|", "a|b|", [1.5, "x"],
)  # fmt: skip
TOML = (
    "seed = {}", "epochs = {}", "learning_rate = {}", "rho = {}", "judge = {}", "context = {}",
    "decoder = {}", "chat = {}", "k = {}", "centring = {}", "no_such = {}", "[table]", "a.b = {}",
    "seed = 1\nseed = {}", "{} = 1", "replay_gib = {}", "shots = {}", "vocabulary = {}",
)  # fmt: skip
LITERALS = (
    "1", "-1", "0", "1.5", "1e-6", "nan", "inf", "-inf", '"none"', "none", "true", '"x"', "[1]",
    "{a=1}", "1979-05-27", "0x10", "9" * 400, "9" * 5000, "[" * 3000, "'",
    '"""', "\x00", '"\\ud800"',
    "openai:m", '"openai:m"', "self", "1\nepochs = 2", "1_0", "yes/no", " ", "",
)  # fmt: skip


class Hung(BaseException):
    """An input took too long."""


@dataclass
class Outcome:
    """What became of the inputs of a target."""

    target: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    crashed: int = 0
    seconds: float = 0.0
    examples: dict[str, str] = field(default_factory=dict)


class Maker:
    """Makes inputs; everything is drawn from one seed."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)

    def text(self, most: int = 6) -> str:
        rng = self.rng
        parts = []
        for _ in range(rng.randint(0, most)):
            kind = rng.random()
            if kind < 0.6:
                parts.append(rng.choice(PIECES))
            elif kind < 0.8:
                parts.append("".join(chr(rng.randrange(32, 127)) for _ in range(rng.randint(1, 9))))
            else:
                parts.append(
                    "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(1, 4)))
                )
        return rng.choice(("", " ")).join(parts)

    def expression(self, depth: int) -> str:
        """LaTeX whose powers, roots, fractions and sums stand in each other."""
        if depth == 0 or self.rng.random() < 0.1:
            return self.rng.choice(NUMBERS)
        form = self.rng.choice(FORMS)
        while "@" in form:
            form = form.replace("@", self.expression(depth - 1), 1)
        return form[:1000]

    def value(self) -> Any:
        return self.text() if self.rng.random() < 0.5 else self.rng.choice(VALUES)

    def row(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """A row with some of its columns changed, at some depth."""
        changed = dict(whole)
        for name in list(changed):
            kind = self.rng.random()
            if kind < 0.12:
                changed[name] = self.value()
            elif kind < 0.16:
                del changed[name]
            elif isinstance(changed[name], list) and kind < 0.5:
                changed[name] = [
                    self.row(part) if isinstance(part, dict) else part for part in changed[name]
                ]
        if self.rng.random() < 0.05:
            changed[self.text()] = self.value()
        return changed

    def bytes(self, whole: bytes) -> bytes:
        """The bytes with a few cut, doubled, flipped or put in; often none."""
        data, rng = bytearray(whole), self.rng
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))):
            place = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0:
                del data[place : place + rng.choice((1, 4, 1000))]
            elif kind == 1:
                data[place:place] = data[place : place + 20]
            elif kind == 2 and place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 3:
                data[place:place] = rng.randbytes(rng.randint(1, 8))
            else:
                data[place:place] = rng.choice(PIECES).encode("utf-8", "surrogatepass")
        return bytes(data)


def user_file(suffix: str) -> Callable[[Maker, Path], None]:
    """A user's file, read and turned into yes/no rows."""
    whole = {
        "question": "What is 1 + 1?", "answer": "2", "context": "1 and 1.", "label": True,
        "wrong_answer": "3", "aliases": ["two"], "options": ["2", "3"], "subject": "sum", "id": "a",
    }  # fmt: skip

    def check(make: Maker, folder: Path) -> None:
        rows = []
        for number in range(make.rng.randint(0, 4)):
            row = {name: part for name, part in whole.items() if make.rng.random() < 0.6}
            row |= {"question": "What is 1 + 1?", "answer": "2"}
            rows.append(make.row(row | ({"id": f"a{number}"} if "id" in row else {})))
        if suffix == "csv":
            lines = [",".join(whole)]
            lines += [",".join(f'"{row.get(name, "")}"' for name in whole) for row in rows]
            data = "\n".join(lines).encode("utf-8", "surrogatepass")
        elif suffix == "json":
            data = json.dumps(rows).encode()
        else:
            data = "\n".join(map(json.dumps, rows)).encode()
        path = folder / f"rows.{suffix}"
        path.write_bytes(make.bytes(data))
        _converted(load_data(str(path)), rows if suffix != "csv" else None)

    return check


def published(name: str) -> Callable[[Maker, Path], None]:
    """A data set of the paper in its authors' layout."""

    def check(make: Maker, folder: Path) -> None:
        path = upstream.write(folder, name)
        text = path.read_text(encoding="utf-8")
        if make.rng.random() < 0.7:
            lines = path.suffix == ".jsonl"
            rows = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
            rows = [make.row(row) for row in rows]
            text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
            path.write_text(text, encoding="utf-8")
        else:
            path.write_bytes(make.bytes(text.encode()))
        _converted(load_data(name, [path]), None)

    return check


def _converted(loaded: Any, rows: list[Any] | None) -> None:
    """Makes yes/no examples; no record is lost without being counted."""
    if rows is not None:
        assert len(loaded.records) <= len(rows) + 1, "more records than rows"
    binary = to_binary(loaded.records, 0)
    dropped = sum(binary.dropped.counts.values())
    assert len(set(binary.origins)) + dropped == len(loaded.records), "a record was lost"
    for example in binary.examples:
        json.dumps(example.question, ensure_ascii=False).encode()


def prompt_locator() -> Callable[[Maker, Path], None]:
    """Prompts with anything in them; the located words are the instruction's."""
    tokenizers = {
        (style, chat): tiny.build_tokenizer(style=style, chat_template=chat)  # type: ignore[arg-type]
        for style in ("bytelevel", "metaspace")
        for chat in (True, False)
    }

    def check(make: Maker, folder: Path) -> None:
        rng = make.rng
        tokenizer = tokenizers[rng.choice(list(tokenizers))]
        builder = PromptBuilder(
            tokenizer,
            rng.choice(list(VOCABULARIES)),
            rng.choice(list(INSTRUCTIONS)),
            scenario=rng.choice(("plain", "unsure", "cot", "negated")),
        )
        long = make.text() * (300 if rng.random() < 0.02 else 1)
        example = BinaryExample(
            long, True, rng.choice((None, make.text())), rng.choice((None, make.text()))
        )
        plain = builder.binary(BinaryExample("What?", True, "this", "There."))
        prompt = builder.binary(example)
        words = builder.words
        for place, word in (
            (prompt.positive_position, words.positive),
            (prompt.negative_position, words.negative),
        ):
            said = tokenizer.decode([prompt.token_ids[place]]).strip()
            assert said, f"nothing located for {word!r}"
            assert word.startswith(said), f"{said!r} located for {word!r}"
        assert prompt.first_row == plain.first_row, "the instruction ends elsewhere"
        assert prompt.positive_position == plain.positive_position, "another Yes is located"
        assert prompt.answers == plain.answers, "the answers begin otherwise"
        marks = [[one for one in ids.token_ids if one < 4] for ids in (prompt, plain)]
        assert marks[0] == marks[1], "a special token in what somebody wrote"
        builder.parametric(Question(long, "x", make.text()), make.text() or "x")

    return check


def settings_file(make: Maker, folder: Path) -> None:
    """A TOML file of settings."""
    lines = [
        make.rng.choice(TOML).replace("{}", make.rng.choice(LITERALS))
        for _ in range(make.rng.randint(0, 3))
    ]
    path = folder / "settings.toml"
    path.write_bytes(make.bytes("\n".join(lines).encode("utf-8", "surrogatepass")))
    _sound(settings_from_file(path))


def settings_by_name(make: Maker, folder: Path) -> None:
    """``--set key=value``."""
    names = [*Settings().as_dict(), "no_such", make.text()]
    texts = []
    for _ in range(make.rng.randint(1, 3)):
        literal = make.rng.choice((make.rng.choice(LITERALS), make.text()))
        texts.append(f"{make.rng.choice(names)}{make.rng.choice(('=', ' = ', ''))}{literal}")
    given = parse_assignments(texts)
    assert len(given) == len({text.partition("=")[0].strip() for text in texts}), "one was lost"
    _sound(Settings().replace(given))


def _sound(settings: Settings) -> None:
    """Settings can be written, and what they decide can be begun."""
    json.dumps(settings.as_dict(), allow_nan=False)
    torch.Generator().manual_seed(settings.seed)
    random.Random(settings.seed)
    import numpy as np

    np.random.default_rng(settings.seed)


def values(make: Maker, folder: Path) -> None:
    """Are two answers the same? Each is the same as itself."""
    left, right = make.text(4), make.text(4)
    assert same_value(left, right) == same_value(right, left), "the order decides"
    assert same_value(left, left), "it is not the same as itself"
    matches(left, Question("?", right, options=(right, left) if make.rng.random() < 0.3 else ()))
    yes_or_no(left)


def expressions(make: Maker, folder: Path) -> None:
    """Are two expressions the same? They are compared soon, whatever they say."""
    left, right = make.expression(6), make.expression(6)
    start = time.process_time()
    assert same_value(left, right) == same_value(right, left), "the order decides"
    assert time.process_time() - start < 2, "it takes long to compare"


def numbers(make: Maker, folder: Path) -> None:
    """A number nearby."""
    vary_number(make.text(4), make.text(2), make.rng)


def final_answers(make: Maker, folder: Path) -> None:
    """The answer at the end of a solution."""
    solution = make.text(12)
    for take in (after_hashes, after_sentence, in_box):
        try:
            answer = take(solution)
            assert answer.strip(), "an empty answer"
            assert answer in solution, "another answer"
        except Drop:
            continue


def verdicts(make: Maker, folder: Path) -> None:
    """What a model said."""
    words = VOCABULARIES[make.rng.choice(list(VOCABULARIES))]
    text = make.text(10)
    for said in (
        parse_verdict(text, words),
        parse_verdict(text, replace(words, unsures=("I don't know",))),
        parse_final(text, words),
    ):
        assert said in ("positive", "negative", "unsure", "invalid")
    ended = f"{text}\nAnswer: {words.negative}\n"
    assert parse_final(ended, words) == "negative", "its last line is not read"


def adapters() -> Callable[[Maker, Path], None]:
    """A broken adapter; one that is taken leaves the model finite."""
    model = tiny.build_model("llama", layers=2)
    where = head_slices(HeadGeometry.of(model), 1, 2, "group")
    before = {one: read_weight_rows(model, one) for one in where}
    base = fingerprint(model)
    for one in where:
        write_rows(model, one, before[one] + 0.01)
    good = Adapter.between(before, model, base)
    good.revert(model)
    with tempfile.TemporaryDirectory() as scratch:
        good.save(Path(scratch), "tiny")
        whole = (Path(scratch) / "adapter_model.safetensors").read_bytes()
        config = (Path(scratch) / "adapter_config.json").read_bytes()
    header_size = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + header_size]), whole[8 + header_size :]

    def check(make: Maker, folder: Path) -> None:
        data = whole
        if make.rng.random() < 0.6:
            changed = json.loads(json.dumps(header))
            for name in list(changed):
                kind = make.rng.random()
                if kind < 0.15:
                    part = changed[name]
                    part[make.rng.choice(list(part))] = make.rng.choice(
                        (make.text(), [0, 1], [3, 4], "F32", "I64", "F16", [10**9, 10**9], None)
                    )
                elif kind < 0.2:
                    del changed[name]
                elif kind < 0.25:
                    changed[name.replace("layers.1", "layers.9") + make.text(1)] = changed.pop(name)
            text = json.dumps(changed).encode()
            tail = bytearray(body)
            for _ in range(make.rng.choice((0, 1, 3))):
                place = 4 * make.rng.randrange(len(tail) // 4)
                tail[place : place + 4] = make.rng.choice(
                    (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\x80\x3f")
                )
            data = len(text).to_bytes(8, "little") + text + bytes(tail)
        (folder / "adapter_model.safetensors").write_bytes(make.bytes(data))
        (folder / "adapter_config.json").write_bytes(config)
        adapter = load_adapter(folder, model)
        adapter.apply(model)
        finite = all(torch.isfinite(one).all() for one in model.parameters())
        adapter.revert(model)
        assert fingerprint(model) == base
        assert finite, "the model is no longer finite"

    return check


def adapter_configurations() -> Callable[[Maker, Path], None]:
    """A configuration that was changed: of what is taken, PEFT and nasalign make the same model."""
    ids = torch.arange(5, 25)[None]
    model = tiny.build_model("llama", layers=2)
    slices = [
        one for head in (0, 2) for one in head_slices(HeadGeometry.of(model), 1, head, "group")
    ]
    before = {one: read_weight_rows(model, one) for one in slices}
    base = fingerprint(model)
    for one in slices:
        write_rows(model, one, before[one] + 0.05)
    good = Adapter.between(before, model, base)
    good.revert(model)
    modules = sorted({one.module for one in slices})

    @torch.no_grad()
    def check(make: Maker, folder: Path) -> None:
        good.save(folder / "adapter", "tiny")
        path = folder / "adapter" / "adapter_config.json"
        content = json.loads(path.read_text())
        for name in make.rng.sample(sorted(content), make.rng.choice((0, 1, 1, 2))):
            pattern = {make.rng.choice(modules): make.rng.choice((-10, 1, 2, 16, 0.5, "x"))}
            values = (make.value(), pattern, make.rng.choice((True, 1, 2, 64, modules[:1])))
            content[name] = make.rng.choice(values)
        path.write_text(json.dumps(content))
        adapter = load_adapter(folder / "adapter", model)
        adapter.apply(model)
        ours = model(ids).logits
        adapter.revert(model)
        theirs = PeftModel.from_pretrained(tiny.build_model("llama", layers=2), folder / "adapter")
        apart = float((theirs(ids).logits - ours).abs().max())
        assert apart < 1e-4, f"PEFT is off by {apart:.2g} with {content}"

    return check


def names_of_data(make: Maker, folder: Path) -> None:
    """Data sets of any names: each keeps a name, and a file, of its own."""
    stems = ["x", "X", "x-1", "x-2", "é", "e\u0301", "a/b", "a:b", "CON", "facts", make.text(2)]
    given = [make.rng.choice(stems) for _ in range(make.rng.randint(0, 8))]
    found = distinct(given)
    assert len(found) == len(given), "a data set has no name"
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in found}
    assert len(folded) == len(found), f"two of {given} are called alike: {found}"


def run_json(make: Maker, folder: Path) -> None:
    """A ``run.json`` that was changed, read back and compared as on ``--resume``."""
    whole = json.loads((run_folder.make_run(folder / "run") / "run.json").read_text())
    whole |= {"digests": {"mine.csv": "0" * 64}}
    changed = dict(whole)
    for name in make.rng.sample(sorted(changed), make.rng.choice((0, 1, 1, 2))):
        if isinstance(changed[name], dict):
            changed[name] = make.row(changed[name])
        else:
            changed[name] = make.value()
    (folder / "run" / "run.json").write_bytes(make.bytes(json.dumps(changed).encode()))
    facts = read_run(folder / "run")
    check_same(folder / "run", facts, whole)


def run_files(make: Maker, folder: Path) -> None:
    """A run directory with one of its files broken, and its report."""
    run = run_folder.make_run(folder / "run")
    for path in make.rng.sample(sorted(path for path in run.rglob("*") if path.is_file()), 1):
        if path.suffix == ".json" and make.rng.random() < 0.6:
            content = json.loads(path.read_text())
            rows = content if isinstance(content, list) else [content]
            rows = [make.row(row) for row in rows]
            path.write_text(json.dumps(rows if isinstance(content, list) else rows[0]))
        elif path.suffix == ".jsonl" and make.rng.random() < 0.6:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            place = make.rng.randrange(len(rows))
            rows[place] = make.row(rows[place])
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_bytes(make.bytes(path.read_bytes()))
    write_report(run)


def gguf(make: Maker, folder: Path) -> None:
    """A GGUF file whose header is broken."""
    key = b"general.architecture"
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little")
    head += make.rng.choice((1, 2, 2**40)).to_bytes(8, "little") + len(key).to_bytes(8, "little")
    head += key + (8).to_bytes(4, "little") + (5).to_bytes(8, "little") + b"llama"
    (folder / "model.gguf").write_bytes(make.bytes(head))
    load(str(folder / "model.gguf"), device="cpu")


def configurations() -> Callable[[Maker, Path], None]:
    """A model's folder with other values, large ones too, in its ``config.json``."""
    model, tokenizer = tiny.build_model("qwen2"), tiny.build_tokenizer()

    def check(make: Maker, folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        for name in make.rng.sample(sorted(config), make.rng.randint(1, 2)):
            large = 10 ** make.rng.randint(3, 15) if make.rng.random() < 0.7 else make.value()
            config[name] = [large] if isinstance(config[name], list) else large
        path.write_text(json.dumps(config))
        start = time.process_time()
        try:
            load(str(folder), device="cpu")
        finally:
            assert time.process_time() - start < 5, f"it takes long: {config}"

    return check


def targets() -> dict[str, tuple[Callable[[Maker, Path], None], float]]:
    """Each target with the share of inputs that it gets; what is slow gets fewer."""
    found: dict[str, tuple[Callable[[Maker, Path], None], float]] = {
        f"a user's .{suffix}": (user_file(suffix), 1.0) for suffix in ("jsonl", "json", "csv")
    }
    found |= {name: (check, 1.0) for name, check in FILES.items()}
    found |= {name: (published(name), 0.5) for name in SOURCES}
    return found | {
        "prompts": (prompt_locator(), 1.0),
        "user's templates": (user_templates(), 1.0),
        "chat templates": (chat_templates(), 0.1),
        "settings file": (settings_file, 1.0),
        "--set": (settings_by_name, 1.0),
        "values": (values, 1.0),
        "expressions": (expressions, 1.0),
        "numbers": (numbers, 1.0),
        "final answers": (final_answers, 1.0),
        "verdicts": (verdicts, 1.0),
        "adapters": (adapters(), 0.25),
        "adapter configurations": (adapter_configurations(), 0.05),
        "names of data": (names_of_data, 1.0),
        "run.json": (run_json, 0.25),
        "run files": (run_files, 0.02),
        "GGUF headers": (gguf, 0.1),
        "configurations": (configurations(), 0.1),
    }


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises ``Hung`` in what takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hung(f"longer than {seconds:.0f} s")

    old = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def attack(target: str, check: Callable[[Maker, Path], None], inputs: int, seed: int) -> Outcome:
    """Gives a target its inputs."""
    outcome, start = Outcome(target), time.perf_counter()
    for number in range(inputs):
        make = Maker(f"{seed}/{target}/{number}")
        outcome.inputs += 1
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with limited(LIMIT):
                    check(make, Path(scratch))
                outcome.accepted += 1
            except (NasAlignError, Drop) as error:
                said = str(error)
                if said.strip() and "\n" not in said:
                    outcome.refused += 1
                else:
                    _crash(outcome, number, f"no sentence: {said[:80]!r}")
            except (Exception, Hung) as error:
                where = traceback.extract_tb(error.__traceback__)
                own = [one for one in where if "nasalign" in one.filename] or where
                place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
                _crash(outcome, number, f"{type(error).__name__} at {place}: {str(error)[:100]!r}")
    outcome.seconds = time.perf_counter() - start
    return outcome


def _crash(outcome: Outcome, number: int, what: str) -> None:
    outcome.crashed += 1
    key = what.split("'")[0]
    outcome.examples.setdefault(key, f"input {number}: {what}")


def run(inputs: int, seed: int = 0, only: str = "") -> list[Outcome]:
    """Attacks all targets, or those whose name holds a text."""
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    return [
        attack(name, check, max(1, round(inputs * share)), seed)
        for name, (check, share) in targets().items()
        if only in name
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--inputs", type=int, default=200, help="of a target whose share is 1")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="targets whose name holds this")
    asked = options.parse_args()
    torch.set_num_threads(1)
    outcomes = run(asked.inputs, asked.seed, asked.only)
    sums = Counter[str]()
    for one in outcomes:
        for name in ("inputs", "refused", "accepted", "crashed"):
            sums[name] += getattr(one, name)
    rows = [
        [one.target, one.inputs, one.refused, one.accepted, one.crashed, f"{one.seconds:.0f}"]
        for one in outcomes
    ]
    rows.append(["all", *(sums[name] for name in ("inputs", "refused", "accepted", "crashed")), ""])
    lines = table(["target", "inputs", "refused in words", "accepted", "crashed", "s"], rows)
    lines += [f"{one.target}: {what}" for one in outcomes for what in one.examples.values()]
    result = {"machine": machine("cpu"), "seed": asked.seed}
    finish(result | {"targets": [vars(one) for one in outcomes]}, lines, asked.json)
    sys.exit(1 if sums["crashed"] else 0)


if __name__ == "__main__":
    main()
