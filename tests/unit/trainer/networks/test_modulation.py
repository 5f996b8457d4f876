"""Modulation: noise and label scale and shift the channels of every block of a generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from support.training import make_state
from trainer.models import load_generator
from trainer.networks import Architecture, build
from trainer.networks.conditioning import Modulation
from trainer.run import checkpoint

WIDTHS, NOISE = (3, 1), 5
SHAPES = {
    "residual": {"channels": (6, 4)},
    "residual with two blocks": {"channels": (6, 4), "blocks": 2},
    "r3gan": {"channels": (8, 4), "group_width": 4, "blocks": 2},
}
every_shape = pytest.mark.parametrize("shape", SHAPES)


def make_generator(shape: str, modulation: bool = True) -> nn.Module:
    torch.manual_seed(0)
    fields = {"size": 8, "widths": WIDTHS, "noise": NOISE, "embedding": 4, **SHAPES[shape]}
    g, _ = build(Architecture(family=shape.split()[0], modulation=modulation, **fields))  # type: ignore[arg-type]
    return g.double()


def inputs(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise, labels and masks; the first label is unknown."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(count, NOISE, dtype=torch.float64, generator=generator)
    label, known = torch.zeros(count, 4, dtype=torch.float64), torch.ones(count, 2, dtype=torch.float64)
    label[torch.arange(count), torch.arange(count) % 3] = 1
    known[0] = 0
    return z, label, known


def modulations(g: nn.Module) -> list[Modulation]:
    return [layer for layer in g.modules() if isinstance(layer, Modulation)]


def test_modulation_by_hand() -> None:
    layer = Modulation(2, 1)
    h = torch.tensor([3.0, 5]).view(1, 1, 1, 2)
    assert torch.equal(layer(h, torch.randn(1, 2)), h)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0], [0, 10]]))
    # The factor is 1 + 1·2 = 3 and the offset 10·0.5 = 5.
    assert layer(h, torch.tensor([[2.0, 0.5]])).flatten().tolist() == [3 * 3 + 5, 3 * 5 + 5]


@every_shape
def test_a_modulated_generator_starts_as_the_one_without(shape: str) -> None:
    with_, without = make_generator(shape), make_generator(shape, modulation=False)
    weights = with_.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in without.state_dict().items())
    assert not modulations(without)
    for g in (with_, without):  # the blocks are no longer the identity
        torch.manual_seed(1)
        for name, p in g.named_parameters():
            if not p.any() and "modulation" not in name:
                nn.init.normal_(p)
    torch.testing.assert_close(with_(*inputs()), without(*inputs()), rtol=1e-12, atol=1e-12)


@every_shape
def test_noise_and_label_reach_every_block(shape: str) -> None:
    """Modulate one block at a time; without any, images do not depend on noise or label here."""
    g = make_generator(shape)
    for p in g.parameters():
        if not p.any():
            nn.init.normal_(p)
    layers = modulations(g)
    assert len(layers) == (2 if shape == "residual" else 4)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
        g.linear.register_forward_hook(lambda _, args, out: torch.ones_like(out))  # type: ignore[union-attr, operator]
        z, label, known = inputs()
        same = g(z, label, known)
        assert torch.equal(same[1:], same[:1].expand_as(same[1:]))
        for layer in layers:
            nn.init.normal_(layer.weight)
            x = g(z, label, known)
            for other in (g(z.roll(1, 0), label, known), g(z, label.roll(1, 0), known), g(z, label, 1 - known)):
                assert ((x - other).flatten(1).abs().amax(1) > 1e-6).any()
            layer.weight.zero_()


@every_shape
def test_a_modulated_generator_treats_samples_independently(shape: str) -> None:
    g = make_generator(shape)
    for p in g.parameters():
        nn.init.normal_(p, 0, 0.3)
    together = g(*inputs())
    separate = [g(*(tensor[i : i + 1] for tensor in inputs())) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(separate), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_a_modulated_generator_trains_in_bf16_and_is_loaded_from_its_checkpoint(family: str, tmp_path: Path) -> None:
    words = ("--family", family, "--channels", "16,8,8", "--modulation", "--label-size", "8")
    state, stream = make_state(tmp_path, *words, "--mixed-precision", "bf16", "--lr-g", "0.01")
    for number in range(3):
        assert all(value.isfinite() for value in state.step(stream[number]).metrics.values())
    assert all(layer.weight.any() for layer in modulations(state.g.module))
    checkpoint.save(tmp_path / "run", state.values(), state.tensors(), keep=1)
    g, architecture = load_generator(checkpoint.find(tmp_path / "run"), torch.device("cpu"))
    assert architecture.modulation
    expected = state.ema.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in g.state_dict().items())
