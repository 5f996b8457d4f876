"""Drawing many pictures and looking at each with the same eyes, shared out among processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from shards.dataset.label_rows import Labels
from trainer.distributed.process_group import Distributed
from trainer.generation import generate
from trainer.noise import normal

PIECE = 128  # pictures drawn and looked at together, whoever does it: what is computed does not depend on the processes

# uint8 (n, 3, S, S) -> arrays of n rows.
Look = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def examine(
    env: Distributed,
    generator: nn.Module,
    noise: int,
    labels: Labels,
    seed: int,
    purpose: str,
    look: Look,
    progress: Callable[[int], object] = lambda pictures: None,
) -> tuple[np.ndarray, ...]:
    """Draw one picture a label and keep what ``look`` finds in it; the same call on every process.

    Args:
        generator: in eval mode, on the process's device.
        noise: length of z; picture n has the noise of position n under ``seed`` and ``purpose``.
        labels: n rows, the same on every process.
        progress: is told of pictures that all processes have done, as far as this one can know.

    Returns:
        What ``look`` found, of all labels in their order; the same on every process.
    """
    count = len(labels.label)
    starts = range(0, count, PIECE)
    mine: dict[int, tuple[np.ndarray, ...]] = {}
    for start in starts[env.rank :: env.world_size]:
        part = Labels(labels.label[start : start + PIECE], labels.known[start : start + PIECE])
        mine[start] = look(redraw(generator, noise, part, seed, purpose, np.arange(start, start + len(part.label))))
        progress(len(part.label) * min(env.world_size, len(starts)))
    found = {start: seen for share in env.all_gather(mine) for start, seen in share.items()}
    return tuple(np.concatenate(arrays) for arrays in zip(*(found[start] for start in starts), strict=True))


def redraw(
    generator: nn.Module, noise: int, labels: Labels, seed: int, purpose: str, numbers: np.ndarray
) -> np.ndarray:
    """The pictures of some numbers, as `examine` drew them, for showing: uint8 (n, 3, S, S).

    Args:
        labels: of these pictures alone.
        numbers: int64 (n,), their places among all.
    """
    device = next(generator.parameters()).device
    z = normal(seed, purpose, torch.from_numpy(np.asarray(numbers, np.int64)).to(device), noise)
    return generate.generate_images(generator, z, labels)
