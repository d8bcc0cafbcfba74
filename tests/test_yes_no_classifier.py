"""The classifier: scikit-learn's own checks, its tools, and the same figures as ``score``."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import check_estimator

import nasalign
import tiny
from cases import DENIES, case
from nasalign.data.feature_rows import examples_of, positive_class
from nasalign.data.records import BinaryExample
from nasalign.errors import InputError, ModelError, NasAlignError
from nasalign.evaluation.platt import fit_platt
from nasalign.evaluation.ranking import log_odds
from nasalign.yes_no_classifier import YesNoClassifier, _parts

CITIES = ("Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo")
QUESTIONS = [f"Is {city} the capital of {land}?" for city in CITIES for land in ("France", "Japan")]
LABELS = [place % 3 == 0 for place in range(len(QUESTIONS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("tiny") / "llama"))


@pytest.fixture
def classifier(folder: str) -> YesNoClassifier:
    return YesNoClassifier(folder, device="cpu")


def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that are loaded from now on."""
    import nasalign.yes_no_classifier as module

    names, load = [], module.load

    def noting(name: str, **how: Any) -> Any:
        names.append(name)
        return load(name, **how)

    monkeypatch.setattr(module, "load", noting)
    return names


class OfNumbers(YesNoClassifier):
    """Writes a row of numbers as one text, as the checks have rows of any number of cells."""

    def fit(self, X: Any, y: Any) -> OfNumbers:  # noqa: N803
        super().fit(_as_texts(X), y)
        return self

    def decision_function(self, X: Any) -> Any:  # noqa: N803
        return super().decision_function(_as_texts(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = False
        return tags


OF_NO_USE = {
    "check_classifiers_classes": "its labels one and two say neither Yes nor No without pos_label"
}


@pytest.mark.long
def test_scikit_learns_own_checks(folder: str) -> None:
    # One text a batch: the sums of a batch then are the same in any company.
    settings = nasalign.load_preset().replace({"batch_size": 1})
    estimator = OfNumbers(folder, settings=settings, device="cpu", dtype="float32")
    found = check_estimator(estimator, on_fail=None, expected_failed_checks=OF_NO_USE)
    failed = {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"}
    passed = sum(one["status"] == "passed" for one in found)
    assert failed == {}
    assert passed > 30


def _as_texts(rows: Any) -> Any:
    if hasattr(rows, "toarray"):
        return rows
    return [" ".join(f"{cell:.3g}" for cell in np.ravel(row)) for row in np.asarray(rows)]


def test_the_checks_that_take_no_rows(classifier: YesNoClassifier) -> None:
    tags = classifier.__sklearn_tags__()
    assert tags.input_tags.string
    assert not tags.classifier_tags.multi_class
    with pytest.raises(NotFittedError):
        classifier.predict(["Is it?"])
    assert "_loaded" not in vars(classifier)  # nothing was loaded for that


def test_figures_are_those_of_score(folder: str, classifier: YesNoClassifier) -> None:
    classifier.fit(QUESTIONS, LABELS)
    model, tokenizer = nasalign.load(folder, device="cpu")
    examples = [BinaryExample(one, label=None) for one in QUESTIONS]
    scores = nasalign.score(model, tokenizer, examples, record=False)
    import torch

    odds = log_odds(scores.p_positive, scores.p_negative)
    scaling = fit_platt(torch.from_numpy(odds), LABELS)
    assert (classifier.slope_, classifier.offset_) == (scaling.slope, scaling.offset)
    expected = 1 / (1 + np.exp(-(scaling.slope * odds + scaling.offset)))
    found = classifier.predict_proba(QUESTIONS)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (classifier.predict(QUESTIONS) == (expected > 0.5)).all()
    assert 0 <= classifier.score(QUESTIONS, LABELS) <= 1


@pytest.mark.parametrize(
    ("classes", "positive"), [(("No", "Yes"), "Yes"), (("Ja", "Nein"), "Ja"), ((0, 1), 1)]
)
def test_classes_of_any_order(folder: str, classes: tuple[Any, Any], positive: Any) -> None:
    negative = next(one for one in classes if one != positive)
    y = [positive if label else negative for label in LABELS]
    shared = YesNoClassifier(folder, device="cpu")
    found = clone(shared).fit(QUESTIONS, y)
    truth = clone(shared).fit(QUESTIONS, LABELS)
    assert found.classes_.tolist() == list(classes)
    column = list(classes).index(positive)
    probabilities = found.predict_proba(QUESTIONS)[:, column]
    np.testing.assert_array_equal(probabilities, truth.predict_proba(QUESTIONS)[:, 1])
    assert set(found.predict(QUESTIONS)) <= set(classes)
    assert ((found.predict(QUESTIONS) == positive) == truth.predict(QUESTIONS)).all()


def test_rows_of_every_form_are_the_same_examples() -> None:
    plain = [("What is it?", "Paris", "A city."), ("Who?", "Rome", "Another.")]
    columns = ["Question", "answer", "context"]
    forms = [
        plain,
        [list(row) for row in plain],
        np.array(plain, dtype=object),
        pandas.DataFrame(plain, columns=columns),
        [dict(zip(columns, row, strict=True)) for row in plain],
    ]
    for form in forms:
        found = examples_of(form)
        assert [(one.question, one.answer, one.context) for one in found] == plain
    texts = pandas.Series(["Is it?", "Was it?"], index=[7, 3])
    assert [one.question for one in examples_of(texts)] == ["Is it?", "Was it?"]
    kept = BinaryExample("Is it?", label=True)
    assert examples_of([kept]) == [kept]
    named = examples_of([{"claim": "It is."}], ("claim",))
    assert named[0].fields == (("claim", "It is."),)
    assert named[0].question == "It is."


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("Is it?", "put it in a list"),
        ([], "X is empty"),
        (["Is it?", float("nan")], "X, row 2 has no text in 'question'"),
        ([("a", "b", "c", "d")], "X, row 1 has 4 cells"),
        ([{"qestion": "Is it?"}], "Did you mean 'question'"),
        (["half \ud800"], "half a character"),
    ],
)
def test_rows_that_do_not_fit(rows: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        examples_of(rows)
    assert isinstance(raised.value, NasAlignError)


def test_labels_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    names = loads(monkeypatch)
    classifier = YesNoClassifier("no-such-model")
    for y, sentence in (
        ([True, True], "one class"),
        (["a", "b"], "pos_label"),
        ([True], "inconsistent"),
        (None, "requires y"),
    ):
        with pytest.raises(InputError, match=sentence):
            classifier.fit(["Is it?", "Was it?"], y)
    with pytest.raises(InputError, match="Only binary classification"):
        classifier.fit(["a?", "b?", "c?"], [1, 2, 3])
    with pytest.raises(InputError, match=r"method is 'naas'.*Did you mean"):
        YesNoClassifier("no-such-model", method="naas").fit(["a?", "b?"], [1, 0])  # type: ignore[arg-type]
    assert names == []  # all of it is said before a model is loaded
    assert positive_class(np.array(["spam", "ham"]), "ham") == 1
    with pytest.raises(InputError, match="pos_label is 'eggs'"):
        positive_class(np.array(["ham", "spam"]), "eggs")


def test_a_model_in_memory_needs_its_tokenizer() -> None:
    with pytest.raises(InputError, match="tokenizer"):
        YesNoClassifier(tiny.build_model("llama", layers=1)).fit(["a?", "b?"], [1, 0])


def test_cross_validation_loads_the_model_once(
    classifier: YesNoClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = loads(monkeypatch)
    scores = cross_val_score(classifier, QUESTIONS, LABELS, cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert len(names) == 1


def test_scikit_learns_tools(classifier: YesNoClassifier) -> None:
    upper = FunctionTransformer(lambda rows: [row.upper() for row in rows])
    pipeline = make_pipeline(upper, classifier).fit(QUESTIONS, LABELS)
    direct = clone(classifier).fit([one.upper() for one in QUESTIONS], LABELS)
    np.testing.assert_array_equal(
        pipeline.predict_proba(QUESTIONS), direct.predict_proba([one.upper() for one in QUESTIONS])
    )
    calibrated = CalibratedClassifierCV(clone(classifier), cv=2).fit(QUESTIONS, LABELS)
    assert calibrated.predict_proba(QUESTIONS).shape == (len(QUESTIONS), 2)
    settings = [nasalign.load_preset().replace({"instruction": name}) for name in ("A", "B")]
    search = GridSearchCV(clone(classifier), {"settings": settings}, cv=2, error_score="raise")
    search.fit(pandas.DataFrame({"question": QUESTIONS}), LABELS)
    assert search.best_params_["settings"] in settings


def test_a_pickle_holds_the_name_and_not_the_model(
    classifier: YesNoClassifier, folder: str, tmp_path: Path
) -> None:
    classifier.fit(QUESTIONS, LABELS)
    data = pickle.dumps(classifier)
    assert len(data) < 20_000
    restored = pickle.loads(data)
    np.testing.assert_array_equal(
        restored.predict_proba(QUESTIONS), classifier.predict_proba(QUESTIONS)
    )
    again = pickle.loads(data)
    again.model = str(tiny.save(tmp_path / "another", seed=1))
    with pytest.raises(ModelError, match="fit it again"):
        again.predict(QUESTIONS)


@pytest.fixture(scope="module")
def denied(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, list[tuple[str, str]], list[bool]]:
    """A tiny model that denies its own answers, and labelled rows that it is wrong about."""
    model, data = case(tmp_path_factory.mktemp("denies"), DENIES, questions=60)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    pairs = [(row["question"], row[key]) for row in rows for key in ("answer", "wrong_answer")]
    return str(model), pairs, [True, False] * len(rows)


QUICK = {"k": 8, "n": 2, "epochs": 1, "learning_rate": 1e-3}


def test_heads_are_tuned_and_the_model_stays_untouched(
    denied: tuple[str, list[tuple[str, str]], list[bool]],
) -> None:
    name, rows, labels = denied
    model, tokenizer = nasalign.load(name, device="cpu")
    before = tiny.state(model)
    settings = nasalign.load_preset().replace(QUICK)
    found = YesNoClassifier(model, tokenizer, method="nasa", settings=settings).fit(rows, labels)
    assert tiny.same(before, model)
    assert found.adapter_ is not None
    assert found.heads_
    plain = YesNoClassifier(model, tokenizer, settings=settings).fit(rows, labels)
    plain.slope_, plain.offset_ = found.slope_, found.offset_
    with found.adapter_.on(model):
        expected = plain.decision_function(rows)
    np.testing.assert_array_equal(found.decision_function(rows), expected)
    assert not np.array_equal(plain.decision_function(rows), expected)
    assert tiny.same(before, model)
    named = YesNoClassifier(name, device="cpu", method="nasa", settings=settings).fit(rows, labels)
    restored = pickle.loads(pickle.dumps(named))
    np.testing.assert_array_equal(restored.predict_proba(rows), named.predict_proba(rows))
    np.testing.assert_array_equal(named.decision_function(rows), expected)


def test_no_subject_is_both_tuned_on_and_calibrated_on() -> None:
    examples = [BinaryExample(f"What is {n // 2}?", None, str(n)) for n in range(40)]
    labels = np.array([True, False] * 20)
    tuned, held_back = _parts(examples, labels, 0)
    assert sorted(tuned + held_back) == list(range(40))
    about = [{examples[at].about for at in side} for side in (tuned, held_back)]
    assert not about[0] & about[1]
    assert 5 <= len(held_back) <= 15
    assert 0 < labels[held_back].sum() < len(held_back)
    with pytest.raises(InputError, match="at least 4 rows of each class"):
        _parts(examples[:6], labels[:6], 0)


def test_nothing_to_fix_is_a_warning(folder: str) -> None:
    """Of a model that says Yes to everything, no lean to No can be corrected."""
    model, tokenizer = nasalign.load(folder, device="cpu")
    rows = [(question, answer) for question in QUESTIONS for answer in CITIES]
    examples = [BinaryExample(question, None, answer) for question, answer in rows]
    scores = nasalign.score(model, tokenizer, examples, record=False)
    assert set(scores.verdicts) == {"positive"}
    labels = [place % 2 == 0 for place in range(len(rows))]
    settings = nasalign.load_preset().replace(QUICK | {"direction": "negative"})
    classifier = YesNoClassifier(model, tokenizer, method="nasa", settings=settings)
    with pytest.warns(UserWarning, match="No head was tuned"):
        classifier.fit(rows, labels)
    assert classifier.adapter_ is None
    assert classifier.heads_ == []
    assert classifier.predict_proba(rows).shape == (len(rows), 2)
