"""Distributions over a range of numbers: what a regressor knows of each row.

Arrays go in and come out; imports numpy, scipy and the checks of arguments alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rv_continuous
from sklearn.utils import check_random_state

from liftlearn._validation import Interval, check_number, finite_numbers

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class NumberDistribution:
    """Distributions over numbers, one for each row, as `LIFTRegressor` predicts them.

    The range is cut into pieces, the same for all rows; within a piece all numbers are
    equally probable. All that is said of a distribution is exact: nothing is sampled,
    and no probability is left out.

    `pdf`, `logpdf`, `cdf`, `ppf` and `interval` are scipy's, and broadcast as its
    frozen distributions do whose parameters have the shape ``(n_samples,)``: a number
    is asked of each row, an array of the shape ``(n_samples,)`` has one for each row,
    and a column of the shape ``(n_points, 1)`` asks several of each row, which gives
    the shape ``(n_points, n_samples)``.

    Parameters
    ----------
    edges : ndarray of shape (n_pieces + 1,)
        Where the pieces meet, in increasing order, in the units of the target.
    log_mass : ndarray of shape (n_samples, n_pieces)
        Logarithm of each piece's probability; a row's probabilities sum to 1.
    low, high : float
        The least and the greatest number that is predicted: what lies beyond, which
        can be half the distance of two round numbers, counts as these.

    Examples
    --------
    >>> import numpy as np
    >>> from liftlearn import NumberDistribution
    >>> distribution = NumberDistribution(
    ...     np.array([0.0, 1.0, 3.0]), np.log([[0.5, 0.5]]), low=0.0, high=3.0
    ... )
    >>> distribution.mean, distribution.ppf([0.25, 0.75])
    (array([1.25]), array([0.5, 2. ]))
    >>> distribution
    NumberDistribution(1 row, from 0 to 3)
    """

    edges: Floats
    log_mass: Floats
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.log_mass)

    def __repr__(self) -> str:
        rows = "1 row" if len(self) == 1 else f"{len(self)} rows"
        name = type(self).__name__
        return f"{name}({rows}, from {self.low:g} to {self.high:g})"

    def __getitem__(self, rows: Any) -> NumberDistribution:
        """Return the distributions of some rows; a single one is a row, too."""
        chosen = np.atleast_2d(self.log_mass[rows])
        return NumberDistribution(self.edges, chosen, self.low, self.high)

    @property
    def mean(self) -> Floats:
        """Means, of shape (n_samples,): the least expected squared error."""
        mean: Floats = (self._mass * self._middle).sum(axis=1)
        return mean.clip(self.low, self.high)

    @property
    def median(self) -> Floats:
        """Medians, of shape (n_samples,): the least expected absolute error."""
        return self.ppf(0.5)

    @property
    def std(self) -> Floats:
        """Standard deviations, of shape (n_samples,), in the units of the target."""
        # In units of the whole range, squares neither overflow nor vanish.
        unit = self.edges[-1] - self.edges[0] or 1.0
        centre = (self._mass * self._middle).sum(axis=1)
        square = ((self._middle - centre[:, None]) / unit) ** 2
        square += (self._width / unit) ** 2 / 12
        deviation: Floats = unit * np.sqrt((self._mass * square).sum(axis=1))
        return deviation

    def cdf(self, x: ArrayLike) -> Floats:
        """Return the probability of a number no greater than ``x``.

        Parameters
        ----------
        x : array-like that broadcasts to (..., n_samples)
            Numbers, in the units of the target.

        Returns
        -------
        probability : ndarray of shape (..., n_samples)
            In [0, 1].

        Raises
        ------
        ValueError
            If `x` has other than finite numbers, or does not broadcast.

        Examples
        --------
        >>> import numpy as np
        >>> from liftlearn import NumberDistribution
        >>> two = NumberDistribution(
        ...     np.arange(3), np.log([[0.5, 0.5], [0.1, 0.9]]), 0, 2
        ... )
        >>> two.cdf(1.0)
        array([0.5, 0.1])
        >>> two.cdf([[0.0], [2.0]])
        array([[0., 0.],
               [1., 1.]])
        """
        x = self._broadcast(finite_numbers(x, "x"), "x")
        rows, piece = np.arange(len(self)), self._piece(x)
        width = self._width[piece]
        inside = (x - self.edges[piece]) / np.where(width > 0, width, 1.0)
        below: Floats = self._below[rows, piece]
        return below + inside.clip(0.0, 1.0) * self._mass[rows, piece]

    def ppf(self, q: ArrayLike) -> Floats:
        """Return the quantiles: numbers below which a share of the probability lies.

        Parameters
        ----------
        q : array-like that broadcasts to (..., n_samples)
            Shares in [0, 1]. ``predict(X, quantiles=...)`` of a `LIFTRegressor` has the
            rows first.

        Returns
        -------
        numbers : ndarray of shape (..., n_samples)
            In the units of the target, within ``low`` and ``high``.

        Raises
        ------
        ValueError
            If a share is not in [0, 1], or `q` does not broadcast.

        Examples
        --------
        >>> import numpy as np
        >>> from liftlearn import NumberDistribution
        >>> two = NumberDistribution(
        ...     np.arange(3), np.log([[0.5, 0.5], [0.1, 0.9]]), 0, 2
        ... )
        >>> two.ppf([[0.1], [0.5]])
        array([[0.2       , 1.        ],
               [1.        , 1.44444444]])
        """
        q = self._broadcast(shares_of(q, "q"), "q")
        rows = np.arange(len(self))
        numbers = np.empty(q.shape)
        for at in np.ndindex(q.shape[:-1]):
            share = q[at]
            piece = (self._until < share[:, None]).sum(axis=1)
            piece = piece.clip(max=len(self.edges) - 2)
            own = self._mass[rows, piece]
            # The first piece, where no share is to be reached, may have no probability.
            left = share - self._below[rows, piece]
            inside = (left / np.where(own > 0, own, 1.0)).clip(0.0, 1.0)
            numbers[at] = self.edges[piece] + inside * self._width[piece]
        return numbers.clip(self.low, self.high)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Return the central interval of each row that has a given probability.

        Parameters
        ----------
        confidence : float
            The probability, in [0, 1].

        Returns
        -------
        lower, upper : ndarray of shape (n_samples,)
            The ends: equally much probability lies below and above.

        Raises
        ------
        ValueError
            If it is no number in [0, 1].

        Examples
        --------
        >>> import numpy as np
        >>> from liftlearn import NumberDistribution
        >>> NumberDistribution(np.array([0, 1]), np.log([[1.0]]), 0, 1).interval(0.8)
        (array([0.1]), array([0.9]))
        """
        check_number(
            confidence,
            Interval(Real, 0, 1, closed="both"),
            "The confidence is a share in [0, 1]",
            "Give one number, such as 0.9, and call once for each of several.",
        )
        return self.ppf((1 - confidence) / 2), self.ppf((1 + confidence) / 2)

    def pdf(self, x: ArrayLike) -> Floats:
        """Return the density at ``x``.

        Parameters
        ----------
        x : array-like that broadcasts to (..., n_samples)
            Numbers, in the units of the target.

        Returns
        -------
        density : ndarray of shape (..., n_samples)
            Per unit of the target; 0 beyond the range.

        Raises
        ------
        ValueError
            If `x` has other than finite numbers, or does not broadcast.

        Examples
        --------
        >>> import numpy as np
        >>> from liftlearn import NumberDistribution
        >>> NumberDistribution(np.array([0, 4]), np.log([[1.0]]), 0, 4).pdf([1.0, 5.0])
        array([0.25, 0.  ])
        """
        return np.exp(self.logpdf(x))

    def logpdf(self, x: ArrayLike) -> Floats:
        """Return the logarithm of the density at ``x``.

        Parameters
        ----------
        x : array-like that broadcasts to (..., n_samples)
            Numbers, in the units of the target.

        Returns
        -------
        log_density : ndarray of shape (..., n_samples)
            In nats, for a density per unit of the target; -inf beyond the range.

        Raises
        ------
        ValueError
            If `x` has other than finite numbers, or does not broadcast.
        """
        x = self._broadcast(finite_numbers(x, "x"), "x")
        piece = self._piece(x)
        # The one number of a constant target has no width: its density is infinite.
        with np.errstate(divide="ignore"):
            log_width = np.log(self._width[piece])
        log_density = self.log_mass[np.arange(len(self)), piece] - log_width
        is_beyond = (x < self.edges[0]) | (x > self.edges[-1])
        return np.where(is_beyond, -np.inf, log_density)

    def to_scipy(self, i: int) -> Any:
        """Return the distribution of one row as scipy knows distributions.

        Parameters
        ----------
        i : int
            The row; negative numbers count from the end.

        Returns
        -------
        distribution : scipy.stats.rv_frozen
            A frozen continuous distribution with all of scipy's methods. Functions,
            quantiles and moments are exact, and equal to those of here; ``expect`` is
            scipy's numerical integral.

        Raises
        ------
        ValueError
            If there is no such row.

        Examples
        --------
        >>> import numpy as np
        >>> from liftlearn import NumberDistribution
        >>> one = NumberDistribution(np.array([0, 4]), np.log([[1.0]]), 0, 4)
        >>> one.to_scipy(0).sf(1.0)
        np.float64(0.75)
        """
        check_number(
            i,
            Interval(Integral, -len(self), len(self) - 1, closed="both"),
            f"The number of a row is a whole number, and there are {len(self)} rows",
            f"Give one from 0 to {len(self) - 1}.",
        )
        return _OfScipy(self[i])()

    def crps(self, y: ArrayLike) -> Floats:
        """Return the continuous ranked probability score of each row's own number.

        The integral over x of ``(cdf(x) - (x >= y))**2`` [1]_: the absolute error, for
        a prediction that is a whole distribution. Less is better.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The true numbers, in the units of the target.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            In the units of the target.

        Raises
        ------
        ValueError
            If `y` is not one finite number for each row.

        References
        ----------
        .. [1] T. Gneiting, A. E. Raftery, "Strictly Proper Scoring Rules, Prediction,
           and Estimation", JASA 2007.
        """
        # The mean distance from y, less half that of two numbers of the distribution.
        width, middle = self._width, self._middle
        distance = np.abs(self._checked(y)[:, None] - middle)
        is_inside = distance < width / 2
        share = np.divide(distance, width, where=is_inside, out=np.ones_like(distance))
        distance = share * distance + is_inside * width / 4
        below, until = self._below, self._until
        both = (below + until) / 2 - (below**2 + below * until + until**2) / 3
        score: Floats = (self._mass * distance).sum(axis=1) - both @ width
        return score.clip(min=0.0)  # rounding

    def sample(
        self,
        n_samples: int = 1,
        *,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> Floats:
        """Draw numbers from each row's distribution.

        Parameters
        ----------
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
            In the units of the target, within ``low`` and ``high``.

        Raises
        ------
        ValueError
            If the temperature is not positive, or the count of draws is no such.
        """
        log_width = np.log(np.maximum(self._width, np.finfo(float).tiny))
        rng = check_random_state(random_state)
        # A piece by its density, then a point in it.
        piece = sample_index(
            self.log_mass - log_width, n_samples, temperature, rng, log_width
        )
        inside = rng.uniform(size=piece.shape)
        numbers: Floats = self.edges[piece] + inside * self._width[piece]
        return numbers.clip(self.low, self.high)

    @cached_property
    def _mass(self) -> Floats:
        return np.exp(self.log_mass)

    @cached_property
    def _until(self) -> Floats:
        """The probability below each piece's end, of shape (n_samples, n_pieces)."""
        return self._mass.cumsum(axis=1)

    @property
    def _below(self) -> Floats:
        return self._until - self._mass

    @property
    def _width(self) -> Floats:
        return np.diff(self.edges)

    @property
    def _middle(self) -> Floats:
        return self.edges[:-1] + self._width / 2

    def _checked(self, y: ArrayLike) -> Floats:
        y = finite_numbers(y, "y")
        if y.shape != (len(self),):
            raise ValueError(
                f"Expected one number for each of the {len(self)} rows, got an array "
                f"of shape {y.shape}."
            )
        return y

    def _broadcast(self, values: Floats, name: str) -> Floats:
        """Return an argument with the rows along its last axis."""
        n_last = values.shape[-1] if values.ndim else 1
        if len(self) != 1 and n_last not in (1, len(self)):
            raise ValueError(
                f"Expected as {name} one number, one for each of the {len(self)} rows, "
                f"or several for all rows as a column of the shape (n, 1), got the "
                f"shape {values.shape}. Write np.reshape({name}, (-1, 1)) for a column."
            )
        shape = np.broadcast_shapes(values.shape, (len(self),))
        return np.broadcast_to(values, shape)

    def _piece(self, y: Floats) -> NDArray[np.intp]:
        """Return the piece of each number; the first and last are those beyond."""
        piece = np.searchsorted(self.edges, y, side="right") - 1
        return piece.clip(0, len(self.edges) - 2)


class _OfScipy(rv_continuous):
    """One row's distribution, for `NumberDistribution.to_scipy`."""

    def __init__(self, row: NumberDistribution, **options: Any) -> None:
        self._row = row
        options["a"], options["b"] = (float(row.edges[at]) for at in (0, -1))
        super().__init__(**{"name": "number", **options})

    def _updated_ctor_param(self) -> dict[str, Any]:
        # What scipy copies and pickles a distribution by.
        return {**super()._updated_ctor_param(), "row": self._row}

    # At shares of 0 and 1 scipy takes the ends of the support.
    def ppf(self, q: ArrayLike, loc: float = 0.0, scale: float = 1.0) -> Any:
        ends = loc + scale * self._row.ppf([0.0, 1.0])
        return np.clip(super().ppf(q, loc, scale), *ends)

    def isf(self, q: ArrayLike, loc: float = 0.0, scale: float = 1.0) -> Any:
        ends = loc + scale * self._row.ppf([0.0, 1.0])
        return np.clip(super().isf(q, loc, scale), *ends)

    def _pdf(self, x: Floats) -> Floats:
        return self._row.pdf(x)

    def _logpdf(self, x: Floats) -> Floats:
        return self._row.logpdf(x)

    def _cdf(self, x: Floats) -> Floats:
        return self._row.cdf(x)

    def _ppf(self, q: Floats) -> Floats:
        return self._row.ppf(q)

    def _munp(self, n: int) -> float:
        return self._power(self._row.edges, n)

    def _stats(self) -> tuple[float, float, float, float]:
        row = self._row
        mean, std = float(row.mean[0]), float(row.std[0])
        if std == 0:
            return mean, 0.0, np.nan, np.nan
        unit = (row.edges - self._power(row.edges, 1)) / std
        return mean, std**2, self._power(unit, 3), self._power(unit, 4) - 3

    def _entropy(self) -> float:
        row = self._row
        mass = row._mass[0]
        with np.errstate(divide="ignore"):
            log_density = row.log_mass[0] - np.log(row._width)
        return -float((mass * log_density)[mass > 0].sum())

    def _power(self, edges: Floats, n: int) -> float:
        """Return the mean of the n-th power over pieces with these edges."""
        left, right = edges[:-1], edges[1:]
        # The integral of x**n from left to right over their distance, which may be 0.
        mean = sum(left**k * right ** (n - k) for k in range(n + 1)) / (n + 1)
        return float((self._row._mass[0] * mean).sum())


def shares_of(q: ArrayLike, name: str) -> Floats:
    """Return what the user passed under a name as shares; raise if it is none.

    >>> shares_of([0.1, 0.9], "q")
    array([0.1, 0.9])
    """
    is_flag = np.asarray(q).dtype == bool
    given, q = q, finite_numbers(q, name)
    if is_flag or not ((q >= 0) & (q <= 1)).all():
        raise ValueError(
            f"Expected as {name} shares in [0, 1], got {given!r}. Give one, or a "
            "list of them, such as [0.1, 0.5, 0.9]."
        )
    return q


def sample_index(
    log_prob: Floats,
    n_samples: int,
    temperature: float,
    random_state: Any,
    log_size: Floats | float = 0.0,
) -> NDArray[np.intp]:
    """Draw columns of each row by probability, or by density and size.

    ``p ∝ exp(log_prob / temperature) * exp(log_size)``; the result has the shape
    (n_rows, n_samples).

    >>> sample_index(np.log([[1e-9, 1.0]]), 3, 1.0, 0)
    array([[1, 1, 1]])
    """
    check_number(
        temperature,
        Interval(Real, 0, None, closed="neither"),
        "The temperature is a positive number",
        "For the most probable, predict instead of sampling.",
    )
    check_number(
        n_samples,
        Interval(Integral, 1, None, closed="left"),
        "n_samples is a whole number of at least 1",
        "It is how many draws there are of each row.",
    )
    log_prob = log_prob - log_prob.max(axis=1, keepdims=True)
    until = np.exp(log_normalised(log_prob / temperature + log_size)).cumsum(axis=1)
    shares = check_random_state(random_state).uniform(size=(len(until), n_samples))
    drawn = np.empty(shares.shape, np.intp)
    for row, (ends, share) in enumerate(zip(until, shares, strict=True)):
        drawn[row] = np.searchsorted(ends, share, side="right")
    return drawn.clip(max=until.shape[1] - 1)  # the last sum may be rounded below 1


def log_normalised(log_prob: Floats) -> Floats:
    """Return the logarithms of probabilities that sum to 1 in each row.

    Rows are along the last axis; each has a finite entry.

    >>> np.exp(log_normalised(np.log([[0.1, 0.3]])))
    array([[0.25, 0.75]])
    """
    # exp of a raw score underflows to 0 for long answers; differences do not.
    shifted = log_prob - log_prob.max(axis=-1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal
