"""The classifier: labels in, probabilities of classes out."""

from __future__ import annotations

from numbers import Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from liftlearn._columns import learn_column
from liftlearn._corpus import Corpus
from liftlearn._decoder import LabelDecoder
from liftlearn._distribution import sample_index
from liftlearn._encoder import RowEncoder
from liftlearn._estimators._base import (
    ESTIMATORS,
    LIFT,
    check_coverage,
    conformal_quantile,
    is_default,
)
from liftlearn._estimators._parts import LabelsDecoder
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import TASKS, LanguageModel
from liftlearn._rules import Part, is_auto, is_read_in_context
from liftlearn._validation import (
    HasMethods,
    Interval,
    StrOptions,
    check_number,
    check_sample_weight,
    check_target,
    checks_table,
    unchecked,
    weights_in_proportion,
)


class LIFTClassifier(ClassifierMixin, LIFT):
    """Classify the rows of a table with a fine-tuned causal language model.

    Each row is written as a sentence, the model is fine-tuned to answer with the row's
    class, and the probability of each class is read from the model [1]_.

    Parameters
    ----------
    model : str, PathLike or None, default=None
        The causal language model: a name on the Hugging Face hub or a folder. None is
        one of the two embedded models, pretrained on synthetic tables: a small table
        is read in context, in a second, and others are learnt by fine-tuning.
    encoder : RowEncoder, default=None
        Writes rows as sentences. None is ``RowEncoder()``.
    finetuner : FineTuner, default=None
        Fine-tunes the model. None is ``FineTuner()``.
    decoder : LabelDecoder, default=None
        Chooses the classes' words and reads their probabilities. None is
        ``LabelDecoder()``.
    n_shots : int, "all" or "auto", default="auto"
        How many labelled training rows are shown before each question (in-context
        learning), as far as the model reads. ``"all"`` are as many as there are and
        fit. ``"auto"`` is the model's preference, and 0 for a model without one. With
        ``FineTuner(n_epochs=0)`` nothing else is learnt. 0 also keeps an embedded model
        from reading a small table instead of learning it.
    shots : {"random", "balanced", "nearest"}, default="random"
        Which ones: drawn by their weights, the same for all questions; drawn equally
        often from each class; or for each question the nearest by
        Gower's distance. Each is shown once.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class, which multiplies the rows' weights. ``"balanced"`` gives
        all classes the same sum. None gives all of them 1.
    device : str, default=None
        Where to run, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there is
        one.
    dtype : {"auto", "float32", "bfloat16", "float16", "int8", "nf4"}, default="auto"
        What the model's weights are kept in. ``"auto"`` is float32 up to 300 million
        weights; larger ones stay in 16 bits, if their files and the device have these.
        ``"int8"`` and ``"nf4"``, 4 bits, quantize its linear layers.
    random_state : int, RandomState instance or None, default=None
        Draws the rows' order and wording. An int makes fits repeatable.
    verbose : int, default=0
        Above 0 the first row's sentence is printed, and one progress bar shown for the
        whole fit; not in joblib's workers.
    warm_start : bool, default=False
        Whether `fit` goes on from what the last one tuned: all members, whose columns
        and targets may have been others. Encoder and decoder are learnt anew. A first
        fit is as without, but tunes on small tables, too, unless `n_shots` is set.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The distinct labels, sorted.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns seen in `fit`, where all of them are strings.
    model_ : str, PathLike or None
        The model that training began with, as `model` names one; ``"liftlearn:reader"``
        is the embedded model that reads tables.
    encoder_, finetuner_, decoder_
        The fitted parts; ``finetuner_.history_`` tells how training went.
    language_model_ : LanguageModel or Ensemble
        The tuned model, or the members of an ensemble: see ``FineTuner(n_models=...)``.
    n_shots_ : int
        How many rows are shown. Before one that is longer than the training rows there
        may be fewer.
    context_ : Context or None
        The rows that are shown: their sentences, answers and weights.

    See Also
    --------
    LIFTRegressor : The same for numbers.

    Notes
    -----
    A row's weight means repetition: rows of weight zero are dropped, equal rows with
    equal labels are one row with the sum of their weights, and rows are met in training
    in proportion to their weights.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import LIFTClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = LIFTClassifier(random_state=0).fit(X, y)
    >>> classifier.predict(X.iloc[[0, 75]])
    array([0, 1])
    """

    decoder_: LabelsDecoder

    _parts: ClassVar[dict[str, type[Part]]] = {
        "encoder": RowEncoder,
        "finetuner": FineTuner,
        "decoder": LabelDecoder,
    }
    _task = "classification"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LIFT._parameter_constraints,
        "decoder": [HasMethods(["fit", "predict_proba"]), None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        encoder: Any = None,
        finetuner: Any = None,
        decoder: Any = None,
        n_shots: int | str = "auto",
        shots: str = "random",
        class_weight: Any = None,
        device: str | None = None,
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        super().__init__(
            model,
            encoder=encoder,
            finetuner=finetuner,
            decoder=decoder,
            n_shots=n_shots,
            shots=shots,
            device=device,
            dtype=dtype,
            random_state=random_state,
            verbose=verbose,
            warm_start=warm_start,
        )
        self.class_weight = class_weight

    @property
    def classes_(self) -> NDArray[Any]:
        """The distinct labels, sorted."""
        return self.decoder_.classes_

    @checks_table
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``; each row sums to 1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read.
        """
        lm = self._answering(self.language_model_)
        return self.decoder_.predict_proba(lm, self._prompts(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Natural logarithms, in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read.
        """
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        label : ndarray of shape (n_samples,)
            One of ``classes_`` for each row.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read.
        """
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels

    def predict_set(self, X: Any, coverage: float = 0.9) -> NDArray[np.bool_]:
        """Return a set of classes for each row that holds the true one.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        coverage : float, default=0.9
            The share of rows whose set holds their class, in (0, 1).

        Returns
        -------
        member : ndarray of shape (n_samples, n_classes)
            Whether each class, in the order of ``classes_``, is in the row's set.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read, or the coverage is no number in (0, 1).

        Notes
        -----
        After `conformalize`, a set holds the classes that are no less probable than the
        true ones of that share of the held-out rows were [1]_. These are the smallest
        sets with that coverage; one is empty where no class is probable enough.
        Without, it holds the most probable classes that together reach the coverage,
        which is right as far as the model's probabilities are.

        References
        ----------
        .. [1] M. Sadinle, J. Lei, L. Wasserman, "Least Ambiguous Set-Valued Classifiers
           with Bounded Error Levels", JASA 2019.
        """
        check_coverage(coverage)
        proba = self.predict_proba(X)
        if hasattr(self, "conformity_scores_"):
            farthest = conformal_quantile(self.conformity_scores_, coverage)
            return 1 - proba <= farthest
        order = np.argsort(-proba, axis=1, kind="stable")
        ranked = np.take_along_axis(proba, order, axis=1)
        is_needed = ranked.cumsum(axis=1) - ranked < coverage
        member = np.empty(proba.shape, bool)
        np.put_along_axis(member, order, is_needed, axis=1)
        return member

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        target = check_target(self, y, table)
        check_classification_targets(target)
        return target

    def _known_target(self, target: NDArray[Any], name: str) -> NDArray[Any]:
        unknown = np.setdiff1d(target, self.classes_)
        if len(unknown):
            raise ValueError(
                f"{name} holds labels that fit has not seen: {unknown.tolist()!r}. "
                "Leave their rows out, or fit with some of them."
            )
        known: NDArray[Any] = self.classes_[np.searchsorted(self.classes_, target)]
        return known

    def _checked_weight(
        self, sample_weight: Any, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        weight = super()._checked_weight(sample_weight, table, target)
        factor = _class_weight(self.class_weight, target, weight)
        return check_sample_weight(weight * weights_in_proportion(factor), table)

    def _sampled(
        self, X: Any, n_samples: int, temperature: float, random_state: Any
    ) -> NDArray[Any]:
        drawn = sample_index(
            self.predict_log_proba(X), n_samples, temperature, random_state
        )
        labels: NDArray[Any] = self.classes_[drawn]
        return labels

    def _conformity(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        known = self._known_target(target, "y")
        column = np.searchsorted(self.classes_, known)
        proba: NDArray[np.float64] = unchecked(self.predict_proba)(table)
        return 1 - proba[np.arange(len(target)), column]

    def _suits_reader(self, table: pd.DataFrame, target: NDArray[Any]) -> bool:
        words = "auto" if self.decoder is None else getattr(self.decoder, "words", None)
        if not is_default(self.encoder, RowEncoder) or not is_auto(words):
            return False
        n_rows, n_columns = table.shape
        return is_read_in_context(n_rows, n_columns, len(np.unique(target))) and all(
            learn_column(cells).kind != "text" for _, cells in table.items()
        )

    def _metric(self, lm: LanguageModel, rows: Corpus) -> float:
        prompts = self._held_out_prompts(rows)
        proba = self.decoder_.predict_proba(self._answering(lm), prompts)
        predicted = self.decoder_.classes_[proba.argmax(axis=1)]
        return float(accuracy_score(rows.target, predicted, sample_weight=rows.weight))


ESTIMATORS["LIFTClassifier"] = LIFTClassifier
TASKS[LIFTClassifier._task] = LIFTClassifier._parts


def _class_weight(
    class_weight: Any, target: NDArray[Any], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weight of each row's class.

    >>> _class_weight("balanced", np.array(["a", "a", "b"]), np.array([1.0, 3.0, 1.0]))
    array([0.625, 0.625, 2.5  ])
    """
    if class_weight is None:
        return np.ones(len(target))
    labels, index = np.unique(target, return_inverse=True)
    factor = np.ones(len(labels))
    if isinstance(class_weight, dict):
        # scikit-learn's function looks the label "1" up as the number 1.
        names = labels.tolist()
        missing = [name for name in names if name not in class_weight]
        unknown = [name for name in class_weight if name not in names]
        if missing and unknown:
            raise ValueError(
                f"class_weight has a weight for {unknown!r}, which is no class, and "
                f"none for {missing!r}. Write the classes as they stand in y."
            )
        for name, one in class_weight.items():
            check_number(
                one,
                Interval(Real, 0, None, closed="left"),
                f"The weight of class {name!r} is a finite number of at least 0",
                "Correct class_weight.",
            )
        factor[:] = [class_weight.get(name, 1.0) for name in names]
    else:
        present = weight > 0  # a class of no weight has no rows
        met = np.unique(index[present])
        factor[met] = compute_class_weight(
            class_weight,
            classes=met,
            y=index[present],
            sample_weight=weight[present],
        )
    return factor[index]
