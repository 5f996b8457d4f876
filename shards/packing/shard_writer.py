"""Write one shard: a tar of images, label vectors and JSON for consecutive items, and a record of its contents."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io, process_pool
from shards.core.errors import Failure
from shards.core.problems import Problems
from shards.dataset import sidecars, tar_index
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import ImageError, Prepared, prepare
from shards.packing.labels.labelling import Labelling, Rows
from shards.sources.item import Item

ARRAYS = ("entries", "labels", "known", "hashes")  # stored next to the record, one row per sample


@dataclass(frozen=True)
class Recipe:
    """Options that all shards share; see `shards.packing.pack.Pack`."""

    labelling: Labelling
    shape: ImageShape
    fit: str
    format: str
    background: str = "white"
    min_size: int = 1


@dataclass(frozen=True)
class Task:
    """One shard to write: ``data/name`` and then ``records/name.json``."""

    recipe: Recipe
    data: Path
    records: Path
    name: str
    start: int  # position of its first item in the dataset
    items: tuple[Item, ...]


def record_path(records: Path, name: str) -> Path:
    """Return the path of a finished shard's record."""
    return records / f"{name}.json"


def array_path(records: Path, name: str, array: str) -> Path:
    """Return the path of one of a finished shard's `ARRAYS`."""
    return records / f"{name}.{array}.npy"


def ids_path(records: Path, name: str) -> Path:
    """Return the path of the ids of a finished shard's samples, a JSON list."""
    return records / f"{name}.ids"


def write_shard(task: Task) -> str:
    """Write one shard and its record, both atomically. Their bytes depend on the task alone.

    The samples' ids and `ARRAYS`, which merging needs, are stored next to the record (file, samples, bytes, sha256,
    copied, shape, conflicts, problems), which is written last.

    Returns:
        The shard's name.

    Raises:
        Failure: a disk error.
    """
    recipe, path = task.recipe, task.data / task.name
    rows = recipe.labelling.rows(task.items)
    written = _write_tar(task, rows, path)
    kept, conflicts = written.kept, rows.conflicts
    if conflicts and len(kept) < len(task.items):
        conflicts = recipe.labelling.rows([task.items[i] for i in kept]).conflicts
    arrays = {
        "entries": _entries(path, [key(task.start + number) for number in kept], recipe.shape),
        "labels": rows.labels[kept].astype(recipe.labelling.schema.label_dtype),
        "known": rows.known[kept],
        "hashes": np.frombuffer(b"".join(written.hashes), np.uint8).reshape(-1, 32),
    }
    for name in ARRAYS:
        sidecars.save_array(array_path(task.records, task.name, name), arrays[name])
    ids = json.dumps([task.items[i].id for i in kept]).encode()
    atomic_io.write_bytes(ids_path(task.records, task.name), ids)
    record = {
        "file": task.name,
        "samples": len(kept),
        "bytes": path.stat().st_size,
        "sha256": atomic_io.sha256(path),
        "copied": written.copied,
        "shape": recipe.shape.pixels_shape,
        "conflicts": conflicts,
        "problems": written.problems.noted(),
    }
    atomic_io.write_json(record_path(task.records, task.name), record)
    return task.name


@dataclass
class _Written:
    """The content of a tar: numbers of the items, sha256 of their files, and how many files were copied unchanged."""

    kept: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    copied: int = 0
    problems: Problems = field(default_factory=Problems)


def _write_tar(task: Task, rows: Rows, path: Path) -> _Written:
    """Write the samples of the items whose images can be used."""
    from webdataset.writer import TarWriter  # imports torch, which takes seconds

    recipe, written = task.recipe, _Written()
    is_wide = recipe.labelling.schema.is_wide
    # Fixed owner, mode and time, so that the same items always give the same bytes.
    fixed: dict[str, Any] = {"user": "", "group": "", "mode": 0o444, "mtime": 0}
    with atomic_io.atomic_writer(path) as file, TarWriter(file, encoder=False, compress=False, **fixed) as tar:
        for number, item in enumerate(task.items):
            try:
                data = item.image.read()
                image = prepare(data, recipe.shape, recipe.fit, recipe.format, recipe.background, recipe.min_size)
            except (ImageError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                written.problems.add("image-unusable", f"{item.id}: {reason}")
            else:
                if image.profile_ignored:
                    written.problems.add("colour-profile-unusable", item.id)
                digest, label = hashlib.sha256(data), rows.labels[number]
                notes = _notes(item, rows.known[number], digest.hexdigest(), np.flatnonzero(label) if is_wide else None)
                tar.write(_sample(key(task.start + number), image, recipe.shape, None if is_wide else label, notes))
                written.kept.append(number)
                written.hashes.append(digest.digest())
                written.copied += image.copied
            process_pool.advance()
    return written


def key(position: int) -> str:
    """Return the key of the sample at a position of the dataset."""
    return f"{position:09d}"


def _notes(item: Item, known: np.ndarray, sha256: str, ones: np.ndarray | None) -> bytes:
    """Return the JSON of a sample; ``ones``: the entries of a wide label that are one."""
    notes: dict[str, Any] = {"id": item.id, "tags": item.tags, "known": known.astype(int).tolist()}
    more = {"denied": item.denied, "caption": item.caption, "group": item.group}
    notes |= {name: value for name, value in more.items() if value}
    if ones is not None:
        notes["ones"] = ones.tolist()
    notes["sha256"] = sha256
    # A lone surrogate (from an undecodable file name) has no UTF-8 form; JSON escapes it.
    text = json.dumps(notes, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(notes, separators=(",", ":")).encode()


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, (1, 0), allow_pickle=False)
    return out.getvalue()


def _sample(name: str, image: Prepared, shape: ImageShape, label: np.ndarray | None, notes: bytes) -> dict[str, Any]:
    """Return one WebDataset sample: image, label vector (unless it is wide), JSON."""
    data, extension = image.data, image.format
    if extension == "raw":
        data, extension = _npy(np.frombuffer(data, np.uint8).reshape(shape.pixels_shape)), "image.npy"
    vector = {} if label is None else {"npy": _npy(label)}
    return {"__key__": name, extension: data, **vector, "json": notes}


def _entries(path: Path, keys: list[str], shape: ImageShape) -> np.ndarray:
    """Return the index entries of the images, read back from the finished tar.

    Raises:
        Failure: the tar contains other samples than were written.
    """
    found = [member for member in tar_index.members(path) if member.extension not in ("npy", "json")]
    if [member.key for member in found] != keys:
        raise Failure(
            "shard-damaged",
            f"{path}: reads back different samples than were written; is another program changing the folder?",
        )
    return np.array([_entry(member, shape) for member in found], sidecars.ENTRY)


def _entry(member: tar_index.Member, shape: ImageShape) -> tuple[int, int, int, int]:
    form, length = member.extension, member.length
    if form == "image.npy":  # the pixels follow the array's header
        form, length = "raw", shape.nbytes
    return 0, sidecars.FORMATS.index(form), member.offset + member.length - length, length
