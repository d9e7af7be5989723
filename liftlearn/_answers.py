"""Targets to answers and back: labels by their words, numbers on a grid.

Here alone an answer's text is written and read. Arrays of labels or numbers
go in; the texts of all possible answers, and the index of each row's own, come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from liftlearn._numbers import Scale, fit_scale, fixed_digits, write_codes, write_plain
from liftlearn._values import check_text

# Single-word class codes; more classes take two words.
_N_CODES = 128
# A learnt grid reaches beyond the training targets by this share of their range.
_MARGIN = 0.02
# A plain grid has at most so many numbers.
_MOST_PLAIN = 500
# Numbers are dithered by this share of the grid over the root of the count of targets,
# as kernels narrow with more data, and by no more than the other share.
_DITHER = 0.4
_MOST_DITHER = 0.05


class LabelAnswers:
    """The answers of a classification target: one text for each class.

    The classes are sorted and distinct. Their words are ``"codes"``, ``"labels"`` (the
    labels' own text), or given: by label, or in the order of the classes.

    >>> answers = LabelAnswers(np.array([1, 12]), "labels")
    >>> answers.texts, answers.write(np.array([12, 1]))
    (['1', '12'], array([1, 0]))
    """

    def __init__(
        self,
        classes: NDArray[Any],
        words: str | Mapping[Any, str] | Sequence[str],
    ) -> None:
        self.classes = classes
        self.texts = _label_texts(classes, words)

    def write(
        self, y: NDArray[Any], rng: RandomState | None = None
    ) -> NDArray[np.intp]:
        """Return the index of each label's answer."""
        return np.searchsorted(self.classes, y)


def _label_texts(
    classes: NDArray[Any], words: str | Mapping[Any, str] | Sequence[str]
) -> list[str]:
    labels = classes.tolist()
    if isinstance(words, str):
        if words == "codes":
            return write_codes(range(len(labels)), len(labels), "y", _N_CODES)
        texts = [str(label) for label in labels]
    elif isinstance(words, Mapping):
        missing = [label for label in labels if label not in words]
        if missing:
            raise ValueError(
                f"words has no word for {missing!r}; it has words for "
                f"{list(words)!r}. Give each class one."
            )
        texts = [words[label] for label in labels]
    else:
        texts = list(words)
        if len(texts) != len(labels):
            raise ValueError(
                f"words has {len(texts)} words for {len(labels)} classes: {labels!r}. "
                "Give each class one, in this order."
            )
    for text in texts:
        check_text(text, "The word of a class")
        if not isinstance(text, str):
            raise TypeError(
                f"Expected text as the word of each class, got {text!r}. Quote it in "
                "LabelDecoder(words=...)."
            )
        if texts.count(text) > 1:
            raise ValueError(
                f"Two classes of {labels!r} have the same word {text!r}. Give each "
                "class a word of its own with LabelDecoder(words=...)."
            )
    return texts


class NumberAnswers:
    """The answers of a regression target: the numbers of a grid.

    ``texts`` are those of its numbers, in increasing order. ``scale`` leads from
    numbers to positions on the grid, in [0, 1], where answers have equal room.
    ``numbers`` are in the middle of each answer's room. All predictions are between
    ``low`` and ``high``. The fewer targets there are, the wider they are dithered.
    """

    def __init__(
        self, texts: list[str], scale: Scale, low: float, high: float, n_targets: int
    ) -> None:
        self.texts = texts
        self.low = low
        self.high = high
        self._scale = scale
        share = min(_DITHER / np.sqrt(n_targets), _MOST_DITHER)
        self._dither = max(0.5, share * len(texts))  # half the room of one answer
        self.numbers = self.number_at(np.arange(len(texts), dtype=np.float64) + 0.5)

    def number_at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number at each position, in answers from the grid's start."""
        numbers = self._scale.number(positions / len(self.texts))
        return numbers.clip(self.low, self.high)

    def position_of(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the position of each number, as `number_at` counts it."""
        return self._scale.position(y) * len(self.texts)

    def pieces(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
        """Cut the range so finely that in a piece equal room means equal distance.

        Returns the pieces' edges, at the ends of the answers' rooms and where the scale
        bends; the answer in whose room each piece lies; and its share of that room.
        """
        n_answers = len(self.texts)
        rooms = np.arange(n_answers + 1) / n_answers
        # A constant's scale has one knot, at which it does not bend.
        bends = self._scale.positions[1:-1]
        positions = np.union1d(rooms, bends)
        middle = (positions[:-1] + positions[1:]) / 2
        answer = np.floor(middle * n_answers).astype(np.intp)
        return self._scale.number(positions), answer, np.diff(positions) * n_answers

    def write(
        self, y: NDArray[np.float64], rng: RandomState | None = None
    ) -> NDArray[np.intp]:
        """Return the index of each number's answer, dithered where ``rng`` is given.

        A dithered number is moved at random, by half an answer's room or more, so that
        over many epochs neighbouring answers share it in proportion to nearness: the
        mean over answers is finer than the grid, and few targets are not learnt by
        heart.
        """
        room = len(self.texts)
        positions = self.position_of(y)
        if rng is not None:
            # Less near the grid's ends, where a clipped move would change the mean.
            inside = np.minimum(positions, room - positions).clip(0.5, self._dither)
            positions = positions + inside * rng.uniform(-1.0, 1.0, len(positions))
        return np.floor(positions).astype(np.intp).clip(0, len(self.texts) - 1)


def scaled_grid(
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    low: float | None,
    high: float | None,
    spacing: str,
) -> NumberAnswers:
    """Return a grid of a hundred two-digit answers, spaced evenly or by `fit_scale`.

    >>> grid = scaled_grid(
    ...     np.arange(11.0), np.ones(11), low=0, high=None, spacing="uniform"
    ... )
    >>> grid.texts[:2], grid.low, grid.high
    (['00', '01'], 0.0, 10.2)
    """
    least, greatest = grid_span(y, low, high)
    if least == greatest:
        return _constant("00", least)
    scale = Scale(np.array([least, greatest]), np.array([0.0, 1.0]))
    if spacing != "uniform":
        scale = spaced_scale(y, weight, least, greatest, spacing)
    return NumberAnswers(fixed_digits(2), scale, least, greatest, len(y))


def spaced_scale(
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    least: float,
    greatest: float,
    spacing: str,
) -> Scale:
    """Return a scale from the least to the greatest number, spaced by `fit_scale`."""
    inner = fit_scale(y, weight, spacing)
    inside = (inner.knots > least) & (inner.knots < greatest)
    return Scale(
        np.concatenate([[least], inner.knots[inside], [greatest]]),
        np.concatenate([[0.0], inner.positions[inside], [1.0]]),
    )


def _constant(text: str, number: float) -> NumberAnswers:
    scale = Scale(np.array([number]), np.array([0.5]))
    return NumberAnswers([text], scale, number, number, 1)


def plain_grid(
    y: NDArray[np.float64], *, low: float | None, high: float | None
) -> NumberAnswers:
    """Return a grid of round numbers over the range of ``y``, in its own units.

    >>> plain_grid(np.array([1.5, 6.5]), low=None, high=None).texts[:3]
    ['1.40', '1.42', '1.44']
    """
    least, greatest = grid_span(y, low, high)
    if least == greatest:
        return _constant(write_plain(np.array([least]), 6)[0], least)
    # Steps of a few float spacings or less would give several answers one text.
    spacing = float(np.spacing(max(abs(least), abs(greatest))))
    step = round_step(max((greatest - least) / _MOST_PLAIN, 16 * spacing))
    if np.all(y == np.round(y)):
        step = max(step, 1.0)
    first, last = np.ceil(least / step - 1e-9), np.floor(greatest / step + 1e-9)
    counts = np.arange(first, max(first, last) + 1) + 0.0  # -0.0 is 0
    decimals = max(0, -int(np.floor(np.log10(step))))
    texts = [f"{count * step:.{decimals}f}" for count in counts]
    ends = np.array([counts[0] - 0.5, counts[-1] + 0.5]) * step
    scale = Scale(ends, np.array([0.0, 1.0]))
    return NumberAnswers(texts, scale, least, greatest, len(y))


def grid_span(
    y: NDArray[np.float64], low: float | None, high: float | None
) -> tuple[float, float]:
    """Return the least and greatest number of a grid over targets."""
    if y.max() / 2 - y.min() / 2 > np.finfo(np.float64).max / 8:
        raise ValueError(
            f"The targets span {y.min():g} to {y.max():g}, too far for float64 to "
            "measure. Divide them by a constant."
        )
    margin = _MARGIN * float(y.max() - y.min())
    least = float(y.min()) - margin if low is None else float(low)
    greatest = float(y.max()) + margin if high is None else float(high)
    if not least <= y.min() or not y.max() <= greatest:
        raise ValueError(
            f"The targets span {y.min():g} to {y.max():g}, beyond low={low!r} or "
            f"high={high!r}. Widen NumberDecoder(low=..., high=...), or clip the "
            "targets."
        )
    return least, greatest


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is no less.

    >>> round_step(0.03), round_step(7.0)
    (0.05, 10.0)
    """
    power = 10.0 ** np.floor(np.log10(least))
    return float(
        power * next(m for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    )
