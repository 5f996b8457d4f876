"""Freeze a network for a step of another one, with its weights in the precision of the step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def frozen(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Let a module get no gradients, and put it in evaluation mode, which it keeps. Parameters without any stay so.

    Autocast casts the weights of convolutions and linear layers at each use, unless they require gradients: then it
    keeps them until its context ends. Those of a frozen module do not, so they are cast here, once for all forward
    passes of the step. The results have the same bits.

    Args:
        module: none of its parameters may change in this context.
        dtype: that of autocast; None: there is no autocast.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.requires_grad_(False).eval()
    held = [] if dtype is None else list(_cast_by_autocast(module))
    weights = [weight for _, _, weight in held]
    casts = [torch.empty_like(weight, dtype=dtype) for weight in weights]
    if casts:
        torch._foreach_copy_(casts, tuple(weights))  # pyright: ignore[reportPrivateImportUsage]
    for (layer, name, _), cast in zip(held, casts, strict=True):
        layer._parameters[name] = nn.Parameter(cast, requires_grad=False)
    try:
        yield
    finally:
        for layer, name, weight in held:
            layer._parameters[name] = weight
        for parameter in trained:
            parameter.requires_grad_(True)


def _cast_by_autocast(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Yield the layers whose parameters autocast casts, and these parameters, with their names.

    A linear layer of one output is left out: it is small, and a projection head reads its weights in full precision.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and layer.out_features > 1):
            yield from ((layer, name, weight) for name, weight in layer._parameters.items() if weight is not None)
