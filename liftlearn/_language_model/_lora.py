"""The product of a layer with LoRA, made with fewer passes over memory than peft's.

Imports peft, which is an extra, and is imported only where there is an adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Product(torch.autograd.Function):
    """``x W' + x A' B'`` for rows x, with gradients for x, A and B."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        inner = rows @ a.T
        product = (rows @ weight.T).addmm_(inner, b.T)
        ctx.save_for_backward(rows, weight, a, b, inner)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        of_inner = gradient @ b
        of_rows = None
        if ctx.needs_input_grad[0]:
            of_rows = (gradient @ weight).addmm_(of_inner, a)
        return of_rows, None, of_inner.T @ rows, gradient.T @ inner


# torch's method has no types.
_product: Callable[..., Tensor] = _Product.apply


class FastLinear(Linear):
    """A linear layer with one plain LoRA adapter.

    peft writes the adapter's product, its multiple and the sum each to memory, and so
    do their gradients; those of a small model take a sixth of a training step.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs:
            whole: Tensor = super().forward(x, *args, **kwargs)
            return whole
        name = self.active_adapters[0]
        a = self.lora_A[name].weight * self.scaling[name]
        b = self.lora_B[name].weight
        weight = self.get_base_layer().weight
        device, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        # The adapter is kept in float32, whatever the model is in.
        x, weight, a, b = (part.to(dtype) for part in (x, weight, a, b))
        with torch.autocast(device, enabled=False):
            product = _product(x.flatten(0, -2), weight, a, b)
        # Outside of the function: some models change their layers' views in place.
        product = product.view(*x.shape[:-1], -1)
        bias = self.get_base_layer().bias
        return product if bias is None else product + bias.to(product.dtype)


def make_fast(model: Any) -> None:
    """Let the layers of a model that can be `FastLinear` be that."""
    for module in model.modules():
        if type(module) is Linear and _has_plain_lora(module):
            module.__class__ = FastLinear


def _has_plain_lora(layer: Any) -> bool:
    names = layer.active_adapters
    return (
        type(layer.get_base_layer()) is nn.Linear
        and names == list(layer.lora_A)
        and not layer.lora_variant
        and not layer.lora_bias[names[0]]
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
    )
