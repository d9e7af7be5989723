"""Several members of one fit: which rows each learns from, and how many are enough.

A corpus goes in, tuned members come out, each with the rows it left out. How one of
them is tuned is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from liftlearn._answers import LabelAnswers
from liftlearn._corpus import Corpus
from liftlearn._language_model import LanguageModel
from liftlearn._validation import unchecked

# Two members that differ by less, in total variation, have little to gain from a third.
_LIKE = 0.1
# A row's weight counts as so many rows at the most.
_MOST_TIMES = 64


class Member(NamedTuple):
    """One tuned language model, and the rows that it left out, if any."""

    lm: LanguageModel
    unseen: Corpus | None


class Plan(NamedTuple):
    """How many members there are at the most, and what they leave out."""

    n_most: int
    may_be_two: bool
    stops_early: bool
    fraction: float


def tune_members(
    tune: Callable[[int, Corpus, Corpus | None], LanguageModel],
    corpus: Corpus,
    rng: RandomState,
    plan: Plan,
) -> list[Member]:
    """Tune members one after the other, until there are enough.

    Rows are left out where they have a use: of each member to stop it early, else of
    the first of several alone, to tell how overconfident the members are, and whether
    noisy numbers are better learnt in few steps.
    """
    members: list[Member] = []
    while len(members) < plan.n_most and not (plan.may_be_two and _agree(members)):
        seen, unseen = corpus, None
        if plan.stops_early or (plan.n_most > 1 and not members):
            seen, unseen = _split(corpus, plan.fraction, rng)
        members.append(Member(tune(len(members), seen, unseen), unseen))
    return members


def _agree(members: list[Member]) -> bool:
    """Return whether two members say much the same of rows that one has not seen."""
    if len(members) != 2 or (rows := members[0].unseen) is None:
        return False
    prompts = unchecked(rows.encoder.transform)(rows.table)
    one, other = (np.exp(m.lm.score(prompts, rows.answers.texts)) for m in members)
    apart = np.abs(one - other).sum(axis=1) / 2
    return bool(np.average(apart, weights=rows.weight) < _LIKE)


def _split(corpus: Corpus, share: float, rng: RandomState) -> tuple[Corpus, Corpus]:
    """Return what a member learns from, and what it leaves out.

    A row of a whole weight is so many rows, and may be on both sides.
    """
    is_whole = corpus.weight == np.floor(corpus.weight)
    n_times = np.where(is_whole, corpus.weight.clip(max=_MOST_TIMES), 1).astype(int)
    rows = np.repeat(np.arange(len(corpus)), n_times)
    n_unseen = int(np.ceil(share * len(rows)))
    n_seen = len(rows) - n_unseen
    if n_seen < 1:
        raise ValueError(
            "Early stopping, or the first of several models, leaves out rows: "
            f"{n_unseen} of {len(rows)} (validation_fraction={share:g}, rounded up), "
            "so that none is left to learn from. Give more rows, lower "
            "validation_fraction, or set FineTuner(early_stopping=False, n_models=1)."
        )
    target, classes = corpus.target[rows], None
    if isinstance(corpus.answers, LabelAnswers):
        counts = np.unique(target, return_counts=True)[1]
        if counts.min() >= 2 and min(n_seen, n_unseen) >= len(counts):
            classes = target
    sides = train_test_split(rows, test_size=share, stratify=classes, random_state=rng)
    seen, unseen = (np.bincount(side, minlength=len(corpus)) for side in sides)
    return _part(corpus, seen / n_times), _part(corpus, unseen / n_times)


def _part(corpus: Corpus, share: NDArray[np.float64]) -> Corpus:
    """Return a corpus of a share of each row."""
    rows = np.flatnonzero(share)
    return replace(
        corpus,
        table=corpus.table.iloc[rows],
        target=corpus.target[rows],
        weight=(corpus.weight * share)[rows],
    )
