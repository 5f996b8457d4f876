"""The article's wide layer multiplies its weights as they are, also under autocast."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.networks.article import WideLinear


def test_gradients_of_a_wide_layer_are_those_of_autocast_up_to_rounding() -> None:
    torch.manual_seed(0)
    layer = WideLinear(7, 300)
    plain = torch.nn.Linear(7, 300)
    plain.load_state_dict(layer.state_dict())
    direction = torch.randn(5, 300)
    found = []
    for module in (layer, plain):
        x = torch.linspace(-1, 1, 35).view(5, 7).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        assert y.dtype == torch.bfloat16
        found.append([y, *torch.autograd.grad(y, (x, module.weight, module.bias), direction.to(y.dtype))])
    for own, theirs in zip(*found, strict=True):
        assert own.dtype == theirs.dtype
        torch.testing.assert_close(
            own.float(), theirs.float(), rtol=0.02, atol=0.02 * theirs.float().abs().max().item()
        )
    assert torch.equal(layer(x), plain(x)), "in full precision they are the same"


@pytest.mark.parametrize("grad", [False, True])
def test_trap_no_half_precision_copy_of_the_wide_weights_is_made(grad: bool) -> None:
    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            assert "_to_copy" not in str(func) or args[0].numel() != 7 * 300
            return func(*args, **kwargs or {})

    layer = WideLinear(7, 300)
    with Casts(), torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        layer(torch.ones(2, 7))
