"""Build networks from a config, and load a trained generator from a checkpoint.

This module needs neither Accelerate nor a tracker, so that images can be generated where only torch is installed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from shards.core import rng
from shards.core.errors import UserError
from trainer.config import Config
from trainer.networks import Architecture, build
from trainer.networks.discriminator import Discriminator
from trainer.run import checkpoint


def architecture_of(config: Config, size: int, widths: tuple[int, ...]) -> Architecture:
    """Return the architecture for images of ``size`` x ``size`` pixels and attributes of ``widths`` label entries."""
    return Architecture(
        family=config.family,
        size=size,
        widths=widths,
        noise=config.noise_size,
        embedding=config.label_size,
        channels=config.channels,
        blocks=config.blocks,
        expansion=config.expansion,
        group_width=config.group_width,
        conditioning=config.conditioning,
        spectral_norm=config.spectral_norm,
    )


def fresh_networks(architecture: Architecture, seed: int) -> tuple[nn.Module, Discriminator]:
    """Build G and D with initial weights that depend on ``seed`` alone, so that they are equal on every rank.

    Raises:
        UserError: the family does not support this image size.
    """
    torch.manual_seed(rng.key(seed, "initial weights"))
    try:
        return build(architecture)
    except ValueError as error:
        raise UserError(str(error)) from None


def load_generator(saved: checkpoint.Saved, device: torch.device) -> tuple[nn.Module, Architecture]:
    """Load the averaged (EMA) generator of a checkpoint in eval mode and float32.

    Raises:
        UserError: the weights do not fit the saved architecture.
    """
    fields: dict[str, Any] = saved.state["architecture"]
    fields = fields | {name: tuple(fields[name]) for name in ("widths", "channels")}  # JSON has no tuples
    architecture = Architecture(**fields)
    generator, _ = fresh_networks(architecture, 0)
    with checkpoint.explained(saved.path):
        checkpoint.load_module(generator, saved.tensors("ema"))
    generator = generator.to(device, torch.float32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator.requires_grad_(False).eval(), architecture
