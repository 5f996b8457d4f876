"""Augmentation against hand-computed cases, inverses and invariants; ADA's probability against its definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from support.training import augmented
from trainer.augment import Policy
from trainer.augment.adaptive import AdaptiveProbability
from trainer.augment.color import color_matrix, recolor
from trainer.augment.draws import Draws, uniform_sizes
from trainer.augment.geometry import blit, source_matrix, warp
from trainer.augment.pixels import weigh_by_alpha
from trainer.noise import draw, uniform

KINDS = ("color", "translation", "cutout")
POLICIES: list[Policy] = ["ada", KINDS, ("color",), ("translation",), ("cutout",), ()]
F64 = torch.float64


def noise(count: int = 8, side: int = 16, dtype: torch.dtype = F64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator, dtype=dtype) * 2 - 1


def smooth(count: int = 4, side: int = 48) -> Tensor:
    """Return slow waves, which bilinear sampling hardly blurs."""
    line = torch.linspace(0, 2, side, dtype=F64)
    phase = torch.arange(3 * count, dtype=F64).view(count, 3, 1, 1)
    return torch.sin(line[:, None] + phase) * torch.cos(1.3 * line + 0.5 * phase)


def changed(images: Tensor, policy: Policy = "ada", first: int = 0, p: float = 0.6, purpose: str = "test") -> Tensor:
    return augmented(images, policy, first, seed=3, purpose=purpose, p=p, flip=True)


def values(*numbers: float) -> list[Tensor]:
    return [torch.tensor([number], dtype=F64) for number in numbers]


# ---------------------------------------------------------------- draws


def test_uniform_draws_are_flat_in_the_open_interval_and_keyed() -> None:
    u = uniform(0, "test", torch.arange(4_000), 33)
    assert u.shape == (4_000, 33) and u.dtype == torch.float32
    assert u.min() > 0 and u.max() < 1
    assert torch.histc(u, 10, 0, 1).div(u.numel()).sub(0.1).abs().max() < 0.005
    assert (torch.corrcoef(u.T) - torch.eye(33)).abs().max() < 0.08
    assert torch.equal(u[7:9], uniform(0, "test", torch.tensor([7, 8]), 33))
    assert not torch.equal(u, uniform(0, "another", torch.arange(4_000), 33))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, F64])
def test_trap_rounding_does_not_reach_0_or_1(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in (0, 2**32 - 1):
        monkeypatch.setattr("shards.core.rng.bits", lambda _key, p, channel, word=word: p * 0 + channel * 0 + word)
        number = uniform(0, "test", torch.arange(1), 2, dtype)
        assert ((number > 0) & (number < 1)).all()
        assert Draws(["test"], {"test, even": number}).whole(17).item() == (16 if word else 0)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_changes_fire_with_probability_p(p: float) -> None:
    count = 10_000
    draws = Draws(["test"], draw(1, torch.arange(count), uniform=uniform_sizes(["test"], 4)))
    first, second = draws.fires(p), draws.fires(torch.tensor(p))
    within = 4 * math.sqrt(p * (1 - p) / count)
    for fired in (first, second):
        assert abs(fired.double().mean().item() - p) <= within
    assert abs((first & second).double().mean().item() - p * p) <= 4 * math.sqrt(p * p * (1 - p * p) / count)
    whole = draws.whole(5)
    assert set(whole.tolist()) == set(range(5))
    assert whole.bincount().div(count).sub(0.2).abs().max() < 0.016
    assert math.pi - 0.01 < draws.angle().abs().max() < math.pi


# ---------------------------------------------------------------- all policies


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("policy", POLICIES)
def test_augmented_sample_does_not_depend_on_its_batch(policy: Policy, dtype: torch.dtype) -> None:
    """Nor does it depend on the memory format, up to the rounding of sums in another order."""
    images = noise(12, dtype=dtype)
    whole = changed(images, policy, 100)
    assert whole.shape == images.shape and whole.dtype == dtype
    parts = [changed(images[a:b], policy, 100 + a) for a, b in ((0, 1), (1, 5), (5, 12))]
    for other in (torch.cat(parts), changed(images.contiguous(memory_format=torch.channels_last), policy, 100)):
        torch.testing.assert_close(other, whole, rtol=0, atol=100 * torch.finfo(dtype).eps)
    if policy:
        assert not torch.equal(changed(images, policy, 101), whole)
        assert not torch.equal(changed(images, policy, 100, purpose="another"), whole)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("policy", POLICIES)
def test_memory_format_is_kept(policy: Policy, memory: torch.memory_format) -> None:
    assert changed(noise().contiguous(memory_format=memory), policy).is_contiguous(memory_format=memory)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_are_correct(policy: Policy) -> None:
    images = noise(3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: changed(x, policy, 5, 0.7), images)


# ---------------------------------------------------------------- DiffAugment


def test_color_ranges() -> None:
    """All three factors follow from a black-and-white image with one red pixel."""
    x = torch.zeros(4_000, 3, 8, 8, dtype=F64)
    x[:, :, :4] = 0.5
    x[:, 0, 0, 0] += 0.3
    y = augmented(x, ("color",))
    brightness = y.mean((1, 2, 3)) - x.mean((1, 2, 3))  # neither saturation nor contrast changes the mean
    contrast = (y[:, :, 1, 0] - y[:, :, 7, 0]).mean(1) / 0.5
    saturation = (y[:, 0, 0, 0] - y[:, 1, 0, 0]) / 0.3 / contrast
    for found, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0, 2)):
        assert low <= found.min() < low + 0.01 and high - 0.01 < found.max() <= high
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=0.04)
    assert torch.corrcoef(torch.stack([brightness, contrast, saturation])).triu(1).abs().max() < 0.07


def test_translation_shifts_whole_pixels_and_fills_with_zeros() -> None:
    side = 16
    x = noise(1, side).expand(500, -1, -1, -1) + 3  # nowhere zero
    found = set()
    for y in augmented(x, ("translation",)):
        rows, columns = (y[0] != 0).any(1).nonzero().flatten(), (y[0] != 0).any(0).nonzero().flatten()
        down = rows[0].item() if rows[0] else rows[-1].item() - side + 1
        right = columns[0].item() if columns[0] else columns[-1].item() - side + 1
        found.add((down, right))
        expected = x[0].roll((int(down), int(right)), (1, 2))
        assert torch.equal(y[:, rows][:, :, columns], expected[:, rows][:, :, columns])
        assert len(rows) == side - abs(down) and len(columns) == side - abs(right)
    assert found == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}


def test_cutout_zeroes_a_square_of_half_the_side_anywhere() -> None:
    side = 8
    x = torch.ones(2_000, 3, side, side)
    y = augmented(x, ("cutout",))
    assert ((y == 0) | (y == 1)).all() and torch.equal(y[:, 0], y[:, 2])
    hole = (y[:, 0] == 0).double()
    heights, widths = hole.amax(2).sum(1), hole.amax(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}, "cut off at an edge by as much as half"
    line = torch.tensor([3, 4, 4, 4, 4, 4, 4, 3], dtype=F64) / 9  # over nine positions of the centre
    torch.testing.assert_close(hole.mean(0), line[:, None] * line, rtol=0, atol=0.036)


def test_half_of_the_images_are_mirrored_if_flip_is_set() -> None:
    x = noise(1, 4).expand(2_000, -1, -1, -1)
    assert torch.equal(augmented(x, ()), x)
    y = augmented(x, (), flip=True)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    assert torch.equal(y[~mirrored], x[~mirrored])
    assert abs(mirrored.double().mean().item() - 0.5) < 0.05


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_diff_augment_changes_a_fraction_p_of_the_images_and_those_as_at_p_one(p: float) -> None:
    x = noise(1, 8).repeat(1_000, 1, 1, 1)
    always, sometimes = changed(x, KINDS, p=1.0), changed(x, KINDS, p=p)
    touched = (sometimes != x).flatten(1).any(1)
    assert torch.equal(sometimes[touched], always[touched])
    assert abs(touched.double().mean().item() - p) <= 4 * math.sqrt(p * (1 - p) / 1_000)


# ---------------------------------------------------------------- ADA's transforms


def test_blits_are_exact_and_inverted_by_their_inverses() -> None:
    x = noise(4)
    no, zeros, turns = torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.long), torch.arange(4)
    assert torch.equal(blit(x, no, zeros, zeros, zeros), x)
    assert torch.equal(blit(x, ~no, zeros, zeros, zeros), x.flip(3))
    turned = blit(x, no, turns, zeros, zeros)
    for number, (before, after) in enumerate(zip(x, turned, strict=True)):
        assert torch.equal(after, before.rot90(number, (1, 2)))
    assert torch.equal(blit(turned, no, (4 - turns) % 4, zeros, zeros), x)
    both = blit(x, ~no, turns, zeros, zeros)
    assert torch.equal(both, blit(x.flip(3), no, turns, zeros, zeros)), "mirrored first"
    assert torch.equal(blit(blit(x, ~no, zeros, zeros, zeros), ~no, zeros, zeros, zeros), x)
    shifted = blit(x, no, zeros, zeros + 3, zeros - 2)
    assert torch.equal(shifted[..., :-2, 3:], x[..., 2:, :-3])
    assert torch.equal(shifted[..., :3], shifted[..., 3:6].flip(3)), "reflected at the edge"
    assert torch.equal(shifted[..., -2:, :], shifted[..., -4:-2, :].flip(2))
    back = blit(shifted, no, zeros, zeros - 3, zeros + 2)
    assert torch.equal(back[..., 2:, :-3], x[..., 2:, :-3])


def forward_matrix(zoom: float, before: float, stretch: float, after: float, right: float, down: float) -> Tensor:
    """Return G as composed in the paper, a product of 3x3 matrices."""

    def turn(a: float) -> Tensor:
        return torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]], dtype=F64)

    scales = (torch.tensor([sx, sy, 1], dtype=F64).diag() for sx, sy in ((zoom, zoom), (stretch, 1 / stretch)))
    zoomed, stretched = scales
    moved = torch.tensor([[1, 0, 2 * right], [0, 1, 2 * down], [0, 0, 1]], dtype=F64)
    return moved @ turn(after) @ stretched @ turn(before) @ zoomed


def test_source_matrix_is_the_inverse_of_the_transform() -> None:
    parameters = (1.2, 0.5, 0.8, -2.0, 0.1, -0.3)
    source = torch.cat([source_matrix(*values(*parameters))[0], torch.tensor([[0, 0, 1]], dtype=F64)])
    torch.testing.assert_close(source @ forward_matrix(*parameters), torch.eye(3, dtype=F64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ((1.3, 0, 1, 0, 0, 0), (1 / 1.3, 0, 1, 0, 0, 0)),
        ((1, 0.4, 1, 0, 0, 0), (1, -0.4, 1, 0, 0, 0)),
        ((1, 0, 1.2, 0, 0, 0), (1, 0, 1 / 1.2, 0, 0, 0)),
        ((1, 0, 1, 0.4, 0, 0), (1, 0, 1, -0.4, 0, 0)),
        ((1, 0, 1, 0, 0.07, -0.11), (1, 0, 1, 0, -0.07, 0.11)),
        ((1, 0.7, 1.2, -0.3, 0, 0), (1, 0.3, 1 / 1.2, -0.7, 0, 0)),
    ],
)
def test_warp_is_inverted_by_its_inverse(there: tuple[float, ...], back: tuple[float, ...]) -> None:
    x = smooth()
    moved = warp(x, source_matrix(*values(*there)).expand(len(x), -1, -1))
    returned = warp(moved, source_matrix(*values(*back)).expand(len(x), -1, -1))
    middle = slice(14, -14)  # the border contains reflections
    assert (moved - x)[..., middle, middle].abs().max() > 0.02
    assert (returned - x)[..., middle, middle].abs().max() < 2e-3


def test_warps_shift_rotate_and_zoom_as_documented() -> None:
    x = smooth(side=32)

    def warped(*parameters: float) -> Tensor:
        return warp(x, source_matrix(*values(*parameters)).expand(len(x), -1, -1))

    inside = torch.testing.assert_close
    inside(warped(1, 0, 1, 0, 4 / 32, -2 / 32)[..., :-2, 4:], x[..., 2:, :-4])  # right and up
    inside(warped(1, math.pi / 2, 1, 0, 0, 0), x.rot90(-1, (2, 3)))  # clockwise
    inside(warped(2, 0, 1, 0, 0, 0)[..., ::2, ::2].mean((2, 3)), x[..., 8:-8, 8:-8].mean((2, 3)), rtol=0, atol=0.02)


def test_color_matrices_by_hand() -> None:
    def matrix(b: float = 0, c: float = 1, luma: float = 1, hue: float = 0, s: float = 1) -> Tensor:
        return color_matrix(*values(b, c, luma, hue, s))[0]

    identity = torch.eye(3, 4, dtype=F64)
    offset = torch.tensor([[0, 0, 0, 1]] * 3, dtype=F64)
    grey = torch.full((3, 3), 1 / 3, dtype=F64)
    assert torch.equal(matrix(), identity)
    cases = [
        (matrix(b=0.2), identity + 0.2 * offset),
        (matrix(c=2), 2 * identity),
        (matrix(b=0.2, c=2), 2 * identity + 0.4 * offset),  # brightness comes first
        (matrix(luma=-1)[:, :3], torch.eye(3, dtype=F64) - 2 * grey),
        (matrix(s=0)[:, :3], grey),
        (matrix(hue=2 * math.pi / 3)[:, :3], torch.eye(3, dtype=F64).roll(1, 0)),  # red, green and blue are permuted
        (matrix(hue=1)[:, :3] @ matrix(hue=-1)[:, :3], torch.eye(3, dtype=F64)),
        (matrix(s=4)[:, :3] @ matrix(s=0.25)[:, :3], torch.eye(3, dtype=F64)),
    ]
    for found, expected in cases:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # All together: the product of the single changes, in the paper's order.
    product = matrix(s=3)[:, :3] @ matrix(hue=0.7)[:, :3] @ matrix(luma=-1)[:, :3] @ (0.6 * identity + 0.06 * offset)
    torch.testing.assert_close(matrix(0.1, 0.6, -1, 0.7, 3), product, rtol=0, atol=1e-12)


def test_recolor_maps_each_pixel() -> None:
    x = noise(2)
    matrix = color_matrix(*(v.repeat(2) for v in values(0.1, 0.6, -1, 0.7, 3)))
    expected = torch.einsum("ij,bjhw->bihw", matrix[0, :, :3], x) + matrix[0, :, 3].view(3, 1, 1)
    torch.testing.assert_close(recolor(x, matrix), expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- ADA's pipeline


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_at_p_zero_ada_is_the_identity_bit_for_bit(dtype: torch.dtype) -> None:
    x = noise(64, dtype=dtype)
    x[0, 0, 0, :2] = torch.tensor([-0.0, 1e-30])
    y = changed(x, p=0.0)
    assert torch.equal(y.view(torch.uint8), x.view(torch.uint8))


def test_ada_leaves_the_expected_fraction_of_images_unchanged() -> None:
    """Of eleven changes, a fired mirror or luma flip has no effect in 1/2 of the cases, a fired turn in 1/4."""
    count, p = 4_000, 0.08
    x = noise(1, 16, torch.float32).expand(count, -1, -1, -1)
    same = (changed(x, p=p) == x).flatten(1).all(1).double().mean().item()
    shift = p * (1 - 1 / 16)  # of (-2, 2)² px, rounded, a sixteenth is (0, 0)
    expected = (1 - p / 2) ** 2 * (1 - 3 / 4 * p) * (1 - shift) * (1 - p) ** 8
    assert same == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count))


def test_at_p_one_every_image_changes() -> None:
    x = noise(500, dtype=torch.float32)
    y = changed(x, p=1.0)
    assert (y != x).flatten(1).any(1).all()
    assert y.isfinite().all()


def test_without_flip_ada_neither_mirrors_nor_rotates_by_quarter_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, tuple[Tensor, Tensor]] = {}
    flip = False

    def watched(images: Tensor, mirrored: Tensor, turns: Tensor, right: Tensor, down: Tensor) -> Tensor:
        seen[flip] = (mirrored, turns)
        assert right.abs().max() == down.abs().max() == 2
        return blit(images, mirrored, turns, right, down)

    monkeypatch.setattr("trainer.augment.ada.blit", watched)
    for flip in (False, True):
        augmented(noise(200), "ada", p=0.9, flip=flip)
    assert not seen[False][0].any() and not seen[False][1].any()
    assert 0.3 < seen[True][0].double().mean() < 0.6
    assert set(seen[True][1].tolist()) == {0, 1, 2, 3}


# ---------------------------------------------------------------- ADA's probability


def alone(tensor: Tensor) -> Tensor:
    return tensor


def fresh(speed: float = 80) -> AdaptiveProbability:
    return AdaptiveProbability(0.5, speed, 10, torch.device("cpu"), torch.float32)


def follow(p: AdaptiveProbability, signs: list[int], first: int = 0, add: Callable[[Tensor], Tensor] = alone) -> list:
    found = []
    for step, total in enumerate(signs, first):
        p.count(torch.tensor(total / 10))
        p.update(step, add)
        found.append(p.p.item())
    return found


def test_p_follows_a_hand_computed_sequence() -> None:
    """Use batches of 10: p changes by 40/80 = 1/2 every 4 steps; the target is a sum of 20 over 40 images."""
    four_steps = [
        ((10, 10, 2, 0), 0.5),  # 22: up
        ((5, 5, 5, 5), 0.5),  # 20: on target
        ((10, 10, 10, 10), 1.0),
        ((10, 10, 10, 10), 1.0),  # clamped
        ((4, 5, 5, 5), 0.5),  # 19: down
        ((-10, -10, -10, -10), 0.0),
        ((-10, -10, -10, -10), 0.0),
    ]
    p, step, before = fresh(), 0, 0.0
    for signs, after in four_steps:
        assert follow(p, list(signs), step) == [before] * 3 + [after]
        step, before = step + 4, after


def test_p_rises_to_one_in_speed_images() -> None:
    assert follow(fresh(400), [10] * 40)[35:] == pytest.approx([0.9, 0.9, 0.9, 0.9, 1.0])


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6])
def test_p_is_unchanged_by_a_resume_within_an_interval(stop: int) -> None:
    signs = [9, 3, 7, 2, 1, 10, 4, 6]
    unbroken = follow(fresh(), signs)
    first = fresh()
    before = follow(first, signs[:stop])
    first.gather_on_rank0(alone, True)
    second = fresh()
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, True)
    assert before + follow(second, signs[stop:], stop) == unbroken


def test_all_ranks_have_the_same_p_and_rank_0_saves_the_total() -> None:
    """Split a batch of 10 over two ranks; rank 0 saves the sum of both."""
    one, two = fresh(), fresh()

    def both(_: Tensor) -> Tensor:
        return one.signs + two.signs

    one.count(torch.tensor(0.3))
    two.count(torch.tensor(0.4))
    total = both(one.signs)
    one.gather_on_rank0(lambda _: total, True)
    two.gather_on_rank0(lambda _: total, False)
    assert [p.tensors()["signs"].item() for p in (one, two)] == [7, 0]
    for p, first in ((one, True), (two, False)):
        p.load({"p": torch.tensor(0.25), "signs": torch.tensor(7.0)}, first)
    assert both(one.signs).item() == 7


# ---------------------------------------------------------------- other shapes


def other(channels: int, height: int, width: int, count: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=generator, dtype=F64) * 2 - 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (4, 16, 16), (3, 12, 16), (4, 16, 12)])
def test_every_policy_keeps_shape_and_gradients_of_any_image(
    policy: Policy, channels: int, height: int, width: int
) -> None:
    images = other(channels, height, width).requires_grad_()
    result = changed(images, policy)
    assert result.shape == images.shape and result.isfinite().all()
    (gradient,) = torch.autograd.grad(result.square().sum(), images)
    assert gradient.isfinite().all() and (gradient != 0).any()
    assert torch.equal(changed(images, policy, p=0.0), images) or policy == ()


@pytest.mark.parametrize("policy", ["ada", KINDS])
def test_grey_changes_as_its_equal_in_rgb(policy: Policy) -> None:
    grey = other(1, 16, 12)
    as_rgb = changed(grey.expand(-1, 3, -1, -1).contiguous(), policy)
    torch.testing.assert_close(changed(grey, policy).expand(-1, 3, -1, -1), as_rgb)


@pytest.mark.parametrize("policy", ["ada", KINDS])
def test_opaque_images_change_as_rgb_does(policy: Policy) -> None:
    rgb = other(3, 16, 12)
    opaque = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)
    result, expected = changed(opaque, policy), changed(rgb, policy)
    kept = result[:, 3:] > 1 - 1e-9  # not what a cutout or a translation has left blank
    torch.testing.assert_close(result[:, :3] * kept, expected * kept)
    if policy == "ada":
        assert kept.all()


def test_colors_change_nothing_where_an_image_is_transparent() -> None:
    images = other(4, 16, 16)
    images[:, 3, :8] = -1
    for policy in ("ada", ("color",)):
        result = changed(weigh_by_alpha(images), policy, p=1.0)
        invisible = result[:, 3:] < -1 + 1e-9
        assert invisible.any() and (result[:, :3] * invisible).abs().max() < 1e-9


def test_what_is_erased_is_transparent() -> None:
    result = changed(torch.ones(8, 4, 16, 16, dtype=F64), ("cutout",), p=1.0)
    blank = (result == torch.tensor([0.0, 0, 0, -1], dtype=F64)[:, None, None]).all(1)
    assert blank.flatten(1).any(1).all() and (result.amin(1) == 1)[~blank].all()


def test_colors_are_weighted_by_opacity() -> None:
    pixel = torch.tensor([0.8, -0.4, 0.2, 0.0], dtype=F64).view(1, 4, 1, 1)
    assert weigh_by_alpha(pixel).flatten().tolist() == pytest.approx([0.4, -0.2, 0.1, 0])
    beyond = torch.tensor([0.8, -0.4, 0.2, 3.0], dtype=F64).view(1, 4, 1, 1)
    assert weigh_by_alpha(beyond).flatten().tolist() == pytest.approx([0.8, -0.4, 0.2, 3])
    assert weigh_by_alpha(pixel[:, :3]).flatten().tolist() == pixel[:, :3].flatten().tolist()


@pytest.mark.parametrize(("height", "width"), [(24, 48), (48, 36)])
def test_rotations_keep_angles_in_images_that_are_not_square(height: int, width: int) -> None:
    """A disc turns into itself; in [-1, 1]² it would become an ellipse. Edges are reflected, and not looked at."""
    y, x = torch.arange(height, dtype=F64), torch.arange(width, dtype=F64)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    distance = (y[:, None].square() + x.square()).sqrt()
    disc = torch.sigmoid(8 - distance)[None, None]
    one, none = values(1.0)[0], values(0.0)[0]
    turned = warp(disc, source_matrix(one, values(0.7)[0], one, none, none, none, sides=(height, width)))
    inside = distance < min(height, width) / 2 - 1
    assert (turned - disc)[0, 0, inside].abs().max() < 0.06
    sheared = warp(disc, source_matrix(one, values(0.7)[0], one, none, none, none))
    assert (sheared - disc)[0, 0, inside].abs().max() > 0.2


@pytest.mark.parametrize(("height", "width"), [(6, 9), (9, 6), (8, 8)])
def test_blits_of_any_aspect_by_hand(height: int, width: int) -> None:
    images = torch.arange(height * width, dtype=F64).view(1, 1, height, width)
    whole = {"right": torch.tensor([2]), "down": torch.tensor([1])}
    still = {name: torch.tensor([0]) for name in whole}
    no, yes = torch.tensor([False]), torch.tensor([True])
    assert torch.equal(blit(images, yes, torch.tensor([0]), **still), images.flip(3))
    assert torch.equal(blit(images, no, torch.tensor([2]), **still), images.flip(2, 3))
    shifted = blit(images, no, torch.tensor([0]), **whole)
    assert torch.equal(shifted[..., 1:, 2:], images[..., :-1, :-2])
    assert torch.equal(shifted[..., 0, 2:], images[..., 0, :-2])
    assert torch.equal(shifted[..., 1:, :2], images[..., :-1, :2].flip(3))
