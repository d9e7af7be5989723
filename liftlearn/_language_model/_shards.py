"""The frozen weights under an adapter, spread over processes launched together (FSDP).

Each process keeps a share of every layer, and has a layer whole while it computes it.
The adapter, the embedding of tokens and the head stay whole in each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from liftlearn._language_model._passes import is_quantized, layers_of
from liftlearn._language_model._trial import passes_of

_FLAG = "ACCELERATE_USE_FSDP"
_MARK = "_liftlearn_is_spread"


def is_to_spread() -> bool:
    """Return whether this process was launched to keep a share of a model."""
    is_asked = os.environ.get(_FLAG, "false").lower() in {"true", "1"}
    return is_asked and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def without_fsdp() -> Iterator[None]:
    """Let accelerate and transformers know nothing of it.

    Else transformers would leave out the weights in all processes but the first, and
    accelerate would spread what is trained, too.
    """
    asked = os.environ.pop(_FLAG, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[_FLAG] = asked


def spread(model: Any, device: torch.device) -> None:
    """Leave a process its share of a model's frozen layers, all on a device.

    The model is changed in place, but not one that it shares its weights with. A model
    that can't be spread raises ValueError.
    """
    passes = passes_of(model)
    trained = {weight for weight in model.parameters() if weight.requires_grad}
    _, layers = layers_of(model) or ("", [])
    of_layers = [id(weight) for layer in layers for weight in layer.parameters()]
    reason = (
        "all its weights are trained"
        if all(weight in trained for weight in model.parameters())
        else "its weights are quantized"
        if is_quantized(model)
        else f"{type(model).__name__} has no list of layers that share no weights"
        if not layers or len(of_layers) > len(set(of_layers))
        else f"{type(model).__name__} does not read rows of any lengths in one pass"
        if not passes.takes_any_rows
        else None
    )
    if reason:
        raise ValueError(
            "Expected a model whose layers can be spread over the processes that were "
            f"launched together (FSDP), with an adapter to train, but {reason}. Launch "
            "with --multi_gpu, where each holds the whole model, or give an adapter, "
            "FineTuner(adapter=peft.LoraConfig(...))."
        )
    # Not every build of torch has them, and they take time.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for layer in layers:
        fully_shard(
            layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained
        )
    shared = shares(model)
    whole = {w for name, w in model.named_parameters() if name not in shared}
    # Layers of one root fetch their weights ahead of time.
    fully_shard(passes.base, mesh=mesh, ignored_params=whole)
    for weight in whole:
        weight.data = weight.data.to(device)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    setattr(model, _MARK, True)


def shares(module: nn.Module) -> list[str]:
    """Return the names of the weights of which a process has a share."""
    from torch.distributed.tensor import DTensor

    weights = module.named_parameters(remove_duplicate=False)
    return [name for name, weight in weights if isinstance(weight, DTensor)]


def is_spread(model: Any) -> bool:
    """Return whether a model's layers are spread over processes."""
    return hasattr(model, _MARK)
