"""What processes that were launched together agree on, and accelerate's state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType, broadcast_object_list
from numpy.random import RandomState

_SHARDED = (
    DistributedType.FSDP,
    DistributedType.DEEPSPEED,
    DistributedType.MEGATRON_LM,
)

# Accelerate's state belongs to the process, so fits take turns.
FITS = threading.RLock()


def share_stream(rng: RandomState, device: str | None) -> None:
    """Give a stream the main process's state, where several were launched together."""
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    with FITS, own_state():
        if PartialState(cpu=on_cpu).num_processes > 1:
            rng.set_state(broadcast_object_list([rng.get_state(legacy=False)])[0])


@contextmanager
def own_state() -> Iterator[None]:
    """Keep accelerate's process-wide state, and give the caller's back at the end."""
    classes = (PartialState, AcceleratorState, GradientState)
    kept = [dict(each._shared_state) for each in classes]
    for each in classes:
        each._reset_state()
    try:
        yield
    finally:
        for each, state in zip(classes, kept, strict=True):
            each._reset_state()
            each._shared_state.update(state)


def refuse_shards(accelerator: Accelerator) -> None:
    """Raise ValueError where no process is to hold the whole model."""
    if accelerator.distributed_type in _SHARDED:
        raise ValueError(
            "Expected each launched process to hold the whole model, got "
            f"{accelerator.distributed_type.value}, which spreads it over them. "
            "Launch without it; for memory take an adapter, bf16 or "
            "FineTuner(gradient_checkpointing=True)."
        )


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
