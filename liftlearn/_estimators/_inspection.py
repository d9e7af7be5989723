"""What a column is worth to predictions: importance by marginalising it."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from liftlearn._estimators._density import LIFTDensity
from liftlearn._validation import Interval, check_number


def marginal_importance(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    density: LIFTDensity,
    scoring: Any = None,
    n_repeats: int = 5,
    n_draws: int = 10,
    random_state: Any = None,
) -> Bunch:
    """Return how much worse predictions score without each column.

    What an estimator predicts without a column is the mean of its predictions over
    that column's distribution, given the row's other cells [1]_ [2]_. Permuting a
    column, as `sklearn.inspection.permutation_importance` does, makes rows that cannot
    be where columns depend on each other. Leaving a cell out of the sentence asks the
    model what it was not trained on.

    Parameters
    ----------
    estimator : estimator
        Any fitted classifier with ``predict_proba``, or regressor.
    X : dataframe or array-like of shape (n_samples, n_features)
        Rows to judge by, best held-out ones.
    y : array-like of shape (n_samples,)
        Their targets.
    density : LIFTDensity
        Fitted on the columns of ``X``, without the target.
    scoring : str, callable or None, default=None
        As in scikit-learn. None is the estimator's own ``score``.
    n_repeats : int, default=5
        How often all is drawn anew.
    n_draws : int, default=10
        Values of each cell over which predictions are averaged.
    random_state : int, RandomState instance or None, default=None
        Draws the cells.

    Returns
    -------
    importances : Bunch
        As `sklearn.inspection.permutation_importance` returns it:
        ``importances_mean`` and ``importances_std``, of shape (n_features,), and
        ``importances``, of shape (n_features, n_repeats). An importance is the score
        with the column less that without it.

    Raises
    ------
    ValueError
        If the density was fitted with a target or on other columns, or a count is no
        such.
    TypeError
        If the estimator is a classifier without probabilities.

    References
    ----------
    .. [1] S. Lundberg, S. Lee, "A Unified Approach to Interpreting Model Predictions",
       NeurIPS 2017: conditional expectations.
    .. [2] C. Strobl et al., "Conditional Variable Importance for Random Forests", BMC
       Bioinformatics 2008.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from liftlearn import FineTuner, LIFTDensity, marginal_importance
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> linear = LogisticRegression(max_iter=1000).fit(X, y)
    >>> density = LIFTDensity(finetuner=FineTuner(max_steps=20), random_state=0).fit(X)
    >>> found = marginal_importance(
    ...     linear, X, y, density=density, n_repeats=2, n_draws=2, random_state=0
    ... )
    >>> found.importances.shape
    (4, 2)
    """
    check_is_fitted(density)
    for name, count in (("n_repeats", n_repeats), ("n_draws", n_draws)):
        check_number(
            count,
            Interval(Integral, 1, None, closed="left"),
            f"{name} is a whole number of at least 1",
            "More of them vary less.",
        )
    if density.target_ is not None:
        raise ValueError(
            f"The density knows the target, {density.target_!r}, which is what the "
            "columns are to tell. Fit it on the columns alone: density.fit(X)."
        )
    if is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        raise TypeError(
            "Expected a classifier with predict_proba, whose mean is taken, got "
            f"{estimator!r}. CalibratedClassifierCV gives probabilities."
        )
    rng = check_random_state(random_state)
    score = check_scoring(estimator, scoring)
    with_all = score(estimator, X, y)
    marginal = _Classifier if is_classifier(estimator) else _Regressor
    n_features = np.shape(X)[1]
    importances = np.empty((n_features, n_repeats))
    for i in range(n_features):
        for repeat in range(n_repeats):
            tables = _with_drawn(X, i, density, n_draws, rng)
            importances[i, repeat] = with_all - score(marginal(estimator, tables), X, y)
    return Bunch(
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


def _with_drawn(
    X: Any, i: int, density: LIFTDensity, n_draws: int, rng: RandomState
) -> list[Any]:
    """Return copies of a table in which one column is drawn, given the others."""
    table = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
    names = [column.name for column in density.rows_.columns]
    others = table.set_axis(names, axis=1).drop(columns=names[i])
    given = pd.concat([others] * n_draws, ignore_index=True)
    drawn = density.sample(len(given), given=given, random_state=rng)[names[i]]
    tables = []
    for cells in np.array_split(np.arange(len(given)), n_draws):
        own = table.copy()
        own.isetitem(i, drawn.iloc[cells].set_axis(table.index))
        tables.append(own if isinstance(X, pd.DataFrame) else own.to_numpy())
    return tables


class _Classifier(ClassifierMixin, BaseEstimator):
    """Predicts the mean over tables, whatever table it is asked of."""

    def __init__(self, estimator: Any, tables: list[Any]) -> None:
        self.estimator = estimator
        self.tables = tables
        self.classes_ = estimator.classes_

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        each = [self.estimator.predict_proba(table) for table in self.tables]
        return np.asarray(np.mean(each, axis=0))

    def predict(self, X: Any) -> NDArray[Any]:
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class _Regressor(RegressorMixin, BaseEstimator):
    """Predicts the mean over tables, whatever table it is asked of."""

    def __init__(self, estimator: Any, tables: list[Any]) -> None:
        self.estimator = estimator
        self.tables = tables
        self.is_fitted_ = True

    def predict(self, X: Any) -> NDArray[np.float64]:
        each = [self.estimator.predict(table) for table in self.tables]
        return np.asarray(np.mean(each, axis=0))
