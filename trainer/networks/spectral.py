"""Spectral normalisation of a discriminator: none of its weights, read as a matrix, stretches a vector.

Miyato et al. 2018 (arXiv 1802.05957): a weight W, read as a matrix of one row an output, is used as W / σ(W). Its
largest singular value σ = uᵀWv is followed by power iteration, one a forward in train mode and none in eval mode; the
vectors u and v are buffers, and so go into checkpoints. The step says when D is in train mode.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from trainer.networks.conditioning import ProjectionHead


class ChannelNorm(nn.Module):
    """Divides a kernel that keeps channels apart by each channel's norm, which is its σ there, exactly."""

    def forward(self, kernel: Tensor) -> Tensor:
        """(C, b, b) -> the same shape."""
        return F.normalize(kernel.flatten(1), dim=1).view_as(kernel)


def normalise(discriminator: nn.Module, spared: nn.Module | None) -> None:
    """Put every matrix and kernel of a discriminator under spectral normalisation, in place.

    Args:
        spared: what draws the label's plane, if something does. It maps no picture, so the discriminator's slope stays
            bounded without it; normalised, a plane of S x S pixels would be a factor S fainter than the picture.
    """
    kept = set(spared.modules()) if spared is not None else set()
    for layer in list(discriminator.modules()):
        if layer in kept:
            continue
        for name, weight in list(layer.named_parameters(recurse=False)):
            if weight.dim() > 1:  # a bias stretches nothing
                _normalise_weight(layer, name, weight)
        if isinstance(layer, ProjectionHead):
            layer.scale = 1.0  # the label's vectors are of length √c no more


def _normalise_weight(layer: nn.Module, name: str, weight: Tensor) -> None:
    # The norm takes the scale out, and the zeros that end a residual block would have no direction.
    nn.init.normal_(weight)
    if weight.dim() == 3:  # the basis that ends a trunk
        parametrize.register_parametrization(layer, name, ChannelNorm())
    else:
        spectral_norm(layer, name)


def work_out_weights(network: nn.Module) -> None:
    """Read every normalised weight inside `parametrize.cached`, so that whoever reads it there finds it ready.

    That makes one power iteration however often it is read, in full precision: half would lose σ.
    """
    for layer in network.modules():
        if parametrize.is_parametrized(layer):
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            for name, parametrization in layer.parametrizations.items():
                device = next(parametrization.parameters()).device
                with torch.autocast(device.type, enabled=False):
                    getattr(layer, name)
