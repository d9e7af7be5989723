"""The passes through a causal language model: how one of any family is read.

In one way: its base model up to the last hidden states, and then the columns of its
head that are asked for. What a model reads right was found by trying (`_trial`); what
it does not is done without.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

# What all rows begin with is read once where that saves so many tokens: a pass of its
# own costs a tiny model as much as 60 tokens, and one of 135 million weights 30. In
# bf16 tokens are cheaper, passes are not: 200.
_SHARED_TOKENS = 100
_SHARED_TOKENS_BF16 = 400
# Kinds of rotary positions that are the same in rows of any length.
_FIXED_POSITIONS = {"default", "linear", "llama3", "proportional", "yarn"}

_NOTHING = SimpleNamespace()

# Tokens that follow one another.
Path = tuple[int, ...]
# Which rows share a pass.
Batches = Literal["any rows", "equal lengths", "single rows"]


@dataclass(frozen=True)
class Manner:
    """How a model can be read, so that it says what it says of each row alone."""

    # Whether the model itself is read, for the logits of all tokens, since its head is
    # more than a product with weights.
    whole: bool = False
    # Which of the `bases` of the model is read.
    base: int = 0
    # Whether it is told where tokens stand. If not, it counts them itself.
    gives_positions: bool = False
    # Which rows share a pass.
    batches: Batches = "any rows"
    # Whether the model keeps a cache that more tokens can be read behind, for other
    # rows than those that were read. If not, all tokens are read again.
    goes_on: bool = False
    # Whether pads may stand amid the tokens: not where a window counts them.
    skips: bool = False
    # Whether the model takes a mask of its own for each token.
    reads_trees: bool = False


class Passes:
    """Reads tokens with a model's base, going on from what was read before."""

    def __init__(self, model: Any, manner: Manner) -> None:
        self.manner = manner
        self._model = model
        self.base = model if manner.whole else bases(model)[manner.base]
        self._dtype = model.dtype
        self._turn = turn_of_positions(model)
        takes = inspect.signature(self.base.forward).parameters
        self._takes_use_cache = "use_cache" in takes
        # transformers 5.24 renamed it.
        self._cache_name = "cache" if "cache" in takes else "past_key_values"

    @property
    def takes_any_rows(self) -> bool:
        """Whether rows of any lengths share a pass."""
        return self.manner.batches == "any rows" and self._turn == torch.inf

    def n_shared(
        self, tokens: list[list[int]], n_own: int, n_rows: int | None = None
    ) -> int:
        """Return how many first tokens of all rows are better read once.

        Each row keeps ``n_own`` tokens that are read for itself. ``n_rows`` of them
        share a pass; None stands for all.
        """
        # What the first and the last in order share, all share.
        ends = zip(min(tokens), max(tokens), strict=False)
        n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        n_shared = min(n_shared, min(map(len, tokens)) - n_own)
        # Without a cache there is nothing to go on from.
        keeps = self.manner.skips and not self._model.is_activation_checkpointing
        is_bf16 = self._dtype == torch.bfloat16
        least = _SHARED_TOKENS_BF16 if is_bf16 else _SHARED_TOKENS
        pays = n_shared * ((n_rows or len(tokens)) - 1) >= least
        return n_shared if keeps and pays else 0

    def batches(self, mask: Tensor) -> list[list[int]]:
        """Return the rows that share a pass, for each pass."""
        rows = range(len(mask))
        if self.manner.batches == "any rows" and mask.shape[1] <= self._turn:
            return [list(rows)]
        lengths = mask.sum(1).tolist()
        keys: dict[Any, list[int]] = {}
        for row, n_tokens in zip(rows, lengths, strict=True):
            key = {
                "any rows": n_tokens > self._turn,
                "equal lengths": n_tokens,
                "single rows": row,
            }[self.manner.batches]
            keys.setdefault(key, []).append(row)
        return list(keys.values())

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, *, is_last: bool = False
    ) -> Read:
        """Read rows of tokens, padded on the left; the last ones need no cache.

        There is none, either, where the rows don't share a pass.
        """
        batches = self.batches(attention_mask)
        if len(batches) == 1:
            use_cache = self.manner.goes_on and not is_last
            hidden, cache = self._pass(input_ids, attention_mask, None, use_cache)
            return Read(hidden, input_ids, attention_mask, cache)
        parts = []
        for rows in batches:
            ids, mask = trimmed(input_ids[rows], attention_mask[rows])
            hidden, _ = self._pass(ids, mask, None, False)
            n_pads = input_ids.shape[1] - ids.shape[1]
            parts.append(nn.functional.pad(hidden, (0, 0, n_pads, 0)))
        order = torch.tensor([row for rows in batches for row in rows])
        hidden = torch.cat(parts)[order.argsort().to(input_ids.device)]
        return Read(hidden, input_ids, attention_mask, None)

    def read_on(
        self, before: Read, rows: Tensor, ids: Tensor, mask: Tensor | None = None
    ) -> Read:
        """Read tokens behind some of the rows read before, which stay as they are."""
        mask = torch.ones_like(ids) if mask is None else mask
        n_new = ids.shape[1]
        mask = torch.cat([before.mask[rows], mask], 1)
        all_ids = torch.cat([before.ids[rows], ids], 1)
        if before.cache is None or not self.stays(before, n_new):
            # Pads that stand amid the tokens go to the left.
            order = mask.argsort(dim=1, stable=True)
            all_ids, mask = all_ids.gather(1, order), mask.gather(1, order)
            read = self.read(*trimmed(all_ids, mask), is_last=True)
            return Read(read.hidden[:, -n_new:], read.ids, read.mask, None)
        cache = before.cache_copy()
        cache.batch_select_indices(rows)
        hidden, cache = self._pass(ids, mask, cache, True)
        return Read(hidden, all_ids, mask, cache)

    def read_tree(self, before: Read, paths: Sequence[Path]) -> Tensor:
        """Return the hidden state behind each path, (n_rows, n_paths, width).

        The paths go on from each of the rows read before; all that a path begins with
        are paths, too. One pass reads them side by side, each token seeing its own
        path alone. Only where `can_read_tree` says so.
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
        output = self.base(
            input_ids=ids.expand(len(rows), -1),
            attention_mask=mask[:, None],
            position_ids=before.mask.sum(1, keepdim=True) + depth - 1,
            use_cache=True,
            **{self._cache_name: before.cache_copy()},
        )
        hidden: Tensor = output.logits if self.manner.whole else output[0]
        return hidden

    def can_read_tree(self, before: Read, depth: int) -> bool:
        """Return whether `read_tree` reads paths of up to such a depth."""
        if not self.manner.reads_trees or before.cache is None:
            return False
        return self.stays(before, depth)

    def stays(self, before: Read, n_more: int) -> bool:
        """Return whether more tokens leave the positions of those read as they are."""
        n_all = before.mask.shape[1] + n_more
        if n_all <= self._turn:
            return True
        return bool((before.mask.sum(1) > self._turn).all())

    def _pass(
        self, ids: Tensor, mask: Tensor, cache: Any, use_cache: bool
    ) -> tuple[Tensor, Any]:
        """Return the hidden states of some tokens, and the cache."""
        options: dict[str, Any] = {}
        if self._takes_use_cache:
            options["use_cache"] = use_cache
        is_full = bool(mask.all())
        # Those of whole rows are the model's own, which it has sooner.
        if self.manner.gives_positions and not (is_full and cache is None):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        if cache is not None:
            options[self._cache_name] = cache
        if not is_full:
            options["attention_mask"] = mask
        output = self.base(input_ids=ids, **options)
        cache = getattr(output, self._cache_name) if use_cache else None
        return output.logits if self.manner.whole else output[0], cache


@dataclass
class Read:
    """What was read of some rows."""

    hidden: Tensor  # the last hidden states of the tokens read last
    ids: Tensor  # all tokens
    mask: Tensor  # 0 where a pad was read
    cache: Any  # what the model keeps to go on from, if anything

    def cache_copy(self) -> Any:
        """Return a cache that can grow while this one stays as it is."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        return cache


def trimmed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the pads that all rows begin with."""
    n_tokens = int(mask.sum(1).max())
    return ids[:, -n_tokens:], mask[:, -n_tokens:]


def own_logits(model: Any, ids: Tensor) -> Tensor:
    """Return what a model itself says of one row of tokens."""
    takes = inspect.signature(model.forward).parameters
    options = {"use_cache": False} if "use_cache" in takes else {}
    logits: Tensor = model(input_ids=ids[None], **options).logits[0]
    return logits


def shared_copy(model: Any) -> Any:
    """Copy a model's structure; its frozen weights keep their storage.

    The Parameter objects are new: what is set on one, such as its gradient, must not
    reach the model's own. Quantized ones, which can have no gradient, are shared.
    """
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=False)
        if weight.is_floating_point()
        else weight
        for weight in model.parameters()
    }
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    # What bitsandbytes keeps of its 8-bit weights once they were read.
    for module in model.modules():
        for part in vars(getattr(module, "state", None) or _NOTHING).values():
            if isinstance(part, Tensor):
                memo[id(part)] = part
    return copy.deepcopy(model, memo)


def is_quantized(model: Any) -> bool:
    """Return whether bitsandbytes keeps a model's weights, in 4 or 8 bits."""
    return bool(getattr(model, "is_quantized", False))


def text_config(model: Any) -> Any:
    """Return the configuration of what reads text, where a model reads more."""
    return model.config.get_text_config(decoder=True)


def bases(model: Any) -> list[Any]:
    """Return what may give the last hidden states, the innermost first.

    Models of text and images have a decoder in their base, and some families' base is
    the model itself.
    """
    inputs = model.get_input_embeddings()
    trunk = [m for m in model.children() if any(part is inputs for part in m.modules())]
    found: list[Any] = []
    for module in (model.get_decoder(), model.base_model, *trunk):
        if module is not model and all(module is not other for other in found):
            found.append(module)
    return found


def layers_of(model: Any) -> tuple[str, nn.ModuleList] | None:
    """Return the layers that read text and their name, where they are in one list."""
    n_layers = getattr(text_config(model), "num_hidden_layers", None)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    # A tower for images may have as many.
    of_text = set(model.get_decoder().modules())
    return min(lists, key=lambda own: own[1] not in of_text, default=None)


def n_most_tokens(model: Any) -> int | None:
    """Return how many tokens a model reads at the most; None where nothing says it."""
    limit = getattr(text_config(model), "max_position_embeddings", None)
    limits = [limit] if isinstance(limit, int) and limit > 0 else []
    inputs = model.get_input_embeddings()
    for name, table in model.get_decoder().named_modules():
        is_table = isinstance(table, nn.Embedding) and table is not inputs
        is_of_text = not any(kind in name for kind in ("vision", "image", "audio"))
        if is_table and is_of_text and "position" in name.rpartition(".")[2]:
            # Some families begin to count behind the padding token, or at an offset.
            start = 0 if table.padding_idx is None else table.padding_idx + 1
            limits.append(table.num_embeddings - getattr(table, "offset", start))
    return min(limits, default=None)


def turn_of_positions(model: Any) -> float:
    """Return the length beyond which a row's first positions are others; or inf.

    The positions of LongRoPE and some others depend on the longest row of a pass.
    """
    turns = [
        config["original_max_position_embeddings"]
        for config in _rope_configs(
            getattr(text_config(model), "rope_parameters", None)
        )
        if config.get("rope_type", "default") not in _FIXED_POSITIONS
        and isinstance(config.get("original_max_position_embeddings"), int)
    ]
    return min(turns, default=torch.inf)


def n_columns(model: Any) -> int:
    """Return how many tokens a model's logits are of."""
    head = model.get_output_embeddings()
    return int(text_config(model).vocab_size if head is None else len(head.weight))


def head_logits(
    model: Any, hidden: Tensor, columns: Tensor | None = None, *, is_whole: bool = False
) -> Tensor:
    """Return the logits of some tokens (None: of all), as the model itself has them."""
    if is_whole:
        return hidden if columns is None else hidden[..., columns]
    head = model.get_output_embeddings()
    weight, bias = head.weight, getattr(head, "bias", None)
    if columns is not None:
        weight = weight[columns]
        bias = bias if bias is None else bias[columns]
        if hidden.element_size() < 4:
            # Of few tokens the sums are worth float32; 16 bits would round logits.
            hidden, weight = hidden.float(), weight.float()
            bias = bias if bias is None else bias.float()
    logits = nn.functional.linear(hidden, weight, bias)
    config = text_config(model)
    # Cohere, Falcon-H1 and Granite scale the logits; Gemma and xLSTM bend them.
    for name in ("logit_scale", "lm_head_multiplier"):
        logits = logits * (getattr(config, name, None) or 1.0)
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    for name in ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"):
        if cap := getattr(config, name, None):
            logits = cap * torch.tanh(logits / cap)
    return logits


def _rope_configs(rope: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of rotary positions, of which some families have several."""
    if isinstance(rope, Mapping):
        yield rope
        for value in rope.values():
            yield from _rope_configs(value)


def refuse_nan(log_prob: Tensor, dtype: torch.dtype) -> None:
    """Raise ValueError where scores that a model computed in a type are NaN."""
    if bool(log_prob.isnan().any()):
        raise ValueError(
            "The language model's scores are not numbers (NaN): its weights are "
            f'damaged, or too large for {dtype}. Load it with dtype="float32", or take '
            "another model."
        )
