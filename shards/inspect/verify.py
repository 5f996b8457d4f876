"""``cgan verify``: list every problem of a dataset.

Opening a dataset stops at the first problem; this command reports all of them. It checks the manifest for consistency,
files against their hashes, index entries against the members of the tars, rows of the label matrices against the
labels in the tars, and that images can be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import format_version, process_pool, self_hash, text_files
from shards.core.atomic_io import join_names
from shards.core.cli import argument, option, parse, validate
from shards.core.errors import Failure, UserError
from shards.core.format_version import NewerFormatError
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape, manifest_shape
from shards.dataset.manifest import FORMAT_VERSION, MANIFEST, is_count, shard_record_error, short_repr
from shards.dataset.npy_mmap import open_memmap
from shards.dataset.schema import Schema
from shards.dataset.sidecars import ENTRY, label_dtype
from shards.inspect.shard_check import Findings, Shard, Sidecar, check

_SIDECARS = ("index.npy", "labels.npy", "known.npy", "schema.yaml")  # that every dataset has
_SHOWN = 100  # lines
_NAME = re.compile(r"[^/\\\0]{1,255}")
_HASH = re.compile("[0-9a-f]{64}")
_MOST = 1 << 62  # maximum number of bytes or samples in a manifest


@dataclass(frozen=True)
class Verify:
    """Check a dataset and list every file, row or image that is damaged, altered, missing or inconsistent.

    Exit status 0: the dataset is intact. 1: it has problems; each line names one, its location and what to do.
    """

    path: Path = argument("folder of the dataset")
    quick: bool = option(False, "do not decode the images")
    workers: int = option(0, "number of processes; 0: one per core", minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        validate(self)


def main(argv: Sequence[str]) -> None:
    """Run ``cgan verify``."""
    verify(parse(Verify, argv, command="cgan verify"))


def verify(options: Verify) -> None:
    """Check a dataset and print its problems and notes.

    Raises:
        UserError: there is no dataset.
        Failure: the dataset has problems.
    """
    found = findings(options.path, quick=options.quick, processes=options.workers or process_pool.available_cores())
    for line in found.problems[:_SHOWN]:
        print(f"{options.path}: {line}")
    if (more := len(found.problems) - _SHOWN) > 0:
        print(f"{options.path}: and {more:,} more")
    for line in found.notes[:_SHOWN]:
        print(f"note: {line}")
    if found.problems:
        what = "1 problem" if len(found.problems) == 1 else f"{len(found.problems):,} problems"
        raise Failure("dataset-damaged", f"{options.path}: this dataset has {what} (listed above)")
    decoded = "not decoded (--quick)" if options.quick else "all decoded"
    print(f"{options.path}: intact; images {decoded}; index, labels, schema and hashes match")


def findings(folder: Path, *, quick: bool = False, processes: int = 1) -> Findings:
    """Return the problems of the dataset in a folder, including those of its ``validation`` split.

    Args:
        folder: a packed dataset, or tars indexed in place.
        quick: do not decode the images.
        processes: number of processes.

    Raises:
        UserError: there is no dataset in the folder.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        what = "no such folder" if not folder.is_dir() else f"there is no {MANIFEST} in it"
        raise UserError(
            "dataset-missing",
            f"{folder} is not a dataset ({what}); give one that cgan pack or index made",
        )
    found = Findings()
    manifest = _manifest(folder, found)
    if manifest is None:
        return found
    tasks = list(_tasks(folder, manifest, quick, found))
    total = sum(task.samples for task in tasks if isinstance(task, Shard))
    results = process_pool.run(check, tasks, workers=min(processes, max(1, len(tasks))), total=total, doing="verifying")
    for result in sorted(results, key=lambda result: result.problems):
        found.problems += result.problems
    _check_strays(folder, manifest, found)
    if not found.problems:
        try:
            Dataset.open(folder)
        except UserError as error:
            found.add(str(error).removeprefix(f"{folder}/"))
    _check_validation(folder, manifest, quick, processes, found)
    return found


# ---------------------------------------------------------------- manifest


def _manifest(folder: Path, found: Findings) -> dict[str, Any] | None:
    """Return the manifest, even if it has problems; None if it is unusable."""
    try:
        manifest = text_files.read_json(folder / MANIFEST)
    except (OSError, ValueError) as error:
        found.add(f"{MANIFEST}: cannot be read ({error}); nothing else can be checked; copy it back or pack again")
        return None
    try:
        format_version.check(manifest, FORMAT_VERSION, f"{MANIFEST} has dataset format")
    except ValueError as error:
        found.add(f"{MANIFEST}: not the manifest of a dataset ({error}); copy it back or pack again")
        return None
    except NewerFormatError as error:
        found.add(str(error))
        return None
    if (unbroken := _seal(manifest)) is False:
        found.add(f"{MANIFEST}: altered (its seal does not match); copy it back, or pack again")
    elif unbroken is None:
        found.notes.append(f"{folder / MANIFEST} has no seal, so changes to its metadata cannot be detected")
    for key in ("picture_size", "samples"):
        if not is_count(manifest.get(key), 1):
            found.add(f"{MANIFEST}: {key} must be a whole number above 0, not {short_repr(manifest.get(key))}")
    return manifest


def _seal(manifest: dict[str, Any]) -> bool | None:
    try:
        return self_hash.is_intact(manifest)
    except (ValueError, RecursionError):  # halves of surrogate pairs, numbers without end
        return False


def _records(manifest: dict[str, Any], found: Findings) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (number, first row, record) of each shard with a valid record in the manifest."""
    shards = manifest.get("shards")
    if not isinstance(shards, list) or not shards:
        found.add(f"{MANIFEST}: it lists no shards; copy it back, or pack again")
        return
    names: set[str] = set()
    row = 0
    for number, record in enumerate(shards):
        if (wrong := shard_record_error(record, names)) is not None:
            found.add(f"{MANIFEST}: {wrong}; copy it back, or pack again")
            return  # the rows of later shards depend on its number of samples
        names.add(record["file"])
        yield number, row, record
        row += record["samples"]
    if row != manifest.get("samples"):
        found.add(f"{MANIFEST}: the shards hold {row:,} samples, not {short_repr(manifest.get('samples'))}")


# ---------------------------------------------------------------- sidecars, shards


def _tasks(folder: Path, manifest: dict[str, Any], quick: bool, found: Findings) -> Iterator[Sidecar | Shard]:
    """Yield the checks of single files, the large sidecars first."""
    schema = _schema(folder, manifest, found)
    yield from _sidecars(folder, manifest, found)
    records = list(_records(manifest, found))
    readable = _readable(folder, manifest, schema, found)
    shape = _shape(manifest, found)
    for number, row, record in records:
        yield Shard(
            folder / record["file"],
            record["bytes"],
            record["sha256"],
            number,
            row,
            record["samples"],
            readable,
            schema,
            None if quick else shape,
            manifest.get("in_place") is True,
            str(manifest.get("fit", "crop")),
            str(manifest.get("background", "white")),
        )


def _shape(manifest: dict[str, Any], found: Findings) -> ImageShape | None:
    """Return the shape of the images; None if it is not plausible."""
    if not is_count(manifest.get("picture_size"), 1):  # which is reported already
        return None
    try:
        return manifest_shape(manifest, MANIFEST)
    except UserError as error:
        found.add(str(error))
        return None


def _sidecars(folder: Path, manifest: dict[str, Any], found: Findings) -> Iterator[Sidecar]:
    hashes = manifest.get("sidecars")
    hashes = hashes if isinstance(hashes, dict) else {}
    for name in dict.fromkeys((*_SIDECARS, *hashes)):
        sha256 = hashes.get(name)
        if not _NAME.fullmatch(name) or name in (".", ".."):
            found.add(f"{MANIFEST}: {short_repr(name)} is not the name of a sidecar; copy it back, or pack again")
        elif not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
            found.add(f"{MANIFEST}: it has no sha256 of {name}; copy it back, or pack again")
        else:
            yield Sidecar(folder / name, sha256)


def _readable(folder: Path, manifest: dict[str, Any], schema: Schema | None, found: Findings) -> frozenset[str]:
    """Return the sidecars whose dtype and shape match manifest and schema; report the others."""
    count = manifest.get("samples")
    shapes: dict[str, tuple[Any, tuple[Any, ...]]] = {"index.npy": (ENTRY, (count,))}
    if schema:
        shapes["labels.npy"] = (label_dtype(manifest), (count, schema.width))
        shapes["known.npy"] = (np.dtype(bool), (count, len(schema.attributes)))
    good = set()
    for name, (dtype, shape) in shapes.items():
        try:
            open_memmap(folder / name, dtype, shape)
            good.add(name)
        except UserError as error:
            if (folder / name).exists():  # else the check of its hash reports it
                found.add(str(error).removeprefix(f"{folder}/"))
    return frozenset(good)


def _schema(folder: Path, manifest: dict[str, Any], found: Findings) -> Schema | None:
    """Return the manifest's schema; compare schema.yaml with it."""
    try:
        schema = Schema.from_json(manifest.get("schema"), MANIFEST)
    except UserError as error:
        found.add(f"{error}; copy the manifest back, or pack again")
        return None
    try:
        stored = Schema.load(folder / "schema.yaml")
    except UserError as error:
        found.add(str(error).removeprefix(f"{folder}/"))
        return schema
    if stored != schema:
        ours, theirs = ({a.name: a for a in s.attributes} for s in (schema, stored))
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        what = f"in {join_names(differ)}" if differ else "in the order of its attributes"
        found.add(
            f"schema.yaml: not the schema that the labels were made with (it differs {what}); copy it back, or pack "
            "again with --schema"
        )
    return schema


# ---------------------------------------------------------------- the folder


def _check_strays(folder: Path, manifest: dict[str, Any], found: Findings) -> None:
    shards = manifest.get("shards")
    listed = [record.get("file") for record in shards if isinstance(record, dict)] if isinstance(shards, list) else []
    listed = {name for name in listed if isinstance(name, str)}
    strays = sorted(path.name for path in folder.glob("*.tar") if path.name not in listed)
    if strays:
        found.notes.append(f"{folder}: tars that do not belong to the dataset: {join_names(strays)}")


def _check_validation(folder: Path, manifest: dict[str, Any], quick: bool, processes: int, found: Findings) -> None:
    below = folder / "validation"
    if (below / MANIFEST).is_file():
        inner = findings(below, quick=quick, processes=processes)
        found.problems += [f"validation/{line}" for line in inner.problems]
        found.notes += inner.notes
    elif manifest.get("split") == "train" and manifest.get("validation"):
        found.add("validation: this split of the dataset is missing; copy it back, or pack again")
