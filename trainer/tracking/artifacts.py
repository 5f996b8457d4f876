"""Versioned files that a run gives to trackers: the dataset that it used, and the models that it made.

Each has a key, so that a resumed run logs none twice.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from trainer.run import checkpoint, dataset_notes
from trainer.run.redaction import public

_OTHERS = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Artifact:
    """Files under a name, of which a tracker keeps versions.

    Attributes:
        key: what it holds; equal keys hold the same.
        name: of letters, digits, "_", "-" and "."; a tracker appends the run's id to that of a model.
        kind: "dataset" for what the run used, "model" for what it made.
        files: names in the artifact, with what they hold.
        aliases: names of this version.
        metadata: plain values.
    """

    key: str
    name: str
    kind: Literal["dataset", "model"]
    files: dict[str, Path | bytes]
    aliases: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(len(f) if isinstance(f, bytes) else f.stat().st_size for f in self.files.values())

    @property
    def is_there(self) -> bool:
        """Whether all files are still there: old checkpoints are deleted while a run trains."""
        return all(isinstance(f, bytes) or f.is_file() for f in self.files.values())


def of_dataset(dataset: Dataset) -> Artifact:
    """Return the manifest and the label schema of a dataset, without paths and keys, and without its images."""
    manifest = json.dumps(public(dict(dataset.manifest)), indent=1).encode()
    schema = yaml.safe_dump(dataset.schema.to_json(), sort_keys=False, allow_unicode=True).encode()
    name = _OTHERS.sub("-", str(dataset.manifest.get("name") or "dataset")).strip("-.") or "dataset"
    return Artifact(
        f"dataset {dataset.fingerprint}",
        name[:100],
        "dataset",
        {"manifest.json": manifest, "schema.yaml": schema},
        metadata=public(dataset_notes.notes_of(dataset)),
    )


def of_checkpoints(run: Path) -> Iterator[Artifact]:
    """Yield the checkpoints that a run has, oldest first; one that is deleted meanwhile is left out."""
    for path in checkpoint.directories(run):
        with contextlib.suppress(FileNotFoundError):
            found = sorted(path.iterdir())
            files: dict[str, Path | bytes] = {file.name: file for file in found if file.is_file()}
            yield _model(run, "checkpoint", int(path.name), files)


def of_generators(run: Path, folder: Path, warn: Callable[[str, Exception], None]) -> Iterator[Artifact]:
    """Yield the averaged generators of the best and the newest checkpoint, as `cgan export` writes them.

    Args:
        folder: where their files are written.
        warn: called with the name and the error of one that is left out: its checkpoint is damaged, or the disk full.
    """
    from trainer.export.folder import write_folder
    from trainer.generation.sampler import load

    best, paths = checkpoint.read_best(run), checkpoint.directories(run)
    moments = {int(path.name) for path in paths[-1:]} | ({best.images_seen} if best is not None else set())
    for images_seen in sorted(moments):
        out = folder / str(images_seen)
        try:
            write_folder(load(run, images_seen, device="cpu"), run, out)
        except UserError as error:
            warn(f"the generator of {images_seen:,} images", error)
            continue
        files: dict[str, Path | bytes] = {file.name: file for file in sorted(out.iterdir())}
        yield _model(run, "generator", images_seen, files)


def _model(run: Path, what: str, images_seen: int, files: dict[str, Path | bytes]) -> Artifact:
    best, newest = checkpoint.read_best(run), checkpoint.directories(run)[-1:]
    is_best = best is not None and best.images_seen == images_seen
    is_newest = any(int(path.name) == images_seen for path in newest)
    measured = {best.metric: best.value} if best is not None and is_best else {}
    return Artifact(
        f"{what} {images_seen}",
        what,
        "model",
        files,
        aliases=(*(("latest",) if is_newest else ()), *(("best",) if is_best else ()), f"images-{images_seen}"),
        metadata={"images_seen": images_seen, **measured},
    )
