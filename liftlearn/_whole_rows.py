"""Whole rows as answers: a table to indices of texts, and back to a table.

Every column is a finite list of texts: its levels, or the numbers of a grid, and one
for a missing cell where `fit` met some. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray

from liftlearn._answers import NumberAnswers, round_step, spaced_scale
from liftlearn._cells import UNSEEN
from liftlearn._corpus import drawn_rows
from liftlearn._encoder import ColumnWording, RowEncoder
from liftlearn._numbers import Scale, write_plain, write_scaled

# What stands for a cell: that of a missing one or one that is not known, which the
# sentence leaves out; and that of a level that `fit` never met.
UNKNOWN, UNMET = -1, -2
# Numbers in plain digits are of a grid of so many at the most.
_MOST_PLAIN = 500
# Digits of scaled numbers, whose grid has ten times more with each.
_MOST_DIGITS = 3
# What numbers may be multiples of, the greatest first; times are in seconds.
_UNITS = tuple(10.0**-decimals for decimals in range(5))
_TIME_UNITS = (86_400.0, 3600.0, 60.0, *_UNITS)
# The most of an outer answer that lies beyond the numbers of `fit`.
_MOST_BEYOND = 0.4
# By this share a multiple may be missed, of numbers that float32 holds or others.
_ROUNDING, _FLOAT32_ROUNDING = 1e-12, 2e-7


@dataclass(frozen=True, eq=False)
class ColumnType:
    """What a column's values become in a table."""

    kind: str  # as in ``column_kinds_``
    zone: tzinfo | None
    dtype: str
    # Of categories their list and whether it has an order.
    categories: list[Any] | None
    ordered: bool

    @classmethod
    def of(cls, kind: str, zone: tzinfo | None, dtype: Any) -> Self:
        """Return what gives values a type of pandas again."""
        if isinstance(dtype, pd.CategoricalDtype):
            listed = dtype.categories.tolist()
            return cls(kind, zone, "category", listed, bool(dtype.ordered))
        return cls(kind, zone, str(dtype), None, ordered=False)

    def column(self, values: list[Any], *, are_levels: bool) -> pd.Series:
        """Return levels as a column, or numbers of a grid; a missing cell is None.

        Numbers of times are seconds.
        """
        if are_levels:
            cells = pd.Series(values, dtype=object)
        elif self.kind == "datetime":
            cells = pd.Series(_moments(values))
            # A clock that shows an hour twice, or leaves it out, is set to one there.
            if self.zone is not None:
                cells = cells.dt.tz_localize(
                    self.zone,
                    ambiguous=np.zeros(len(cells), bool),
                    nonexistent="shift_forward",
                )
        elif self.kind == "duration":
            cells = pd.Series(pd.to_timedelta(pd.array(values, "Float64"), unit="s"))
        elif self.kind == "time":
            cells = pd.Series([_clock(value) for value in values], dtype=object)
        else:
            cells = pd.Series(values, dtype=object)
        if self.categories is not None:
            dtype = pd.CategoricalDtype(self.categories, self.ordered)
            return cells.astype(dtype)
        return cells.astype(self.dtype)

    def filled(
        self,
        cells: pd.Series,
        rows: NDArray[np.intp],
        values: list[Any],
        *,
        are_levels: bool,
    ) -> pd.Series:
        """Return a column with values in some of its rows, of its own type."""
        own = replace(self, dtype=str(cells.dtype), categories=None)
        if isinstance(cells.dtype, pd.CategoricalDtype):
            own = ColumnType.of(self.kind, self.zone, cells.dtype)
        whole = cells.astype(object)  # some types let no cell be set
        whole.iloc[rows] = own.column(values, are_levels=are_levels).astype(object)
        return whole.astype(cells.dtype)


@dataclass(frozen=True, eq=False)
class LevelAnswers:
    """The levels of a column as answers, and the values that `fit` met."""

    texts: list[str]
    levels: NDArray[Any]  # objects

    def index(self, written: list[str]) -> NDArray[np.intp]:
        """Return the answer of each cell by what the encoder writes of it."""
        at = {text: i for i, text in enumerate(self.texts)}
        return np.array([at.get(text, UNMET) if text else UNKNOWN for text in written])


@dataclass(frozen=True, eq=False)
class GridAnswers:
    """The numbers of a grid as answers, each with its room.

    Where all numbers of `fit` are multiples of a unit, rooms end between two of them.
    The outer answers stand for what lies beyond, too: as probable as that the next of
    exchangeable numbers is the greatest, and ever less so with the distance.
    """

    answers: NumberAnswers
    rooms: NDArray[np.float64]  # where they begin, and the last one's end
    unit: float | None
    # The share of the first and of the last answer that lies beyond, and how far.
    beyond: tuple[float, float]
    reach: float

    @property
    def texts(self) -> list[str]:
        """One for each number of the grid."""
        return self.answers.texts

    def index(
        self, numbers: NDArray[np.float64], rng: RandomState | None
    ) -> NDArray[np.intp]:
        """Return the answer of each number, dithered where ``rng`` is given."""
        index = np.full(len(numbers), UNKNOWN)
        known = ~np.isnan(numbers)
        index[known] = self.answers.write(self._rounded(numbers[known]), rng)
        return index

    def number(
        self, index: NDArray[np.intp], share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return a number in the room of each answer, at that share of it."""
        return self._rounded(self.answers.number_at(index + share))

    def log_prob_within(
        self, numbers: NDArray[np.float64], index: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the log-probability of each number, given its answer.

        Or the logarithm of the density, where the numbers have no unit.
        """
        unit = self.unit or 1.0
        width = np.diff(self.rooms) / unit
        shares = np.ones(len(width))
        np.subtract.at(shares, [0, -1], self.beyond)  # which one answer may be
        # Apart, since a share divided by a tiny width may be infinite.
        log_width = np.log(np.where(width > 0, width, 1.0))
        log_prob = (np.log(shares) - log_width)[index]
        numbers = self._multiples(numbers)
        low, high = self.answers.low, self.answers.high
        for share, away in zip(
            self.beyond, (low - numbers, numbers - high), strict=True
        ):
            out = away > 0
            n_units, reach = away[out] / unit, self.reach / unit
            if self.unit is None:
                log_tail = -np.log(reach) - n_units / reach
            else:  # the same in steps
                log_tail = np.log(-np.expm1(-1 / reach)) - (n_units - 1) / reach
            log_prob[out] = np.log(share) + log_tail
        return log_prob

    def _multiples(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return numbers if self.unit is None else _multiples(numbers, self.unit)

    def _rounded(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        inside: NDArray[np.float64] = self._multiples(numbers).clip(
            self.answers.low, self.answers.high
        )
        return inside


@dataclass(frozen=True, eq=False)
class RowColumn:
    """One column of whole rows."""

    name: Any
    type: ColumnType
    header: str
    ending: str
    answers: LevelAnswers | GridAnswers
    missing: str | None  # the text of a missing cell, where there are some

    @property
    def texts(self) -> list[str]:
        """All that can be written of a cell, each with its end."""
        extra = [] if self.missing is None else [self.missing]
        return [f"{text}{self.ending}" for text in [*self.answers.texts, *extra]]

    @property
    def n_values(self) -> int:
        """How many of them are a value."""
        return len(self.answers.texts)

    @property
    def has_levels(self) -> bool:
        """Whether its values are levels, and not numbers of a grid."""
        return isinstance(self.answers, LevelAnswers)


@dataclass(frozen=True, eq=False)
class WholeRows:
    """What the rows of a table are: their columns, and how these are written.

    Indices have the shape (n_rows, n_columns).
    """

    columns: list[RowColumn]

    @classmethod
    def fit(
        cls,
        encoder: RowEncoder,
        table: pd.DataFrame,
        dtypes: Sequence[Any],
        weight: NDArray[np.float64],
    ) -> Self:
        """Learn the answers of each column, of a table that the encoder was fitted on.

        The types are those that the columns have in the user's table. A column that
        can't be answered raises ValueError.
        """
        columns = []
        cells = encoder.cells(table)
        for i, wording in enumerate(encoder.column_wordings()):
            answers, missing = _answers_of(
                wording, encoder, table.iloc[:, i], cells[i], weight
            )
            column = ColumnType.of(wording.column.kind, wording.column.zone, dtypes[i])
            header, ending = wording.header, wording.ending
            columns.append(
                RowColumn(wording.name, column, header, ending, answers, missing)
            )
        return cls(columns)

    @property
    def fields(self) -> list[tuple[str, list[str]]]:
        """The text before each column's cell, and all that can be written of it."""
        return [(column.header, column.texts) for column in self.columns]

    def indices(
        self,
        encoder: RowEncoder,
        table: pd.DataFrame,
        rng: RandomState | None = None,
    ) -> NDArray[np.intp]:
        """Return the answers of a table's cells; numbers are dithered with ``rng``.

        A missing cell is `UNKNOWN` in a column without missing ones in `fit`, and a
        level that was not met is `UNMET`.
        """
        index = np.empty(table.shape, np.intp)
        wordings = encoder.column_wordings()
        for i, cells in enumerate(encoder.cells(table)):
            column = self.columns[i]
            if isinstance(column.answers, LevelAnswers):
                written = wordings[i].writer.write(cells, None)
                own = column.answers.index(written)
            else:
                own = column.answers.index(as_numbers(cells), rng)
            if column.missing is not None:
                own[own == UNKNOWN] = column.n_values
            index[:, i] = own
        return index

    def values(
        self, i: int, index: NDArray[np.intp], share: NDArray[np.float64]
    ) -> list[Any]:
        """Return values of a column by their indices; None for a missing cell.

        A number is at that share of its answer's room; times are in seconds.
        """
        answers = self.columns[i].answers
        if not self.columns[i].n_values:
            return [None] * len(index)
        is_missing = index >= self.columns[i].n_values
        own = np.where(is_missing, 0, index)
        if isinstance(answers, LevelAnswers):
            values = answers.levels[own].tolist()
        else:
            values = answers.number(own, share).tolist()
        return [
            None if gone else value
            for gone, value in zip(is_missing, values, strict=True)
        ]

    def table(
        self, index: NDArray[np.intp], share: NDArray[np.float64]
    ) -> pd.DataFrame:
        """Return rows as a table with the names and types of `fit`'s."""
        made = [
            column.type.column(
                self.values(i, index[:, i], share[:, i]), are_levels=column.has_levels
            )
            for i, column in enumerate(self.columns)
        ]
        table = pd.concat(made, axis=1)
        names = [column.name for column in self.columns]
        return table.set_axis(pd.Index(names, tupleize_cols=False), axis=1)

    def log_prob_within(
        self, encoder: RowEncoder, table: pd.DataFrame, index: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the log-probability of each row's cells, given their answers.

        That is 0 but for numbers, of which several have one answer.
        """
        total = np.zeros(len(index))
        for i, cells in enumerate(encoder.cells(table)):
            answers = self.columns[i].answers
            if isinstance(answers, GridAnswers):
                rows = np.flatnonzero(
                    (index[:, i] >= 0) & (index[:, i] < len(answers.texts))
                )
                numbers = as_numbers(cells)[rows]
                total[rows] += answers.log_prob_within(numbers, index[rows, i])
        return total


@dataclass(frozen=True, eq=False)
class RowCorpus:
    """What training reads of whole rows: each cell is an answer.

    It is to the fine-tuner what a `Corpus` is.
    """

    rows: WholeRows
    encoder: RowEncoder
    table: pd.DataFrame  # checked
    weight: NDArray[np.float64]
    # Whether each sentence has its columns in an order of its own.
    shuffles: bool
    answers: None = None
    target: None = None
    shown: RowCorpus | None = None
    validation: None = None

    def __len__(self) -> int:
        return len(self.table)

    def draw(self, rng: RandomState) -> NDArray[np.intp]:
        """Return the rows of one epoch, as `Corpus.draw` does."""
        return drawn_rows(self.weight, rng)

    def write(
        self, rows: NDArray[np.intp], rng: RandomState, progress: float = 0.0
    ) -> tuple[list[str], NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows' prompts, the answers of their cells, and the cells' order.

        Numbers are dithered afresh.
        """
        index = self.rows.indices(self.encoder, self.table.iloc[rows], rng)
        order = np.broadcast_to(np.arange(index.shape[1]), index.shape)
        if self.shuffles:
            order = rng.uniform(size=index.shape).argsort(axis=1)
        return [self.encoder.task or ""] * len(rows), index, order

    @property
    def fields(self) -> list[tuple[str, list[str]]]:
        """As `Corpus.fields`: one for each column."""
        return self.rows.fields

    def part(self, rows: NDArray[np.intp], weight: NDArray[np.float64]) -> Self:
        """Return a corpus of some of the rows."""
        return replace(self, table=self.table.iloc[rows], weight=weight)


def _moments(seconds: list[Any]) -> pd.DatetimeIndex:
    """Return dates by seconds since 1970; None is no date."""
    held = np.array([np.nan if s is None else s * 1e6 for s in seconds], np.float64)
    whole = np.where(np.isnan(held), np.iinfo(np.int64).min, np.round(held))
    return pd.DatetimeIndex(whole.astype(np.int64).view("M8[us]"))


def _clock(second: float | None) -> time | None:
    """Return the time of day at a second.

    >>> _clock(5400.25)
    datetime.time(1, 30, 0, 250000)
    """
    if second is None:
        return None
    moment = datetime.min + timedelta(microseconds=round(second * 1e6))
    return moment.time()


def as_numbers(cells: Any) -> NDArray[np.float64]:
    """Return dates as seconds since 1970, and numbers as they are.

    >>> as_numbers(pd.DatetimeIndex(["1970-01-02", None]))
    array([86400.,    nan])
    """
    if not isinstance(cells, pd.DatetimeIndex):
        return np.asarray(cells, np.float64)
    seconds = (cells - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    numbers: NDArray[np.float64] = seconds.to_numpy(np.float64)
    return numbers


def _answers_of(
    wording: ColumnWording,
    encoder: RowEncoder,
    column: pd.Series,
    cells: Any,
    weight: NDArray[np.float64],
) -> tuple[LevelAnswers | GridAnswers, str | None]:
    """Return a column's answers, and what stands for a missing cell where one is."""
    if wording.way == "text":
        raise ValueError(
            f"Column {column.name!r} holds free text, of which there is no finite list "
            "to draw from. Drop it, or make it a category: "
            f"X[{column.name!r}].astype('category')."
        )
    answers: LevelAnswers | GridAnswers
    if wording.way in ("number", "date", "time"):
        numbers = as_numbers(cells)
        known = ~np.isnan(numbers)
        answers = _grid(numbers[known], weight[known], wording, encoder)
        is_missing = ~known
    else:
        written = np.array(wording.writer.write(cells, None), object)
        is_missing = written == ""
        texts, first = np.unique(written[~is_missing], return_index=True)
        levels = np.empty(len(texts), object)
        levels[:] = column[~is_missing].iloc[first].tolist()
        answers = LevelAnswers(texts.tolist(), levels)
    missing = None
    if is_missing.any():
        missing = "unknown" if wording.ending else UNSEEN
        while missing in answers.texts:
            missing += "?"
    return answers, missing


def _grid(
    numbers: NDArray[np.float64],
    weight: NDArray[np.float64],
    wording: ColumnWording,
    encoder: RowEncoder,
) -> GridAnswers:
    """Return the grid of a column's numbers."""
    low, high = float(numbers.min()), float(numbers.max())
    if high / 2 - low / 2 > np.finfo(np.float64).max / 8:
        raise ValueError(
            f"Column {wording.name!r} spans {low:g} to {high:g}, too far for float64 "
            "to measure. Divide it by a constant."
        )
    unit = _common_unit(numbers, _UNITS if wording.way == "number" else _TIME_UNITS)
    scale = Scale(np.array([low]), np.array([0.5]))
    rooms = np.array([low, high])
    if encoder.numbers_ == "plain":
        rooms, middle = _round_rooms(low, high, unit)
        texts = _plain_texts(middle, wording)
    else:
        digits = encoder.digits_
        if digits > _MOST_DIGITS:
            raise ValueError(
                f"digits={digits} makes a grid of {10**digits} answers for each column "
                f"of numbers. Set RowEncoder(digits={_MOST_DIGITS}) or less."
            )
        if low < high:
            spaced = spaced_scale(numbers, weight, low, high, encoder.spacing_)
            rooms = _spaced_rooms(spaced, unit, 10**digits)
        n_rooms = len(rooms) - 1
        texts = write_scaled((np.arange(n_rooms) + 0.5) / n_rooms, digits)
    if low < high:
        scale = Scale(rooms, np.linspace(0.0, 1.0, len(rooms)))
    answers = NumberAnswers(texts, scale, low, high, len(numbers))
    beyond, reach = _tails(answers.write(numbers), numbers, weight, len(texts))
    return GridAnswers(answers, rooms, unit, beyond, reach)


def _tails(
    index: NDArray[np.intp],
    numbers: NDArray[np.float64],
    weight: NDArray[np.float64],
    n_answers: int,
) -> tuple[tuple[float, float], float]:
    """Return which share of the outer answers lies beyond the numbers, and how far."""
    # Each of n + 1 exchangeable numbers is the greatest with the same probability.
    rare = 1 / (weight.sum() + 1)
    first, last = (
        float(weight[index == end].sum() / weight.sum()) for end in (0, n_answers - 1)
    )
    beyond = min(rare / first, _MOST_BEYOND), min(rare / last, _MOST_BEYOND)
    middle = np.median(numbers)
    reach = float(np.average(np.abs(numbers - middle), weights=weight))
    return beyond, reach or max(abs(float(middle)), 1.0)


def _spaced_rooms(scale: Scale, unit: float | None, n_most: int) -> NDArray[np.float64]:
    """Return where the rooms of answers begin, and the last one's end.

    >>> _spaced_rooms(Scale(np.array([0.0, 3.0]), np.array([0.0, 1.0])), 1.0, 100)
    array([-0.5,  0.5,  1.5,  2.5,  3.5])
    """
    low, high = scale.knots[0], scale.knots[-1]
    if unit is None:
        evenly: NDArray[np.float64] = np.unique(
            scale.number(np.linspace(0.0, 1.0, n_most + 1))
        )
        return evenly
    n_values = round((high - low) / unit) + 1
    if n_values <= n_most:
        return np.asarray(low + unit * (np.arange(n_values + 1) - 0.5))
    rooms = scale.number(np.linspace(0.0, 1.0, n_most + 1))
    # Each ends between two multiples of the unit, and holds one or more.
    rooms = low + unit * (np.round((rooms - low) / unit - 0.5) + 0.5)
    rooms[0], rooms[-1] = low - unit / 2, high + unit / 2
    distinct: NDArray[np.float64] = np.unique(rooms)
    return distinct


def _round_rooms(
    low: float, high: float, unit: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rooms of round numbers, and these.

    >>> _round_rooms(0.0, 3.0, 1.0)[1]
    array([0., 1., 2., 3.])
    """
    if low == high:
        return np.array([low, high]), np.array([low])
    least = (high - low) / _MOST_PLAIN
    step = round_step(least) if unit is None else round_step(max(least / unit, 1))
    step *= unit or 1.0
    middle = step * (np.arange(np.round(low / step), np.round(high / step) + 1) + 0.0)
    rooms = np.append(middle - step / 2, middle[-1] + step / 2)
    if unit is not None:
        origin = unit * np.round(low / unit)
        rooms = origin + unit * (np.round((rooms - origin) / unit - 0.5) + 0.5)
    margin = (unit or 0.0) / 2
    rooms[0], rooms[-1] = low - margin, high + margin
    is_room = np.diff(rooms) > 0
    return np.append(rooms[:-1][is_room], rooms[-1]), middle[is_room]


def _plain_texts(middle: NDArray[np.float64], wording: ColumnWording) -> list[str]:
    """Return how round numbers are written; times are seconds."""
    if wording.way == "date":
        return wording.writer.write(pd.to_datetime(middle, unit="s"), None)
    if wording.way == "time":
        return wording.writer.write(middle, None)
    return write_plain(middle + 0.0, 15)


def _common_unit(numbers: NDArray[np.float64], units: Sequence[float]) -> float | None:
    """Return what all numbers are multiples of, if it is one of the units.

    >>> _common_unit(np.array([5.1, 4.9]), _UNITS), _common_unit(np.array([np.pi]), [1])
    (0.1, None)
    """
    with np.errstate(over="ignore"):
        is_single = (numbers.astype(np.float32) == numbers).all()
    rounding = _FLOAT32_ROUNDING if is_single else _ROUNDING
    for unit in units:
        nearest = _multiples(numbers, unit)
        if np.allclose(nearest, numbers, rounding, 0.0):
            return unit
    return None


def _multiples(numbers: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    """Return the nearest multiples of a unit.

    >>> _multiples(np.array([0.34]), 0.1), _multiples(np.array([100.0]), 60.0)
    (array([0.3]), array([120.]))
    """
    # A tenth is no float: to divide by ten is more exact.
    inverse = round(1 / unit)
    multiples: NDArray[np.float64] = (
        np.round(numbers / unit) * unit
        if unit >= 1
        else np.round(numbers * inverse) / inverse
    )
    return multiples
