"""Which labelled rows are shown before a question, and how they stand there.

Tables, targets and weights go in; the indices of rows, and texts, come out. Which rows
are shown (`Pool`, and `Context.chosen` for new rows) is apart from how they are put
before a question (`in_text`). No model is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.sparse import csr_array

from liftlearn._columns import NUMBERS, Column, Levels, learn_column
from liftlearn._numbers import Scale, fit_scale
from liftlearn._validation import Interval, StrOptions
from liftlearn._values import equal_texts

# How many rows a user or a model may want to be shown.
N_SHOTS = [StrOptions({"all"}), Interval(Integral, 0, None, closed="left")]
# Which ones a user may want.
WAYS = [StrOptions({"random", "balanced", "nearest"})]

# Numbers that a block of distances holds at the most.
_BLOCK = 2**22

# Indices of rows, in the order in which they are shown, for each question.
Chosen = Sequence[NDArray[np.intp]]
# Which of some prompts are longer than a model can read, with an answer.
TooLong = Callable[[Sequence[str]], list[int]]
# Sentences of rows; or several lists of them, each in another wording.
Wordings = Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True, eq=False)
class Shots:
    """What an estimator decides about the labelled rows that are shown."""

    n_shots: int
    way: str  # random, balanced or nearest
    of_numbers: bool  # whether the targets are numbers, not classes
    separator: str  # what stands between an answer and the next row
    seed: int  # of what is drawn for predictions
    too_long: TooLong


@dataclass(frozen=True, eq=False)
class Pool:
    """Labelled rows of which some are shown before others of them, in training."""

    shots: Shots
    table: pd.DataFrame
    # As they are written; no row is shown before one that is written alike.
    sentences: Sequence[str]
    target: NDArray[Any]
    weight: NDArray[np.float64]

    def chosen(self, rows: NDArray[np.intp], rng: RandomState) -> Chosen:
        """Return what is shown before each of some rows of the pool."""
        own, n_shots = self._codes[rows], self.shots.n_shots
        if self.neighbours is not None:
            table = self.table.iloc[rows]
            return self.neighbours.nearest(table, n_shots, own, self._codes)
        return [
            self.drawn(n_shots, rng, np.flatnonzero(self._codes != code))
            for code in own
        ]

    def drawn(
        self, n_shots: int, rng: RandomState, free: NDArray[np.intp] | None = None
    ) -> NDArray[np.intp]:
        """Draw rows, each once, from a table that repeats them by their weights.

        A row that is drawn again is passed over. Balanced, the first of each group
        come first, then the second, and so on.
        """
        rows = np.arange(len(self.weight)) if free is None else free
        # The waiting times of so many clocks, whose rates are the weights.
        waited = rng.exponential(size=len(rows)) / self.weight[rows]
        order = rows[np.argsort(waited, kind="stable")]
        if self.shots.way == "balanced":
            groups = self._groups(n_shots)[order]
            turn = rng.permutation(len(self.weight))[groups]
            order = order[np.lexsort((turn, _ranks(groups)))]
        return rng.permutation(order[:n_shots])

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """What finds the nearest rows, where these are shown."""
        if self.shots.way != "nearest":
            return None
        return Neighbours.fit(self.table, self.weight)

    @cached_property
    def _codes(self) -> NDArray[np.intp]:
        return np.unique(np.array(self.sentences, object), return_inverse=True)[1]

    def _groups(self, n_groups: int) -> NDArray[np.intp]:
        """Return the class of each row's target, or which of so many quantiles."""
        if not self.shots.of_numbers:
            return np.unique(self.target, return_inverse=True)[1]
        order = np.argsort(self.target, kind="stable")
        below = np.cumsum(self.weight[order]) - self.weight[order] / 2
        groups = np.empty(len(order), np.intp)
        groups[order] = np.floor(n_groups * below / self.weight.sum())
        return groups


def _ranks(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many of the same group come before each.

    >>> _ranks(np.array([7, 3, 7, 7, 3]))
    array([0, 0, 1, 2, 1])
    """
    by_group = np.argsort(groups, kind="stable")
    ranks = np.empty(len(groups), np.intp)
    first = np.searchsorted(groups[by_group], groups[by_group])
    ranks[by_group] = np.arange(len(groups)) - first
    return ranks


@dataclass(frozen=True, eq=False)
class Context:
    """The labelled rows that are shown before new rows: what a fit keeps of them."""

    n_shots: int
    # Each row's sentence in each wording, and its answer and weight.
    sentences: list[list[str]]
    answers: list[str]
    weight: NDArray[np.float64]
    # For each wording the rows that it shows, (n_wordings, n_shots), or the seed of
    # their order where they are the nearest.
    draws: NDArray[np.intp]
    seed: int
    neighbours: Neighbours | None
    separator: str

    @classmethod
    def of(cls, pool: Pool, sentences: Wordings, answers: Sequence[str]) -> Context:
        """Return what is kept of a pool: the rows that are drawn, or all."""
        shots = pool.shots
        n_shots = min(shots.n_shots, len(pool.weight))
        wordings = _wordings(sentences)
        rows = np.arange(len(pool.weight))
        draws = np.empty((len(wordings), 0), np.intp)
        if pool.neighbours is None:
            drawn = [pool.drawn(n_shots, rng) for rng in _streams(shots.seed, wordings)]
            rows, flat = np.unique(drawn, return_inverse=True)
            draws = flat.reshape(len(wordings), n_shots)
        return cls(
            n_shots,
            [[texts[row] for row in rows.tolist()] for texts in wordings],
            [answers[row] for row in rows.tolist()],
            pool.weight[rows],
            draws,
            shots.seed,
            pool.neighbours,
            shots.separator,
        )

    def chosen(
        self, table: pd.DataFrame, but: Sequence[str] | None = None
    ) -> list[Chosen]:
        """Return the rows that are shown before each row of a table, by wording.

        Those whose sentence is that of the row in ``but`` are not.
        """
        code_of = {text: code for code, text in enumerate(self.sentences[0])}
        codes = np.array([code_of[text] for text in self.sentences[0]])
        own = np.full(len(table), -1)
        if but is not None:
            own = np.array([code_of.get(text, -1) for text in but])
        if self.neighbours is None:
            return [
                [drawn[codes[drawn] != code] for code in own] for drawn in self.draws
            ]
        nearest = self.neighbours.nearest(table, self.n_shots, own, codes)
        # The first wording shows the nearest last, others in another order.
        _, *others = _streams(self.seed, self.sentences)
        orders = [rng.permutation(self.n_shots) for rng in others]
        return [
            nearest,
            *([rows[order[order < len(rows)]] for rows in nearest] for order in orders),
        ]

    def before(
        self,
        questions: Wordings,
        table: pd.DataFrame,
        too_long: TooLong,
        but: Sequence[str] | None = None,
    ) -> Wordings:
        """Return each question of a table's rows behind what is shown before it."""
        wordings = _wordings(questions)
        prompts = [
            in_text(texts, [[shots[i] for i in rows] for rows in chosen], too_long)
            for texts, shots, chosen in zip(
                wordings, self._shots(), self.chosen(table, but), strict=True
            )
        ]
        return prompts if wordings is questions else prompts[0]

    def _shots(self) -> list[list[str]]:
        """Return the text of each row with its answer, in each wording."""
        return [
            [
                shot(sentence, answer, self.separator)
                for sentence, answer in zip(sentences, self.answers, strict=True)
            ]
            for sentences in self.sentences
        ]


def shot(sentence: str, answer: str, separator: str) -> str:
    r"""Return the text of a labelled row, up to where the next row begins.

    >>> shot("age is 41. Retired?", "no", "\n")
    'age is 41. Retired? no\n'
    """
    return f"{sentence} {answer}{separator}"


def with_endings(answers: Sequence[str], separator: str) -> list[str]:
    """Return answers with what of a separator ends them, whatever comes next."""
    return [answer + separator.rstrip(" ") for answer in answers]


def in_text(
    questions: Sequence[str], shots: Iterable[Sequence[str]], too_long: TooLong
) -> list[str]:
    """Return each question behind its shots, as many of the last as fit."""
    kept = [list(each) for each in shots]
    prompts = [
        "".join([*each, question])
        for each, question in zip(kept, questions, strict=True)
    ]
    while long := [i for i in too_long(prompts) if kept[i]]:
        for i in long:
            prompts[i] = prompts[i][len(kept[i].pop(0)) :]
    return prompts


@dataclass(frozen=True, eq=False)
class Ended:
    """A language model, or several, whose answers end as those that are shown do.

    So an answer that begins another one competes with it as in the rows that are
    shown, and not by an end mark, which ends none of these.
    """

    lm: Any
    separator: str

    @property
    def members(self) -> list[Ended]:
        """Each of the models."""
        members = getattr(self.lm, "members", None)
        if members is None:
            return [self]
        return [Ended(member, self.separator) for member in members]

    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return the log-probability of each answer, given that one of them follows."""
        ended = with_endings(answers, self.separator)
        score: NDArray[np.float64] = self.lm.score(prompts, ended)
        return score


def _wordings(sentences: Wordings) -> Sequence[Sequence[str]]:
    """Return several lists of sentences as they are, and one as the only one."""
    is_one = not len(sentences) or isinstance(sentences[0], str)
    return cast("Sequence[Sequence[str]]", [sentences] if is_one else sentences)


def _streams(seed: int, wordings: Sequence[Any]) -> list[RandomState]:
    return [RandomState([seed, wording]) for wording in range(len(wordings))]


@dataclass(frozen=True, eq=False)
class NumberCells:
    """A column's cells by their positions on its scale."""

    column: Column
    # Of an ordered category, whose numbers are the ranks; else none.
    levels: list[str]
    scale: Scale
    positions: NDArray[np.float64]  # nan where a cell is missing

    @classmethod
    def fit(
        cls, column: Column, cells: pd.Series, weight: NDArray[np.float64]
    ) -> NumberCells:
        """Return the cells of the rows to choose from."""
        read, levels = column.read(cells), []
        if isinstance(read, Levels):
            levels = list(dict.fromkeys(read.texts))
        numbers = _as_numbers(read, levels)
        known = ~np.isnan(numbers)
        scale = fit_scale(numbers[known], weight[known], "mixed")
        return cls(column, levels, scale, scale.position(numbers))

    def distances(self, cells: pd.Series) -> NDArray[np.float64]:
        """Return the differences in units of the column's range, nan if unknown."""
        numbers = _as_numbers(self.column.read(cells), self.levels)
        span = self.scale.positions[-1] - self.scale.positions[0] or 1.0
        apart = self.scale.position(numbers)[:, None] - self.positions
        distances: NDArray[np.float64] = np.abs(apart) / span
        return distances


def _as_numbers(read: Any, levels: list[str]) -> NDArray[np.float64]:
    """Return cells as numbers: dates in seconds, levels by their ranks."""
    if isinstance(read, Levels):
        rank_of = {level: rank for rank, level in enumerate(levels)}
        met = {text: rank_of[level] for text, level in equal_texts(levels).items()}
        ranks = [met.get(text, np.nan) for text in read.texts]
        return np.array([*ranks, np.nan])[read.codes]
    if isinstance(read, pd.DatetimeIndex):
        seconds = read.to_numpy("datetime64[s]")
        return np.where(np.isnat(seconds), np.nan, seconds.astype(np.float64))
    numbers: NDArray[np.float64] = read
    return numbers


@dataclass(frozen=True, eq=False)
class TextCells:
    """A column's cells by their texts: free texts by their words, others as levels."""

    column: Column
    texts: list[str]  # distinct
    codes: NDArray[np.intp]  # the index of each cell's text; -1 where it is missing

    @classmethod
    def fit(
        cls, column: Column, cells: pd.Series, weight: NDArray[np.float64]
    ) -> TextCells:
        """Return the cells of the rows to choose from."""
        read = column.read(cells)
        texts = list(dict.fromkeys(read.texts))
        code_of = {text: code for code, text in enumerate(texts)}
        codes = np.array([*(code_of[text] for text in read.texts), -1], np.intp)
        return cls(column, texts, codes[read.codes])

    def distances(self, cells: pd.Series) -> NDArray[np.float64]:
        """Return how unlike the cells are, from 0 to 1, nan if unknown."""
        read = self.column.read(cells)
        if self.column.kind == "text":
            unlike = _unlike_words(read.texts, self.texts)
        else:
            met = equal_texts(self.texts)
            own = np.array([met.get(text, text) for text in read.texts], object)
            levels = np.array(self.texts, object)
            unlike = (own[:, None] != levels).astype(np.float64)
        # The index of a missing cell is that of the last row or column.
        unlike = np.pad(unlike, ((0, 1), (0, 1)), constant_values=np.nan)
        distances: NDArray[np.float64] = unlike[read.codes][:, self.codes]
        return distances


def _unlike_words(texts: list[str], others: list[str]) -> NDArray[np.float64]:
    """Return one less the share of words that two texts have in common (Jaccard).

    >>> _unlike_words(["a red Car"], ["a car", "a train"])
    array([[0.33333333, 0.75      ]])
    """
    number_of: dict[str, int] = {}
    bags = []
    for each in (texts, others):
        words = [sorted({*text.lower().split()}) for text in each]
        flat = [
            number_of.setdefault(word, len(number_of)) for row in words for word in row
        ]
        ends = np.cumsum([0, *map(len, words)])
        bags.append((flat, ends))
    shape = max(len(number_of), 1)
    first, second = (
        csr_array((np.ones(len(flat)), flat, ends), shape=(len(ends) - 1, shape))
        for flat, ends in bags
    )
    common = (first @ second.T).toarray()
    union = first.sum(axis=1)[:, None] + second.sum(axis=1) - common
    unlike: NDArray[np.float64] = 1 - np.where(union > 0, common, 1) / union.clip(1)
    return unlike


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Labelled rows of which the nearest to others are found.

    The distance is Gower's [1]_: the mean over the columns that are known in both rows
    of the difference of two numbers, in units of the column's range on its scale; of 0
    or 1 for equal or other categories; of one less the share of common words for texts.

    References
    ----------
    .. [1] J. C. Gower, "A General Coefficient of Similarity and Some of Its
       Properties", Biometrics 1971.
    """

    cells: list[NumberCells | TextCells]
    weight: NDArray[np.float64]

    @classmethod
    def fit(cls, table: pd.DataFrame, weight: NDArray[np.float64]) -> Neighbours:
        """Return the rows of a table to choose from."""
        columns = [table.iloc[:, i] for i in range(table.shape[1])]
        learnt = [learn_column(cells) for cells in columns]
        kinds = [
            NumberCells
            if column.kind in (*NUMBERS, "datetime", "ordinal")
            else TextCells
            for column in learnt
        ]
        return cls(
            [
                kind.fit(column, cells, weight)
                for kind, column, cells in zip(kinds, learnt, columns, strict=True)
            ],
            weight,
        )

    def nearest(
        self,
        table: pd.DataFrame,
        n_rows: int,
        barred: NDArray[np.intp],
        codes: NDArray[np.intp],
    ) -> Chosen:
        """Return the nearest rows to each row of a table, the nearest last.

        Those that have the row's barred code are passed over. Of equally near ones the
        weightier is nearer.
        """
        by_weight = np.argsort(-self.weight, kind="stable")
        size = max(1, _BLOCK // len(self.weight))
        chosen = []
        for start in range(0, len(table), size):
            distances = self.distances(table.iloc[start : start + size])
            own = barred[start : start + size]
            for code, distance in zip(own, distances[:, by_weight], strict=True):
                order = by_weight[np.argsort(distance, kind="stable")]
                chosen.append(order[codes[order] != code][:n_rows][::-1])
        return chosen

    def distances(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return the distance of each row of a table from each row to choose from."""
        shape = len(table), len(self.weight)
        total, n_known = np.zeros(shape), np.zeros(shape)
        for i, cells in enumerate(self.cells):
            apart = cells.distances(table.iloc[:, i])
            known = ~np.isnan(apart)
            total[known] += apart[known]
            n_known += known
        # Rows that have no known column in common are as far as can be.
        return np.where(n_known > 0, total, 1.0) / np.maximum(n_known, 1)
