"""The method on one screen: one update of the discriminator, one update of the generator (after one or more of D's).

Symbols of the papers: x real pictures, y their labels (with the mask k of what is known), ŷ labels that are wrong for
x, z noise, x̂ = G(z, y), T the augmentation through which D sees every picture. Both functions take the micro-batches
of this process's share of the global batch, add up their gradients and step once. Losses are sums; dividing them by the
counts of the *global* batch makes the update independent of how many processes and micro-batches carried it (DDP
averages over the world, hence ``· world``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer import metric_names
from trainer.augment import Augment, unchanged
from trainer.batch_diversity import FAKE, REAL, pair_distances
from trainer.compilation import uncompiled
from trainer.distributed.process_group import Distributed
from trainer.losses import AdversarialLoss, gradient_penalty
from trainer.noise import normal

Scalars = dict[str, Tensor]  # by metric key
ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


class MicroBatch(NamedTuple):
    """One micro-batch on the device."""

    x: Tensor  # (b, 3, S, S) in [-1, 1]
    y: Tensor  # (b, L) label vectors
    known: Tensor  # (b, A) 0/1: which attributes of y are known
    wrong_y: Tensor  # (b, L) labels that contradict x's own
    wrong_known: Tensor  # (b, A)
    has_wrong: Tensor  # (b,) 0/1: whether a contradicting label was found
    position: Tensor  # (b,) int64, place in the endless stream: what all draws are keyed by


@dataclass(frozen=True)
class GlobalCounts:
    """How many samples each part of the loss has in the whole global batch, over all processes."""

    batch: int
    wrong: int


@dataclass(frozen=True)
class Method:
    """What is trained and how: the loss and its weights."""

    loss: AdversarialLoss
    mismatch: str = "real"  # part three scores a "real" picture, one "generated" from the wrong label, or "none"
    mismatch_weight: float = 1.0
    gamma: float = 0.0  # weight of R1 + R2
    penalty_every: int = 16  # steps; the penalty counts this many times when it is due
    noise: int = 100  # length of z
    seed: int = 0
    augment: Augment = unchanged  # T: of a picture, what for and its position
    interpolate: float = 0.0  # weight of what G learns between two labels
    classes: ClassLoss | None = None  # of class scores (b, L), y and k: (b,); None: D has no classifier
    classifier_weight: float = 1.0  # of that in both players' losses


@dataclass
class StepResult:
    """Measurements of one step: detached scalars on the device, this rank's contributions to sums over all ranks.

    Attributes:
        losses: terms of the loss; the non-finite guard names those that broke a step.
        grad_norms: a non-finite one means that the optimizer skipped the step.
        real_sign: mean sign of D's logits of real images, which steers ADA; None if D was not updated.
        statistics: for people only.
    """

    losses: Scalars = field(default_factory=dict)
    grad_norms: Scalars = field(default_factory=dict)
    real_sign: Tensor | None = None
    statistics: Scalars = field(default_factory=dict)

    @property
    def metrics(self) -> Scalars:
        """Everything that is logged, by metric key."""
        sign = {} if self.real_sign is None else {metric_names.AUGMENT_SIGN: self.real_sign}
        return self.losses | self.grad_norms | sign | self.statistics

    def __or__(self, other: StepResult) -> StepResult:
        """Combine the results of updates of D and G, which have no key in common."""
        return StepResult(
            self.losses | other.losses,
            self.grad_norms | other.grad_norms,
            other.real_sign if self.real_sign is None else self.real_sign,
            self.statistics | other.statistics,
        )


@dataclass
class Player:
    """A network with its optimizer; ``wrapped`` reduces gradients over the processes, ``module`` is the plain one."""

    wrapped: nn.Module
    module: nn.Module
    optimizer: Optimizer


def discriminator_step(
    d: Player,
    g: Player,
    micro_batches: Sequence[MicroBatch],
    counts: GlobalCounts,
    method: Method,
    env: Distributed,
    *,
    penalise: bool,
) -> StepResult:
    """Make D tell real and matching (x, y) from generated (x̂, y) and mismatched (x, ŷ), all as T(x).

    A classifier beside D learns which y a real T(x) has. AC-GAN (Odena et al. 2017, section 3) teaches it the y of x̂ as
    well. Here it learns what classes look like from real pictures alone: of x̂ it would learn what G draws for y, right
    or wrong, and tell G that this is right.

    Args:
        penalise: add the lazy gradient penalty; such a step runs in full precision.
    """
    d.optimizer.zero_grad(set_to_none=True)
    d.module.train()
    augment = method.augment
    result = StepResult()
    for x, y, k, wrong_y, wrong_k, has_wrong, position in env.accumulate(d.wrapped, micro_batches):
        z = normal(method.seed, "noise of D", position, method.noise, x.dtype)
        with torch.no_grad(), env.autocast():  # no graph of G: D's update needs none
            x_hat = g.module(z, y, k).to(x.dtype)
            mismatched = method.mismatch == "generated"
            x_wrong = g.module(z, wrong_y, wrong_k).to(x.dtype) if mismatched else x[:0]
        seen = [augment(x, "augmentation of x in D", position), augment(x_hat, "augmentation of x̂ in D", position)]
        if mismatched:
            seen.append(augment(x_wrong, "augmentation of x̂ of ŷ in D", position))

        # One concatenated pass: DDP reduces the gradients of a single forward and backward. The penalty is on the slope
        # in what D sees: T lies before `requires_grad_`, as a warp has no second derivative.
        pictures = torch.cat(seen).requires_grad_(penalise)
        labels, known, rows = [y, y], [k, k], None
        if mismatched:  # (picture of ŷ, y), as the article's code has it
            labels, known = [y, y, y], [k, k, k]
        elif method.mismatch == "real":  # (x, ŷ), as its text has it: x's features serve twice
            labels, known = [y, y, wrong_y], [k, k, wrong_k]
            rows = torch.arange(3 * len(x), device=x.device) % (2 * len(x))
        with env.autocast(enabled=not penalise), uncompiled(penalise):  # which has no second derivative otherwise
            scores = d.wrapped(pictures, torch.cat(labels), torch.cat(known), rows)
        d.module.eval()  # spectral norms are followed once a step, by its first forward, and stand for the rest of it
        logits, classes = apart(scores.to(x.dtype))
        real, fake, wrong = logits.split([len(x), len(x), len(logits) - 2 * len(x)])

        loss = method.loss.discriminator(real, fake) / counts.batch
        if len(wrong) and counts.wrong:
            part_three = (method.loss.mismatch(real, wrong) * has_wrong).sum() / counts.wrong
            loss = loss + method.mismatch_weight * part_three
            _add(result.losses, metric_names.LOSS_MISMATCH, part_three)
        if method.classes is not None:
            of_real = method.classes(classes[: len(x)], y, k).sum() / counts.batch
            loss = loss + method.classifier_weight * of_real
            _add(result.losses, metric_names.LOSS_CLASSES, of_real)
        if penalise:
            penalty = gradient_penalty(torch.cat([real, fake]), pictures) / counts.batch
            loss = loss + method.penalty_every * method.gamma / 2 * penalty
            _add(result.losses, metric_names.LOSS_PENALTY, penalty)
        env.backward(loss * env.world_size)
        _add(result.losses, metric_names.LOSS_D, loss)
        _add(result.statistics, metric_names.LOGIT_REAL, real.sum() / counts.batch)
        _add(result.statistics, metric_names.LOGIT_FAKE, fake.sum() / counts.batch)
        # A relativistic D is sure of differences only: any number may be added to its logits.
        sure = real - fake if method.loss.needs_real else real
        real_sign = sure.detach().sign().sum() / counts.batch
        result.real_sign = real_sign if result.real_sign is None else result.real_sign + real_sign
        _add(result.statistics, REAL, pair_distances(x) / counts.batch)
        _add(result.statistics, FAKE, pair_distances(x_hat) / counts.batch)
    result.grad_norms[metric_names.GRAD_D] = env.step(d.module, d.optimizer) / env.world_size
    return result


def generator_step(
    d: Player,
    g: Player,
    micro_batches: Sequence[MicroBatch],
    counts: GlobalCounts,
    method: Method,
    env: Distributed,
) -> StepResult:
    """Make G draw x̂ = G(z, y) whose T(x̂) D takes for real and matching y. D is frozen: it gets no gradients.

    With `interpolate` G also draws between labels, where there is no real picture but D may judge (GAN-INT, Reed et al.
    2016, section 4.3, equation 5): one more picture x̂' = G(z', y') a position, its loss weighed. Where D has a
    classifier, it is to name the y of T(x̂).
    """
    g.optimizer.zero_grad(set_to_none=True)
    d.module.requires_grad_(False).eval()
    result = StepResult()
    for micro_batch in env.accumulate(g.wrapped, micro_batches):
        x, y, k, _, _, _, position = micro_batch
        z = normal(method.seed, "noise of G", position, method.noise, x.dtype)
        labels, known, purposes = y, k, ["augmentation of x̂ in G"]
        if method.interpolate:
            z = torch.cat([z, normal(method.seed, "noise of G between labels", position, method.noise, x.dtype)])
            labels, known = torch.cat([y, between(micro_batch)]), torch.cat([k, k])
            purposes.append("augmentation of x̂ between labels in G")
        with env.autocast():
            x_hat = g.wrapped(z, labels, known).to(x.dtype)
        drawn = zip(x_hat.split(len(x)), purposes, strict=True)
        x_hat = torch.cat([method.augment(part, purpose, position) for part, purpose in drawn])  # in full precision
        if method.loss.needs_real:
            x = method.augment(x, "augmentation of x in G", position)
        with env.autocast():
            logits, classes = apart(d.module(x_hat, labels, known).to(x.dtype))
            fake, *beside = logits.split(len(x))
            with torch.no_grad():
                real = apart(d.module(x, y, k).to(x.dtype))[0] if method.loss.needs_real else fake
        loss = method.loss.generator(fake, real) / counts.batch
        for between_labels in beside:
            part = method.loss.generator(between_labels, real) / counts.batch
            loss = loss + method.interpolate * part
            _add(result.losses, metric_names.LOSS_BETWEEN, part)
        if method.classes is not None:
            of_each = method.classes(classes, labels, known)
            part = (of_each[: len(x)].sum() + method.interpolate * of_each[len(x) :].sum()) / counts.batch
            loss = loss + method.classifier_weight * part
            _add(result.losses, metric_names.LOSS_CLASSES_G, part)
        env.backward(loss * env.world_size)
        _add(result.losses, metric_names.LOSS_G, loss)
    d.module.requires_grad_(True)
    result.grad_norms[metric_names.GRAD_G] = env.step(g.module, g.optimizer) / env.world_size
    return result


def between(batch: MicroBatch) -> Tensor:
    """y' = β y + (1-β) ŷ with the article's β = ½, where as much is known of ŷ as of y; elsewhere y, its own partner.

    Returns:
        (b, L), of which the same is known as of y.
    """
    alike = batch.has_wrong * (batch.known == batch.wrong_known).all(1)
    return torch.lerp(batch.y, batch.wrong_y, alike[:, None] / 2)


def apart(scores: Tensor) -> tuple[Tensor, Tensor]:
    """What D gave, (M,) or with a classifier (M, 1 + L), as logits (M,) and class scores (M, 0 or L)."""
    scores = scores.view(len(scores), -1)
    return scores[:, 0], scores[:, 1:]


def _add(scalars: Scalars, name: str, value: Tensor) -> None:
    """Add up over micro-batches, on the device: nothing here waits for it."""
    scalars[name] = scalars[name] + value.detach() if name in scalars else value.detach()
