"""R3GAN against its paper: hand-computed sizes, initial weights, and the resampling filter."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from trainer.networks import Architecture, build
from trainer.networks.conditioning import LabelEmbedding, ProjectionHead
from trainer.networks.r3gan import Bottleneck, R3GANDiscriminator, R3GANGenerator

WIDTHS = (10,)
CIFAR = {"size": 32, "channels": (768,) * 4}
FFHQ = {"size": 64, "channels": (768, 768, 768, 768, 384)}
IMAGENET = {"size": 64, "channels": (1536, 1536, 1536, 1536, 768), "group_width": 32}
SIX = {"size": 96, "channels": (768, 768, 768, 768, 384)}


def r3gan(**options: object) -> tuple[R3GANGenerator, R3GANDiscriminator]:
    fields = {"family": "r3gan", "size": 16, "widths": WIDTHS, "noise": 64, "embedding": 8} | options
    return build(Architecture(**fields))  # type: ignore[arg-type, return-value]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def counted(channels: tuple[int, ...], expansion: int, group_width: int, blocks: int) -> int:
    """Count the parameters of the levels and their transitions."""
    total = 0
    for c in channels:
        wide = c * expansion
        total += blocks * (c * wide + wide + wide * group_width * 9 + wide + wide * c)
    return total + sum(a * b for a, b in pairwise(channels) if a != b)


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        (CIFAR, [96] * 4),
        (FFHQ, [96, 96, 96, 96, 48]),
        (IMAGENET, [96, 96, 96, 96, 48]),
        (SIX, [96, 96, 96, 96, 48]),
        ({"channels": (16, 8, 8), "expansion": 3, "group_width": 8, "blocks": 1}, [6, 3, 3]),
    ],
)
def test_published_sizes_by_hand(options: dict[str, object], groups: list[int]) -> None:
    with torch.device("meta"):
        generator, discriminator = r3gan(**options)
    channels, size = options["channels"], options.get("size", 16)
    assert isinstance(channels, tuple) and isinstance(size, int)
    base = size >> (len(channels) - 1)
    shape = (options.get("expansion", 2), options.get("group_width", 16), options.get("blocks", 2))
    levels = counted(channels, *shape)  # type: ignore[arg-type]
    first, last = channels[0], channels[-1]
    # label values and nulls, linear, basis, last convolution
    assert count(generator) == levels + (10 + 1) * 8 + (64 + 8) * first + first * base**2 + last * 3
    # first convolution, basis, label values and nulls, ψ
    assert count(discriminator) == levels + 3 * last + first * base**2 + (10 + 1) * first + first + 1
    found = [m.groups for m in generator.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert found == [g for g in groups for _ in range(shape[2])]  # type: ignore[call-overload]


def test_convolutions_have_no_bias_and_there_are_no_normalization_layers() -> None:
    for network in r3gan():
        assert all(m.bias is None for m in network.modules() if isinstance(m, nn.Conv2d))
        assert not any("Norm" in type(m).__name__ for m in network.modules())


def test_blocks_are_the_identity_at_initialization() -> None:
    for network in r3gan():
        for level in network.levels:
            x = torch.randn(2, level[0].widen.in_channels, 4, 4)  # type: ignore[index]
            assert torch.equal(level(x), x)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    generator, discriminator = r3gan(channels=(128, 96, 64))
    gain = (2 / (1 + 0.2**2)) ** 0.5
    fixup = 6 ** (-1 / 4)  # two blocks in each of three levels
    for network in (generator, discriminator):
        for block in (m for m in network.modules() if isinstance(m, Bottleneck)):
            c = block.widen.in_channels
            assert block.widen.weight.std().item() == pytest.approx(gain * fixup / c**0.5, rel=0.05)
            assert block.grouped.weight.std().item() == pytest.approx(gain * fixup / (16 * 9) ** 0.5, rel=0.05)
            assert not block.narrow.weight.any()
            assert not block.first.bias.any() and not block.second.bias.any()
    change = generator.transitions[0][0]  # type: ignore[index]
    assert isinstance(change, nn.Conv2d)
    assert change.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
    assert generator.linear.weight.std().item() == pytest.approx(72**-0.5, rel=0.05)
    assert generator.to_picture.weight.std().item() == pytest.approx(64**-0.5, rel=0.2)
    assert generator.basis.std().item() == pytest.approx(1, rel=0.05)
    assert discriminator.from_picture.weight.std().item() == pytest.approx(3**-0.5, rel=0.2)
    assert discriminator.basis.std().item() == pytest.approx(1 / 4, rel=0.05)


def test_block_by_hand() -> None:
    """On one pixel a 3x3 convolution reduces to its central weight, and a group of one channel to a factor."""
    block = Bottleneck(1, 2, 1, depth=1)
    with torch.no_grad():
        block.widen.weight.copy_(torch.tensor([1.0, -1]).view(2, 1, 1, 1))
        block.first.bias.copy_(torch.tensor([1.0, 2]))
        block.grouped.weight[:, 0, 1, 1] = torch.tensor([2.0, 10])
        block.second.bias.copy_(torch.tensor([0.0, 0.5]))
        block.narrow.weight.copy_(torch.tensor([1.0, 1]).view(1, 2, 1, 1))
    # 3 -> (3, -3) + (1, 2) = (4, -1) -> (4, -0.2) -> (8, -2) + (0, 0.5) -> (8, -0.3) -> 3 + 7.7
    assert block(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(10.7)


def test_memory_formats_agree() -> None:
    """Compare grouped convolutions forward, backward and double backward (as in the penalties)."""
    torch.manual_seed(0)
    generator, discriminator = (n.double() for n in r3gan(channels=(16, 8), size=8))
    for p in (*generator.parameters(), *discriminator.parameters()):
        nn.init.normal_(p, 0, 0.2)

    def results() -> list[torch.Tensor]:
        label, known = torch.eye(10, dtype=torch.float64)[:3], torch.ones(3, 1, dtype=torch.float64)
        x = generator(torch.linspace(-1, 1, 3 * 64, dtype=torch.float64).view(3, 64), label, known)
        logits = discriminator(x, label, known)
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        parameters = [*generator.parameters(), *discriminator.parameters()]
        return [x, logits, *torch.autograd.grad(logits.sum() + slope.square().sum(), parameters)]

    expected = results()
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for one, other in zip(expected, results(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_networks_use_the_shared_label_modules() -> None:
    generator, discriminator = r3gan()
    assert isinstance(generator.embedding, LabelEmbedding)
    assert isinstance(discriminator.head, ProjectionHead)
