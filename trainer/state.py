"""The training state: both networks with their optimizers, the averaged generator, schedules and counters.

`trainer.fresh_state.build_state` makes one. It can take a step, be saved, and be loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shards.dataset.dataset import Dataset
from shards.stream.batch import Batch
from trainer import metric_names
from trainer.augment.adaptive import AdaptiveProbability
from trainer.augment.transform import Transform
from trainer.averages import snapshots
from trainer.averages.ema import ExponentialMovingAverage
from trainer.averages.power_averages import PowerAverages, snapshot
from trainer.compilation import disable_compile
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.finetuning.initial_weights import InitialWeights
from trainer.joint_step import joint_step
from trainer.labels.pseudo_labels import PseudoLabels
from trainer.networks import Architecture
from trainer.nonfinite import NonFiniteGuard
from trainer.run import checkpoint, state_dicts
from trainer.schedules.build import build_schedules
from trainer.schedules.schedule import Schedule
from trainer.schedules.time_plan import TimePlan
from trainer.step import (
    Method,
    Player,
    StepResult,
    discriminator_step,
    generator_step,
)


@dataclass
class TrainingState:
    """Everything that changes while a run trains.

    Attributes:
        config: the resolved options; every checkpoint holds them.
        architecture: the networks' shapes; every checkpoint holds them.
        env: the device, the ranks and the precision.
        g, d: generator and discriminator with their optimizers.
        ema: the averaged generator.
        method: the loss and its weights.
        augmentation: T, whose probability may change; None: no augmentation.
        schedules: by the name under which their values are logged.
        dtype: of weights and images.
        images_seen: the clock.
        head_start: images seen by the run that the initial weights come from (--init-from).
        damaged: damaged images that were replaced so far, on all ranks.
        guard: counts steps skipped for non-finite gradients.
        scheduled: values of the schedules in the last step, by metric key.
        averages: two more averages of G, on rank 0 with --ema-snapshots; otherwise None.
        pseudo_labels: completes the labels of batches; None: what is unknown stays so.
        plan: how many images fit into --minutes; None: --total-images says how many there are.
    """

    config: Config
    architecture: Architecture
    env: Distributed
    g: Player
    d: Player
    ema: ExponentialMovingAverage
    method: Method
    augmentation: Transform | None
    schedules: dict[str, Schedule]
    dtype: torch.dtype
    images_seen: int = 0
    head_start: int = 0
    damaged: int = 0
    guard: NonFiniteGuard = field(default_factory=NonFiniteGuard)
    scheduled: dict[str, float] = field(default_factory=dict)
    averages: PowerAverages | None = None
    pseudo_labels: PseudoLabels | None = None
    plan: TimePlan | None = None

    # -------------------------------------------------------- a step

    def step(self, batch: Batch) -> StepResult:
        """Train on one global batch, of which ``batch`` is this rank's part.

        Each batch is one update of D, and every ``d_steps``-th one of G as well. What happens is a function of images
        seen, so a run may be resumed between two updates of G.

        Returns:
            The measurements; those of G only if it was updated.
        """
        micro_batches = batch.to(self.env.device, self.dtype).split(self.config.machine.accumulate)
        completed = self._complete(micro_batches)
        self._apply_schedules(self.images_seen + self.batch_size)
        step = self.images_seen // self.batch_size
        penalise = self.method.gamma > 0 and step % self.method.penalty_every == 0
        players = (self.d, self.g, completed, self.batch_size, self._method_of(step), self.env)
        if self.config.method.updates == "joint":
            result = joint_step(*players, penalise=penalise)
        else:
            result = discriminator_step(*players, penalise=penalise)
            if (step + 1) % self.config.method.d_steps == 0:
                result |= generator_step(*players)
        self.guard.observe(result.losses, result.grad_norms)
        if self.pseudo_labels is not None:
            guessed = _known(completed) - _known(micro_batches)
            result.statistics[metric_names.GUESSED] = guessed / (self.batch_size * batch.known.shape[1])
        if self.adaptive is not None and result.real_sign is not None:
            self.adaptive.count(result.real_sign)
            self.adaptive.update(step, self.env.all_reduce)
            result.statistics[metric_names.AUGMENT_P] = self.adaptive.p / self.env.world_size  # a sum over ranks
        self.ema.update(self.g.module, self.head_start + self.images_seen, self.batch_size)
        self.images_seen += self.batch_size
        if self.averages is not None:
            self.averages.update(self.g.module, self.images_seen, self.batch_size)
        return result

    def _complete(self, micro_batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return micro-batches with the pseudo-labels of D before its update, if the run has any."""
        if self.pseudo_labels is None:
            return micro_batches
        with disable_compile(self.d.compiled):  # a compiled D has the batch sizes of its own step
            return [self.pseudo_labels.complete(each, self.d.module, self.env.autocast) for each in micro_batches]

    def _method_of(self, step: int) -> Method:
        """Return the method of a step: modes are sought in every second update of G, as a second image takes time."""
        weight = self.method.mode_seeking
        if not weight:
            return self.method
        seeks = step // self.config.method.d_steps % 2
        return dataclasses.replace(self.method, mode_seeking=2 * weight if seeks else 0.0)

    @property
    def batch_size(self) -> int:
        """Images of a global batch."""
        return self.config.data.batch

    @property
    def total_images(self) -> int:
        """Images at which the run ends."""
        return self.plan.total if self.plan is not None else self.config.schedule.total_images

    @property
    def adaptive(self) -> AdaptiveProbability | None:
        """ADA's probability, or None."""
        return self.augmentation.adaptive if self.augmentation is not None else None

    def follow(self, plan: TimePlan) -> None:
        """Follow a plan of --minutes, with which the schedules end."""
        self.plan = plan
        self.schedules = build_schedules(self.config, plan.scale)

    def _apply_schedules(self, images_seen: int) -> None:
        """Set the scheduled values of the step that ends at ``images_seen``: Python numbers, without host sync."""
        if self.plan is not None:
            images_seen = round(self.plan.schedule_images(images_seen))
        now = {name: schedule(images_seen) for name, schedule in self.schedules.items() if schedule.varies}
        for name, player in (("lr_g", self.g), ("lr_d", self.d)):
            for group in player.optimizer.param_groups:
                group["lr"] = now.get(name, group["lr"])
                group["betas"] = (group["betas"][0], now.get("beta2", group["betas"][1]))
        weights = {name: now[name] for name in ("gamma", "mode_seeking") if name in now}
        self.method = dataclasses.replace(self.method, **weights)
        self.ema.half_life = now.get("ema_half_life", self.ema.half_life)
        if self.augmentation is not None:
            self.augmentation.p = now.get("augment_p", self.augmentation.p)
        self.scheduled = {metric_names.SCHEDULE + name: value for name, value in now.items()}

    # -------------------------------------------------------- saving and loading

    def gather_on_rank0(self) -> None:
        """Combine on rank 0, which saves, what differs between ranks: BatchNorm's statistics and ADA's sums.

        All ranks must call this. It waits for the device, so that copies for a checkpoint never wait for a lost rank.
        """
        if self.adaptive is not None:
            self.adaptive.gather_on_rank0(self.env.all_reduce, self.env.is_rank0)
        for module in (self.g.module, self.d.module, self.ema.module):
            self.env.average_buffers(module)
        self.env.synchronize()

    def is_finite(self) -> bool:
        """Return whether all weights are finite. This waits for the device."""
        weights = [p for player in (self.g, self.d) for p in player.module.parameters() if p.numel()]
        largest = torch._foreach_norm(weights, math.inf)  # pyright: ignore[reportPrivateImportUsage, reportArgumentType]
        finite = torch.stack(largest).isfinite().all()
        self.env.synchronize()
        return bool(finite)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all tensors of a checkpoint, by file and name."""
        ada = {"ada": self.adaptive.tensors()} if self.adaptive is not None else {}
        averages = {snapshots.FILE: self.averages.tensors()} if self.averages is not None else {}
        return (
            ada
            | averages
            | {
                "ema": state_dicts.module_tensors(self.ema.module),
                "generator": state_dicts.module_tensors(self.g.module),
                "discriminator": state_dicts.module_tensors(self.d.module),
                "optimizer_g": state_dicts.optimizer_tensors(self.g.module, self.g.optimizer),
                "optimizer_d": state_dicts.optimizer_tensors(self.d.module, self.d.optimizer),
            }
        )

    def snapshot(self) -> dict[str, Tensor]:
        """Return the tensors of a snapshot of the averages."""
        assert self.averages is not None
        return snapshot(self.averages, self.ema.module)

    def values(self) -> dict[str, Any]:
        """Return all plain values of a checkpoint."""
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

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Restore a checkpoint.

        Raises:
            UserError: the tensors do not fit these networks, or this process cannot read them.
        """
        with state_dicts.explain_load_errors(saved.path):
            state_dicts.load_module(self.ema.module, saved.tensors("ema"))
            for player, network, moments in (
                (self.g, "generator", "optimizer_g"),
                (self.d, "discriminator", "optimizer_d"),
            ):
                state_dicts.load_module(player.module, saved.tensors(network))
                state_dicts.load_optimizer(player.module, player.optimizer, saved.tensors(moments))
            if self.adaptive is not None:
                self.adaptive.load(saved.tensors("ada"), self.env.is_rank0)
            if self.averages is not None:
                self.averages.load(saved.tensors(snapshots.FILE))
        if saved.state.scaler:
            self.env.scaler.load_state_dict(saved.state.scaler)
        self.images_seen = saved.images_seen
        self.damaged = saved.state.damaged
        self.guard.skipped = saved.state.skipped
        self.head_start = saved.state.head_start

    def init_from(self, weights: InitialWeights, dataset: Dataset) -> str:
        """Take the weights of another run where they fit, and return a sentence about them.

        The averaged generator keeps its long half-life: `head_start` counts the images that the other run has seen.
        Optimizers, ADA's probability and schedules start anew.

        Raises:
            UserError: nothing fits, or this process cannot read the weights.
        """
        self.head_start = weights.images_seen
        return weights.copy_to(self.g.module, self.ema.module, self.d.module, self.architecture, dataset)


def _known(batches: Sequence[Batch]) -> Tensor:
    """Return how many attributes are known, as a scalar on the device."""
    return torch.cat([batch.known for batch in batches]).sum()
