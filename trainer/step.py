"""The method: one update of the discriminator, and one update of the generator.

`trainer.joint_step` computes both from one pass through each network instead.

Symbols as in the papers: x real images, y their labels, k the mask of known attributes, ŷ wrong labels, z noise,
x̂ = G(z, y) generated images, T the augmentation of everything that D sees.

Both functions take the micro-batches of this rank's part of the global batch, accumulate gradients and step once.
Losses are sums, divided by the counts of the *global* batch: the update does not depend on the number of ranks and
micro-batches. DDP averages gradients over ranks, hence the factor ``world_size`` before each backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shards.stream.batch import Batch
from trainer import metric_names
from trainer.augment import Augment, Unchanged
from trainer.augment.draws import Draws, normal_sizes, uniform_sizes
from trainer.augment.pixels import weigh_by_alpha
from trainer.batch_diversity import DISTANCES_FAKE, DISTANCES_REAL, pair_distances
from trainer.compilation import disable_compile
from trainer.distributed.process_group import Distributed
from trainer.losses import AdversarialLoss, ClassLoss, image_slopes
from trainer.mode_seeking import mode_seeking_loss
from trainer.networks.second_derivatives import cheap_second_derivatives
from trainer.noise import draw

Scalars = dict[str, Tensor]  # by metric key


@dataclass(frozen=True)
class Method:
    """The loss, its terms and their weights."""

    loss: AdversarialLoss
    mismatch: str = "real"  # images scored under a wrong label: "real", "generated" or "none"
    mismatch_weight: float = 1.0
    gamma: float = 0.0  # weight of the R1 and R2 gradient penalties
    penalty_every: int = 16  # steps; the penalty is scaled by it (lazy regularization)
    mixed_penalty: bool = False  # D's steps with a penalty are in the run's mixed precision; False: in full precision
    noise: int = 100  # length of z
    seed: int = 0
    augment: Augment = field(default_factory=Unchanged)  # T
    interpolate: float = 0.0  # weight of the generator's loss between two labels (GAN-INT)
    mode_seeking: float = 0.0  # weight of `mode_seeking_loss` in the generator's loss
    class_loss: ClassLoss | None = None  # of D's scores of label entries; None: D returns no scores
    class_loss_weight: float = 1.0
    class_loss_trains_g: bool = True  # False: G learns from logits alone

    def draw(
        self, positions: Tensor, dtype: torch.dtype, noises: Sequence[str], augmentations: Sequence[str]
    ) -> tuple[Tensor, Draws]:
        """Return all random numbers of an update, hashed together: a hash is fifty small kernels whatever its size.

        Args:
            positions: int64 (B,), of the batch in the stream.
            dtype: of the images.
            noises: Z purposes of noise.
            augmentations: purposes of images that T changes.

        Returns:
            z (Z·B, noise), a batch for each purpose, and the draws of T.
        """
        uniforms, normals = self.augment.numbers
        normal = dict.fromkeys(noises, self.noise) | normal_sizes(augmentations, normals)
        found = draw(self.seed, positions, dtype, normal=normal, uniform=uniform_sizes(augmentations, uniforms))
        z = [found[purpose] for purpose in noises]
        return z[0] if len(z) == 1 else torch.cat(z), Draws(augmentations, found)

    def transform(self, images: Tensor, draws: Draws) -> Tensor:
        """Return what D sees of images (P·B, C, H, W): T of their colours, weighted by alpha if they have it."""
        return self.augment(weigh_by_alpha(images), draws)


@dataclass
class Player:
    """A network and its optimizer.

    Attributes:
        wrapped: the network in DDP, which reduces gradients over the ranks.
        compiled: its forward is compiled, which fixes the dtype of its weights.
    """

    wrapped: nn.Module
    module: nn.Module
    optimizer: Optimizer
    compiled: bool = False


@dataclass
class StepResult:
    """Measurements of one step: detached scalars on the device, each this rank's term of a sum over all ranks.

    Attributes:
        losses: the loss and its terms; the non-finite guard names those that broke a step.
        grad_norms: a norm that is not finite means that the optimizer skipped the step.
        real_sign: mean sign of D's logits of real images, which steers ADA; None if D was not updated.
        statistics: logged, but not used by the training.
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


def discriminator_step(
    d: Player,
    g: Player,
    micro_batches: Sequence[Batch],
    batch_size: int,
    method: Method,
    env: Distributed,
    *,
    penalise: bool,
) -> StepResult:
    """Train D to tell real and matching (x, y) from generated (x̂, y) and mismatched (x, ŷ), all seen through T.

    Args:
        micro_batches: with images in [-1, 1], on the device; each has the same number of samples.
        batch_size: images of the global batch.
        penalise: add the lazy gradient penalty; D's part of such a step runs in full precision, unless `mixed_penalty`.
    """
    d.optimizer.zero_grad(set_to_none=True)
    d.module.train()
    result = StepResult()
    for batch in env.accumulate(d.wrapped, micro_batches):
        z, draws = draw_for_d(batch, method)
        with torch.no_grad(), env.autocast():  # D's update needs no graph of G
            x_hat = g.module(z, batch.labels, batch.known).to(batch.images.dtype)
        # The penalty is on the slope with respect to D's inputs: T comes before `requires_grad_`, as a warp has no
        # second derivative.
        images = see(g, batch, z, x_hat, draws, method, env).requires_grad_(penalise)
        env.backward(score(d, images, batch, batch_size, method, env, result, penalise=penalise).loss * env.world_size)
        add(result.statistics, DISTANCES_FAKE, pair_distances(weigh_by_alpha(x_hat)) / batch_size)
    result.grad_norms[metric_names.GRAD_D] = env.step(d.module, d.optimizer) / env.world_size
    return result


def draw_for_d(batch: Batch, method: Method, noises: Sequence[str] = ("noise of D",)) -> tuple[Tensor, Draws]:
    """Return z (b, noise) for each purpose, and the draws of T for all that D sees."""
    purposes = ["augmentation of x in D", "augmentation of x̂ in D"]
    purposes += ["augmentation of x̂ of ŷ in D"] if method.mismatch == "generated" else []
    return method.draw(batch.positions, batch.images.dtype, noises, purposes)


def see(g: Player, batch: Batch, z: Tensor, x_hat: Tensor, draws: Draws, method: Method, env: Distributed) -> Tensor:
    """Return what D sees, through T: x, x̂ and, if images are generated for wrong labels, G(z, ŷ), concatenated."""
    inputs = [batch.images, x_hat]
    if method.mismatch == "generated":
        with torch.no_grad(), env.autocast():
            inputs.append(g.module(z, batch.wrong_labels, batch.wrong_known).to(x_hat.dtype))
    return method.transform(torch.cat(inputs), draws)


def labels_to_score(batch: Batch, method: Method) -> tuple[Tensor, Tensor]:
    """Return the labels (n, L) and known attributes (n, A) of x, of x̂ and of the mismatched pairs, if there are any."""
    labels, known = [batch.labels] * 2, [batch.known] * 2
    if method.mismatch == "generated":  # (image of ŷ, y), as in the article's code
        labels.append(batch.labels)
        known.append(batch.known)
    elif method.mismatch == "real":  # (x, ŷ), as in its text: D scores its first images, x, a second time
        labels.append(batch.wrong_labels)
        known.append(batch.wrong_known)
    return torch.cat(labels), torch.cat(known)


def forward(
    d: Player, images: Tensor, labels: Tensor, known: Tensor, method: Method, env: Distributed, *, penalise: bool
) -> tuple[Tensor, Tensor]:
    """Return D's logits (n,) and class scores (n, 0 or L), in the dtype of the images."""
    with (
        env.autocast(enabled=not penalise or method.mixed_penalty),
        disable_compile(penalise and d.compiled),  # compiled code has no second derivative
        cheap_second_derivatives(penalise),
    ):
        scores = d.wrapped(images, labels, known)
    d.module.eval()  # spectral norm: one power iteration a step, in its first forward
    return split_scores(scores.to(images.dtype))


class Scored(NamedTuple):
    """Result of D's pass over a micro-batch: its loss, the logits of x and x̂, and in penalty steps ∂logit/∂image."""

    loss: Tensor
    real: Tensor
    fake: Tensor
    slopes: Tensor | None


def score(
    d: Player,
    images: Tensor,
    batch: Batch,
    batch_size: int,
    method: Method,
    env: Distributed,
    result: StepResult,
    *,
    penalise: bool,
) -> Scored:
    """Compute D's loss in one concatenated pass: DDP reduces the gradients of a single forward and backward.

    An auxiliary classifier, or a projection head whose embedding is one, learns the labels of real images only. AC-GAN
    (Odena et al. 2017, section 3) teaches it those of x̂ as well; it would then learn whatever G draws for y, right or
    wrong, and tell G that this is right.

    Args:
        images: what `see` returns; requires grad in penalty steps.
        result: receives the measurements.
    """
    count = len(batch.images)
    logits, class_scores = forward(d, images, *labels_to_score(batch, method), method, env, penalise=penalise)
    real, fake, wrong = logits.split([count, count, len(logits) - 2 * count])

    loss, slopes = method.loss.discriminator(real, fake) / batch_size, None
    if len(wrong) and batch.wrong_count:
        mismatch = (method.loss.mismatch(real, wrong) * batch.has_wrong).sum() / batch.wrong_count
        loss = loss + method.mismatch_weight * mismatch
        add(result.losses, metric_names.LOSS_MISMATCH, mismatch)
    if method.class_loss is not None:
        classes = method.class_loss(class_scores[:count], batch.labels, batch.known).sum() / batch_size
        loss = loss + method.class_loss_weight * classes
        add(result.losses, metric_names.LOSS_CLASSES, classes)
    if penalise:
        slopes = image_slopes(torch.cat([real, fake]), images)
        penalty = slopes.square().sum() / batch_size
        loss = loss + method.penalty_every * method.gamma / 2 * penalty
        add(result.losses, metric_names.LOSS_PENALTY, penalty)
    add(result.losses, metric_names.LOSS_D, loss)
    add(result.statistics, metric_names.LOGIT_REAL, real.sum() / batch_size)
    add(result.statistics, metric_names.LOGIT_FAKE, fake.sum() / batch_size)
    add(result.statistics, DISTANCES_REAL, pair_distances(weigh_by_alpha(batch.images)) / batch_size)
    # Only differences of a relativistic D's logits have a meaning: its loss does not fix their zero.
    signs = (real - fake if method.loss.needs_real else real).detach().sign().sum() / batch_size
    result.real_sign = signs if result.real_sign is None else result.real_sign + signs
    return Scored(loss, real.detach(), fake.detach(), slopes)


def generator_step(
    d: Player,
    g: Player,
    micro_batches: Sequence[Batch],
    batch_size: int,
    method: Method,
    env: Distributed,
) -> StepResult:
    """Train G to generate x̂ = G(z, y) whose T(x̂) D scores as real and matching y. D is frozen: it gets no gradients.

    With `interpolate`, G also generates an image x̂' = G(z', y') per position from a label between two, which no real
    image has but D can score (GAN-INT, Reed et al. 2016, section 4.3, equation 5). With `mode_seeking` G generates a
    second image of y per position, which D does not see. If D has an auxiliary classifier, G learns to make it predict
    y from T(x̂).
    """
    g.optimizer.zero_grad(set_to_none=True)
    result = StepResult()
    with env.frozen(d.module, cast=not d.compiled):
        for batch in env.accumulate(g.wrapped, micro_batches):
            labels, known, z, draws = draw_for_g(batch, method)
            generated, *second = generate(g, z, labels, known, batch, env)
            inputs = [generated, batch.images] if method.loss.needs_real else [generated]
            images = method.transform(torch.cat(inputs), draws)  # in full precision
            x_hat, x = images[: len(labels)], images[len(labels) :]
            with env.autocast():
                logits, class_scores = split_scores(d.module(x_hat, labels, known).to(x_hat.dtype))
                fake = logits[: len(batch.labels)]
                with torch.no_grad():
                    real = split_scores(d.module(x, batch.labels, batch.known).to(x.dtype))[0] if len(x) else fake
            loss = generator_loss(logits, real, batch_size, method, result)
            if method.class_loss is not None and method.class_loss_trains_g:
                each = method.class_loss(class_scores, labels, known)
                classes = (each[: len(fake)].sum() + method.interpolate * each[len(fake) :].sum()) / batch_size
                loss = loss + method.class_loss_weight * classes
                add(result.losses, metric_names.LOSS_CLASSES_G, classes)
            add(result.losses, metric_names.LOSS_G, loss)
            if method.mode_seeking:
                one, other = z[: len(fake)], z[len(labels) :]
                modes = mode_seeking_loss(generated[: len(fake)], second[0], one, other) / batch_size
                loss = loss + method.mode_seeking * modes
                add(result.losses, metric_names.LOSS_MODES, modes)
            env.backward(loss * env.world_size)
    result.grad_norms[metric_names.GRAD_G] = env.step(g.module, g.optimizer) / env.world_size
    return result


def draw_for_g(batch: Batch, method: Method) -> tuple[Tensor, Tensor, Tensor, Draws]:
    """Return what G is asked for: labels y and, with `interpolate`, y', known, z, and the draws of T.

    With `mode_seeking`, z has further rows for the second images of y.
    """
    noises, purposes = ["noise of G"], ["augmentation of x̂ in G"]
    labels, known = batch.labels, batch.known
    if method.interpolate:
        noises.append("noise of G between labels")
        purposes.append("augmentation of x̂ between labels in G")
        labels, known = torch.cat([labels, interpolate_labels(batch)]), torch.cat([known, known])
    purposes += ["augmentation of x in G"] if method.loss.needs_real else []
    noises += ["second noise of G"] if method.mode_seeking else []
    z, draws = method.draw(batch.positions, batch.images.dtype, noises, purposes)
    return labels, known, z, draws


def generator_loss(logits: Tensor, real: Tensor, batch_size: int, method: Method, result: StepResult) -> Tensor:
    """Return the adversarial loss of G, with that of images between two labels if there are any.

    Args:
        logits: of the generated images, one or two per position.
        real: (b,), of the real images; relativistic losses compare with them.
        result: receives the measurements.
    """
    fake, *fake_between = logits.split(len(real))
    loss = method.loss.generator(fake, real) / batch_size
    for logits_between in fake_between:
        between = method.loss.generator(logits_between, real) / batch_size
        loss = loss + method.interpolate * between
        add(result.losses, metric_names.LOSS_BETWEEN, between)
    return loss


def generate(g: Player, z: Tensor, labels: Tensor, known: Tensor, batch: Batch, env: Distributed) -> list[Tensor]:
    """Return images of labels and, if there is more z, second images of y. DDP allows a single pass for both."""
    count = len(labels)
    if len(z) > count:
        labels, known = torch.cat([labels, batch.labels]), torch.cat([known, batch.known])
    with env.autocast():
        images = g.wrapped(z, labels, known).to(batch.images.dtype)
    return [images] if len(z) == count else list(images.split([count, len(batch.labels)]))


def interpolate_labels(batch: Batch) -> Tensor:
    """Return y' = β y + (1-β) ŷ with β = ½ where the same attributes of ŷ and y are known, and y elsewhere.

    Returns:
        (b, L); its known attributes are those of y.
    """
    same_known = batch.has_wrong * (batch.known == batch.wrong_known).all(1)
    return torch.lerp(batch.labels, batch.wrong_labels, same_known[:, None] / 2)


def split_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Split D's output, (M,) or with scores of labels (M, 1 + L), into logits (M,) and class scores (M, 0 or L)."""
    scores = scores.view(len(scores), -1)
    return scores[:, 0], scores[:, 1:]


def add(scalars: Scalars, name: str, value: Tensor) -> None:
    """Add a micro-batch's term on the device, without host sync."""
    scalars[name] = scalars[name] + value.detach() if name in scalars else value.detach()
