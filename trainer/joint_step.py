"""Both updates from one pass through each network: "training GANs in one stage" (Shen et al. 2021, arXiv 2103.00430).

D's logit of a generated image, fᵢ, depends on no other image. So both losses reach the image through the same slope:
∂L_D/∂x̂ᵢ = (∂L_D/∂fᵢ) ∂fᵢ/∂x̂ᵢ and ∂L_G/∂x̂ᵢ = (∂L_G/∂fᵢ) ∂fᵢ/∂x̂ᵢ. D's backward pass computes the first, and

    ∂L_G/∂x̂ᵢ = ρᵢ ∂L_D/∂x̂ᵢ,  ρᵢ = (∂L_G/∂fᵢ) / (∂L_D/∂fᵢ)

is all that G needs: its own pass through D is saved, and so is a second pass through G. The other terms of L_D (wrong
labels, labels of real images) do not depend on x̂, nor does G's mode seeking on D. A pair of the relativistic loss has
the same real logit in both losses:

    matching-aware  ∂L_D/∂f = σ(f),      ∂L_G/∂f = -σ(-f),     ρ = -exp(-f)
    relativistic    ∂L_D/∂f = σ(f - r),  ∂L_G/∂f = -σ(r - f),  ρ = -exp(r - f)

Hinge and least squares have no ρ where D's slope is 0 (f ≤ -1 and f = 0). A gradient penalty does depend on x̂, but it
computes ∂fᵢ/∂x̂ᵢ itself, so that in its steps no ρ is needed.

The players move simultaneously: G follows D as it was before its update, on the images that D learned from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shards.stream.batch import Batch
from trainer import metric_names
from trainer.augment.pixels import weigh_by_alpha
from trainer.batch_diversity import DISTANCES_FAKE, pair_distances
from trainer.distributed.process_group import Distributed
from trainer.losses import PairLoss
from trainer.mode_seeking import mode_seeking_loss
from trainer.step import Method, Player, Scored, StepResult, add, draw_for_d, generate, score, see


def joint_step(
    d: Player,
    g: Player,
    micro_batches: Sequence[Batch],
    batch_size: int,
    method: Method,
    env: Distributed,
    *,
    penalise: bool,
) -> StepResult:
    """Train both players as `discriminator_step` and `generator_step` would from the same weights, z and T.

    Args:
        micro_batches: with images in [-1, 1], on the device; each has the same number of samples.
        batch_size: images of the global batch.
        penalise: as in `discriminator_step`.
    """
    for player in (d, g):
        player.optimizer.zero_grad(set_to_none=True)
    d.module.train()
    result = StepResult()
    accumulated = zip(env.accumulate(d.wrapped, micro_batches), env.accumulate(g.wrapped, micro_batches), strict=True)
    for batch, _ in accumulated:  # of both networks: neither reduces gradients before the last micro-batch
        noises = ["noise of D", "second noise of D"] if method.mode_seeking else ["noise of D"]
        z, draws = draw_for_d(batch, method, noises)
        x_hat, *second = generate(g, z, batch.labels, batch.known, batch, env)
        z, second_z = z[: len(x_hat)], z[len(x_hat) :]
        seen = see(g, batch, z, x_hat, draws, method, env)
        images = seen.detach().requires_grad_()  # D's backward ends here, and G's begins
        scored = score(d, images, batch, batch_size, method, env, result, penalise=penalise)
        env.backward(scored.loss * env.world_size)
        generated = slice(len(x_hat), 2 * len(x_hat))
        gradient, loss = generator_gradient(scored, images, generated, batch_size, method, env)
        losses, gradients = [seen[generated]], [gradient]
        if method.mode_seeking:
            modes = mode_seeking_loss(x_hat, second[0], z, second_z) / batch_size
            losses.append(env.scaler.scale(method.mode_seeking * modes * env.world_size))
            gradients.append(torch.ones_like(modes))
            add(result.losses, metric_names.LOSS_MODES, modes)
        torch.autograd.backward(losses, gradients)
        add(result.losses, metric_names.LOSS_G, loss)
        add(result.statistics, DISTANCES_FAKE, pair_distances(weigh_by_alpha(x_hat.detach())) / batch_size)
    result.grad_norms[metric_names.GRAD_D] = env.step(d.module, d.optimizer, last=False) / env.world_size
    result.grad_norms[metric_names.GRAD_G] = env.step(g.module, g.optimizer) / env.world_size
    return result


def generator_gradient(
    scored: Scored, images: Tensor, generated: slice, batch_size: int, method: Method, env: Distributed
) -> tuple[Tensor, Tensor]:
    """Return ∂L_G/∂T(x̂) (b, C, H, W), scaled as the gradients of D's backward are, and L_G.

    Args:
        images: the leaves of D's pass, after its backward.
        generated: the rows of T(x̂) among them.
    """
    slope_g, loss = logit_slopes(method.loss.generator, scored.fake, scored.real)
    if scored.slopes is not None:
        scale = env.scaler.scale(slope_g * env.world_size / batch_size)
        return _per_image(scale) * scored.slopes.detach()[generated], loss / batch_size
    slope_d, _ = logit_slopes(lambda fake, real: method.loss.discriminator(real, fake), scored.fake, scored.real)
    # D's gradient of an image that it rejects with near certainty is too small for its precision, and G's, a multiple
    # of it, loses digits. In the end D's is 0, ρ is none of float32's numbers, and G's is 0.
    ratio = (slope_g / slope_d).nan_to_num(0, 0, 0)
    assert images.grad is not None
    return _per_image(ratio) * images.grad[generated], loss / batch_size


def logit_slopes(loss: PairLoss, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slope of a loss in each logit of a generated image, (b,), and the loss.

    Args:
        loss: (fake, real) -> sum.
    """
    fake = fake.detach().requires_grad_()
    value = loss(fake, real)
    (slopes,) = torch.autograd.grad(value, fake)
    return slopes, value.detach()


def _per_image(factors: Tensor) -> Tensor:
    return factors[:, None, None, None]
