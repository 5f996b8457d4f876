"""Checkpoints: everything that a run needs to resume, saved atomically and without pickle.

``RUN/checkpoints/000000012800/`` holds safetensors of the weights, their average and the optimizers' moments, and
``state.json`` with the images seen, the options, the label schema, a hash of every other file and one of itself. A
directory is written under another name, fsynced and renamed, and renamed again before it is removed, so a directory
with a final name is complete; hashes detect later damage.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from shards.core import atomic_io, format_version, self_hash, text_files
from shards.core.atomic_io import move_directory, sha256, write_json
from shards.core.errors import Failure, UserError, warn
from shards.core.format_version import NewerFormatError
from trainer.run import saved_state
from trainer.run.saved_state import Best, SavedState

_STATE = "state.json"
_MAX_STATE = 1 << 26  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files match their hashes."""

    path: Path
    state: SavedState

    @property
    def images_seen(self) -> int:
        """Images seen when it was saved."""
        return self.state.images_seen

    @property
    def folder(self) -> Path:
        """The run directory, with the label schema."""
        return self.path.parent.parent

    @property
    def is_average(self) -> bool:
        """Whether it holds an averaged generator and nothing else."""
        return self.state.average_length is not None

    def require_training_state(self) -> Checkpoint:
        """Return this checkpoint.

        Raises:
            UserError: it is a rebuilt average, without the networks that a training starts from.
        """
        if self.is_average:
            raise UserError(
                "not-trainable",
                f"{self.path} holds an average rebuilt by `cgan ema` and nothing to train; name the run that it is of",
            )
        return self

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Load the tensors of one file, on the CPU."""
        return load_file(self.path / f"{name}.safetensors")


def save(
    run: Path,
    state: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Tensor]],
    keep: int,
    best: Best | None = None,
) -> Path:
    """Write a checkpoint, mark it if it is the best, then remove all but the newest ``keep``.

    Args:
        run: the run directory.
        state: plain values with ``images_seen``.
        files: file name -> tensors by name.
        keep: number of checkpoints to keep, the best not counted.
        best: the mark of the best checkpoint; stored in the checkpoint too, so that a process that is killed before it
            writes the mark does not lose it.

    Raises:
        Failure: the disk is full or not writable; older checkpoints are intact.
    """
    final = directory(run, int(state["images_seen"]))
    if not _is_intact(final):  # otherwise it has the same content already
        _write(final, {**state, "best": asdict(best)} if best else state, files)
    if best is not None:
        mark_best(run, best)
    prune(run, keep)
    return final


def _write(final: Path, state: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> None:
    building = final.with_name(f".{final.name}.partial")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        hashes = {}
        for name, tensors in files.items():
            path = building / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
            path.chmod(stat.S_IMODE(building.stat().st_mode) & 0o666)  # as the umask allows; safetensors writes 0600
            _sync(path)
            hashes[path.name] = sha256(path)
        content = {**saved_state.written(state), "sha256": hashes}
        write_json(building / _STATE, self_hash.with_hash(content))
        if final.exists():  # damaged
            remove(final)
        move_directory(building, final)
    except (OSError, SafetensorError, Failure) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise Failure(
            "checkpoint-not-saved",
            f"no checkpoint could be saved in {final.parent} ({error}); earlier checkpoints are intact",
        ) from None


def _is_intact(path: Path) -> bool:
    with contextlib.suppress(UserError):
        return bool(read(path))
    return False


def prune(run: Path, keep: int) -> None:
    """Remove all but the best and the newest ``keep`` checkpoints, and the remains of interrupted saves."""
    marked = read_best(run)
    for old in directories(run)[:-keep]:
        if marked is None or old != directory(run, marked.images_seen):
            remove(old)
    for pattern in (".*.partial", ".*.removed"):
        for remains in (run / "checkpoints").glob(pattern):
            shutil.rmtree(remains, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a directory: renamed first, so that a process that is killed leaves no part of it under its name."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is none, or the disk is read-only
        path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def mark_best(run: Path, best: Best) -> None:
    """Mark a checkpoint as the best: it is never pruned, and the previous best one can be pruned again.

    Raises:
        Failure: the mark cannot be written.
    """
    with atomic_io.explain_disk_errors(run / "checkpoints"):
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_json(run / "checkpoints" / "best.json", self_hash.with_hash(asdict(best)))


def read_best(run: Path) -> Best | None:
    """Return the mark of the best checkpoint; None if there is none.

    A mark that is missing, damaged or of a checkpoint that is gone is found again in the checkpoints.
    """
    best = _written_best(run)
    return best if best is not None and directory(run, best.images_seen).is_dir() else _newest_best(run)


def _written_best(run: Path) -> Best | None:
    with contextlib.suppress(OSError, ValueError):
        content = text_files.read_json(run / "checkpoints" / "best.json", _MAX_STATE)
        best = Best.from_json(content)
        if self_hash.is_intact(content) is not False:
            return best
    return None


def restore_best(run: Path) -> None:
    """Write the mark again if the process ended, or the file was damaged, before it said what the checkpoints say.

    Raises:
        Failure: the mark cannot be written.
    """
    best = _newest_best(run)
    if best is not None and _written_best(run) != best:
        mark_best(run, best)


def _newest_best(run: Path) -> Best | None:
    """Return the mark of the newest checkpoint that was saved as the best: each of these is better than the last."""
    for path in reversed(directories(run)):
        with contextlib.suppress(OSError, ValueError, NewerFormatError):
            best = _read_state(path)[1].best
            if best is not None and best.images_seen == int(path.name):
                return best
    return None


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest intact checkpoint, and a sentence about each newer one that is damaged.

    Raises:
        UserError: a newer checkpoint has a later format; older weights must not silently replace it.
    """
    complaints: list[str] = []
    for path in reversed(directories(run)):
        try:
            return read(path), complaints
        except NewerFormatError:
            raise
        except UserError as error:
            complaints.append(str(error))
    return None, complaints


def read(path: Path) -> Checkpoint:
    """Open a checkpoint and verify the hashes of all its files.

    Raises:
        UserError: it is not a checkpoint, is damaged, or has a later format.
    """
    try:
        content, state = _read_state(path)
        _check_files(path, content.get("sha256"))
    except (OSError, ValueError) as error:
        raise UserError("checkpoint-damaged", f"checkpoint {path} is damaged: {error}") from None
    return Checkpoint(path, state)


def _read_state(path: Path) -> tuple[dict[str, Any], SavedState]:
    """Return the content of a checkpoint's state.json, and its checked values.

    Raises:
        ValueError, OSError: it cannot be read, or does not match its hash or the name of its directory.
        NewerFormatError: it has a later format.
    """
    try:
        content = text_files.read_json(path / _STATE, _MAX_STATE)
    except text_files.UnreadableText as error:
        raise ValueError(f"{_STATE} {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{_STATE} is not an object")
    if self_hash.is_intact(content) is False:
        raise ValueError(f"{_STATE} does not match its hash")
    format_version.check(content, saved_state.FORMAT_VERSION, f"{path} has checkpoint format")
    state = SavedState.from_json(content)
    if path.name != directory(path, state.images_seen).name:
        raise ValueError(f"it was saved at {state.images_seen:,} images, which is not the name of its directory")
    return content, state


def _check_files(path: Path, hashes: Any) -> None:
    """Check that exactly the files that have a hash are there, and match it."""
    names = {file.name for file in path.glob("*.safetensors")}
    if not isinstance(hashes, dict) or not hashes:
        raise ValueError(f"{_STATE} has no hashes")
    if different := sorted(names ^ hashes.keys()):
        raise ValueError(f"{different[0][:60]!r} has a hash or is there, and not both")
    for name, expected in hashes.items():
        if sha256(path / name) != expected:
            raise ValueError(f"{name} does not match its hash")


def find(run: Path, which: str | None = None) -> Checkpoint:
    """Return a run's newest intact checkpoint (None or "newest"), the "best", or the one of ``which`` images seen.

    Raises:
        UserError: there is no such checkpoint.
    """
    if not (run / "checkpoints").is_dir():
        raise UserError("run-missing", f"{run} is not a run directory (no checkpoints/); start a run with --run {run}")
    if which == "best":
        if (best := read_best(run)) is None:
            raise UserError(
                "checkpoint-missing", f"{run} has no best checkpoint; train with --evaluate-every to find one"
            )
        return read(directory(run, best.images_seen))
    if which not in (None, "newest"):
        if not re.fullmatch("[0-9]+", which) or not directory(run, int(which)).is_dir():
            names = [p.name.lstrip("0") or "0" for p in directories(run)]
            raise UserError(
                "checkpoint-missing", f"{run} has no checkpoint {which}; available: {', '.join(names) or 'none'}"
            )
        return read(directory(run, int(which)))
    saved, complaints = newest(run)
    if saved is None:
        if complaints:
            raise UserError("checkpoint-damaged", complaints[0])
        raise UserError("checkpoint-missing", f"{run} has no checkpoint yet; train it for longer")
    for complaint in complaints:
        warn("checkpoint-damaged", f"{complaint}; using {saved.path.name} instead")
    return saved


def rename_damaged(run: Path, newest: Checkpoint) -> None:
    """Rename the damaged checkpoints newer than ``newest``, so that they do not count among those to keep."""
    for path in directories(run):
        if int(path.name) > newest.images_seen:
            shutil.rmtree(path.with_suffix(".damaged"), ignore_errors=True)
            path.rename(path.with_suffix(".damaged"))


def directory(run: Path, images_seen: int) -> Path:
    """Return the directory of the checkpoint at ``images_seen``."""
    return run / "checkpoints" / f"{images_seen:012d}"


def directories(run: Path) -> list[Path]:
    """Return the directories of a run's checkpoints, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("[0-9]*") if re.fullmatch("[0-9]+", p.name) and p.is_dir())


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
