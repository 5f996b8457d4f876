"""Snapshots of the power-function averages: ``RUN/averages/checkpoints/000000012800/``, in the format of checkpoints.

They are evenly spaced over the images seen so far. When there would be more than a run may keep, the spacing doubles
and every second one is removed, so a run of any length keeps between half of the limit and all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.run import checkpoint

FILE = "averages"  # of a snapshot and of a checkpoint
_FIRST_SPACING = 128  # images
_ALL = 1 << 40  # snapshots


def folder(run: Path) -> Path:
    """Return the directory of a run's snapshots, which the functions of `trainer.run.checkpoint` take for a run."""
    return run / "averages"


def spacing(images_seen: int, limit: int) -> int:
    """Return the images between two snapshots of a run that keeps at most ``limit``."""
    every = _FIRST_SPACING
    while images_seen > limit * every:
        every *= 2
    return every


def is_due(images_seen: int, batch: int, limit: int) -> bool:
    """Return whether the step of ``batch`` images that ends at ``images_seen`` ends with a snapshot."""
    return _crosses(images_seen, batch, spacing(images_seen, limit)) if limit else False


def save(run: Path, values: Mapping[str, Any], tensors: Mapping[str, Tensor], batch: int, limit: int) -> None:
    """Write a snapshot, then remove those that are too close to each other by now.

    Args:
        run: the run directory.
        values: plain values of a checkpoint.
        tensors: see `trainer.averages.power_averages.snapshot`.
        batch: images of a step.
        limit: snapshots to keep. One more stays at the end of a run, which need not be where one is due.

    Raises:
        Failure: the disk is full or not writable; older snapshots are intact.
    """
    newest = checkpoint.save(folder(run), values, {FILE: tensors}, keep=_ALL)
    every = spacing(int(newest.name), limit)
    for path in checkpoint.directories(folder(run)):
        if path != newest and not _crosses(int(path.name), batch, every):
            checkpoint.remove(path)


def discard_newer(run: Path, images_seen: int) -> None:
    """Remove the snapshots that a run which resumes at ``images_seen`` will make again."""
    for path in checkpoint.directories(folder(run)):
        if int(path.name) > images_seen:
            checkpoint.remove(path)


def moments(run: Path) -> list[int]:
    """Return the images seen of a run's snapshots, ascending."""
    return [int(path.name) for path in checkpoint.directories(folder(run))]


def _crosses(images_seen: int, batch: int, every: int) -> bool:
    return images_seen // every > (images_seen - batch) // every
