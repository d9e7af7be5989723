"""How any causal language model is read.

In one way: its base model up to the last hidden states, and then the columns of its
head that are asked for.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

# What all rows begin with is read once where that saves so many tokens: a pass of its
# own costs a tiny model as much as 60 tokens, and one of 135 million weights 30. In
# bf16 tokens are cheaper, passes are not: 200.
_SHARED_TOKENS = 100
_SHARED_TOKENS_BF16 = 400

# Tokens from a place on.
Path = tuple[int, ...]


class Reader:
    """Reads tokens with a model's base, going on from what was read before.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The causal language model.

    Attributes
    ----------
    goes_on : bool
        Whether the model keeps a cache that more tokens can be read behind, for other
        rows than those that were read. If not, all tokens are read again.
    skips : bool
        Whether pads may stand amid the tokens: not where a window counts them.
    """

    def __init__(self, model: Any) -> None:
        self.base = model.base_model
        self._dtype = model.dtype
        # Recurrent states can't be taken up again with more than one token.
        self.goes_on = not getattr(model, "_is_stateful", False)
        layers = DynamicCache(config=model.config).layers if self.goes_on else []
        self.skips = self.goes_on and not any(layer.is_sliding for layer in layers)
        takes = inspect.signature(self.base.forward).parameters
        self._takes_positions = "position_ids" in takes
        # transformers 5.24 renamed it.
        self._cache_name = "cache" if "cache" in takes else "past_key_values"

    def n_shared(self, tokens: list[list[int]], n_own: int) -> int:
        """Return how many first tokens of all rows are better read once.

        Each row keeps ``n_own`` tokens that are read for itself.
        """
        # What the first and the last in order share, all share.
        ends = zip(min(tokens), max(tokens), strict=False)
        n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        n_shared = min(n_shared, min(map(len, tokens)) - n_own)
        # Without a cache there is nothing to go on from.
        keeps = self.skips and not self.base.is_activation_checkpointing
        is_bf16 = self._dtype == torch.bfloat16
        least = _SHARED_TOKENS_BF16 if is_bf16 else _SHARED_TOKENS
        pays = n_shared * (len(tokens) - 1) >= least
        return n_shared if keeps and pays else 0

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, *, is_last: bool = False
    ) -> Read:
        """Read rows of tokens; the last ones need no cache."""
        use_cache = self.goes_on and not is_last
        n_new = input_ids.shape[1]
        return self._read(input_ids, attention_mask, n_new, None, use_cache)

    def read_on(
        self, before: Read, rows: Tensor, ids: Tensor, mask: Tensor | None = None
    ) -> Read:
        """Read tokens behind some of the rows read before, which stay as they are."""
        mask = torch.ones_like(ids) if mask is None else mask
        mask = torch.cat([before.mask[rows], mask], 1)
        n_new = ids.shape[1]
        if before.cache is None:
            ids = torch.cat([before.ids[rows], ids], 1)
            return self._read(ids, mask, n_new, None, False)
        cache = before.cache_copy()
        cache.batch_select_indices(rows)
        return self._read(ids, mask, n_new, cache, True)

    def read_tree(self, before: Read, paths: Sequence[Path]) -> Tensor:
        """Return the hidden state behind each path, (n_rows, n_paths, width).

        The paths go on from each of the rows read before; all that a path begins with
        are paths, too. One pass reads them side by side, each token seeing its own
        path alone. Only where `reads_trees` is true.
        """
        device = before.mask.device
        own = [[path[: len(other)] == other for other in paths] for path in paths]
        tree = torch.tensor(own, device=device).expand(len(before.mask), -1, -1)
        rows = before.mask.bool()[:, None].expand(-1, len(paths), -1)
        seen = torch.cat([rows, tree], 2)
        # Eager attention adds the mask.
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=device)
        mask.masked_fill_(~seen, torch.finfo(self._dtype).min)
        ids = torch.tensor([path[-1] for path in paths], device=device)
        depth = torch.tensor([len(path) for path in paths], device=device)
        hidden: Tensor = self.base(
            input_ids=ids.expand(len(rows), -1),
            attention_mask=mask[:, None],
            position_ids=before.mask.sum(1, keepdim=True) + depth - 1,
            use_cache=True,
            **{self._cache_name: before.cache_copy()},
        ).last_hidden_state
        return hidden

    @cached_property
    def reads_trees(self) -> bool:
        """Whether the model takes a mask of its own for each token; found by trying."""
        if not (self.skips and self._takes_positions):
            return False
        vocabulary = self.base.get_input_embeddings().weight.shape[0]
        device = self.base.device
        ids = torch.arange(3, 7, device=device) % vocabulary
        before = self.read(ids[None, :2], torch.ones_like(ids)[None, :2])
        other = self.read_on(before, torch.zeros_like(ids[:1]), ids[None, 3:])
        try:
            tree = self.read_tree(before, [(int(ids[2]),), (int(ids[3]),)])
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
        return _is_near(tree[:, -1], other.hidden[:, -1], 1e-4)

    def _read(
        self, ids: Tensor, mask: Tensor, n_new: int, cache: Any, use_cache: bool
    ) -> Read:
        options: dict[str, Any] = {"use_cache": use_cache}
        if self._takes_positions:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        if cache is not None:
            options[self._cache_name] = cache
        given = None if bool(mask.all()) else mask
        output = self.base(input_ids=ids, attention_mask=given, **options)
        cache = getattr(output, self._cache_name) if use_cache else None
        return Read(output.last_hidden_state[:, -n_new:], ids, mask, cache)


@dataclass
class Read:
    """What was read of some rows.

    Attributes
    ----------
    hidden : Tensor of shape (n_rows, n_new, width)
        The last hidden states of the tokens read last.
    ids : Tensor of shape (n_rows, n_tokens)
        The tokens; with a cache, those read last.
    mask : Tensor of shape (n_rows, n_all_tokens)
        0 where a pad was read.
    cache : transformers.Cache or None
        What the model keeps to go on from.
    """

    hidden: Tensor
    ids: Tensor
    mask: Tensor
    cache: Any

    def cache_copy(self) -> Any:
        """Return a cache that can grow while this one stays as it is."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        return cache


def head_logits(model: Any, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
    """Return the logits of some tokens (None: of all), as the model itself has them."""
    head = model.get_output_embeddings()
    weight, bias = head.weight, getattr(head, "bias", None)
    if columns is not None:
        weight = weight[columns]
        bias = bias if bias is None else bias[columns]
    logits = nn.functional.linear(hidden, weight, bias)
    config = model.config.get_text_config()
    # Cohere, Falcon-H1 and Granite scale the logits; Gemma bends them.
    logits = logits * getattr(config, "logit_scale", 1.0)
    logits = logits * getattr(config, "lm_head_multiplier", 1.0)
    logits = logits / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def check_reading(model: Any) -> None:
    """Raise ValueError if what is read of a model here is not what it says itself."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]], device=model.device) % vocabulary
    with torch.inference_mode():
        read = Reader(model).read(ids, torch.ones_like(ids), is_last=True)
        own = model(input_ids=ids, use_cache=False).logits
        ours = head_logits(model, read.hidden)
    kind = type(model).__name__
    if not _is_near(own[0, :-1], own[1, :-1], 1e-5):
        raise ValueError(
            f"{kind} reads text in both directions. Expected a causal language model, "
            "in which a token depends on those before it alone."
        )
    if not _is_near(ours, own, 1e-3):
        raise ValueError(
            f"{kind} makes its logits in a way that liftlearn doesn't know. Use "
            "another model, or report this one."
        )


def _is_near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Return whether logits differ by a small part of the largest at the most."""
    return bool((one - other).abs().max() <= tolerance * other.abs().max())
