"""What a job probes and what it evaluates: questions split by subject, never one in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nasalign.config import ContextMode, SplitChoice
from nasalign.data.qa import BinaryExample, Question, Record, split_of
from nasalign.data.sources import SOURCES, Loaded
from nasalign.errors import DataError


@dataclass(frozen=True)
class Splits:
    """Two data sets, or one of which each subject is in one split.

    Attributes:
        name: of the evaluated data.
        test: the evaluated records.
        pool: questions whose answers may serve as wrong ones in the evaluation.
        probing_name: of the probed data.
        probing: the probed questions.
        probing_pool: as ``pool``, for the probed ones.
        part: which subjects of the data are evaluated: ``all`` or a split.
    """

    name: str
    test: list[Record]
    pool: list[Question]
    probing_name: str
    probing: list[Question]
    probing_pool: list[Question]
    part: str

    @property
    def sentence(self) -> str:
        """What is probed and what is evaluated."""
        which = "whole" if self.part == "all" else f"{self.part} split"
        return (
            f"Probed are {len(self.probing):,} questions of {self.probing_name}; evaluated are "
            f"{len(self.test):,} of {self.name} ({which})."
        )

    @classmethod
    def of(
        cls, data: Loaded, probing: Loaded, split: SplitChoice = "auto", *, probed: bool = True
    ) -> "Splits":
        """Splits by subject where data and probing data are the same.

        With ``auto``, data of the paper are evaluated whole and others on their test split; yes/no
        examples, which are never probed, always are evaluated whole.

        Args:
            data: what is evaluated.
            probing: what is probed; may be the same.
            split: which subjects of the data are evaluated.
            probed: whether anything is probed or shown as an example at all.

        Raises:
            DataError: all of the data would be evaluated, and some of it is probed.
        """
        same = data.name == probing.name if data.name in SOURCES else data.origin == probing.origin
        same = same and probed
        whole = data.name in SOURCES and SOURCES[data.name].whole and not same
        part = split if split != "auto" else "all" if whole else "test"
        if same and part == "all":
            raise DataError(
                f"{data.name} is probed, so it cannot be evaluated whole; take split=test, or "
                "other data with --probing-data."
            )
        pool, probing_pool = data.questions, probing.questions
        return cls(
            data.name,
            [record for record in data.records if _belongs(record, part)],
            pool,
            probing.name,
            [question for question in probing_pool if split_of(question.subject) == "probing"],
            probing_pool,
            part,
        )


def with_context(
    records: Sequence[Record], mode: ContextMode, fits: Callable[[Question], bool] | None = None
) -> tuple[list[Record], ContextMode]:
    """Returns records with the context that a mode gives them, and the mode that was taken.

    Args:
        records: questions and yes/no examples.
        mode: ``"all"``, ``"supporting"``, ``"none"``, or ``"fit"``: all if every question fits the
            model with all of it, else the supporting part, for all questions alike.
        fits: says whether a question fits the model; without a model, only supporting parts do.
    """
    if mode == "fit":
        long = [one for one in records if isinstance(one, Question) and one.brief]
        mode = "supporting" if long and not (fits and all(map(fits, long))) else "all"
    if mode == "none":
        return [replace(record, context=None) for record in records], mode
    if mode == "supporting":
        return [
            replace(one, context=one.brief) if isinstance(one, Question) and one.brief else one
            for one in records
        ], mode
    return list(records), mode


def _belongs(record: Record, part: str) -> bool:
    return isinstance(record, BinaryExample) or part in ("all", split_of(record.subject))
