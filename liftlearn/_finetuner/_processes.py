"""What processes that were launched together agree on, and accelerate's state."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    broadcast_object_list,
)
from numpy.random import RandomState
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from liftlearn._language_model import is_to_spread, shares, without_fsdp

_OF_OTHERS = DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM
# torch's method has no types.
_ignore_in: Callable[[nn.Module, list[str]], None] = (
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
)
_STATES = PartialState, AcceleratorState, GradientState
_PUT_ASIDE: list[list[dict[str, Any]]] = []


class _Turns:
    """Lets one thread at a time in; a child that is forked meanwhile begins afresh."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the others, then keep them out."""
        with self._lock:
            yield


# Accelerate's state belongs to the process, so fits take turns.
FITS = _Turns()


def share_stream(rng: RandomState, device: str | None) -> None:
    """Give a stream the main process's state, where several were launched together."""
    on_cpu = _is_on_cpu(device or "cuda") or not torch.cuda.is_available()
    with FITS.taken(), own_state():
        if PartialState(cpu=on_cpu).num_processes > 1:
            rng.set_state(broadcast_object_list([rng.get_state(legacy=False)])[0])


@contextmanager
def own_state() -> Iterator[None]:
    """Keep accelerate's process-wide state, and give the caller's back at the end."""
    _PUT_ASIDE.append([dict(each._shared_state) for each in _STATES])
    _set_states([{} for _ in _STATES])
    try:
        yield
    finally:
        _set_states(_PUT_ASIDE.pop())


def _set_states(states: list[dict[str, Any]]) -> None:
    for each, state in zip(_STATES, states, strict=True):
        each._reset_state()
        each._shared_state.update(state)


def _give_back_in_child() -> None:
    """Give a child that was forked amid another thread's fit the caller's state."""
    if _PUT_ASIDE:
        _set_states(_PUT_ASIDE[0])
        _PUT_ASIDE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_back_in_child)


def new_accelerator(device: torch.device) -> Accelerator:
    """Return what trains a model that was loaded on a device.

    If another library is to spread it over processes, raise ValueError.
    """
    with without_fsdp():
        accelerator = Accelerator(cpu=_is_on_cpu(device.type), mixed_precision="no")
    if accelerator.distributed_type in _OF_OTHERS:
        raise ValueError(
            "Expected processes launched with --multi_gpu, or with --use_fsdp and an "
            f"adapter to train, got {accelerator.distributed_type.value}, which "
            "spreads what is trained, too. Launch without it; for memory take an "
            "adapter, bf16 or FineTuner(gradient_checkpointing=True)."
        )
    return accelerator


def prepared(
    accelerator: Accelerator,
    module: nn.Module,
    optimizer: Optimizer,
    trial: Callable[[], Tensor],
) -> tuple[nn.Module, Optimizer]:
    """Return a module whose gradients are exchanged, and its optimizer.

    A trial returns what the module computes.
    """
    if accelerator.num_processes > 1:
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        found = torch.autograd.grad(trial().sum(), trained, allow_unused=True)
        # Some families have layers whose weights are not asked.
        accelerator.ddp_handler = DistributedDataParallelKwargs(
            find_unused_parameters=any(gradient is None for gradient in found)
        )
    if is_to_spread():
        # What is spread has no gradients, and no process has the whole of it.
        _ignore_in(module, shares(module))
    module, optimizer = accelerator.prepare(module, optimizer)
    return module, optimizer


def _is_on_cpu(device: str) -> bool:
    """Return whether a model on a device is trained there, on a processor.

    One that is to be spread waits there for its training on GPUs.
    """
    return device == "cpu" and not is_to_spread()


def of_main(accelerator: Accelerator, value: float) -> float:
    """Return the main process's value, so that all decide alike."""
    return total(accelerator, value if accelerator.is_main_process else 0.0)


def total(accelerator: Accelerator, value: float) -> float:
    """Return the sum of all processes' values."""
    if accelerator.num_processes == 1:
        return value
    own = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    total: float = accelerator.reduce(own, "sum").item()
    return total
