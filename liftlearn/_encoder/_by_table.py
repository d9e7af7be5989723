"""How the embedded model has a table written: what ``"by_table"`` stands for.

What was measured for these numbers stands in docs/experiments.md.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftlearn._numbers import fit_scale

# Rows of so many numbers may be curves; those that move by less, as a share of their
# columns' scales, have no shape left there.
_FEWEST_POINTS, _FLAT = 16, 0.02
# That of up to so many columns of numbers, and the most.
_LEAST_JITTER, _FEW_NUMBERS, _MOST_JITTER = 0.05, 16, 0.2
# The same for cell dropout. Fewer columns of numbers have none, but fewer rows than so
# many have at least so much.
_LEAST_DROPOUT, _FEWEST_NUMBERS, _MOST_DROPOUT = 0.1, 8, 0.3
_ENOUGH_ROWS, _DROPOUT_OF_FEW = 75, 0.2
# Rows of more cells than this are written by places, if no more are missing than this.
_FEW_CELLS, _MOST_MISSING = 32, 0.5
# Ways of writing that take the same count of words in each row.
_OF_ONE_LENGTH = {"number", "rank", "time", "order", "level"}


def numbers_by_table(
    numbers: NDArray[np.float64], weight: NDArray[np.float64], spacing: str
) -> str:
    """Return how the numbers, (n_rows, n_columns), are written."""
    if numbers.shape[1] < _FEWEST_POINTS:
        return "scaled"
    positions = [
        fit_scale(column[known], weight[known], spacing).position(column)
        for column in numbers.T
        if (known := ~np.isnan(column)).any()
    ]
    # Would the columns' scales leave anything of a row's shape?
    within = np.nanvar(positions, axis=0)
    return "row" if np.nanmean(within) < _FLAT**2 else "scaled"


def jitter_by_table(n_numbers: int) -> float:
    """Return the jitter of so many columns of numbers."""
    return _grown(_LEAST_JITTER, n_numbers, _MOST_JITTER)


def dropout_by_table(n_numbers: int, n_rows: int) -> float:
    """Return the cell dropout of a table of so many columns of numbers and rows."""
    least = _DROPOUT_OF_FEW if n_rows < _ENOUGH_ROWS else 0.0
    if n_numbers < _FEWEST_NUMBERS:
        return least
    return max(least, _grown(_LEAST_DROPOUT, n_numbers, _MOST_DROPOUT))


def columns_by_table(cells: list[pd.Series], ways: list[str]) -> str:
    """Return how columns are called: by places, where these tell them apart and pay."""
    n_missing = sum(int(column.isna().sum()) for column in cells)
    is_full = n_missing <= _MOST_MISSING * len(cells) * len(cells[0])
    is_wide = len(cells) > _FEW_CELLS
    pays = is_wide and is_full and _OF_ONE_LENGTH.issuperset(ways)
    return "places" if pays else "slots"


def _grown(least: float, n_numbers: int, most: float) -> float:
    """Return what grows with the columns of numbers, if they are more than a few."""
    return float(np.clip(least * n_numbers / _FEW_NUMBERS, least, most))
