"""The embedded facts: every question has one right answer, and wrong answers exist."""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "src" / "nasalign" / "data"
ARTICLES = {"a", "an", "the"}
# Symbols that read as a yes/no answer would be mistaken for the verdict.
ANSWER_WORDS = {"yes", "no", "true", "false", "correct", "wrong"}


def read_table(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def normalise(text: str) -> str:
    """Fold case and diacritics; drop punctuation and articles."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    words = re.sub(r"[^\w]+", " ", re.sub("['\u2019.]", "", plain)).split()
    return " ".join(word for word in words if word not in ARTICLES)


def split_aliases(row: dict[str, str]) -> list[str]:
    return row["aliases"].split("|") if row["aliases"] else []


@pytest.fixture(scope="module")
def facts() -> list[dict[str, str]]:
    return read_table("facts.csv")


@pytest.fixture(scope="module")
def questions() -> dict[str, str]:
    return {row["relation"]: row["question"] for row in read_table("relations.csv")}


@pytest.fixture(scope="module")
def names(facts) -> dict[str, dict[str, set[str]]]:
    """Relation -> object -> the normalised object and its aliases."""
    table: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in facts:
        spellings = [row["object"], *split_aliases(row)]
        table[row["relation"]][row["object"]].update(map(normalise, spellings))
    return table


@pytest.mark.parametrize("name", ["facts.csv", "relations.csv", "sources.csv"])
def test_files_are_utf8_with_unix_line_ends(name):
    raw = (DATA / name).read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    assert unicodedata.is_normalized("NFC", raw.decode("utf-8"))


def test_the_tables_have_their_columns_and_well_known_facts(facts, questions):
    assert list(facts[0]) == ["relation", "subject", "object", "aliases"]
    assert list(read_table("relations.csv")[0]) == ["relation", "question", "direct", "statement"]
    assert len(facts) >= 1800
    assert len(questions) >= 16
    found = {(row["relation"], row["subject"]): row["object"] for row in facts}
    assert found["capital", "France"] == "Paris"
    assert found["chemical_symbol", "gold"] == "Au"
    assert found["atomic_number", "carbon"] == "6"
    assert found["book_author", "Macbeth"] == "William Shakespeare"
    assert found["past_tense", "go"] == "went"


def test_fields_are_clean(facts):
    for row in facts:
        assert None not in row, row
        assert None not in row.values(), row
        fields = [row["relation"], row["subject"], row["object"], *split_aliases(row)]
        for field in fields:
            assert field, row
            assert field == " ".join(field.split()), row
            assert normalise(field) not in {"", *ANSWER_WORDS}, row
        assert "|" not in row["object"], row
        assert len(set(fields[2:])) == len(fields[2:]), f"an alias twice: {row}"


def test_rows_are_sorted_and_unique(facts):
    keys = [(row["relation"], row["subject"]) for row in facts]
    assert keys == sorted(set(keys))


def test_a_subject_is_spelt_one_way(facts):
    """Splits are by the subject's string: 'Netherlands' beside 'the Netherlands' would leak."""
    spellings = defaultdict(set)
    for row in facts:
        spellings[normalise(row["subject"])].add(row["subject"])
    assert [sorted(group) for group in spellings.values() if len(group) > 1] == []


def test_every_relation_has_one_question(facts, questions):
    assert len(read_table("relations.csv")) == len(questions), "a relation has two questions"
    assert set(questions) == {row["relation"] for row in facts}
    for relation, question in questions.items():
        assert question.count("{subject}") == 1, relation
        assert set(re.findall(r"\{.*?\}", question)) == {"{subject}"}, relation
        assert question.endswith("?"), relation
        assert question.count("?") == 1, relation
        assert question == " ".join(question.split()), relation
        assert question[0].isupper(), relation


def test_no_question_gives_its_answer_away(facts, questions):
    for row in facts:
        assert "?" not in row["subject"], row  # a question has one question mark
        subject = normalise(row["subject"])
        question = normalise(questions[row["relation"]].format(subject=row["subject"]))
        answer = normalise(row["object"])
        assert f" {answer} " not in f" {question} ", row
        assert f" {subject} " not in f" {answer} ", row
        for alias in split_aliases(row):
            assert f" {normalise(alias)} " not in f" {subject} ", row


def test_every_relation_has_rows_and_wrong_answers(facts):
    objects = defaultdict(Counter)
    for row in facts:
        objects[row["relation"]][row["object"]] += 1
    for relation, counts in objects.items():
        assert counts.total() >= 15, relation
        assert len(counts) >= 5, relation
        assert max(counts.values()) <= counts.total() / 2, f"one object has most of {relation}"


def test_no_answer_is_another_or_stands_inside_it(names):
    """Neither an object nor an alias may be a part of another object or of its aliases."""
    for relation, objects in names.items():
        spellings = [(name, spelling) for name in objects for spelling in objects[name]]
        for inner_name, inner in spellings:
            for outer_name, outer in spellings:
                clash = inner_name != outer_name and f" {inner} " in f" {outer} "
                assert not clash, (relation, inner, inner_name, outer, outer_name)
