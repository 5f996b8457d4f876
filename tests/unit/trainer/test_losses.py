"""Losses against values computed by hand, penalties against analytic gradients and finite differences."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from trainer.config import load
from trainer.config.method import JOINT_LOSSES
from trainer.config.registries import registry_keys
from trainer.losses import LOSSES, class_loss, image_slopes

REAL, FAKE, WRONG = (torch.tensor(v, dtype=torch.float64) for v in ([2.0, -0.5], [-1.0, 0.25], [0.5, -3.0]))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_matching_aware_by_hand() -> None:
    loss = LOSSES["matching-aware"]
    by_hand = softplus(-2) + softplus(0.5) + softplus(-1) + softplus(0.25)
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(by_hand, abs=1e-12)
    assert loss.mismatch(REAL, WRONG).tolist() == pytest.approx([softplus(0.5), softplus(-3)], abs=1e-12)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(softplus(1) + softplus(-0.25), abs=1e-12)


def test_matching_aware_equals_the_binary_cross_entropy_of_the_article() -> None:
    """The article's form: sigmoid, then BCELoss, real -> 1, fake -> 0, wrong -> 0."""
    bce = torch.nn.BCELoss(reduction="sum")
    loss = LOSSES["matching-aware"]
    one, zero = torch.ones_like(REAL), torch.zeros_like(REAL)
    article = bce(REAL.sigmoid(), one) + bce(FAKE.sigmoid(), zero) + bce(WRONG.sigmoid(), zero)
    ours = loss.discriminator(REAL, FAKE) + loss.mismatch(REAL, WRONG).sum()
    torch.testing.assert_close(ours, article)


def test_hinge_by_hand() -> None:
    loss = LOSSES["hinge"]
    assert loss.discriminator(REAL, FAKE).item() == 0 + 1.5 + 0 + 1.25
    assert loss.mismatch(REAL, WRONG).tolist() == [1.5, 0]
    assert loss.generator(FAKE, REAL).item() == 1 - 0.25


def test_least_squares_by_hand() -> None:
    loss = LOSSES["least-squares"]
    assert loss.discriminator(REAL, FAKE).item() == (1 + 1.5**2 + 1 + 0.25**2) / 2
    assert loss.mismatch(REAL, WRONG).tolist() == [0.125, 4.5]
    assert loss.generator(FAKE, REAL).item() == (4 + 0.75**2) / 2


def test_relativistic_by_hand() -> None:
    loss = LOSSES["relativistic"]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(softplus(-3) + softplus(0.75), abs=1e-12)
    assert loss.mismatch(REAL, WRONG).tolist() == pytest.approx([softplus(-1.5), softplus(-2.5)], abs=1e-12)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(softplus(3) + softplus(-0.75), abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_have_the_right_signs(name: str) -> None:
    """Better for D: real up, fake and wrong down. Better for G: fake up."""
    loss = LOSSES[name]
    real, fake, wrong = (torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True) for _ in range(3))
    (loss.discriminator(real, fake) + loss.mismatch(real, wrong).sum()).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all() and (wrong.grad > 0).all()  # type: ignore[operator]
    fake.grad = None
    loss.generator(fake, real.detach()).backward()
    assert (fake.grad < 0).all()  # type: ignore[operator]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_for_large_logits(name: str) -> None:
    loss = LOSSES[name]
    far = torch.tensor([1e4, -1e4])
    for value in (loss.discriminator(far, -far), loss.generator(far, -far), loss.mismatch(far, -far).sum()):
        assert value.isfinite()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_sums(name: str) -> None:
    """Sums add up over any split of the batch; means would not."""
    loss = LOSSES[name]
    parts = loss.discriminator(REAL[:1], FAKE[:1]) + loss.discriminator(REAL[1:], FAKE[1:])
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), parts)


def test_penalty_of_a_linear_critic_is_its_weight() -> None:
    weight = torch.randn(3 * 4 * 4, dtype=torch.float64)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = image_slopes(x.flatten(1) @ weight, x).square().sum()
    assert penalty.item() == pytest.approx(5 * weight.square().sum().item())


def test_penalty_against_finite_differences_and_its_own_gradient() -> None:
    torch.manual_seed(0)
    first = torch.nn.Linear(6, 5)
    net = torch.nn.Sequential(first, torch.nn.Softplus(), torch.nn.Linear(5, 1)).double()
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    penalty = image_slopes(net(x).squeeze(1), x).square().sum()
    step = 1e-6
    by_differences = 0.0
    for row in range(2):
        for column in range(6):
            offset = torch.zeros_like(x)
            offset[row, column] = step
            slope = (net(x + offset).sum() - net(x - offset).sum()).item() / (2 * step)
            by_differences += slope**2
    assert penalty.item() == pytest.approx(by_differences, rel=1e-7)

    weight = first.weight
    (gradient,) = torch.autograd.grad(penalty, weight)
    with torch.no_grad():
        weight[0, 0] += step
    after = image_slopes(net(x).squeeze(1), x).square().sum().item()
    assert gradient[0, 0].item() == pytest.approx((after - penalty.item()) / step, rel=1e-3)


# ---------------------------------------------------------------- loss of an auxiliary classifier

KINDS, WIDTHS = ("tag", "exclusive", "tag", "tag", "vector", "text"), (1, 3, 1, 1, 2, 2)
LABEL = torch.tensor([[1.0, 0, 1, 0, 0, 1, 3, -1, 0.6, 0.8]], dtype=torch.float64)
SCORES = torch.tensor([[0.5, 1, 2, -1, -2, 3, 1, 1, 0.6, 0]], dtype=torch.float64)
CAPTIONS = torch.cat([9 * torch.ones(2, 8), torch.tensor([[1.0, 0], [-0.5, 2]])], 1).double()
BY_HAND = [  # one per attribute
    softplus(-0.5),
    math.log(math.exp(1) + math.exp(2) + math.exp(-1)) - 2,
    softplus(-2),
    softplus(-3),
    (2**2 + 2**2) / 2,
    math.log(math.exp(0.36) + math.exp(0.6) + math.exp(-0.3)) - 0.36,
]
of_labels = functools.partial(class_loss, kinds=KINDS, widths=WIDTHS, captions=CAPTIONS)


def test_class_loss_by_hand() -> None:
    """Each attribute alone, none, and all; two samples with different masks."""
    for attribute, expected in enumerate(BY_HAND):
        known = torch.zeros(1, len(KINDS), dtype=torch.float64)
        known[0, attribute] = 1
        assert of_labels(SCORES, LABEL, known).item() == pytest.approx(expected, abs=1e-12), attribute
    known = torch.tensor([[1.0] * 6, [0.0] * 6], dtype=torch.float64)
    found = of_labels(SCORES.repeat(2, 1), LABEL.repeat(2, 1), known)
    assert found.tolist() == pytest.approx([sum(BY_HAND), 0], abs=1e-12)


def test_class_loss_of_a_label_between_two_is_the_mean_of_theirs() -> None:
    """Interpolated words are probabilities; interpolated numbers are targets."""
    known = torch.tensor([[1.0, 1, 1, 1, 0, 0]], dtype=torch.float64)
    other = LABEL.clone()
    other[0, :6] = torch.tensor([0.0, 1, 0, 0, 1, 1])
    of_both = [of_labels(SCORES, y, known).item() for y in (LABEL, other)]
    between = of_labels(SCORES, torch.lerp(LABEL, other, 0.5), known).item()
    assert between == pytest.approx(sum(of_both) / 2, abs=1e-12)


def test_class_loss_has_the_gradients_of_its_kinds() -> None:
    """Prediction minus label: softmax or sigmoid for words, the score for numbers, the mean for captions."""
    scores = SCORES.clone().requires_grad_()
    known = torch.tensor([[1.0, 1, 0, 1, 1, 1]], dtype=torch.float64)
    of_labels(scores, LABEL, known).sum().backward()
    tags, softmax = SCORES.sigmoid() - LABEL, SCORES[:, 1:4].softmax(1) - LABEL[:, 1:4]
    numbers = SCORES - LABEL
    told_from = torch.cat([LABEL, CAPTIONS])[:, 8:]
    caption = (SCORES[:, 8:] @ told_from.t()).softmax(1) @ told_from - LABEL[:, 8:]
    zero = torch.zeros(1, 1, dtype=torch.float64)
    parts = [tags[:, :1], softmax, zero, tags[:, 5:6], numbers[:, 6:8], caption]
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.cat(parts, 1))
    assert torch.autograd.gradcheck(lambda s: of_labels(s, LABEL, known), (scores,))


def test_captions_alone_have_no_loss() -> None:
    known = torch.tensor([[0.0, 0, 0, 0, 0, 1]], dtype=torch.float64)
    assert of_labels(SCORES, LABEL, known, captions=None).item() == 0
    assert of_labels(SCORES, LABEL, known, captions=CAPTIONS[:0]).item() == 0


def test_class_loss_is_finite_far_out_and_refuses_other_attributes() -> None:
    known = torch.ones(1, len(KINDS), dtype=torch.float64)
    assert of_labels(1e4 * SCORES, LABEL, known).isfinite().all()
    with pytest.raises(ValueError, match="zip"):
        of_labels(SCORES, LABEL, known, kinds=KINDS[1:])


def test_joint_updates_take_the_losses_whose_slopes_never_vanish() -> None:
    def slopes(name: str) -> torch.Tensor:
        fake = torch.tensor([-3.0, 0.0], requires_grad=True)
        return torch.autograd.grad(LOSSES[name].discriminator(torch.zeros(2), fake), fake)[0]

    assert set(JOINT_LOSSES) == {name for name in LOSSES if slopes(name).ne(0).all()}


def test_every_loss_is_a_choice_of_the_option() -> None:
    assert all(load(["--loss", name, "--preset", "smoke"]).method.loss == name for name in LOSSES)
    with pytest.raises(LookupError, match="NONE"):
        registry_keys("losses.py", "NONE")
