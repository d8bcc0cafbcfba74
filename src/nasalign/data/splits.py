"""Questions of a data set split by subject, and the yes/no examples drawn from the splits."""

from dataclasses import dataclass
from pathlib import Path

from nasalign.config import Settings
from nasalign.data.binary import sample, to_binary
from nasalign.data.qa import BinaryExample, Question, load_facts, load_file, split_of
from nasalign.errors import DataError


@dataclass(frozen=True)
class Splits:
    """Questions by split; no subject is in two of them."""

    name: str
    probing: list[Question]
    test: list[Question | BinaryExample]
    pool: list[Question]

    @classmethod
    def of(cls, data: str) -> "Splits":
        """Reads ``facts`` or a file and splits it by subject.

        Raises:
            DataError: there is no such data, or it is broken.
        """
        if data == "facts":
            return cls("facts", load_facts("probing"), list(load_facts("test")), load_facts())
        path = Path(data)
        if not path.suffix:
            raise DataError(f"There is no data {data!r}: it is neither facts nor a file.")
        records = load_file(path)
        questions = [record for record in records if isinstance(record, Question)]
        return cls(
            path.stem,
            [question for question in questions if split_of(question.subject) == "probing"],
            [
                record
                for record in records
                if isinstance(record, BinaryExample) or split_of(record.subject) == "test"
            ],
            questions,
        )

    def test_examples(self, settings: Settings) -> list[BinaryExample]:
        """Returns the test questions as yes/no examples."""
        chosen = sample(self.test, settings.evaluation_questions, settings.seed)
        return to_binary(chosen, settings.seed, self.pool)

    def shots(self, settings: Settings) -> list[BinaryExample]:
        """Returns the few-shot examples, of the probing split, right and wrong in turn."""
        chosen = sample(self.probing, -(-settings.shots // 2), settings.seed)
        return to_binary(chosen, settings.seed, self.pool)[: settings.shots]
