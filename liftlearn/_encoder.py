"""Table to sentences: how a cell, a row and a whole table are written.

A pandas table goes in, prompts come out: ``transform`` writes each row as it is,
``augment`` writes it afresh for training. `Corpus` keeps together what training reads.
No model is known here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from liftlearn._numbers import (
    Scale,
    fit_scale,
    row_positions,
    write_codes,
    write_plain,
    write_scaled,
)
from liftlearn._validation import (
    Interval,
    StrOptions,
    check_sample_weight,
    check_table,
    distinct_names,
)

# Words of the slot wording: so many single ones of each, then two words are used.
_N_SLOTS = 128
_N_LEVELS = 64
_UNSEEN = "c?"
# A column of at most so many distinct numbers, each met twice or more, has levels.
_FEW_LEVELS = 10
# Text of which at least half the cells differ, or of more levels, is free text.
_MOST_LEVELS = 1024

_STANDALONE = {
    "columns": "names",
    "numbers": "plain",
    "spacing": "mixed",
    "jitter": 0.0,
    "shuffle_columns": False,
    "text_length": None,
}


class RowEncoder(TransformerMixin, BaseEstimator):
    """Write each row of a table as a sentence that ends in a question.

    A parameter left at ``"auto"`` takes the preference of the model that the estimator
    was given, and the value after "alone" where there is no model. The values in use
    are stored in attributes of the same names with a trailing underscore.

    Parameters
    ----------
    columns : {"auto", "names", "slots"}, default="auto"
        How columns are called. ``"names"`` writes ``age is 41, job is nurse.`` with
        the table's own names, levels and words; ``"slots"`` writes one short word for
        each column and level, ``x0 53 x1 c7``. Alone: ``"names"``.
    numbers : {"auto", "plain", "scaled", "row"}, default="auto"
        How numbers are written: with significant digits; as a position on the
        column's scale, with a fixed count of digits; or as a position among the
        numbers of the same row, for rows that are curves. Alone: ``"plain"``.
    digits : int or "auto", default="auto"
        Significant digits of plain numbers, or the fixed count of digits of scaled
        ones. Alone: 4 for plain numbers, 2 for scaled ones.
    spacing : {"auto", "zscore", "quantile", "mixed"}, default="auto"
        Scale of a column for ``numbers="scaled"``: linear within four standard
        deviations of the mean, equal room for equally many training rows, or the mean
        of the quantile position and of the normal distribution function of the
        robust z-score.
        Alone: ``"mixed"``.
    template : str, default=None
        A sentence of your own with column names in braces, such as ``"A
        {age}-year-old {job}. Retired?"``; a missing cell is written ``unknown``.
        It replaces ``columns`` and ``question``.
    task : str, default=None
        A description of the task, written before each row.
    descriptions : mapping of column name to str, default=None
        Words to write for a column in place of its name or slot.
    question : str, default="auto"
        The text that ends each sentence. Alone: ``What is <name of y>?``.
    jitter : float or "auto", default="auto"
        Standard deviation of the noise that `augment` adds to each number of a
        continuous column before it is written, in units of the standard deviation of
        the column (of its positions, where numbers are scaled). Alone: 0.
    shuffle_columns : bool or "auto", default="auto"
        Whether `augment` writes the columns of each row in a random order. Alone:
        False.
    text_length : int, None or "auto", default="auto"
        Most characters of a free text cell; longer ones are cut with a warning. None
        cuts nothing. Alone: None.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the table seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where all of them are strings. Equal ones are numbered.
    columns_, numbers_, digits_, spacing_, question_, jitter_, shuffle_columns_, \
text_length_
        The values in use.

    Notes
    -----
    Numbers with at most ten distinct values, each seen twice on average, and ordered
    categories are written by rank where numbers are scaled, and are not jittered.
    Dates are written as year, month, day, weekday and hour. Missing cells are left out
    of the sentence. The numbers of a column are scaled with what `fit` saw; later
    numbers beyond that range are written as its end.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022, section 2.

    Examples
    --------
    >>> import pandas as pd
    >>> from liftlearn import RowEncoder
    >>> table = pd.DataFrame({"age": [41, 23], "job": ["nurse", None]})
    >>> RowEncoder(question="Retired?").fit_transform(table)
    ['age is 41, job is nurse. Retired?', 'age is 23. Retired?']
    >>> encoder = RowEncoder(columns="slots", numbers="scaled", question="y?")
    >>> encoder.fit_transform(table)
    ['x0 75 x1 c0 y?', 'x0 24 y?']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "columns": [StrOptions({"auto", "names", "slots"})],
        "numbers": [StrOptions({"auto", "plain", "scaled", "row"})],
        "digits": [StrOptions({"auto"}), Interval(Integral, 1, 17, closed="both")],
        "spacing": [StrOptions({"auto", "zscore", "quantile", "mixed"})],
        "template": [str, None],
        "task": [str, None],
        "descriptions": [Mapping, None],
        "question": [str],
        "jitter": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "shuffle_columns": [StrOptions({"auto"}), "boolean"],
        "text_length": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
    }

    def __init__(
        self,
        *,
        columns: str = "auto",
        numbers: str = "auto",
        digits: int | str = "auto",
        spacing: str = "auto",
        template: str | None = None,
        task: str | None = None,
        descriptions: Mapping[Any, str] | None = None,
        question: str = "auto",
        jitter: float | str = "auto",
        shuffle_columns: bool | str = "auto",
        text_length: int | str | None = "auto",
    ) -> None:
        self.columns = columns
        self.numbers = numbers
        self.digits = digits
        self.spacing = spacing
        self.template = template
        self.task = task
        self.descriptions = descriptions
        self.question = question
        self.jitter = jitter
        self.shuffle_columns = shuffle_columns
        self.text_length = text_length

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RowEncoder:
        """Learn the kind, scale and levels of each column.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table. Any dataframe that narwhals reads is taken.
        y : array-like of shape (n_samples,), default=None
            The target; only its name is used, for the question.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts in the columns' statistics. None counts each
            once.

        Returns
        -------
        self : RowEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If the table is empty, holds infinite or complex numbers, or a parameter,
            the template or a description does not fit it.
        """
        self._validate_params()
        table = check_table(self, X, reset=True)
        weight = check_sample_weight(sample_weight, table)
        table, weight = table.iloc[np.flatnonzero(weight)], weight[weight > 0]
        self._settle(getattr(y, "name", None))
        names = distinct_names([str(name).strip() for name in table.columns])
        self._labels = self._column_labels(list(table.columns), names)
        self._fields = _template_fields(self.template, names)
        cells = [table.iloc[:, i] for i in range(table.shape[1])]
        self._kinds = [_kind(column) for column in cells]
        self._writers = [
            self._writer(kind, column, weight)
            for kind, column in zip(
                self._kinds, self._readable(cells, self._kinds), strict=True
            )
        ]
        return self

    def transform(self, X: Any) -> list[str]:
        """Write each row as it is.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        prompts : list of str
            One sentence for each row.

        Raises
        ------
        ValueError
            If the columns differ from those of `fit`, or a cell is not of its
            column's kind.
        """
        return self._write(X, None)

    def augment(self, X: Any, rng: RandomState) -> list[str]:
        """Write each row afresh for training, with jitter and column order drawn.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        rng : numpy.random.RandomState
            The stream to draw from.

        Returns
        -------
        prompts : list of str
            One sentence for each row, another at each call.
        """
        return self._write(X, rng)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _settle(self, target_name: Any) -> None:
        """Store the values in use of all parameters that may be ``"auto"``."""
        for name, alone in _STANDALONE.items():
            value = getattr(self, name)
            setattr(self, f"{name}_", alone if value == "auto" else value)
        digits_alone = 4 if self.numbers_ == "plain" else 2
        self.digits_ = digits_alone if self.digits == "auto" else int(self.digits)
        self.question_ = self.question
        if self.question == "auto":
            subject = "the target" if target_name in (None, "") else target_name
            self.question_ = f"What is {subject}?"

    def _column_labels(self, columns: list[Any], names: list[str]) -> list[str]:
        """Return what each column is called in the sentence."""
        labels = list(names)
        if self.columns_ == "slots":
            labels = write_codes(range(len(names)), len(names), "x", _N_SLOTS)
        for name, description in (self.descriptions or {}).items():
            if name not in columns:
                raise ValueError(
                    f"descriptions names the column {name!r}, which the table has not; "
                    f"it has {columns!r}. Use the table's own names."
                )
            labels[columns.index(name)] = str(description)
        return labels

    def _readable(
        self, cells: list[pd.Series], kinds: Sequence[str]
    ) -> list[pd.Series]:
        """Return the cells with continuous ones put to scale where rows have one."""
        if self.numbers_ != "row":
            return cells
        curve = [i for i, kind in enumerate(kinds) if kind == "number"]
        numbers = [_as_numbers(cells[i]) for i in curve]
        positions = row_positions(
            np.array(numbers).reshape(len(curve), len(cells[0])).T
        )
        readable = list(cells)
        for i, column in zip(curve, positions.T, strict=True):
            readable[i] = pd.Series(column, name=cells[i].name)
        return readable

    def _writer(
        self, kind: str, cells: pd.Series, weight: NDArray[np.float64]
    ) -> _Writer:
        """Return what writes the cells of one column."""
        scaled = self.numbers_ != "plain"
        if kind in ("number", "rank"):
            return self._number_writer(kind, cells, weight)
        if kind == "date":
            return _Date.fit(cells, self.digits_) if scaled else _Date([], 0)
        slots = self.columns_ == "slots"
        if kind == "text" or not slots:
            return _Text(self.text_length_)
        levels = _levels(cells)
        if kind == "order" and scaled:
            positions = (np.arange(len(levels)) + 0.5) / max(len(levels), 1)
            words = write_scaled(positions, self.digits_)
        else:
            words = write_codes(range(len(levels)), len(levels), "c", _N_LEVELS)
        return _Level(dict(zip(levels, words, strict=True)))

    def _number_writer(
        self, kind: str, cells: pd.Series, weight: NDArray[np.float64]
    ) -> _Number:
        numbers = _as_numbers(cells)
        known = ~np.isnan(numbers)
        numbers, weight = numbers[known], weight[known]
        if not len(numbers):
            numbers, weight = np.zeros(1), np.ones(1)
        scale = None
        if self.numbers_ == "scaled" or (self.numbers_ == "row" and kind == "rank"):
            scale = fit_scale(
                numbers, weight, self.spacing_ if kind == "number" else "rank"
            )
        elif self.numbers_ == "row":
            scale = Scale(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        spread = numbers if scale is None else scale.position(numbers)
        jitter = self.jitter_ * _deviation(spread, weight) if kind == "number" else 0.0
        whole = scale is None and bool((numbers == np.floor(numbers)).all())
        return _Number(scale, self.digits_, jitter, whole)

    def _write(self, X: Any, rng: RandomState | None) -> list[str]:
        check_is_fitted(self)
        table = check_table(self, X, reset=False)
        cells = self._readable(
            [table.iloc[:, i] for i in range(table.shape[1])], self._kinds
        )
        texts = [
            writer.write(column, rng)
            for writer, column in zip(self._writers, cells, strict=True)
        ]
        lead = f"{self.task} " if self.task else ""
        if self.template is not None:
            return [
                lead + _filled(self.template, self._fields, row)
                for row in zip(*texts, strict=True)
            ]
        slots = self.columns_ == "slots"
        says, comma, stop = (" ", " ", " ") if slots else (" is ", ", ", ". ")
        facts = [
            [label + says + text if text else "" for text in column]
            for label, column in zip(self._labels, texts, strict=True)
        ]
        prompts = []
        for row in zip(*facts, strict=True):
            known = [fact for fact in row if fact]
            if rng is not None and self.shuffle_columns_:
                rng.shuffle(known)
            sentence = comma.join(known) + stop if known else ""
            prompts.append(lead + sentence + self.question_)
        return prompts


class Answers(Protocol):
    """The answers of a target, one of a fixed list of texts for each row."""

    texts: list[str]

    def write(self, y: NDArray[Any], rng: RandomState) -> NDArray[np.intp]: ...


@dataclass(frozen=True, eq=False)
class Corpus:
    """What training reads: a table, its target and weights, and how to write them.

    Parameters
    ----------
    encoder : RowEncoder
        Fitted; an encoder with no ``augment`` writes the same prompts each time.
    answers : Answers
        The answer texts, and which of them a target is.
    table : DataFrame of shape (n_rows, n_features)
        The rows.
    target : ndarray of shape (n_rows,)
        Their labels or numbers.
    weight : ndarray of shape (n_rows,)
        How often each row counts, on any scale; positive.
    """

    encoder: Any
    answers: Answers
    table: pd.DataFrame
    target: NDArray[Any]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.table)

    def draw(self, rng: RandomState) -> NDArray[np.intp]:
        """Return the rows of one epoch: as many as the table has, in random order.

        Each row is met in proportion to its weight, as evenly as whole numbers allow;
        rows of equal weight once each.
        """
        ends = np.cumsum(self.weight) * (len(self) / self.weight.sum())
        # Rounding must not move the last end across a whole number.
        ticks = np.arange(len(self)) + (rng.uniform() if np.ptp(self.weight) else 0.5)
        rows = np.searchsorted(ends, ticks).clip(max=len(self) - 1)
        return rng.permutation(rows)

    def write(
        self, rows: NDArray[np.intp], rng: RandomState
    ) -> tuple[list[str], NDArray[np.intp]]:
        """Return fresh prompts of the rows and the index of each one's answer."""
        table = self.table.iloc[rows]
        if hasattr(self.encoder, "augment"):
            prompts = self.encoder.augment(table, rng)
        else:
            prompts = self.encoder.transform(table)
        return prompts, self.answers.write(self.target[rows], rng)


class _Writer(Protocol):
    """Writes the cells of one column; an empty text is a missing cell."""

    def write(self, cells: pd.Series, rng: RandomState | None) -> list[str]: ...


@dataclass(frozen=True, eq=False)
class _Number:
    """Numbers on a scale, or plain where there is none."""

    scale: Scale | None
    digits: int
    jitter: float
    whole: bool

    def write(self, cells: pd.Series, rng: RandomState | None) -> list[str]:
        numbers = _as_numbers(cells)
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

    def write(self, cells: pd.Series, rng: RandomState | None) -> list[str]:
        known = cells.notna().to_numpy()
        return _spread(
            [self.words.get(str(c), _UNSEEN) for c in cells[known].tolist()], known
        )


@dataclass(frozen=True)
class _Text:
    """Text as it stands, cut where it is too long; nothing visible is quoted."""

    length: int | None

    def write(self, cells: pd.Series, rng: RandomState | None) -> list[str]:
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
            texts = [text[: self.length] for text in texts]
        return _spread(texts, known)


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

    def write(self, cells: pd.Series, rng: RandomState | None) -> list[str]:
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


def _kind(cells: pd.Series) -> str:
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
    numbers = _as_numbers(cells)
    numbers = numbers[~np.isnan(numbers)]
    n_levels = len(np.unique(numbers))
    few = n_levels <= _FEW_LEVELS and 2 * n_levels <= len(numbers)
    return "rank" if few else "number"


def _levels(cells: pd.Series) -> list[str]:
    """Return the texts of the levels that occur: in their order, or sorted."""
    if isinstance(cells.dtype, pd.CategoricalDtype) and cells.dtype.ordered:
        return [
            str(level) for level in cells.cat.remove_unused_categories().cat.categories
        ]
    return sorted({str(cell) for cell in cells.dropna().tolist()})


def _as_numbers(cells: pd.Series) -> NDArray[np.float64]:
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


def _template_fields(template: str | None, names: list[str]) -> list[int]:
    """Return the column of each field of a template, in the template's order."""
    fields = re.findall(r"\{([^{}]*)\}", template or "")
    for field in fields:
        if field not in names:
            raise ValueError(
                f"The template names the column {field!r}, which the table has not; "
                f"it has {names!r}. Write a column's name in braces."
            )
    return [names.index(field) for field in fields]


def _filled(template: str, fields: list[int], row: Sequence[str]) -> str:
    """Return the template with each field replaced by its cell's text.

    >>> _filled("A {age}-year-old {job}.", [0, 1], ["41", ""])
    'A 41-year-old unknown.'
    """
    between = re.split(r"\{[^{}]*\}", template)
    texts = [row[i] or "unknown" for i in fields]
    return "".join(a + b for a, b in zip_longest(between, texts, fillvalue=""))
