"""Rebuild an average of any length from a run's snapshots, and write it as a run directory.

The directory has the files that `cgan sample`, `cgan evaluate` and `trainer.load` read: the label schema, a sample of
labels, and a checkpoint with nothing but the averaged generator.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shards.core.atomic_io import explain_disk_errors, write_bytes
from shards.core.errors import UserError, warn
from trainer.averages import snapshots
from trainer.averages.power_averages import buffers_of, key_of
from trainer.averages.profiles import LENGTHS, MAX_ERROR, Fit, fit, range_of
from trainer.run import checkpoint, state_dicts
from trainer.run.checkpoint import Checkpoint
from trainer.run.saved_state import SavedState

_COPIED = ("config.yaml", "schema.json", "labels.safetensors", "lineage.json")  # old runs lack the last
_MOMENTS_NAMED = 6  # in an error


@dataclass(frozen=True)
class SavedAverages:
    """The intact snapshots of a run up to a moment, ascending."""

    run: Path
    snapshots: Sequence[Checkpoint]

    @property
    def moments(self) -> list[int]:
        """The images seen of each snapshot; the last one is the moment at which averages are rebuilt."""
        return [snapshot.images_seen for snapshot in self.snapshots]

    def fit(self, length: float) -> Fit:
        """Return how to add the snapshots up to an average of ``length``.

        Raises:
            UserError: these snapshots cannot express this length.
        """
        found = fit(self.moments, length)
        if found.error > MAX_ERROR:
            shortest, longest = range_of(self.moments)
            raise UserError(
                "length-out-of-range",
                f"length {length:g}: the {len(self.moments)} snapshots of {self.run} up to {self.moments[-1]:,} images "
                f"express lengths from {shortest:g} to {longest:g}; use one of these, or train with more "
                "--ema-snapshots",
            )
        return found

    def rebuild(self, length: float) -> dict[str, Tensor]:
        """Return the generator's tensors of an average of ``length`` by name, float32, with the last moment's buffers.

        Sums are in float64, as factors of short lengths are large and of both signs.

        Raises:
            UserError: see `fit`; or a snapshot is gone, or does not have the shapes of the others.
        """
        factors = self.fit(length).factors
        sums: dict[str, Tensor] = {}
        tensors: dict[str, Tensor] = {}
        for row, saved in zip(factors, self.snapshots, strict=True):
            with state_dicts.explain_load_errors(saved.path):  # a training run may remove it meanwhile
                tensors = saved.tensors(snapshots.FILE)
                for factor, kept in zip(row, LENGTHS, strict=True):
                    _add(sums, tensors, key_of(kept, ""), float(factor))
        return {name: tensor.float() for name, tensor in sums.items()} | buffers_of(tensors)


def _add(sums: dict[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, factor: float) -> None:
    """Add the tensors whose names begin with ``prefix``, times ``factor``, to ``sums``, float64."""
    for key in (key for key in tensors if key.startswith(prefix)):
        term = tensors[key].double() * factor
        name = key.removeprefix(prefix)
        sums[name] = sums[name].add_(term) if name in sums else term


def open_averages(run: Path, moment: int | None = None) -> SavedAverages:
    """Open the snapshots of a run up to ``moment`` images seen, by default up to the newest.

    A damaged snapshot is left out with a warning.

    Raises:
        UserError: there are none, or none at this moment.
    """
    if not (run / "checkpoints").is_dir():
        raise UserError("run-missing", f"{run} is not a run directory (no checkpoints/)")
    available = snapshots.moments(run)
    if not available:
        raise UserError(
            "snapshots-missing", f"{run} has no snapshots of its averages; train a run with --ema-snapshots 64"
        )
    last = available[-1] if moment is None else moment
    if last not in available:
        nearest = sorted(sorted(available, key=lambda seen: abs(seen - last))[:_MOMENTS_NAMED])
        raise UserError(
            "moment-missing",
            f"--at {last}: {run} has no snapshot at {last:,} images; the nearest are at {', '.join(map(str, nearest))}",
        )
    intact = []
    for seen in (seen for seen in available if seen <= last):
        try:
            intact.append(checkpoint.read(checkpoint.directory(snapshots.folder(run), seen)))
        except UserError as error:
            if seen == last:
                raise
            warn("snapshot-damaged", f"{error}; averages are rebuilt without it")
    return SavedAverages(run, intact)


def directory_of(run: Path, length: float) -> Path:
    """Return the run directory that `cgan ema` writes by default."""
    return run / "ema" / f"{length:g}"


def write(averages: SavedAverages, length: float, out: Path) -> Checkpoint:
    """Rebuild an average and write it to the run directory ``out``, unless the same is there already.

    Averages of other moments in ``out`` are removed: whoever reads it takes the newest one.

    Raises:
        UserError: the length cannot be expressed.
        Failure: it cannot be written.
    """
    state = _state(averages, length)
    target = checkpoint.directory(out, state.images_seen)
    if not _holds(target, state):
        _write(averages, length, state, out)
    for path in checkpoint.directories(out):
        if path != target:
            checkpoint.remove(path)
    return checkpoint.read(target)


def _holds(target: Path, state: SavedState) -> bool:
    with contextlib.suppress(UserError):
        return checkpoint.read(target).state == state
    return False


def _write(averages: SavedAverages, length: float, state: SavedState, out: Path) -> None:
    tensors = averages.rebuild(length)
    with explain_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in _COPIED:
            if (averages.run / name).exists():
                write_bytes(out / name, (averages.run / name).read_bytes())
    checkpoint.remove(checkpoint.directory(out, state.images_seen))
    checkpoint.save(out, dataclasses.asdict(state), {"ema": tensors}, keep=len(checkpoint.directories(out)) + 1)


def _state(averages: SavedAverages, length: float) -> SavedState:
    """Return the values of the checkpoint of a rebuilt average: those of the last snapshot, and the length."""
    last = averages.snapshots[-1].state
    shards = last.config.get("shards") or str(averages.run / "data")  # the smoke preset draws its own
    return dataclasses.replace(last, config={**last.config, "shards": shards}, average_length=length)
