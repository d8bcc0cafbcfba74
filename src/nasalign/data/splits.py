"""The probed and the evaluated questions: split by subject, and no question in both."""

import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nasalign.config import ContextMode, SplitChoice
from nasalign.data.reading import Dropped
from nasalign.data.records import BinaryExample, Question, Record, place_name, split_of
from nasalign.data.sources import Loaded
from nasalign.errors import DataError


@dataclass(frozen=True)
class Splits:
    """Two data sets, or one of which each subject is in one split."""

    name: str  # of the evaluated data
    test: list[Record]  # evaluated
    pool: list[Question]  # whose answers may serve as wrong ones in the evaluation
    probing_name: str  # of the probed data
    probing: Sequence[Record]  # probed: questions, or labelled rows that are tuned on as they are
    probing_pool: list[Question]  # as ``pool``, for the probed ones
    probing_data: Sequence[Record]  # all splits of what is probed
    part: str  # which subjects of the data are evaluated: "all" or a split
    used: list[Record] = field(default_factory=list)  # probed or tuned on: never evaluated
    same: bool = False  # whether the probed data are the evaluated ones
    named: bool = False  # whether it is a named data set, and not a file that is called like one
    left_out: Dropped = field(default_factory=Dropped)  # not evaluated, because they are used
    shown: list[Record] = field(default_factory=list)  # to be few-shot examples: never evaluated

    @property
    def sentence(self) -> str:
        """A sentence on what is probed and what is evaluated."""
        which = "whole" if self.part == "all" else f"{self.part} split"
        does = f"Probed are {len(self.probing):,} questions"
        if self.labelled:
            does = f"Tuned on are {len(self.probing):,} labelled rows"
        return (
            f"{does} of {self.probing_name}; evaluated are {len(self.test):,} of {self.name} "
            f"({which})."
        )

    @property
    def of_development(self) -> list[Record]:
        """The development split of what is probed, on which settings are chosen."""
        every = self.probing_data
        return [one for one in every if split_of(one.subject or one.question) == "development"]

    @property
    def labelled(self) -> list[BinaryExample]:
        """The labelled rows that are tuned on; none where questions are probed."""
        return [one for one in self.probing if isinstance(one, BinaryExample)]

    @classmethod
    def of(
        cls, data: Loaded, probing: Loaded, split: SplitChoice = "auto", *, probed: bool = True
    ) -> "Splits":
        """Split by subject, and evaluate no question that is probed, whatever file it is in.

        With ``auto``, data of the paper are evaluated whole and others on their test split. Where
        the probed data has no short-answer question, its labelled rows are split likewise; beside
        questions, yes/no examples are all evaluated. Without ``probed``, nothing is probed. Raise
        DataError where nothing is left to evaluate.
        """
        same = data.origin == probing.origin or (data.source and data.source is probing.source)
        same = probed and bool(same or data.records == probing.records)
        whole = data.source is not None and data.source.whole and not same
        part = split if split != "auto" else "all" if whole else "test"
        if same and part == "all":
            raise DataError(
                f"{data.name} is probed, so it cannot be evaluated whole; take split=test, or "
                "other data with --probing-data."
            )
        pool = probing.questions
        own: Sequence[Record] = pool or labelled_rows(probing.records)
        asked = [one for one in own if split_of(one.subject or one.question) == "probing"]
        used = asked if probed else []
        records = labelled_rows(data.records) if same and not pool else data.records
        always = not same or bool(pool)  # yes/no examples that are not tuned on
        chosen = [
            record
            for record in records
            if (always and isinstance(record, BinaryExample))
            or part in ("all", split_of(record.subject or record.question))
        ]
        test, left_out = unseen(data.name, chosen, used)
        test = _of_other_subjects(data.name, test, used, left_out)
        return cls(
            name=data.name,
            test=test,
            pool=data.questions,
            probing_name=probing.name,
            probing=asked,
            probing_pool=pool,
            probing_data=own,
            part=part,
            used=used,
            same=same,
            left_out=left_out,
            named=data.source is not None,
        )

    def holding_out(self, count: int, seed: int) -> "Splits":
        """Return splits with records of the evaluated data to show as ``count`` few-shot examples.

        They are of the development split where only the test split is evaluated, so that the
        evaluated questions are the same without examples; else they are taken out of what is
        evaluated, with all others of their subjects. Raise DataError where there are too few.
        """
        free: list[Record] = []
        if self.part == "test":
            used = _by_words(self.used)
            spare = (one for one in self.pool if split_of(one.subject) == "development")
            free = [one for one in spare if not _asked_in(one, used)]
        shown = _to_show(free, count, seed) or _to_show(self.test, count, seed)
        if not shown:
            raise DataError(
                f"{self.name} has too few questions to show {count} examples, half of them with "
                "the answer Yes; set shots lower, or give more rows."
            )
        subjects, by_words = {_subject_of(one) for one in shown}, _by_words(shown)
        test, left_out = [], self.left_out.copy()
        for record in self.test:
            if _subject_of(record) in subjects or _asked_in(record, by_words):
                left_out.add("it is for the few-shot examples", place_name(record))
            else:
                test.append(record)
        if not test:
            raise DataError(f"Of {self.name} nothing is left to evaluate beside the shots.")
        return replace(self, test=test, shown=shown, left_out=left_out)


def labelled_rows(records: Sequence[Record]) -> list[BinaryExample]:
    """Return the yes/no examples that have a label, each with a subject to be split by.

    That is the question, unless the data names another. Where few questions are asked about many
    contexts ("Does the passage support the claim?"), it is everything that the row shows.
    """
    rows = [one for one in records if isinstance(one, BinaryExample) and one.label is not None]
    if len({one.about for one in rows}) * 10 > len(rows):
        return rows
    return [one if one.subject else replace(one, subject=one.shown) for one in rows]


def _to_show(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """Records of different subjects to make ``count`` examples of, or none if they do not suffice.

    Questions are twice as many as needed, since a wrong answer cannot be made to each.
    """
    order = random.Random(f"{seed}/shots").sample(list(records), len(records))
    by_subject = list({_subject_of(one): one for one in order}.values())
    questions: list[Record] = [one for one in by_subject if isinstance(one, Question)]
    if len(questions) >= count:
        return questions[: 2 * count]
    given = [one for one in by_subject if isinstance(one, BinaryExample)]
    each = -(-count // 2)
    right, wrong = ([one for one in given if one.label is label] for label in (True, False))
    return [*right[:each], *wrong[:each]] if min(len(right), len(wrong)) >= each else []


def _subject_of(record: Record) -> str:
    named = isinstance(record, Question) or record.subject
    return record.about if named else _plain(record.question)


def _of_other_subjects(
    name: str, records: Sequence[Record], used: Sequence[Record], left_out: Dropped
) -> list[Record]:
    """Records without the yes/no examples of a subject that is probed; these are counted."""
    probed = {one.about for one in used}
    kept = []
    for record in records:
        if isinstance(record, BinaryExample) and record.subject and record.about in probed:
            left_out.add("its subject is probed", place_name(record))
        else:
            kept.append(record)
    if records and not kept:
        raise DataError(f"Of {name} nothing is left to evaluate: all of its subjects are probed.")
    return kept


def unseen(
    name: str,
    records: Sequence[Record],
    used: Sequence[Record],
    why: str = "it is probed or tuned on",
) -> tuple[list[Record], Dropped]:
    """Return the records that ask none of the used questions, and count the others.

    The question decides, not its file. Two questions of the same words differ if both have a
    context, and neither the contexts nor the subjects are the same. Raise DataError if nothing is
    left; ``name`` and ``why`` are for messages.
    """
    by_words, kept, left_out = _by_words(used), [], Dropped()
    for record in records:
        if _asked_in(record, by_words):
            left_out.add(why, place_name(record))
        else:
            kept.append(record)
    if left_out.counts and not kept:
        raise DataError(
            f"Of {name} nothing is left to evaluate: of every question, {why}. Give other data, or "
            "other probing data with --probing-data."
        )
    return kept, left_out


def _by_words(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the words of their question, for ``_asked_in``."""
    found: dict[str, list[Record]] = {}
    for one in records:
        found.setdefault(_plain(one.question), []).append(one)
    return found


def _asked_in(record: Record, by_words: Mapping[str, Sequence[Record]]) -> bool:
    """Whether one of the records asks the same as another one."""
    return any(_same(record, one) for one in by_words.get(_plain(record.question), ()))


def _same(record: Record, used: Record) -> bool:
    """Whether a record of the same words asks the same."""
    if not record.context or not used.context:
        return True
    mine = [record.context, record.answer]
    mine += _marks_of(record)
    shared = {_plain(text) for text in mine if text} & {
        _plain(text) for text in (used.context, *_marks_of(used)) if text
    }
    # Without a subject of its own, the question is the subject, and says nothing more.
    return bool(shared - {_plain(record.question)})


def _marks_of(record: Record) -> list[str | None]:
    return [record.brief if isinstance(record, Question) else None, record.subject]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def with_context(
    records: Sequence[Record], mode: ContextMode, fits: Callable[[Question], bool] | None = None
) -> tuple[list[Record], ContextMode]:
    """Return records with the context that a mode gives them, and the mode that was taken.

    The mode ``"fit"`` means all of it if every question fits the model then, else the supporting
    part, for all questions alike. Without ``fits``, only supporting parts fit.
    """
    if mode == "fit":
        long = [one for one in records if isinstance(one, Question) and one.brief]
        mode = "supporting" if long and not (fits and all(map(fits, long))) else "all"
    given = list(records)
    for place, one in enumerate(records):
        if mode == "none":
            given[place] = replace(one, context=None)
        elif mode == "supporting" and isinstance(one, Question) and one.brief:
            given[place] = replace(one, context=one.brief)
    return given, mode
