"""Tries how a model can be read, with what it says of a row alone as the truth.

What scoring relies on is tried on a few tokens: rows of unlike length in one pass,
reading on from a cache, from what rows share, and a tree of answers. A model that fails
in one of them is read without it. What even the plainest way reads otherwise than the
model itself is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from liftlearn._language_model._passes import (
    Batches,
    Manner,
    Passes,
    Read,
    bases,
    head_logits,
    is_quantized,
    layers_of,
    n_most_tokens,
    own_logits,
    shared_copy,
    text_config,
    turn_of_positions,
)

# A trial reads as many tokens as this many products with weights allow, within bounds:
# a tiny model beyond any likely window, a large one in a moment.
_TRIAL_PRODUCTS = 20_000_000
_LEAST_TOKENS, _MOST_TOKENS = 24, 320
# Where attention goes by blocks of tokens, more are read, at no more than this cost.
_MOST_PRODUCTS = 1_000_000_000
_BLOCKS = ("index_topk", "compress_rate", "block_size", "lsh_attn", "local_attn")
# How far logits may differ: by a part of what a row's beginning changes in them, and of
# the largest, for rounding.
_OF_EFFECT, _OF_SIZE = 1e-4, 3e-6
# Layers of a cache whose copies can grow apart. Recurrent states are changed in place.
_GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
# Trials are of the first tokens of a vocabulary.
_N_TOKENS = 4096
_BATCHES: tuple[Batches, ...] = ("any rows", "equal lengths", "single rows")
_NAME = "_liftlearn_manner"


class UnreadableModelError(ValueError):
    """A model that can't be read right."""


def passes_of(model: Any) -> Passes:
    """Return what reads a model, after trying how, if that was not done."""
    manner = getattr(model, _NAME, None)
    return Passes(model, manner or find_manner(model))


def find_manner(model: Any) -> Manner:
    """Return how a model is read, and note it in the model, for its copies, too.

    If no way reads what the model itself says, raise UnreadableModelError.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        manner = _tried(model)
    model.train(was_training)
    setattr(model, _NAME, manner)
    return manner


def _tried(model: Any) -> Manner:
    """Return how a model is read, as a trial in float32 shows.

    The rounding of fewer bits would hide what is wrong. Of such a model the first
    layers of each kind are tried, and the whole one where these fail.
    """
    if model.dtype.itemsize >= 4 and not is_quantized(model):
        return _Trial(model).manner()
    with suppress(Exception):  # of foreign code, which may want all of its layers
        return _Trial(_in_float32(_first_layers(model))).manner()
    return _Trial(_in_float32(shared_copy(model))).manner()


def _in_float32(copied: Any) -> Any:
    return (copied.dequantize() if is_quantized(copied) else copied).float()


def _first_layers(model: Any) -> Any:
    """Return a copy of a model with its first layers, of each kind one or more.

    It knows the first tokens alone: in float32 all would weigh more than the layers.
    """
    copied = shared_copy(model)
    for part in (copied.get_input_embeddings(), copied.get_output_embeddings()):
        for own in part.parameters():
            own.data = own.data[:_N_TOKENS]
    config = text_config(copied)
    found = layers_of(copied)
    if found is None:
        raise ValueError("There is no list of layers.")
    name, layers = found
    n_layers = len(layers)
    by_layer = {
        key: value
        for key, value in config.to_dict().items()
        if isinstance(value, list) and len(value) == n_layers
    }
    kinds = [
        (repr(layer), *(str(values[i]) for values in by_layer.values()))
        for i, layer in enumerate(layers)
    ]
    n_kept = max(2, 1 + max(map(kinds.index, kinds)))
    owner, _, leaf = name.rpartition(".")
    setattr(copied.get_submodule(owner), leaf, layers[:n_kept])
    config.num_hidden_layers = min(n_kept, n_layers)
    for key, values in by_layer.items():
        setattr(config, key, values[:n_kept])
    return copied


class _Trial:
    """Two rows of tokens that part in the middle, and what the model says of each."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kind = type(model).__name__
        n_tokens, self._is_enough = _n_trial_tokens(model)
        draw = torch.Generator().manual_seed(0)
        pool = torch.tensor(_plain_tokens(model))
        rows = pool[torch.randint(len(pool), (2, n_tokens), generator=draw)]
        rows[1, : n_tokens // 2] = rows[0, : n_tokens // 2]
        rows[1, -1] = rows[0, -1]
        self._rows = rows.to(model.device)
        # The second's beginning is a row, too, with an odd number of pads: those that
        # fill whole blocks of attention would not show.
        self._n_long, self._n_short = n_tokens - 3, n_tokens // 2
        self._n_short -= 1 - (n_tokens - self._n_short) % 2
        self._own = torch.stack([self._logits(row) for row in self._rows])
        # What the rows' beginnings change in the logits is what must be right.
        self._effect = float((self._own[0, -1] - self._own[1, -1]).abs().max())

    def manner(self) -> Manner:
        """Return how the model is read."""
        plain = None
        if self._agree(self._logits(self._rows[0]), self._own[0]):
            self._check_own()
            plain = next(filter(self._reads_rows, self._plain_manners()), None)
        if plain is None:
            raise UnreadableModelError(
                f"{self._kind} says something else of the same text each time it reads "
                "it. Use another model."
            )
        manner = replace(plain, goes_on=True)
        if not self._succeeds(self._goes_on, manner):
            return plain
        if plain.batches != "any rows" or _may_have_windows(self._model):
            return manner
        skips, trees = replace(manner, skips=True), replace(manner, reads_trees=True)
        can_skip = self._succeeds(self._skips, skips)
        can_read_trees = manner.gives_positions and self._succeeds(
            self._reads_trees, trees
        )
        return replace(manner, skips=can_skip, reads_trees=can_read_trees)

    def _check_own(self) -> None:
        """Refuse a model in which a token hears of those behind it."""
        half, n_short = self._rows.shape[1] // 2, self._n_short
        if not self._agree(self._own[0, :half], self._own[1, :half]):
            raise UnreadableModelError(
                f"{self._kind} reads text in both directions. Expected a causal "
                "language model, in which a token depends on those before it alone."
            )
        short = self._logits(self._rows[1, :n_short])
        if not self._agree(short, self._own[1, :n_short]):
            raise UnreadableModelError(
                f"{self._kind} reads the same text otherwise when more follows it, so "
                "that its answers have no definite probability. Use another model."
            )

    def _plain_manners(self) -> Iterator[Manner]:
        """Yield ways to read with no cache, the best ones first."""
        n_bases = len(bases(self._model))
        for batches in _BATCHES if self._is_enough else _BATCHES[1:]:
            # The model as a whole, whose head may be more than weights, comes last.
            for base in range(n_bases + 1):
                for gives_positions in (True, False):
                    is_whole = base == n_bases
                    yield Manner(is_whole, base, gives_positions, batches)

    def _reads_rows(self, manner: Manner) -> bool:
        return self._succeeds(self._reads_both, manner)

    def _succeeds(self, trial: Callable[[Manner], bool], manner: Manner) -> bool:
        """Return the outcome of a trial; one that breaks the model's code fails."""
        try:
            return trial(manner)
        except Exception:  # noqa: BLE001 - a foreign model's code may raise anything
            return False

    def _reads_both(self, manner: Manner) -> bool:
        """Whether rows of equal and of unlike lengths are read as each alone."""
        passes, n_short = Passes(self._model, manner), self._n_short
        one, other = self._rows
        read = passes.read(*_padded([one, other, other[:n_short]]), is_last=True)
        logits = self._logits_of(manner, read.hidden)
        return self._agree(logits[:2], self._own) and self._agree(
            logits[2, -n_short:], self._own[1, :n_short]
        )

    def _goes_on(self, manner: Manner) -> bool:
        """Whether tokens are read behind any of the rows, time and again."""
        passes, rows = Passes(self._model, manner), self._rows
        before, (m, n) = self._before(passes, manner)
        layers = getattr(before.cache, "layers", [])
        if not layers or any(type(layer) not in _GROWING for layer in layers):
            return False
        more = self._continues(
            passes, before, [1, 0, 1], [(1, n, n + 1), (0, m, m + 1), (1, n, n + 1)]
        )
        if more is None or more.cache is None:
            return False
        ends = [(1, n + 1, n + 3), (0, m + 1, m + 3)]
        is_right = self._continues(passes, more, [0, 1], ends)
        # What was read before must have stayed as it was.
        is_right = is_right and self._continues(passes, before, [0], [(0, m, m + 3)])
        start = passes.read(*_padded([rows[0, :2]]))
        whole = [(0, 2, len(rows[0])), (1, 2, len(rows[1]))]
        return bool(is_right and self._continues(passes, start, [0, 0], whole))

    def _skips(self, manner: Manner) -> bool:
        """Whether rows of unlike lengths are read behind one beginning."""
        passes, (one, other) = Passes(self._model, manner), self._rows
        start = passes.read(*_padded([one[:2]]))
        n = self._n_short
        ids, mask = _padded([one[2:], other[2:n]])
        read = passes.read_on(start, torch.zeros_like(ids[:, 0]), ids, mask)
        logits = self._logits_of(manner, read.hidden)
        return self._agree(logits[0], self._own[0, 2:]) and self._agree(
            logits[1, 2 - n :], self._own[1, 2:n]
        )

    def _reads_trees(self, manner: Manner) -> bool:
        """Whether a tree's tokens are read as each path behind each row."""
        passes = Passes(self._model, manner)
        before, _ = self._before(passes, manner)
        tokens = self._rows.flatten().tolist()
        first, second = tokens[0], next(t for t in tokens if t != tokens[0])
        paths = [[first, second], [second, first]]
        device = self._rows.device
        read = passes.read_on(
            before,
            torch.tensor([0, 0, 1, 1], device=device),
            torch.tensor(paths * 2, device=device),
        )
        tree = passes.read_tree(
            before, [tuple(path[:depth]) for path in paths for depth in (1, 2)]
        )
        apart = self._logits_of(manner, read.hidden)
        return self._agree(self._logits_of(manner, tree).view_as(apart), apart)

    def _before(self, passes: Passes, manner: Manner) -> tuple[Read, tuple[int, int]]:
        """Return a long and, where that is possible, a short row, and their lengths."""
        m = self._n_long
        n = self._n_short if manner.batches == "any rows" else m
        return passes.read(*_padded([self._rows[0, :m], self._rows[1, :n]])), (m, n)

    def _continues(
        self,
        passes: Passes,
        before: Read,
        rows: list[int],
        spans: Sequence[tuple[int, int, int]],
    ) -> Read | None:
        """Read parts of the two rows behind some; None if not as in the whole rows."""
        ids = torch.stack([self._rows[row, i:j] for row, i, j in spans])
        read = passes.read_on(before, torch.tensor(rows, device=ids.device), ids)
        own = torch.stack([self._own[row, i:j] for row, i, j in spans])
        is_right = self._agree(self._logits_of(passes.manner, read.hidden), own)
        return read if is_right else None

    def _logits(self, row: Tensor) -> Tensor:
        return own_logits(self._model, row).float()

    def _logits_of(self, manner: Manner, hidden: Tensor) -> Tensor:
        return head_logits(self._model, hidden, is_whole=manner.whole).float()

    def _agree(self, ours: Tensor, own: Tensor) -> bool:
        most = _OF_EFFECT * self._effect + _OF_SIZE * float(own.abs().max())
        return bool((ours - own).abs().max() <= most)


def _n_trial_tokens(model: Any) -> tuple[int, bool]:
    """Return how many tokens a trial reads, and whether that shows all there is.

    Sparse attention over blocks of tokens is like any other in rows that are shorter.
    """
    n_weights = sum(weight.numel() for weight in model.parameters())
    # Beyond the turn of its positions a model is read in passes of their own.
    limit = int(min(n_most_tokens(model) or _MOST_PRODUCTS, turn_of_positions(model)))
    n_tokens = min(max(_TRIAL_PRODUCTS // n_weights, _LEAST_TOKENS), _MOST_TOKENS)
    blocks = [
        size
        for name, value in text_config(model).to_dict().items()
        if any(part in name for part in _BLOCKS)
        for size in _whole_numbers(value)
    ]
    n_needed = min(2 * max(blocks, default=0) + 8, limit)
    if n_needed * n_weights <= _MOST_PRODUCTS:
        n_tokens = max(n_tokens, n_needed)
    return min(n_tokens, limit), n_needed <= n_tokens


def _whole_numbers(value: Any) -> Iterator[int]:
    """Yield the whole numbers in a setting, which may be a list or a table of them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _whole_numbers(part)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _may_have_windows(model: Any) -> bool:
    """Return whether something says that a token sees only so many before it.

    A window that a trial is too short for shows in the configuration, or in a mask
    among the model's buffers.
    """
    sizes = [
        size
        for name, value in text_config(model).to_dict().items()
        if ("window" in name and "layer" not in name and "pattern" not in name)
        or name == "attention_chunk_size"
        for size in _whole_numbers(value)
    ]
    if any(size > 0 for size in sizes):
        return True
    squares = (
        buffer[(0,) * (buffer.dim() - 2)]
        for buffer in model.buffers()
        if buffer.dim() >= 2 and buffer.shape[-1] == buffer.shape[-2] > 1
    )
    return any(_is_banded(square) for square in squares)


def _is_banded(mask: Tensor) -> bool:
    """Return whether a square mask lets tokens see some before them, but not all."""
    seen = mask.bool()
    is_causal = not bool(seen.triu(1).any()) and bool(seen.diagonal().all())
    return is_causal and not bool(seen.equal(torch.ones_like(seen).tril()))


def _plain_tokens(model: Any) -> list[int]:
    """Return tokens that mean nothing else to the model."""
    n_tokens = min(len(model.get_input_embeddings().weight), _N_TOKENS)
    own: set[int] = set()
    for config in (model.config, text_config(model)):
        for name, value in config.to_dict().items():
            if "token_id" in name or "token_index" in name:
                own.update(value if isinstance(value, list) else [value])
    return [token for token in range(n_tokens) if token not in own] or [0]


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows padded on the left, and their mask."""
    n_tokens = max(map(len, rows))
    pads = [(n_tokens - len(row), 0) for row in rows]
    ids = [nn.functional.pad(r, p) for r, p in zip(rows, pads, strict=True)]
    mask = [
        nn.functional.pad(torch.ones_like(r), p)
        for r, p in zip(rows, pads, strict=True)
    ]
    return torch.stack(ids), torch.stack(mask)
