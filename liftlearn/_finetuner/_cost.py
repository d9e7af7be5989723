"""What a fit will cost, by a few steps of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from liftlearn._language_model import LanguageModel


@dataclass(frozen=True)
class TrainingCost:
    """What training takes at the most, and a model that was trained for a moment."""

    lm: LanguageModel
    n_models: int
    n_steps: int  # of all members, as their history counts them
    n_tokens: int
    tokens_per_row: float
    n_rows_measured: int  # held-out rows, each time that a member is asked of them
    seconds: float
    memory: int  # bytes


# Torch's class has no types, so mypy has to be told twice.
class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is entered.

    A processor's allocator tells no peak, and what the process holds depends on what
    ran before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), given)
        return made

    def _count(self, storage: Any, given: set[int]) -> None:
        name = storage._cdata
        if name in self._known or name in given:  # a view, or changed in place
            return
        n_bytes = storage.nbytes()
        self._known.add(name)
        self.now += n_bytes
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, name, n_bytes)

    def _forget(self, name: int, n_bytes: int) -> None:
        self._known.discard(name)
        self.now -= n_bytes


def bytes_of(model: Any) -> int:
    """Return the bytes of a model's weights."""
    return sum(weight.nbytes for weight in model.parameters())
