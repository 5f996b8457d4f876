"""Networks: the article's to the layer, every family for every size, and the contracts that the step relies on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.networks import Architecture, build, levels
from trainer.networks.conditioning import LabelEmbedding, ProjectionHead

WIDTHS = (12, 10, 10)


def article() -> tuple[nn.Module, nn.Module]:
    return build(Architecture(family="article", size=96, widths=WIDTHS, noise=100, embedding=0))


def residual(size: int = 16, **options: object) -> tuple[nn.Module, nn.Module]:
    fields = {"family": "residual", "size": size, "widths": WIDTHS, "noise": 10, "embedding": 8} | options
    return build(Architecture(**fields))  # type: ignore[arg-type]


def shapes(module: nn.Module, *inputs: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Class and output shape of every layer that a forward passes, in order."""
    passed: list[tuple[str, tuple[int, ...]]] = []
    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda m, _, out: passed.append((type(m).__name__, tuple(out.shape[1:]))))
    module(*inputs)
    return passed


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, 32), torch.ones(batch, 3)


def test_article_generator_to_the_layer() -> None:
    generator, _ = article()
    assert shapes(generator, torch.randn(2, 100), *inputs()) == [
        ("LabelMask", (32,)),
        ("Linear", (15 * 192 * 192,)),
        ("BatchNorm2d", (15, 192, 192)),
        ("ReLU", (15, 192, 192)),
        ("Conv2d", (50, 192, 192)),
        ("BatchNorm2d", (50, 192, 192)),
        ("ReLU", (50, 192, 192)),
        ("Conv2d", (25, 192, 192)),
        ("BatchNorm2d", (25, 192, 192)),
        ("ReLU", (25, 192, 192)),
        ("Conv2d", (3, 96, 96)),
        ("Tanh", (3, 96, 96)),
    ]
    # By hand: (100+32+1)·552960, 2·15, (15·9+1)·50, 2·50, (50·9+1)·25, 2·25, (25·4+1)·3.
    assert sum(p.numel() for p in generator.parameters()) == 73_543_680 + 30 + 6_800 + 100 + 11_275 + 50 + 303


def test_article_discriminator_to_the_layer() -> None:
    _, discriminator = article()
    assert shapes(discriminator, torch.randn(2, 3, 96, 96), *inputs()) == [
        ("LabelMask", (32,)),
        ("Linear", (96 * 96,)),
        ("Conv2d", (32, 96, 96)),
        ("LeakyReLU", (32, 96, 96)),
        ("AvgPool2d", (32, 48, 48)),
        ("Conv2d", (64, 48, 48)),
        ("LeakyReLU", (64, 48, 48)),
        ("AvgPool2d", (64, 16, 16)),
        ("Flatten", (16_384,)),
        ("Linear", (1024,)),
        ("LeakyReLU", (1024,)),
        ("Linear", (1,)),
    ]
    # By hand: (32+1)·9216, (4·25+1)·32, (32·25+1)·64, (16384+1)·1024, 1025.
    assert sum(p.numel() for p in discriminator.parameters()) == 304_128 + 3_232 + 51_264 + 16_778_240 + 1_025


def test_residual_parameter_counts_by_hand() -> None:
    generator, discriminator = residual(16, channels=(6, 5, 4))
    blocks = sum(2 * (c * 9 + 1) * c for c in (6, 5, 4))
    widen = 6 * 5 + 5 * 4
    generator_head = (32 + 3) * 8 + (10 + 8) * 6 + 6 * 4 * 4  # label values and nulls, linear, basis
    assert sum(p.numel() for p in generator.parameters()) == blocks + widen + generator_head + (4 + 1) * 3
    discriminator_head = 6 * 4 * 4 + (32 + 3) * 6 + (6 + 1)  # basis, label values and nulls, psi
    assert sum(p.numel() for p in discriminator.parameters()) == blocks + widen + (3 + 1) * 4 + discriminator_head


@pytest.mark.parametrize("size", [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
def test_residual_networks_of_every_size(size: int) -> None:
    generator, discriminator = residual(size)
    pictures = generator(torch.randn(2, 10), *inputs())
    assert pictures.shape == (2, 3, size, size)
    assert discriminator(pictures, *inputs()).shape == (2,)


@pytest.mark.parametrize(
    ("size", "expected"), [(4, 1), (6, 1), (32, 4), (96, 5), (128, 6), (0, 0), (5, 0), (40, 0), (100, 0)]
)
def test_levels(size: int, expected: int) -> None:
    assert levels(size) == expected


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="not 40"):
        residual(40)
    with pytest.raises(ValueError, match="3 levels, the channels name 2"):
        residual(16, channels=(4, 4))
    with pytest.raises(ValueError, match="96x96, the pictures are 32x32"):
        build(Architecture(family="article", size=32, widths=WIDTHS, noise=10, embedding=0))


@pytest.mark.parametrize("family", ["article", "residual"])
def test_discriminators_treat_samples_independently(family: str) -> None:
    """The step's one concatenated pass is only right if D(cat)[:B] == D(real)."""
    torch.manual_seed(0)
    _, discriminator = article() if family == "article" else residual(16)
    discriminator.double()
    size = 96 if family == "article" else 16
    real, fake = (torch.randn(3, 3, size, size, dtype=torch.float64) for _ in range(2))
    label, known = (t.double() for t in inputs(3))
    label[:, 3] = 1
    wrong = label.roll(1, 1)
    rows = torch.arange(9) % 6
    together = discriminator(torch.cat([real, fake]), torch.cat([label, label, wrong]), known.repeat(3, 1), rows)
    apart = [discriminator(x, y, known) for x, y in ((real, label), (fake, label), (real, wrong))]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", ["article", "residual"])
def test_an_unknown_label_gives_the_same_logits_whatever_its_value_bits(family: str) -> None:
    torch.manual_seed(0)
    generator, discriminator = article() if family == "article" else residual(16)
    size, noise = (96, 100) if family == "article" else (16, 10)
    x, z, known = torch.randn(2, 3, size, size), torch.randn(2, noise), torch.tensor([[1.0, 0, 1]] * 2)
    bits, noise_bits = torch.zeros(2, 32), torch.zeros(2, 32)
    noise_bits[:, 12:22] = torch.randn(2, 10)
    generator.eval()
    assert torch.equal(discriminator(x, bits, known), discriminator(x, noise_bits, known))
    assert torch.equal(generator(z, bits, known), generator(z, noise_bits, known))
    noise_bits[:, 0] = 1  # an attribute that is known
    assert not torch.equal(discriminator(x, bits, known), discriminator(x, noise_bits, known))


def test_projection_head_scores_unlabelled_pictures() -> None:
    """Trap: without ψ and null embeddings the logit of a picture without label is identically 0."""
    head = ProjectionHead(WIDTHS, 8)
    h = torch.randn(4, 8, requires_grad=True)
    logits = head(h, torch.zeros(4, 32), torch.zeros(4, 3))
    logits.sum().backward()
    assert h.grad is not None and h.grad.abs().min() > 0


def test_label_embedding_by_hand() -> None:
    embedding = LabelEmbedding((2, 1), 2)
    with torch.no_grad():
        embedding.value.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
        embedding.null.weight.copy_(torch.tensor([[10.0, 20], [30, 40]]))
    label, known = torch.tensor([[0.0, 1, 1]]), torch.tensor([[1.0, 0]])
    assert embedding(label, known).tolist() == [[2 + 20, 5 + 40]]


@pytest.mark.parametrize("channels_last", [False, True])
def test_article_label_plane_is_the_fourth_channel(channels_last: bool) -> None:
    _, discriminator = article()
    if channels_last:
        discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    planes: list[torch.Tensor] = []
    discriminator.layers[0].register_forward_pre_hook(lambda _, args: planes.append(args[0]))  # type: ignore[union-attr]
    x, (label, known) = torch.randn(2, 3, 96, 96), inputs()
    label[:, 5] = 1
    discriminator(x, label, known)
    assert torch.equal(planes[0][:, :3], x)
    assert torch.equal(planes[0][:, 3].reshape(2, -1), discriminator.plane(label))  # type: ignore[operator]
