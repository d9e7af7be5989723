"""The language model as other modules see it: load, save, tokens and scores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from liftlearn._language_model._pretrained import (
    find_source,
    load_pretrained,
    no_bars,
    ready_to_score,
)
from liftlearn._language_model._scorer import AnswerScorer, Read, Reader, Trie

# Tokens that one pass over prompts holds at the most, with those of the answers.
_BATCH_TOKENS = 4096
# Tokens that all prompts must begin with to be worth a pass of their own.
_SHARED_TOKENS = 16
# What an answer's tokens are read behind, to find them as they are in running text.
_BEFORE = "?"


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
            A folder, a ``.gguf`` file, or a name on the Hugging Face hub, of which
            ``"name@revision"`` is a branch, tag or commit. A ``Path`` is always local.
            None is the embedded model.
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
            If a folder or a ``.gguf`` file does not exist.
        ImportError
            If the package gguf is missing, which reads ``.gguf`` files.
        ValueError
            If it is no causal language model, or its files can't be read.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(*load_pretrained(find_source(model), device))

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
        with no_bars():
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
        return type(self)(ready_to_score(model), self.tokenizer)

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
        paths = self._answer_tokens(answers)
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ValueError(
                "The tokenizer has no end-of-sequence token, which marks the end of an "
                "answer. Set tokenizer.eos_token and save the folder again."
            )
        return Trie(paths, end, answers)

    def _answer_tokens(self, answers: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each answer as it stands in running text.

        That is behind a space, which most vocabularies put into a word's first token,
        and some tokenizers also write before any text.
        """
        before = self._tokens([_BEFORE])[0]
        n_before = len(before)
        whole = self._tokens([f"{_BEFORE} {answer}" for answer in answers])
        if all(ids[:n_before] == before for ids in whole):
            return [ids[n_before:] for ids in whole]
        return self._tokens([f" {answer}" for answer in answers])

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
        the tokens that can follow there in any of the answers. Processes that were
        launched together share the prompts, and all get all scores: each must call.

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
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            n_shared, start = self._read_shared(tokens, scorer.reader)
            # Rows of like length share a pass, the longest first: what fits it, fits.
            order = np.argsort([-len(ids) for ids in tokens], kind="stable")
            process, n_processes = _place_among_processes()
            if batch_size is None:
                longest = max(map(len, tokens)) + trie.depth
                batch_size = max(1, _BATCH_TOKENS // longest)
                batch_size = min(batch_size, -(-len(order) // n_processes))
            for batch in range(process, -(-len(order) // batch_size), n_processes):
                rows = order[batch * batch_size :][:batch_size]
                inputs = self.padded([tokens[row][n_shared:] for row in rows])
                scores[rows] = scorer.score_all(**inputs, start=start).cpu().numpy()
        self.model.train(was_training)
        return _sum_over_processes(scores, self.model.device)

    def _read_shared(
        self, tokens: list[list[int]], reader: Reader
    ) -> tuple[int, Read | None]:
        """Read what all prompts begin with, where that saves time; return its length.

        Each prompt keeps a token of its own to be read.
        """
        # What the first and the last in order share, all share.
        ends = zip(min(tokens), max(tokens), strict=False)
        n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        n_shared = min(n_shared, min(map(len, tokens)) - 1)
        if len(tokens) == 1 or n_shared < _SHARED_TOKENS or not reader.skips:
            return 0, None
        batch = self.padded([tokens[0][:n_shared]])
        return n_shared, reader.read(batch["input_ids"], batch["attention_mask"])

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
        # Pads are masked, so any token will do; some tokenizers' own has no embedding.
        ids = [[0] * (length - len(row)) + list(row) for row in tokens]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in tokens]
        device = self.model.device
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }


def _place_among_processes() -> tuple[int, int]:
    """Return this process's number, and how many were launched together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _sum_over_processes(
    scores: NDArray[np.float64], device: torch.device
) -> NDArray[np.float64]:
    """Put together what each process scored; all of them must come here."""
    if _place_among_processes()[1] == 1:
        return scores
    total = torch.from_numpy(scores).to(device)
    distributed.all_reduce(total)
    return total.cpu().numpy()
