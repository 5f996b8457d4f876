"""The step against its definition: three parts, frozen players, exact accumulation, precision of penalty steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trainer.augment import Augment, augment, unchanged
from trainer.distributed.process_group import Distributed
from trainer.losses import LOSSES, class_loss
from trainer.networks import CONDITIONINGS, FAMILIES, Architecture, build
from trainer.noise import normal
from trainer.step import GlobalCounts, Method, MicroBatch, Player, between, discriminator_step, generator_step

WIDTHS, SIZE, NOISE, BATCH = (3, 1), 8, 5, 8
CLASSES = functools.partial(class_loss, kinds=("exclusive", "tag"), widths=WIDTHS)


def make_env(precision: str = "no") -> Distributed:
    return Distributed(device="cpu", precision=precision, threads=1)


def make_players(
    dtype: torch.dtype = torch.float64, lr: float = 0.0, conditioning: str = "auto"
) -> tuple[Player, Player]:
    torch.manual_seed(0)
    shape = {"size": SIZE, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "channels": (6, 4)}
    architecture = Architecture(family="residual", conditioning=conditioning, **shape)  # type: ignore[arg-type]
    g, d = (module.to(dtype) for module in build(architecture))
    for p in (*g.parameters(), *d.parameters()):  # the blocks' zeros would hide half of the network
        nn.init.normal_(p, 0, 0.3)
    return tuple(Player(m, m, torch.optim.Adam(m.parameters(), lr)) for m in (d, g))  # type: ignore[return-value]


def make_batch(dtype: torch.dtype = torch.float64) -> MicroBatch:
    generator = torch.Generator().manual_seed(1)
    y = torch.zeros(BATCH, 4, dtype=dtype)
    y[torch.arange(BATCH), torch.arange(BATCH) % 3] = 1
    y[::2, 3] = 1
    known = torch.ones(BATCH, 2, dtype=dtype)
    known[1, 0] = known[5] = 0  # one partly labelled, one not at all
    has_wrong = torch.ones(BATCH, dtype=dtype)
    has_wrong[5] = 0
    x = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    return MicroBatch(x, y, known, y.roll(1, 0), known.roll(1, 0), has_wrong, torch.arange(100, 100 + BATCH))


def split(batch: MicroBatch, parts: int) -> list[MicroBatch]:
    return [MicroBatch(*part) for part in zip(*(field.chunk(parts) for field in batch), strict=True)]


def make_method(loss: str, mismatch: str = "real", gamma: float = 0.5) -> Method:
    return Method(LOSSES[loss], mismatch, 0.7, gamma, penalty_every=4, noise=NOISE, seed=3)


def ada(pictures: Tensor, purpose: str, position: Tensor) -> Tensor:
    return augment(pictures, 3, purpose, position, policy="ada", p=0.7, flip=True)


AUGMENT = pytest.mark.parametrize("t", [unchanged, ada])
COUNTS = GlobalCounts(batch=BATCH, wrong=BATCH - 1)


def gradients(player: Player) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in player.module.parameters()]


@AUGMENT
@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_step_is_its_definition(loss: str, mismatch: str, penalise: bool, t: Augment) -> None:
    """Against separate forwards of each part, written out; the penalty is on slopes in what D sees."""
    d, g = make_players()
    x, y, k, wrong_y, wrong_k, has_wrong, position = batch = make_batch()
    method = replace(make_method(loss, mismatch), augment=t)
    scalars = discriminator_step(d, g, [batch], COUNTS, method, make_env(), penalise=penalise).metrics
    ours = gradients(d)

    z = normal(3, "noise of D", position, NOISE, torch.float64)
    x_hat = t(g.module(z, y, k), "augmentation of x̂ in D", position).detach().requires_grad_()
    x = t(x, "augmentation of x in D", position).clone().requires_grad_()
    real, fake = d.module(x, y, k), d.module(x_hat, y, k)
    total = method.loss.discriminator(real, fake) / BATCH
    if mismatch != "none":
        of_wrong = t(g.module(z, wrong_y, wrong_k), "augmentation of x̂ of ŷ in D", position).detach()
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
    pictures = (batch.x, g.module(z, y, k))
    for name, seen in zip(("spread/real", "spread/fake"), pictures, strict=True):  # before T
        distances = (seen[::2] - seen[1::2]).square().sum() / BATCH
        assert scalars[name].item() == pytest.approx(distances.item(), rel=1e-10)
    norm = torch.stack([o.square().sum() for o in ours]).sum().sqrt()
    assert scalars["grad/d"].item() == pytest.approx(norm.item(), rel=1e-10)


@pytest.mark.parametrize("offset", [-50.0, 50.0])
def test_how_sure_a_relativistic_d_is_does_not_depend_on_what_is_added_to_its_logits(offset: float) -> None:
    """Nothing in its loss holds their zero in place, and ADA follows the sign."""
    found = []
    for shift in (0.0, offset):
        d, g = make_players()
        d.module.head.psi.bias.data += shift  # type: ignore[union-attr]
        result = discriminator_step(
            d, g, [make_batch()], COUNTS, make_method("relativistic"), make_env(), penalise=False
        )
        found.append(result.metrics["augment/sign"].item())
    assert found[0] == found[1] and abs(found[0]) < 1


@AUGMENT
@pytest.mark.parametrize("loss", LOSSES)
def test_generator_step_is_its_definition(loss: str, t: Augment) -> None:
    d, g = make_players()
    x, y, k, _, _, _, position = batch = make_batch()
    method = replace(make_method(loss), augment=t)
    scalars = generator_step(d, g, [batch], COUNTS, method, make_env()).metrics
    ours = gradients(g)
    z = normal(3, "noise of G", position, NOISE, torch.float64)
    x_hat = t(g.module(z, y, k), "augmentation of x̂ in G", position)
    x = t(x, "augmentation of x in G", position)
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
    args = (d, g, split(make_batch(), parts), COUNTS, make_method("relativistic", mismatch), env)
    discriminator_step(*args, penalise=penalise)
    assert happened == ["D", "backward"] * parts
    assert len(inner) == parts, "none past the wrapper"
    happened.clear()
    generator_step(*args)
    assert happened == ["G", "backward"] * parts


def test_between_labels_is_half_way_where_as_much_is_known() -> None:
    batch = make_batch()
    mixed = between(batch)
    halves = (batch.y + batch.wrong_y) / 2
    for row in range(BATCH):  # 1 and 5 know less than those before and after them; 5 has no wrong label either
        expected = batch.y if row in (1, 2, 5, 6) else halves
        assert torch.equal(mixed[row], expected[row]), row
    without = between(batch._replace(has_wrong=torch.zeros(BATCH, dtype=torch.float64)))
    assert torch.equal(without, batch.y)


@AUGMENT
@pytest.mark.parametrize("loss", LOSSES)
def test_learning_between_labels_is_its_definition(loss: str, t: Augment) -> None:
    d, g = make_players()
    x, y, k, _, _, _, position = batch = make_batch()
    method = replace(make_method(loss), augment=t, interpolate=0.4)
    scalars = generator_step(d, g, [batch], COUNTS, method, make_env()).metrics
    ours = gradients(g)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen"
    real = d.module(t(x, "augmentation of x in G", position), y, k).detach()
    terms = []
    for noise, purpose, labels in (
        ("noise of G", "augmentation of x̂ in G", y),
        ("noise of G between labels", "augmentation of x̂ between labels in G", between(batch)),
    ):
        x_hat = t(g.module(normal(3, noise, position, NOISE, torch.float64), labels, k), purpose, position)
        terms.append(method.loss.generator(d.module(x_hat, labels, k), real) / BATCH)
    total = terms[0] + 0.4 * terms[1]
    g.optimizer.zero_grad()
    total.backward()
    for own, defined in zip(ours, gradients(g), strict=True):
        torch.testing.assert_close(own, defined, rtol=1e-9, atol=1e-11)
    assert scalars["loss/g"].item() == pytest.approx(total.item(), rel=1e-10)
    assert scalars["loss/between"].item() == pytest.approx(terms[1].item(), rel=1e-10)


def with_classifier(loss: str, t: Augment = unchanged, interpolate: float = 0.0) -> Method:
    method = replace(make_method(loss, "none"), augment=t, interpolate=interpolate)
    return replace(method, classes=CLASSES, classifier_weight=0.6)


@AUGMENT
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_step_with_a_classifier_is_its_definition(loss: str, penalise: bool, t: Augment) -> None:
    """It learns classes of real pictures only, and the penalty is on the slope of the logit alone."""
    d, g = make_players(conditioning="classifier")
    x, y, k, _, _, _, position = batch = make_batch()
    method = with_classifier(loss, t)
    scalars = discriminator_step(d, g, [batch], COUNTS, method, make_env(), penalise=penalise).metrics
    ours = gradients(d)

    z = normal(3, "noise of D", position, NOISE, torch.float64)
    x_hat = t(g.module(z, y, k), "augmentation of x̂ in D", position).detach().requires_grad_()
    x = t(x, "augmentation of x in D", position).clone().requires_grad_()
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
def test_generator_step_with_a_classifier_is_its_definition(loss: str, interpolate: float, t: Augment) -> None:
    d, g = make_players(conditioning="classifier")
    x, y, k, _, _, _, position = batch = make_batch()
    method = with_classifier(loss, t, interpolate)
    scalars = generator_step(d, g, [batch], COUNTS, method, make_env()).metrics
    ours = gradients(g)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen, its classifier too"
    assert all(p.requires_grad for p in d.module.parameters())
    real = d.module(t(x, "augmentation of x in G", position), y, k)[:, 0].detach()
    total, classes = 0.0, 0.0
    for weight, noise, purpose, labels in (
        (1.0, "noise of G", "augmentation of x̂ in G", y),
        (interpolate, "noise of G between labels", "augmentation of x̂ between labels in G", between(batch)),
    ):
        x_hat = t(g.module(normal(3, noise, position, NOISE, torch.float64), labels, k), purpose, position)
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


def test_bits_of_unknown_attributes_change_nothing_that_a_classifier_teaches() -> None:
    found = []
    for bits in (0.0, 7.0):
        d, g = make_players(conditioning="classifier")
        batch = make_batch()
        unknown = batch.known[:, [0, 0, 0, 1]] == 0
        batch = batch._replace(y=batch.y.masked_fill(unknown, bits))
        args = (d, g, [batch], COUNTS, with_classifier("relativistic"), make_env())
        scalars = discriminator_step(*args, penalise=True).metrics
        of_d = gradients(d)
        scalars |= generator_step(*args).metrics
        found.append([*of_d, *gradients(g), *(scalars[name] for name in sorted(scalars))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_accumulation_with_a_classifier_equals_the_large_batch() -> None:
    found = []
    for micro_batches in ([make_batch()], split(make_batch(), 4)):
        d, g = make_players(lr=1e-2, conditioning="classifier")
        args = (d, g, micro_batches, COUNTS, with_classifier("relativistic", ada, 0.4), make_env())
        scalars = (discriminator_step(*args, penalise=True) | generator_step(*args)).metrics
        weights = [*d.module.parameters(), *g.module.parameters()]
        found.append([*gradients(d), *gradients(g), *weights, *(scalars[name] for name in sorted(scalars))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@AUGMENT
@pytest.mark.parametrize("mismatch", ["real", "generated"])
@pytest.mark.parametrize("interpolate", [0.0, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
def test_trap_accumulation_equals_the_large_batch(loss: str, interpolate: float, mismatch: str, t: Augment) -> None:
    whole, parts = [], []
    for micro_batches, collected in (([make_batch()], whole), (split(make_batch(), 4), parts)):
        d, g = make_players(lr=1e-2)
        method, env = replace(make_method(loss, mismatch), augment=t, interpolate=interpolate), make_env()
        scalars = discriminator_step(d, g, micro_batches, COUNTS, method, env, penalise=True).metrics
        scalars |= generator_step(d, g, micro_batches, COUNTS, method, env).metrics
        collected.extend([*gradients(d), *gradients(g), *d.module.parameters(), *g.module.parameters()])
        collected.extend(scalars[name] for name in sorted(scalars))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_steps_of_every_family_reach_every_weight(family: str, conditioning: str, spectral_norm: bool) -> None:
    """In the first one the zeros that end a block still hide what lies before them."""
    torch.manual_seed(0)
    size = 96 if family == "article" else SIZE
    shape = {"size": size, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "spectral_norm": spectral_norm}
    g, d = build(Architecture(family=family, conditioning=conditioning, **shape))  # type: ignore[arg-type]
    d, g = (Player(m, m, torch.optim.SGD(m.parameters(), 1e-3)) for m in (d.double(), g.double()))
    batch = split(make_batch(), 4)[0] if family == "article" else make_batch()
    batch = batch._replace(x=nn.functional.interpolate(batch.x, size=size))
    for _ in range(2):
        method = make_method("matching-aware")
        if conditioning == "classifier":
            method = with_classifier("matching-aware")
        args = (d, g, [batch], COUNTS, method, make_env())
        scalars = (discriminator_step(*args, penalise=True) | generator_step(*args)).metrics
        assert all(value.isfinite() for value in scalars.values())
    for player in (d, g):
        reached = {n: p.grad is not None and p.grad.any().item() for n, p in player.module.named_parameters()}
        assert all(reached.values()), [name for name in reached if not reached[name]]


def test_trap_each_step_moves_its_own_player_only() -> None:
    d, g = make_players(lr=1e-2)
    before_d, before_g = ([p.clone() for p in player.module.parameters()] for player in (d, g))

    def moved(player: Player, before: Sequence[Tensor]) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(player.module.parameters(), before, strict=True))

    discriminator_step(d, g, [make_batch()], COUNTS, make_method("hinge"), make_env(), penalise=False)
    assert moved(d, before_d) and not moved(g, before_g)
    assert all(p.grad is None for p in g.module.parameters()), "trap: the generator's graph in the D step"
    before_d = [p.clone() for p in d.module.parameters()]
    d.optimizer.zero_grad()
    generator_step(d, g, [make_batch()], COUNTS, make_method("hinge"), make_env())
    assert moved(g, before_g) and not moved(d, before_d)
    assert all(p.grad is None for p in d.module.parameters()), "D is frozen: its weights get no gradient"
    assert all(p.requires_grad for p in d.module.parameters())


def test_trap_the_steps_draw_different_noise_of_their_own_positions() -> None:
    seen: list[Tensor] = []
    d, g = make_players()
    g.module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = make_batch()
    for position in (batch.position, batch.position, batch.position + 8):
        moved = batch._replace(position=position)
        discriminator_step(d, g, [moved], COUNTS, make_method("hinge"), make_env(), penalise=False)
        generator_step(d, g, [moved], COUNTS, make_method("hinge"), make_env())
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[4])
    assert len(seen[0].unique()) == seen[0].numel()


def dtypes_inside(d: Player, penalise: bool) -> set[torch.dtype]:
    """What the discriminator's convolutions compute in, forward, during its step."""
    inside: set[torch.dtype] = set()
    hooks = [
        m.register_forward_hook(lambda _m, _args, out: inside.add(out.dtype))
        for m in d.module.modules()
        if isinstance(m, nn.Conv2d)
    ]
    _, g = make_players(torch.float32)
    batch = make_batch(torch.float32)
    env = make_env("bf16")
    discriminator_step(d, g, [batch], COUNTS, make_method("relativistic"), env, penalise=penalise)
    for hook in hooks:
        hook.remove()
    return inside


def test_trap_penalty_steps_run_in_full_precision_inside_the_forward() -> None:
    d, _ = make_players(torch.float32)
    assert dtypes_inside(d, penalise=False) == {torch.bfloat16}
    assert dtypes_inside(d, penalise=True) == {torch.float32}


@pytest.mark.parametrize("loss", LOSSES)
def test_trap_every_loss_runs_under_autocast(loss: str) -> None:
    """Binary cross-entropy of probabilities raises there: ours are of logits, in full precision."""
    d, g = make_players(torch.float32)
    args = (d, g, [make_batch(torch.float32)], COUNTS, make_method(loss), make_env("bf16"))
    scalars = (discriminator_step(*args, penalise=False) | generator_step(*args)).metrics
    assert all(value.isfinite() and value.dtype == torch.float32 for value in scalars.values())


@pytest.mark.parametrize("mismatch", ["real", "generated", "none"])
def test_each_picture_is_augmented_once_in_full_precision(mismatch: str) -> None:
    """A real picture meets both of its labels as one, x and x̂ draw differently, and autocast would round colours."""
    seen: list[str] = []

    def watch(pictures: Tensor, purpose: str, position: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        assert pictures.dtype == torch.float32 and len(pictures) == len(position) == BATCH
        assert pictures.requires_grad == (purpose == "augmentation of x̂ in G")
        seen.append(purpose)
        return pictures

    d, g = make_players(torch.float32)
    batch, env = [make_batch(torch.float32)], make_env("bf16")
    method = replace(make_method("relativistic", mismatch), augment=watch)
    for penalise in (False, True):
        discriminator_step(d, g, batch, COUNTS, method, env, penalise=penalise)
    of_each = 3 if mismatch == "generated" else 2
    assert seen[:of_each] == seen[of_each:]
    generator_step(d, g, batch, COUNTS, method, env)
    assert len(set(seen)) == of_each + 2 and len(seen) == 2 * of_each + 2


def test_without_any_wrong_label_part_three_is_zero() -> None:
    d, g = make_players()
    batch = make_batch()._replace(has_wrong=torch.zeros(BATCH, dtype=torch.float64))
    counts = replace(COUNTS, wrong=0)
    args = (d, g, [batch], counts)
    env = make_env()
    with_part = discriminator_step(*args, make_method("hinge"), env, penalise=False).losses
    without = discriminator_step(*args, make_method("hinge", "none"), env, penalise=False).losses
    assert with_part["loss/d"].item() == pytest.approx(without["loss/d"].item(), rel=1e-12)


def test_normal_noise_is_standard_normal_and_keyed() -> None:
    z = normal(0, "test", torch.arange(4_000), 33)
    assert z.shape == (4_000, 33) and z.dtype == torch.float32
    assert abs(z.mean().item()) < 0.01
    assert abs(z.std().item() - 1) < 0.01
    assert abs((z**4).mean().item() - 3) < 0.1
    correlation = torch.corrcoef(z.T) - torch.eye(33)
    assert correlation.abs().max() < 0.08
    assert torch.equal(z[7:9], normal(0, "test", torch.tensor([7, 8]), 33))
    assert not torch.equal(z, normal(1, "test", torch.arange(4_000), 33))
