"""Training states on the fake GPU, and what their steps cost there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shards.dataset.image_shape import ImageShape
from support.fake_cuda.meter import Meter

import torch  # isort: skip - after the rig

from shards.stream.batch import Batch
from shards.stream.loader import batches
from trainer import config as configuration
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.step import StepResult

WIDTHS, KINDS = (3, 1, 2), ("exclusive", "tag", "vector")


@dataclass
class Cost:
    """What a meter has seen: see `Meter`."""

    kernels: int = 0
    peak_megabytes: float = 0.0
    wide_convolutions: int = 0
    waits: dict[str, int] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)


class Training:
    """A training state on the fake GPU, after its first step, which makes the optimizers' moments.

    Args:
        words: the trainer's options.
        shape: channels, height and width of the images, or the side of square RGB ones.
    """

    def __init__(self, words: str, shape: int | Sequence[int]) -> None:
        self.config = configuration.load(words.split())
        machine = self.config.machine
        self.env = Distributed(machine.device, machine.mixed_precision, threads=1)
        assert self.env.device.type == "cuda"
        self.meter = Meter()
        with self.meter:
            images = ImageShape.of(shape) if isinstance(shape, int) else ImageShape(*shape)
            self.state = build_state(self.config, self.env, images, WIDTHS, KINDS)
            stream = Stream(self.config.data.batch, images)
            self.incoming = batches(stream, 0, workers=0, pin_memory=True)  # type: ignore[arg-type]
            self.state.step(next(self.incoming))

    @property
    def kinds(self) -> dict[str, int]:
        """The kinds of steps that there are, "plain" and "penalty", each with the number of one in the run."""
        method = self.config.method
        plain, penalty = 3, 3 + -3 % method.penalty_every  # ADA adapts in step 3, and two updates of D to one of G end
        if not method.gamma:
            return {"plain": plain}
        return {"penalty": penalty} if method.penalty_every == 1 else {"plain": plain, "penalty": penalty}

    def step(self, number: int) -> StepResult:
        """Take step ``number`` of the run."""
        self.state.images_seen = number * self.state.batch_size
        return self.state.step(next(self.incoming))

    @contextlib.contextmanager
    def measured(self) -> Iterator[Cost]:
        """Measure what runs within this context."""
        cost = Cost()
        with self.meter:
            self.meter.restart()
            yield cost
        cost.kernels, cost.wide_convolutions = sum(self.meter.kernels.values()), self.meter.wide
        cost.peak_megabytes = round(self.meter.peak / 1e6, 1)
        cost.waits, cost.copies = dict(self.meter.waits), dict(self.meter.copies)


class Stream:
    """Batches without content, as a stream yields them."""

    def __init__(self, batch: int, shape: ImageShape) -> None:
        self.batch, self.shape = batch, shape

    def __getitem__(self, number: int) -> Batch:
        """Return a batch."""
        count = self.batch
        images = torch.zeros(count, self.shape.channels, self.shape.height, self.shape.width, dtype=torch.uint8)
        labels, known = torch.zeros(count, sum(WIDTHS)), torch.ones(count, len(WIDTHS))
        positions = torch.arange(count) + number * count
        images = images.contiguous(memory_format=torch.channels_last)
        return Batch(images, labels, known, labels, known, torch.ones(count), positions, count)
