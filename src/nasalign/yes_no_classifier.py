"""A language model's verdicts as a classifier of scikit-learn."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter
from nasalign.adapters.scaling import PlattScaling
from nasalign.alignment import align
from nasalign.config import Settings, load_preset
from nasalign.data.feature_rows import examples_of, labels_of_y
from nasalign.data.records import BinaryExample
from nasalign.errors import InputError, ModelError, NasAlignError, NothingToFixError, did_you_mean
from nasalign.evaluation.platt import fit_platt
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.scoring import score_as
from nasalign.models.loading import fingerprint, load
from nasalign.prompts.builder import template_of
from nasalign.session import Session

METHODS = ("none", "nasa", "nasa+")
FOLDS = 4
"""One of so many parts of the rows calibrates where the others are tuned on."""
Floats = NDArray[np.float64]


class YesNoClassifier(ClassifierMixin, BaseEstimator):
    """Answers yes/no questions by a causal language model, with calibrated probabilities.

    The score of a row is the model's log odds of Yes over No after the prompt. ``fit`` learns from
    labelled rows what to do with it: a slope and an offset (Platt, 1999) and, with ``method`` other
    than ``"none"``, first the query and key rows of the attention heads that lean to No.

    X is a sequence of rows. A row is a question; or question and answer, whose prompt asks whether
    that is the answer, and perhaps a context; or a mapping or a row of a data frame with the
    columns ``question``, ``answer``, ``context`` and those that a prompt template names; or a
    ``BinaryExample``. y holds two classes, such as True and False, ``"Yes"`` and ``"No"``, 1 and 0.

    A model that is given by name is loaded once and shared with the estimators that
    ``sklearn.base.clone`` makes; it is never left changed. A pickle holds the name, the calibration
    and the changed rows; a model that is given as an object is pickled whole.

    Args:
        model: a hub id, a local folder, a GGUF file, the alias ``smollm2-135m``, or a model in
            memory.
        tokenizer: of a model in memory; not with a name.
        method: ``"none"`` only calibrates; ``"nasa"`` and ``"nasa+"`` tune heads too, as
            ``nasalign.align`` does, on three quarters of the rows, and calibrate on the others.
        settings: of the prompt, of tuning and of batches; the preset ``fast`` unless given. The
            verdict is read by probabilities, whatever the decoder.
        pos_label: the class that means Yes. Unless given: True, the larger of two numbers, or a
            word for Yes.
        device: where a model that is named is loaded; the best there is unless given.
        dtype: in which it is loaded; by the device unless given.

    Attributes:
        classes_: the two classes, sorted, [2].
        slope_: factor of the log odds of Yes.
        offset_: what is added to it; ``slope_ * odds + offset_`` are the calibrated log odds.
        adapter_: the changed rows, or None.
        heads_: layer and head of those whose rows changed.
        settings_: the settings in use, with the date that a chat template is told.
        fingerprint_: of the untouched model.
    """

    def __init__(
        self,
        model: str | PreTrainedModel = "smollm2-135m",
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        method: Literal["none", "nasa", "nasa+"] = "none",
        settings: Settings | None = None,
        pos_label: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.method = method
        self.settings = settings
        self.pos_label = pos_label
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any) -> "YesNoClassifier":  # noqa: N803 - scikit-learn's name
        """Fit the calibration, and with a method other than ``"none"`` the heads before it.

        Args:
            X: N rows.
            y: their classes, [N].

        Returns:
            The estimator itself.

        Raises:
            InputError: a row or a label does not fit, or y has not two classes; a ValueError.
            NasAlignError: the model or a setting does not fit, or there are too few rows to tune.
        """
        settings = self._checked_settings()
        examples = examples_of(X, _placeholders(settings))
        labels, classes, positive = labels_of_y(y, len(examples), self.pos_label)
        self._restored = False  # whatever model an earlier fit was of
        model, tokenizer = self._loaded_model()
        session = Session.start(model, tokenizer, settings)  # fixes the date of the chat template
        self.classes_, self._positive = classes, positive
        self.settings_, self.fingerprint_ = session.settings, session.fingerprint
        self.adapter_: Adapter | None = None
        self.heads_: list[tuple[int, int]] = []
        held_back = list(range(len(examples)))
        if self.method != "none":
            tuned, held_back = _parts(examples, labels, settings.seed)
            examples = [
                replace(one, label=bool(of)) for one, of in zip(examples, labels, strict=True)
            ]
            self._tune(model, tokenizer, [examples[at] for at in tuned])
        odds = self._odds([examples[at] for at in held_back])
        scaling = _fitted(odds, labels[held_back])
        self.slope_, self.offset_ = scaling.slope, scaling.offset
        return self

    def decision_function(self, X: Any) -> Floats:  # noqa: N803
        """Return the calibrated log odds of the second class, ``classes_[1]``, [N] float64."""
        check_is_fitted(self)
        odds = self._odds(examples_of(X, _placeholders(self.settings_)))
        odds = self.slope_ * odds + self.offset_
        return odds if self._positive == 1 else -odds

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """Return the probability of each class in the order of ``classes_``, [N, 2] float64."""
        from scipy.special import expit

        odds = self.decision_function(X)
        return np.stack([expit(-odds), expit(odds)], axis=1)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the more probable class of each row, [N], of the type of ``classes_``."""
        second = self.decision_function(X) > 0  # before classes_, which fit makes
        return np.asarray(self.classes_[second.astype(int)])

    def _odds(self, examples: Sequence[BinaryExample]) -> Floats:
        """The log odds of Yes of the model, with the adapter if there is one, [N]."""
        model, tokenizer = self._loaded_model()
        if self.adapter_ is None:
            scores = score_as(model, tokenizer, examples, self.settings_, record=False)
        else:
            with self.adapter_.on(model):
                scores = score_as(model, tokenizer, examples, self.settings_, record=False)
        return log_odds(scores.p_positive, scores.p_negative)

    def _tune(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[BinaryExample],
    ) -> None:
        """Tune heads on labelled examples; the model is untouched again afterwards."""
        try:
            result = align(model, tokenizer, examples, self.settings_)
        except NothingToFixError as error:
            warnings.warn(f"No head was tuned. {error}", UserWarning, stacklevel=3)
            return
        result.adapter.revert(model)
        if result.adapter.after:
            self.adapter_, self.heads_ = result.adapter, result.kept

    def _checked_settings(self) -> Settings:
        """The settings with the method in them; NasAlignError before anything is loaded."""
        if self.method not in METHODS:
            near = did_you_mean(str(self.method), METHODS)
            raise InputError(f"method is {self.method!r}, not one of {', '.join(METHODS)}.{near}")
        settings = (self.settings or load_preset()).replace({"decoder": "logits"})
        return settings if self.method == "none" else settings.replace({"method": self.method})

    def _loaded_model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model and its tokenizer; one that is named is loaded when it is first needed."""
        if not isinstance(self.model, str):
            if self.tokenizer is None:
                raise InputError("A model in memory needs its tokenizer: give tokenizer too.")
            return self.model, self.tokenizer
        if self.tokenizer is not None:
            raise InputError("A model that is given by name brings its tokenizer; leave it out.")
        key, cell = (self.model, self.device, self.dtype), self._cell()
        if key not in cell:
            cell.clear()  # one model at a time is in memory
            cell[key] = load(self.model, device=self.device, dtype=self.dtype)
            self._check_same(cell[key][0])
        return cell[key]

    def _check_same(self, model: PreTrainedModel) -> None:
        """Refuse a model that was loaded again and is not the one that was fitted."""
        fitted = getattr(self, "fingerprint_", None)
        if getattr(self, "_restored", False) and fingerprint(model) != fitted:
            raise ModelError(
                f"{self.model} is not the model that the classifier was fitted with; fit it again."
            )

    def _cell(self) -> dict[Any, Any]:
        """Where the loaded model is; clones share it, so that it is loaded once."""
        return self.__dict__.setdefault("_loaded", {})

    def __sklearn_clone__(self) -> "YesNoClassifier":
        """Return an unfitted estimator of the same parameters that shares the model."""
        clone = type(self)(**self.get_params(deep=False))  # not a copy of the model
        clone.__dict__["_loaded"] = self._cell()
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: not a model that can be loaded by its name."""
        state = dict(super().__getstate__())
        state.pop("_loaded", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle; its model is compared with the fitted one when it is loaded."""
        super().__setstate__(state)
        self._restored = True

    def __sklearn_tags__(self) -> Tags:
        """Return what scikit-learn's checks and helpers are told: two classes, and text."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = True  # on numbers, which say nothing to the model
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.no_validation = True  # rows are texts, and no number of columns is held to
        return tags


def _placeholders(settings: Settings) -> tuple[str, ...]:
    """The columns that the user's own template names."""
    template = template_of(settings)
    return template.columns if template else ()


def _parts(
    examples: Sequence[BinaryExample], labels: NDArray[Any], seed: int
) -> tuple[list[int], list[int]]:
    """Rows to tune on and rows to calibrate on; rows about one subject are on one side."""
    least = min(int(labels.sum()), int((~labels).sum()))
    subjects = [one.about for one in examples]
    if least < FOLDS or len(set(subjects)) < FOLDS:
        raise InputError(
            f"To tune heads, at least {FOLDS} rows of each class are needed, about {FOLDS} "
            f"subjects; there are {least} of one class."
        )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for tuned, held_back in folds.split(subjects, labels, subjects):
        if 0 < labels[held_back].sum() < len(held_back):
            return tuned.tolist(), held_back.tolist()
    raise NasAlignError("No quarter of the rows holds both classes, so none can calibrate.")


def _fitted(odds: Floats, labels: NDArray[Any]) -> PlattScaling:
    """Platt's slope and offset."""
    from torch import from_numpy

    return fit_platt(from_numpy(odds), labels.tolist())
