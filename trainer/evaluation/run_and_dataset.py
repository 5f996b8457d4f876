"""Open a run's generator together with the dataset that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from trainer.generation.sampler import Sampler, load
from trainer.models import image_shape


@dataclass(frozen=True)
class RunAndDataset:
    """A trained generator and a dataset of the same image shape and labels."""

    sampler: Sampler
    dataset: Dataset


def open_run_and_dataset(run: Path, checkpoint: str | None, shards: str | None, device: str) -> RunAndDataset:
    """Load a checkpoint, open the run's dataset, and check that they fit together.

    Args:
        run: run directory.
        checkpoint: as for `load`.
        shards: directory or URL of the dataset; None for where it was during training.
        device: of the generator.

    Raises:
        UserError: there is no such run, checkpoint or dataset, or the dataset is not the run's.
    """
    sampler = load(run, checkpoint, device)
    return RunAndDataset(sampler, open_dataset_of(sampler, run, shards))


def open_dataset_of(sampler: Sampler, run: Path, shards: str | None) -> Dataset:
    """Open the dataset of a run that is loaded, and check that they fit together.

    Args:
        sampler: what `load` returned for ``run``.
        shards: as for `open_run_and_dataset`.

    Raises:
        UserError: there is no such dataset, or it is not the run's.
    """
    dataset = _open_dataset(run, sampler.saved.state.config, shards)
    shape = image_shape(sampler.saved.state.architecture)
    if dataset.shape != shape:
        raise UserError(
            "wrong-dataset",
            f"{dataset.where}: its images are {dataset.shape.describe()}, and {run} generates {shape.describe()}; "
            "give the dataset that it was trained on with --shards",
        )
    if dataset.schema != sampler.schema:
        raise UserError(
            "wrong-dataset",
            f"{dataset.where}: its labels ({_summary(dataset.schema)}) are not those that {run} was trained on "
            f"({_summary(sampler.schema)}); give the dataset that it was trained on with --shards",
        )
    return dataset


def _open_dataset(run: Path, config: dict[str, Any], shards: str | None) -> Dataset:
    where = shards or config.get("shards") or str(run / "data")  # the smoke preset draws its own
    cache = config.get("cache")
    limit = int(float(config.get("cache_limit", 50)) * 1e9)
    try:
        return Dataset.open(where, cache=Path(cache) if cache else None, limit_bytes=limit)
    except Failure:
        raise
    except UserError as error:
        hint = "" if shards else "; if the run's dataset has moved, give its new location with --shards"
        raise UserError(error.code, f"{error}{hint}") from None


def _summary(schema: Schema) -> str:
    names = [f"{a.name} of {a.width}" for a in schema.attributes]
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
