"""Mode seeking: images of one label are to differ with their noise (Mao et al. 2019, arXiv 1903.05628, section 3.2).

The paper maximizes d(G(z₁, y), G(z₂, y)) / d(z₁, z₂), where d is the mean absolute difference. Here it is the logarithm
of this ratio, so that a change by one percent counts the same in images of any contrast, and most where they are alike.
"""

from __future__ import annotations

from torch import Tensor

from trainer.augment.pixels import weigh_by_alpha

_SMALLEST = 1e-3  # added to the ratio, so that equal images have a finite loss; one of 255 levels is about 0.007


def mode_seeking_loss(x_hat: Tensor, second: Tensor, z: Tensor, second_z: Tensor) -> Tensor:
    """Return the sum of -log ratio over pairs of images.

    Args:
        x_hat, second: (b, C, H, W) about in [-1, 1], images of the same labels.
        z, second_z: (b, noise), that they were made from.
    """
    images = (weigh_by_alpha(x_hat) - weigh_by_alpha(second)).abs().mean((1, 2, 3))
    noises = (z - second_z).abs().mean(1)
    return -(images / noises + _SMALLEST).log().sum()
