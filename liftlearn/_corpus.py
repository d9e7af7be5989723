"""What training reads: a table, its target, and how to write both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray

from liftlearn._validation import unchecked

# Weights that differ by less than this share of the largest count as equal.
_WEIGHT_ROUNDING = 1e-9


class Answers(Protocol):
    """The answers of a target, one of a fixed list of texts for each row."""

    texts: list[str]

    def write(self, y: NDArray[Any], rng: RandomState) -> NDArray[np.intp]: ...


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

    def __len__(self) -> int:
        return len(self.table)

    def draw(self, rng: RandomState) -> NDArray[np.intp]:
        """Return the rows of one epoch: as many as the table has, in random order.

        Each row is met in proportion to its weight, as evenly as whole numbers allow;
        rows of equal weight once each.
        """
        ends = np.cumsum(self.weight) * (len(self) / self.weight.sum())
        # Weights that differ by rounding are equal: 0.1 + 0.2 is not 0.3.
        are_equal = np.ptp(self.weight) <= _WEIGHT_ROUNDING * self.weight.max()
        ticks = np.arange(len(self)) + (0.5 if are_equal else rng.uniform())
        # Rounding must not move the last end across a whole number.
        rows = np.searchsorted(ends, ticks).clip(max=len(self) - 1)
        return rng.permutation(rows)

    def write(
        self, rows: NDArray[np.intp], rng: RandomState, progress: float = 0.0
    ) -> tuple[list[str], NDArray[np.intp]]:
        """Return fresh prompts of the rows and the index of each one's answer.

        The progress is the share of the training that is over.
        """
        table = self.table.iloc[rows]
        if hasattr(self.encoder, "augment"):
            prompts = unchecked(self.encoder.augment)(table, rng, progress)
        else:
            prompts = unchecked(self.encoder.transform)(table)
        return prompts, self.answers.write(self.target[rows], rng)
