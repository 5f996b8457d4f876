"""The directory of another method's run: one file of tensors; metrics and evaluations are as in the trainer's runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from shards.core.atomic_io import write_bytes
from shards.core.errors import UserError


@dataclass(frozen=True)
class Saved:
    """The metadata in a run's file.

    Attributes:
        method: name in `other_methods.registry.METHODS`.
        images_seen: the clock.
        shards: where the dataset was.
        data: its fingerprint.
        seed: of the training; None: it was not recorded.
    """

    method: str
    images_seen: int
    shards: str
    data: str
    seed: int | None = None


def path_of(run: Path) -> Path:
    """Return the file of tensors of a run."""
    return run / "method.safetensors"


def write(run: Path, saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Replace the file, atomically.

    Raises:
        Failure: it cannot be written.
    """
    values = {key: str(value) for key, value in vars(saved).items() if value is not None}
    write_bytes(path_of(run), save({name: tensor.contiguous() for name, tensor in tensors.items()}, values))


def read(run: Path) -> Saved | None:
    """Return what is saved; None if nothing is.

    Raises:
        UserError: the file is damaged.
    """
    path = path_of(run)
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            values = file.metadata()
        seed = int(values["seed"]) if "seed" in values else None
        return Saved(values["method"], int(values["images_seen"]), values["shards"], values["data"], seed)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError("run-damaged", f"{path} is damaged ({error}); remove it to train again") from None


def tensors_of(run: Path) -> dict[str, Tensor]:
    """Load the tensors, on the CPU."""
    return load_file(path_of(run))


def images_seen(run: Path) -> int:
    """Return the images seen by what is saved; 0 if nothing is."""
    saved = read(run)
    return saved.images_seen if saved is not None else 0
