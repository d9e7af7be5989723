"""How many copies of a model learn a table, and from which of its rows.

A corpus goes in, tuned copies come out, each with what it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from liftlearn._corpus import Corpus
from liftlearn._language_model import LanguageModel
from liftlearn._validation import unchecked

# Two copies that differ by less, in total variation, have little to gain from a third.
_LIKE = 0.1
# A row's weight counts as so many rows at the most.
_MOST_TIMES = 64

# Tells how well a language model does on rows it was made for: higher is better.
Monitor = Callable[[LanguageModel], float]


class Member(NamedTuple):
    """One tuned copy.

    Attributes
    ----------
    lm : LanguageModel
        The copy.
    unseen : Corpus or None
        What it has not learnt from, if anything was left out.
    """

    lm: LanguageModel
    unseen: Corpus | None


def tune_members(
    finetuner: Any,
    lm: LanguageModel,
    corpus: Corpus,
    rng: RandomState,
    *,
    stratify: bool,
    watch: Callable[[Corpus], Monitor],
    verbose: int,
) -> list[Member]:
    """Tune as many copies as the fine-tuner asks for.

    Rows are left out where they have a use: of each copy to stop it early, else of the
    first of several alone, to tell how sure a copy is too much, and whether noisy
    numbers are better learnt briefly.
    """
    count = getattr(finetuner, "count_models", None)
    n_models = 1 if count is None else count(lm, corpus)
    early_stopping = getattr(finetuner, "early_stopping", False)
    stops_early = not isinstance(early_stopping, str) and bool(early_stopping)
    by_table = getattr(finetuner, "n_models", None) == "by_table"
    members: list[Member] = []
    while len(members) < n_models and not (by_table and _agree(members)):
        seen, unseen = corpus, None
        if stops_early or (n_models > 1 and not members):
            seen, unseen = _split(finetuner, corpus, stratify, rng)
        options: dict[str, Any] = {}
        if n_models > 1:
            options["turn"] = len(members), n_models
        if unseen is not None:
            options["monitor" if stops_early else "judge"] = watch(unseen)
        tuned = finetuner.finetune(
            lm,
            seen,
            rng,
            verbose=verbose,
            **options,
        )
        if not hasattr(tuned, "score"):
            raise TypeError(
                "Expected a language model from the fine-tuner's finetune, but that of "
                f"{type(finetuner).__name__} returned {tuned!r}."
            )
        members.append(Member(tuned, unseen))
    if hasattr(finetuner, "clear_checkpoints"):
        finetuner.clear_checkpoints()
    return members


def _agree(members: list[Member]) -> bool:
    """Return whether two copies say much the same of rows that one has not seen."""
    if len(members) != 2 or (rows := members[0].unseen) is None:
        return False
    prompts = unchecked(rows.encoder.transform)(rows.table)
    one, other = (np.exp(m.lm.score(prompts, rows.answers.texts)) for m in members)
    apart = np.abs(one - other).sum(axis=1) / 2
    return bool(np.average(apart, weights=rows.weight) < _LIKE)


def _split(
    finetuner: Any, corpus: Corpus, stratify: bool, rng: RandomState
) -> tuple[Corpus, Corpus]:
    """Return what a copy learns from, and what it leaves out.

    A row of a whole weight is so many rows, and may be on both sides.
    """
    share = getattr(finetuner, "validation_fraction_", finetuner.validation_fraction)
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
    if stratify:
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
