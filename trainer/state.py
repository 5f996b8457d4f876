"""Everything of a run that changes: both players, the average, the scaler, the clock; built, stepped, saved, loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shards.stream.batch import Batch
from trainer import metric_names
from trainer.augment import Augment, augment, unchanged
from trainer.augment.adaptive import AdaptiveProbability
from trainer.compilation import compile_networks
from trainer.config import Config
from trainer.config.augmentation import AugmentationConfig
from trainer.config.method import MethodConfig
from trainer.config.optimization import OptimConfig, ScheduleConfig
from trainer.distributed.process_group import Distributed
from trainer.ema import ExponentialMovingAverage
from trainer.label_scaling import Loudness
from trainer.losses import LOSSES, class_loss
from trainer.models import fresh_networks
from trainer.networks import Architecture
from trainer.networks.conditioning import LabelMask, set_loudness
from trainer.nonfinite import NonFiniteGuard
from trainer.run import checkpoint
from trainer.schedules import Schedule
from trainer.step import (
    ClassLoss,
    GlobalCounts,
    Method,
    MicroBatch,
    Player,
    StepResult,
    discriminator_step,
    generator_step,
)


class TrainingState:
    """The players and their clock.

    Args:
        config: what to train.
        architecture: the networks' shapes.
        env: device, world and precision.
        kinds: of the label's attributes (see `shards.dataset.schema`), which the loss of a classifier must know.
        loud: how measured numbers of a label enter the networks; None: as they are.
    """

    def __init__(
        self,
        config: Config,
        architecture: Architecture,
        env: Distributed,
        kinds: Sequence[str] = (),
        loud: Loudness | None = None,
    ) -> None:
        self.config, self.architecture, self.env = config, architecture, env
        self.dtype = getattr(torch, config.machine.dtype)
        self.images_seen = 0
        self.head_start = 0  # images seen by the run that the weights are from, if they are another's
        self.damaged = 0  # pictures so far, of all processes, that others stood in for
        self.guard = NonFiniteGuard()
        self.schedules = schedules_of(config.optim, config.method, config.augmentation, config.schedule)
        self.rates: dict[str, float] = {}  # of the last step, as logged: those that move
        self.augment_p: float = config.augmentation.augment_p
        self.adaptive: AdaptiveProbability | None = None
        if config.augmentation.augment == "ada":
            ada = (config.augmentation.ada_target, config.augmentation.ada_speed, config.data.batch)
            self.adaptive = AdaptiveProbability(*ada, env.device, self.dtype)
        self.method = Method(
            loss=LOSSES[config.method.loss],
            mismatch=config.method.mismatch if config.method.mismatch_weight else "none",
            mismatch_weight=config.method.mismatch_weight,
            interpolate=config.method.interpolate,
            gamma=config.method.gamma,
            penalty_every=config.method.penalty_every,
            noise=config.network.noise_size,
            seed=config.seed,
            augment=self._augmentation(),
            classes=self._class_loss(kinds, loud) if config.network.conditioning == "classifier" else None,
            classifier_weight=config.method.classifier_weight,
        )
        g, d = fresh_networks(architecture, config.seed)
        for network in (g, d):
            _set_loudness(network, loud)
        self.ema = ExponentialMovingAverage(self._place(g), config.optim.ema_half_life, config.optim.ema_ramp)
        self.g = self._player(g, config.optim.lr_g)
        self.d = self._player(d, config.optim.lr_d)
        if config.machine.compile and not config.dry_run:
            env.print("compiling the networks, which takes a minute or more")
            share = config.data.batch // env.world_size // config.machine.accumulate  # of one micro-batch
            drawn = 2 * share if config.method.interpolate else share
            # A plane makes of each label a picture of its own; elsewhere features of one picture serve two labels.
            thrice = self.method.mismatch == "generated" or (self.method.mismatch == "real" and d.plane is not None)
            seen = 3 * share if thrice else 2 * share
            compile_networks(g, d, architecture, drawn=drawn, seen=seen, autocast=env.autocast)

    def _augmentation(self) -> Augment:
        """T of the options, with ADA's probability as it is when T is applied."""
        options, seed, adaptive = self.config.augmentation, self.config.seed, self.adaptive
        if options.augment == "none":
            return unchanged

        def transform(pictures: Tensor, purpose: str, positions: Tensor) -> Tensor:
            policy, p = ("ada", adaptive.p) if adaptive is not None else (options.augment_kinds, self.augment_p)
            return augment(pictures, seed, purpose, positions, policy=policy, p=p, flip=options.flip)

        return transform

    def _class_loss(self, kinds: Sequence[str], loud: Loudness | None) -> ClassLoss:
        """That of a classifier, which sees labels as the networks do."""
        widths = self.architecture.widths
        mask = LabelMask(widths)
        _set_loudness(mask, loud)
        mask = mask.to(self.env.device, self.dtype)
        return lambda scores, y, k: class_loss(scores, mask(y, k), k, kinds, widths)

    def _place(self, module: nn.Module) -> nn.Module:
        return module.to(self.env.device, self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _player(self, module: nn.Module, lr: float) -> Player:
        module = self._place(module)
        fused = self.env.device.type in ("cuda", "cpu")
        optimizer = torch.optim.Adam(module.parameters(), lr, betas=self.config.optim.betas, fused=fused)
        return Player(self.env.wrap(module), module, optimizer)

    # -------------------------------------------------------- going on

    def step(self, batch: Batch) -> StepResult:
        """Train on one global batch, of which ``batch`` is this process's share.

        Each batch is one update of D, with pictures and noise of its own; every ``d_steps``-th is one of G as well. So
        the clock stays images seen, and a run that goes on is in the same place between two updates of G.

        Returns:
            The measurements; those of G only where it was updated.
        """
        counts = GlobalCounts(batch=self.config.data.batch, wrong=batch.wrong_count)
        micro_batches = self._micro_batches(batch)
        self._follow_schedules(self.images_seen + self.config.data.batch)
        step = self.images_seen // self.config.data.batch
        penalise = self.method.gamma > 0 and step % self.method.penalty_every == 0
        players = (self.d, self.g, micro_batches, counts, self.method, self.env)
        result = discriminator_step(*players, penalise=penalise)
        if (step + 1) % self.config.method.d_steps == 0:
            result |= generator_step(*players)
        self.guard.observe(result.losses, result.grad_norms)
        if self.adaptive is not None and result.real_sign is not None:
            self.adaptive.count(result.real_sign)
            self.adaptive.update(step, self.env.all_reduce)
            result.statistics[metric_names.AUGMENT_P] = self.adaptive.p / self.env.world_size  # summed over ranks later
        self.ema.update(self.g.module, self.head_start + self.images_seen, self.config.data.batch)
        self.images_seen += self.config.data.batch
        return result

    def _follow_schedules(self, images_seen: int) -> None:
        """Set what moves for the step that brings the clock there: numbers of the CPU, which nothing waits for."""
        now = {name: schedule(images_seen) for name, schedule in self.schedules.items() if schedule.moves}
        for name, player in (("lr_g", self.g), ("lr_d", self.d)):
            for group in player.optimizer.param_groups:
                group["lr"] = now.get(name, group["lr"])
                group["betas"] = (group["betas"][0], now.get("beta2", group["betas"][1]))
        if "gamma" in now:
            self.method = dataclasses.replace(self.method, gamma=now["gamma"])
        self.ema.half_life = now.get("ema_half_life", self.ema.half_life)
        self.augment_p = now.get("augment_p", self.augment_p)
        self.rates = {metric_names.SCHEDULE + name: value for name, value in now.items()}

    def _micro_batches(self, batch: Batch) -> Sequence[MicroBatch]:
        images = batch.images.to(self.env.device, non_blocking=True)  # uint8 crosses, a quarter of the floats' bytes
        x = (images.to(self.dtype) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        vectors = (batch.labels, batch.known, batch.wrong_labels, batch.wrong_known, batch.has_wrong)
        moved = [v.to(self.env.device, self.dtype, non_blocking=True) for v in vectors]
        position = batch.positions.to(self.env.device, non_blocking=True)
        parts = [v.chunk(self.config.machine.accumulate) for v in (x, *moved, position)]
        return [MicroBatch(*part) for part in zip(*parts, strict=True)]

    # -------------------------------------------------------- saving and loading

    def pool(self) -> None:
        """Let rank 0 save what all processes saw: BatchNorm's statistics and ADA's sums; all processes call this."""
        if self.adaptive is not None:
            self.adaptive.pool(self.env.all_reduce, self.env.is_rank0)
        for module in (self.g.module, self.d.module, self.ema.module):
            self.env.average_buffers(module)

    def is_finite(self) -> bool:
        """Whether all weights are finite. This waits for the device."""
        weights = [p for player in (self.g, self.d) for p in player.module.parameters()]
        return bool(torch.stack([w.isfinite().all() for w in weights]).all())

    def files(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by checkpoint file."""
        ada = {"ada": self.adaptive.tensors()} if self.adaptive is not None else {}
        return ada | {
            "ema": checkpoint.module_tensors(self.ema.module),
            "generator": checkpoint.module_tensors(self.g.module),
            "discriminator": checkpoint.module_tensors(self.d.module),
            "optimizer_g": checkpoint.optimizer_tensors(self.g.module, self.g.optimizer),
            "optimizer_d": checkpoint.optimizer_tensors(self.d.module, self.d.optimizer),
        }

    def values(self) -> dict[str, Any]:
        """All that is not a tensor."""
        return {
            "images_seen": self.images_seen,
            "damaged": self.damaged,
            "skipped": self.guard.skipped,
            "head_start": self.head_start,
            "architecture": dataclasses.asdict(self.architecture),
            "config": self.config.to_dict(),
            "precision": self.env.precision,
            "processes": self.env.world_size,
            "threads": self.env.threads,
            "scaler": self.env.scaler.state_dict(),
        }

    def load(self, saved: checkpoint.Saved) -> None:
        """Become what was saved.

        Raises:
            UserError: the tensors do not fit these networks, or this process cannot read them.
        """
        with checkpoint.explained(saved.path):
            checkpoint.load_module(self.ema.module, saved.tensors("ema"))
            for player, network, moments in (
                (self.g, "generator", "optimizer_g"),
                (self.d, "discriminator", "optimizer_d"),
            ):
                checkpoint.load_module(player.module, saved.tensors(network))
                checkpoint.load_optimizer(player.module, player.optimizer, saved.tensors(moments))
            if self.adaptive is not None:
                self.adaptive.load(saved.tensors("ada"), self.env.is_rank0)
        if saved.state["scaler"]:
            self.env.scaler.load_state_dict(saved.state["scaler"])
        self.images_seen = saved.images_seen
        self.damaged = saved.state.get("damaged", 0)  # runs that are older than these counts
        self.guard.skipped = saved.state.get("skipped", 0)
        self.head_start = saved.state.get("head_start", 0)

    def start_from(self, saved: checkpoint.Saved) -> list[str]:
        """Take over the weights of another run, where they fit; its average is not forgotten like a fresh start's.

        Returns:
            Names of tensors that stay fresh.

        Raises:
            UserError: this process cannot read them.
        """
        self.head_start = saved.state.get("head_start", 0) + saved.images_seen
        with checkpoint.explained(saved.path):
            fresh = checkpoint.transfer(self.g.module, saved.tensors("generator"))
            checkpoint.transfer(self.ema.module, saved.tensors("ema"))
            return fresh + checkpoint.transfer(self.d.module, saved.tensors("discriminator"))


def _set_loudness(network: nn.Module, loud: Loudness | None) -> None:
    if loud is not None:
        set_loudness(network, torch.from_numpy(loud.centre), torch.from_numpy(loud.scale))


def schedules_of(
    optim: OptimConfig, method: MethodConfig, augmentation: AugmentationConfig, schedule: ScheduleConfig
) -> dict[str, Schedule]:
    """Return what changes with the images seen, by the name it is logged under."""

    def rate(start: float) -> Schedule:
        over = schedule.decay_images or 0
        return Schedule(start, start * schedule.decay_to, schedule.decay, over, schedule.warmup_images)

    def way(start: float, end: float | None) -> Schedule:
        return Schedule(start) if end is None else Schedule(start, end, "cosine", schedule.decay_images or 0)

    return {
        "lr_g": rate(optim.lr_g),
        "lr_d": rate(optim.lr_d),
        "gamma": way(method.gamma, schedule.gamma_end),
        "beta2": way(optim.betas[1], schedule.beta2_end),
        "ema_half_life": way(optim.ema_half_life, schedule.ema_half_life_end),
        "augment_p": way(augmentation.augment_p, schedule.augment_p_end),
    }
