"""The members of one fit: what each learns from, and whether two are enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from liftlearn._answers import LabelAnswers
from liftlearn._corpus import Corpus
from liftlearn._language_model import LanguageModel

# Two members that differ by less, in total variation, have little to gain from a third.
_LIKE = 0.1
# A row's weight counts as so many rows at the most.
_MOST_TIMES = 64


class Member(NamedTuple):
    """One tuned language model, and the rows that it held out, if any."""

    lm: LanguageModel
    held_out: Corpus | None


class Metric(Protocol):
    """Tells how well a language model does on rows: higher is better."""

    def __call__(self, lm: LanguageModel, rows: Corpus) -> float: ...


@dataclass(frozen=True)
class Monitor:
    """Measures a model that is being trained, on rows that it does not learn from."""

    metric: Metric | None
    watched: Corpus | None  # decides when to stop; None lets all steps be taken
    validation: Corpus | None  # the user's own

    def measure(self, lm: LanguageModel) -> dict[str, float | None]:
        """Return what an epoch's record says of such rows; nothing is drawn."""
        loss = None if self.validation is None else self.validation.loss(lm)
        score = self._score(lm, self.validation)
        is_same = self.watched is self.validation
        monitored = score if is_same else self._score(lm, self.watched)
        return {"monitored": monitored, "val_loss": loss, "val_score": score}

    def _score(self, lm: LanguageModel, rows: Corpus | None) -> float | None:
        return None if self.metric is None or rows is None else self.metric(lm, rows)


def agree(members: list[Member], rows: Corpus | None) -> bool:
    """Return whether two members say much the same of rows that one has not seen."""
    if len(members) != 2 or rows is None:
        return False
    prompts = rows.prompts()
    one, other = (np.exp(m.lm.score(prompts, rows.answer_texts)) for m in members)
    apart = np.abs(one - other).sum(axis=1) / 2
    return bool(np.average(apart, weights=rows.weight) < _LIKE)


def split(corpus: Corpus, share: float, rng: RandomState) -> tuple[Corpus, Corpus]:
    """Return what a member learns from, and what it holds out.

    A row of a whole weight is so many rows, and may be on both sides.
    """
    is_whole = corpus.weight == np.floor(corpus.weight)
    n_times = np.where(is_whole, corpus.weight.clip(max=_MOST_TIMES), 1).astype(int)
    rows = np.repeat(np.arange(len(corpus)), n_times)
    n_held_out = int(np.ceil(share * len(rows)))
    n_seen = len(rows) - n_held_out
    if n_seen < 1:
        raise ValueError(
            "Early stopping, or the first of several models, holds out rows: "
            f"{n_held_out} of {len(rows)} (validation_fraction={share:g}, rounded up), "
            "so that none is left to learn from. Give more rows, lower "
            "validation_fraction, or set FineTuner(early_stopping=False, n_models=1)."
        )
    classes = None
    if isinstance(corpus.answers, LabelAnswers):
        target = corpus.target[rows]
        counts = np.unique(target, return_counts=True)[1]
        if counts.min() >= 2 and min(n_seen, n_held_out) >= len(counts):
            classes = target
    sides = train_test_split(rows, test_size=share, stratify=classes, random_state=rng)
    seen, held_out = (np.bincount(side, minlength=len(corpus)) for side in sides)
    learnt = _part(corpus, seen / n_times)
    return learnt, replace(_part(corpus, held_out / n_times), shown=learnt)


def _part(corpus: Corpus, share: NDArray[np.float64]) -> Corpus:
    """Return a corpus of a share of each row."""
    rows = np.flatnonzero(share)
    return corpus.part(rows, (corpus.weight * share)[rows])
