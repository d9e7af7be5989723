"""Checks of what users pass: tables, targets' weights, parameters.

The one module that imports scikit-learn's private helpers, and the one that knows
other dataframe libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import isinf
from typing import Any, Concatenate, ParamSpec, TypeVar

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    validate_data,
)

from liftlearn._containers import (
    array_table,
    check_unicode,
    plain_column,
    plain_table,
)
from liftlearn._values import check_texts, form_of

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_sample_weight",
    "check_table",
    "check_target",
    "distinct_names",
    "fits_whole",
    "weights_in_proportion",
]


# The least weight may be a count of so many rows.
_MOST_PARTS = 8

Estimator = TypeVar("Estimator", bound=BaseEstimator)
Given = ParamSpec("Given")
Fit = Callable[Concatenate[Estimator, Given], Estimator]


def fits_whole(fit: Fit[Estimator, Given]) -> Fit[Estimator, Given]:
    """Let a ``fit`` happen whole or not at all.

    It checks the object's parameters, those of its parts too, then learns on a copy
    that has learnt nothing. What the copy has learnt becomes the object's at the end,
    at once: a fit that fails or is interrupted leaves the object as it was.
    """
    checked = _fit_context(prefer_skip_nested_validation=False)(fit)

    @wraps(fit)
    def fitted(
        self: Estimator, /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Estimator:
        attempt = object.__new__(type(self))
        vars(attempt).update({k: v for k, v in vars(self).items() if not _is_learnt(k)})
        checked(attempt, *args, **kwargs)
        self.__dict__ = vars(attempt)
        return self

    return fitted


def _is_learnt(name: str) -> bool:
    return name.endswith("_") and not name.startswith("__")


def check_table(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame:
    """Return ``X`` as a pandas table, its names and types kept, its cells checked.

    Sets, or compares with, the estimator's ``n_features_in_`` and
    ``feature_names_in_``. Missing cells pass; infinite ones and empty tables raise.
    """
    table = _as_pandas(X)
    if table is None:
        array = validate_data(
            estimator, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"
        )
        table = array_table(array)
    else:
        named = table
        if not table.columns.is_unique:  # which scikit-learn refuses
            names = [str(name) for name in table.columns]
            named = table.set_axis(distinct_names(names), axis=1)
        validate_data(estimator, named, reset=reset, skip_check_array=True)
        _check_shape(estimator, table)
    check_unicode(table)
    _check_finite(estimator, table)
    return table


def distinct_names(names: list[str]) -> list[str]:
    """Return names of which none is empty and no two are equal.

    >>> distinct_names(["a", "", "a"])
    ['a', 'column 2', 'a (2)']
    """
    distinct: list[str] = []
    for i, name in enumerate(names):
        first = candidate = name or f"column {i + 1}"
        n_met = 1
        while candidate in distinct:
            n_met += 1
            candidate = f"{first} ({n_met})"
        distinct.append(candidate)
    return distinct


def _as_pandas(X: Any) -> pd.DataFrame | None:
    """Return a dataframe of any library as a plain pandas one; None for the rest."""
    if isinstance(X, pd.DataFrame):
        return plain_table(X)
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return None
    return pd.DataFrame({name: plain_column(frame[name]) for name in frame.columns})


def _check_shape(estimator: BaseEstimator, table: pd.DataFrame) -> None:
    """Refuse empty tables with the words that scikit-learn uses for arrays."""
    name = type(estimator).__name__
    for count, unit in zip(table.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {unit}(s) (shape={table.shape}) while a minimum "
                f"of 1 is required by {name}."
            )


def _check_finite(estimator: BaseEstimator, table: pd.DataFrame) -> None:
    for i, name in enumerate(table.columns):
        cells = table.iloc[:, i]
        if pd.api.types.is_complex_dtype(cells):
            raise ValueError(
                f"Complex data not supported: column {name!r} of the table given to "
                f"{type(estimator).__name__} holds complex numbers. Pass their real "
                "and imaginary parts as two columns."
            )
        infinite = np.flatnonzero(_infinite(cells))
        if len(infinite):
            raise ValueError(
                f"Input X contains infinity or a value too large for dtype('float64'): "
                f"column {name!r}, row {infinite[0]}. Replace infinite cells by a "
                "number, or by a missing cell."
            )


def _infinite(cells: pd.Series) -> NDArray[np.bool_]:
    """Return which cells of a column are numbers that float64 cannot hold."""
    if pd.api.types.is_object_dtype(cells):
        return np.array([_is_infinite(cell) for cell in cells])
    if pd.api.types.is_float_dtype(cells):
        numbers: NDArray[np.float64] = cells.to_numpy(float, na_value=np.nan)
        return np.isinf(numbers)
    return np.zeros(len(cells), bool)


def _is_infinite(cell: Any) -> bool:
    try:
        return form_of(cell) == "number" and isinf(cell)
    except OverflowError:  # an integer
        return True


def check_sample_weight(sample_weight: Any, X: Any) -> NDArray[np.float64]:
    """Return one finite weight for each row, not all of them zero; None means ones.

    They are `weights_in_proportion`.
    """
    weight: NDArray[np.float64] = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    return weights_in_proportion(weight)


def weights_in_proportion(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights in units of the least that is not zero, to twelve digits.

    So weights on any scale are the same weights. Counts stay counts: where a part of
    the least makes all of them whole, that is the unit. It is a part of the greatest
    where the least is too small beside that.

    >>> weights_in_proportion(np.array([0.1, 0.3, 0.0]))
    array([1., 3., 0.])
    >>> weights_in_proportion(np.array([20.0, 50.0]))
    array([2., 5.])
    """
    unit = max(weight[weight > 0].min(), weight.max() / 2**52)
    share, power = np.frexp(weight / unit)
    ratio: NDArray[np.float64] = np.ldexp(np.rint(share * 2**40), power - 40)
    for n_parts in range(1, _MOST_PARTS + 1):
        counts: NDArray[np.float64] = np.rint(n_parts * ratio)
        if np.allclose(counts, n_parts * ratio, rtol=1e-9, atol=0):
            return counts
    return ratio


def check_target(
    estimator: BaseEstimator, y: Any, table: pd.DataFrame, *, numeric: bool = False
) -> NDArray[Any]:
    """Return the target as an array with one finite entry for each row."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None."
        )
    target: NDArray[Any] = _check_y(y, y_numeric=numeric, estimator=estimator)
    check_consistent_length(table, target)
    if target.dtype.kind in "UO":
        check_texts(target.tolist(), "The label of row")
    return target.astype(np.float64) if numeric else target
