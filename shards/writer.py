"""One shard: a run of items becomes a tar of pictures, label vectors and notes, and a record of what is in it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.writer import TarWriter

from shards import files, index, workers
from shards.errors import Failure
from shards.pictures import PictureError, prepare
from shards.schema import Schema
from shards.sources import Item, Problems

UNREADABLE = "pictures that cannot be used (left out)"


@dataclass(frozen=True)
class Recipe:
    """What is the same for all shards; see the options of `shards.pack.Pack`."""

    schema: Schema
    absent: str
    size: int
    fit: str
    format: str


@dataclass(frozen=True)
class Task:
    """One shard to write: ``data/name`` and, when that is on the disk, ``records/name.json``."""

    recipe: Recipe
    data: Path
    records: Path
    name: str
    start: int  # the position of its first item among all
    items: tuple[Item, ...]


def record_path(records: Path, name: str) -> Path:
    """Where the record of a finished shard lies."""
    return records / f"{name}.json"


def write_shard(task: Task) -> dict[str, Any]:
    """Write one shard and its record; both appear whole or not at all, and depend on the task alone.

    Returns:
        The record: file, samples, bytes, sha256, positions of the items that are in it, their index
        entries, how many pictures were copied byte for byte, and problems by kind.

    Raises:
        Failure: the disk refuses.
    """
    path = task.data / task.name
    problems = Problems()
    positions: list[int] = []
    copied = 0
    # Fixed owner, mode and time: the same items give the same bytes, whoever packs them and when.
    fixed: dict[str, Any] = {"user": "", "group": "", "mode": 0o444, "mtime": 0}
    with files.replacing(path) as file, TarWriter(file, encoder=False, compress=False, **fixed) as tar:
        for position, item in enumerate(task.items, task.start):
            try:
                picture = prepare(item.picture.read(), task.recipe.size, task.recipe.fit, task.recipe.format)
            except (PictureError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                problems.add(UNREADABLE, f"{item.id}: {reason}")
            else:
                tar.write(_sample(position, item, picture.format, picture.data, task.recipe))
                positions.append(position)
                copied += picture.copied
            workers.advance()
    record = {
        "file": task.name,
        "samples": len(positions),
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
        "positions": positions,
        "entries": _entries(path, positions),
        "copied": copied,
        "problems": problems.found,
    }
    files.write_json(record_path(task.records, task.name), record)
    return record


def key(position: int) -> str:
    """The name of the sample at a position of the data set."""
    return f"{position:09d}"


def _sample(position: int, item: Item, form: str, picture: bytes, recipe: Recipe) -> dict[str, Any]:
    encoded = recipe.schema.encode(item.tags, recipe.absent)
    vector = io.BytesIO()
    np.lib.format.write_array(vector, encoded.label, allow_pickle=False)
    notes = {"id": item.id, "tags": item.tags, "known": encoded.known.astype(int).tolist()}
    text = json.dumps(notes, ensure_ascii=False, separators=(",", ":"))
    return {"__key__": key(position), form: picture, "npy": vector.getvalue(), "json": text.encode()}


def _entries(path: Path, positions: list[int]) -> list[list[int]]:
    """Where the pictures lie, read back from the finished tar: (format, offset, length) each."""
    keys, entries = index.scan(path)
    if keys != [key(position) for position in positions]:
        raise Failure(f"{path}: reads back other samples than were written; is another program changing the folder?")
    return [[int(entry["format"]), int(entry["offset"]), int(entry["length"])] for entry in entries]
