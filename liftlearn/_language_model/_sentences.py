"""Sentences of several answers: scored, drawn, and one answer given the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liftlearn._language_model._passes import Read
from liftlearn._language_model._scorer import AnswerScorer, SentenceScorer
from liftlearn._language_model._surroundings import evaluating, in_plain_torch

# Tokens that one pass over sentences holds at the most.
_BATCH_TOKENS = 4096

Padded = Callable[[Sequence[Sequence[int]]], dict[str, Tensor]]


class Sentences:
    """What a language model says of sentences that begin alike and have these fields.

    Answers are indices, of shape (n_rows, n_fields): of each field's texts, or -1 for
    one that is not known, which the sentence leaves out. Fields stand in the order that
    is asked for. What a row gets does not depend on the other rows.
    """

    def __init__(
        self, scorer: SentenceScorer, prompt: list[int], padded: Padded
    ) -> None:
        self.model = scorer.model
        self._scorer = scorer
        self._prompt = prompt
        self._padded = padded
        self._last: dict[int, AnswerScorer] = {}

    @in_plain_torch
    def score(
        self, answers: NDArray[np.intp], order: Sequence[int]
    ) -> NDArray[np.float64]:
        """Return the log-probability of each row's known answers, of shape (n_rows,).

        In nats; the exponentials of all rows that there can be sum to 1.
        """
        scores = np.zeros(len(answers))
        if not len(answers):
            return scores
        orders = np.broadcast_to(np.asarray(order, np.intp), answers.shape)
        prompts = [self._prompt] * len(answers)
        tokens, steps = self._scorer.examples(prompts, answers, orders)
        if not steps.shape[1]:
            return scores
        with evaluating(self.model), torch.inference_mode():
            for rows in _batches(tokens, 0):
                inputs = self._padded([tokens[row] for row in rows])
                asked = torch.tensor(steps[rows], device=self.model.device)
                scored = self._scorer(**inputs, steps=asked)
                scores[rows] = scored.double().cpu().numpy()
        return scores

    @in_plain_torch
    def score_next(
        self, answers: NDArray[np.intp], order: Sequence[int], field: int
    ) -> NDArray[np.float64]:
        """Return the log-probability of each answer that one field can have.

        It stands behind the row's known answers; its own is left out. Of shape
        (n_rows, n_answers), in nats; the exponentials of each row sum to 1.
        """
        header, trie = self._scorer.fields[field]
        scores = np.zeros((len(answers), len(trie.whole)))
        if not trie.nodes or not len(answers):
            return scores
        if field not in self._last:
            self._last[field] = AnswerScorer(self.model, trie)
        others = [other for other in order if other != field]
        tokens = [ids + header for ids in self._beginnings(answers, others)]
        with evaluating(self.model), torch.inference_mode():
            for rows in _batches(tokens, trie.depth):
                inputs = self._padded([tokens[row] for row in rows])
                scored = self._last[field].score_all(
                    inputs["input_ids"], inputs["attention_mask"]
                )
                scores[rows] = scored.cpu().numpy()
        return scores

    @in_plain_torch
    def draw(
        self,
        answers: NDArray[np.intp],
        order: Sequence[int],
        shares: NDArray[np.float64],
        temperature: float,
    ) -> NDArray[np.intp]:
        """Return the answers, with those drawn that are not known.

        A row's known answers stand before the others. ``shares``, of the shape of
        ``answers`` and in [0, 1), say which are drawn: each by its share of the
        probability. Tokens' probabilities are raised to the power of the temperature's
        inverse.
        """
        drawn = answers.copy()
        with evaluating(self.model), torch.inference_mode():
            for pattern in np.unique(answers >= 0, axis=0):
                alike = np.flatnonzero(((answers >= 0) == pattern).all(axis=1))
                tokens = self._beginnings(answers[alike], order)
                for some in _batches(tokens, self._scorer.n_answer_tokens):
                    drawing = _Drawing(
                        self._scorer,
                        [tokens[i] for i in some],
                        self._padded,
                        temperature,
                    )
                    rows = alike[some]
                    for field in order:
                        if not pattern[field]:
                            share = shares[rows, field]
                            drawn[rows, field] = drawing.next(field, share)
        return drawn

    def _beginnings(
        self, answers: NDArray[np.intp], order: Sequence[int]
    ) -> list[list[int]]:
        """Return the tokens of each row's known answers, and what stands before."""
        tokens = [[*self._prompt] for _ in answers]
        for ids, row in zip(tokens, answers.tolist(), strict=True):
            for field in order:
                if row[field] >= 0:
                    ids += self._scorer.tokens(field, row[field])
        return tokens


class _Drawing:
    """Rows of tokens that grow field by field; what was read is not read again."""

    def __init__(
        self,
        scorer: SentenceScorer,
        tokens: list[list[int]],
        padded: Padded,
        temperature: float,
    ) -> None:
        self._scorer = scorer
        self._padded = padded
        self._temperature = temperature
        self._tokens = tokens
        # What of each row was not read yet.
        self._new = [[*ids] for ids in tokens]
        self._before: Read | None = None

    def next(self, field: int, shares: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return each row's answer to the next field."""
        scorer = self._scorer
        header, trie = scorer.fields[field]
        chosen = np.zeros(len(self._tokens), np.intp)
        if not trie.nodes:
            self._append(range(len(chosen)), [scorer.tokens(field, 0)] * len(chosen))
            return chosen
        moves = scorer.moves(field)
        self._append(range(len(chosen)), [[*header, *trie.lead]] * len(chosen))
        node = np.full(len(chosen), scorer.first_node(field), np.intp)
        share = shares.copy()
        open_rows = np.arange(len(chosen))
        while len(open_rows):
            hidden = self._read(open_rows)
            at = torch.tensor(node[open_rows, None], device=hidden.device)
            log_prob = scorer.log_prob(hidden, at)[:, 0].double() / self._temperature
            prob = log_prob.softmax(-1).cpu().numpy()
            column, share[open_rows] = _picked(prob, share[open_rows])
            taken = [
                moves[move]
                for move in zip(node[open_rows].tolist(), column, strict=True)
            ]
            self._append(open_rows, [move.tokens for move in taken])
            node[open_rows] = [move.node for move in taken]
            chosen[open_rows] = [move.answer for move in taken]
            open_rows = open_rows[node[open_rows] >= 0]
        return chosen

    def _append(self, rows: Iterable[int], tokens: Sequence[list[int]]) -> None:
        for row, ids in zip(rows, tokens, strict=True):
            self._tokens[row] += ids
            self._new[row] += ids

    def _read(self, rows: NDArray[np.intp]) -> Tensor:
        """Return the hidden state behind each of the rows, (n_rows, 1, width)."""
        passes = self._scorer.passes
        if not passes.manner.skips:  # pads amid the tokens
            inputs = self._padded([self._tokens[row] for row in rows])
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            return passes.read(ids, mask, is_last=True).hidden[:, -1:]
        asked = set(rows.tolist())
        new = [ids if i in asked else [] for i, ids in enumerate(self._new)]
        self._new = [[] if i in asked else ids for i, ids in enumerate(self._new)]
        inputs = self._padded(new)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if self._before is None:
            self._before = passes.read(ids, mask)
        else:
            all_rows = torch.arange(len(ids), device=ids.device)
            self._before = passes.read_on(self._before, all_rows, ids, mask)
        return self._before.hidden[torch.tensor(rows), -1:]


def _picked(
    prob: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64]]:
    """Return in which column each share lies, and which share of that it is.

    >>> _picked(np.array([[0.5, 0.0, 0.5]]), np.array([0.75]))
    ([2], array([0.5]))
    """
    until = prob.cumsum(axis=1)
    scaled = share * until[:, -1]
    column = (until <= scaled[:, None]).sum(axis=1)
    last = prob.shape[1] - 1 - (prob[:, ::-1] > 0).argmax(axis=1)
    column = np.minimum(column, last)  # the last sum is rounded
    rows = np.arange(len(prob))
    own = prob[rows, column]
    rest = (scaled - (until[rows, column] - own)) / own
    return column.tolist(), rest.clip(0.0, np.nextafter(1.0, 0.0))


def _batches(tokens: list[list[int]], n_more: int) -> Iterator[NDArray[np.intp]]:
    """Yield rows of like length that share a pass, the longest first."""
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    size = max(1, _BATCH_TOKENS // (max(map(len, tokens)) + n_more))
    for first in range(0, len(order), size):
        yield order[first : first + size]
