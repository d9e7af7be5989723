"""What one cell is, whatever type holds it: its form, its text, its value elsewhere.

Python's own objects, and those of numpy and pandas, go in. A cell is its value: ``1``,
``1.0`` and ``Decimal("1")`` are one, and so are a date and its timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

# Beyond it float64 does not hold each integer.
_EXACT = 2**53


@cache
def _form_of_type(cell_type: Any) -> str:
    """Return what cells of a Python type are."""
    for form, types in _FORMS.items():
        if issubclass(cell_type, types):
            return form
    return "other"


def form_of(value: Any) -> str:
    """Return what a cell is: text, number, boolean, date, duration, time, or other.

    >>> form_of("1"), form_of(np.float32(1)), form_of(pd.Timestamp("2024"))
    ('text', 'number', 'datetime')
    """
    own_type: Any = type(value)
    return _form_of_type(own_type)


# In this order: a boolean is an integer to Python, and a timedelta64 one to numpy.
_FORMS: dict[str, Any] = {
    "text": str,
    "boolean": bool | np.bool_,
    "duration": timedelta | np.timedelta64,
    "number": Real | Decimal,
    "datetime": date | np.datetime64 | pd.Period,
    "time": time,
}


def column_forms(cells: pd.Series) -> set[str]:
    """Return the forms of a column's known cells."""
    types = pd.api.types
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in _FORM_OF_KIND:
        return {_FORM_OF_KIND[cells.dtype.kind]}
    if isinstance(cells.dtype, pd.CategoricalDtype):
        return column_forms(pd.Series(cells.cat.categories))
    for form, is_such in (
        ("boolean", types.is_bool_dtype),
        ("number", types.is_numeric_dtype),
        ("duration", types.is_timedelta64_dtype),
        ("datetime", types.is_datetime64_any_dtype),
        ("text", lambda dtype: isinstance(dtype, pd.StringDtype)),
    ):
        if is_such(cells.dtype):
            return {form}
    return {
        _form_of_type(cell_type)
        for cell_type in set(map(type, cells.dropna().tolist()))
    }


# By numpy's letters for kinds of types.
_FORM_OF_KIND = {
    "b": "boolean",
    "i": "number",
    "u": "number",
    "f": "number",
    "m": "duration",
    "M": "datetime",
}


def level_text(value: Any) -> str:
    """Return the text that stands for a cell's value, alike from every container.

    A number is as short as its own precision allows, and whole ones have no point.

    >>> [level_text(one) for one in (1, 1.0, np.float32(1), Decimal("1.00"), "1")]
    ['1', '1', '1', '1', '1']
    >>> [level_text(x) for x in (0.1, np.float32(0.1), float(np.float32(0.1)), True)]
    ['0.1', '0.1', '0.1', 'True']
    >>> level_text(date(2024, 2, 29)), level_text(pd.Timestamp("2024-02-29 18:05"))
    ('2024-02-29', '2024-02-29 18:05:00')
    """
    form = form_of(value)
    if form == "number":
        return _number_text(value)
    if form == "datetime" and not isinstance(value, pd.Period):
        return _moment_text(value)
    if form == "duration":
        return _duration_text(value)
    if isinstance(value, pd.Interval):
        opens = "[" if value.closed_left else "("
        closes = "]" if value.closed_right else ")"
        return f"{opens}{level_text(value.left)}, {level_text(value.right)}{closes}"
    return str(value)


def equal_texts(texts: list[str]) -> dict[str, str]:
    """Return the texts that mean one of the given ones, each with that one.

    True is 1 where no other level is, and a whole number that float64 does not hold is
    the one that it is read as, where that is clear.

    >>> equal_texts(["False", "True"])
    {'False': 'False', 'True': 'True', '0': 'False', '1': 'True'}
    """
    others: dict[str, set[str]] = {}
    for text in texts:
        same = {"True": "1", "1": "True", "False": "0", "0": "False"}.get(text)
        if re.fullmatch(r"-?[0-9]{16,300}", text) and abs(int(text)) > _EXACT:
            same = str(int(float(text)))
        if same is not None and same not in texts:
            others.setdefault(same, set()).add(text)
    equal = {text: text for text in texts}
    return equal | {other: s.pop() for other, s in others.items() if len(s) == 1}


def _number_text(value: Any) -> str:
    if isinstance(value, Integral):
        return str(int(value))
    number = float(value)
    if isinstance(value, Decimal) and value != Decimal(repr(number)):
        return str(value.normalize())
    if number.is_integer():
        return str(int(number))
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(number)
    # A number that float32 holds may have come from there: 0.1 is 0.10000000149.
    short = single if float(single) == number else number
    return repr(float(str(short)))


def _moment_text(value: Any) -> str:
    try:
        moment = pd.Timestamp(value)
        if moment.tzinfo is not None:
            return str(moment.tz_convert("UTC"))
        return str(moment.date() if moment == moment.normalize() else moment)
    except (ValueError, OverflowError):  # beyond what pandas holds
        return str(value)


def _duration_text(value: Any) -> str:
    try:
        return str(pd.Timedelta(value))
    except (ValueError, OverflowError):  # beyond what pandas holds, or of months
        return str(value)


# A value in another form: that of a text, say, in a file that has no dates


def restored(text: str, form: str) -> Any:
    """Return what a text says in that form; the text where it says nothing in it."""
    if form == "number":
        return Decimal(text) if _NUMBER.fullmatch(text) else text
    if form == "boolean":
        return _TRUTHS.get(text.strip().lower(), text)
    try:
        return _moment(text) if form == "datetime" else text
    except ValueError:
        return text


def _float(value: Any) -> float:
    form = form_of(value)
    is_number = form in ("number", "boolean")
    if is_number or (form == "text" and _NUMBER.fullmatch(value)):
        number = float(value)
        if np.isfinite(number):
            return number
    raise ValueError("no number")


# A number as programs write it. Words such as nan and infinity are none.
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*")


def _truth(value: Any) -> bool:
    form = form_of(value)
    truth = _TRUTHS.get(value.strip().lower()) if form == "text" else value
    if form in ("text", "number", "boolean") and truth in (0, 1):
        return bool(truth)
    raise ValueError("no boolean")


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def _moment(value: Any) -> pd.Timestamp:
    form = form_of(value)
    if form == "text":
        return pd.Timestamp(datetime.fromisoformat(value.strip()))
    if form == "datetime":
        return value.start_time if isinstance(value, pd.Period) else pd.Timestamp(value)
    raise ValueError("no date")


def _seconds(value: Any) -> float:
    form = form_of(value)
    if form == "text" and not _NUMBER.fullmatch(value):
        value = pd.Timedelta(value.strip())
    elif form != "duration":
        raise ValueError("no duration")
    if isinstance(value, timedelta):
        return float(value.total_seconds())
    return float(value / np.timedelta64(1, "s"))


def _second_of_day(value: Any) -> float:
    form = form_of(value)
    if form == "text" and ":" in value:
        value = time.fromisoformat(value.strip())
    elif form != "time":
        raise ValueError("no time of day")
    minutes = 60 * value.hour + value.minute
    return float(60 * minutes + value.second + value.microsecond / 1e6)


CONVERT: dict[str, Callable[[Any], Any]] = {
    "number": _float,
    "boolean": _truth,
    "datetime": _moment,
    "duration": _seconds,
    "time": _second_of_day,
}


# Texts that are none


def check_texts(cells: list[Any], what: str) -> None:
    """Refuse texts with lone surrogates, naming the number of the first."""
    try:
        "".join([cell for cell in cells if isinstance(cell, str)]).encode()
    except UnicodeEncodeError:
        for i, cell in enumerate(cells):
            check_text(cell, f"{what} {i}")


def check_text(text: Any, what: str) -> None:
    """Refuse a text with lone surrogates; ``what`` says which it is."""
    try:
        str.encode(text) if isinstance(text, str) else None
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what}: {text!r} has a lone surrogate, {text[error.start]!r}, which is "
            "no character: its bytes were read in the wrong encoding. Read the file "
            "in its own (encoding=...), or replace what can't be read "
            "(encoding_errors='replace')."
        ) from None
