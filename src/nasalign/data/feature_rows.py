"""Yes/no examples from the rows of X and verdicts from y, as scikit-learn calls them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasalign.data.columns import plain_name
from nasalign.data.label_values import LabelValues, counted
from nasalign.data.reading import BrokenRow, Row
from nasalign.data.records import BinaryExample
from nasalign.errors import InputError, did_you_mean, shortened

CELLS = ("question", "answer", "context")
"""What the cells of a row without names are, in their order."""
_COLUMNS = (*CELLS, "subject", "id")


def examples_of(rows: Any, placeholders: Sequence[str] = ()) -> list[BinaryExample]:
    """Return the examples of the rows of X, in their order, without labels.

    A row is a text (the question), one to three cells (question, answer, context), a mapping or a
    row of a data frame with these columns and those that a prompt template names, or a
    ``BinaryExample``. Numbers are read as text.

    Args:
        rows: a sequence of N rows, a data frame, or an array of shape [N] or [N, 1 to 3].
        placeholders: columns that a prompt template names.

    Raises:
        InputError: X is no sequence of rows, is empty, or a row cannot be read; the sentence names
            the row, counted from 1.
    """
    if hasattr(rows, "toarray"):
        raise InputError("X is a sparse matrix; questions are texts, so give a list of them.")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InputError(
            f"X has to be a sequence of questions or rows, but it is one {type(rows).__name__}; "
            "put it in a list."
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a data frame
        rows = rows.to_dict("records")
    if isinstance(rows, np.ndarray) and rows.ndim == 0:
        raise InputError("X is a single value; put the question in a list.")
    examples = [_example(row, place, placeholders) for place, row in enumerate(rows, start=1)]
    if not examples:
        raise InputError("X is empty: 0 sample(s), while a minimum of 1 is required.")
    return examples


def _example(row: Any, place: int, placeholders: Sequence[str]) -> BinaryExample:
    """The example of one row of X."""
    if isinstance(row, BinaryExample):
        return row
    where = f"X, row {place}"
    if isinstance(row, Mapping):
        values = _by_name(row, where, placeholders)
    else:
        cells = list(row) if isinstance(row, list | tuple | np.ndarray) and np.ndim(row) else [row]
        if not 0 < len(cells) <= len(CELLS):
            raise InputError(
                f"{where} has {len(cells)} cells; a row is a question, or question and answer, or "
                "question, answer and context."
            )
        values = dict(zip(CELLS, cells, strict=False))
    try:
        return _read(Row(where, place, _plain(values)), placeholders)
    except BrokenRow as error:
        empty = " It may be empty, NaN or infinite." if "has no text" in str(error) else ""
        raise InputError(f"{error}{empty}") from error


def _by_name(row: Mapping[Any, Any], where: str, placeholders: Sequence[str]) -> dict[str, Any]:
    """The cells of a row by our names; ``Question`` and ``question`` are the same column."""
    plain = {plain_name(name): value for name, value in row.items()}
    known = {plain_name(name): name for name in (*_COLUMNS, *placeholders)}
    if not any(name in known for name in plain):
        found = ", ".join(shortened(str(name), 40) for name in row) or "none"
        near = next((hint for name in plain if (hint := did_you_mean(name, known))), "")
        raise InputError(f"{where} has no column {CELLS[0]!r}; its columns are {found}.{near}")
    return {ours: plain[name] for name, ours in known.items() if name in plain}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as Python's own numbers and texts, which is what ``Row`` reads."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }


def _read(row: Row, placeholders: Sequence[str]) -> BinaryExample:
    """The example of a row; without a question, what the template asks about stands for it."""
    fields = tuple(
        (name, row.passage(name) or row.text(name)) for name in placeholders if name not in CELLS
    )
    needs_context, needs_answer = "context" in placeholders, "answer" in placeholders
    context = row.passage("context") or (row.text("context") if needs_context else None)
    if row.has("question") or not placeholders or "question" in placeholders:
        question = row.text("question")
    else:
        question = " ".join(text for _, text in fields) or context or row.text("question")
    return BinaryExample(
        question,
        label=None,
        answer=row.text("answer") if needs_answer else row.optional_text("answer"),
        context=context,
        id=row.optional_text("id") or "",
        subject=row.optional_text("subject") or "",
        fields=fields,
        where=row.where,
    )


def positive_class(classes: NDArray[Any], given: Any = None) -> int:
    """Return which of two classes is the positive verdict: 0 or 1.

    Args:
        classes: the two classes, sorted, [2].
        given: the class that the user names; told from the classes if None. True, the larger number
            and a word for Yes, in the languages that data files may have, are positive.

    Raises:
        InputError: ``given`` is none of them, or their meaning is not known.
    """
    both = " and ".join(shortened(str(one), 40) for one in classes)
    if given is not None:
        if given not in classes.tolist():
            raise InputError(f"pos_label is {given!r}, but the classes in y are {both}.")
        return classes.tolist().index(given)
    if classes.dtype.kind in "biuf":  # also False and True
        return 1
    values = LabelValues("y", "y")
    counted(classes.tolist(), values)
    signs = [values.known.get(values.plain(one)) for one in classes.tolist()]
    if sorted(map(str, signs)) != ["no", "yes"]:
        raise InputError(
            f"Which of the classes {both} means Yes is not known; name it with pos_label."
        )
    return signs.index("yes")


def labels_of_y(y: Any, rows: int, pos_label: Any) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return the verdicts of y, True for Yes, [N]; its two classes, sorted; and which is Yes.

    Args:
        y: the class of each row, [N].
        rows: N, the number of rows.
        pos_label: the class that means Yes; told from the classes if None.

    Raises:
        InputError: y has not N labels of two classes, or which one means Yes is not known.
    """
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_consistent_length, column_or_1d

    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    try:
        y = column_or_1d(y, warn=True)
        check_consistent_length(range(rows), y)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        classes = np.unique(y)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error
    if len(classes) > 2 or kind.startswith("multi"):
        raise InputError(
            f"Only binary classification is supported. The type of the target is {kind}."
        )
    if len(classes) < 2:
        raise InputError(f"y has one class, {classes[0]!r}; rows of both classes are needed.")
    positive = positive_class(classes, pos_label)
    return y == classes[positive], classes, positive
