"""Gradient penalties in bf16: what they change, where they are used, and what resumed runs do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from shards.dataset.image_shape import ImageShape
from support.training import make_env
from trainer import config
from trainer.config.machine import MachineConfig
from trainer.losses import image_slopes
from trainer.models import architecture_of, fresh_networks
from trainer.networks.discriminator import Discriminator
from trainer.networks.second_derivatives import cheap_second_derivatives
from trainer.run.directory import RunDirectory
from trainer.setup.build import _resolve_penalty_precision
from trainer.step import split_scores

WIDTHS, BATCH = (3, 1), 8


def faces32() -> Discriminator:
    """Return the preset's discriminator, with small weights where it starts with zeros, as after some steps."""
    options = config.load(["--preset", "faces32"])
    _, d = fresh_networks(architecture_of(options.network, ImageShape.of(32), WIDTHS), 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in d.parameters():
            if not parameter.any():
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    return d.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gradient_of_penalty(d: Discriminator, mixed: bool) -> Tensor:
    """Return the gradient of the penalty with respect to all of D's weights, float64 (P,)."""
    generator = torch.Generator().manual_seed(1)
    images = (2 * torch.rand(BATCH, 3, 32, 32, generator=generator) - 1).requires_grad_()
    labels, known = torch.eye(4)[torch.arange(BATCH) % 4], torch.ones(BATCH, len(WIDTHS))
    with make_env("bf16").autocast(enabled=mixed), cheap_second_derivatives():
        scores = d(images, labels, known)
    logits, _ = split_scores(scores.float())
    penalty = image_slopes(logits, images).square().sum()
    weights = list(d.parameters())
    gradients = torch.autograd.grad(penalty, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten().double() for gradient in gradients])


def test_the_gradient_of_a_bf16_penalty_points_where_that_of_float32_does() -> None:
    d = faces32()
    full, mixed = gradient_of_penalty(d, False), gradient_of_penalty(d, True)
    assert not torch.equal(full, mixed)
    assert cosine_similarity(full, mixed, 0) > 0.9999
    assert 0.99 < mixed.norm() / full.norm() < 1.01


@pytest.mark.parametrize(
    ("precision", "asked", "saved", "resolved"),
    [
        ("bf16", "auto", None, "auto"),
        ("bf16", "full", None, "full"),
        ("no", "auto", None, "full"),
        ("fp16", "auto", None, "full"),  # the loss scaler does not scale the slope that is squared
        ("bf16", "auto", "penalty_precision: auto", "auto"),
        ("bf16", "auto", "penalty_precision: full", "full"),
        ("bf16", "auto", "batch: 8", "full"),  # a run that is older than the option
    ],
)
def test_auto_is_bf16_in_new_runs_and_stays_what_it_was_in_others(
    tmp_path: Path, precision: str, asked: str, saved: str | None, resolved: str
) -> None:
    env = make_env()
    env.precision = precision
    if saved is not None:
        (tmp_path / "checkpoints" / f"{8:012d}").mkdir(parents=True)
        (tmp_path / "config.yaml").write_text(saved)
    machine = MachineConfig(penalty_precision=asked)
    assert _resolve_penalty_precision(machine, RunDirectory(tmp_path), env) == resolved
