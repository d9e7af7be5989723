"""How long, how fast and in how many copies a model of few steps learns a table.

What was measured for these numbers stands in docs/experiments.md.
"""

from __future__ import annotations

import math

from liftlearn._answers import NumberAnswers
from liftlearn._corpus import Corpus
from liftlearn._language_model import LanguageModel
from liftlearn._validation import unchecked

# The fewest steps and epochs, and steps for each class; cells left out at random take
# twice as many.
_FEW_STEPS, _LEAST_EPOCHS, _CLASS_STEPS = 120, 3, 10
# Epochs that are worth their tokens, of few rows and of many.
_MOST_EPOCHS, _LARGE_EPOCHS = 8, 20
# The most epochs of few rows, for classes and for numbers, which would be learnt by
# heart otherwise; with cells left out they are not, or later. Half of each class's
# steps are taken all the same.
_CLASS_EPOCHS, _GRID_EPOCHS, _MASKED_EPOCHS = 20, 40, 120
# The most tokens for many classes, and for epochs of many rows with cells left out, and
# for all copies of these. And for other epochs, for a grid of numbers and for all other
# copies: up to so many rows, which should take seconds, and beyond.
_CLASSES_BUDGET, _SMALL = 6_000_000, 1200
_MASKED_MODELS_BUDGET = 9_000_000
_EPOCHS_BUDGETS = 100_000, 1_000_000
_GRID_BUDGETS = 250_000, 1_000_000
_MODELS_BUDGETS = 700_000, 2_500_000
# The most copies, and the fewest rows for several.
_MOST_MODELS, _FEWEST_ROWS = 3, 20
# The share of the steps that noisy numbers are learnt in, and by which share better
# they must be learnt then.
SHORT, _MUCH_BETTER = 0.25, 0.05
# The share of rows left out, and how many tell how sure a copy is too much.
_LEFT_OUT, _MOST_LEFT_OUT = 0.2, 100
# Learning rates.
_RATE, _RATE_OF_MASKED = 1e-3, 2e-3
# So many rows tell the length of all.
_MOST_MEASURED = 100


def rate_by_table(corpus: Corpus) -> float:
    """Return what ``learning_rate="by_table"`` stands for."""
    return _RATE_OF_MASKED if _is_masked(corpus) else _RATE


def epochs_by_table(corpus: Corpus, rows_a_step: int) -> int:
    """Return what ``n_epochs="by_table"`` stands for."""
    if _is_masked(corpus):
        return _MASKED_EPOCHS
    if isinstance(corpus.answers, NumberAnswers):
        return _GRID_EPOCHS
    n_steps = _CLASS_STEPS / 2 * len(corpus.answers.texts)
    return max(_CLASS_EPOCHS, math.ceil(n_steps / math.ceil(len(corpus) / rows_a_step)))


def steps_by_table(lm: LanguageModel, corpus: Corpus, rows_a_step: int) -> int:
    """Return the bound that ``max_steps="by_table"`` stands for."""
    n_answers = len(corpus.answers.texts)
    epoch = len(corpus) / rows_a_step
    step_tokens = rows_a_step * _row_tokens(lm, corpus)
    is_masked, is_large = _is_masked(corpus), len(corpus) > _SMALL
    n_times = 2 if is_masked else 1
    n_epochs = _LARGE_EPOCHS if is_large else _MOST_EPOCHS
    if isinstance(corpus.answers, NumberAnswers):
        n_fine = _FEW_STEPS * math.log10(n_answers)
        budget = fine_budget = _GRID_BUDGETS[is_large]
    else:
        n_fine, fine_budget = n_times * _CLASS_STEPS * n_answers, _CLASSES_BUDGET
        is_worth_it = is_masked and is_large
        budget = fine_budget if is_worth_it else _EPOCHS_BUDGETS[is_large]
    n_fine = min(n_fine, fine_budget / step_tokens)
    n_repeated = min(n_epochs * epoch, budget / step_tokens)
    n_fewest = n_times * max(_FEW_STEPS, _LEAST_EPOCHS * epoch)
    return math.ceil(max(n_fewest, n_fine, n_repeated))


def models_by_table(lm: LanguageModel, corpus: Corpus, n_rows_read: int) -> int:
    """Return how many copies ``n_models="by_table"`` stands for, at the most.

    Each of them reads so many rows in training, counted each time.
    """
    if len(corpus) < _FEWEST_ROWS or not n_rows_read:
        return 1
    is_large = len(corpus) > _SMALL
    is_worth_it = is_large and _is_masked(corpus)
    budget = _MASKED_MODELS_BUDGET if is_worth_it else _MODELS_BUDGETS[is_large]
    n_allowed = budget / (n_rows_read * _row_tokens(lm, corpus))
    return int(min(max(n_allowed, 1), _MOST_MODELS))


def is_short_better(short: float, full: float) -> bool:
    """Return whether few steps did better than all, by metrics of left-out rows."""
    return short > full + _MUCH_BETTER * abs(full)


def fraction_by_table(corpus: Corpus, stops_early: bool) -> float:
    """Return what ``validation_fraction="by_table"`` stands for."""
    return _LEFT_OUT if stops_early else min(_LEFT_OUT, _MOST_LEFT_OUT / len(corpus))


def _row_tokens(lm: LanguageModel, corpus: Corpus) -> float:
    """Return about how many tokens a row's prompt has."""
    some = corpus.table[:_MOST_MEASURED]
    prompts = lm.prompt_tokens(unchecked(corpus.encoder.transform)(some))
    return sum(map(len, prompts)) / len(some)


def _is_masked(corpus: Corpus) -> bool:
    """Return whether training leaves out cells at random."""
    return bool(getattr(corpus.encoder, "cell_dropout_", 0.0))
