"""In-context reading: a model that sees labelled rows through its attention.

The blocks of such a model alternate between two kinds of layers. In a *row* layer a
token sees the cells and the question of its own row. In an *across* layer it sees the
answers of the context rows, and nothing else. So nobody sees a row that is asked, the
order of the context rows can't matter, and what is kept of them are their answers' keys
and values. Its weights are those of an ordinary causal language model, whose
``config.json`` names its ``across_layers``.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
import transformers
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from liftlearn._language_model._passes import refuse_nan
from liftlearn._language_model._surroundings import in_plain_torch

# The positions of a question and an answer. A row's cells have those that follow.
QUESTION, ANSWER, CELLS = 0, 1, 2
# Of so many context rows the attention is as sharp as its weights say.
_TYPICAL_ROWS = 128
# The most context rows, as in pretraining, and tokens in one pass of rows to ask.
_MOST_ROWS, _PASS_TOKENS = 1024, 8192
# In so many orders of columns and names of levels and classes a table is read.
_VIEWS = 4
# What transformers calls the attention below.
NAME = "liftlearn_in_context"


def reads_in_context(model: Any) -> bool:
    """Return whether a model sees labelled rows through its attention."""
    layers = getattr(model.config, "across_layers", None)
    if layers is None:
        return False
    known = range(model.config.num_hidden_layers)
    is_list = isinstance(layers, list) and len(layers) > 0
    if not is_list or not all(type(i) is int and i in known for i in layers):
        raise ValueError(
            f"Expected a list of layers, from 0 to {len(known) - 1}, as across_layers "
            f"in the model's config.json, got {layers!r}. Correct it there."
        )
    if model.config.model_type != "gpt2":
        raise ValueError(
            "Expected a GPT-2 where config.json has across_layers, got a model of type "
            f"{model.config.model_type!r}. Leave across_layers out there."
        )
    return True


# --- attention ------------------------------------------------------------------------


@dataclass
class Rows:
    """What the tokens of a batch of rows see.

    Parameters
    ----------
    n_tables : int
        The rows are those of so many tables, equally many of each, one after another.
    n_context : int
        The first rows of each table are context rows. Where there are some, the last
        token of all rows is the answer, or stands in for one.
    sharpness : Tensor of shape () or float
        Factor of the attention in across layers, see `sharpness`.
    seen : Tensor of shape (n_tables * n_rows, n_tokens), default=None
        Which tokens are those of a cell or question. None: all but an answer.
    log_weight : Tensor of shape (n_tables, n_context), default=None
        Logarithms of the context rows' weights. None: all weights are one.
    answers : dict of int to pair of Tensor
        Keys and values of the context's answers in each across layer, which are put
        here if there are none. Else all rows are asked, and see these.
    """

    n_tables: int
    n_context: int
    sharpness: Tensor | float
    seen: Tensor | None = None
    log_weight: Tensor | None = None
    answers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


def sharpness(n_rows: float) -> float:
    """Return how sharp the attention to the answers of so many rows is.

    It grows with the logarithm of their number; else it would be spread over more rows
    the more there are [1]_. It is one for a typical number.

    References
    ----------
    .. [1] K. Nakanishi, "Scalable-Softmax Is Superior for Attention", 2025, arXiv
       2501.19399.
    """
    return math.log1p(n_rows) / math.log1p(_TYPICAL_ROWS)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    rows: Rows,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return what each token reads, (n_rows, n_tokens, n_heads, size of a head)."""
    layer = module.layer_idx
    if layer in module.config.across_layers:
        read = _across(layer, query, key, value, scaling, rows)
    else:
        read = _within(query, key, value, scaling, rows)
    return read.transpose(1, 2), None


def _within(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, rows: Rows
) -> Tensor:
    """Read the cells and the question of the own row."""
    mask = None
    if rows.seen is not None:
        mask = rows.seen[:, None, None, :]
    elif rows.n_context:
        key, value = key[:, :, :-1], value[:, :, :-1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling
    )


def _across(
    layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rows: Rows
) -> Tensor:
    """Read the answers of the table's context rows."""
    n_tables = rows.n_tables
    if layer not in rows.answers:
        rows.answers[layer] = (
            _of_answers(key, n_tables, rows.n_context),
            _of_answers(value, n_tables, rows.n_context),
        )
    key, value = rows.answers[layer]
    mask = None
    if rows.log_weight is not None:
        mask = rows.log_weight[:, None, None, :].to(query.dtype)
    n_heads, n_tokens, size = query.shape[1:]
    asking = query.reshape(n_tables, -1, n_heads, n_tokens, size).transpose(1, 2)
    read = scaled_dot_product_attention(
        asking.flatten(2, 3) * rows.sharpness, key, value, attn_mask=mask, scale=scaling
    )
    read = read.reshape(n_tables, n_heads, -1, n_tokens, size)
    return read.transpose(1, 2).flatten(0, 1)


def _of_answers(part: Tensor, n_tables: int, n_context: int) -> Tensor:
    """Return the context's answers alone, (n_tables, n_heads, n_context, size)."""
    answers = part[:, :, -1].reshape(n_tables, -1, *part.shape[1::2])
    return answers[:, :n_context].transpose(1, 2)


# --- scores ---------------------------------------------------------------------------


class InContext:
    """A language model that has read labelled rows, and scores answers to others.

    The table is read in several views: its columns in other positions, its levels and
    classes under other names. The probability is the mean of theirs.

    Parameters
    ----------
    lm : LanguageModel
        A model that sees labelled rows through its attention.
    sentences : sequence of str
        The context rows' prompts.
    answers : sequence of str
        Their answers.
    weight : ndarray of shape (n_rows,)
        Their weights. A weight is so many repetitions: its logarithm is added to the
        attention to the row's answer, which is what repeating the row does.
    seed : int
        Draws the views, and the rows that each reads where there are too many.
    """

    def __init__(
        self,
        lm: Any,
        sentences: Sequence[str],
        answers: Sequence[str],
        weight: NDArray[np.float64],
        seed: int,
    ) -> None:
        self.lm = lm
        self.model = lm.model
        self._sentences = list(sentences)
        self._answers = list(answers)
        self._weight = weight
        self._seed = seed
        self._last: tuple[tuple[str, ...], _Reading] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read of the context, which is read again."""
        return vars(self) | {"_last": None}

    @in_plain_torch
    def read(self, answers: Sequence[str]) -> None:
        """Read the context, so that scores of these answers need not wait for it.

        Parameters
        ----------
        answers : sequence of str
            As for `score`.
        """
        with torch.inference_mode():
            self._reading(tuple(answers))

    @in_plain_torch
    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return the log-probability of each answer to each prompt.

        Parameters
        ----------
        prompts : sequence of str, length n_prompts
            The sentences.
        answers : sequence of str, length n_answers
            Distinct answers, of one token each; those of the context among them.

        Returns
        -------
        score : ndarray of shape (n_prompts, n_answers)
            Log-probabilities in nats; the exponentials of each row sum to 1.

        Raises
        ------
        ValueError
            If a prompt is too long for the model, or an answer has several tokens.
        """
        tokens = self.lm.prompt_tokens(prompts, 1)
        with torch.inference_mode():
            return self._reading(tuple(answers)).score(tokens)

    def _reading(self, answers: tuple[str, ...]) -> _Reading:
        """Return what was read of the context: mostly that of the last call."""
        if self._last is None or self._last[0] != answers:
            index = {text: i for i, text in enumerate(answers)}
            labelled = _Labelled(
                self.lm.prompt_tokens(self._sentences, 1),
                torch.tensor([index[text] for text in self._answers]),
                self._weight,
            )
            rng = RandomState(self._seed)
            self._last = answers, _Reading(self.lm, answers, labelled, rng)
        return self._last[1]


class _Labelled(NamedTuple):
    """Labelled rows: their tokens, the indices of their answers, their weights."""

    tokens: list[list[int]]
    answers: Tensor
    weight: NDArray[np.float64]

    def drawn(self, rng: RandomState) -> _Labelled:
        """Return what one view reads: all, or so many, drawn by their weights.

        These then count no more.
        """
        n_rows = len(self.tokens)
        if n_rows <= _MOST_ROWS:
            return self
        share = self.weight / self.weight.sum()
        rows = np.sort(rng.choice(n_rows, _MOST_ROWS, replace=False, p=share))
        tokens = [self.tokens[row] for row in rows]
        return _Labelled(tokens, self.answers[rows], np.ones(_MOST_ROWS))


class _Reading:
    """What is kept of the context rows in each view: their answers' keys and values."""

    def __init__(
        self,
        lm: Any,
        answers: Sequence[str],
        labelled: _Labelled,
        rng: RandomState,
    ) -> None:
        self._model = _attentive(lm.model, lm.model.dtype)
        n_columns = max(map(len, labelled.tokens)) - 1
        words = torch.tensor(_words(lm, answers))
        draw = partial(_View.drawn, lm.tokenizer, words, n_columns, rng)
        self._views = [draw() for _ in range(_VIEWS)]
        self._sharpness = sharpness(min(float(labelled.weight.sum()), _MOST_ROWS))
        # Most of the work is to read the context, whose rounding is the same for all
        # that is asked of it.
        fast = _attentive(lm.model, torch.float32)
        parts = [self._context(fast, v, labelled.drawn(rng)) for v in self._views]
        self._log_weight = torch.cat([log_weight for log_weight, _ in parts])
        self._answers: dict[int, tuple[Tensor, Tensor]] = {}
        for layer in parts[0][1]:
            keys, values = zip(*(kept[layer] for _, kept in parts), strict=True)
            self._answers[layer] = (
                torch.cat(keys).to(lm.model.dtype),
                torch.cat(values).to(lm.model.dtype),
            )

    def _context(
        self, model: Any, view: _View, labelled: _Labelled
    ) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
        """Read the context in one view: the rows' weights, and what is kept of them."""
        ids, positions, seen = _laid_out(labelled.tokens, [view])
        answers = view.words[labelled.answers][:, None]
        ids = torch.cat([ids, answers], 1)
        positions = torch.cat([positions, torch.full_like(answers, ANSWER)], 1)
        if seen is not None:
            seen = torch.cat([seen, torch.zeros_like(answers, dtype=torch.bool)], 1)
        log_weight = torch.tensor(np.log(labelled.weight))[None].to(model.device)
        rows = Rows(1, len(ids), self._sharpness, seen, log_weight)
        _hidden(model, ids, positions, rows)
        return log_weight, rows.answers

    def score(self, tokens: list[list[int]]) -> NDArray[np.float64]:
        """Return the answers' log-probabilities, (n_prompts, n_answers)."""
        scores = np.zeros((len(tokens), len(self._views[0].words)))
        order = np.argsort([-len(row) for row in tokens], kind="stable")
        longest = max(map(len, tokens))
        size = max(1, _PASS_TOKENS // (longest * len(self._views)))
        for start in range(0, len(order), size):
            asked = order[start : start + size]
            scores[asked] = self._scored([tokens[row] for row in asked])
        return scores

    def _scored(self, tokens: list[list[int]]) -> NDArray[np.float64]:
        """Score the answers to some prompts, which share a pass."""
        ids, positions, seen = _laid_out(tokens, self._views)
        rows = Rows(
            len(self._views), 0, self._sharpness, seen, self._log_weight, self._answers
        )
        hidden = _hidden(self._model, ids, positions, rows)[:, -1]
        words = torch.stack([view.words for view in self._views]).to(hidden.device)
        heads = self._model.get_output_embeddings().weight[words]
        logits = hidden.reshape(len(self._views), -1, hidden.shape[1]) @ heads.mT
        mean = logits.log_softmax(-1).logsumexp(0) - math.log(len(self._views))
        refuse_nan(mean, logits.dtype)
        scores: NDArray[np.float64] = mean.cpu().numpy()
        return scores


@dataclass(frozen=True)
class _View:
    """Other names for levels and classes, and other positions for columns."""

    renamed: Tensor  # for each token, what stands for it
    positions: Tensor  # of each column
    words: Tensor  # the token of each answer

    @classmethod
    def drawn(
        cls, tokenizer: Any, words: Tensor, n_columns: int, rng: RandomState
    ) -> _View:
        """Draw a view of a table; numbers are answers that keep their order."""
        levels, classes = (_codes(tokenizer, letter) for letter in "cy")
        renamed = torch.arange(len(tokenizer))
        renamed[levels] = _shuffled(levels, rng)
        positions = _shuffled(torch.arange(n_columns), rng) + CELLS
        if torch.isin(words, classes).all():
            words = _shuffled(words, rng)
        return cls(renamed, positions, words)


def _shuffled(tokens: Tensor, rng: RandomState) -> Tensor:
    return tokens[torch.tensor(rng.permutation(len(tokens)))]


def _laid_out(
    tokens: list[list[int]], views: list[_View]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return rows for each view, (n_views * n_rows, n_tokens), padded on the left.

    Ids and positions; and which tokens are seen, where rows are of unlike length.
    """
    lengths = torch.tensor([len(row) for row in tokens])[:, None]
    width = int(lengths.max())
    ids = torch.tensor([[0] * (width - len(row)) + row for row in tokens])
    column = torch.arange(width) - (width - lengths)
    all_ids, all_positions = [], []
    for view in views:
        all_ids.append(view.renamed[ids])
        # Columns that the context did not have keep their order.
        position = torch.arange(CELLS, CELLS + width)
        n_known = min(width, len(view.positions))
        position[:n_known] = view.positions[:n_known]
        positions = position[column.clamp(min=0)]
        positions[:, -1] = QUESTION
        all_positions.append(positions)
    is_seen = column >= 0
    seen = None if bool(is_seen.all()) else is_seen.repeat(len(views), 1)
    return torch.cat(all_ids), torch.cat(all_positions), seen


def _hidden(model: Any, ids: Tensor, positions: Tensor, rows: Rows) -> Tensor:
    """Return the last hidden states."""
    device = model.device
    if rows.seen is not None:
        rows.seen = rows.seen.to(device)
    hidden: Tensor = model.base_model(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        use_cache=False,
        rows=rows,
    )[0]
    return hidden


# Copies of models whose attention reads in context, by model and precision.
_ATTENTIVE: WeakKeyDictionary[Any, dict[torch.dtype, Any]] = WeakKeyDictionary()


def _attentive(model: Any, precision: torch.dtype) -> Any:
    """Return a copy whose attention reads in context, made once."""
    copies = _ATTENTIVE.setdefault(model, {})
    if precision not in copies:
        # Here, since it imports what all models do, which takes a second.
        transformers.AttentionInterface.register(NAME, attend)
        attentive = copy.deepcopy(model).to(precision)
        attentive.set_attn_implementation(NAME)
        # Pads are not seen; else transformers warns that they may be.
        attentive.config.pad_token_id = None
        copies[precision] = attentive
    return copies[precision]


def _words(lm: Any, answers: Sequence[str]) -> list[int]:
    """Return the token of each answer."""
    paths = lm.trie(answers).whole
    if several := [a for a, path in zip(answers, paths, strict=True) if len(path) > 2]:
        raise ValueError(
            "A model that sees labelled rows through its attention answers with one "
            f"token, but the answer {several[0]!r} has several. Set "
            'LabelDecoder(words="codes"), or n_shots=0.'
        )
    return [path[0] for path in paths]


def _codes(tokenizer: Any, letter: str) -> Tensor:
    """Return the tokens of levels (c) or classes (y)."""
    # In the order of their numbers: a vocabulary has none.
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    code = re.compile(rf"Ġ{letter}\d+")
    return torch.tensor([i for word, i in vocabulary if code.fullmatch(word)])
