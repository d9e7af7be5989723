"""Tables of other libraries, and pandas columns that hold others' cells, as plain ones.

A column of Arrow, polars, or pandas' own special types goes in; out comes a pandas
series of numpy's types, booleans, categories, texts or Python's own objects.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftlearn._values import check_text, check_texts, column_forms

# What pandas calls its own containers of other forms.
_CONTAINERS = (pd.ArrowDtype, pd.SparseDtype, pd.PeriodDtype, pd.IntervalDtype)
# Declared types whose cells are no single values.
_NESTED = tuple(
    getattr(nw, name, nw.Unknown)  # older narwhals have no maps
    for name in ("List", "Array", "Struct", "Map", "Binary", "Unknown")
)


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its Arrow, sparse, period and interval columns plain.

    A column whose type holds no single values, such as lists, raises ValueError.
    """
    if not any(isinstance(dtype, _CONTAINERS) for dtype in table.dtypes):
        return table
    columns = [_plain_pandas(table.iloc[:, i]) for i in range(table.shape[1])]
    plain = pd.concat(columns, axis=1)
    return plain.set_axis(table.columns, axis=1)


def _plain_pandas(cells: pd.Series) -> pd.Series:
    dtype = cells.dtype
    if isinstance(dtype, pd.ArrowDtype):
        plain = _plain_arrow(cells.array.__arrow_array__(), cells.name)
        return plain.set_axis(cells.index)
    if isinstance(dtype, pd.SparseDtype):
        return cells.sparse.to_dense()
    if isinstance(dtype, pd.PeriodDtype):
        return cells.dt.to_timestamp()
    return cells.astype(object) if isinstance(dtype, pd.IntervalDtype) else cells


def plain_column(cells: nw.Series[Any]) -> pd.Series:
    """Return a narwhals series as a plain pandas one, without pyarrow where it can.

    A type that holds no single values, such as lists, raises ValueError.
    """
    dtype: Any = cells.dtype
    if cells.implementation is nw.Implementation.PYARROW:
        return _plain_arrow(cells.to_native(), cells.name)
    if cells.null_count() == len(cells):
        return pd.Series([None] * len(cells), dtype=object)
    if dtype in _NESTED:
        raise _no_single_values(cells.name, str(dtype))
    if dtype == nw.Enum:
        order = list(dict.fromkeys(dtype.categories))
        return pd.Series(pd.Categorical(cells.to_list(), order, ordered=True))
    if dtype == nw.Categorical:
        return pd.Series(pd.Categorical(cells.to_list()))
    if dtype == nw.Boolean:
        return pd.Series(cells.to_list(), dtype="boolean")
    if dtype.is_numeric():
        return pd.Series(cells.cast(nw.Float64).to_numpy())
    if dtype == nw.Datetime and dtype.time_zone is not None:
        moments = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        universal = pd.Series(moments.to_numpy()).dt.tz_localize("UTC")
        return universal.dt.tz_convert(dtype.time_zone)
    if dtype in (nw.Date, nw.Datetime, nw.Duration):
        return pd.Series(cells.to_numpy())
    return pd.Series(cells.to_list(), dtype=object)


def _plain_arrow(cells: Any, name: Any) -> pd.Series:
    """Return a chunked Arrow array as pandas holds such cells without Arrow."""
    shown = str(cells.type)
    if cells.null_count == len(cells):
        return pd.Series([None] * len(cells), dtype=object)
    try:
        if shown.startswith("dictionary"):
            return _plain_dictionary(cells, name)
        if shown.startswith("date"):
            cells = cells.cast("timestamp[ms]")
        plain = cells.to_pandas()
    except NotImplementedError:  # of Arrow
        raise _no_single_values(name, shown) from None
    forms = column_forms(plain)
    if "other" in forms:
        raise _no_single_values(name, shown)
    # Decimals, and whole numbers of any size, are floats to us.
    return plain.astype(np.float64) if forms == {"number"} else plain


def _plain_dictionary(cells: Any, name: Any) -> pd.Series:
    levels = _plain_arrow(cells.cast(cells.type.value_type), name)
    order = None
    if cells.type.ordered:
        known = cells.unify_dictionaries().chunk(0).dictionary
        order = list(dict.fromkeys(known.drop_null().to_pandas().tolist()))
    return pd.Series(pd.Categorical(levels, order, ordered=order is not None))


def _no_single_values(name: Any, shown: str) -> ValueError:
    return ValueError(
        f"Column {name!r} is of the type {shown}, whose cells are no single numbers, "
        "texts, dates or levels. Cast it to such a type, spread its parts over "
        "columns, or drop it."
    )


def numbered(n_columns: int) -> list[str]:
    """Return the names of so many columns that have none.

    >>> numbered(2)
    ['x0', 'x1']
    """
    return [f"x{i}" for i in range(n_columns)]


def array_table(array: NDArray[Any]) -> pd.DataFrame:
    """Return an array as a table whose columns are numbered: x0, x1 and so on."""
    names = numbered(array.shape[1])
    if array.dtype.kind in "UO":  # pandas may refuse them in words of its own
        for name, cells in zip(names, array.T, strict=True):
            check_texts(cells.tolist(), f"Column {name!r}, row")
    return pd.DataFrame(array, columns=names)


def check_unicode(columns: list[pd.Series]) -> None:
    """Refuse names and cells with lone surrogates, which no tokenizer can read."""
    for i, cells in enumerate(columns):
        dtype = cells.dtype
        check_text(str(cells.name), f"The name of column {i + 1}")
        if isinstance(dtype, pd.CategoricalDtype):
            if not _are_encoded(dtype.categories.dtype):
                texts = dtype.categories.tolist()
                check_texts(texts, f"Column {cells.name!r}, level")
        elif not _are_encoded(dtype):
            check_texts(cells.tolist(), f"Column {cells.name!r}, row")


def _are_encoded(dtype: Any) -> bool:
    """Return whether a column's texts, if it can have any, are UTF-8 already."""
    if isinstance(dtype, pd.StringDtype):
        return bool(dtype.storage == "pyarrow")
    return bool(dtype.kind != "O")
