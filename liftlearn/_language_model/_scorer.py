"""The answers as a trie of tokens, and their scores behind prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from liftlearn._language_model._passes import (
    Path,
    Read,
    head_logits,
    n_columns,
    refuse_nan,
    trimmed,
)
from liftlearn._language_model._trial import passes_of

# Tokens that one pass over the trie's nodes reads at the most, and tokens, read before
# or now, that it holds where each node needs a row of its own.
_TREE_TOKENS = 4096
_WALK_TOKENS = 16_384


class Trie:
    """The answers' tokens as a tree, with an end mark where an answer begins another.

    A node is where more than one token can follow; elsewhere the next token is
    certain and costs nothing.

    Parameters
    ----------
    paths : list of list of int
        Tokens of each answer.
    end : int
        The end mark's token.
    answers : sequence of str
        The answers' texts, for error messages.

    Attributes
    ----------
    nodes : list of tuple of int
        The tokens that lead to each node, shortest first.
    columns : list of int
        All tokens that can follow at any node, sorted.
    allowed : ndarray of shape (n_nodes, n_columns)
        Which of them can follow at which node.
    steps : ndarray of shape (n_answers, n_steps, 3)
        The nodes that each answer passes: the node, the column of the token that
        follows there, and the depth; -1 behind an answer's last step.
    paths : list of list of int
        Tokens of each answer up to its last step.
    whole : list of tuple of int
        Tokens of each answer with its end mark.
    lead : tuple of int
        The tokens that all answers begin with: those that lead to the first node.
    children : dict of tuple of int to list of tuple of int
        The nodes that come next behind each node.
    """

    def __init__(
        self, paths: list[list[int]], end: int, answers: Sequence[str]
    ) -> None:
        followers: dict[Path, set[int]] = {}
        whole = [(*path, end) for path in paths]
        if len(set(whole)) < len(whole):
            twins = [
                a for a, p in zip(answers, whole, strict=True) if whole.count(p) > 1
            ]
            raise ValueError(
                f"The answers {twins[:2]!r} have the same tokens, so that the model "
                "cannot tell them apart. Give each class a word of its own with "
                "LabelDecoder(words=...)."
            )
        for path in whole:
            for depth, token in enumerate(path):
                followers.setdefault(path[:depth], set()).add(token)
        branches = {node for node, tokens in followers.items() if len(tokens) > 1}
        self.nodes = sorted(branches, key=lambda node: (len(node), node))
        self.columns = sorted(set().union(*(followers[n] for n in self.nodes)))
        self.whole = whole
        number = {node: i for i, node in enumerate(self.nodes)}
        column = {token: i for i, token in enumerate(self.columns)}
        self.allowed = np.zeros((len(self.nodes), len(self.columns)), bool)
        for node, i in number.items():
            self.allowed[i, [column[token] for token in followers[node]]] = True
        steps = [
            [
                (number[path[:depth]], column[token], depth)
                for depth, token in enumerate(path)
                if path[:depth] in number
            ]
            for path in whole
        ]
        self.steps = _ragged(steps, 3)
        self.paths = [
            list(path[: taken[-1][2] + 1]) if taken else []
            for path, taken in zip(whole, steps, strict=True)
        ]
        self.depth = max(map(len, self.paths))
        self.lead: Path = self.nodes[0] if self.nodes else ()
        self.children: dict[Path, list[Path]] = {node: [] for node in self.nodes}
        for node in self.nodes[1:]:
            above = (node[:d] for d in range(len(node) - 1, -1, -1))
            self.children[next(path for path in above if path in branches)].append(node)


def _ragged(rows: Sequence[Sequence[Path]], width: int) -> NDArray[np.intp]:
    """Return rows of unlike length as one array, with -1 behind their ends."""
    array = np.full((len(rows), max(map(len, rows)), width), -1, np.intp)
    for i, row in enumerate(rows):
        if row:
            array[i, : len(row)] = row
    return array


class Field(NamedTuple):
    """One of a sentence's answers: the tokens before it, and what it can be."""

    header: list[int]
    trie: Trie


class Move(NamedTuple):
    """What follows where one token was taken at a node."""

    tokens: list[int]  # that token, and those that are certain behind it
    node: int  # the next one; -1 where an answer is complete
    answer: int  # one of those that this leads to


class SentenceScorer(nn.Module):
    """Scores sentences of several answers: what training maximises.

    Each answer competes with the others of its field. If not ``constrained``, all
    tokens compete, not only those that can follow: then the one answer of each
    sentence, with its end mark, competes with all texts.
    """

    def __init__(
        self, model: Any, fields: Sequence[Field], *, constrained: bool = True
    ) -> None:
        super().__init__()
        if not constrained and len(fields) > 1:
            raise ValueError(
                "constrained=False lets any text follow, but in a sentence of several "
                "answers each must end where the next begins. Set "
                "FineTuner(constrained=True)."
            )
        self.model = model
        self.fields = fields
        self.passes = passes_of(model)
        tries = [field.trie for field in fields]
        if constrained:
            tokens = sorted(set().union(*(trie.columns for trie in tries)))
            # Behind an answer's last step there is nothing to ask, but other answers.
            alone = tries[0].paths if len(tries) == 1 else None
            self._written = (
                [alone]
                if alone
                else [[list(path[:-1]) for path in trie.whole] for trie in tries]
            )
            self._steps, allowed = _in_one_table(tries, tokens)
        else:
            tokens = list(range(n_columns(model)))
            whole = [list(path) for path in tries[0].whole]
            self._written = [whole]
            steps = [[(0, t, d) for d, t in enumerate(path)] for path in whole]
            self._steps, allowed = [_ragged(steps, 3)], np.ones((1, len(tokens)), bool)
        # Tokens from the last prompt token on, at the most.
        self.n_answer_tokens = sum(
            len(field.header) + max(map(len, written))
            for field, written in zip(fields, self._written, strict=True)
        )
        # The mean loss of a model that knows nothing, in nats.
        self.blind_loss = sum(math.log(len(trie.whole)) for trie in tries)
        if not constrained:
            self.blind_loss = math.log(len(tokens)) * self.n_answer_tokens
        device = model.device
        self._barred = ~torch.tensor(allowed, device=device)
        columns = torch.tensor(tokens, dtype=torch.long, device=device)
        self._columns = columns if constrained else None

    def examples(
        self,
        prompts: Sequence[list[int]],
        answers: ArrayLike,
        orders: NDArray[np.intp] | None = None,
    ) -> tuple[list[list[int]], NDArray[np.intp]]:
        """Return the tokens of sentences, and what `forward` asks behind which.

        ``answers``, of shape (n_rows, n_fields), are those of each prompt; -1 leaves a
        field out. ``orders``, of that shape, are the fields in the order of each
        sentence. Tokens behind the last that is asked for are left out.
        """
        answers = np.reshape(answers, (len(prompts), len(self.fields)))
        if orders is None:
            orders = np.broadcast_to(np.arange(len(self.fields)), answers.shape)
        tokens, steps = [], []
        for prompt, own, order in zip(
            prompts, answers.tolist(), orders.tolist(), strict=True
        ):  # plain lists, which are faster one by one
            sentence, asked = [*prompt], []
            for number in order:
                answer = own[number]
                if answer < 0:
                    continue
                sentence += self.fields[number].header
                before = len(sentence) - 1
                for node, column, depth in self._steps[number][answer].tolist():
                    if node >= 0:
                        asked.append((node, column, before + depth))
                sentence += self._written[number][answer]
            n_read = asked[-1][2] + 1 if asked else len(sentence)
            tokens.append(sentence[:n_read])
            steps.append([(node, at, n_read - 1 - last) for node, at, last in asked])
        return tokens, _ragged(steps, 3)

    def tokens(self, field: int, answer: int) -> list[int]:
        """Return the tokens of an answer, and of what stands before it."""
        header, trie = self.fields[field]
        return [*header, *trie.whole[answer][:-1]]

    def first_node(self, field: int) -> int:
        """Return the node behind a field's header and the trie's lead."""
        return int(self._steps[field][0, 0, 0])

    def moves(self, field: int) -> dict[tuple[int, int], Move]:
        """Return what follows each column that can be taken at each node."""
        whole = self.fields[field].trie.whole
        moves = {}
        for answer, own in enumerate(self._steps[field].tolist()):
            steps = [*(step for step in own if step[0] >= 0), (-1, -1, -1)]
            for (node, column, depth), (after, _, end) in pairwise(steps):
                tokens = list(whole[answer][:-1][depth : end if end >= 0 else None])
                moves[node, column] = Move(tokens, after, answer)
        return moves

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        steps: Tensor,
        start: Tensor | None = None,
    ) -> Tensor:
        """Return the score of each row's own answers, of shape (batch,).

        ``input_ids`` and ``steps``, (batch, n_steps, 3), are `examples`: the node of
        each step, the column of the token that follows there, and how many tokens
        stand behind it; the rows are padded on the left. ``start``, of shape
        (1, n_shared), are tokens that stand before each of them.
        """
        if start is None:
            read = self.passes.read(input_ids, attention_mask, is_last=True)
        else:
            before = self.passes.read(start, torch.ones_like(start))
            first = torch.zeros_like(input_ids[:, 0])
            read = self.passes.read_on(before, first, input_ids, attention_mask)
        hidden = read.hidden
        node, token, behind = steps.unbind(-1)
        is_step = node >= 0
        position = (hidden.shape[1] - 1 - behind).clamp(0, hidden.shape[1] - 1)
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        log_prob = self.log_prob(hidden[rows, position], node.clamp(min=0))
        own = log_prob.gather(-1, token.clamp(min=0)[..., None])[..., 0]
        return torch.where(is_step, own, 0.0).sum(1)

    def log_prob(self, hidden: Tensor, node: Tensor) -> Tensor:
        """Return the log-probability of each column at each hidden state's node.

        ``hidden`` is (batch, n, width), ``node`` is (batch or 1, n); the result is
        (batch, n, n_columns), with -inf where a token cannot follow. Outside training,
        which has a check of its own, NaN raises ValueError.
        """
        is_whole = self.passes.manner.whole
        logits = head_logits(self.model, hidden, self._columns, is_whole=is_whole)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_prob = logits.masked_fill(self._barred[node], -torch.inf).log_softmax(-1)
        if torch.is_inference_mode_enabled():
            refuse_nan(log_prob, hidden.dtype)
        return log_prob


def _in_one_table(
    tries: Sequence[Trie], tokens: list[int]
) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
    """Return the tries' steps and what can follow, with nodes numbered through.

    Their columns become those of the given tokens.
    """
    at = {token: i for i, token in enumerate(tokens)}
    n_nodes = 0
    steps, allowed = [], []
    for trie in tries:
        columns = np.array([at[token] for token in trie.columns], np.intp)
        own = trie.steps.copy()
        is_step = own[..., 0] >= 0
        own[is_step, 0] += n_nodes
        own[is_step, 1] = columns[own[is_step, 1]]
        follows = np.zeros((len(trie.nodes), len(tokens)), bool)
        follows[:, columns] = trie.allowed
        steps.append(own)
        allowed.append(follows)
        n_nodes += len(trie.nodes)
    return steps, np.concatenate(allowed)


class AnswerScorer(SentenceScorer):
    """Scores the answers of one trie behind prompts."""

    def __init__(self, model: Any, trie: Trie, *, constrained: bool = True) -> None:
        super().__init__(model, [Field([], trie)], constrained=constrained)
        self.trie = trie
        device = model.device
        self._number = {node: i for i, node in enumerate(trie.nodes)}
        # For each node the answers that pass it, and the column that each goes on with.
        self._passing = []
        # What `_decide` asks of each group of nodes.
        self._decided: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}
        for node in range(len(trie.nodes)):
            answers, step = np.nonzero(trie.steps[..., 0] == node)
            columns = trie.steps[answers, step, 1]
            self._passing.append(
                (
                    torch.tensor(answers, device=device),
                    torch.tensor(columns, device=device),
                )
            )

    def score_all(
        self, input_ids: Tensor, attention_mask: Tensor, start: Read | None = None
    ) -> Tensor:
        """Return the score of every answer after each prompt, (batch, n_answers).

        With ``start``, one row that was read, the prompts are what follows it.
        """
        batches = self.passes.batches(attention_mask)
        if start is None and len(batches) > 1:
            apart = [
                self.score_all(*trimmed(input_ids[rows], attention_mask[rows]))
                for rows in batches
            ]
            order = torch.tensor([row for rows in batches for row in rows])
            return torch.cat(apart)[order.argsort().to(input_ids.device)]
        if self.trie.lead:
            lead = torch.tensor([self.trie.lead], device=input_ids.device)
            lead = lead.expand(len(input_ids), -1)
            input_ids = torch.cat([input_ids, lead], 1)
            attention_mask = torch.cat([attention_mask, torch.ones_like(lead)], 1)
        if start is None:
            is_last = len(self.trie.nodes) == 1
            read = self.passes.read(input_ids, attention_mask, is_last=is_last)
        else:
            first = torch.zeros_like(input_ids[:, 0])
            read = self.passes.read_on(start, first, input_ids, attention_mask)
        shape = len(input_ids), len(self.trie.whole)
        scores = torch.zeros(shape, dtype=torch.float64, device=input_ids.device)
        root = [self.trie.lead]
        self._decide(root, read.hidden[:, -1:], scores)
        n_lead = len(self.trie.lead)
        depth = len(self.trie.nodes[-1]) - n_lead
        if depth and self.passes.can_read_tree(read, depth):
            for nodes, paths in self._trees(_TREE_TOKENS // len(scores)):
                hidden = self.passes.read_tree(read, paths)
                index_of = {path: i for i, path in enumerate(paths)}
                # An answer passes one node of a depth at the most.
                for _, level in groupby(nodes, key=len):
                    alike = list(level)
                    at = [index_of[node[n_lead:]] for node in alike]
                    self._decide(alike, hidden[:, at], scores)
        elif depth:
            self._walk(root, read, scores)
        return scores

    def _trees(self, n_most: int) -> Iterator[tuple[list[Path], list[Path]]]:
        """Yield nodes behind the first, and the paths that lead there from it.

        The paths of one tree are about ``n_most``; each stands behind its beginnings.
        """
        n_lead = len(self.trie.lead)
        nodes: list[Path] = []
        paths: dict[Path, None] = {}
        for node in sorted(self.trie.nodes[1:]):
            if nodes and len(paths) >= n_most:
                yield sorted(nodes, key=len), list(paths)
                nodes, paths = [], {}
            nodes.append(node)
            path = node[n_lead:]
            paths |= {path[: depth + 1]: None for depth in range(len(path))}
        yield sorted(nodes, key=len), list(paths)

    def _walk(self, nodes: list[Path], read: Read, scores: Tensor) -> None:
        """Add what is decided behind the nodes that were read, level by level."""
        n_prompts, n_tokens = len(scores), read.mask.shape[1]
        for group in self._next_passes(nodes, _WALK_TOKENS // (n_prompts * n_tokens)):
            parents = torch.tensor([parent for parent, _ in group])
            rows = torch.arange(n_prompts)[:, None] * len(nodes) + parents
            tokens = [child[len(nodes[parent]) :] for parent, child in group]
            more = self.passes.read_on(
                read,
                rows.ravel().to(scores.device),
                torch.tensor(tokens, device=scores.device).repeat(n_prompts, 1),
            )
            children = [child for _, child in group]
            hidden = more.hidden[:, -1].reshape(n_prompts, len(group), -1)
            self._decide(children, hidden, scores)
            self._walk(children, more, scores)

    def _next_passes(
        self, nodes: list[Path], n_most: int
    ) -> Iterator[list[tuple[int, Path]]]:
        """Yield the nodes behind these, with their parents' indices, pass by pass.

        What leads to the nodes of a pass is equally long, so that it needs no pads.
        """

        def distance(item: tuple[int, Path]) -> int:
            return len(item[1]) - len(nodes[item[0]])

        children = [
            (i, c) for i, node in enumerate(nodes) for c in self.trie.children[node]
        ]
        for _, alike in groupby(sorted(children, key=distance), key=distance):
            group = list(alike)
            for first in range(0, len(group), max(1, n_most)):
                yield group[first : first + max(1, n_most)]

    def _decide(self, nodes: list[Path], hidden: Tensor, scores: Tensor) -> None:
        """Add to each answer's scores what it gets at the nodes that it passes.

        ``hidden`` is (n_prompts, n_nodes, width). No answer passes two of the nodes.
        """
        numbers = tuple(self._number[node] for node in nodes)
        if numbers not in self._decided:
            index = torch.tensor([numbers], device=hidden.device)
            passing = [self._passing[number] for number in numbers]
            answers = torch.cat([answers for answers, _ in passing])
            n_columns = self._barred.shape[1]
            at = [k * n_columns + column for k, (_, column) in enumerate(passing)]
            self._decided[numbers] = index, answers, torch.cat(at)
        index, answers, chosen = self._decided[numbers]
        log_prob = self.log_prob(hidden, index)
        scores[:, answers] += log_prob.flatten(1)[:, chosen]
