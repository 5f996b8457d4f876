"""Everything a run needs to go on, saved atomically and without pickle.

``RUN/checkpoints/000000012800/`` holds safetensors of the weights, their average and the optimizers' moments,
and ``state.json`` with the clock, the options, the label schema and a hash of every file. A directory is written
under another name, synced and renamed, so that one with a final name is whole; hashes find what went bad later.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from shards.core import atomic_io
from shards.core.atomic_io import move_directory, sha256, write_json
from shards.core.errors import Failure, UserError
from trainer.networks.conditioning import LabelMask

FORMAT_VERSION = 1


class TooNew(UserError):
    """A checkpoint that a later version of this project wrote: not damaged, and not to be passed over."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint whose hashes have been held against its files."""

    path: Path
    state: dict[str, Any]

    @property
    def images_seen(self) -> int:
        """The clock when it was saved."""
        return self.state["images_seen"]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file, on the CPU."""
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
        state: plain values with ``images_seen``.
        files: file name -> tensors by name.
        best: its mark; kept in it too, so that one who is killed before the mark is written does not lose it.

    Raises:
        Failure: the disk is full or not writable; older checkpoints are untouched.
    """
    final = directory(run, int(state["images_seen"]))
    if not _is_whole(final):  # else the same clock: it holds the same
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
            _sync(path)
            hashes[path.name] = sha256(path)
        write_json(building / "state.json", {"format_version": FORMAT_VERSION, **state, "sha256": hashes})
        if final.exists():  # a damaged one
            shutil.rmtree(final, ignore_errors=True)
        move_directory(building, final)
    except (OSError, SafetensorError, Failure) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise Failure(f"no checkpoint could be saved in {final.parent} ({error}); earlier ones are untouched") from None


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(UserError):
        return bool(read(path))
    return False


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and the best, and what an interrupted save left behind."""
    marked = read_best(run)
    for old in _directories(run)[:-keep]:
        if marked is None or old != directory(run, marked.images_seen):
            shutil.rmtree(old, ignore_errors=True)
    for partial in (run / "checkpoints").glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Best:
    """Which checkpoint is the best so far, and by what."""

    images_seen: int
    metric: str
    value: float


def mark_best(run: Path, best: Best) -> None:
    """Keep a checkpoint as the best: it is never pruned, and the one that was it before is no longer spared.

    Raises:
        Failure: the disk refuses.
    """
    with atomic_io.explain_disk_errors(run / "checkpoints"):
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_json(run / "checkpoints" / "best.json", asdict(best))


def read_best(run: Path) -> Best | None:
    """The checkpoint that is marked as the best; None if none is, or it is gone."""
    try:
        content = json.loads((run / "checkpoints" / "best.json").read_text())
        best = Best(int(content["images_seen"]), str(content["metric"]), float(content["value"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return best if directory(run, best.images_seen).is_dir() else None


def restore_best(run: Path, newest: Saved) -> None:
    """Mark the newest checkpoint if it was saved as the best, and the process ended before it had marked it.

    Raises:
        Failure: the disk refuses.
    """
    best = newest.state.get("best")
    if best is not None and read_best(run) != Best(**best):
        mark_best(run, Best(**best))


def newest(run: Path) -> tuple[Saved | None, list[str]]:
    """The newest whole checkpoint, and a sentence about each newer one that is damaged.

    Raises:
        UserError: a newer one is of a later format; older weights in its place would be a surprise.
    """
    complaints: list[str] = []
    for path in reversed(_directories(run)):
        try:
            return read(path), complaints
        except TooNew:
            raise
        except UserError as error:
            complaints.append(str(error))
    return None, complaints


def read(path: Path) -> Saved:
    """Open a checkpoint and hold its files against their hashes.

    Raises:
        UserError: it is no checkpoint, damaged, or of a later format.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        version = state["format_version"]
        if version > FORMAT_VERSION:
            raise TooNew(f"{path} has checkpoint format {version}, this version reads up to {FORMAT_VERSION}; upgrade")
        for name, expected in state["sha256"].items():
            if sha256(path / name) != expected:
                raise UserError(f"checkpoint {path} is damaged: {name} does not match its hash")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"checkpoint {path} is damaged: {error}") from None
    return Saved(path, state)


def find(run: Path, which: str | None = None) -> Saved:
    """A run's newest whole checkpoint, or the one of ``which`` images seen, or the "best".

    Raises:
        UserError: there is none.
    """
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{run} is no run: it has no checkpoints folder; train one with --run {run}")
    if which == "best":
        if (best := read_best(run)) is None:
            raise UserError(f"{run} has no best checkpoint: it takes --evaluate-every in training to find one")
        return read(directory(run, best.images_seen))
    if which is not None:
        if not re.fullmatch("[0-9]+", which) or not directory(run, int(which)).is_dir():
            names = [p.name.lstrip("0") or "0" for p in _directories(run)]
            raise UserError(f"{run} has no checkpoint {which}; there are {', '.join(names) or 'none'}")
        return read(directory(run, int(which)))
    saved, complaints = newest(run)
    if saved is None:
        raise UserError(complaints[0] if complaints else f"{run} has no checkpoint yet; train it for longer")
    for complaint in complaints:
        print(f"warning: {complaint}; {saved.path.name} is used instead", file=sys.stderr, flush=True)
    return saved


def set_damaged_aside(run: Path, before: Saved) -> None:
    """Rename checkpoints newer than ``before``, which were found damaged, so that none counts among those to keep."""
    for path in _directories(run):
        if int(path.name) > before.images_seen:
            shutil.rmtree(path.with_suffix(".damaged"), ignore_errors=True)
            path.rename(path.with_suffix(".damaged"))


def directory(run: Path, images_seen: int) -> Path:
    """Where the checkpoint of that moment lies."""
    return run / "checkpoints" / f"{images_seen:012d}"


def _directories(run: Path) -> list[Path]:
    return sorted(p for p in (run / "checkpoints").glob("[0-9]*") if re.fullmatch("[0-9]+", p.name) and p.is_dir())


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


# ---------------------------------------------------------------- modules and optimizers as named tensors


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name."""
    return dict(module.state_dict())


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module; names and shapes must be the same."""
    module.load_state_dict(_default_label_scaling(module) | dict(tensors), strict=True)


def _default_label_scaling(module: nn.Module) -> dict[str, Tensor]:
    """What checkpoints lack that are older than `trainer.label_scaling`: labels entered their networks as they are."""
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LabelMask)]
    centres = {f"{name}.centre": torch.zeros_like(layer.centre) for name, layer in layers}
    return centres | {f"{name}.scale": torch.ones_like(layer.scale) for name, layer in layers}


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as ``parameter name/entry``."""
    return {
        f"{name}/{entry}": torch.as_tensor(value)
        for name, parameter in module.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(module: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the saved state back, each moment in its parameter's own memory format.

    A contiguous moment beside a channels_last weight would make a fused optimizer silently wrong.
    """
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:  # Adam's step counter
            value = value.to(parameter.device)
        optimizer.state[parameter][entry] = value


def transfer(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy those tensors that fit by name and shape, for a new run from old weights.

    Returns:
        Names of the module's own tensors that stay fresh (another vocabulary, another size).
    """
    own = module.state_dict()
    tensors = _default_label_scaling(module) | dict(tensors)
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    module.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


@contextlib.contextmanager
def explained(run: Path):
    """Turn a mismatch between saved tensors and networks, or what cannot be read here, into a sentence.

    Raises:
        UserError: that sentence.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{run} cannot be read on {socket.gethostname()} ({getattr(error, 'strerror', None) or error}); "
            "every machine of a job must see it"
        ) from None
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"the weights in {run} do not fit these networks: {str(error).splitlines()[-1].strip()}"
        ) from None
