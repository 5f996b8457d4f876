"""Build networks from their options, and load a trained generator from a checkpoint.

This module needs neither Accelerate nor a tracker, so that images can be generated where only torch is installed.
"""

from __future__ import annotations

import torch
from torch import nn

from shards.core import rng
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape, parse_aspect
from trainer.config.network import NetworkConfig
from trainer.networks import Architecture, build
from trainer.networks.discriminator import Discriminator
from trainer.run import checkpoint, state_dicts


def architecture_of(network: NetworkConfig, shape: ImageShape, widths: tuple[int, ...]) -> Architecture:
    """Return the architecture for images of ``shape`` and attributes of ``widths`` label entries."""
    return Architecture(
        family=network.family,
        size=shape.size,
        widths=widths,
        noise=network.noise_size,
        embedding=network.label_size,
        channels=network.channels,
        blocks=network.blocks,
        expansion=network.expansion,
        group_width=network.group_width,
        conditioning=network.conditioning,
        spectral_norm=network.spectral_norm,
        modulation=network.modulation,
        resize=network.resize,
        image_kernel=network.image_kernel,
        level_means=network.level_means,
        image_channels=shape.channels,
        aspect=parse_aspect(shape.aspect),
    )


def image_shape(architecture: Architecture) -> ImageShape:
    """Return the shape of the images of an architecture."""
    return ImageShape(architecture.image_channels, *architecture.sides)


def fresh_networks(architecture: Architecture, seed: int) -> tuple[nn.Module, Discriminator]:
    """Build G and D with initial weights that depend on ``seed`` alone, so that they are equal on every rank.

    Raises:
        UserError: the family does not support this image size.
    """
    torch.manual_seed(rng.key(seed, "initial weights"))
    try:
        return build(architecture)
    except ValueError as error:
        raise UserError("unsupported-architecture", str(error)) from None


def load_generator(saved: checkpoint.Checkpoint, device: torch.device) -> tuple[nn.Module, Architecture]:
    """Load the averaged (EMA) generator of a checkpoint in eval mode and float32.

    Raises:
        UserError: the weights do not fit the saved architecture.
    """
    architecture = saved.state.architecture
    generator, _ = fresh_networks(architecture, 0)
    with state_dicts.explain_load_errors(saved.path):
        state_dicts.load_module(generator, saved.tensors("ema"))
    generator = generator.to(device, torch.float32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator.requires_grad_(False).eval(), architecture


def load_discriminator(saved: checkpoint.Checkpoint, device: torch.device) -> Discriminator:
    """Load the discriminator of a run's checkpoint in eval mode and float32.

    Raises:
        UserError: it has none, or the weights do not fit the saved architecture.
    """
    if not (saved.path / "discriminator.safetensors").is_file():
        raise UserError(
            "discriminator-missing",
            f"{saved.path} has no discriminator, as exported generators and averages of `cgan ema` have none; give the "
            "run that it is of",
        )
    _, discriminator = fresh_networks(saved.state.architecture, 0)
    with state_dicts.explain_load_errors(saved.path):
        state_dicts.load_module(discriminator, saved.tensors("discriminator"))
    discriminator = discriminator.to(device, torch.float32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return discriminator.requires_grad_(False).eval()
