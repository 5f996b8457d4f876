"""Changes of size: the [1, 2, 1] filter by hand, its precision, and the residual networks that use it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer.networks import Architecture, build
from trainer.networks.resampling import Downsample, Filter, Upsample
from trainer.networks.residual import HalveAndWiden, WidenAndDouble


def test_downsampling_by_hand() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0] = torch.tensor([4.0, 8, 12, 16])
    # Along the row, [1, 2, 1] / 4 with stride 2: (0 + 2·4 + 8) / 4, (8 + 2·12 + 16) / 4; across it 2/4, then 0.
    assert Downsample()(x)[0, 0].tolist() == [[2, 6], [0, 0]]


def test_upsampling_by_hand() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0] = torch.tensor([4.0, 8])
    # Along the row each value, their mean, and half of the last at the border; across it the row, then half of it.
    line = torch.tensor([4.0, 6, 8, 4])
    assert torch.equal(Upsample()(x)[0, 0], torch.stack([line, line / 2, 0 * line, 0 * line]))


def test_upsampling_is_the_transpose_of_downsampling_and_keeps_constants_inside() -> None:
    x, y = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    down, up = Downsample().double(), Upsample().double()
    torch.testing.assert_close(4 * (down(x) * y).sum(), (x * up(y)).sum())
    assert torch.equal(up(torch.ones(1, 2, 3, 3).double())[..., :5, :5], torch.ones(1, 2, 5, 5).double())
    assert torch.equal(down(torch.ones(1, 2, 6, 6).double())[..., 1:, 1:], torch.ones(1, 2, 2, 2).double())


@pytest.mark.parametrize("filtered", [Downsample(), Upsample()])
def test_filters_in_half_precision_are_those_of_float32_rounded_once(filtered: Filter) -> None:
    """On a CPU the filter runs in float32 and its result is cast back, also under autocast from float32."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    for given in (x, x.bfloat16()):
        expected = filtered(given.float())
        weights = torch.randn_like(expected).bfloat16().float()
        (gradient,) = torch.autograd.grad((expected * weights).sum(), x, retain_graph=True)
        with torch.autocast("cpu", torch.bfloat16):
            found = filtered(given)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, expected.bfloat16())
        (found_gradient,) = torch.autograd.grad((found.float() * weights).sum(), x, retain_graph=True)
        torch.testing.assert_close(found_gradient, gradient, atol=1e-6, rtol=1e-6)


def residual(resize: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    shape = {"size": 8, "widths": (3, 1), "noise": 5, "embedding": 4, "channels": (6, 4)}
    return build(Architecture(family="residual", resize=resize, **shape))  # type: ignore[arg-type]


def test_filtered_residual_networks_have_the_weights_of_those_that_average() -> None:
    for filtered, averaged in zip(residual("filter"), residual("average"), strict=True):
        expected = averaged.state_dict()
        assert filtered.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in filtered.state_dict().items())


@pytest.mark.parametrize("resize", ["average", "filter"])
def test_size_changes_of_residual_networks_by_hand(resize: str) -> None:
    """A pixel in the middle of an image spreads by [1, 3, 3, 1] / 4, or by the filter [1, 2, 1] / 2."""
    g, d = residual(resize)
    widen, halve = next(iter(g.widen)), next(iter(d.widen))  # type: ignore[arg-type]
    assert isinstance(widen, WidenAndDouble) and isinstance(halve, HalveAndWiden)
    line: dict[str, Tensor] = {
        "average": torch.tensor([0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0]),
        "filter": torch.tensor([0, 0.5, 1, 0.5, 0, 0, 0, 0]),
    }
    x = torch.zeros(1, 6, 4, 4)
    x[..., 1, 1] = 1
    torch.testing.assert_close(
        widen(x), torch.einsum("oi,y,x->oyx", widen.weight[:, :, 0, 0], *[line[resize]] * 2)[None]
    )
    edge = torch.zeros(1, 4, 8, 8)
    edge[..., 4:] = 1  # between two cells of an average, inside one of the filter's
    expected = torch.tensor({"average": [0, 0, 1.0, 1], "filter": [0, 0, 0.75, 1]}[resize])
    torch.testing.assert_close(halve(edge)[0, :, 1], halve.weight[:, :, 0, 0].sum(1)[:, None] * expected)
