"""Networks: the article's layer by layer, every family at every size, and the contracts that the step relies on."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from shards.dataset.image_shape import ImageShape
from trainer.config.network import CLASSIFYING, EMBEDDING_ENTRIES, NetworkConfig
from trainer.losses import image_slopes
from trainer.networks import CONDITIONINGS, FAMILIES, Architecture, build, levels
from trainer.networks.article import ArticleDiscriminator
from trainer.networks.levelled import LevelledDiscriminator, LevelMean

WIDTHS = (12, 10, 10)


def article() -> tuple[nn.Module, nn.Module]:
    return build(Architecture(family="article", size=96, widths=WIDTHS, noise=100, embedding=0))


def made(family: str, size: int = 16, **options: object) -> tuple[nn.Module, nn.Module]:
    fields = {"family": family, "size": size, "widths": WIDTHS, "noise": 10, "embedding": 8} | options
    return build(Architecture(**fields))  # type: ignore[arg-type]


def residual(size: int = 16, **options: object) -> tuple[nn.Module, nn.Module]:
    return made("residual", size, **options)


def shapes(module: nn.Module, *inputs: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return class and output shape of every layer in a forward pass, in order."""
    passed: list[tuple[str, tuple[int, ...]]] = []
    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda m, _, out: passed.append((type(m).__name__, tuple(out.shape[1:]))))
    module(*inputs)
    return passed


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, 32), torch.ones(batch, 3)


def test_article_generator_layer_by_layer() -> None:
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


def test_article_discriminator_layer_by_layer() -> None:
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


def test_residual_blocks_per_level() -> None:
    one, two = (sum(p.numel() for p in residual(16, channels=(6, 5, 4), blocks=b)[0].parameters()) for b in (1, 2))
    assert two - one == sum(2 * (c * 9 + 1) * c for c in (6, 5, 4))
    generator, _ = residual(16, channels=(6, 5, 4), blocks=2)
    std = generator.blocks[0][1].first.weight.std().item()  # type: ignore[index, union-attr]
    assert std == pytest.approx((2 / (6 * 6 * 9)) ** 0.5, rel=0.15), "scaled by all six blocks"


def test_parameter_names_match_older_checkpoints() -> None:
    """Checkpoints and optimizer moments are looked up by parameter name."""
    generator, discriminator = residual(8, channels=(4, 4))
    assert {n.split(".")[0] for n in generator.state_dict()} == {
        *("embedding", "linear", "basis", "blocks", "widen", "to_picture")
    }
    assert {"blocks.1.first.weight", "head.embedding.null.weight", "head.psi.bias", "basis"} < set(
        discriminator.state_dict()
    )
    assert {n.rsplit(".", 1)[0] for n, _ in article()[1].named_parameters()} == {
        *("plane", "layers.0", "layers.3", "layers.7", "layers.9")
    }


@pytest.mark.parametrize("family", ["residual", "r3gan"])
@pytest.mark.parametrize("size", [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
def test_networks_at_every_size(family: str, size: int) -> None:
    generator, discriminator = made(family, size)
    images = generator(torch.randn(2, 10), *inputs())
    assert images.shape == (2, 3, size, size)
    assert discriminator(images, *inputs()).shape == (2,)


def test_option_choices_match_the_registries() -> None:
    fields = {field.name: field.metadata for field in dataclasses.fields(NetworkConfig)}
    assert set(fields["family"]["choices"]) == set(FAMILIES)
    assert set(fields["conditioning"]["choices"]) == {"auto", *CONDITIONINGS}
    assert set(CLASSIFYING) == {name for name, conditioning in CONDITIONINGS.items() if conditioning.classifies}
    assert set(EMBEDDING_ENTRIES) == {name for name, way in CONDITIONINGS.items() if way.embeds_entries}
    for family, conditioning in FAMILIES.items():
        assert NetworkConfig(family=family).resolved_conditioning == conditioning


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4, (4, 0)),
        (6, (6, 0)),
        (32, (4, 3)),
        (96, (6, 4)),
        (128, (4, 5)),
        (0, None),
        (5, None),
        (40, None),
        (100, None),
    ],
)
def test_trap_levels_of_96_pixels_start_at_6(size: int, expected: tuple[int, int] | None) -> None:
    assert levels(size, size) == (expected and ((expected[0],) * 2, expected[1]))


def test_invalid_shapes_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="not 40"):
        residual(40)
    with pytest.raises(ValueError, match=r"16x16 .* 3 levels, .* 2"):
        residual(16, channels=(4, 4))
    with pytest.raises(ValueError, match=r"r3gan .* 40"):
        made("r3gan", 40)
    with pytest.raises(ValueError, match=r"16 .* 12 channels \(6 times 2\)"):
        made("r3gan", 8, channels=(8, 6))
    with pytest.raises(ValueError, match=r"'r4gan'; .* article, residual, r3gan"):
        made("r4gan")
    with pytest.raises(ValueError, match=r"96x96, .* 32x32"):
        build(Architecture(family="article", size=32, widths=WIDTHS, noise=10, embedding=0))


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


def test_gradient_penalty_of_the_article_discriminator() -> None:
    """Compare the second derivative, through 5x5 convolutions and in-place activations, with a finite difference."""
    torch.manual_seed(0)
    widths = (12, 3, 10)
    d = ArticleDiscriminator(widths).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = (torch.rand(2, 3, 96, 96, dtype=torch.float64) * 2 - 1).requires_grad_()
    label, known = torch.rand(2, sum(widths)).double(), torch.ones(2, len(widths)).double()
    weight = d.get_parameter("layers.0.weight")
    penalty = image_slopes(d(images, label, known), images).square().sum()
    (gradient,) = torch.autograd.grad(penalty, weight)
    step = 1e-7 * torch.randn_like(weight)
    with torch.no_grad():
        weight += step
    change = image_slopes(d(images, label, known), images).square().sum() - penalty
    assert change.item() == pytest.approx((gradient * step).sum().item(), rel=1e-2)


@pytest.mark.parametrize("family", ["residual", "r3gan"])
@pytest.mark.parametrize("conditioning", ["projection", "plane"])
@pytest.mark.parametrize(
    ("channels", "aspect", "sides"), [(4, (1, 1), (24, 24)), (1, (2, 3), (24, 16)), (3, (3, 2), (16, 24))]
)
def test_networks_of_every_shape_carry_gradients_to_all_weights(
    family: str, conditioning: str, channels: int, aspect: tuple[int, int], sides: tuple[int, int]
) -> None:
    options: dict[str, Any] = {"conditioning": conditioning, "image_channels": channels, "aspect": aspect}
    architecture = Architecture(family=family, size=24, widths=WIDTHS, noise=10, embedding=8, **options)
    assert architecture.sides == sides
    generator, discriminator = build(architecture)
    images = generator(torch.randn(2, 10), *inputs())
    assert images.shape == (2, channels, *sides)
    discriminator(images, *inputs()).sum().backward()
    first, last = (
        dict(discriminator.named_parameters())["from_picture.weight"],
        dict(generator.named_parameters())["to_picture.weight"],
    )
    assert last.grad is not None and (last.grad.flatten(1).abs().sum(1) > 0).all()
    assert first.grad is not None and (first.grad[:, :channels].sum((0, 2, 3)) != 0).all()


def test_levels_agree_with_the_shape_of_a_dataset() -> None:
    for height, width in itertools.product(range(1, 70), repeat=2):
        found = levels(height, width)
        assert (found and found[0]) == ImageShape(3, height, width).base


@pytest.mark.parametrize(
    ("size", "aspect", "named"),
    [
        (64, (16, 9), "two small numbers"),
        (72, (9, 8), "two small numbers"),
        (60, (3, 4), r"longer side is 16, 32, 64, 128"),
        (60, (3, 2), r"longer side is 24, 48, 96"),
    ],
)
def test_what_can_be_had_is_named_for_an_unsupported_aspect(size: int, aspect: tuple[int, int], named: str) -> None:
    if size % max(aspect):
        size -= size % max(aspect)
    shape: dict[str, Any] = {"size": size, "aspect": aspect, "widths": WIDTHS, "noise": 10, "embedding": 8}
    with pytest.raises(ValueError, match=named):
        build(Architecture(family="r3gan", **shape))


def test_the_article_takes_square_rgb_alone() -> None:
    shape: dict[str, Any] = {"family": "article", "size": 96, "widths": WIDTHS, "noise": 10, "embedding": 0}
    with pytest.raises(ValueError, match="4 channels"):
        build(Architecture(image_channels=4, **shape))
    with pytest.raises(ValueError, match="72x96"):
        build(Architecture(aspect=(3, 4), **shape))


@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_an_image_kernel_that_sees_one_pixel_does_what_the_usual_one_does(family: str) -> None:
    shape: dict[str, Any] = {"channels": (8, 8), "group_width": 8, "size": 8, "image_channels": 4, "aspect": (4, 3)}
    z, images = torch.randn(2, 10), torch.randn(2, 4, 6, 8)
    pairs = zip(made(family, **shape), made(family, image_kernel=3, **shape), (z, images), strict=True)
    for small, large, given in pairs:
        weights = small.state_dict()
        for name in ("to_picture.weight", "from_picture.weight"):
            if name in weights:
                assert large.state_dict()[name].shape[2:] == (3, 3)
                weights[name] = nn.functional.pad(weights[name], (1, 1, 1, 1))
        large.load_state_dict(weights)
        torch.testing.assert_close(large(given, *inputs()), small(given, *inputs()))


def test_level_mean_by_hand() -> None:
    layer = LevelMean(2)
    with torch.no_grad():
        layer.detect.weight.copy_(torch.tensor([[1.0, -1], [0, 2]])[:, :, None, None])
        layer.detect.bias.copy_(torch.tensor([0.0, 1]))  # type: ignore[union-attr]
    x = torch.tensor([[[[3.0, 1]], [[1.0, 2]]]])  # one image of two pixels, with the channels (3, 1) and (1, 2)
    # Detected: 3 - 1 and 0.2 (1 - 2), whose mean is 0.9; 2·1 + 1 and 2·2 + 1, whose mean is 4.
    torch.testing.assert_close(layer(x), torch.tensor([[0.9, 4]]))


@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_the_head_sees_the_means_of_all_levels_after_the_lowest_level(family: str) -> None:
    shape: dict[str, Any] = {"channels": (24, 16, 8), "group_width": 8}
    (_, without), (_, d) = made(family, **shape), made(family, level_means=True, **shape)
    assert isinstance(d, LevelledDiscriminator) and d.means is not None and isinstance(without, LevelledDiscriminator)
    weights = d.state_dict()
    without.load_state_dict(
        {name: weights[name] if "head" not in name else w for name, w in without.state_dict().items()}
    )
    seen: list[torch.Tensor] = []
    for level in d.stages()[0]:
        level.register_forward_hook(lambda *args: seen.append(args[-1].clone()))
    images = torch.randn(2, 3, 16, 16)
    features = d.trunk(images)
    torch.testing.assert_close(features[:, :24], without.trunk(images))
    expected = torch.cat([mean(x) for mean, x in zip(d.means, seen, strict=False)], 1)
    assert features.shape == (2, 24 + 8 + 16) and expected.any()
    torch.testing.assert_close(features[:, 24:], expected)
