"""Plots of what scikit-learn's displays lack: bands, densities, training.

They are made from a fitted estimator and drawn by matplotlib, as scikit-learn's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from liftlearn._distribution import Floats, NumberDistribution
from liftlearn._validation import finite_numbers


class _Display:
    """What is drawn from attributes that were computed before."""

    ax_: Any
    figure_: Any

    def plot(self, ax: Any = None) -> Self:
        """Draw what was computed.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : object
            The display, with ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = _axes(ax)
        self.figure_ = self.ax_.figure
        self._draw()
        return self

    def _draw(self) -> None:
        raise NotImplementedError


class IntervalDisplay(_Display):
    """Predictive bands of a regressor along one column, or from low to high.

    Made by `from_estimator`; needs matplotlib (``pip install 'liftlearn[plot]'``).

    Parameters
    ----------
    x : ndarray of shape (n_samples,)
        The horizontal coordinate of each row.
    median : ndarray of shape (n_samples,)
        The medians.
    intervals : dict of float to ndarray of shape (n_samples, 2)
        Lower and upper ends, by their coverage.
    y : ndarray of shape (n_samples,) or None
        The true numbers.
    label : str
        What the horizontal axis shows.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from liftlearn import FineTuner, IntervalDisplay, LIFTRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> regressor = LIFTRegressor(finetuner=FineTuner(max_steps=10), random_state=0)
    >>> display = IntervalDisplay.from_estimator(
    ...     regressor.fit(X[:50], y[:50]), X[50:80], y[50:80], x="bmi"
    ... )
    >>> display.ax_.get_xlabel()
    'bmi'
    """

    def __init__(
        self,
        x: Floats,
        median: Floats,
        intervals: dict[float, Floats],
        y: Floats | None,
        label: str,
    ) -> None:
        self.x = x
        self.median = median
        self.intervals = intervals
        self.y = y
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        x: Any = None,
        coverages: Sequence[float] = (0.5, 0.9),
        ax: Any = None,
    ) -> Self:
        """Predict and draw.

        Parameters
        ----------
        estimator : LIFTRegressor
            Fitted; a conformalised one shows what it promises.
        X : dataframe or array-like of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,), default=None
            Their true numbers, drawn as points.
        x : column name, or int for an array, default=None
            The column along which the bands are drawn: of a function of one variable
            the bands are its whole shape. None puts the rows in the order of their
            medians.
        coverages : sequence of float, default=(0.5, 0.9)
            One band for each, in (0, 1).
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : IntervalDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it predicts no distributions.
        ValueError
            If the rows, their numbers, the column or a coverage can't be used.
        ImportError
            If matplotlib is not installed.
        """
        _refuse_other(estimator, "predict_distribution", "a LIFTRegressor")
        median = estimator.predict(X, quantiles=0.5)
        if not np.iterable(coverages):
            raise TypeError(
                f"Expected a list of coverages, got {coverages!r}. Write [{coverages}]."
            )
        intervals = {c: estimator.predict_interval(X, c) for c in coverages}
        if x is None:
            along = np.empty(len(median))
            along[np.argsort(median, kind="stable")] = np.arange(len(median))
            label = "rows by predicted median"
        else:
            along, label = _column(X, x), str(x)
        known = None if y is None else _row_numbers(y, "y", len(median))
        return cls(along, median, intervals, known, label).plot(ax)

    def _draw(self) -> None:
        """Draw the bands, the medians and the true numbers."""
        order = np.argsort(self.x, kind="stable")
        x = self.x[order]
        for coverage in sorted(self.intervals, reverse=True):
            lower, upper = self.intervals[coverage][order].T
            self.ax_.fill_between(
                x, lower, upper, color="C0", alpha=0.25, label=f"{coverage:.0%}"
            )
        self.ax_.plot(x, self.median[order], color="C0", label="median")
        if self.y is not None:
            self.ax_.plot(x, self.y[order], ".", color="C1", ms=3, label="true")
        self.ax_.set(xlabel=self.label, ylabel="target")
        self.ax_.legend()


class DensityDisplay(_Display):
    """The densities that a regressor predicts for some rows.

    Made by `from_estimator`; needs matplotlib (``pip install 'liftlearn[plot]'``).

    Parameters
    ----------
    distribution : NumberDistribution
        One distribution for each row.
    y : ndarray of shape (n_samples,) or None
        The true numbers.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from liftlearn import DensityDisplay, FineTuner, LIFTRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> regressor = LIFTRegressor(finetuner=FineTuner(max_steps=10), random_state=0)
    >>> regressor = regressor.fit(X[:50], y[:50])
    >>> display = DensityDisplay.from_estimator(regressor, X[50:53], y[50:53])
    >>> len(display.distribution)
    3
    """

    def __init__(self, distribution: NumberDistribution, y: Floats | None) -> None:
        self.distribution = distribution
        self.y = y

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike | None = None, *, ax: Any = None
    ) -> Self:
        """Predict and draw.

        Parameters
        ----------
        estimator : LIFTRegressor
            Fitted.
        X : dataframe or array-like of shape (n_samples, n_features)
            A few rows.
        y : array-like of shape (n_samples,), default=None
            Their true numbers, drawn as dashed lines.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : DensityDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it predicts no distributions.
        ValueError
            If the rows or their numbers can't be used.
        ImportError
            If matplotlib is not installed.
        """
        _refuse_other(estimator, "predict_distribution", "a LIFTRegressor")
        distribution = estimator.predict_distribution(X)
        known = None if y is None else _row_numbers(y, "y", len(distribution))
        return cls(distribution, known).plot(ax)

    def _draw(self) -> None:
        """Draw a density for each row."""
        edges = self.distribution.edges
        for row, log_mass in enumerate(self.distribution.log_mass):
            density = np.exp(log_mass) / np.diff(edges)
            self.ax_.stairs(density, edges, color=f"C{row}", label=f"row {row}")
            if self.y is not None:
                self.ax_.axvline(self.y[row], color=f"C{row}", linestyle="--")
        self.ax_.set(xlabel="target", ylabel="density")
        self.ax_.legend()


class TrainingDisplay(_Display):
    """How the loss, and the metric on unseen rows, went from epoch to epoch.

    The loss of validation rows of one's own is dashed.

    Made by `from_estimator`; needs matplotlib (``pip install 'liftlearn[plot]'``).

    Parameters
    ----------
    history : list of dict
        A record for each epoch, as ``FineTuner.history_`` has them.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier, TrainingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> tuner = FineTuner(max_steps=10)
    >>> classifier = LIFTClassifier(finetuner=tuner, random_state=0).fit(X, y)
    >>> display = TrainingDisplay.from_estimator(classifier)
    >>> display.ax_.get_ylabel()
    'loss'
    """

    def __init__(self, history: list[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Read the history and draw.

        Parameters
        ----------
        estimator : LIFTClassifier or LIFTRegressor
            Fitted.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : TrainingDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is none of liftlearn's, or its fine-tuner keeps no history.
        ImportError
            If matplotlib is not installed.
        """
        _refuse_other(estimator, "finetuner", "a LIFTClassifier or LIFTRegressor")
        check_is_fitted(estimator)
        _refuse_other(estimator.finetuner_, "history_", "a FineTuner that was used")
        return cls(estimator.finetuner_.history_).plot(ax)

    def _draw(self) -> None:
        """Draw the loss of each member, and what was measured on unseen rows."""
        self.ax_.set(xlabel="epoch", ylabel="loss")
        known = {k for epoch in self.history for k, v in epoch.items() if v is not None}
        metrics = {"monitored": "monitored metric", "val_score": "validation score"}
        metric = next((name for name in metrics if name in known), None)
        twin = None if metric is None else self.ax_.twinx()
        for model in dict.fromkeys(epoch["model"] for epoch in self.history):
            own = [epoch for epoch in self.history if epoch["model"] == model]
            epochs = np.arange(1, len(own) + 1)
            self.ax_.plot(epochs, [epoch["loss"] for epoch in own], color="C0")
            if "val_loss" in known:
                losses = [epoch["val_loss"] for epoch in own]
                self.ax_.plot(epochs, losses, color="C0", linestyle="--")
            if metric is not None and twin is not None:
                twin.plot(epochs, [epoch[metric] for epoch in own], color="C1")
                twin.set(ylabel=metrics[metric])


def _refuse_other(given: Any, needed: str, expected: str) -> None:
    """Raise for what has not the attribute that a display is made from."""
    if isinstance(given, type) or not hasattr(given, needed):
        raise TypeError(f"Expected {expected}, got {given!r}.")


def _column(X: Any, x: Any) -> Floats:
    """Return a column's numbers, by its name or its index in an array."""
    try:
        column = X[x] if hasattr(X, "columns") else np.asarray(X)[:, x]
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a column of X as x, by its name or its index in an array, got "
            f"{x!r}."
        ) from error
    return _row_numbers(column, f"column {x!r}", len(X))


def _row_numbers(values: Any, name: str, n_rows: int) -> Floats:
    numbers = finite_numbers(values, name)
    if numbers.shape != (n_rows,):
        raise ValueError(
            f"Expected a number for each of {n_rows} rows as {name}, got an array of "
            f"shape {numbers.shape}."
        )
    return numbers


def _axes(ax: Any) -> Any:
    """Return the given axes, or those of a new figure."""
    if ax is not None:
        _refuse_other(ax, "plot", "the Axes of a matplotlib figure")
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed. Run "
            "pip install 'liftlearn[plot]'."
        ) from error
    return pyplot.subplots()[1]
