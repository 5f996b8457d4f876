"""Spectral normalization of a discriminator: every weight, as a matrix, has a largest singular value of 1.

Miyato et al. 2018 (arXiv 1802.05957): a weight W, as a matrix with one row per output, is used as W / σ(W). Its largest
singular value σ = uᵀWv is tracked by power iteration, one iteration per forward pass in train mode and none in eval
mode. The vectors u and v are buffers, and so are saved in checkpoints. The step decides when D is in train mode.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from trainer.networks.conditioning import ProjectionHead


class ChannelNorm(nn.Module):
    """Divide a depthwise kernel by the norm of each channel, which is exactly that channel's σ."""

    def forward(self, kernel: Tensor) -> Tensor:
        """Map (C, b, b) to the same shape."""
        return F.normalize(kernel.flatten(1), dim=1).view_as(kernel)


def normalize(discriminator: nn.Module, skip: nn.Module | None) -> None:
    """Apply spectral normalization to every matrix and kernel of a discriminator, in place.

    Args:
        skip: the module that draws the label's plane, if there is one. It does not see the image, so the
            discriminator's slope is bounded without it; normalized, a plane of S x S pixels would be S times weaker
            than the image.
    """
    kept = set(skip.modules()) if skip is not None else set()
    for layer in list(discriminator.modules()):
        if layer in kept:
            continue
        for name, weight in list(layer.named_parameters(recurse=False)):
            if weight.dim() > 1:  # a bias has no singular values
                _normalize_weight(layer, name, weight)
        if isinstance(layer, ProjectionHead):
            layer.scale = 1.0  # the label's vectors no longer have a length of about √c


def _normalize_weight(layer: nn.Module, name: str, weight: Tensor) -> None:
    # Normalization removes the scale, and the zero weights that end a residual block would have no direction.
    nn.init.normal_(weight)
    if weight.dim() == 3:  # the basis that ends a trunk
        parametrize.register_parametrization(layer, name, ChannelNorm())
    else:
        spectral_norm(layer, name)


def evaluate_normalized_weights(network: nn.Module) -> None:
    """Compute every normalized weight inside `parametrize.cached`, for all later reads there.

    This makes one power iteration however often a weight is read, in full precision: half precision would lose σ.
    """
    for layer in network.modules():
        if parametrize.is_parametrized(layer):
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            for name, parametrization in layer.parametrizations.items():
                device = next(parametrization.parameters()).device
                with torch.autocast(device.type, enabled=False):
                    getattr(layer, name)
