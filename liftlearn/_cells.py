"""One column's cells to text: how each kind of column is written.

The cells of a column as `Column.read` returns them go in, a text for each comes out; an
empty one is a missing cell.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray

from liftlearn._columns import NUMBERS, Column, Levels, are_few
from liftlearn._numbers import (
    Scale,
    fit_scale,
    write_codes,
    write_plain,
    write_scaled,
)
from liftlearn._topics import Bags, Topics, learn_topics, thinned
from liftlearn._values import equal_texts

# So many levels have a single code word; more have two.
_N_LEVELS = 64
# By this share a number can be another one once float32 has held it.
_FLOAT32_ROUNDING = float(np.finfo(np.float32).eps)
# Written for a level that `fit` never saw.
UNSEEN = "c?"


@dataclass(frozen=True)
class Wording:
    """How cells are written: the settled parameters of a `RowEncoder`.

    ``has_codes`` says that some of its words are codes, which no text may write.
    """

    columns: str
    numbers: str
    digits: int
    spacing: str
    jitter: float
    word_dropout: float
    text_length: int | None
    text_topics: int | None
    has_codes: bool


def way_of_writing(column: Column, cells: Any) -> str:
    """Return how a column is written.

    As number, rank, time, order, level, date or text.
    """
    if column.kind == "time":
        return "time"
    if column.kind in NUMBERS:
        return "rank" if are_few(cells[~np.isnan(cells)]) else "number"
    return _WAYS[column.kind]


_WAYS = {
    "datetime": "date",
    "boolean": "level",
    "ordinal": "order",
    "categorical": "level",
    "empty": "level",
    "text": "text",
}


@dataclass(frozen=True)
class Augmentation:
    """How rows are written otherwise than they are."""

    # Where noise, dropout and the order of columns are drawn from.
    rng: RandomState
    # What jitter is multiplied by.
    noise: float
    # What is the same for all rows: one noise for each column, no dropout, and one
    # order of columns, of this seed. With None each row has its own.
    shared_order: int | None = None

    @property
    def drops(self) -> bool:
        """Whether words and cells are left out."""
        return self.shared_order is None

    def noise_of(self, n_cells: int) -> NDArray[np.float64]:
        """Return the noise of cells of one column, in units of their jitter."""
        n_drawn = n_cells if self.shared_order is None else 1
        noise: NDArray[np.float64] = self.noise * self.rng.standard_normal(n_drawn)
        return np.broadcast_to(noise, n_cells)

    def kept(self, n: int, dropout: float) -> NDArray[np.bool_]:
        """Return which of so many words or cells are not left out."""
        return self.rng.uniform(size=n) >= dropout

    def shuffle(self, facts: list[str]) -> None:
        """Put one row's facts in another order."""
        seed = self.shared_order
        (self.rng if seed is None else RandomState(seed)).shuffle(facts)


class CellWriter(Protocol):
    """Writes the cells of one column; an empty text is a missing cell."""

    def write(self, cells: Any, augmentation: Augmentation | None) -> list[str]: ...


def fit_writer(
    way: str, cells: Any, weight: NDArray[np.float64], wording: Wording
) -> CellWriter:
    """Return what writes the cells of a column in that way.

    Beside those of `way_of_writing` there are positions, which lie in [0, 1] already.
    """
    scaled = wording.numbers != "plain"
    if way == "time" and not scaled:
        return _Time()
    if way in ("number", "rank", "time", "position"):
        return _fit_number(way, cells, weight, wording)
    if way == "date":
        return _Date.fit(cells, wording.digits) if scaled else _Date([], 0)
    if way == "text":
        as_it_stands = _Text(
            wording.text_length, wording.word_dropout, wording.has_codes
        )
        return _fit_words(cells, weight, wording) or as_it_stands
    # A category's own order is that of its levels, others have none.
    levels = list(dict.fromkeys(cells.texts if way == "order" else sorted(cells.texts)))
    if wording.columns == "names":
        words = levels
    elif way == "order" and scaled:
        positions = (np.arange(len(levels)) + 0.5) / max(len(levels), 1)
        words = write_scaled(positions, wording.digits)
    else:
        words = write_codes(range(len(levels)), len(levels), "c", _N_LEVELS)
    word_of = dict(zip(levels, words, strict=True))
    met = {text: word_of[level] for text, level in equal_texts(levels).items()}
    if wording.columns == "names":
        return _Text(wording.text_length, 0.0, wording.has_codes, met)
    return _Level(met)


def _fit_number(
    way: str,
    numbers: NDArray[np.float64],
    weight: NDArray[np.float64],
    wording: Wording,
) -> _Number:
    known = ~np.isnan(numbers)
    numbers, weight = numbers[known], weight[known]
    if not len(numbers):
        numbers, weight = np.zeros(1), np.ones(1)
    if way == "time":
        way = "rank" if are_few(numbers) else "number"
    scale = None
    if way == "position":
        scale = Scale(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    elif wording.numbers != "plain":
        spacing = wording.spacing if way == "number" else "rank"
        scale = fit_scale(numbers, weight, spacing)
    spread = numbers if scale is None else scale.position(numbers)
    jitter = 0.0 if way == "rank" else wording.jitter * _deviation(spread, weight)
    whole = scale is None and bool((numbers == np.floor(numbers)).all())
    levels = np.unique(numbers) if way == "rank" and scale is not None else None
    return _Number(scale, wording.digits, jitter, whole, levels)


@dataclass(frozen=True, eq=False)
class _Number:
    """Numbers on a scale, or plain where there is none; `levels` are those of ranks."""

    scale: Scale | None
    digits: int
    jitter: float
    whole: bool
    levels: NDArray[np.float64] | None = None

    def write(
        self, cells: NDArray[np.float64], augmentation: Augmentation | None
    ) -> list[str]:
        known = ~np.isnan(cells)
        numbers = cells[known]
        if self.levels is not None:
            numbers = _met(numbers, self.levels)
        if self.scale is not None:
            numbers = self.scale.position(numbers)
        if augmentation is not None and self.jitter:
            numbers = numbers + self.jitter * augmentation.noise_of(len(numbers))
            if self.whole:
                numbers = np.round(numbers)
        write = write_plain if self.scale is None else write_scaled
        return _spread(write(numbers, self.digits), known)


def _met(
    numbers: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the numbers, those that are a level but for float32's rounding as it.

    >>> _met(np.array([0.7, 0.8]).astype(np.float32).astype(float), np.array([0.7]))
    array([0.7       , 0.80000001])
    """
    right = np.searchsorted(levels, numbers).clip(max=len(levels) - 1)
    left = (right - 1).clip(0)
    is_left = numbers - levels[left] < levels[right] - numbers
    nearest = levels[np.where(is_left, left, right)]
    return np.where(
        np.isclose(numbers, nearest, _FLOAT32_ROUNDING, 0.0), nearest, numbers
    )


@dataclass(frozen=True)
class _Time:
    """Times of day as a clock shows them."""

    def write(
        self, cells: NDArray[np.float64], augmentation: Augmentation | None
    ) -> list[str]:
        known = ~np.isnan(cells)
        return _spread([_plain_time(second) for second in cells[known]], known)


def _plain_time(second: float) -> str:
    """Write a time of day, with its seconds where it has some.

    >>> _plain_time(5400.0), _plain_time(5400.25)
    ('01:30', '01:30:00.25')
    """
    minute, second = divmod(second, 60)
    clock = f"{int(minute) // 60:02d}:{int(minute) % 60:02d}"
    return clock if not second else f"{clock}:{second:09.6f}".rstrip("0").rstrip(".")


def _fit_words(
    cells: Levels, weight: NDArray[np.float64], wording: Wording
) -> _Words | None:
    """Return what writes texts by topics; None where they are written as they stand."""
    if wording.text_topics is None:
        return None
    codes, known = cells.codes, cells.codes >= 0
    shares = np.bincount(codes[known], weight[known], len(cells.texts)).astype(float)
    topics = learn_topics(cells.texts, shares, wording.text_topics)
    if topics is None:
        return None
    positions = topics.of(topics.bags(cells.texts)).T
    axes = [_fit_number("number", axis, shares, wording) for axis in positions]
    return _Words(topics, axes, wording.word_dropout)


@dataclass(frozen=True, eq=False)
class _Words:
    """Texts by their topics, as numbers; a text without a known word has a word."""

    topics: Topics
    axes: list[_Number]
    dropout: float

    def write(self, cells: Levels, augmentation: Augmentation | None) -> list[str]:
        bags = self.topics.bags(cells.texts)
        if augmentation is None:
            return cells.spread(self._written(bags, None))
        known = cells.codes >= 0
        bags = bags[cells.codes[known]]
        if augmentation.drops and self.dropout:
            bags = thinned(bags, augmentation.kept(bags.nnz, self.dropout))
        return _spread(self._written(bags, augmentation), known)

    def knows(self, cells: Levels) -> bool:
        """Return whether a word of one of the cells is known."""
        return bool(self.topics.bags(cells.texts).nnz)

    def _written(self, bags: Bags, augmentation: Augmentation | None) -> list[str]:
        positions = self.topics.of(bags).T
        written = [
            axis.write(each, augmentation)
            for axis, each in zip(self.axes, positions, strict=True)
        ]
        return [" ".join(row).strip() or UNSEEN for row in zip(*written, strict=True)]


@dataclass(frozen=True)
class _Level:
    """Levels by their words; a level that `fit` never saw has a word of its own."""

    words: Mapping[str, str]

    def write(self, cells: Levels, augmentation: Augmentation | None) -> list[str]:
        return cells.spread([self.words.get(text, UNSEEN) for text in cells.texts])


@dataclass(frozen=True)
class _Text:
    """Text as it stands, cut where it is too long; nothing visible is quoted.

    Of a column of levels, `levels` holds what `fit` wrote for each.
    """

    length: int | None
    dropout: float
    has_codes: bool = False
    levels: Mapping[str, str] | None = None

    def write(self, cells: Levels, augmentation: Augmentation | None) -> list[str]:
        met = self.levels or {}
        texts = [_visible(met.get(text, text)) for text in cells.texts]
        if augmentation is None or not (augmentation.drops and self.dropout):
            return cells.spread([self._cut(text) for text in texts])
        return [
            self._cut(_thinned(text, self.dropout, augmentation)) if text else ""
            for text in cells.spread(texts)
        ]

    def cuts(self, cells: Levels) -> bool:
        """Return whether one of the cells is too long."""
        return self.length is not None and any(
            len(text) > self.length for text in cells.texts
        )

    def _cut(self, text: str) -> str:
        text = text[: self.length]
        return _without_codes(text) if self.has_codes else text


def words_for_unknown(writer: CellWriter, cells: Any) -> str:
    """Return as many words for an unknown cell as stand for others of its column."""
    written = [""] if isinstance(writer, _Text) else writer.write(cells, None)
    known = next((text for text in written if text not in ("", UNSEEN)), "")
    return " ".join([UNSEEN] * len(known.split(" ")))


def warn_of_unseen(writers: list[CellWriter], cells: list[Any]) -> None:
    """Warn of each column of which no level, or no word of a text, was met in `fit`."""
    for writer, column in zip(writers, cells, strict=True):
        if isinstance(writer, _Words) and column.texts and not writer.knows(column):
            warnings.warn(
                f"No cell of column {column.name!r} has a word that is known from fit: "
                f"it holds {column.texts[:3]!r}, and words like "
                f"{writer.topics.words[:3]!r} are known. If its texts are new indeed, "
                "silence this with "
                "warnings.filterwarnings('ignore', 'No cell of column').",
                UserWarning,
                stacklevel=3,
            )
        met = None
        if isinstance(writer, _Level | _Text):
            met = writer.words if isinstance(writer, _Level) else writer.levels
        if met is not None and column.texts and met.keys().isdisjoint(column.texts):
            warnings.warn(
                f"No cell of column {column.name!r} was met in fit: it holds "
                f"{column.texts[:3]!r}, and held {list(met)[:3]!r} then. Write its "
                "levels as in fit. If they are new indeed, silence this with "
                "warnings.filterwarnings('ignore', 'No cell of column').",
                UserWarning,
                stacklevel=3,
            )


def warn_of_cuts(
    writers: list[CellWriter], cells: list[Any], but: Set[int]
) -> set[int]:
    """Warn of each column with texts to cut, but those; return the indices of all."""
    cut = set(but)
    for i, (writer, column) in enumerate(zip(writers, cells, strict=True)):
        if i not in but and isinstance(writer, _Text) and writer.cuts(column):
            cut.add(i)
            warnings.warn(
                f"Column {column.name!r} holds texts of more than {writer.length} "
                "characters, which are cut. Set RowEncoder(text_length=...) to read "
                "more of them; None cuts nothing.",
                UserWarning,
                stacklevel=3,
            )
    return cut


def _visible(text: str) -> str:
    """Return a text in quotes where it is blank, or blank in quotes already.

    >>> [_visible(text) for text in ("", "  ", '"  "', "red")]
    ['""', '"  "', '""  ""', 'red']
    """
    return f'"{text}"' if _BLANK.fullmatch(text) else text


_BLANK = re.compile(r'("*)\s*\1')


def _without_codes(text: str) -> str:
    r"""Return a text whose words are no codes of the wording: these get a backslash.

    Words that have one already get another, so that different texts stay different.

    >>> print(_without_codes(r"room 42 of x7, \42, c? 123"))
    room \42 of x7, \42, \c? 123
    """
    words = text.split(" ")
    return " ".join(
        f"\\{word}" if word.lstrip("\\") in _CODES else word for word in words
    )


# The words of columns, levels, classes, unknown cells, questions and scaled numbers,
# which a vocabulary may have as single tokens.
_CODES = frozenset(
    [f"{letter}{i}" for letter in "xy" for i in range(128)]
    + [f"c{i}" for i in range(_N_LEVELS)]
    + [f"{i:02d}" for i in range(100)]
    + [UNSEEN, "y?", "y="]
)


def _thinned(text: str, dropout: float, augmentation: Augmentation) -> str:
    """Leave each word out with that probability, but not all of them."""
    words = text.split(" ")
    is_kept = augmentation.kept(len(words), dropout)
    kept = [word for word, stays in zip(words, is_kept, strict=True) if stays]
    return " ".join(kept).strip() or text


@dataclass(frozen=True, eq=False)
class _Date:
    """Dates as the fields that vary, on their scales, or plain where there are none."""

    scales: list[tuple[str, Scale]]
    digits: int

    @classmethod
    def fit(cls, cells: pd.DatetimeIndex, digits: int) -> _Date:
        dates = cells.dropna()
        scales = []
        for field, (first, last) in _DATE_FIELDS.items():
            numbers = np.asarray(getattr(dates, field), dtype=float)
            if len(np.unique(numbers)) > 1:
                ends = (first, last) if last else (numbers.min(), numbers.max() + 1)
                scales.append((field, Scale(np.array(ends), np.array([0.0, 1.0]))))
        return cls(scales, digits)

    def write(
        self, cells: pd.DatetimeIndex, augmentation: Augmentation | None
    ) -> list[str]:
        known = cells.notna()
        dates = cells[known]
        if not self.scales:
            return _spread([_plain_date(date) for date in dates], known)
        words = [
            write_scaled(
                scale.position(np.asarray(getattr(dates, field), float)), self.digits
            )
            for field, scale in self.scales
        ]
        return _spread([" ".join(fields) for fields in zip(*words, strict=True)], known)


# Every class that `fit_writer` returns, and what reads their cells, by the names that
# they have in saved files.
WRITERS: dict[str, type] = {
    "column": Column,
    "dates": _Date,
    "levels": _Level,
    "numbers": _Number,
    "text": _Text,
    "times": _Time,
    "words": _Words,
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
    # Not %A, which is in the caller's language.
    return f"{date.day_name()} {date.strftime(f'%Y-%m-%d{clock}')}"


def _spread(texts: list[str], known: NDArray[np.bool_]) -> list[str]:
    """Return the texts for the known cells and empty texts for the others."""
    if len(texts) == len(known):
        return texts
    spread = np.full(len(known), "", dtype=object)
    spread[known] = texts
    filled: list[str] = spread.tolist()
    return filled


def _deviation(numbers: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    # In units of the largest magnitude, squares neither overflow nor vanish.
    unit = np.abs(numbers).max() or 1.0
    mean = np.average(numbers / unit, weights=weight)
    variance = np.average((numbers / unit - mean) ** 2, weights=weight)
    return float(unit * np.sqrt(variance))
