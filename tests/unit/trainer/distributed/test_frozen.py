"""A frozen network is cast once per step, and comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from support.training import BATCH, make_batch, make_env, make_method, make_players
from trainer.config.network import CLASSIFYING, CONDITIONINGS
from trainer.step import generator_step


class Casts(TorchDispatchMode):
    """Counts the tensors that are cast from float32 to bf16, by their addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        cast: list[Tensor] = []
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            cast = [args[0]]
        elif func is torch.ops.aten._foreach_copy_.default:
            cast = args[1]
        for tensor in cast:
            self.counts[tensor.data_ptr()] = self.counts.get(tensor.data_ptr(), 0) + 1
        return func(*args, **kwargs)


def step(compiled: bool, parts: int, conditioning: str = "auto") -> tuple[list[int], list[Tensor]]:
    """Return how often each of D's weights was cast in G's step, and G's gradients."""
    d, g = make_players(torch.float32, conditioning=conditioning)
    d = replace(d, compiled=compiled)
    before = dict(d.module.named_parameters())
    counter = Casts()
    with counter:  # the relativistic loss scores real images too
        batches = make_batch(torch.float32).split(parts)
        generator_step(d, g, batches, BATCH, make_method("relativistic"), make_env("bf16"))
    after = dict(d.module.named_parameters())
    assert all(after[name] is before[name] and before[name].requires_grad for name in before) and len(after) > 5
    assert all(weight.dtype == torch.float32 and weight.grad is None for weight in before.values())
    addresses = {weight.data_ptr() for weight in before.values()}
    counts = [count for address, count in counter.counts.items() if address in addresses]
    return counts, [weight.grad for weight in g.module.parameters() if weight.grad is not None]


@pytest.mark.parametrize("parts", [1, 2])
def test_weights_of_a_frozen_network_are_cast_once_for_all_passes_of_a_step(parts: int) -> None:
    counts, gradients = step(compiled=False, parts=parts)
    usual_counts, usual = step(compiled=True, parts=parts)
    assert len(counts) == len(usual_counts) > 5
    assert set(counts) == {1}
    assert set(usual_counts) == {2 * parts}, "autocast casts them for real and for generated images, in each part"
    assert gradients and all(map(torch.equal, gradients, usual))


@pytest.mark.parametrize("conditioning", [name for name in CONDITIONINGS if name not in CLASSIFYING])
def test_a_step_with_weights_that_are_cast_beforehand_has_the_same_bits(conditioning: str) -> None:
    """A part that reads weights in full precision must not find them cast."""
    _, gradients = step(compiled=False, parts=1, conditioning=conditioning)
    _, usual = step(compiled=True, parts=1, conditioning=conditioning)
    assert gradients and all(map(torch.equal, gradients, usual))
