"""The estimators: they check the table and the target, and run the parts in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.metrics import accuracy_score, mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from liftlearn._decoder import LabelDecoder, NumberDecoder
from liftlearn._distribution import NumberDistribution, sample_index
from liftlearn._encoder import Corpus, RowEncoder
from liftlearn._finetuner import FineTuner, share_stream
from liftlearn._language_model import LanguageModel
from liftlearn._saving import load_fitted, save_fitted
from liftlearn._validation import (
    HasMethods,
    StrOptions,
    _fit_context,
    check_sample_weight,
    check_table,
    check_target,
)


class _LIFT(BaseEstimator):
    """What the classifier and the regressor share: the way from a table to a model."""

    _parts: ClassVar[dict[str, type[BaseEstimator]]]
    _task: ClassVar[str]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, PathLike, None],
        "encoder": [HasMethods(["fit", "transform"]), None],
        "finetuner": [HasMethods("finetune"), None],
        "device": [str, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator and of its parts.

        A parameter of a part that is None, as in ``finetuner__learning_rate``, makes
        the default part first.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : estimator
            The estimator.
        """
        for name, part in self._parts.items():
            is_reached = any(key.startswith(f"{name}__") for key in params)
            if is_reached and params.get(name, getattr(self, name)) is None:
                params[name] = part()
        super().set_params(**params)
        return self

    def save(self, folder: str | PathLike[str]) -> None:
        """Save the fitted estimator as a folder, which `liftlearn.load` reads.

        The folder is also a language model's: given as ``model``, it is where another
        fit starts from. A ``random_state`` that is an instance is saved as it stands,
        and comes back as a new instance that draws the same numbers.

        Parameters
        ----------
        folder : str or PathLike
            A folder that is new, empty but for hidden files, or of an earlier save,
            whose files are then replaced. It gets safetensors weights, the tokenizer's
            files and ``liftlearn.json`` with all else that was learnt, and the sha256
            of every file.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a part or a parameter is of a type that liftlearn does not know, such as
            a user's own.
        FileExistsError
            If the folder holds something else.
        """
        check_is_fitted(self, "language_model_")
        save_fitted(self, folder, _ESTIMATORS)

    def conformalize(self, X: Any, y: Any) -> Self:
        """Learn from held-out rows how wide sets and intervals must be.

        Split conformal prediction [1]_: if these rows and new ones are exchangeable,
        what `predict_set` or `predict_interval` returns for a new row holds its true
        target with at least the coverage that is asked for, on average over new rows
        and over draws of these ones. Other predictions stay as they were. A second
        call replaces the first one's rows, and `fit` forgets them.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            Rows that were not in `fit`.
        y : array-like of shape (n_samples,)
            Their targets.

        Returns
        -------
        self : estimator
            The estimator, with ``conformity_scores_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table or the target can't be used, or a label is not in
            ``classes_``.

        References
        ----------
        .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random
           World", Springer 2005.
        """
        check_is_fitted(self)
        target = self._checked_target(y, check_table(self, X, reset=False))
        self.conformity_scores_ = self._conformity(X, target)
        return self

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        raise NotImplementedError

    def _conformity(self, X: Any, target: NDArray[Any]) -> NDArray[np.float64]:
        """Return how far each row's target is from what is predicted, in [0, 1]."""
        raise NotImplementedError

    def _fit(
        self, table: pd.DataFrame, y: Any, target: NDArray[Any], weight: NDArray[Any]
    ) -> None:
        """Make the parts and run them in order."""
        if hasattr(self, "conformity_scores_"):
            del self.conformity_scores_
        rng = _stream(self.random_state)
        share_stream(rng, self.device)
        pretrained = LanguageModel.load(self.model, device=self.device)
        encoder, finetuner, decoder = self._chosen_parts(pretrained)
        rows, weight = _distinct_rows(table, target, weight)
        self.decoder_ = decoder.fit(target[rows], **_weight_option(decoder, weight))
        held_out = _held_out(finetuner, target[rows], self._task, rng)
        kept, weight, unseen = rows[~held_out], weight[~held_out], rows[held_out]

        named = pd.Series(target[kept], name=getattr(y, "name", None))
        options = _weight_option(encoder, weight)
        self.encoder_ = encoder.fit(table.iloc[kept], named, **options)
        answers = self.decoder_.answers_
        # Training meets rows in another order: too long a row is better named here, by
        # its place in the whole table.
        prompts = [""] * len(table)
        for row, prompt in zip(
            rows, self.encoder_.transform(table.iloc[rows]), strict=True
        ):
            prompts[row] = prompt
        pretrained.prompt_tokens(prompts, pretrained.trie(answers.texts).depth)
        corpus = Corpus(self.encoder_, answers, table.iloc[kept], target[kept], weight)
        monitor = None
        if len(unseen):
            unseen_prompts = self._prompts(table.iloc[unseen])
            monitor = self._monitor(unseen_prompts, target[unseen])
        self.finetuner_ = finetuner
        self.language_model_ = finetuner.finetune(
            pretrained, corpus, rng, monitor=monitor, verbose=self.verbose
        )
        if len(unseen) and hasattr(self.decoder_, "calibrate"):
            self.decoder_.calibrate(
                self.language_model_, unseen_prompts, target[unseen]
            )

    def _chosen_parts(self, pretrained: LanguageModel) -> list[Any]:
        """Return copies of the parts, with what is "auto" as the model prefers it."""
        preferences = pretrained.preferences.get(self._task, {})
        chosen = []
        for name, default in self._parts.items():
            given = getattr(self, name)
            part: Any = default() if given is None else clone(given, safe=False)
            if isinstance(part, default):
                settled = part.get_params(deep=False)
                part.set_params(
                    **{
                        parameter: value
                        for parameter, value in preferences.get(name, {}).items()
                        if isinstance(settled[parameter], str)
                        and settled[parameter] == "auto"
                    }
                )
            chosen.append(part)
        return chosen

    def _monitor(
        self, prompts: list[str] | list[list[str]], target: NDArray[Any]
    ) -> Callable[[LanguageModel], float]:
        raise NotImplementedError

    def _prompts(self, table: pd.DataFrame) -> list[str] | list[list[str]]:
        """Return the rows' sentences, in as many wordings as the decoder reads."""
        n_wordings = getattr(self.decoder_, "n_wordings_", 1)
        prompts: list[str] | list[list[str]] = (
            self.encoder_.transform(table)
            if n_wordings == 1
            else self.encoder_.reword(table, n_wordings)
        )
        return prompts

    def _new_prompts(self, X: Any) -> list[str] | list[list[str]]:
        """Return the sentences of a new table."""
        check_is_fitted(self)
        return self._prompts(check_table(self, X, reset=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class LIFTClassifier(ClassifierMixin, _LIFT):
    """Classify the rows of a table with a fine-tuned causal language model.

    Each row is written as a sentence, the model is fine-tuned to answer with the row's
    class, and the probability of each class is read from the model [1]_.

    Parameters
    ----------
    model : str, PathLike or None, default=None
        The causal language model: a name on the Hugging Face hub or a folder. None is
        the embedded model: tiny, pretrained on synthetic tables, fine-tuned in seconds.
    encoder : RowEncoder, default=None
        Writes rows as sentences. None is ``RowEncoder()``.
    finetuner : FineTuner, default=None
        Fine-tunes the model. None is ``FineTuner()``.
    decoder : LabelDecoder, default=None
        Chooses the classes' words and reads their probabilities. None is
        ``LabelDecoder()``.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class, which multiplies the rows' weights. ``"balanced"`` gives
        all classes the same sum. None gives all of them 1.
    device : str, default=None
        Where to run, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there is
        one.
    random_state : int, RandomState instance or None, default=None
        Draws the rows' order and wording. An int makes fits repeatable.
    verbose : int, default=0
        Above 0 a progress bar is shown while fitting.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The distinct labels, sorted.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in `fit`, where all of them are strings.
    encoder_, finetuner_, decoder_
        The fitted parts; ``finetuner_.history_`` tells how training went.
    language_model_ : LanguageModel
        The tuned model.

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

    _parts: ClassVar[dict[str, type[BaseEstimator]]] = {
        "encoder": RowEncoder,
        "finetuner": FineTuner,
        "decoder": LabelDecoder,
    }
    _task = "classification"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_LIFT._parameter_constraints,
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
        class_weight: Any = None,
        device: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.finetuner = finetuner
        self.decoder = decoder
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # scikit-learn has no types, nor has its decorator.
    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fine-tune the model on a table and its labels.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table: numbers, categories, text, dates; cells may be missing. Any
            dataframe that narwhals reads is taken.
        y : array-like of shape (n_samples,)
            The labels. The name of a pandas series is used in the question where the
            wording has one.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. None counts each once.

        Returns
        -------
        self : LIFTClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If the table, the labels or a parameter can't be used, or a row is longer
            than the model can read.
        """
        table = check_table(self, X, reset=True)
        target = self._checked_target(y, table)
        weight = check_sample_weight(sample_weight, table)
        factor = _class_weight(self.class_weight, target, weight)
        weight = check_sample_weight(weight * factor, table)
        self._fit(table, y, target, weight)
        self.classes_ = self.decoder_.classes_
        return self

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
        """
        prompts = self._new_prompts(X)
        proba: NDArray[np.float64] = self.decoder_.predict_proba(
            self.language_model_, prompts
        )
        return proba

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
        _check_coverage(coverage)
        proba = self.predict_proba(X)
        if hasattr(self, "conformity_scores_"):
            farthest = _conformal_quantile(self.conformity_scores_, coverage)
            return 1 - proba <= farthest
        order = np.argsort(-proba, axis=1, kind="stable")
        ranked = np.take_along_axis(proba, order, axis=1)
        is_needed = ranked.cumsum(axis=1) - ranked < coverage
        member = np.empty(proba.shape, bool)
        np.put_along_axis(member, order, is_needed, axis=1)
        return member

    def sample_y(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> NDArray[Any]:
        """Draw labels from each row's probabilities, as LIFT does from the model.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_rows, n_features)
            A table with the columns seen in `fit`.
        n_samples : int, default=1
            How many labels are drawn for each row.
        temperature : float, default=1.0
            Probabilities are raised to the power of its inverse: below 1 the probable
            becomes more so, above 1 less.
        random_state : int, RandomState instance or None, default=None
            Draws the labels.

        Returns
        -------
        labels : ndarray of shape (n_rows, n_samples)
            Draws from ``classes_``.

        Raises
        ------
        ValueError
            If the temperature is not positive.
        """
        drawn = sample_index(
            self.predict_log_proba(X), n_samples, temperature, random_state
        )
        labels: NDArray[Any] = self.classes_[drawn]
        return labels

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        _refuse_missing_labels(y)
        target = check_target(self, y, table)
        check_classification_targets(target)
        return target

    def _conformity(self, X: Any, target: NDArray[Any]) -> NDArray[np.float64]:
        unknown = np.setdiff1d(target, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds labels that fit has not seen: {unknown.tolist()!r}. Leave "
                "their rows out, or fit with some of them."
            )
        column = np.searchsorted(self.classes_, target)
        return 1 - self.predict_proba(X)[np.arange(len(target)), column]

    def _monitor(
        self, prompts: list[str] | list[list[str]], target: NDArray[Any]
    ) -> Callable[[LanguageModel], float]:
        def accuracy(lm: LanguageModel) -> float:
            proba = self.decoder_.predict_proba(lm, prompts)
            predicted = self.decoder_.classes_[proba.argmax(axis=1)]
            return float(accuracy_score(target, predicted))

        return accuracy


class LIFTRegressor(RegressorMixin, _LIFT):
    """Predict numbers from the rows of a table with a fine-tuned causal language model.

    Each row is written as a sentence, the model is fine-tuned to answer with the row's
    number on a grid, and the distribution over the grid is read from the model [1]_.

    By default the median of that distribution is predicted, which minimises the
    expected absolute error; `score` is R², for which the mean,
    ``NumberDecoder(point="mean")``, is the better choice.

    Parameters
    ----------
    model : str, PathLike or None, default=None
        The causal language model: a name on the Hugging Face hub or a folder. None is
        the embedded model: tiny, pretrained on synthetic tables, fine-tuned in seconds.
    encoder : RowEncoder, default=None
        Writes rows as sentences. None is ``RowEncoder()``.
    finetuner : FineTuner, default=None
        Fine-tunes the model. None is ``FineTuner()``.
    decoder : NumberDecoder, default=None
        Chooses the grid and reads the distribution. None is ``NumberDecoder()``.
    device : str, default=None
        Where to run, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there is
        one.
    random_state : int, RandomState instance or None, default=None
        Draws the rows' order and wording. An int makes fits repeatable.
    verbose : int, default=0
        Above 0 a progress bar is shown while fitting.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in `fit`, where all of them are strings.
    encoder_, finetuner_, decoder_
        The fitted parts; ``finetuner_.history_`` tells how training went.
    language_model_ : LanguageModel
        The tuned model.

    See Also
    --------
    LIFTClassifier : The same for classes.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from liftlearn import LIFTRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> regressor = LIFTRegressor(random_state=0).fit(X, y)
    >>> regressor.predict(X.iloc[:2]).shape
    (2,)
    """

    _parts: ClassVar[dict[str, type[BaseEstimator]]] = {
        "encoder": RowEncoder,
        "finetuner": FineTuner,
        "decoder": NumberDecoder,
    }
    _task = "regression"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_LIFT._parameter_constraints,
        "decoder": [HasMethods(["fit", "predict"]), None],
    }

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        encoder: Any = None,
        finetuner: Any = None,
        decoder: Any = None,
        device: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.finetuner = finetuner
        self.decoder = decoder
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # scikit-learn has no types, nor has its decorator.
    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fine-tune the model on a table and its numbers.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table: numbers, categories, text, dates; cells may be missing. Any
            dataframe that narwhals reads is taken.
        y : array-like of shape (n_samples,)
            The numbers. The name of a pandas series is used in the question where the
            wording has one.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. None counts each once.

        Returns
        -------
        self : LIFTRegressor
            The fitted regressor.

        Raises
        ------
        ValueError
            If the table, the numbers or a parameter can't be used, or a row is longer
            than the model can read.
        """
        table = check_table(self, X, reset=True)
        target = self._checked_target(y, table)
        weight = check_sample_weight(sample_weight, table)
        self._fit(table, y, target, weight)
        return self

    def predict(
        self, X: Any, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the predicted numbers.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        return_std : bool, default=False
            Whether to return the distributions' standard deviations, too.

        Returns
        -------
        number : ndarray of shape (n_samples,)
            The median of each row's distribution, or what ``NumberDecoder(point=...)``
            says, in the units of the target.
        std : ndarray of shape (n_samples,)
            Standard deviation of each row's distribution; only if ``return_std``.
        """
        prompts = self._new_prompts(X)
        predicted: (
            NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]
        ) = self.decoder_.predict(self.language_model_, prompts, return_std=return_std)
        return predicted

    def predict_distribution(self, X: Any) -> NumberDistribution:
        """Return each row's whole distribution, with the model read once.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        distribution : NumberDistribution
            Its means, medians, standard deviations, quantiles, intervals, densities
            and scores, a row for each row of `X`, in the units of the target.
        """
        prompts = self._new_prompts(X)
        distribution: NumberDistribution = self.decoder_.predict_distribution(
            self.language_model_, prompts
        )
        return distribution

    def predict_quantiles(
        self, X: Any, quantiles: ArrayLike = (0.1, 0.5, 0.9)
    ) -> NDArray[np.float64]:
        """Return quantiles of each row's distribution.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        quantiles : array-like of shape (n_quantiles,), default=(0.1, 0.5, 0.9)
            Shares of the probability that lie below, in [0, 1].

        Returns
        -------
        numbers : ndarray of shape (n_samples, n_quantiles)
            In the units of the target.
        """
        return self.predict_distribution(X).quantile(quantiles)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> NDArray[np.float64]:
        """Return an interval for each row that holds the true number.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        coverage : float, default=0.9
            The share of rows whose interval holds their number, in (0, 1).

        Returns
        -------
        interval : ndarray of shape (n_samples, 2)
            Lower and upper ends, in the units of the target.

        Notes
        -----
        An interval lies between two quantiles. After `conformalize` these are as far
        from the median, in probability, as the true numbers of that share of the
        held-out rows were: conformalised quantile regression [1]_ on the scale of the
        predicted distribution function [2]_, so one set of scores serves every
        coverage. The promise is kept for numbers within the grid's range. Without, the
        quantiles are the model's own, and right as far as its distributions are.

        References
        ----------
        .. [1] Y. Romano, E. Patterson, E. J. Candès, "Conformalized Quantile
           Regression", NeurIPS 2019.
        .. [2] V. Chernozhukov, K. Wüthrich, Y. Zhu, "Distributional Conformal
           Prediction", PNAS 2021.
        """
        _check_coverage(coverage)
        if hasattr(self, "conformity_scores_"):
            coverage = _conformal_quantile(self.conformity_scores_, coverage)
        return self.predict_distribution(X).interval(coverage)

    def sample_y(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> NDArray[np.float64]:
        """Draw numbers from each row's distribution, as LIFT does from the model.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_rows, n_features)
            A table with the columns seen in `fit`.
        n_samples : int, default=1
            How many numbers are drawn for each row.
        temperature : float, default=1.0
            Densities are raised to the power of its inverse: below 1 the probable
            becomes more so, above 1 less.
        random_state : int, RandomState instance or None, default=None
            Draws the numbers.

        Returns
        -------
        numbers : ndarray of shape (n_rows, n_samples)
            In the units of the target.

        Raises
        ------
        ValueError
            If the temperature is not positive.
        """
        return self.predict_distribution(X).sample(
            n_samples, temperature=temperature, random_state=random_state
        )

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        return check_target(self, y, table, numeric=True)

    def _conformity(self, X: Any, target: NDArray[Any]) -> NDArray[np.float64]:
        # The coverage of the narrowest central interval that holds the number.
        return np.abs(2 * self.predict_distribution(X).cdf(target) - 1)

    def _monitor(
        self, prompts: list[str] | list[list[str]], target: NDArray[Any]
    ) -> Callable[[LanguageModel], float]:
        def closeness(lm: LanguageModel) -> float:
            return -float(
                mean_absolute_error(target, self.decoder_.predict(lm, prompts))
            )

        return closeness


_ESTIMATORS: dict[str, type[_LIFT]] = {
    "LIFTClassifier": LIFTClassifier,
    "LIFTRegressor": LIFTRegressor,
}


def load(
    folder: str | PathLike[str], *, device: str | None = None
) -> LIFTClassifier | LIFTRegressor:
    """Load an estimator that was saved with its ``save`` method.

    The folder holds safetensors and JSON: nothing in it is executed. Every file is
    compared with the sha256 that was saved; this finds damage, not forgery.

    Parameters
    ----------
    folder : str or PathLike
        The folder.
    device : str, default=None
        Where the model runs, such as ``"cpu"`` or ``"cuda:0"``. None is the
        estimator's own ``device`` where this machine has it, else a GPU where there is
        one. The estimator's parameter stays as it was.

    Returns
    -------
    estimator : LIFTClassifier or LIFTRegressor
        The fitted estimator: parameters, attributes and predictions are those of the
        one that was saved.

    Raises
    ------
    FileNotFoundError
        If the folder, or a file of it, does not exist.
    ValueError
        If a file is not as it was saved, or a newer version of liftlearn saved it.

    See Also
    --------
    LIFTClassifier.save : Saves a classifier.
    LIFTRegressor.save : Saves a regressor.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier, load
    >>> X, y = load_iris(return_X_y=True)
    >>> tuner = FineTuner(max_steps=10)
    >>> with TemporaryDirectory() as folder:
    ...     LIFTClassifier(finetuner=tuner).fit(X, y).save(folder)
    ...     load(folder).classes_
    array([0, 1, 2])
    """
    estimator: LIFTClassifier | LIFTRegressor = load_fitted(folder, device, _ESTIMATORS)
    return estimator


def neg_crps_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """Score the distributions of a fitted regressor: the negative mean CRPS.

    For ``scoring`` in scikit-learn's `cross_val_score`, `GridSearchCV` and the like:
    greater is better, in the units of the target.

    Parameters
    ----------
    estimator : LIFTRegressor or Pipeline
        Fitted; a pipeline whose last step is such a regressor.
    X : dataframe or array-like of shape (n_samples, n_features)
        The table.
    y : array-like of shape (n_samples,)
        The true numbers.

    Returns
    -------
    score : float
        The negative mean of ``predict_distribution(X).crps(y)``.

    See Also
    --------
    NumberDistribution.crps : The score of each row.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> from liftlearn import FineTuner, LIFTRegressor, neg_crps_scorer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = LIFTRegressor(finetuner=FineTuner(max_steps=10), random_state=0)
    >>> scores = cross_val_score(regressor, X, y, cv=2, scoring=neg_crps_scorer)
    >>> (scores < 0).all()
    np.True_
    """
    if isinstance(estimator, Pipeline):
        X, estimator = estimator[:-1].transform(X), estimator[-1]
    return -float(estimator.predict_distribution(X).crps(y).mean())


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:  # nan is not either
        raise ValueError(f"The coverage is a share in (0, 1), got {coverage!r}.")


def _conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float:
    """Return what a new row's score exceeds with less than the left-over probability.

    Among the scores and the new one each rank is equally probable. Too few scores
    promise nothing less than 1, the greatest.

    >>> _conformal_quantile(np.arange(1, 10) / 10, 0.8)
    0.8
    >>> _conformal_quantile(np.arange(1, 10) / 10, 0.95)
    1.0
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def _stream(random_state: Any) -> RandomState:
    """Return the stream of a fit; None takes one seed from numpy's global stream."""
    stream = check_random_state(random_state)
    return RandomState(stream.randint(2**31)) if random_state is None else stream


def _refuse_missing_labels(y: Any) -> None:
    """Raise if a label is missing; scikit-learn's check knows float nan alone."""
    missing = np.flatnonzero(pd.isna(np.asarray(y, dtype=object)))
    if y is not None and len(missing):
        raise ValueError(
            f"Input y contains NaN: the label of row {missing[0]} is missing. Drop the "
            "rows without a label."
        )


def _distinct_rows(
    table: pd.DataFrame, target: NDArray[Any], weight: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return where each distinct row and target stands first, sorted, and its weight.

    So rows in another order, repeated rows, and rows with weights are the same to fit.
    """
    present = np.flatnonzero(weight)
    columns = [table.iloc[present, i] for i in range(table.shape[1])]
    codes = [_codes(column) for column in [*columns, pd.Series(target[present])]]
    _, first, inverse = np.unique(
        np.column_stack(codes), axis=0, return_index=True, return_inverse=True
    )
    total = np.bincount(inverse.ravel(), weight[present])
    return present[first], total.astype(np.float64)


def _codes(cells: pd.Series) -> NDArray[np.intp]:
    """Return the place of each cell among the sorted distinct ones; -1 if missing."""
    if cells.dtype == object:  # unlike types can't be sorted, lists not be compared
        cells = cells.map(repr, na_action="ignore")
    codes: NDArray[np.intp] = pd.factorize(cells, sort=True)[0]
    return codes


def _weight_option(part: Any, weight: NDArray[np.float64]) -> dict[str, Any]:
    """Return the weights as an argument of the part's ``fit``, if it takes them."""
    takes_weight = has_fit_parameter(part, "sample_weight")
    return {"sample_weight": weight} if takes_weight else {}


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


def _held_out(
    finetuner: Any, target: NDArray[Any], task: str, rng: RandomState
) -> NDArray[np.bool_]:
    """Return which rows are set aside for early stopping: none without it."""
    held_out = np.zeros(len(target), bool)
    early_stopping = getattr(finetuner, "early_stopping", False)
    if isinstance(early_stopping, str) or not early_stopping:
        return held_out
    stratify = None
    if task == "classification":
        counts = np.unique(target, return_counts=True)[1]
        n_held_out = int(np.ceil(finetuner.validation_fraction * len(target)))
        if counts.min() >= 2 and n_held_out >= len(counts):
            stratify = target
    _, rows = train_test_split(
        np.arange(len(target)),
        test_size=finetuner.validation_fraction,
        stratify=stratify,
        random_state=rng,
    )
    held_out[rows] = True
    return held_out
