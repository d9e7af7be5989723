"""What a fitted estimator must hold to predict, checked before it is let out of a file.

An estimator goes in, without its language model; what does not fit together raises.
So a file that was made up fails at loading, and not later in a prediction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from liftlearn._answers import LabelAnswers, NumberAnswers
from liftlearn._cells import WRITERS
from liftlearn._columns import Column
from liftlearn._decoder import LabelDecoder, NumberDecoder
from liftlearn._encoder import RowEncoder
from liftlearn._finetuner import FineTuner
from liftlearn._numbers import Scale
from liftlearn._shots import Context, Neighbours, NumberCells, TextCells
from liftlearn._topics import Topics
from liftlearn._whole_rows import (
    ColumnType,
    GridAnswers,
    LevelAnswers,
    RowColumn,
    WholeRows,
)

# More wordings of a row than any use has: they are all written before one is read.
_MOST_WORDINGS = 10_000

# A union of a list that is computed can't be written with bars, as ruff would have it.
_WRITER: Any = Union[tuple(WRITERS.values())]  # noqa: UP007

# What each class that is no dataclass must have learnt to predict.
_LEARNT: dict[type, dict[str, Any]] = {
    LabelAnswers: {"classes": NDArray[Any], "texts": list[str]},
    NumberAnswers: {
        "texts": list[str],
        "low": float,
        "high": float,
        "numbers": NDArray[np.float64],
        "_scale": Scale,
        "_dither": float,
    },
    LabelDecoder: {
        "classes_": NDArray[Any],
        "answers_": LabelAnswers,
        "class_prior_": NDArray[np.float64],
        "temperature_": float,
        "n_wordings_": int,
    },
    NumberDecoder: {"answers_": NumberAnswers, "n_wordings_": int},
    RowEncoder: {
        "n_features_in_": int,
        "columns_": str,
        "numbers_": str,
        "question_": str,
        "digits_": int,
        "jitter_": float,
        "shuffle_columns_": bool,
        "_fields": list[int],
        "column_kinds_": dict[Any, str],
        "_columns": list[Column],
        "_ways": list[str],
        "_cut": set[int],
        "_labels": list[str],
        "_blanks": list[str],
        "_writers": list[_WRITER],
    },
    FineTuner: {"history_": list[dict[str, Any]]},
}
# Classes whose annotations say what they hold.
_ANNOTATED = (
    ColumnType,
    Context,
    GridAnswers,
    LevelAnswers,
    Neighbours,
    NumberCells,
    RowColumn,
    Scale,
    TextCells,
    Topics,
    WholeRows,
    *WRITERS.values(),
)
# What parts and estimators may have beside it, and beside their parameters and the
# values in use of these.
_MAY_HAVE: dict[str, Any] = {
    "_preferences": dict[str, Any],
    "_column_names": list[Any],
    "feature_names_in_": NDArray[Any],
    "n_features_in_": int,
    "conformity_scores_": NDArray[np.float64],
    "context_": Context | None,
    "rows_": WholeRows,
    "orders_": NDArray[np.intp],
    "target_": str | int | None,
    "n_steps_": int,
    "short_schedule_": bool,
}


def check_learnt(estimator: Any) -> None:
    """Raise unless an estimator's parts are whole, as they should be, and agree."""
    if not hasattr(estimator, "_parts"):
        raise TypeError(f"expected an estimator, found {type(estimator).__name__}")
    name = type(estimator).__name__
    has_rows = "decoder" not in estimator._parts
    own = ["rows_", "orders_", "target_"] if has_rows else ["n_shots_", "context_"]
    _check_names(estimator, dict.fromkeys(own), name)
    for part, cls in estimator._parts.items():
        _check_type(getattr(estimator, f"{part}_"), cls, f"{name}.{part}_")
        _check_type(getattr(estimator, part), cls | None, f"{name}.{part}")
        _check_names(getattr(estimator, f"{part}_"), _LEARNT[cls], f"{name}.{part}_")
    _check_inside(estimator, name)
    _check_encoder(estimator)
    if has_rows:
        _check_rows(estimator)
    else:
        _check_decoder(estimator)
        _check_context(estimator)


def _check_inside(value: Any, where: str) -> None:
    """Check the names and types of all attributes of all objects inside of a value."""
    hints = _LEARNT.get(type(value), {})
    is_part = isinstance(value, BaseEstimator)
    if isinstance(value, _ANNOTATED):
        hints = get_type_hints(type(value))
    elif is_part:
        _check_settings(value)
        hints = _usual_attributes(value) | hints
    elif hints:
        _check_names(value, hints, where)
    if hints:
        for name, inner in vars(value).items():
            if name not in hints:
                raise ValueError(f"{where} has an attribute {name!r}, which is unknown")
            _check_type(inner, hints[name], f"{where}.{name}")
            _check_inside(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_inside(inner, f"{where}[{i}]")
    if check := _CHECKS.get(type(value)):
        check(value, where)


def _usual_attributes(part: BaseEstimator) -> dict[str, Any]:
    """Return the attributes that any part or estimator may have, with their types."""
    names = part.get_params(deep=False)
    return _MAY_HAVE | dict.fromkeys([*names, *(f"{name}_" for name in names)], Any)


def _check_settings(part: BaseEstimator) -> None:
    """Check the parameters of a part, and the values that stand in for them."""
    part._validate_params()
    in_use = copy.copy(part)
    for name in part.get_params(deep=False):
        setattr(in_use, name, getattr(part, f"{name}_", getattr(part, name)))
    in_use._validate_params()


def _check_names(part: Any, hints: Mapping[str, Any], where: str) -> None:
    if missing := sorted(hints.keys() - vars(part).keys()):
        raise AttributeError(f"{where} has no {missing[0]}")


def _check_type(value: Any, hint: Any, where: str) -> None:
    if not _fits(value, hint):
        raise TypeError(f"{where} is a {type(value).__name__}, not {hint}")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type as it is written in annotations.

    >>> _fits([1, 2], list[int]), _fits([1, "2"], list[int]), _fits(None, int | None)
    (True, False, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in inner)
    if origin in (list, set) or (origin is tuple and inner[-1] is Ellipsis):
        return isinstance(value, origin) and all(_fits(v, inner[0]) for v in value)
    if origin is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(inner)
            and all(map(_fits, value, inner))
        )
    if origin in (dict, Mapping):
        key, item = inner
        return isinstance(value, dict) and all(
            _fits(k, key) and _fits(v, item) for k, v in value.items()
        )
    if origin is np.ndarray:
        of_any = inner[1] == np.dtype[Any]
        return isinstance(value, np.ndarray) and (
            of_any or value.dtype == get_args(inner[1])[0]
        )
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    kinds = (bool, np.bool_) if hint is bool else hint
    return hint is Any or isinstance(value, kinds)


def _check_scale(scale: Scale, where: str) -> None:
    for ends in (scale.knots, scale.positions):
        if ends.ndim != 1 or not len(ends) or not np.isfinite(ends).all():
            raise ValueError(f"{where} has no finite knots")
        if (np.diff(ends) < 0).any():
            raise ValueError(f"{where} does not increase")
    if len(scale.knots) != len(scale.positions):
        raise ValueError(f"{where} has other knots than positions")


def _check_topics(topics: Topics, where: str) -> None:
    shapes = {
        "rarity": (len(topics.words),),
        "axes": (len(topics.words), topics.n_axes),
    }
    for name, shape in (shapes | {"centre": (topics.n_axes,)}).items():
        numbers = getattr(topics, name)
        if numbers.shape != shape or not np.isfinite(numbers).all():
            raise ValueError(f"{where} has no finite {name} of its words and axes")
    if not topics.n_axes or len({*topics.words}) < len(topics.words):
        raise ValueError(f"{where} has no axes, or a word twice")


_CHECKS: dict[type, Callable[[Any, str], None]] = {
    Scale: _check_scale,
    Topics: _check_topics,
}


def _check_encoder(estimator: Any) -> None:
    """Check that the encoder reads as many columns as the estimator was fitted on."""
    encoder = estimator.encoder_
    n_columns, n_words = len(encoder._ways), len(encoder._labels)
    n_extra = len(encoder._writers) - n_columns  # the sizes of curves
    # A target may be one more column.
    n_own = n_columns - (getattr(estimator, "target_", None) is not None)
    names = getattr(estimator, "feature_names_in_", encoder._ways[:n_own])
    counts = {estimator.n_features_in_, len(names)}
    if counts != {n_own} or encoder.n_features_in_ != n_columns:
        raise ValueError(f"the encoder reads {n_columns} columns, not {counts}")
    if not 0 <= n_extra <= n_words - n_columns:
        raise ValueError(f"the encoder writes {n_extra} columns more than it reads")
    if len(encoder._columns) != n_columns:
        raise ValueError("the encoder does not know what each column is")
    if len(encoder._blanks) != len(encoder._writers):
        raise ValueError("the encoder has not a word for each column's missing cells")
    if not all(0 <= field < n_columns for field in encoder._fields):
        raise ValueError("the encoder's template has a field without a column")
    numbers = [number for writer in encoder._writers for number in _numbers_of(writer)]
    digits = {getattr(number, "digits", 0) for number in numbers}
    if not digits <= {0, encoder.digits_}:
        raise ValueError(f"the encoder writes {digits} digits, not {encoder.digits_}")


def _numbers_of(writer: Any) -> list[Any]:
    """Return what writes the numbers of a column: of a text one for each axis."""
    topics = getattr(writer, "topics", None)
    if topics is None:
        return [writer]
    axes: list[Any] = writer.axes
    if len(axes) != topics.n_axes:
        raise ValueError(f"the encoder writes {len(axes)} topics of a text, not all")
    return axes


class _Even:
    """Stands in for a language model to which all answers are equally probable."""

    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]:
        return np.full((len(prompts), len(answers)), -np.log(len(answers)))


def _check_decoder(estimator: Any) -> None:
    """Check that the decoder makes a prediction of scores."""
    decoder = estimator.decoder_
    answers = decoder.answers_
    if decoder.n_wordings_ > _MOST_WORDINGS:
        raise ValueError(f"{decoder.n_wordings_} wordings of a row are too many")
    if not answers.texts or len({*answers.texts}) < len(answers.texts):
        raise ValueError("the answers are none, or not distinct")
    if isinstance(answers, LabelAnswers):
        for classes in (decoder.classes_, answers.classes):
            if np.shape(classes) != (len(answers.texts),):
                raise ValueError("there are not as many classes as answers")
        with np.errstate(all="ignore"):
            predicted = decoder.predict_proba(_Even(), [""])
        is_right = np.isclose(predicted.sum(), 1.0) and len(decoder.class_prior_) > 0
    else:
        if answers.numbers.shape != (len(answers.texts),):
            raise ValueError("there are not as many numbers as answers")
        with np.errstate(all="ignore"):
            predicted = decoder.predict(_Even(), [""])
        is_right = answers.low <= predicted[0] <= answers.high
    if not is_right or not np.isfinite(predicted).all():
        raise ValueError("the decoder makes no prediction of even scores")
    scores = getattr(estimator, "conformity_scores_", np.zeros(0))
    if np.ndim(scores) != 1 or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("conformity_scores_ are not in [0, 1]")


def _check_rows(estimator: Any) -> None:
    """Check that whole rows can be written and made."""
    columns, orders = estimator.rows_.columns, estimator.orders_
    n_columns = len(columns)
    if len(estimator.encoder_.column_wordings()) != n_columns:
        raise ValueError(f"rows have {n_columns} columns, but the encoder has others")
    if orders.ndim != 2 or not len(orders) or orders.shape[1] != n_columns:
        raise ValueError("the orders are not of the columns")
    if (np.sort(orders, axis=1) != np.arange(n_columns)).any():
        raise ValueError("an order leaves out a column")
    for column in columns:
        answers, texts = column.answers, column.texts
        if not texts or len({*texts}) < len(texts):
            raise ValueError("the answers of a column are none, or not distinct")
        if isinstance(answers, LevelAnswers):
            is_right = answers.levels.shape == (len(answers.texts),)
        else:
            rooms, unit = answers.rooms, answers.unit
            is_right = answers.answers.numbers.shape == (len(answers.texts),)
            is_right &= rooms.shape == (len(answers.texts) + 1,)
            is_right &= bool(np.isfinite(rooms).all()) and (np.diff(rooms) >= 0).all()
            is_right &= unit is None or (np.isfinite(unit) and unit > 0)
            is_right &= 0 < min(answers.beyond) <= max(answers.beyond) < 0.5
            is_right &= bool(np.isfinite(answers.reach)) and answers.reach > 0
        if not is_right:
            raise ValueError("the answers of a column don't fit together")
    first = np.zeros((1, n_columns), np.intp)
    estimator.rows_.table(first, np.zeros(first.shape))


def _check_context(estimator: Any) -> None:
    """Check that the rows that are shown have all that is shown of them."""
    context = estimator.context_
    n_shots = 0 if context is None else context.n_shots
    if estimator.n_shots_ != n_shots or (n_shots < 1) != (context is None):
        raise ValueError(f"{n_shots} rows are shown, not n_shots_")
    if context is None:
        return
    n_rows, n_wordings = len(context.answers), estimator.decoder_.n_wordings_
    if n_shots > n_rows or not 0 <= context.seed < 2**32:
        raise ValueError(f"{n_shots} of {n_rows} rows are shown, or the seed is none")
    if {*map(len, context.sentences), len(context.weight)} != {n_rows}:
        raise ValueError("rows are shown without a sentence or a weight")
    n_drawn = 0 if context.neighbours else n_shots
    if (
        len(context.sentences) != n_wordings
        or context.draws.shape != (n_wordings, n_drawn)
        or not ((context.draws >= 0) & (context.draws < n_rows)).all()
    ):
        raise ValueError("the rows that are shown are not drawn for each wording")
    if context.neighbours:
        _check_neighbours(context.neighbours, n_rows, estimator.n_features_in_)


def _check_neighbours(neighbours: Neighbours, n_rows: int, n_columns: int) -> None:
    """Check that a distance from each row to choose from can be computed."""
    lengths = {len(neighbours.weight)}
    for cells in neighbours.cells:
        if isinstance(cells, NumberCells):
            lengths.add(len(cells.positions))
            continue
        lengths.add(len(cells.codes))
        if not ((cells.codes >= -1) & (cells.codes < len(cells.texts))).all():
            raise ValueError("a cell of a row that may be shown has no text")
    if lengths != {n_rows} or len(neighbours.cells) != n_columns:
        raise ValueError("the rows that may be shown have not a cell in each column")
