"""A causal language model that scores answers: load, save, tokens, trie, scores.

Prompts and answer texts go in, log-probabilities come out. The boundary between the
tokens of a prompt and of an answer is made here only, and the function that scores is
the one that training maximises. The only module that imports transformers.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

# Tokens that one scoring pass holds at the most, prompts and answers together.
_BATCH_TOKENS = 16_384


class LanguageModel:
    """A causal language model with its tokenizer, as `language_model_` holds it.

    Use `load` to get one.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The causal language model.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.

    Attributes
    ----------
    model, tokenizer
        As given.
    preferences : dict
        For each task (``"classification"``, ``"regression"``) the parameters that
        suit this model: ``{"encoder": {...}, "finetuner": {...}, "decoder": {...}}``.
        They stand under the key ``liftlearn`` of the model's ``config.json``.

    Examples
    --------
    >>> from liftlearn import LanguageModel
    >>> lm = LanguageModel.load()
    >>> lm.score(["x0 53 y?"], ["y0", "y1", "y2"]).shape
    (1, 3)
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def load(
        cls, model: str | PathLike[str] | None = None, *, device: str | None = None
    ) -> Self:
        """Load a model and its tokenizer.

        Parameters
        ----------
        model : str, PathLike or None, default=None
            A folder or a name that transformers loads. None is the embedded model.
        device : str, default=None
            Where it runs, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there
            is one.

        Returns
        -------
        lm : LanguageModel
            In evaluation mode. Its weights are shared by later loads and never changed.

        Raises
        ------
        FileNotFoundError
            If a folder does not exist.
        ValueError
            If there is no causal language model of that name or in that folder, or the
            path is a file.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(*_pretrained(*_source(model), device))

    @property
    def preferences(self) -> dict[str, Any]:
        """Parameters of the parts that suit this model, for each task."""
        preferences: dict[str, Any] = (
            getattr(self.model.config, "liftlearn", None) or {}
        )
        return preferences

    def save(self, folder: str | PathLike[str]) -> None:
        """Save the model and its tokenizer as a folder that `load` reads.

        Parameters
        ----------
        folder : str or PathLike
            Where to write ``config.json``, safetensors weights (float32) and the
            tokenizer's files.
        """
        with _no_bars():
            copy.deepcopy(self.model).float().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def trainable_copy(self) -> Self:
        """Return a copy to train, which shares no weights with this one.

        Returns
        -------
        lm : LanguageModel
            In training mode, with float32 weights that require gradients.
        """
        model = copy.deepcopy(self.model).float().requires_grad_(True)
        return type(self)(model.train(), self.tokenizer)

    def scoring_copy(self) -> Self:
        """Return a copy to score with, which shares no weights with this one.

        Returns
        -------
        lm : LanguageModel
            In evaluation mode, in the precision that the model prefers.
        """
        model = copy.deepcopy(self.model)
        return type(self)(_ready_to_score(model), self.tokenizer)

    def prompt_tokens(self, prompts: Sequence[str], n_more: int = 0) -> list[list[int]]:
        """Return the tokens of each prompt, with what the model wants before them.

        Parameters
        ----------
        prompts : sequence of str
            The sentences.
        n_more : int, default=0
            Tokens of an answer that must fit behind each prompt.

        Returns
        -------
        tokens : list of list of int
            The tokens of each prompt.

        Raises
        ------
        ValueError
            If a prompt and its answer are longer than the model can read.
        """
        end = self.tokenizer.eos_token_id
        # Splitting is switched for the whole tokenizer, which threads share.
        start = self.tokenizer("", split_special_tokens=True)["input_ids"]
        if start and start[-1] == end != start[0]:
            start = start[:-1]
        # There must be something to answer to: an empty prompt is read as an end mark.
        tokens = [start + ids or [end] for ids in self._tokens(prompts)]
        limit = getattr(self.model.config, "max_position_embeddings", None) or np.inf
        for row, ids in enumerate(tokens):
            if len(ids) + n_more > limit:
                raise ValueError(
                    f"Row {row} is {len(ids) + n_more} tokens long with its answer, "
                    f"but the model reads at most {limit}. Drop columns, or write "
                    "fewer digits with RowEncoder(digits=...) or less text with "
                    "RowEncoder(text_length=...)."
                )
        return tokens

    def trie(self, answers: Sequence[str]) -> Trie:
        """Return the trie of the answers' tokens.

        Parameters
        ----------
        answers : sequence of str
            Distinct answers.

        Returns
        -------
        trie : Trie
            Their tokens as a tree.

        Raises
        ------
        ValueError
            If two answers have the same tokens, or the tokenizer has no end mark.
        """
        # A leading space, as in running text: most vocabularies hold words with it.
        paths = self._tokens([f" {answer}" for answer in answers])
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ValueError(
                "The tokenizer has no end-of-sequence token, which marks the end of an "
                "answer. Set tokenizer.eos_token and save the folder again."
            )
        return Trie(paths, end, answers)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        # Without splitting, a cell that holds "</s>" would become the end mark.
        ids: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return ids

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        batch_size: int | None = None,
    ) -> NDArray[np.float64]:
        """Return the log-probability of each answer, given that one of them follows.

        The score of an answer is the sum, over its tokens, of the log-softmax among
        the tokens that can follow there in any of the answers.

        Parameters
        ----------
        prompts : sequence of str, length n_prompts
            The sentences.
        answers : sequence of str, length n_answers
            Distinct answers.
        batch_size : int, default=None
            Prompts in one pass. None takes as many as a fixed count of tokens allows.

        Returns
        -------
        score : ndarray of shape (n_prompts, n_answers)
            Log-probabilities in nats; the exponentials of each row sum to 1.

        Raises
        ------
        ValueError
            If a prompt is too long for the model, or two answers have the same tokens.
        """
        trie = self.trie(answers)
        tokens = self.prompt_tokens(prompts, trie.depth)
        scores = np.zeros((len(tokens), len(answers)))
        if not trie.nodes:
            return scores
        scorer = AnswerScorer(self.model, trie)
        # Rows of like length share a pass, the longest first: what fits it, fits all.
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        if batch_size is None:
            longest = max(map(len, tokens)) + trie.depth
            batch_size = max(1, _BATCH_TOKENS // longest)
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = self.padded([tokens[row] for row in rows])
                scores[rows] = scorer.score_all(**batch).cpu().numpy()
        self.model.train(was_training)
        return scores

    def padded(self, tokens: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return token lists as tensors, padded on the left to the longest.

        Parameters
        ----------
        tokens : sequence of sequence of int
            The tokens of each row.

        Returns
        -------
        batch : dict of str to Tensor
            ``input_ids`` and ``attention_mask``, each of shape (n_rows, length).
        """
        length = max(map(len, tokens))
        # Pads are masked: any token will do where a tokenizer has none for them.
        pad = self.tokenizer.pad_token_id or 0
        ids = [[pad] * (length - len(row)) + list(row) for row in tokens]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in tokens]
        device = self.model.device
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }


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


def _source(model: str | PathLike[str] | None) -> tuple[str, float]:
    """Return what transformers is to load, and when its files changed last."""
    if model is None:
        return str(resources.files("liftlearn") / "embedded"), 0.0
    path = Path(model)
    if path.is_dir():
        changed = max((f.stat().st_mtime for f in path.iterdir()), default=0.0)
        return str(path.resolve()), changed
    if path.is_file():
        raise ValueError(
            f"Expected a folder with a causal language model, but {str(model)!r} is a "
            "file. Give the folder that holds it."
        )
    if isinstance(model, PathLike) or path.is_absolute() or str(model).startswith("."):
        raise FileNotFoundError(
            f"Expected a folder with a causal language model, but {str(model)!r} does "
            "not exist."
        )
    return str(model), 0.0


@lru_cache(maxsize=4)
def _pretrained(source: str, changed: float, device: str) -> tuple[Any, Any]:
    """Load a model and a tokenizer, once for each source and device."""
    with _no_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"Could not load a causal language model from {source!r}. Expected a "
                "folder with config.json, safetensors weights and tokenizer files, or "
                "the name of one on the Hugging Face hub (which needs a connection the "
                "first time)."
            ) from error
    return _ready_to_score(model).to(device), tokenizer


def _ready_to_score(model: Any) -> Any:
    """Put a model into evaluation mode and its preferred precision."""
    preferences: Mapping[str, Any] = getattr(model.config, "liftlearn", None) or {}
    precision = getattr(torch, preferences.get("precision", "float32"))
    model.requires_grad_(False)
    return model.eval().to(precision)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Quiet the progress bars of transformers."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
