"""The regressor: numbers in, distributions over numbers out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import Pipeline

from liftlearn._corpus import Corpus
from liftlearn._decoder import NumberDecoder
from liftlearn._distribution import NumberDistribution, shares_of
from liftlearn._encoder import RowEncoder
from liftlearn._estimators._base import (
    ESTIMATORS,
    LIFT,
    check_coverage,
    conformal_quantile,
)
from liftlearn._estimators._parts import NumbersDecoder
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import TASKS, LanguageModel
from liftlearn._rules import Part
from liftlearn._validation import (
    HasMethods,
    check_target,
    checks_table,
    unchecked,
)


class LIFTRegressor(RegressorMixin, LIFT):
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
        one of the two embedded models, pretrained on synthetic tables: that which is
        fine-tuned, or with ``n_shots`` that which reads the table in context.
    encoder : RowEncoder, default=None
        Writes rows as sentences. None is ``RowEncoder()``.
    finetuner : FineTuner, default=None
        Fine-tunes the model. None is ``FineTuner()``.
    decoder : NumberDecoder, default=None
        Chooses the grid and reads the distribution. None is ``NumberDecoder()``.
    n_shots : int, "all" or "auto", default="auto"
        How many labelled training rows are shown before each question (in-context
        learning), as far as the model reads. ``"all"`` are as many as there are and
        fit. ``"auto"`` is the model's preference, and 0 for a model without one. With
        ``FineTuner(n_epochs=0)`` nothing else is learnt.
    shots : {"random", "balanced", "nearest"}, default="random"
        Which ones: drawn by their weights, the same for all questions; drawn equally
        often from each quantile; or for each question the nearest by
        Gower's distance. Each is shown once.
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
        fit is as without.

    Attributes
    ----------
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
    >>> regressor = LIFTRegressor(random_state=0).fit(X[:30], y[:30])
    >>> regressor.predict(X.iloc[:2]).shape
    (2,)
    """

    decoder_: NumbersDecoder

    _parts: ClassVar[dict[str, type[Part]]] = {
        "encoder": RowEncoder,
        "finetuner": FineTuner,
        "decoder": NumberDecoder,
    }
    _task = "regression"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LIFT._parameter_constraints,
        "decoder": [HasMethods(["fit", "predict"]), None],
    }

    @checks_table
    def predict(
        self,
        X: Any,
        return_std: bool = False,
        *,
        quantiles: ArrayLike | None = None,
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the predicted numbers.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        return_std : bool, default=False
            Whether to return the distributions' standard deviations, too.
        quantiles : float or array-like of shape (n_quantiles,), default=None
            Shares in [0, 1]: return these quantiles of each row's distribution in
            place of the points. None returns the points.

        Returns
        -------
        number : ndarray of shape (n_samples,) or (n_samples, n_quantiles)
            The median of each row's distribution, or what ``NumberDecoder(point=...)``
            says, in the units of the target. With a list of quantiles, a column for
            each.
        std : ndarray of shape (n_samples,)
            Standard deviation of each row's distribution; only if ``return_std``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, a row is longer than the model
            can read, a quantile is not in [0, 1], or both quantiles and standard
            deviations are asked for.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from liftlearn import FineTuner, LIFTRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> tuner = FineTuner(max_steps=10, n_models=1)
        >>> regressor = LIFTRegressor(finetuner=tuner, random_state=0).fit(
        ...     X[:30], y[:30]
        ... )
        >>> regressor.predict(X[:2], quantiles=[0.1, 0.5, 0.9]).shape
        (2, 3)
        """
        if quantiles is not None:
            shares = _checked_quantiles(quantiles, return_std)
            distribution = unchecked(self.predict_distribution)(X)
            numbers: NDArray[np.float64] = distribution.ppf(shares[..., None]).T
            return numbers
        lm, prompts = self._answering(self.language_model_), self._prompts(X)
        return self.decoder_.predict(lm, prompts, return_std=return_std)

    @checks_table
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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read.
        """
        lm, prompts = self._answering(self.language_model_), self._prompts(X)
        return self.decoder_.predict_distribution(lm, prompts)

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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or a row is longer than the model
            can read, or the coverage is no number in (0, 1).

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
        check_coverage(coverage)
        if hasattr(self, "conformity_scores_"):
            coverage = conformal_quantile(self.conformity_scores_, coverage)
        return np.column_stack(self.predict_distribution(X).interval(coverage))

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        return check_target(self, y, table, numeric=True)

    def _sampled(
        self, X: Any, n_samples: int, temperature: float, random_state: Any
    ) -> NDArray[Any]:
        return self.predict_distribution(X).sample(
            n_samples, temperature=temperature, random_state=random_state
        )

    def _conformity(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        # The coverage of the narrowest central interval that holds the number.
        distribution = unchecked(self.predict_distribution)(table)
        below: NDArray[np.float64] = distribution.cdf(target)
        return np.abs(2 * below - 1)

    def _metric(self, lm: LanguageModel, rows: Corpus) -> float:
        prompts = self._held_out_prompts(rows)
        predicted = self.decoder_.predict(self._answering(lm), prompts)
        return -float(
            mean_absolute_error(rows.target, predicted, sample_weight=rows.weight)
        )


def _checked_quantiles(quantiles: ArrayLike, return_std: bool) -> NDArray[np.float64]:
    """Return the shares that are asked for: one, or a list."""
    if return_std:
        raise ValueError(
            "Expected quantiles or return_std=True, got both. Ask for one, "
            "or read both from predict_distribution(X), which asks the model once."
        )
    shares = shares_of(quantiles, "quantiles")
    if shares.ndim > 1:
        raise ValueError(
            "Expected as quantiles one share or a list of them, got an array of shape "
            f"{shares.shape}. Write [0.1, 0.5, 0.9]."
        )
    return shares


ESTIMATORS["LIFTRegressor"] = LIFTRegressor
TASKS[LIFTRegressor._task] = LIFTRegressor._parts


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

    Raises
    ------
    TypeError
        If the estimator predicts no distributions.
    ValueError
        If the table or the numbers can't be used.

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
    >>> X, y = X[:60], y[:60]
    >>> scores = cross_val_score(regressor, X, y, cv=2, scoring=neg_crps_scorer)
    >>> (scores < 0).all()
    np.True_
    """
    if isinstance(estimator, Pipeline):
        X, estimator = estimator[:-1].transform(X), estimator[-1]
    is_class = isinstance(estimator, type)
    if is_class or not hasattr(estimator, "predict_distribution"):
        raise TypeError(
            "neg_crps_scorer scores a LIFTRegressor, or a pipeline that ends in one, "
            f"got {estimator!r}. For classes take scoring='neg_log_loss'."
        )
    return -float(estimator.predict_distribution(X).crps(y).mean())
