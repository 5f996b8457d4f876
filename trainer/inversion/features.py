"""Distances between images in the features of a network, which see shapes where pixels see shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shards.core.errors import UserError
from trainer.augment.pixels import weigh_by_alpha
from trainer.evaluation.metrics.feature_extractors import load_efficientnet_lite
from trainer.generation.sampler import Sampler
from trainer.models import load_discriminator
from trainer.networks.discriminator import Discriminator

FEATURES = ("auto", "discriminator", "lite0", "none")
_LITE_SIZE = 96  # pixels
_EPSILON = 1e-6


@dataclass(frozen=True)
class FeatureDistance:
    """A differentiable distance of images in the features of a network.

    Attributes:
        name: of the network.
        features: images (N, C, H, W) in [-1, 1] -> one tensor of N rows per layer, of unit length along dimension 1.
    """

    name: str
    features: Callable[[Tensor], list[Tensor]]

    def to(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the distance to an image (1, C, H, W): images (N, C, H, W) -> (N,), 0 for the image itself.

        The squared difference of the unit vectors at each place, averaged over places and layers (LPIPS without
        learned weights: Zhang et al. 2018, arXiv 1801.03924, equation 1).
        """
        with torch.no_grad():
            wanted = self.features(target)

        def distance(x: Tensor) -> Tensor:
            layers = zip(self.features(x), wanted, strict=True)
            return torch.stack([(a - b).square().sum(1).flatten(1).mean(1) for a, b in layers]).mean(0)

        return distance


def open_features(sampler: Sampler, requested: str, notes: list[str]) -> FeatureDistance | None:
    """Return the feature distance of a run, or None for pixels alone.

    Args:
        sampler: the generator.
        requested: one of `FEATURES`; "auto" takes the discriminator's, else EfficientNet's if it is installed.
        notes: takes a sentence about what is missing.

    Raises:
        UserError: what was requested by name is not there.
    """
    if requested == "none":
        return None
    if requested in ("auto", "discriminator"):
        try:
            return discriminator_distance(load_discriminator(sampler.saved, sampler.device), sampler)
        except UserError as error:
            if requested == "discriminator" or error.code != "discriminator-missing":
                raise
    try:
        found = lite_distance(sampler.device)
    except UserError as error:
        if requested == "lite0":
            raise
        notes.append(f"without a discriminator, images are compared by their pixels alone: {error}")
        return None
    if requested == "auto":
        notes.append(f"without a discriminator, images are compared by their pixels and the features of {found.name}")
    return found


def discriminator_distance(discriminator: Discriminator, sampler: Sampler) -> FeatureDistance:
    """Return the distance in the outputs of the levels of a discriminator's trunk, with an unknown label.

    Larsen et al. 2016 (arXiv 1512.09300) compare images by the features of a discriminator.
    """
    layers = [level[-1] for level in discriminator.trunk_levels()]
    width, attributes = sampler.schema.width, len(sampler.schema.attributes)

    def features(x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            found.append(out)

        hooks = [layer.register_forward_hook(keep) for layer in layers]
        try:
            discriminator(weigh_by_alpha(x), x.new_zeros(len(x), width), x.new_zeros(len(x), attributes))
        finally:
            for hook in hooks:
                hook.remove()
        return [F.normalize(out, dim=1, eps=_EPSILON) for out in found]

    return FeatureDistance("discriminator", features)


def lite_distance(device: torch.device) -> FeatureDistance:
    """Return the distance in the features of EfficientNet-Lite0, whose weights the extra `evaluation` has.

    Raises:
        UserError: it is not installed.
    """
    network = load_efficientnet_lite(0)[0].to(device)

    def features(x: Tensor) -> list[Tensor]:
        x = F.interpolate(_as_rgb(x), (_LITE_SIZE, _LITE_SIZE), mode="bicubic", antialias=True)
        return [F.normalize(network.features((x + 1) * 127.5), dim=1, eps=_EPSILON)[:, :, None]]  # one place

    return FeatureDistance("efficientnet-lite0", features)


def _as_rgb(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) in [-1, 1] as (N, 3, H, W): grey repeated, RGBA on mid-grey."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else weigh_by_alpha(x)[:, :3]
