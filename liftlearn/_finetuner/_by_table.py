"""How many steps and how many copies suit a table, for a model that learns in few.

What was measured for these numbers stands in docs/design.md.
"""

from __future__ import annotations

import math

from liftlearn._answers import NumberAnswers
from liftlearn._encoder import Corpus
from liftlearn._language_model import LanguageModel

# The fewest steps, the fewest epochs, and as many epochs as are worth their tokens;
# steps for each class.
_FEW_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS, _CLASS_STEPS = 120, 3, 8, 10
# The most tokens for many classes, for more epochs of a few, and for a grid of numbers.
_CLASSES_BUDGET, _EPOCHS_BUDGET, _GRID_BUDGET = 4_000_000, 100_000, 250_000
# The most copies, the most tokens for all of them, and the fewest rows for several.
_MOST_MODELS, _MODELS_BUDGET, _FEWEST_ROWS = 3, 450_000, 40
# So many rows tell the length of all.
_MOST_MEASURED = 100


def steps_by_table(lm: LanguageModel, corpus: Corpus, rows_a_step: int) -> int:
    """Return the bound that ``max_steps="by_table"`` stands for."""
    n_answers = len(corpus.answers.texts)
    epoch = len(corpus) / rows_a_step
    step_tokens = rows_a_step * _row_tokens(lm, corpus)
    if isinstance(corpus.answers, NumberAnswers):
        wanted = max(_FEW_STEPS * math.log10(n_answers), _MOST_EPOCHS * epoch)
        n_more = min(wanted, _GRID_BUDGET / step_tokens)
    else:
        n_more = max(
            min(_CLASS_STEPS * n_answers, _CLASSES_BUDGET / step_tokens),
            min(_MOST_EPOCHS * epoch, _EPOCHS_BUDGET / step_tokens),
        )
    return math.ceil(max(_FEW_STEPS, _LEAST_EPOCHS * epoch, n_more))


def models_by_table(lm: LanguageModel, corpus: Corpus, n_rows_read: int) -> int:
    """Return how many copies ``n_models="by_table"`` stands for, at the most.

    Each of them reads so many rows in training, counted each time.
    """
    if len(corpus) < _FEWEST_ROWS or not n_rows_read:
        return 1
    n_allowed = _MODELS_BUDGET / (n_rows_read * _row_tokens(lm, corpus))
    return int(min(max(n_allowed, 1), _MOST_MODELS))


def _row_tokens(lm: LanguageModel, corpus: Corpus) -> float:
    """Return about how many tokens a row's prompt has."""
    some = corpus.table[:_MOST_MEASURED]
    prompts = lm.prompt_tokens(corpus.encoder.transform(some))
    return sum(map(len, prompts)) / len(some)
