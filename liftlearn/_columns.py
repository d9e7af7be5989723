"""What a column is: its kind, which `fit` learns, and its cells in one form for each.

A plain pandas series goes in. Out come floats, dates, or the texts of levels, alike
from every type that holds the same values, or an error that names the cell.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.api import guess_datetime_format

from liftlearn._values import CONVERT, column_forms, form_of, level_text, restored

# A column of at most so many distinct numbers, each met twice or more, has levels.
_FEW_LEVELS = 10
# Text of which at least half the cells differ, or of more levels, is free text.
_MOST_LEVELS = 1024
# Kinds whose cells are floats once they are read.
NUMBERS = ("continuous", "discrete", "duration", "time")
# What a column's cells are called in messages.
_WORDS = {
    "number": "numbers",
    "boolean": "booleans",
    "duration": "durations",
    "datetime": "dates",
    "time": "times of day",
    "text": "text",
    "other": "intervals or other objects",
}


@dataclass(frozen=True)
class Column:
    """What `fit` learnt of a column's cells, and how later ones are read."""

    # Continuous, discrete, duration, time, datetime, boolean, ordinal, categorical,
    # text, or empty where no cell was known.
    kind: str
    # Those of the cells that were known.
    forms: tuple[str, ...]
    # The one time zone that all dates had; None if they had none, or several.
    zone: tzinfo | None = None

    def read(self, cells: pd.Series) -> Any:
        """Return numbers as floats, missing ones nan; dates; or `Levels`.

        A cell of another kind than those of `fit` raises ValueError, naming its row.
        """
        if self.kind in NUMBERS:
            return _floats(cells, _NUMBER_FORM.get(self.kind, "number"))
        if self.kind == "datetime":
            return _dates(cells, self.zone)
        codes, values = _distinct_values(cells)
        return Levels(cells.name, codes, self._texts(_Cells(cells.name, codes, values)))

    def _texts(self, cells: _Cells) -> list[str]:
        if self.kind == "boolean":
            return [str(value) for value in cells.converted("boolean")]
        stands_for = _TEXT_TAKES if self.kind == "text" else _LEVELS_TAKE
        for code, value in enumerate(cells.distinct):
            came = form_of(value)
            takes = stands_for.get(came)
            if takes is not None and self.forms and takes.isdisjoint(self.forms):
                held = " and ".join(_WORDS[form] for form in self.forms)
                raise cells.other_kind(code, held)
        # A file without types holds texts instead of numbers, dates and so on.
        own = self.forms[0] if len(self.forms) == 1 else "text"
        return [
            level_text(restored(value, own) if isinstance(value, str) else value)
            for value in cells.distinct
        ]


# For what a cell of each form may stand in a column of levels, or of free text: for the
# named forms, or for all. Numbers, booleans and texts are levels by what is written.
_LEVELS_TAKE: dict[str, set[str]] = {
    "number": {"number", "boolean", "text", "other"},
    "boolean": {"number", "boolean", "text", "other"},
    "datetime": {"datetime"},
    "duration": {"duration"},
    "time": {"time"},
}
_TEXT_TAKES = {form: {form} for form in (*_LEVELS_TAKE, "other")} | {
    "number": {"number", "boolean"},
    "boolean": {"number", "boolean"},
}
_NUMBER_FORM = {"duration": "duration", "time": "time"}


def learn_column(cells: pd.Series) -> Column:
    """Return what a column is, and how its cells are read from now on."""
    known = cells[cells.notna()]
    forms = tuple(sorted(column_forms(known))) if len(known) else ()
    if not forms:
        return Column("empty", ())
    if isinstance(cells.dtype, pd.CategoricalDtype):
        kind = "ordinal" if cells.dtype.ordered else "categorical"
        return Column(kind, forms)
    if set(forms) <= {"number", "boolean"}:
        return _learn_numbers(known, forms)
    if forms == ("datetime",):
        return Column("datetime", forms, _common_zone(known))
    if forms in (("duration",), ("time",)):
        return Column(forms[0], forms)
    n_levels = len(set(map(level_text, _distinct_values(known)[1])))
    is_text = n_levels > min(max(_FEW_LEVELS, len(known) / 2), _MOST_LEVELS)
    return Column("text" if is_text else "categorical", forms)


def warn_of_disguise(cells: pd.Series, column: Column) -> None:
    """Warn of a column of strings whose cells are of another kind, such as dates.

    Few levels may be anything, and those of a categorical are what the user says.
    """
    is_chosen = isinstance(cells.dtype, pd.CategoricalDtype)
    if column.forms != ("text",) or is_chosen:
        return
    levels = cells[cells.notna()].unique()[:_SOME].tolist()
    if len(levels) <= _FEW_LEVELS:
        return
    for held, is_like, convert in _DISGUISES:
        like = [level for level in levels if is_like(level)]
        if len(like) >= _MOST_OF * len(levels):
            warnings.warn(
                f"The strings of column {cells.name!r} are {held}, such as "
                f"{like[0]!r}, but are read as {column.kind} ones. Convert them with "
                f"{convert}. If they are names or codes, say so with "
                "astype('category').",
                UserWarning,
                stacklevel=3,
            )
            return


def _is_like_number(text: str) -> bool:
    return bool(_LIKE_NUMBER.fullmatch(text))


# As people write them: with separators, a currency, or per cent. Leading zeros are of
# codes.
_LIKE_NUMBER = re.compile(
    r"\s*[+-]?\s*[$€£¥]?\s*(?=[.,]?\d)(0|[1-9]\d*([,.'\s]\d{3})*)?([.,]\d+)?"
    r"([eE][+-]?\d+)?\s*[$€£¥%]?\s*"
)


def _is_like_date(text: str) -> bool:
    # pandas guesses no format of years of two digits, nor of twelve hours.
    text = re.sub(r"(?i)\s*[ap]\.?m\.?$", "", text.strip())
    text = re.sub(r"^(\d\d?[-/. ]\S+[-/. ])(\d\d)(?=\s|$)", r"\g<1>20\2", text)
    is_day = re.match(r"(1[3-9]|[23]\d)\b", text) is not None  # too large for a month
    whole = (text, f"1 {text}")  # the second of months, such as Jan 2024
    return any(guess_datetime_format(each, dayfirst=is_day) for each in whole)


def _is_like_time(text: str) -> bool:
    return bool(_LIKE_TIME.fullmatch(text))


_LIKE_TIME = re.compile(
    r"\s*([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d+)?)?(?i:\s*[ap]\.?m\.?)?\s*"
)


def _is_like_duration(text: str) -> bool:
    # A letter alone may be another unit: 3 m.
    if not re.search(r"days?\b|hours?\b|min|sec|^\s*-?P(T|\d+[DT])", text):
        return False
    try:
        CONVERT["duration"](text)
    except ValueError:
        return False
    return True


_SOME = 100  # levels, which tell of the others
_MOST_OF = 0.9  # since some cells may say in words that nothing is known
_DISGUISES = [
    ("numbers", _is_like_number, "pd.to_numeric, after str.replace of other signs"),
    ("dates", _is_like_date, "pd.to_datetime(..., format=...)"),
    ("times of day", _is_like_time, "pd.to_datetime(..., format=...).dt.time"),
    ("durations", _is_like_duration, "pd.to_timedelta"),
]


def _learn_numbers(known: pd.Series, forms: tuple[str, ...]) -> Column:
    numbers = _floats(known, "number")
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):  # pandas' own Float64 holds nan beside its missing cells
        return Column("empty", ())
    if "boolean" in forms and np.isin(numbers, (0, 1)).all():
        return Column("boolean", forms)
    return Column("discrete" if are_few(numbers) else "continuous", forms)


def are_few(numbers: NDArray[np.float64]) -> bool:
    """Return whether there are few distinct numbers, each met about twice or more."""
    n_levels = len(np.unique(numbers))
    return n_levels <= _FEW_LEVELS and 2 * n_levels <= len(numbers)


def _common_zone(dates: pd.Series) -> tzinfo | None:
    """Return the time zone of all dates, if it is one that can be named."""
    zones = {getattr(dates.dtype, "tz", None)}
    if dates.dtype == object:
        zones = {getattr(cell, "tzinfo", None) for cell in dates}
    # Some packages have an object for each offset of a zone.
    by_name = {str(zone): zone for zone in zones}
    if len(by_name) > 1:
        return None
    [(name, zone)] = by_name.items()
    if zone is None or isinstance(zone, timezone | ZoneInfo):
        return zone
    try:  # saved files have no types for other packages' zones
        return ZoneInfo(name)
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, eq=False)
class Levels:
    """The texts of a column's distinct cells, and which of them each cell has."""

    name: Any  # the column's, for messages
    codes: NDArray[np.intp]  # the index of each cell's text; -1 where it is missing
    texts: list[str]  # of which two may be equal

    def spread(self, written: list[str]) -> list[str]:
        """Return what is written for each text at its cells, "" for missing ones."""
        words = np.array([*written, ""], dtype=object)  # which -1 is the index of
        spread: list[str] = words[self.codes].tolist()
        return spread


def _distinct_values(cells: pd.Series) -> tuple[NDArray[np.intp], list[Any]]:
    """Return each cell's index among the column's values, -1 if missing, and these.

    Values that are told apart only by their types, or clocks, stay apart.
    """
    if isinstance(cells.dtype, pd.CategoricalDtype):
        used, codes = np.unique(cells.cat.codes.to_numpy(), return_inverse=True)
        n_missing = int(np.searchsorted(used, 0))  # 1 where there is a -1
        return codes - n_missing, cells.cat.categories[used[n_missing:]].tolist()
    if pd.api.types.is_float_dtype(cells.dtype):
        cells = pd.Series(cells.to_numpy(np.float64, na_value=np.nan))
    if cells.dtype != object or column_forms(cells) in ({"text"}, {"number"}):
        held = cells.array  # of a series factorize makes an index
        is_plain = isinstance(held, pd.arrays.NumpyExtensionArray)
        codes, values = pd.factorize(held.to_numpy() if is_plain else held)
        return codes, values.tolist()
    known = cells.notna().to_numpy()
    return np.where(known, np.cumsum(known) - 1, -1), cells[known].tolist()


_GIVE = {
    "dates": "Convert it with pd.to_datetime, or write dates as 2024-02-29.",
    "numbers": "Convert it with pd.to_numeric.",
}


@dataclass(frozen=True)
class _Cells:
    """A column's values, and where they stand."""

    name: Any
    codes: NDArray[np.intp]
    distinct: list[Any]

    def converted(self, form: str) -> list[Any]:
        """Return the values in that form."""
        converted = []
        for code, value in enumerate(self.distinct):
            try:
                converted.append(CONVERT[form](value))
            except (ValueError, TypeError, OverflowError) as error:
                raise self.other_kind(code, _WORDS[form]) from error
        return converted

    def other_kind(self, code: int, held: str) -> ValueError:
        row = int(np.flatnonzero(self.codes == code)[0])
        return ValueError(
            f"Column {self.name!r} held {held} when the encoder was fitted, but now "
            f"holds {self.distinct[code]!r} in row {row}. "
            + _GIVE.get(held, "Give it the same kind of cells.")
        )


def _floats(cells: pd.Series, form: str) -> NDArray[np.float64]:
    """Return the cells as floats, missing ones as nan; times as seconds."""
    if form == "number" and cells.dtype.kind in "fiu" and _is_numpys(cells):
        floats: NDArray[np.float64] = cells.to_numpy(np.float64)
        return floats
    forms = column_forms(cells)
    if form == "duration" and pd.api.types.is_timedelta64_dtype(cells):
        cells = cells.dt.total_seconds()
        forms, form = {"number"}, "number"
    is_category = isinstance(cells.dtype, pd.CategoricalDtype)
    if form == "number" and forms <= {"number", "boolean"} and not is_category:
        held: NDArray[np.float64] = cells.to_numpy(np.float64, na_value=np.nan)
        return held
    codes, values = _distinct_values(cells)
    converted = _Cells(cells.name, codes, values).converted(form)
    return np.array([*converted, np.nan], dtype=np.float64)[codes]


def _is_numpys(cells: pd.Series) -> bool:
    return isinstance(cells.dtype, np.dtype)


def _dates(cells: pd.Series, zone: tzinfo | None) -> pd.DatetimeIndex:
    """Return dates by the clock of that zone, or else by their own; NaT if missing."""
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        if zone is not None and cells.dt.tz is not None:
            cells = cells.dt.tz_convert(zone)
        return pd.DatetimeIndex(cells.dt.tz_localize(None))
    codes, values = _distinct_values(cells)
    clocks = []
    for moment in _Cells(cells.name, codes, values).converted("datetime"):
        is_aware = zone is not None and moment.tzinfo is not None
        clock = moment.tz_convert(zone) if is_aware else moment
        clocks.append(clock.tz_localize(None))
    held = pd.Series([*clocks, pd.NaT], dtype="datetime64[us]").to_numpy()
    return pd.DatetimeIndex(held[codes])
