"""What ``"auto"`` stands for, and the rules by which a model may choose.

Facts of a table go in, the values of parameters come out. A model's preference names
the rule of a parameter by the value `BY_TABLE`. The numbers below were measured for
the embedded model: docs/experiments.md has the tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from liftlearn._numbers import fit_scale

# The value of a preference that leaves a parameter to its rule.
BY_TABLE = "by_table"


class Part(BaseEstimator):
    """A part of an estimator, whose parameters at ``"auto"`` are the model's choice."""

    # The parameters that have a rule.
    _ruled: ClassVar[frozenset[str]] = frozenset()

    def _prefer(self, preferences: Mapping[str, Any]) -> Self:
        """Take what a model prefers, by parameter."""
        self._preferences = dict(preferences)
        return self

    def _chosen(self, name: str, default: Any = None) -> Any:
        """Return a parameter's value: the user's, else the model's, else the default.

        `BY_TABLE`, which only a model or a default says, is the parameter's rule.
        """
        preferences: Mapping[str, Any] = vars(self).get("_preferences", {})
        for value in (getattr(self, name), preferences.get(name, "auto")):
            if not is_auto(value):
                return value
        return default


def is_auto(value: Any) -> bool:
    """Return whether a value is ``"auto"``; an array would be compared elementwise."""
    return isinstance(value, str) and value == "auto"


def is_rule(value: Any) -> bool:
    """Return whether a value that was chosen leaves the parameter to its rule."""
    return isinstance(value, str) and value == BY_TABLE


class _Growth(NamedTuple):
    """A share that grows with the columns of numbers beyond sixteen."""

    least: float
    most: float

    def at(self, n_numbers: int) -> float:
        return float(np.clip(self.least * n_numbers / 16, self.least, self.most))


class _Tokens(NamedTuple):
    """How many tokens training may read.

    Of few rows, which should take seconds; of more; of more with cell dropout.
    """

    few: float
    many: float
    many_masked: float

    def of(self, rows: TrainingRows) -> float:
        if rows.n_rows <= _FEW_ROWS:
            return self.few
        return self.many_masked if rows.has_dropout else self.many


# Tables of so many rows, columns and classes at the most are read in context.
_READ_ROWS, _READ_COLUMNS, _READ_CLASSES = 400, 64, 10

# How rows are written.
_JITTER = _Growth(0.05, 0.2)
_DROPOUT = _Growth(0.1, 0.3)
# Fewer columns of numbers have no cell dropout; fewer rows than so many at least this.
_DROPOUT_NUMBERS, _DROPOUT_ROWS, _LEAST_OF_FEW_ROWS = 8, 75, 0.2
# Rows of so many numbers may be curves; those whose positions on their columns' scales
# differ by less have no shape left there.
_CURVE_NUMBERS, _CURVE_DEVIATION = 16, 0.02
# More columns are written without words for them, if no more cells are missing.
_NAMED_COLUMNS, _MISSING = 32, 0.5
# Ways of writing that take the same count of words in each row.
_OF_ONE_LENGTH = {"number", "rank", "time", "order", "level"}

# How long members are trained: by the fewest steps and epochs, and steps for each
# class or factor of ten of a grid; cell dropout takes twice as many for classes.
_STEPS, _EPOCHS, _CLASS_STEPS = 120, 3, 10
# Epochs that are worth their tokens, of few rows and of many.
_FEW_ROWS = 1200
_REPEATS, _REPEATS_OF_MANY = 8, 20
# The most epochs: more would overfit few rows, but with cell dropout not so soon.
_CLASS_EPOCHS, _GRID_EPOCHS, _MASKED_EPOCHS = 20, 40, 120
# Budgets for the steps of many classes, for repeated epochs, for a grid of numbers and
# for all members together.
_CLASS_TOKENS = 6e6
_REPEAT_TOKENS = _Tokens(1e5, 1e6, 6e6)
_GRID_TOKENS = _Tokens(2.5e5, 1e6, 1e6)
_MEMBER_TOKENS = _Tokens(7e5, 2.5e6, 9e6)
_RATE, _MASKED_RATE = 1e-3, 2e-3
# Of whole rows: most epochs, fewest steps, and the tokens that more of them may read.
_WHOLE_EPOCHS, _WHOLE_STEPS, _WHOLE_TOKENS = 100, 300, 1.5e6
# The most members, and the fewest rows for several.
_MEMBERS, _MEMBER_ROWS = 3, 20
# The share of rows held out, and how many are enough for a temperature.
_HELD_OUT, _HELD_OUT_ROWS = 0.2, 100

# How answers are read: the temperature's excess over 1 is the first over so many rows
# more than the second.
_EXCESS, _OFFSET = 200, 30
# An even grid has at least this share of its numbers between the targets' quartiles.
_RESOLUTION = 0.05


def is_read_in_context(n_rows: int, n_columns: int, n_classes: int) -> bool:
    """Return whether a table for classes is read, and not learnt, if it has no text."""
    return (
        n_rows <= _READ_ROWS
        and n_columns <= _READ_COLUMNS
        and n_classes <= _READ_CLASSES
    )


def columns_by_table(n_columns: int, missing: float, ways: Iterable[str]) -> str:
    """Return how columns are called, given the share of missing cells.

    They have no words where rows are wide and cells still tell their columns.
    """
    is_wide = n_columns > _NAMED_COLUMNS and missing <= _MISSING
    return "none" if is_wide and _OF_ONE_LENGTH.issuperset(ways) else "index"


def numbers_by_table(
    numbers: NDArray[np.float64], weight: NDArray[np.float64], spacing: str
) -> str:
    """Return how the numbers, (n_rows, n_columns), are written."""
    if numbers.shape[1] < _CURVE_NUMBERS:
        return "scaled"
    positions = [
        fit_scale(column[known], weight[known], spacing).position(column)
        for column in numbers.T
        if (known := ~np.isnan(column)).any()
    ]
    # Would the columns' scales leave anything of a row's shape?
    within = np.nanvar(positions, axis=0)
    return "row" if np.nanmean(within) < _CURVE_DEVIATION**2 else "scaled"


def jitter_by_table(n_numbers: int) -> float:
    """Return the jitter of so many columns of numbers."""
    return _JITTER.at(n_numbers)


def dropout_by_table(n_numbers: int, n_rows: int) -> float:
    """Return the cell dropout of a table of so many columns of numbers and rows."""
    least = _LEAST_OF_FEW_ROWS if n_rows < _DROPOUT_ROWS else 0.0
    return max(least, _DROPOUT.at(n_numbers) if n_numbers >= _DROPOUT_NUMBERS else 0.0)


class TrainingRows(NamedTuple):
    """What the rules ask of the rows that a member learns from."""

    n_rows: int
    n_answers: int
    are_numbers: bool
    are_whole: bool  # whether every cell is an answer
    has_dropout: bool  # whether training leaves out cells
    n_tokens: float  # of a row's prompt, on average


def epochs_by_table(rows: TrainingRows, rows_a_step: int) -> int:
    """Return the most epochs."""
    if rows.are_whole:
        return max(_WHOLE_EPOCHS, math.ceil(_WHOLE_STEPS * rows_a_step / rows.n_rows))
    if rows.has_dropout:
        return _MASKED_EPOCHS
    if rows.are_numbers:
        return _GRID_EPOCHS
    # Half of each class's steps are taken all the same.
    n_steps = _CLASS_STEPS / 2 * rows.n_answers
    return max(_CLASS_EPOCHS, math.ceil(n_steps / math.ceil(rows.n_rows / rows_a_step)))


def steps_by_table(rows: TrainingRows, rows_a_step: int) -> int:
    """Return the most optimizer steps."""
    epoch = rows.n_rows / rows_a_step
    step_tokens = rows_a_step * rows.n_tokens
    if rows.are_whole:
        return math.ceil(max(_WHOLE_STEPS, _WHOLE_TOKENS / step_tokens))
    n_times = 2 if rows.has_dropout else 1
    if rows.are_numbers:
        n_fine = _STEPS * math.log10(rows.n_answers)
        budget = fine_budget = _GRID_TOKENS.of(rows)
    else:
        n_fine = n_times * _CLASS_STEPS * rows.n_answers
        budget, fine_budget = _REPEAT_TOKENS.of(rows), _CLASS_TOKENS
    n_repeats = _REPEATS if rows.n_rows <= _FEW_ROWS else _REPEATS_OF_MANY
    n_fewest = n_times * max(_STEPS, _EPOCHS * epoch)
    n_fine = min(n_fine, fine_budget / step_tokens)
    n_repeated = min(n_repeats * epoch, budget / step_tokens)
    return math.ceil(max(n_fewest, n_fine, n_repeated))


def rate_by_table(has_dropout: bool) -> float:
    """Return the learning rate."""
    return _MASKED_RATE if has_dropout else _RATE


def models_by_table(rows: TrainingRows, n_rows_read: int) -> int:
    """Return the most ensemble members, each of which reads so many rows in training.

    Rows that are read again count again.
    """
    if rows.n_rows < _MEMBER_ROWS or not n_rows_read:
        return 1
    n_allowed = _MEMBER_TOKENS.of(rows) / (n_rows_read * rows.n_tokens)
    return int(min(max(n_allowed, 1), _MEMBERS))


def fraction_by_table(n_rows: int, *, stops_early: bool) -> float:
    """Return the share of the rows that is held out."""
    return _HELD_OUT if stops_early else min(_HELD_OUT, _HELD_OUT_ROWS / n_rows)


def temperature_by_table(n_rows: int) -> float:
    """Return the temperature to expect of a model that was tuned on so many rows."""
    return 1 + _EXCESS / (n_rows + _OFFSET)


def spacing_by_table(
    y: NDArray[np.float64], weight: NDArray[np.float64], span: float
) -> str:
    """Return the spacing of a grid over targets, which spans so much."""
    first, third = np.quantile(y, [0.25, 0.75], weights=weight, method="inverted_cdf")
    return "mixed" if third - first < _RESOLUTION * span else "uniform"
