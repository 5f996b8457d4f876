"""Notes of a run on its dataset besides the labels: name, number and size of the images, their origin, licence.

They are notes for people, copied from the dataset's manifest; no path, and nothing that training depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.core import text_files
from shards.core.errors import UserError
from trainer.run.checkpoint import Checkpoint

if TYPE_CHECKING:
    from shards.dataset.dataset import Dataset


def notes_of(dataset: Dataset) -> dict[str, Any]:
    """Return the notes of a dataset; what its manifest does not say is None."""
    manifest = dataset.manifest
    source = manifest.get("source")
    origin = source.get("pictures") if isinstance(source, dict) else None
    words = {"name": manifest.get("name"), "pictures": origin, "licence": manifest.get("licence")}
    return {
        **{key: value if isinstance(value, str) else None for key, value in words.items()},
        "samples": manifest.get("samples"),
        "size": manifest.get("picture_size"),
        "fingerprint": dataset.fingerprint,
    }


def read_notes(run: Path, saved: Checkpoint) -> Mapping[str, Any]:
    """Return the notes that a run recorded; those of an older run are read from its dataset, if that is still there.

    Returns:
        Keys as of `notes_of`; none if nothing is known.
    """
    try:
        notes = text_files.read_json(run / "schema.json").get("dataset")
    except (OSError, ValueError, AttributeError):
        notes = None
    if isinstance(notes, dict) and notes.get("fingerprint") == saved.state.data:
        return notes
    return _notes_of_dataset(saved.state.config.get("shards") or str(run / "data"), saved.state.data)


def _notes_of_dataset(where: str, fingerprint: str) -> Mapping[str, Any]:
    from shards.dataset.dataset import Dataset

    try:
        dataset = Dataset(Path(where))
    except UserError:  # moved, removed, or at a URL
        return {}
    return notes_of(dataset) if dataset.fingerprint == fingerprint else {}
