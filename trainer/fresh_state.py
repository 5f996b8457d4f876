"""Build the training state that a run starts from: networks, optimizers, method and schedules, as the options say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from trainer.augment import Unchanged
from trainer.augment.adaptive import AdaptiveProbability
from trainer.augment.transform import Transform
from trainer.averages.ema import ExponentialMovingAverage
from trainer.averages.power_averages import PowerAverages
from trainer.compilation import compile_networks
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.labels.measured import UNMEASURED, MeasuredLabels
from trainer.labels.pseudo_labels import PseudoLabels
from trainer.losses import LOSSES, ClassLoss, class_loss
from trainer.models import architecture_of, fresh_networks
from trainer.networks import Architecture, conditioning_of
from trainer.networks.conditioning import (
    LabelEmbedding,
    LabelMask,
    set_attribute_weights,
    set_label_scaling,
)
from trainer.networks.discriminator import Discriminator
from trainer.nonfinite import NonFiniteGuard
from trainer.schedules.build import build_schedules
from trainer.schedules.time_plan import TimePlan
from trainer.state import TrainingState
from trainer.step import Method, Player


def build_state(
    config: Config,
    env: Distributed,
    shape: ImageShape,
    widths: tuple[int, ...],
    kinds: Sequence[str],
    measured: MeasuredLabels = UNMEASURED,
) -> TrainingState:
    """Build the networks, their optimizers and the method, freshly initialized.

    Args:
        shape: channels, height and width of the images.
        widths: label entries of each attribute.
        kinds: kind of each attribute (see `shards.dataset.schema`).
        measured: what was measured on the dataset's labels; otherwise they are neither scaled nor weighted, and
            captions are not told from others.

    Raises:
        UserError: the networks do not support images of this shape, have fewer levels than --freeze-d, or cannot be
            compiled.
    """
    dtype: torch.dtype = getattr(torch, config.machine.dtype)
    architecture = architecture_of(config.network, shape, widths)
    g, d = _build_networks(config, architecture, measured, env, dtype)
    augmentation = _build_augmentation(config, env, dtype)
    loss_of_classes = _build_class_loss(g, architecture, config.method.label_loss > 0, kinds, measured.captions)
    method = _build_method(config, env, augmentation, loss_of_classes)
    optim = config.optim
    plan = TimePlan() if config.schedule.minutes is not None else None
    state = TrainingState(
        config=config,
        architecture=architecture,
        env=env,
        ema=ExponentialMovingAverage(g, optim.ema_half_life, optim.ema_ramp),
        g=_build_player(g, optim.lr_g, optim.betas, env),
        d=_build_player(d, optim.lr_d, optim.betas, env),
        method=method,
        augmentation=augmentation,
        schedules=build_schedules(config, plan.scale if plan is not None else None),
        dtype=dtype,
        guard=NonFiniteGuard(env.wait_for, scaled=env.scaler.is_enabled()),
        plan=plan,
        pseudo_labels=PseudoLabels(certainty, kinds, widths) if (certainty := config.method.pseudo_labels) else None,
        averages=PowerAverages(g) if optim.ema_snapshots and env.is_rank0 else None,
    )
    if config.machine.compile and not config.dry_run:
        env.print("compiling the networks, which takes a minute or more")
        state.g.compiled = state.d.compiled = True
        micro_batch = config.data.batch // env.world_size // config.machine.accumulate
        _compile(g, d, architecture, method, micro_batch, config.method.updates == "joint", env)
    return state


def _build_networks(
    config: Config, architecture: Architecture, measured: MeasuredLabels, env: Distributed, dtype: torch.dtype
) -> tuple[nn.Module, Discriminator]:
    g, d = fresh_networks(architecture, config.seed)
    if config.method.label_loss:
        d.score_labels()
    if config.optim.freeze_d:
        try:
            d.freeze(config.optim.freeze_d)
        except ValueError as error:
            raise UserError("invalid-value", f"--freeze-d {config.optim.freeze_d}: {error}") from None
    scaling = measured.scaling
    for network in (g, d):
        if scaling is not None:
            set_label_scaling(network, torch.from_numpy(scaling.centre), torch.from_numpy(scaling.scale))
        if measured.weights is not None:
            set_attribute_weights(network, torch.from_numpy(measured.weights))
        network.to(env.device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return g, d


def _build_augmentation(config: Config, env: Distributed, dtype: torch.dtype) -> Transform | None:
    options = config.augmentation
    if options.augment == "none":
        return None
    if options.augment == "diff":
        return Transform(options.augment_kinds, options.flip, options.augment_p)
    if options.augment == "ada-scheduled":
        return Transform("ada", options.flip, options.augment_p)
    adaptive = AdaptiveProbability(options.ada_target, options.ada_speed, config.data.batch, env.device, dtype)
    return Transform("ada", options.flip, adaptive=adaptive)


def _build_method(
    config: Config, env: Distributed, augmentation: Transform | None, loss_of_classes: ClassLoss | None
) -> Method:
    options = config.method
    return Method(
        loss=LOSSES[options.loss],
        mismatch=options.mismatch if options.mismatch_weight else "none",
        mismatch_weight=options.mismatch_weight,
        gamma=options.gamma,
        penalty_every=options.penalty_every,
        mixed_penalty=config.machine.penalty_precision == "auto" and env.penalties_may_be_mixed,
        noise=config.network.noise_size,
        seed=config.seed,
        augment=augmentation or Unchanged(),
        interpolate=options.interpolate,
        mode_seeking=options.mode_seeking,
        class_loss=loss_of_classes,
        class_loss_weight=options.label_loss or options.classifier_weight,
        class_loss_trains_g=not options.label_loss,
    )


def _build_class_loss(
    g: nn.Module, architecture: Architecture, label_loss: bool, kinds: Sequence[str], captions: np.ndarray | None
) -> ClassLoss | None:
    """Return the loss of D's scores of label entries, on labels as G receives them; None without scores."""
    if not (label_loss or conditioning_of(architecture).classifies):
        return None
    mask = next(layer for layer in g.modules() if isinstance(layer, LabelMask))
    embedding = next((layer for layer in g.modules() if isinstance(layer, LabelEmbedding)), None)
    weights = embedding.weights if embedding is not None else None  # loading a checkpoint copies into this tensor
    others = None if captions is None else torch.from_numpy(captions).to(mask.scale)

    def loss(scores: Tensor, y: Tensor, k: Tensor) -> Tensor:
        told_from = None if others is None else mask(others, torch.ones_like(k[:1]).expand(len(others), -1))
        weighted = k if weights is None else k * weights
        return class_loss(scores, mask(y, k), weighted, kinds, architecture.widths, told_from)

    return loss


def _build_player(module: nn.Module, lr: float, betas: tuple[float, float], env: Distributed) -> Player:
    fused = env.device.type in ("cuda", "cpu")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr, betas=betas, fused=fused)
    return Player(env.wrap(module), module, optimizer)


def _compile(
    g: nn.Module,
    d: Discriminator,
    architecture: Architecture,
    method: Method,
    micro_batch: int,
    joint: bool,
    env: Distributed,
) -> None:
    generated = [2 * micro_batch if method.interpolate else micro_batch]
    if method.mode_seeking:  # in every second update
        generated.append(generated[0] + micro_batch)
    # Conditioned early, D computes features once per (image, label); else those of a real image serve two labels.
    three_parts = method.mismatch == "generated" or (method.mismatch == "real" and d.conditioning.early is not None)
    scored = 3 * micro_batch if three_parts else 2 * micro_batch
    compile_networks(g, d, architecture, generated=generated, scored=scored, joint=joint, autocast=env.autocast)
