"""Measure how fast a machine trains, on images without content."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer.config import Config
from trainer.distributed.out_of_memory import explain_out_of_memory
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.state import TrainingState

_PLAIN_STEPS = 3  # without a penalty, at least, to one with


class Probe:
    """A training state that trains on one batch without content; it is thrown away.

    Args:
        config: the options; --compile is not followed.
        env: the device and the ranks; every rank makes the same probes.
        shape: of the images.
        widths: label entries of each attribute.
        kinds: of each attribute.
    """

    def __init__(
        self, config: Config, env: Distributed, shape: ImageShape, widths: tuple[int, ...], kinds: Sequence[str]
    ) -> None:
        self._state = build_state(config.replace(compile=False), env, shape, widths, kinds)
        self._batch = _batch_without_content(config.data.batch, env, shape, widths)
        self._every = config.method.penalty_every if self._state.method.gamma > 0 else 1
        cycle = config.method.d_steps * (2 if self._state.method.mode_seeking else 1)  # after which steps are alike
        self._plain = cycle * -(-_PLAIN_STEPS // cycle) if self._every > 1 else 0
        self._alike = cycle if self._every == 1 else 1
        self._penalized = self._others = 0.0
        self._rounds = 0

    def warm_up(self) -> None:
        """Train the first steps, which allocate memory."""
        self._train(2)

    def measure(self) -> None:
        """Train one step with a penalty (a cycle, if all steps have one or none has), and some without."""
        self._state.images_seen = 0
        self._penalized += self._train(self._alike) / self._alike
        if self._plain:
            self._others += self._train(self._plain)
        self._rounds += 1

    @property
    def images_per_second(self) -> float:
        """The speed of a run, in which a penalty is as frequent as --penalty-every says."""
        plain = self._others / self._plain if self._plain else 0.0
        seconds = (self._penalized + (self._every - 1) * plain) / self._every / self._rounds
        return self._state.batch_size / seconds

    def _train(self, steps: int) -> float:
        """Train ``steps`` steps; return the seconds that they took."""
        since = time.monotonic()
        for _ in range(steps):
            with explain_out_of_memory(len(self._batch.images), self._state.config.machine.accumulate):
                self._state.step(self._batch)
        _wait_for_device(self._state)
        return time.monotonic() - since


def speeds(probes: Sequence[Probe], env: Distributed, seconds: float) -> list[float]:
    """Measure probes by turns for about ``seconds``, at least once each.

    Returns:
        Images per second of each, as rank 0 has measured them, on every rank.
    """
    since = time.monotonic()
    while True:
        for probe in probes:
            probe.measure()
        if env.broadcast(time.monotonic() - since >= seconds):
            break
    return env.broadcast([probe.images_per_second for probe in probes])


def _batch_without_content(batch: int, env: Distributed, shape: ImageShape, widths: tuple[int, ...]) -> Batch:
    """Return this rank's part of a batch of noise, without labels."""
    count, entries, attributes = batch // env.world_size, sum(widths), len(widths)
    noise = torch.randint(0, 256, (count, shape.height, shape.width, shape.channels), dtype=torch.uint8)
    return Batch(
        images=noise.permute(0, 3, 1, 2),
        labels=torch.zeros(count, entries),
        known=torch.ones(count, attributes),
        wrong_labels=torch.zeros(count, entries),
        wrong_known=torch.ones(count, attributes),
        has_wrong=torch.ones(count),
        positions=torch.arange(env.rank * count, (env.rank + 1) * count),
        wrong_count=batch,
    )


def _wait_for_device(state: TrainingState) -> None:
    device = state.env.device
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)
        event.record()
        state.env.wait_for(event)
    elif device.type == "mps":
        torch.mps.synchronize()
