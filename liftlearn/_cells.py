"""One column's cells to text: which kind they are of, and how that kind is written.

A pandas series goes in, a text for each cell comes out; an empty one is a missing cell.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftlearn._numbers import (
    Scale,
    fit_scale,
    write_codes,
    write_plain,
    write_scaled,
)

# Words of the slot wording: so many single ones for levels, then two words are used.
_N_LEVELS = 64
# Written for a level that `fit` never saw.
UNSEEN = "c?"
# A column of at most so many distinct numbers, each met twice or more, has levels.
_FEW_LEVELS = 10
# Text of which at least half the cells differ, or of more levels, is free text.
_MOST_LEVELS = 1024


@dataclass(frozen=True)
class Wording:
    """How cells are written: the settled parameters of a `RowEncoder`."""

    columns: str
    numbers: str
    digits: int
    spacing: str
    jitter: float
    word_dropout: float
    text_length: int | None


def column_kind(cells: pd.Series) -> str:
    """Return how a column is read: number, rank, order, level, date or text."""
    types = pd.api.types
    if isinstance(cells.dtype, pd.CategoricalDtype):
        return "order" if cells.dtype.ordered else "level"
    if types.is_bool_dtype(cells):
        return "level"
    if types.is_datetime64_any_dtype(cells):
        return "date"
    if types.is_numeric_dtype(cells) or types.is_timedelta64_dtype(cells):
        return _number_kind(cells)
    inferred = types.infer_dtype(cells, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _number_kind(cells)
    if inferred in ("datetime", "datetime64", "date"):
        return "date"
    n_known, n_levels = int(cells.notna().sum()), len(_levels(cells))
    is_text = n_levels > min(max(_FEW_LEVELS, n_known / 2), _MOST_LEVELS)
    return "text" if is_text else "level"


def _number_kind(cells: pd.Series) -> str:
    numbers = as_numbers(cells)
    numbers = numbers[~np.isnan(numbers)]
    n_levels = len(np.unique(numbers))
    few = n_levels <= _FEW_LEVELS and 2 * n_levels <= len(numbers)
    return "rank" if few else "number"


class Stream(Protocol):
    """What is drawn from, as from a `RandomState`, where cells are written afresh."""

    def standard_normal(self, size: int, /) -> NDArray[np.float64]: ...

    def uniform(self, *, size: int) -> NDArray[np.float64]: ...


class CellWriter(Protocol):
    """Writes the cells of one column; an empty text is a missing cell."""

    def write(self, cells: pd.Series, rng: Stream | None) -> list[str]: ...


def fit_writer(
    kind: str, cells: pd.Series, weight: NDArray[np.float64], wording: Wording
) -> CellWriter:
    """Return what writes the cells of a column of that kind.

    Beside the kinds of `column_kind` there are positions, which lie in [0, 1] already.
    """
    scaled = wording.numbers != "plain"
    if kind in ("number", "rank", "position"):
        return _fit_number(kind, cells, weight, wording)
    if kind == "date":
        return _Date.fit(cells, wording.digits) if scaled else _Date([], 0)
    if kind == "text":
        return _Text(wording.text_length, wording.word_dropout)
    if wording.columns == "names":
        return _Text(wording.text_length, 0.0)
    levels = _levels(cells)
    if kind == "order" and scaled:
        positions = (np.arange(len(levels)) + 0.5) / max(len(levels), 1)
        words = write_scaled(positions, wording.digits)
    else:
        words = write_codes(range(len(levels)), len(levels), "c", _N_LEVELS)
    return _Level(dict(zip(levels, words, strict=True)))


def _fit_number(
    kind: str, cells: pd.Series, weight: NDArray[np.float64], wording: Wording
) -> _Number:
    numbers = as_numbers(cells)
    known = ~np.isnan(numbers)
    numbers, weight = numbers[known], weight[known]
    if not len(numbers):
        numbers, weight = np.zeros(1), np.ones(1)
    scale = None
    if kind == "position":
        scale = Scale(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    elif wording.numbers != "plain":
        scale = fit_scale(
            numbers, weight, wording.spacing if kind == "number" else "rank"
        )
    spread = numbers if scale is None else scale.position(numbers)
    jitter = 0.0 if kind == "rank" else wording.jitter * _deviation(spread, weight)
    whole = scale is None and bool((numbers == np.floor(numbers)).all())
    return _Number(scale, wording.digits, jitter, whole)


@dataclass(frozen=True, eq=False)
class _Number:
    """Numbers on a scale, or plain where there is none."""

    scale: Scale | None
    digits: int
    jitter: float
    whole: bool

    def write(self, cells: pd.Series, rng: Stream | None) -> list[str]:
        numbers = as_numbers(cells)
        known = ~np.isnan(numbers)
        places = numbers[known]
        if self.scale is not None:
            places = self.scale.position(places)
        if rng is not None and self.jitter:
            places = places + self.jitter * rng.standard_normal(len(places))
            if self.whole:
                places = np.round(places)
        if self.scale is not None:
            return _spread(write_scaled(places, self.digits), known)
        return _spread(write_plain(places, self.digits), known)


@dataclass(frozen=True)
class _Level:
    """Levels by their words; a level that `fit` never saw has a word of its own."""

    words: Mapping[str, str]

    def write(self, cells: pd.Series, rng: Stream | None) -> list[str]:
        known = cells.notna().to_numpy()
        return _spread(
            [self.words.get(str(c), UNSEEN) for c in cells[known].tolist()], known
        )


@dataclass(frozen=True)
class _Text:
    """Text as it stands, cut where it is too long; nothing visible is quoted."""

    length: int | None
    dropout: float

    def write(self, cells: pd.Series, rng: Stream | None) -> list[str]:
        known = cells.notna().to_numpy()
        texts = [str(cell) for cell in cells[known].tolist()]
        texts = [text if text.strip() else f'"{text}"' for text in texts]
        if self.length is not None and any(len(text) > self.length for text in texts):
            warnings.warn(
                f"Column {cells.name!r} holds texts of more than {self.length} "
                "characters, which are cut. Set RowEncoder(text_length=...) to read "
                "more of them.",
                UserWarning,
                stacklevel=2,
            )
        if rng is not None and self.dropout:
            texts = [_thinned(text, self.dropout, rng) for text in texts]
        return _spread([text[: self.length] for text in texts], known)


def _thinned(text: str, dropout: float, rng: Stream) -> str:
    """Leave each word out with that probability, but not all of them."""
    words = text.split(" ")
    is_kept = rng.uniform(size=len(words)) >= dropout
    kept = [word for word, stays in zip(words, is_kept, strict=True) if stays]
    return " ".join(kept).strip() or text


@dataclass(frozen=True, eq=False)
class _Date:
    """Dates as the fields that vary, on their scales, or plain where there are none."""

    scales: list[tuple[str, Scale]]
    digits: int

    @classmethod
    def fit(cls, cells: pd.Series, digits: int) -> _Date:
        dates = pd.DatetimeIndex(_as_dates(cells).dropna())
        scales = []
        for field, (first, last) in _DATE_FIELDS.items():
            numbers = np.asarray(getattr(dates, field), dtype=float)
            if len(np.unique(numbers)) > 1:
                ends = (first, last) if last else (numbers.min(), numbers.max() + 1)
                scales.append((field, Scale(np.array(ends), np.array([0.0, 1.0]))))
        return cls(scales, digits)

    def write(self, cells: pd.Series, rng: Stream | None) -> list[str]:
        dates = _as_dates(cells)
        known = dates.notna().to_numpy()
        index = pd.DatetimeIndex(dates[known])
        if not self.scales:
            return _spread([_plain_date(date) for date in index], known)
        words = [
            write_scaled(
                scale.position(np.asarray(getattr(index, field), float)), self.digits
            )
            for field, scale in self.scales
        ]
        return _spread([" ".join(fields) for fields in zip(*words, strict=True)], known)


# Every class that `fit_writer` returns, by the name it has in saved files.
WRITERS: dict[str, type] = {
    "dates": _Date,
    "levels": _Level,
    "numbers": _Number,
    "text": _Text,
}

# The first value of each field of a date, and the one that would follow its last.
_DATE_FIELDS = {
    "year": (0.0, 0.0),  # what the column spans
    "month": (1.0, 13.0),
    "day": (1.0, 32.0),
    "day_of_week": (0.0, 7.0),
    "hour": (0.0, 24.0),
}


def _plain_date(date: pd.Timestamp) -> str:
    """Write a date with its weekday, and its time where it has one.

    >>> _plain_date(pd.Timestamp("2024-02-29"))
    'Thursday 2024-02-29'
    """
    clock = " %H:%M" if date != date.normalize() else ""
    text: str = date.strftime(f"%A %Y-%m-%d{clock}")
    return text


def _spread(texts: list[str], known: NDArray[np.bool_]) -> list[str]:
    """Return the texts at the known places and empty texts at the others."""
    if len(texts) == len(known):
        return texts
    source = iter(texts)
    return [next(source) if is_known else "" for is_known in known]


def _levels(cells: pd.Series) -> list[str]:
    """Return the texts of the levels that occur: in their order, or sorted."""
    if isinstance(cells.dtype, pd.CategoricalDtype) and cells.dtype.ordered:
        return [
            str(level) for level in cells.cat.remove_unused_categories().cat.categories
        ]
    return sorted({str(cell) for cell in cells.dropna().tolist()})


def as_numbers(cells: pd.Series) -> NDArray[np.float64]:
    """Return the cells as floats, missing ones as nan; times as seconds."""
    if pd.api.types.is_timedelta64_dtype(cells):
        cells = cells.dt.total_seconds()
    try:
        numbers: NDArray[np.float64] = cells.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {cells.name!r} held numbers when the encoder was fitted, but now "
            f"holds other cells ({error}). Give it the same kind of cells."
        ) from error
    return numbers


def _as_dates(cells: pd.Series) -> pd.Series:
    """Return the cells as dates by their own clocks, missing ones as NaT."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return cells.dt.tz_localize(None)
    known = cells.notna()
    for cell in cells[known]:
        if not isinstance(cell, date | np.datetime64):
            raise ValueError(
                f"Column {cells.name!r} held dates when the encoder was fitted, but "
                f"now holds {cell!r}. Give it the same kind of cells."
            )
    # One by one: a column may mix clocks, or dates with and without a time.
    dates = cells.astype(object).where(known, pd.NaT)
    clocks = [pd.Timestamp(cell).replace(tzinfo=None) for cell in dates]
    return pd.Series(clocks, name=cells.name, dtype="datetime64[us]")


def _deviation(numbers: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    # In units of the largest magnitude, squares neither overflow nor vanish.
    unit = np.abs(numbers).max() or 1.0
    mean = np.average(numbers / unit, weights=weight)
    variance = np.average((numbers / unit - mean) ** 2, weights=weight)
    return float(unit * np.sqrt(variance))
