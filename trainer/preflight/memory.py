"""Estimate the peak memory of a training step without running one, for --dry-run.

The trainer's own steps run on fake tensors, which have shapes, dtypes and storages but no contents; the bytes of each
storage count while it lives. What is allocated outside of tensors is not seen this way, so room is added for it.
"""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shards.stream.batch import Batch
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.models import image_shape
from trainer.nonfinite import NonFiniteGuard
from trainer.state import TrainingState
from trainer.step import Player

GIGABYTE = 10**9
CARD = 24 * GIGABYTE  # of the GPU that the advice is for, where there is none to ask
# Of what is not a tensor of the step: the context of CUDA and the kernels it loads, workspaces of convolutions, buffers
# of NCCL; and the share of the allocator's blocks that no tensor fills. Assumed, not measured.
ROOM, FRAGMENTATION = GIGABYTE, 0.1


def describe(state: TrainingState, env: Distributed, asked: Config) -> str:
    """Return one line with the estimated peak memory of a process, and whether it fits a GPU.

    Args:
        state, env: of the run.
        asked: its options as given. With --mixed-precision auto and no GPU here, the estimate is for bf16, which "auto"
            means on GPUs of today.
    """
    machine = asked.machine
    on_gpu = env.device.type == "cuda"
    automatic = not on_gpu and machine.mixed_precision == "auto" and machine.dtype == "float32"
    precision = "bf16" if automatic else env.precision
    mixed_penalty = machine.penalty_precision == "auto" if automatic else state.method.mixed_penalty
    card = torch.cuda.get_device_properties(env.device).total_memory if on_gpu else CARD
    try:
        estimator = PeakEstimator(state, precision, mixed_penalty)
        peak = estimator.peak(machine.accumulate)
        advice = advise(estimator, machine.accumulate, card)
    except Exception as error:  # such as an operation that fake tensors do not have: the run itself may be fine
        return f"memory: not estimated ({type(error).__name__})"
    return (
        f"memory: about {_gigabytes(with_room(peak))} of a GPU per process, {advice}; this is an estimate, for "
        f"{estimator.samples // machine.accumulate} images at a time in {precision}: {_gigabytes(peak)} of tensors, "
        "and room for the context, workspaces and fragmentation"
    )


def advise(estimator: PeakEstimator, accumulate: int, card: int) -> str:
    """Return whether a process fits a GPU with ``card`` bytes, and if not, which --accumulate does."""
    name = f"a GPU of {card / GIGABYTE:.0f} GB"
    if with_room(estimator.peak(accumulate)) <= card:
        return f"which fits {name}"
    parts = fitting_accumulation(estimator, accumulate, card)
    if parts is None:
        return f"and no --accumulate makes it fit {name}: use smaller networks"
    return f"more than {name} has: use --accumulate {parts} (about {_gigabytes(with_room(estimator.peak(parts)))})"


def fitting_accumulation(estimator: PeakEstimator, accumulate: int, card: int) -> int | None:
    """Return the smallest --accumulate above ``accumulate`` with which a process fits; None if none does."""
    activations = (estimator.peak(accumulate) - estimator.fixed) * accumulate  # of all samples at once
    for parts in range(accumulate + 1, estimator.samples + 1):
        # Measured only where the activations, in proportion to the samples, leave a chance: each measurement is a step.
        promising = with_room(estimator.fixed + activations // parts) <= card
        if estimator.samples % parts == 0 and promising and with_room(estimator.peak(parts)) <= card:
            return parts
    return None


def with_room(tensors: int) -> float:
    """Return the bytes of a GPU that a peak of ``tensors`` bytes takes."""
    return tensors * (1 + FRAGMENTATION) + ROOM


class PeakEstimator:
    """The peak bytes of live tensors in a step, as a function of the number of micro-batches.

    Args:
        state: a training state, which is not changed.
        precision: "no", "bf16" or "fp16"; the latter two take the same memory.
        mixed_penalty: whether steps with a penalty are in that precision, too.

    Attributes:
        samples: images of a step on each process.
        fixed: bytes between two steps: weights, gradients, Adam's moments, the averaged generator.
    """

    def __init__(self, state: TrainingState, precision: str, mixed_penalty: bool = False) -> None:
        self.samples = state.batch_size // state.env.world_size
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._state = _fake_state(state, self._mode, precision)
        self._state.method = dataclasses.replace(state.method, mixed_penalty=mixed_penalty)
        trained = [*_trained(self._state.g), *_trained(self._state.d)]
        # Two moments and a gradient of each weight; on many processes DDP has another copy of each gradient.
        copies = 3 if state.env.world_size == 1 else 4
        self.fixed = copies * sum(map(_bytes, trained)) + sum(map(_bytes, self._weights()))
        self._unseen = (copies - 3) * sum(map(_bytes, trained))
        self._peaks: dict[int, int] = {}

    def peak(self, accumulate: int) -> int:
        """Return the bytes of a step in ``accumulate`` micro-batches, which divide `samples`."""
        if accumulate not in self._peaks:
            self._peaks[accumulate] = self._measure(self.samples // accumulate, min(accumulate, 2)) + self._unseen
        return self._peaks[accumulate]

    def _measure(self, micro_batch: int, count: int) -> int:
        """Measure a step of ``count`` micro-batches; two are like more, as the second finds gradients of the first."""
        state = self._state
        state.config = state.config.replace(accumulate=count, d_steps=1)
        # The first step updates both networks and has D's penalties, if there are any; modes are sought in others.
        steps = {0, 1, state.method.penalty_every} if state.config.method.mode_seeking else {0}
        return max(self._measure_step(step, micro_batch * count) for step in steps)

    def _measure_step(self, step: int, images: int) -> int:
        state = self._state
        state.images_seen = step * state.batch_size
        with self._mode, LiveBytes() as live:
            live.count(self._weights())
            for player in (state.g, state.d):
                live.count(_have_stepped(player))
            state.step(_empty_batch(images, state))
        return live.peak

    def _weights(self) -> Iterator[Tensor]:
        for module in (self._state.g.module, self._state.d.module, self._state.ema.module):
            yield from _tensors(module)
        yield from _averages(self._state)


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all storages that are alive, from the operations that make them.

    Attributes:
        now: bytes alive.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def count(self, tensors: Iterable[Any]) -> None:
        """Count the storages of tensors until they die, each once."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in self._known:
                continue
            self._known.add(storage._cdata)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _forget(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        self.count(tree_leaves(result))
        return result


class _Unobserved(NonFiniteGuard):
    """Asks no tensor for its value: fake ones have none."""

    def observe(self, losses: Mapping[str, Tensor], grad_norms: Mapping[str, Tensor]) -> None:
        """Do nothing."""


def _fake_state(state: TrainingState, mode: FakeTensorMode, precision: str) -> TrainingState:
    """Copy a training state with fake weights, on one process."""
    env = copy.copy(state.env)
    env.world_size, env.precision = 1, "no" if precision == "no" else "bf16"
    env.scaler = torch.amp.GradScaler(env.device.type, enabled=False)
    memo: dict[int, Any] = {id(state.env): env, id(state.guard): _Unobserved()}
    kept = [tensor for module in (state.g.module, state.d.module, state.ema.module) for tensor in _tensors(module)]
    kept += state.adaptive.tensors().values() if state.adaptive is not None else []
    kept += _averages(state)
    for player in (state.g, state.d):
        kept += [tensor for moments in player.optimizer.state.values() for tensor in moments.values()]
    with mode:
        memo |= {id(tensor): _fake(tensor, mode) for tensor in kept}
        for player in (state.g, state.d):
            memo[id(player.wrapped)] = copy.deepcopy(player.module, memo)
        return copy.deepcopy(state, memo)


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    fake = mode.from_tensor(tensor.detach())
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def _have_stepped(player: Player) -> Iterator[Tensor]:
    """Give a player the gradients and moments that it has after a first step, and yield them."""
    for weight in _trained(player):
        weight.grad = torch.zeros_like(weight)
        moments = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        player.optimizer.state[weight] = {"step": torch.zeros(()), **moments}
        yield from (weight.grad, *moments.values())


def _trained(player: Player) -> Iterator[nn.Parameter]:
    return (weight for weight in player.module.parameters() if weight.requires_grad)


def _empty_batch(samples: int, state: TrainingState) -> Batch:
    """Return one process's part of a batch, as the stream yields it."""
    shape, widths = image_shape(state.architecture), state.architecture.widths
    images = torch.empty(samples, shape.channels, shape.height, shape.width, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    labels, known = torch.empty(samples, sum(widths)), torch.empty(samples, len(widths))
    positions = torch.arange(samples)
    return Batch(images, labels, known, labels, known, torch.empty(samples), positions, state.batch_size)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _averages(state: TrainingState) -> Iterable[Tensor]:
    return state.averages.tensors().values() if state.averages is not None else ()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE / 10 else f"{size / 1e6:.0f} MB"
