"""Every named data set is read alike from its authors' files and from the hub's layout."""

import socket
from pathlib import Path

import pytest

import upstream
from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import SOURCES, distinct, load_data
from nasalign.errors import DataError

EXPECTED = {
    "hotpotqa": ["Jane Austen", "James Joyce"],
    "strategyqa": [True, False],
    "musique": ["Danube", "Isar"],
    "gsm8k-rephrased": ["5", "5", "800", *(str(2 * number + 3) for number in range(5, 25))],
    "math-rephrased": ["\\frac{1}{6}", "2.5"],
    "gsm8k": ["12", "1,200"],
    "math": ["\\frac{1}{\\sqrt{36}}"],
    "ar-lsat": ["Londi", "Manley"],
}
DROPPED = {
    "hotpotqa": {"its answer is a literal yes or no": 1},
    "strategyqa": {},
    "musique": {"it is not answerable": 1},
    "gsm8k-rephrased": {"its type is not GSM_Rephrased": 3},
    "math-rephrased": {"its type is not MATH_Rephrased": 24},
    "gsm8k": {"no answer after ####": 1},
    "math": {"no answer in \\boxed{}": 1, "\\boxed{} is not closed": 1},
    "ar-lsat": {},
}
PARTS = {"strategyqa": 2, "math": 7, "ar-lsat": 3}  # splits and configurations of the hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_every_named_data_set_is_tested() -> None:
    assert set(SOURCES) == set(EXPECTED) == set(DROPPED) == set(upstream.FILES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_of_the_authors_is_read(name: str, tmp_path: Path) -> None:
    path = upstream.write(tmp_path, name)
    loaded = load_data(name, [path])
    labels = [
        getattr(one, "label", None) if name == "strategyqa" else one.answer
        for one in loaded.records
    ]
    assert labels == EXPECTED[name]
    assert loaded.dropped.counts == DROPPED[name]
    assert loaded.origin == str(path)
    assert len({record.id for record in loaded.records} - {""}) == len(labels)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("name", SOURCES)
def test_the_hub_s_layout_gives_the_same(
    name: str, by_id: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id: ``datasets`` takes a folder of that name in place of the hub."""
    folder = upstream.write_hub(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    loaded = load_data(name) if by_id else load_data(name, [folder])
    source = SOURCES[name]
    assert loaded.origin == (f"{source.hub}@{source.revision}" if by_id else str(folder))
    parts = PARTS.get(name, 1)
    local = load_data(name, [upstream.write(tmp_path, name)]).records
    for mine, theirs in zip(loaded.records, local * parts, strict=True):
        assert (mine.question, mine.context) == (theirs.question, theirs.context)
        assert mine.answer == theirs.answer
        if isinstance(mine, Question) and isinstance(theirs, Question):
            assert (mine.aliases, mine.options) == (theirs.aliases, theirs.options)
            assert (mine.subject, mine.brief) == (theirs.subject, theirs.brief)
    assert loaded.dropped.counts == {key: parts * count for key, count in DROPPED[name].items()}


def test_a_hub_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def unreachable(*arguments: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub\nand so on")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    sentence = r"gsm8k cannot be read from openai/gsm8k/main/test: .*Couldn't reach.* --source FILE"
    with pytest.raises(DataError, match=sentence):
        load_data("gsm8k")


def test_a_pinned_revision_is_asked_for_unless_another_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[dict[str, object]] = []

    def remember(*arguments: object, **options: object) -> list[dict[str, str]]:
        asked.append({"arguments": arguments} | options)
        return upstream.FILES["gsm8k"]

    monkeypatch.setattr(datasets, "load_dataset", remember)
    load_data("gsm8k")
    assert asked[0]["arguments"] == ("openai/gsm8k", "main")
    assert (asked[0]["split"], asked[0]["streaming"]) == ("test", True)
    assert asked[0]["revision"] == "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
    load_data("gsm8k", revision="main")
    assert asked[1]["revision"] == "main"


def test_strategyqa_keeps_its_facts_and_musique_its_paragraphs(tmp_path: Path) -> None:
    ice, tea = load_data("strategyqa", [upstream.write(tmp_path, "strategyqa")]).records
    assert ice == BinaryExample("Is ice cold?", True, None, "Ice is frozen. Frozen is cold.", "a1")
    assert tea.context is None
    first = load_data("musique", [upstream.write(tmp_path, "musique")]).records[0]
    assert isinstance(first, Question)
    assert first.context == "[Title: Ulm] Ulm lies on it. [Title: Rome] Rome is old."
    assert first.brief == "[Title: Ulm] Ulm lies on it."
    assert (first.aliases, first.subject) == (("Donau",), "34")


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = upstream.write(tmp_path, "gsm8k")
    loaded = load_data("gsm8k", [path, path])
    assert [record.id for record in loaded.records] == ["gsm8k-1", "gsm8k-2", "gsm8k-4", "gsm8k-5"]
    twice = load_data("ar-lsat", [upstream.write(tmp_path, "ar-lsat")] * 2)
    assert len(twice.records) == 2
    assert twice.dropped.counts == {"its id is there already": 2}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("gsm8k", '{"question": "q"}', r"line 1 has no text in 'answer'"),
        ("gsm8k", '{"question": "q", "answer": "none"}', r"no question.*no answer after ####"),
        ("math", '{"problem": "", "solution": "x"}', r"line 1 has no text in 'problem'"),
        ("musique", '{"id": "a", "question": "q", "answer": "a"}', r"no list of objects in 'para"),
        ("strategyqa", '{"question": "q", "answer": "maybe"}', r"the answer 'maybe'; it must be"),
        (
            "ar-lsat",
            '{"passage": "p", "questions": [{"question": "q", "options": ["x"], "answer": "B"}]}',
            r"answer 'B', which is none of its options",
        ),
        (
            "ar-lsat",
            '{"context": "p", "question": "q", "answers": ["x"], "label": 4}',
            r"its label names no option",
        ),
    ],
)
def test_what_is_broken_is_named(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        load_data(name, [path])


def test_other_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data 'hotpot': .* facts, hotpotqa, strategyqa"):
        load_data("hotpot")
    with pytest.raises(DataError, match="source is for a named data set, not for 'facts'"):
        load_data("facts", [tmp_path])
    assert len(load_data("facts").records) > 2000


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y", "x.before"], ["x", "y", "x.before"]),
        (["x", "x", "x"], ["x", "x-1", "x-2"]),
        (["x", "x-2", "x"], ["x", "x-2", "x-3"]),
        (["x", "x-1", "x", "x", "x-1"], ["x", "x-1", "x-2", "x-3", "x-1-4"]),
        (["x", "X", "\u212a", "k"], ["x", "X-1", "\u212a", "k-3"]),  # the sign of Kelvin is a K
        (["caf\u00e9", "cafe\u0301", "CAFE\u0301"], ["caf\u00e9", "cafe\u0301-1", "CAFE\u0301-2"]),
        (["stra\u00dfe", "STRASSE"], ["stra\u00dfe", "STRASSE-1"]),
        (["a:b", "a?b", "a_b", "a\\b"], ["a:b", "a?b-1", "a_b-2", "a\\b-3"]),
    ],
)
def test_no_name_is_given_twice_on_any_disk(names: list[str], expected: list[str]) -> None:
    assert distinct(names) == expected
