"""Joint updates against the two separate updates that they replace, from the same weights, noise and augmentation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from support.training import ADA, BATCH, WIDTHS, make_batch, make_env, make_method, make_players, make_state
from trainer.augment import Augment, Unchanged
from trainer.augment.draws import Draws
from trainer.config.method import JOINT_LOSSES
from trainer.joint_step import generator_gradient, joint_step, logit_slopes
from trainer.losses import LOSSES, class_loss
from trainer.step import Method, Player, Scalars, Scored, discriminator_step, generator_step

CLASSES = functools.partial(class_loss, kinds=("exclusive", "tag"), widths=WIDTHS)
AUGMENT = pytest.mark.parametrize("t", [Unchanged(), ADA])


def gradients(*players: Player) -> list[Tensor]:
    return [p.grad.clone() for player in players for p in player.module.parameters() if p.grad is not None]


def make_smooth_players() -> tuple[Player, Player]:
    """Return players whose D is not piecewise linear: the slope of its penalty with respect to an image is not 0."""
    d, g = make_players(conditioning="projection")
    d.module.from_picture.register_forward_hook(lambda _layer, _args, out: out.tanh())  # type: ignore[union-attr]
    return d, g


def with_label_loss(d: Player, method: Method) -> Method:
    d.module.score_labels()  # type: ignore[operator]
    return replace(method, class_loss=CLASSES, class_loss_weight=0.6, class_loss_trains_g=False)


@dataclass(frozen=True)
class SameDraws(Method):
    """G's own step draws the noise and the augmentation that D's step draws."""

    def draw(
        self, positions: Tensor, dtype: torch.dtype, noises: Sequence[str], augmentations: Sequence[str]
    ) -> tuple[Tensor, Draws]:
        """Draw for the same purposes in D."""
        of_d = [
            [purpose.replace(" in G", " in D").replace("of G", "of D") for purpose in p]
            for p in (noises, augmentations)
        ]
        return super().draw(positions, dtype, *of_d)


def in_two_passes(method: Method, penalise: bool, label_loss: bool) -> tuple[list[Tensor], Scalars]:
    """Return the gradients and measurements of D's step, then G's, both from the first weights."""
    d, g = make_smooth_players()  # at a learning rate of 0
    own = with_label_loss(d, method) if label_loss else method
    fields = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
    args = (d, g, [make_batch()], BATCH, SameDraws(**fields), make_env())
    result = discriminator_step(*args, penalise=penalise)
    of_d = gradients(d)
    result |= generator_step(*args)
    return of_d + gradients(g), result.metrics


@AUGMENT
@pytest.mark.parametrize("label_loss", [False, True])
@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize(("loss", "mode_seeking"), [*((loss, 0.0) for loss in JOINT_LOSSES), ("relativistic", 0.4)])
def test_joint_updates_equal_two_passes(
    loss: str, mode_seeking: float, penalise: bool, mismatch: str, label_loss: bool, t: Augment
) -> None:
    method = replace(make_method(loss, mismatch), augment=t, mode_seeking=mode_seeking)
    expected, measured = in_two_passes(method, penalise, label_loss)
    for parts in (1, 4):
        d, g = make_smooth_players()
        own = with_label_loss(d, method) if label_loss else method
        found = joint_step(d, g, make_batch().split(parts), BATCH, own, make_env(), penalise=penalise).metrics
        for ours, theirs in zip(gradients(d, g), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        assert found.keys() == measured.keys()
        for name, value in measured.items():
            assert found[name].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("penalise", [False, True])
def test_each_network_runs_once_and_both_move(penalise: bool) -> None:
    d, g = make_players(lr=1e-2)
    ran: list[str] = []
    for name, player in (("D", d), ("G", g)):
        player.module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    before = [p.clone() for player in (d, g) for p in player.module.parameters()]
    joint_step(d, g, [make_batch()], BATCH, make_method("relativistic"), make_env(), penalise=penalise)
    assert ran == ["G", "D"]
    after = [p for player in (d, g) for p in player.module.parameters()]
    unmoved = sum(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert unmoved <= 1, "a relativistic D's last bias cancels"


@pytest.mark.parametrize("penalise", [False, True])
def test_trap_both_gradients_are_unscaled_by_the_scale_they_were_scaled_by(penalise: bool) -> None:
    """The loss scaler changes its scale once a step, after both optimizers."""
    found = []
    for enabled in (False, True):
        d, g = make_players(torch.float32)
        env = make_env()
        env.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1, enabled=enabled)
        method = replace(make_method("relativistic"), mode_seeking=0.4)
        args = (d, g, [make_batch(torch.float32)], BATCH, method, env)
        for step in range(2):
            joint_step(*args, penalise=penalise)
            assert env.scaler.get_scale() == (1024.0 * 2 ** (step + 1) if enabled else 1)
        found.append(gradients(d, g))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_ratio_of_slopes_by_hand() -> None:
    fake, real = (torch.tensor(v, dtype=torch.float64) for v in ([2.0, -0.5, 30.0], [-1.0, 0.25, 2.0]))
    by_hand = {"matching-aware": -(-fake).exp(), "relativistic": -(real - fake).exp()}
    for name, expected in by_hand.items():
        loss = LOSSES[name]
        of_g, _ = logit_slopes(loss.generator, fake, real)
        of_d, _ = logit_slopes(lambda fake, real, loss=loss: loss.discriminator(real, fake), fake, real)
        torch.testing.assert_close(of_g / of_d, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("loss", JOINT_LOSSES)
def test_an_image_that_is_rejected_with_certainty_breaks_no_step(loss: str) -> None:
    """At a logit of -200 the slope of D's loss is 0 in float32, at -90 nearly."""
    fake, images = torch.tensor([-200.0, -90.0, 1.0]), torch.zeros(6, 3, 2, 2)
    slopes, _ = logit_slopes(lambda f, r: LOSSES[loss].discriminator(r, f), fake, torch.zeros(3))
    images.grad = torch.cat([torch.zeros(3, 3, 2, 2), slopes[:, None, None, None].expand(-1, 3, 2, 2)])
    scored = Scored(torch.zeros(()), torch.zeros(3), fake, None)
    gradient, _ = generator_gradient(scored, images, slice(3, 6), 1, make_method(loss), make_env())
    expected, _ = logit_slopes(LOSSES[loss].generator, fake, torch.zeros(3))
    assert gradient[:2].eq(0).all() and gradient.isfinite().all()
    torch.testing.assert_close(gradient[2, 0, 0, 0], expected[2])


def test_a_state_takes_joint_steps_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.state.generator_step", None)
    state, stream = make_state(tmp_path, "--updates", "joint")
    for number in range(2):
        assert {"loss/d", "loss/g", "grad/d", "grad/g"} <= state.step(stream[number]).metrics.keys()
