"""Tables of any kind as checked pandas ones, with the column names of ``fit``.

What a user passed as ``X`` goes in. The one module, over `_containers`, that knows
other dataframe libraries.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import date, timedelta
from math import isinf
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array

from liftlearn._containers import (
    array_table,
    check_unicode,
    numbered,
    plain_column,
    plain_table,
)
from liftlearn._values import form_of

# What pandas may infer of cells of which some are numbers.
_WITH_NUMBERS = {
    "complex",
    "decimal",
    "floating",
    "integer",
    "integer-na",
    "mixed",
    "mixed-integer",
    "mixed-integer-float",
}
# As many names as scikit-learn lists in a message.
_MOST_NAMES = 5


def check_table(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame:
    """Return ``X`` as a pandas table, its types kept, its names and cells checked.

    Sets, or compares with, the names and the count of columns of ``fit``; what has no
    names gets those. Missing cells pass; infinite ones and empty tables raise.
    """
    table, names = as_pandas(X), None
    if table is None:
        table = _from_array(estimator, X)
    else:
        names = names_of(table)
        _check_shape(estimator, table)
        columns = [cells for _, cells in table.items()]
        check_unicode(columns)
        _check_finite(estimator, columns)
    if reset:
        remember_columns(estimator, table, names)
        return table
    is_named = _check_columns(estimator, table, names)
    known = _known_names(estimator)
    if is_named or (names is None and known is None):
        return table
    names = known or [*numbered(table.shape[1])]
    return table.set_axis(pd.Index(names, tupleize_cols=False), axis=1)


def _from_array(estimator: BaseEstimator, X: Any) -> pd.DataFrame:
    """Return an array or a list of rows as a table, its columns numbered.

    Where cells are of several types, each column has the type of its own.
    """
    _refuse_others(X)
    if _is_list(X):  # an array of them would make numbers text
        X = _cells_of(X)
    array = check_array(
        X,
        dtype=None,
        ensure_all_finite="allow-nan",
        estimator=estimator,
        input_name="X",
    )
    table = array_table(array)
    if array.dtype == object:
        table = table.infer_objects()
        # What check_array does for numbers
        _check_finite(estimator, [cells for _, cells in table.items()])
    return table


def _refuse_others(X: Any) -> None:
    """Raise for what is neither an array nor a list of rows."""
    if isinstance(X, np.ndarray) and X.dtype.names is None:
        return
    what_to_do = None
    is_list = _is_list(X)
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        what_to_do = "Collect it first: X.collect() in polars, X.compute() in dask."
    elif isinstance(X, Mapping) and not issparse(X):  # one kind of which is a dict
        what_to_do = "Make a table of it first: pd.DataFrame(X), pd.DataFrame([X])."
    elif is_list and len(X) and isinstance(X[0], Mapping):
        what_to_do = "Make a table of them first: pd.DataFrame(X)."
    elif getattr(getattr(X, "dtype", None), "names", None):  # a structured array
        what_to_do = "Make a table of it first: pd.DataFrame(X)."
    elif isinstance(X, Iterator | set | frozenset):
        what_to_do = "Make a list of rows of it first: list(X)."
    elif not (is_list or _is_array(X)):
        what_to_do = "Pass the rows themselves."
    if what_to_do is not None:
        kind = type(X).__name__ + (f" of {type(X[0]).__name__}" if is_list else "")
        raise TypeError(
            "Expected a table of shape (n_samples, n_features) as X: a dataframe, an "
            f"array or a list of rows, got {kind}. {what_to_do}"
        )


def _is_list(X: Any) -> bool:
    return isinstance(X, Sequence) and not isinstance(X, str | bytes | memoryview)


def _is_array(X: Any) -> bool:
    """Return whether scikit-learn makes an array of it, or knows why not."""
    if isinstance(X, memoryview) or issparse(X):
        return True
    return hasattr(X, "__array__") and not isinstance(X, Real | type)


def _cells_of(rows: Sequence[Any]) -> Any:
    """Return the rows' cells, each of its own type, as an array."""
    lengths = [_n_cells(row) for row in rows]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            raise ValueError(
                f"Expected rows of one length as X, but row 0 has {_count(lengths[0])} "
                f"and row {row} has {_count(length)}. Write None for a missing cell."
            )
    return np.array(list(rows), dtype=object)


def _n_cells(row: Any) -> int | None:
    is_row = _is_list(row) or (_is_array(row) and np.ndim(row) > 0)
    return len(row) if is_row else None


def _count(n_cells: int | None) -> str:
    return "no list of cells" if n_cells is None else f"{n_cells} cells"


def names_of(table: pd.DataFrame) -> list[Hashable]:
    """Return the names of a table's columns as values that can be compared and saved.

    >>> names_of(pd.DataFrame([[1, 2]], columns=["a", "b"]))
    ['a', 'b']
    """
    return [_plain_name(name) for name in table.columns.tolist()]


def _plain_name(name: Any) -> Any:
    if isinstance(name, str):
        return str(name)
    if isinstance(name, tuple):  # of several levels
        return tuple(map(_plain_name, name))
    if pd.isna(name):
        return None
    if isinstance(name, Real | date | timedelta):
        return name
    return type(name).__name__, str(name)  # itself it could not be saved


def _known_names(estimator: BaseEstimator) -> list[Hashable] | None:
    """Return the names that the columns had in ``fit``, None if it was an array."""
    if hasattr(estimator, "feature_names_in_"):
        names: list[Hashable] = estimator.feature_names_in_.tolist()
        return names
    return getattr(estimator, "_column_names", None)


def remember_columns(
    estimator: BaseEstimator, table: pd.DataFrame, names: list[Hashable] | None
) -> None:
    """Set the count of columns and their names, of whatever type these are."""
    for attribute in ("feature_names_in_", "_column_names"):
        if hasattr(estimator, attribute):
            delattr(estimator, attribute)
    estimator.n_features_in_ = table.shape[1]
    if names is None:
        return
    types = sorted({type(name).__name__ for name in names})
    if types == ["str"]:
        texts = _distinct_texts(names)
        estimator.feature_names_in_ = np.array(texts, dtype=object)
    elif "str" in types:
        raise TypeError(
            "Feature names are only supported if all input features have string "
            f"names, but your input has {types} as feature name / column name types. "
            "Make all of them strings, X.columns = X.columns.astype(str), or none."
        )
    else:
        estimator._column_names = names


def _distinct_texts(names: list[Any]) -> list[str]:
    return names if len(set(names)) == len(names) else distinct_names(names)


def _are_texts(names: list[Hashable]) -> bool:
    return all(isinstance(name, str) for name in names)


def _check_columns(
    estimator: BaseEstimator, table: pd.DataFrame, names: list[Hashable] | None
) -> bool:
    """Return whether the columns have the names of ``fit``; if not, they go by order.

    Other names than those of ``fit`` raise.
    """
    known = _known_names(estimator)
    if names is not None and _are_texts(names):
        names = [*_distinct_texts(names)]
    if names is not None and names == known:
        return True
    if known is not None and names is not None and _are_compared(known, names):
        raise ValueError(_other_names(known, names))
    owner, n_known = type(estimator).__name__, estimator.n_features_in_
    if table.shape[1] != n_known:
        raise ValueError(
            f"X has {table.shape[1]} features, but {owner} is expecting {n_known} "
            "features as input."
        )
    had_names, has_names = _tell(known), _tell(names)
    indices = [*range(n_known)]
    if known is None and has_names and set(names or ()) == {*indices}:
        raise ValueError(_other_names(indices, names or []))
    if had_names != has_names:
        what = (
            f"X has feature names, but {owner} was fitted without feature names"
            if has_names
            else f"X does not have valid feature names, but {owner} was fitted with "
            "feature names"
        )
        warnings.warn(what, UserWarning, stacklevel=4)
    return False


def _tell(names: list[Hashable] | None) -> bool:
    """Return whether names say more than the columns' indices.

    An array has none, and pandas numbers the columns of a frame made of an array.
    """
    return names is not None and names != [*range(len(names))]


def _are_compared(known: list[Hashable], names: list[Hashable]) -> bool:
    """Return whether the names of two frames must be equal.

    If not, one frame's are texts, and the other's its columns' indices.
    """
    if _tell(known) and _tell(names):
        return True
    return not all(_are_texts(each) for each in (known, names) if _tell(each))


def _other_names(known: list[Hashable], names: list[Hashable]) -> str:
    """Return how the names differ from those of ``fit``, in scikit-learn's words."""
    write: Callable[[Any], str] = str if _are_texts([*known, *names]) else repr
    message = "The feature names should match those that were passed during fit.\n"
    missing = Counter(known) - Counter(names)
    unseen = Counter(names) - Counter(known)
    if unseen:
        message += _listing("unseen at fit time", map(write, unseen.elements()))
    if missing:
        texts = map(write, missing.elements())
        message += _listing("seen at fit time, yet now missing", texts)
    if not missing and not unseen:
        message += "Feature names must be in the same order as they were in fit.\n"
    return message


def _listing(what: str, names: Iterable[str]) -> str:
    lines = [f"- {name}" for name in sorted(names)]
    if len(lines) > _MOST_NAMES:
        lines = [*lines[:_MOST_NAMES], "- ..."]
    return "\n".join([f"Feature names {what}:", *lines, ""])


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


def as_pandas(X: Any) -> pd.DataFrame | None:
    """Return a dataframe of any library as a plain pandas one; None for the rest."""
    if isinstance(X, pd.DataFrame):
        return plain_table(X)
    if isinstance(X, np.ndarray):
        return None
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


def _check_finite(estimator: BaseEstimator, columns: list[pd.Series]) -> None:
    for cells in columns:
        name = cells.name
        if _are_complex(cells):
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


def _are_complex(cells: pd.Series) -> bool:
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "O":
        return bool(pd.api.types.infer_dtype(cells, skipna=True) == "complex")
    return bool(cells.dtype.kind == "c")


def _infinite(cells: pd.Series) -> NDArray[np.bool_]:
    """Return which cells of a column are numbers that float64 cannot hold."""
    if cells.dtype.kind == "f":
        numbers: NDArray[np.float64] = cells.to_numpy(float, na_value=np.nan)
        return np.isinf(numbers)
    is_object = isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "O"
    if is_object and pd.api.types.infer_dtype(cells, skipna=True) in _WITH_NUMBERS:
        return np.array([_is_infinite(cell) for cell in cells])
    return np.zeros(0, bool)


def _is_infinite(cell: Any) -> bool:
    try:
        return form_of(cell) == "number" and isinf(cell)
    except OverflowError:  # an integer
        return True
