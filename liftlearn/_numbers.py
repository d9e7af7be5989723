"""Numbers as text: significant digits, positions on a scale, and fixed-width codes.

Arrays of numbers go in, lists of strings come out. Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A z-scored number's position is linear within this many standard deviations.
_REACH = 4.0
# The interquartile range of a normal distribution, in standard deviations.
_NORMAL_IQR = 1.349
# Knots kept of a column's quantile curve; two-digit text can't show more.
_MOST_KNOTS = 201
# Larger numbers count as this one: differences between knots must not overflow.
_GREATEST = float(np.finfo(np.float64).max) / 16


@dataclass(frozen=True, eq=False)
class Scale:
    """A monotone, piecewise linear map between numbers and positions in [0, 1].

    Knots and their positions increase. Numbers beyond the outer knots take the outer
    positions.

    >>> scale = Scale(np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    >>> scale.position([2.5, 99.0]), scale.number([0.25])
    (array([0.25, 1.  ]), array([2.5]))
    """

    knots: NDArray[np.float64]
    positions: NDArray[np.float64]

    def position(self, numbers: ArrayLike) -> NDArray[np.float64]:
        """Return the position of each number; nan stays nan."""
        positions: NDArray[np.float64] = np.interp(
            np.asarray(numbers), self.knots, self.positions
        )
        # Between knots that are less than a normal float apart, the slope overflows.
        # Of a few numbers np.clip takes four times as long.
        least, most = self.positions[0], self.positions[-1]
        inside: NDArray[np.float64] = np.maximum(np.minimum(positions, most), least)
        return inside

    def number(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return the number at each position."""
        numbers: NDArray[np.float64] = np.interp(
            np.asarray(positions), self.positions, self.knots
        )
        return numbers


def fit_scale(
    numbers: NDArray[np.float64], weight: NDArray[np.float64], spacing: str
) -> Scale:
    """Return the scale that spaces a column's finite numbers as asked.

    ``"zscore"`` is linear within four standard deviations of the mean, ``"quantile"``
    gives equal room to equally many rows, ``"mixed"`` is the mean of the quantile and
    of the normal distribution function of the robust z-score (from the median, in
    interquartile ranges), and ``"rank"`` gives each distinct number equal room. A
    weight means so many repetitions.

    >>> scale = fit_scale(np.array([1.0, 2.0, 100.0]), np.ones(3), "rank")
    >>> scale.position([1.0, 2.0, 100.0]).round(3)
    array([0.167, 0.5  , 0.833])
    """
    numbers = numbers.clip(-_GREATEST, _GREATEST)
    levels, index = np.unique(numbers, return_inverse=True)
    share = np.bincount(index, weight) / weight.sum()
    if len(levels) == 1:
        return Scale(levels, np.array([0.5]))
    if spacing == "rank":
        return Scale(levels, (np.arange(len(levels)) + 0.5) / len(levels))
    below = np.cumsum(share) - share / 2  # the middle of each level's step
    # In units of the largest magnitude, squares neither overflow nor vanish.
    unit = np.abs(levels).max()
    shown = levels / unit
    centre = (share * shown).sum()
    deviation = np.sqrt((share * (shown - centre) ** 2).sum())
    if spacing == "zscore":
        ends = np.array([centre - _REACH * deviation, centre + _REACH * deviation])
        return Scale(ends * unit, np.array([0.0, 1.0]))
    if spacing == "mixed":
        first, centre, third = np.interp([0.25, 0.5, 0.75], below, shown)
        deviation = (third - first) / _NORMAL_IQR or deviation
        z = (shown - centre) / deviation
        below = (below + [NormalDist().cdf(level) for level in z.tolist()]) / 2
    return _fewer_knots(Scale(levels, below))


def _fewer_knots(scale: Scale) -> Scale:
    """Keep the knots nearest to evenly spaced positions, and both ends."""
    if len(scale.knots) <= _MOST_KNOTS:
        return scale
    wanted = np.linspace(scale.positions[0], scale.positions[-1], _MOST_KNOTS)
    nearest = np.searchsorted(scale.positions, wanted).clip(max=len(scale.knots) - 1)
    kept = np.unique(nearest)
    return Scale(scale.knots[kept], scale.positions[kept])


def row_shapes(
    numbers: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each number's position within its row, and rows' medians and deviations.

    A row is read as one curve: the position is its shape, the median its level and the
    mean deviation from it its size. The median is at 0.5, and 0 and 1 are four mean
    deviations away from it.

    >>> positions, median, deviation = row_shapes(np.array([[1.0, 2, 3], [10, 20, 30]]))
    >>> positions.round(4)
    array([[0.3125, 0.5   , 0.6875],
           [0.3125, 0.5   , 0.6875]])
    >>> median, deviation.round(4)
    (array([ 2., 20.]), array([0.6667, 6.6667]))
    """
    positions = np.full(numbers.shape, np.nan)
    median, deviation = np.full((2, len(numbers)), np.nan)
    for row in np.flatnonzero(~np.isnan(numbers).all(axis=1)):
        # In units of the largest magnitude, sums do not overflow.
        unit = np.nanmax(np.abs(numbers[row])) or 1.0
        shown = numbers[row] / unit
        centre = np.nanmedian(shown)
        size = np.nanmean(np.abs(shown - centre))
        positions[row] = 0.5 + (shown - centre) / (2 * _REACH * (size or 1.0))
        median[row], deviation[row] = centre * unit, size * unit
    return positions.clip(0.0, 1.0), median, deviation


def write_scaled(positions: NDArray[np.float64], digits: int) -> list[str]:
    """Write positions in [0, 1] with a fixed count of digits, in words of two.

    >>> write_scaled(np.array([0.0, 0.537, 1.0]), 2)
    ['00', '53', '99']
    >>> write_scaled(np.array([0.537]), 4)
    ['53 70']
    """
    words = fixed_digits(digits)
    bins = np.floor(positions * len(words)).astype(int)
    inside = np.minimum(np.maximum(bins, 0), len(words) - 1)
    return [words[i] for i in inside.tolist()]


@cache
def fixed_digits(digits: int) -> list[str]:
    """Return every number of so many digits, in words of two.

    >>> fixed_digits(3)[42]
    '04 2'
    """
    texts = (f"{number:0{digits}d}" for number in range(10**digits))
    return [" ".join(t[i : i + 2] for i in range(0, digits, 2)) for t in texts]


def write_plain(numbers: NDArray[np.float64], digits: int) -> list[str]:
    """Write numbers with so many significant digits; only extremes get an exponent.

    >>> write_plain(np.array([41.0, 0.001953, -7.25, 12345.0, 3e20]), 3)
    ['41', '0.00195', '-7.25', '12300', '3e+20']
    """
    return [_significant(number, digits) for number in numbers.tolist()]


def _significant(number: float, digits: int) -> str:
    text = f"{number + 0.0:.{digits}g}"  # -0.0 is 0
    if "e" in text and 1e-6 <= abs(number) < 1e15:
        return np.format_float_positional(float(text), trim="-")
    return text


def write_codes(
    indices: Sequence[int], n_codes: int, prefix: str, base: int
) -> list[str]:
    """Write each index below ``n_codes`` as words of a prefix and a number below base.

    All codes of a set have equally many words, so that none begins another.

    >>> write_codes([0, 63], 64, "c", base=64), write_codes([0, 65], 200, "c", base=64)
    (['c0', 'c63'], ['c0 c0', 'c1 c1'])
    """
    n_words = 1
    while base**n_words < n_codes:
        n_words += 1
    powers = [base**power for power in reversed(range(n_words))]
    return [
        " ".join(f"{prefix}{i // power % base}" for power in powers) for i in indices
    ]
