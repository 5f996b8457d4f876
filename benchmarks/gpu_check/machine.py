"""The device under test, and training states on it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import step as benchmark
import torch
from torch import Tensor

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer import config as configuration
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.state import TrainingState
from trainer.step import StepResult

ROOT = Path(__file__).resolve().parents[2]

# Small networks that between them have every kind of layer, loss, label and augmentation: image size and options.
NETWORKS: dict[str, tuple[int, str]] = {
    "residual": (16, "--family residual --channels 16,16,16 --gamma 0.2 --penalty-every 2 --augment ada --flip"),
    "r3gan": (
        16,
        "--family r3gan --channels 16,16,16 --gamma 0.2 --penalty-every 2 --augment diff --flip --wrong hard",
    ),
    "article": (96, "--family article --loss matching-aware --gamma 0 --interpolate 0.5"),
    "spectral": (
        16,
        "--family residual --channels 16,16,16 --spectral-norm --loss hinge --gamma 0 --mismatch generated",
    ),
    "classifier": (16, "--family r3gan --channels 16,16,16 --conditioning classifier --gamma 0.2 --penalty-every 2"),
    "plane": (
        16,
        "--family residual --channels 16,16,16 --conditioning plane --gamma 0.2 --penalty-every 2 --accumulate 2",
    ),
}


@dataclass(frozen=True)
class Machine:
    """A device, and whether it is only a rehearsal on the CPU, at tiny sizes."""

    device: torch.device

    @property
    def is_gpu(self) -> bool:
        """False in a rehearsal."""
        return self.device.type == "cuda"

    @property
    def half_precisions(self) -> Sequence[str]:
        """Return the mixed precisions of the device."""
        return ("bf16", "fp16") if self.is_gpu else ("bf16",)

    @property
    def networks(self) -> Sequence[str]:
        """Return the names of the small networks; the article's is too large to rehearse with."""
        return tuple(name for name in NETWORKS if self.is_gpu or name in ("residual", "plane"))

    def network(self, name: str, precision: str = "no", *words: str, device: str | None = None) -> Training:
        """Return a training of a small network."""
        size, options = NETWORKS[name]
        batch = 8 if name == "article" else 16
        return self.training(size, [*options.split(), "--batch", str(batch), *words], precision, device)

    def training(
        self, size: int, options: Sequence[str], precision: str = "auto", device: str | None = None
    ) -> Training:
        """Return a training with these options, on this device or another."""
        config = configuration.load(options)
        env = Distributed(device or self.device.type, precision, 4 if self.is_gpu else 1)
        state = build_state(config, env, ImageShape.of(size), benchmark.WIDTHS, benchmark.KINDS)
        batch = benchmark.synthetic(config, size)
        return Training(config, state, pinned(batch) if env.device.type == "cuda" else batch)

    def wait(self) -> None:
        """Wait until the device has finished."""
        benchmark.wait(self.device)

    def seconds_of(self, action: Callable[[], object], least: float, repetitions: int = 1) -> float:
        """Return the mean seconds of an action, after one that is not counted.

        Args:
            least: go on for so many seconds; less in a rehearsal.
            repetitions: and so often.
        """
        action()
        self.wait()
        start, count = time.perf_counter(), 0
        while count < repetitions or (self.is_gpu and time.perf_counter() - start < least):
            action()
            count += 1
        self.wait()
        return (time.perf_counter() - start) / count


class Training:
    """A training state and a batch in memory that it trains on."""

    def __init__(self, config: Config, state: TrainingState, batch: Batch) -> None:
        self.config, self.state, self.batch = config, state, batch

    def run(self, steps: int, first: int = 0) -> StepResult:
        """Take steps, from number ``first`` on."""
        result = StepResult()
        for number in range(first, first + steps):
            self.state.images_seen = number * self.state.batch_size
            positions = self.batch.positions + self.state.images_seen
            result = self.state.step(self.batch._replace(positions=positions))
        return result

    def endless(self, cycle: int, first: int = 0) -> Callable[[], None]:
        """Return a function that takes the next ``cycle`` steps at each call."""
        starts = itertools.count(first, cycle)
        return lambda: self.run(cycle, next(starts)) and None

    def weights(self) -> list[Tensor]:
        """Return all weights, in float64 on the CPU."""
        modules = (self.state.g.module, self.state.d.module, self.state.ema.module)
        return [p.detach().double().cpu() for module in modules for p in module.parameters()]


def pinned(batch: Batch) -> Batch:
    """Return a batch in pinned memory, as the loader yields it."""
    fields = {name: field for name, field in batch._asdict().items() if isinstance(field, Tensor)}
    return batch._replace(**{name: torch.empty_like(t, pin_memory=True).copy_(t) for name, t in fields.items()})


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of tensors, each relative to its norm."""
    return max(float((x - y).norm() / x.norm().clamp(min=1e-3)) for x, y in zip(a, b, strict=True))


@contextmanager
def backends(*, tf32: bool = False, benchmark: bool = False, deterministic: bool = False) -> Iterator[None]:
    """Set how torch computes on GPUs, within the context. A `Distributed` made inside it may set it again."""
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = tf32, tf32, benchmark, deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(False)
