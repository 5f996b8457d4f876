"""The training step against its definition: three parts, frozen networks, accumulation, precision."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from shards.core import rng
from support.training import (
    ADA,
    BATCH,
    NOISE,
    SIZE,
    WIDTHS,
    make_batch,
    make_env,
    make_method,
    make_players,
)
from trainer.augment import Augment, Unchanged
from trainer.augment.draws import Draws
from trainer.losses import LOSSES, class_loss
from trainer.networks import CONDITIONINGS, Architecture, build
from trainer.noise import normal
from trainer.step import Method, Player, discriminator_step, generator_step, interpolate_labels

CLASSES = functools.partial(class_loss, kinds=("exclusive", "tag"), widths=WIDTHS)
UNCHANGED = Unchanged()
AUGMENT = pytest.mark.parametrize("t", [UNCHANGED, ADA])


def transformed(t: Augment, images: Tensor, purpose: str, positions: Tensor) -> Tensor:
    """Return T(images) with the seed of `make_method`."""
    _, draws = replace(make_method("hinge"), augment=t).draw(positions, images.dtype, ["noise"], [purpose])
    return t(images, draws)


def gradients(player: Player) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in player.module.parameters()]


@AUGMENT
@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_step_equals_its_definition(loss: str, mismatch: str, penalise: bool, t: Augment) -> None:
    """Compare with separate forward passes of each part; the penalty is on slopes with respect to D's inputs."""
    d, g = make_players()
    batch = make_batch()
    x, y, k, wrong_y, wrong_k, has_wrong, positions, *_ = batch
    method = replace(make_method(loss, mismatch), augment=t)
    scalars = discriminator_step(d, g, [batch], BATCH, method, make_env(), penalise=penalise).metrics
    ours = gradients(d)

    z = normal(3, "noise of D", positions, NOISE, torch.float64)
    x_hat = transformed(t, g.module(z, y, k), "augmentation of x̂ in D", positions).detach().requires_grad_()
    x = transformed(t, x, "augmentation of x in D", positions).clone().requires_grad_()
    real, fake = d.module(x, y, k), d.module(x_hat, y, k)
    total = method.loss.discriminator(real, fake) / BATCH
    if mismatch != "none":
        of_wrong = transformed(t, g.module(z, wrong_y, wrong_k), "augmentation of x̂ of ŷ in D", positions).detach()
        wrong = d.module(x, wrong_y, wrong_k) if mismatch == "real" else d.module(of_wrong, y, k)
        total = total + 0.7 * (method.loss.mismatch(real, wrong) * has_wrong).sum() / (BATCH - 1)
    if penalise:
        slopes = torch.autograd.grad(real.sum() + fake.sum(), (x, x_hat), create_graph=True)
        total = total + 4 * 0.5 / 2 * sum(s.square().sum() for s in slopes) / BATCH
    d.optimizer.zero_grad()
    total.backward()

    for own, defined in zip(ours, gradients(d), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/d"].item() == pytest.approx(total.item(), rel=1e-10)
    sure = real - fake if loss == "relativistic" else real
    assert scalars["augment/sign"].item() == pytest.approx(sure.sign().mean().item())
    images = (batch.images, g.module(z, y, k))
    for name, seen in zip(("spread/real", "spread/fake"), images, strict=True):  # before T
        distances = (seen[::2] - seen[1::2]).square().sum() / BATCH
        assert scalars[name].item() == pytest.approx(distances.item(), rel=1e-10)
    norm = torch.stack([o.square().sum() for o in ours]).sum().sqrt()
    assert scalars["grad/d"].item() == pytest.approx(norm.item(), rel=1e-10)


@pytest.mark.parametrize("offset", [-50.0, 50.0])
def test_sign_of_relativistic_logits_is_invariant_to_a_constant(offset: float) -> None:
    """The loss does not fix the zero of the logits, and ADA follows their sign."""
    found = []
    for shift in (0.0, offset):
        d, g = make_players()
        d.module.head.psi.bias.data += shift  # type: ignore[union-attr]
        result = discriminator_step(
            d, g, [make_batch()], BATCH, make_method("relativistic"), make_env(), penalise=False
        )
        found.append(result.metrics["augment/sign"].item())
    assert found[0] == found[1] and abs(found[0]) < 1


@AUGMENT
@pytest.mark.parametrize("loss", LOSSES)
def test_generator_step_equals_its_definition(loss: str, t: Augment) -> None:
    d, g = make_players()
    batch = make_batch()
    x, y, k, _, _, _, positions, *_ = batch
    method = replace(make_method(loss), augment=t)
    scalars = generator_step(d, g, [batch], BATCH, method, make_env()).metrics
    ours = gradients(g)
    z = normal(3, "noise of G", positions, NOISE, torch.float64)
    x_hat = transformed(t, g.module(z, y, k), "augmentation of x̂ in G", positions)
    x = transformed(t, x, "augmentation of x in G", positions)
    total = method.loss.generator(d.module(x_hat, y, k), d.module(x, y, k).detach()) / BATCH
    g.optimizer.zero_grad()
    total.backward()
    for own, defined in zip(ours, gradients(g), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/g"].item() == pytest.approx(total.item(), rel=1e-10)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
@pytest.mark.parametrize("penalise", [False, True])
def test_trap_d_has_one_forward_through_its_wrapper_to_each_backward(mismatch: str, penalise: bool, parts: int) -> None:
    """DDP leaves the gradients of a second forward's backward unreduced, and those of D called past its wrapper.

    So all parts of the loss and the penalty are one pass through the wrapper; only G's step, which wants none of D's
    gradients, goes past it.
    """
    d, g = make_players()
    happened: list[str] = []

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module, name: str) -> None:
            super().__init__()
            self.module, self.name = module, name

        def forward(self, *args: Tensor | None) -> Tensor:
            happened.append(self.name)
            return self.module(*args)

    d.wrapped, g.wrapped = Wrapper(d.module, "D"), Wrapper(g.module, "G")
    env = make_env()
    inner = []
    d.module.register_forward_hook(lambda *_: inner.append("d"))
    backward = env.backward
    env.backward = lambda loss: (happened.append("backward"), backward(loss))[1]  # type: ignore[method-assign]
    args = (d, g, make_batch().split(parts), BATCH, make_method("relativistic", mismatch), env)
    discriminator_step(*args, penalise=penalise)
    assert happened == ["D", "backward"] * parts
    assert len(inner) == parts, "none past the wrapper"
    happened.clear()
    generator_step(*args)
    assert happened == ["G", "backward"] * parts


def test_labels_are_interpolated_where_the_same_attributes_are_known() -> None:
    batch = make_batch()
    mixed = interpolate_labels(batch)
    halves = (batch.labels + batch.wrong_labels) / 2
    for row in range(BATCH):  # 1 and 5 know less than those before and after them; 5 has no wrong label either
        expected = batch.labels if row in (1, 2, 5, 6) else halves
        assert torch.equal(mixed[row], expected[row]), row
    without = interpolate_labels(batch._replace(has_wrong=torch.zeros(BATCH, dtype=torch.float64)))
    assert torch.equal(without, batch.labels)


@AUGMENT
@pytest.mark.parametrize("loss", LOSSES)
def test_interpolation_equals_its_definition(loss: str, t: Augment) -> None:
    d, g = make_players()
    batch = make_batch()
    x, y, k, _, _, _, positions, *_ = batch
    method = replace(make_method(loss), augment=t, interpolate=0.4)
    scalars = generator_step(d, g, [batch], BATCH, method, make_env()).metrics
    ours = gradients(g)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen"
    real = d.module(transformed(t, x, "augmentation of x in G", positions), y, k).detach()
    terms = []
    for noise, purpose, labels in (
        ("noise of G", "augmentation of x̂ in G", y),
        ("noise of G between labels", "augmentation of x̂ between labels in G", interpolate_labels(batch)),
    ):
        z = normal(3, noise, positions, NOISE, torch.float64)
        x_hat = transformed(t, g.module(z, labels, k), purpose, positions)
        terms.append(method.loss.generator(d.module(x_hat, labels, k), real) / BATCH)
    total = terms[0] + 0.4 * terms[1]
    g.optimizer.zero_grad()
    total.backward()
    for own, defined in zip(ours, gradients(g), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/g"].item() == pytest.approx(total.item(), rel=1e-10)
    assert scalars["loss/between"].item() == pytest.approx(terms[1].item(), rel=1e-10)


@AUGMENT
@pytest.mark.parametrize("interpolate", [0.0, 0.4])
def test_mode_seeking_equals_its_definition(interpolate: float, t: Augment) -> None:
    d, g = make_players()
    batch = make_batch()
    method = replace(make_method("relativistic"), augment=t, interpolate=interpolate)
    generator_step(d, g, [batch], BATCH, method, make_env())
    without = gradients(g)
    scalars = generator_step(d, g, [batch], BATCH, replace(method, mode_seeking=0.7), make_env()).metrics
    ours = gradients(g)
    z, second_z = (
        normal(3, purpose, batch.positions, NOISE, torch.float64) for purpose in ("noise of G", "second noise of G")
    )
    x_hat, second = (g.module(noise, batch.labels, batch.known) for noise in (z, second_z))
    ratio = (x_hat - second).abs().mean((1, 2, 3)) / (z - second_z).abs().mean(1)
    modes = -torch.log(ratio + 1e-3).mean()
    g.optimizer.zero_grad()
    (0.7 * modes).backward()
    for own, plain, added in zip(ours, without, gradients(g), strict=True):
        torch.testing.assert_close(own, plain + added, rtol=1e-9, atol=1e-11)
    assert scalars["loss/modes"].item() == pytest.approx(modes.item(), rel=1e-10)


def with_classifier(loss: str, t: Augment = UNCHANGED, interpolate: float = 0.0) -> Method:
    method = replace(make_method(loss, "none"), augment=t, interpolate=interpolate)
    return replace(method, class_loss=CLASSES, class_loss_weight=0.6)


@AUGMENT
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_step_with_a_classifier_equals_its_definition(loss: str, penalise: bool, t: Augment) -> None:
    """The classifier learns from real images only, and the penalty is on the slope of the logit alone."""
    d, g = make_players(conditioning="classifier")
    batch = make_batch()
    x, y, k, _, _, _, positions, *_ = batch
    method = with_classifier(loss, t)
    scalars = discriminator_step(d, g, [batch], BATCH, method, make_env(), penalise=penalise).metrics
    ours = gradients(d)

    z = normal(3, "noise of D", positions, NOISE, torch.float64)
    x_hat = transformed(t, g.module(z, y, k), "augmentation of x̂ in D", positions).detach().requires_grad_()
    x = transformed(t, x, "augmentation of x in D", positions).clone().requires_grad_()
    of_real, of_fake = d.module(x, y, k), d.module(x_hat, y, k)
    assert of_real.shape == (BATCH, 1 + sum(WIDTHS))
    classes = CLASSES(of_real[:, 1:], y, k).sum() / BATCH
    total = method.loss.discriminator(of_real[:, 0], of_fake[:, 0]) / BATCH + 0.6 * classes
    if penalise:
        slopes = torch.autograd.grad(of_real[:, 0].sum() + of_fake[:, 0].sum(), (x, x_hat), create_graph=True)
        total = total + 4 * 0.5 / 2 * sum(s.square().sum() for s in slopes) / BATCH
    d.optimizer.zero_grad()
    total.backward()
    for own, defined in zip(ours, gradients(d), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/d"].item() == pytest.approx(total.item(), rel=1e-10)
    assert scalars["loss/classes"].item() == pytest.approx(classes.item(), rel=1e-10)


@AUGMENT
@pytest.mark.parametrize("interpolate", [0.0, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
def test_generator_step_with_a_classifier_equals_its_definition(loss: str, interpolate: float, t: Augment) -> None:
    d, g = make_players(conditioning="classifier")
    batch = make_batch()
    x, y, k, _, _, _, positions, *_ = batch
    method = with_classifier(loss, t, interpolate)
    scalars = generator_step(d, g, [batch], BATCH, method, make_env()).metrics
    ours = gradients(g)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen, its classifier too"
    assert all(p.requires_grad for p in d.module.parameters())
    real = d.module(transformed(t, x, "augmentation of x in G", positions), y, k)[:, 0].detach()
    total, classes = 0.0, 0.0
    for weight, noise, purpose, labels in (
        (1.0, "noise of G", "augmentation of x̂ in G", y),
        (interpolate, "noise of G between labels", "augmentation of x̂ between labels in G", interpolate_labels(batch)),
    ):
        z = normal(3, noise, positions, NOISE, torch.float64)
        x_hat = transformed(t, g.module(z, labels, k), purpose, positions)
        scores = d.module(x_hat, labels, k)
        part = CLASSES(scores[:, 1:], labels, k).sum() / BATCH
        total = total + weight * (method.loss.generator(scores[:, 0], real) / BATCH + 0.6 * part)
        classes = classes + weight * part
    g.optimizer.zero_grad()
    total.backward()  # type: ignore[union-attr, attr-defined]
    for own, defined in zip(ours, gradients(g), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/g"].item() == pytest.approx(float(total), rel=1e-10)
    assert scalars["loss/classes_g"].item() == pytest.approx(float(classes), rel=1e-10)


def with_label_loss(loss: str, t: Augment = UNCHANGED, mismatch: str = "real", interpolate: float = 0.0) -> Method:
    method = replace(make_method(loss, mismatch), augment=t, interpolate=interpolate)
    return replace(method, class_loss=CLASSES, class_loss_weight=0.6, class_loss_trains_g=False)


def make_label_scoring_players(lr: float = 0.0) -> tuple[Player, Player]:
    d, g = make_players(lr=lr, conditioning="projection")
    d.module.score_labels()  # type: ignore[operator]
    return d, g


@AUGMENT
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
def test_label_loss_is_that_of_real_images_under_the_embedding(mismatch: str, penalise: bool, t: Augment) -> None:
    """Compare with a step without it, and with a separate pass that multiplies features and embedding."""
    batch, env = make_batch(), make_env()
    args = ([batch], BATCH)
    d, g = make_players(conditioning="projection")
    without = discriminator_step(
        d, g, *args, replace(make_method("hinge", mismatch), augment=t), env, penalise=penalise
    )
    expected = gradients(d)
    x = transformed(t, batch.images, "augmentation of x in D", batch.positions)
    embedding = d.module.head.embedding.value.weight  # type: ignore[union-attr]
    scores = d.module.features(x) @ embedding * len(embedding) ** -0.5  # type: ignore[operator]
    classes = CLASSES(scores, batch.labels, batch.known).sum() / BATCH
    d.optimizer.zero_grad()
    (0.6 * classes).backward()
    expected = [a + b for a, b in zip(expected, gradients(d), strict=True)]

    d, g = make_label_scoring_players()
    method = with_label_loss("hinge", t, mismatch)
    found = discriminator_step(d, g, *args, method, env, penalise=penalise)
    for own, defined in zip(gradients(d), expected, strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert found.losses["loss/classes"].item() == pytest.approx(classes.item(), rel=1e-10)
    assert found.losses["loss/d"].item() == pytest.approx(without.losses["loss/d"].item() + 0.6 * classes.item())


@pytest.mark.parametrize("interpolate", [0.0, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
def test_label_loss_leaves_the_generator_alone(loss: str, interpolate: float) -> None:
    found = []
    for players, method in (
        (make_players(conditioning="projection"), replace(make_method(loss), interpolate=interpolate)),
        (make_label_scoring_players(), with_label_loss(loss, interpolate=interpolate)),
    ):
        scalars = generator_step(*players, [make_batch()], BATCH, method, make_env()).metrics
        assert "loss/classes_g" not in scalars
        found.append([*gradients(players[1]), *(scalars[name] for name in sorted(scalars))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scored", ["classifier", "label loss"])
def test_unknown_attributes_do_not_influence_predicted_labels(scored: str) -> None:
    found = []
    for bits in (0.0, 7.0):
        if scored == "classifier":
            (d, g), method = make_players(conditioning="classifier"), with_classifier("relativistic")
        else:
            (d, g), method = make_label_scoring_players(), with_label_loss("relativistic", mismatch="none")
        batch = make_batch()
        unknown = batch.known[:, [0, 0, 0, 1]] == 0
        batch = batch._replace(labels=batch.labels.masked_fill(unknown, bits))
        args = (d, g, [batch], BATCH, method, make_env())
        scalars = discriminator_step(*args, penalise=True).metrics
        of_d = gradients(d)
        scalars |= generator_step(*args).metrics
        found.append([*of_d, *gradients(g), *(scalars[name] for name in sorted(scalars))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("scored", ["classifier", "label loss"])
def test_accumulation_with_predicted_labels_equals_the_large_batch(scored: str) -> None:
    found = []
    for micro_batches in ([make_batch()], make_batch().split(4)):
        if scored == "classifier":
            (d, g), method = make_players(lr=1e-2, conditioning="classifier"), with_classifier("relativistic", ADA, 0.4)
        else:
            (d, g), method = make_label_scoring_players(lr=1e-2), with_label_loss("relativistic", ADA, interpolate=0.4)
        args = (d, g, micro_batches, BATCH, method, make_env())
        scalars = (discriminator_step(*args, penalise=True) | generator_step(*args)).metrics
        weights = [*d.module.parameters(), *g.module.parameters()]
        found.append([*gradients(d), *gradients(g), *weights, *(scalars[name] for name in sorted(scalars))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@AUGMENT
@pytest.mark.parametrize("mismatch", ["real", "generated"])
@pytest.mark.parametrize(
    "of_g", [{}, {"interpolate": 0.4}, {"mode_seeking": 0.4}, {"interpolate": 1, "mode_seeking": 1}]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_trap_accumulation_equals_the_large_batch(loss: str, of_g: dict[str, float], mismatch: str, t: Augment) -> None:
    whole, parts = [], []
    for micro_batches, collected in (([make_batch()], whole), (make_batch().split(4), parts)):
        d, g = make_players(lr=1e-2)
        method, env = replace(make_method(loss, mismatch), augment=t, **of_g), make_env()  # type: ignore[arg-type]
        scalars = discriminator_step(d, g, micro_batches, BATCH, method, env, penalise=True).metrics
        scalars |= generator_step(d, g, micro_batches, BATCH, method, env).metrics
        collected.extend([*gradients(d), *gradients(g), *d.module.parameters(), *g.module.parameters()])
        collected.extend(scalars[name] for name in sorted(scalars))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize(
    ("family", "option"),
    [
        *itertools.product(("residual", "r3gan"), (None, "spectral_norm", "modulation", "level_means")),
        pytest.param("article", None, marks=pytest.mark.long),  # many seconds each
        pytest.param("article", "spectral_norm", marks=pytest.mark.exhaustive),
    ],
)
def test_every_weight_of_every_family_gets_a_gradient(family: str, conditioning: str, option: str | None) -> None:
    """In the first step, zero-initialized layers at the end of each block still hide those before them."""
    torch.manual_seed(0)
    size = 96 if family == "article" else SIZE
    shape = {"size": size, "widths": WIDTHS, "noise": NOISE, "embedding": 4} | ({option: True} if option else {})
    g, d = build(Architecture(family=family, conditioning=conditioning, **shape))  # type: ignore[arg-type]
    d, g = (Player(m, m, torch.optim.SGD(m.parameters(), 1e-3)) for m in (d.double(), g.double()))
    batch = make_batch().split(4)[0] if family == "article" else make_batch()
    batch = batch._replace(images=nn.functional.interpolate(batch.images, size=size))
    for _ in range(2):
        method = make_method("matching-aware")
        if CONDITIONINGS[conditioning].classifies:
            method = with_classifier("matching-aware")
        args = (d, g, [batch], BATCH, method, make_env())
        scalars = (discriminator_step(*args, penalise=True) | generator_step(*args)).metrics
        assert all(value.isfinite() for value in scalars.values())
    for player in (d, g):
        reached = {n: p.grad is not None and p.grad.any().item() for n, p in player.module.named_parameters()}
        assert all(reached.values()), [name for name in reached if not reached[name]]


def test_trap_each_step_updates_its_own_network_only() -> None:
    d, g = make_players(lr=1e-2)
    before_d, before_g = ([p.clone() for p in player.module.parameters()] for player in (d, g))

    def moved(player: Player, before: Sequence[Tensor]) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(player.module.parameters(), before, strict=True))

    discriminator_step(d, g, [make_batch()], BATCH, make_method("hinge"), make_env(), penalise=False)
    assert moved(d, before_d) and not moved(g, before_g)
    assert all(p.grad is None for p in g.module.parameters()), "trap: the generator's graph in the D step"
    before_d = [p.clone() for p in d.module.parameters()]
    d.optimizer.zero_grad()
    generator_step(d, g, [make_batch()], BATCH, make_method("hinge"), make_env())
    assert moved(g, before_g) and not moved(d, before_d)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen: its weights get no gradient"
    assert all(p.requires_grad for p in d.module.parameters())


def test_trap_steps_and_positions_have_different_noise() -> None:
    seen: list[Tensor] = []
    d, g = make_players()
    g.module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = make_batch()
    for positions in (batch.positions, batch.positions, batch.positions + 8):
        moved = batch._replace(positions=positions)
        discriminator_step(d, g, [moved], BATCH, make_method("hinge"), make_env(), penalise=False)
        generator_step(d, g, [moved], BATCH, make_method("hinge"), make_env())
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[4])
    assert len(seen[0].unique()) == seen[0].numel()


def dtypes_inside(d: Player, penalise: bool, mixed_penalty: bool = False) -> set[torch.dtype]:
    """Return the dtypes that the discriminator's convolutions compute in during its step."""
    inside: set[torch.dtype] = set()
    hooks = [
        m.register_forward_hook(lambda _m, _args, out: inside.add(out.dtype))
        for m in d.module.modules()
        if isinstance(m, nn.Conv2d)
    ]
    _, g = make_players(torch.float32)
    batch = make_batch(torch.float32)
    env = make_env("bf16")
    method = replace(make_method("relativistic"), mixed_penalty=mixed_penalty)
    discriminator_step(d, g, [batch], BATCH, method, env, penalise=penalise)
    for hook in hooks:
        hook.remove()
    return inside


def test_trap_penalty_steps_run_in_full_precision_inside_the_forward_if_they_are_to() -> None:
    d, _ = make_players(torch.float32)
    assert dtypes_inside(d, penalise=False) == {torch.bfloat16}
    assert dtypes_inside(d, penalise=True) == {torch.float32}
    assert dtypes_inside(d, penalise=True, mixed_penalty=True) == {torch.bfloat16}


@pytest.mark.parametrize(("penalise", "name"), [(True, "_ConvolutionBackward"), (False, "ConvolutionBackward0")])
def test_convolutions_have_cheap_second_derivatives_in_penalty_steps_only(penalise: bool, name: str) -> None:
    """Where there is no second derivative, torch's own convolutions are quicker to call."""
    d, g = make_players()
    seen: list[str] = []
    for module in d.module.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(lambda _m, _args, out: seen.append(type(out.grad_fn).__name__))
    discriminator_step(d, g, [make_batch()], BATCH, make_method("relativistic"), make_env(), penalise=penalise)
    assert set(seen) == {name}


@pytest.mark.parametrize("loss", LOSSES)
def test_trap_every_loss_runs_under_autocast(loss: str) -> None:
    """Binary cross-entropy of probabilities raises under autocast; these losses take logits in full precision."""
    d, g = make_players(torch.float32)
    args = (d, g, [make_batch(torch.float32)], BATCH, make_method(loss), make_env("bf16"))
    scalars = (discriminator_step(*args, penalise=False) | generator_step(*args)).metrics
    assert all(value.isfinite() and value.dtype == torch.float32 for value in scalars.values())


@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
def test_each_image_is_augmented_once_in_full_precision(mismatch: str) -> None:
    """Real images are the same under both labels; x and x̂ are transformed differently; autocast would round colours."""
    seen: list[str] = []

    class Watch(Unchanged):
        def __call__(self, images: Tensor, draws: Draws) -> Tensor:
            assert not torch.is_autocast_enabled("cpu")
            assert images.dtype == torch.float32 and len(images) == BATCH * len(draws.purposes)
            assert images.requires_grad == ("augmentation of x̂ in G" in draws.purposes)
            seen.extend(draws.purposes)
            return images

    d, g = make_players(torch.float32)
    batch, env = [make_batch(torch.float32)], make_env("bf16")
    method = replace(make_method("relativistic", mismatch), augment=Watch())
    for penalise in (False, True):
        discriminator_step(d, g, batch, BATCH, method, env, penalise=penalise)
    of_each = 3 if mismatch == "generated" else 2
    assert seen[:of_each] == seen[of_each:]
    generator_step(d, g, batch, BATCH, method, env)
    assert len(set(seen)) == of_each + 2 and len(seen) == 2 * of_each + 2


def test_all_random_numbers_of_an_update_come_from_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, real = [], rng.bits
    monkeypatch.setattr(rng, "bits", lambda *args: hashes.append(1) or real(*args))
    d, g = make_players()
    method = replace(make_method("relativistic", "generated"), augment=ADA, interpolate=0.4)
    discriminator_step(d, g, [make_batch()], BATCH, method, make_env(), penalise=False)
    assert len(hashes) == 1
    generator_step(d, g, [make_batch()], BATCH, method, make_env())
    assert len(hashes) == 2


def test_mismatch_term_is_zero_without_wrong_labels() -> None:
    d, g = make_players()
    batch = make_batch()._replace(has_wrong=torch.zeros(BATCH, dtype=torch.float64), wrong_count=0)
    args = (d, g, [batch], BATCH)
    env = make_env()
    with_part = discriminator_step(*args, make_method("hinge"), env, penalise=False).losses
    without = discriminator_step(*args, make_method("hinge", "none"), env, penalise=False).losses
    assert with_part["loss/d"].item() == pytest.approx(without["loss/d"].item(), rel=1e-12)


def test_noise_is_standard_normal_and_a_function_of_seed_and_position() -> None:
    z = normal(0, "test", torch.arange(4_000), 33)
    assert z.shape == (4_000, 33) and z.dtype == torch.float32
    assert abs(z.mean().item()) < 0.01
    assert abs(z.std().item() - 1) < 0.01
    assert abs((z**4).mean().item() - 3) < 0.1
    correlation = torch.corrcoef(z.T) - torch.eye(33)
    assert correlation.abs().max() < 0.08
    assert torch.equal(z[7:9], normal(0, "test", torch.tensor([7, 8]), 33))
    assert not torch.equal(z, normal(1, "test", torch.arange(4_000), 33))


@pytest.mark.parametrize("t", [Unchanged(), ADA], ids=["unchanged", "ada"])
def test_the_colors_of_transparent_pixels_change_nothing(t: Augment) -> None:
    """Neither in an update of D nor of G, nor in what is measured of them."""
    measured = []
    for hidden in (-1.0, 0.7):
        torch.manual_seed(0)
        shape = {"size": SIZE, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "image_channels": 4}
        g, d = build(Architecture(family="residual", **shape))  # type: ignore[arg-type]
        d, g = (Player(m, m, torch.optim.SGD(m.parameters(), 1e-2)) for m in (d.double(), g.double()))
        batch = make_batch()
        images = torch.cat([batch.images, torch.ones_like(batch.images[:, :1])], 1)
        images[:, 3, : SIZE // 2] = -1
        images[:, :3, : SIZE // 2] = hidden
        args = (
            d,
            g,
            [batch._replace(images=images)],
            BATCH,
            replace(make_method("relativistic"), augment=t),
        )
        result = discriminator_step(*args, make_env(), penalise=True) | generator_step(*args, make_env())
        measured.append({name: value.item() for name, value in result.metrics.items()})
    assert measured[0] == pytest.approx(measured[1], rel=1e-12)
