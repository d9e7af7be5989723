"""The trie of the answers' tokens, and their scores behind prompts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Trie:
    """The answers' tokens as a tree, with an end mark where an answer begins another.

    A node is a place where more than one token can follow; elsewhere the next token is
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
    """

    def __init__(
        self, paths: list[list[int]], end: int, answers: Sequence[str]
    ) -> None:
        followers: dict[tuple[int, ...], set[int]] = {}
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


def _ragged(rows: Sequence[Sequence[tuple[int, ...]]], width: int) -> NDArray[np.intp]:
    """Return rows of unlike length as one array, with -1 behind their ends."""
    array = np.full((len(rows), max(map(len, rows)), width), -1, np.intp)
    for i, row in enumerate(rows):
        if row:
            array[i, : len(row)] = row
    return array


class AnswerScorer(nn.Module):
    """Scores answers with a language model: the loss of training, the score of use.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The causal language model.
    trie : Trie
        The answers.
    constrained : bool, default=True
        Whether only tokens that can follow compete. If not, `forward` gives the
        log-probability of the answer and its end mark among all texts.
    """

    def __init__(self, model: Any, trie: Trie, *, constrained: bool = True) -> None:
        super().__init__()
        self.model = model
        self.trie = trie
        self.constrained = constrained
        steps, self.paths = trie.steps, trie.paths
        allowed = trie.allowed
        if not constrained:
            self.paths = [list(path) for path in trie.whole]
            steps = _ragged(
                [[(0, t, d) for d, t in enumerate(path)] for path in trie.whole], 3
            )
            allowed = np.ones((1, model.config.vocab_size), bool)
        device = model.device
        self._steps = torch.tensor(steps, device=device)
        self._barred = ~torch.tensor(allowed, device=device)
        self._columns = torch.tensor(trie.columns, device=device)
        self._takes_positions = (
            "position_ids" in inspect.signature(model.base_model.forward).parameters
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, answer: Tensor
    ) -> Tensor:
        """Return the score of each row's own answer, of shape (batch,).

        ``input_ids`` are prompts, each followed by its answer's path but for the last
        token, padded on the left.
        """
        hidden = self._read(input_ids, attention_mask).last_hidden_state
        steps = self._steps[answer]  # (batch, n_steps, 3)
        node, token, depth = steps.unbind(-1)
        is_step = node >= 0
        last = torch.where(is_step, depth, -1).amax(1, keepdim=True)
        place = (hidden.shape[1] - 1 - last + depth).clamp(min=0)
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        log_prob = self._log_prob(hidden[rows, place], node.clamp(min=0))
        own = log_prob.gather(-1, token.clamp(min=0)[..., None])[..., 0]
        return torch.where(is_step, own, 0.0).sum(1)

    def score_all(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the score of every answer after each prompt, (batch, n_answers)."""
        only_root = len(self.trie.nodes) == 1 and not self.trie.nodes[0]
        read = self._read(input_ids, attention_mask, use_cache=not only_root)
        shape = len(input_ids), len(self.trie.nodes), len(self.trie.columns)
        log_prob = read.last_hidden_state.new_zeros(shape, dtype=torch.float64)
        for nodes in _alike(self.trie.nodes):
            path = [self.trie.nodes[node] for node in nodes]
            if path[0]:
                hidden = self._extend(read.past_key_values, attention_mask, path)
            else:
                hidden = read.last_hidden_state[:, -1:]
            index = torch.tensor(nodes, device=hidden.device)
            log_prob[:, nodes] = self._log_prob(hidden, index[None]).double()
        node, token, _ = self._steps.unbind(-1)
        taken = log_prob[:, node.clamp(min=0), token.clamp(min=0)]
        return torch.where(node >= 0, taken, 0.0).sum(-1)

    def _read(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        """Run the model up to its last hidden states."""
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[
            :, -input_ids.shape[1] :
        ]
        if self._takes_positions:
            options["position_ids"] = positions
        options.setdefault("use_cache", False)
        mask = None if bool(attention_mask.all()) else attention_mask
        return self.model.base_model(
            input_ids=input_ids, attention_mask=mask, **options
        )

    def _extend(
        self, cache: Any, attention_mask: Tensor, paths: list[tuple[int, ...]]
    ) -> Tensor:
        """Return the hidden state behind each prompt and path: (batch, n_paths, width).

        The paths are equally long. The prompts' cache is repeated and kept as it was.
        """
        n_prompts, n_paths = len(attention_mask), len(paths)
        cache = copy.deepcopy(cache)
        cache.batch_repeat_interleave(n_paths)
        mask = attention_mask.repeat_interleave(n_paths, 0)
        tokens = torch.tensor(paths, device=mask.device).repeat(n_prompts, 1)
        read = self._read(
            tokens,
            torch.cat([mask, torch.ones_like(tokens)], 1),
            past_key_values=cache,
            use_cache=True,
        )
        hidden: Tensor = read.last_hidden_state[:, -1]
        return hidden.reshape(n_prompts, n_paths, -1)

    def _log_prob(self, hidden: Tensor, node: Tensor) -> Tensor:
        """Return the log-probability of each column at each hidden state's node.

        ``hidden`` is (batch, n, width), ``node`` is (batch or 1, n); the result is
        (batch, n, n_columns), with -inf where a token cannot follow.
        """
        head = self.model.get_output_embeddings()
        weight, bias = head.weight, getattr(head, "bias", None)
        if self.constrained:
            weight = weight[self._columns]
            bias = bias if bias is None else bias[self._columns]
        logits = nn.functional.linear(hidden, weight, bias)
        logits = logits.masked_fill(self._barred[node], -torch.inf)
        return logits.log_softmax(-1)


def _alike(nodes: list[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield the indices of the nodes of each depth."""
    for depth in sorted({len(node) for node in nodes}):
        yield [i for i, node in enumerate(nodes) if len(node) == depth]
