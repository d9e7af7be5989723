"""What training reads: a table, its target, and how to write both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray

from liftlearn._shots import Context, Pool, Shots, Wordings, in_text, shot, with_endings
from liftlearn._validation import unchecked

# Weights that differ by less than this share of the largest count as equal.
_WEIGHT_ROUNDING = 1e-9


class Answers(Protocol):
    """The answers of a target, one of a fixed list of texts for each row."""

    texts: list[str]

    def write(self, y: NDArray[Any], rng: RandomState | None) -> NDArray[np.intp]: ...


class Scorer(Protocol):
    """A language model, as far as a corpus asks it."""

    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, eq=False)
class Corpus:
    """What training reads: a table, its target and weights, and how to write them."""

    # Fitted; an encoder with no ``augment`` writes the same prompts each time.
    encoder: Any
    answers: Answers
    table: pd.DataFrame  # checked
    target: NDArray[Any]
    # How often each row counts, on any scale; positive.
    weight: NDArray[np.float64]
    # What is shown before each row; None shows nothing.
    shots: Shots | None = None
    # The rows that are shown: of held-out ones those that a member learns from. None
    # are the others of the same table.
    shown: Corpus | None = None
    # Rows of the user's own to validate on; None leaves it to who trains to hold some
    # out.
    validation: Corpus | None = None

    def __len__(self) -> int:
        return len(self.table)

    def draw(self, rng: RandomState) -> NDArray[np.intp]:
        """Return the rows of one epoch: as many as the table has, in random order.

        Each row is met in proportion to its weight, as evenly as whole numbers allow;
        rows of equal weight once each.
        """
        return drawn_rows(self.weight, rng)

    def write(
        self, rows: NDArray[np.intp], rng: RandomState, progress: float = 0.0
    ) -> tuple[list[str], NDArray[np.intp]]:
        """Return fresh prompts of the rows and the index of each one's answer.

        The progress is the share of the training that is over.
        """
        prompts = self._written(rows, rng, progress)
        if self.shots is not None:
            chosen = self._pool.chosen(rows, rng)
            # Written as afresh as the rows that are asked.
            shown = np.unique(np.concatenate([np.empty(0, np.intp), *chosen]))
            if len(shown):
                sentences = self._written(shown, rng, progress)
                answers = self._texts_of(self.answers.write(self.target[shown], rng))
                texts = [
                    shot(sentence, answer, self.shots.separator)
                    for sentence, answer in zip(sentences, answers, strict=True)
                ]
                places = [np.searchsorted(shown, each) for each in chosen]
                shots = [[texts[i] for i in each] for each in places]
                prompts = in_text(prompts, shots, self.shots.too_long)
        return prompts, self.answers.write(self.target[rows], rng)

    @property
    def answer_texts(self) -> list[str]:
        """The texts of all answers, each with what ends it where rows are shown."""
        if self.shots is None:
            return self.answers.texts
        return with_endings(self.answers.texts, self.shots.separator)

    @property
    def fields(self) -> list[tuple[str, list[str]]]:
        """What a sentence asks behind its prompt: here, one answer and nothing before.

        For each answer the text before it, and the texts that it can be.
        """
        return [("", self.answer_texts)]

    def part(self, rows: NDArray[np.intp], weight: NDArray[np.float64]) -> Self:
        """Return a corpus of some of the rows."""
        return replace(
            self, table=self.table.iloc[rows], target=self.target[rows], weight=weight
        )

    def loss(self, lm: Scorer) -> float:
        """Return the mean loss of a language model on the rows, in nats.

        They are written as in a prediction, with their own answers, undithered.
        """
        score = lm.score(self.prompts(), self.answer_texts)
        own = self.answers.write(self.target, None)
        return -float(np.average(score[np.arange(len(own)), own], weights=self.weight))

    def prompts(self) -> list[str]:
        """Return the rows' prompts as a prediction has them, in one wording."""
        prompts: Any = self.wordings(self._plain)
        return [*prompts]

    def wordings(self, write: Callable[[pd.DataFrame], Wordings]) -> Wordings:
        """Return the rows' prompts in all wordings that ``write`` gives a table.

        They are those of a prediction, but no row is shown before one that is written
        alike.
        """
        questions = write(self.table)
        if self.shots is None:
            return questions
        context = (self.shown or self).context(write)
        own = self._plain(self.table)
        return context.before(questions, self.table, self.shots.too_long, but=own)

    def context(self, write: Callable[[pd.DataFrame], Wordings]) -> Context:
        """Return what is shown before new rows, of a corpus that has shots."""
        answers = self._texts_of(self.answers.write(self.target, None))
        return Context.of(self._pool, write(self.table), answers)

    @cached_property
    def _pool(self) -> Pool:
        if self.shots is None:
            raise ValueError("Expected a corpus with shots, got one without.")
        sentences = self._plain(self.table)
        return Pool(self.shots, self.table, sentences, self.target, self.weight)

    def _plain(self, table: pd.DataFrame) -> list[str]:
        return [*unchecked(self.encoder.transform)(table)]

    def _texts_of(self, answers: NDArray[np.intp]) -> list[str]:
        return [self.answers.texts[answer] for answer in answers]

    def _written(
        self, rows: NDArray[np.intp], rng: RandomState, progress: float
    ) -> list[str]:
        """Return fresh sentences of the rows."""
        table = self.table.iloc[rows]
        if not hasattr(self.encoder, "augment"):
            return self._plain(table)
        written: list[str] = unchecked(self.encoder.augment)(table, rng, progress)
        return written


def drawn_rows(weight: NDArray[np.float64], rng: RandomState) -> NDArray[np.intp]:
    """Return as many rows as there are weights, in random order, drawn by these."""
    n_rows = len(weight)
    ends = np.cumsum(weight) * (n_rows / weight.sum())
    # Weights that differ by rounding are equal: 0.1 + 0.2 is not 0.3.
    are_equal = np.ptp(weight) <= _WEIGHT_ROUNDING * weight.max()
    ticks = np.arange(n_rows) + (0.5 if are_equal else rng.uniform())
    # Rounding must not move the last end across a whole number.
    rows = np.searchsorted(ends, ticks).clip(max=n_rows - 1)
    return rng.permutation(rows)
