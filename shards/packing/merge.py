"""``cgan merge``: make the dataset of finished shards, packed by one job or many. The source is not needed."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shards.core import atomic_io, file_lock, self_hash, text_files
from shards.core.cli import argument, parse
from shards.core.errors import Failure, UserError
from shards.core.problems import NAMES_KEPT, Problems
from shards.core.version import __version__, revision
from shards.dataset import dataset as datasets
from shards.dataset import sidecars, summary
from shards.dataset.image_shape import manifest_shape
from shards.dataset.manifest import MANIFEST, written_version
from shards.dataset.schema import Schema
from shards.packing import plan, prescan, shard_writer
from shards.packing.plan import Part, Plan

_SIDECARS = ("index.npy", "labels.npy", "known.npy", "hashes.npy", "schema.yaml")


@dataclass(frozen=True)
class Merge:
    """Make the dataset of the shards that `cgan pack --part I/N` has packed.

    The shards are in the folder .OUT.packing next to OUT; if machines have no common disk, copy their folders together
    first. SRC is not needed. Missing shards are named; merging twice does no harm.
    """

    out: Path = argument("the OUT of the pack commands")


def main(argv: Sequence[str]) -> None:
    """Run ``cgan merge``."""
    merge(parse(Merge, argv, command="cgan merge"))


def merge(options: Merge) -> datasets.Dataset:
    """Merge, print a summary, and return the opened dataset.

    Raises:
        UserError: shards are missing, or there is nothing to merge.
        Failure: a disk error, or damaged shards.
    """
    out = Path(os.path.abspath(options.out))  # noqa: PTH100 - keep the name of a link
    build = plan.build_folder(out)
    if not (build / "plan.json").exists() and (out / MANIFEST).exists():
        dataset = datasets.Dataset.open(out)
        print(f"{out} is already merged: {len(dataset):,} images")
        return dataset
    plan.load(build)
    return finish(build, out)


def finish(build: Path, out: Path) -> datasets.Dataset:
    """Write sidecars and manifests, rename the result to OUT, and print a summary; see `merge`."""
    with file_lock.locked(build / "lock-merge", f"{out}: another process is merging it; wait for it to finish"):
        if (out / MANIFEST).exists():  # another process, or this command before it was killed
            _remove_build(build)
            return datasets.Dataset.open(out)
        atomic_io.require_unused(out)
        made = plan.load(build)
        if lacking := plan.missing(made, build):
            raise UserError(
                "shards-missing",
                f"{build}: {len(lacking):,} of {len(list(made.every())):,} shards are missing "
                f"({atomic_io.join_names(lacking, 3)}); pack them with the same command, or with the --part that "
                "writes them",
            )
        for part in made.parts:
            plan.sweep(build, part, {MANIFEST, plan.LEFT_OUT, *_SIDECARS, *made.shards(part)})
        problems = {part.split: Problems() for part in made.parts}
        problems["train"].take(made.problems)
        for part in reversed(made.parts):  # the validation part is inside OUT, and complete before OUT appears
            _finish_part(made, build, part, problems[part.split])
        atomic_io.move_directory(build / "data", out)
        _remove_build(build)
    dataset = datasets.Dataset.open(out)
    print("\n".join(summary.lines(dataset, problems["train"])))
    for part in made.parts[1:]:
        print("\n".join(summary.lines(datasets.Dataset.open(part.below(out)), problems[part.split])))
    return dataset


def _remove_build(build: Path) -> None:
    """Remove the build folder, the plan last: if this is killed, the next run recognizes by it what was done."""
    for path in build.iterdir() if build.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "plan.json":
            path.unlink(missing_ok=True)
    shutil.rmtree(build, ignore_errors=True)


class _Collected(NamedTuple):
    """Sums over the records of a part's shards."""

    shards: list[dict[str, Any]]  # file, samples, bytes, sha256
    copied: int  # images whose bytes are those of the source

    @property
    def samples(self) -> int:
        return sum(shard["samples"] for shard in self.shards)


def _finish_part(made: Plan, build: Path, part: Part, problems: Problems) -> None:
    """Write the sidecars and the manifest of one part, and add its problems to ``problems``."""
    data, records = part.below(build / "data"), part.below(build / "records")
    collected = _collect(made, build, part, problems)
    if not collected.samples:
        raise _no_images(build, part, problems)
    schema = Schema.from_json(made.manifest["schema"], str(build / "plan.json"))
    _write_sidecars(data, records, collected.shards, schema, made.reasons)
    names: list[str] = list(_SIDECARS)
    if (build / plan.LEFT_OUT).exists():
        atomic_io.write_bytes(data / plan.LEFT_OUT, (build / plan.LEFT_OUT).read_bytes())
        names.append(plan.LEFT_OUT)
    if made.manifest["duplicates_policy"] == "report":
        _count_duplicates(data, records, collected.shards, problems)
        if part.split == "train":
            _count_shared(made, build, data, problems)
    manifest = {
        "format_version": written_version(made.manifest),
        "name": made.name,
        "created_by": {"version": __version__, "commit": revision()},
        **{key: value for key, value in made.manifest.items() if key != "schema"},
        "split": part.split,
        "samples": collected.samples,
        "label_dtype": schema.label_dtype.name,
        "copied": collected.copied,
        "duplicates": sum(n for code, n in problems.counts().items() if code.startswith("duplicate-")),
        "problems": problems.sentences(),
        "shards": collected.shards,
        "sidecars": {name: atomic_io.sha256(data / name) for name in names},
        "schema": made.manifest["schema"],
    }
    atomic_io.write_json(data / MANIFEST, self_hash.with_hash(manifest))
    datasets.Dataset.open(data)  # raises if the result cannot be opened, before it gets its name


def _collect(made: Plan, build: Path, part: Part, problems: Problems) -> _Collected:
    """Read the records of a part's shards, and add their problems to ``problems``.

    Raises:
        UserError: a shard has images of another shape.
        Failure: a shard was removed.
    """
    data = part.below(build / "data")
    shards: list[dict[str, Any]] = []
    conflicts: Counter[str] = Counter()
    copied = 0
    for name in made.shards(part):
        record = plan.record(build, part, name)
        if record is None:
            raise Failure(
                "file-missing", f"{data / name}: was removed while it was being merged; re-run the same command"
            )
        _check_shape(made, record, data / name)
        shards.append({key: record[key] for key in ("file", "samples", "bytes", "sha256")})
        conflicts.update(record["conflicts"])
        copied += record["copied"]
        problems.take(record["problems"])
    for name, number in conflicts.items():
        problems.add("values-conflicting", detail=repr(name), count=number)
    return _Collected(shards, copied)


def _no_images(build: Path, part: Part, problems: Problems) -> UserError:
    """Return why a part is empty. Without a training part nothing is worth keeping, so the build folder is removed."""
    why = problems.named("image-unusable", 3)
    if part.split == "train":
        shutil.rmtree(build)
        return UserError("no-images", f"none of the {part.pictures:,} images can be packed: {why}")
    return UserError(
        "no-images",
        f"none of the {part.pictures:,} images that were set aside for {part.split} can be packed ({why}); "
        f"correct them, or delete {build} and pack with another --{part.split} or --seed",
    )


def _check_shape(made: Plan, record: dict[str, Any], path: Path) -> None:
    """Raise UserError if a shard, perhaps packed on another machine, has images of another shape than planned."""
    planned = manifest_shape(made.manifest, "plan.json")
    if (found := record.get("shape", [*planned.pixels_shape])) != [*planned.pixels_shape]:
        raise UserError(
            "shapes-differ",
            f"{path}: its images have the shape {found} (height, width, channels), those of the plan "
            f"{[*planned.pixels_shape]}; delete it and pack its part again with the options of the others",
        )


def _write_sidecars(
    data: Path, records: Path, shards: list[dict[str, Any]], schema: Schema, reasons: dict[str, str]
) -> None:
    """Write all `_SIDECARS`, each shard by shard."""
    count = sum(shard["samples"] for shard in shards)
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "entries": (sidecars.ENTRY, (count,)),
        "labels": (schema.label_dtype, (count, schema.width)),
        "known": (bool, (count, len(schema.attributes))),
        "hashes": (np.uint8, (count, 32)),
    }
    for array, (dtype, shape) in shapes.items():
        path = data / ("index.npy" if array == "entries" else f"{array}.npy")
        sidecars.save_rows(path, dtype, shape, _parts(records, shards, array, dtype, shape[1:]))
    schema.save(data / "schema.yaml", reasons)


def _parts(
    records: Path, shards: list[dict[str, Any]], array: str, dtype: Any, row: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Yield one of the arrays shard by shard, with the shard's number in the entries."""
    for number, shard in enumerate(shards):
        part = _array(shard_writer.array_path(records, shard["file"], array), dtype, (shard["samples"], *row))
        if array == "entries":
            part["shard"] = number
        yield part


def _array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
        if found.dtype == dtype and found.shape == shape:
            return found
    except Exception as error:  # numpy's reading of a damaged header fails in many ways
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):  # such as too many open files
            raise Failure("file-unreadable", f"{path}: cannot be read ({error.strerror})") from None
    raise Failure(
        "shard-damaged",
        f"{path}: does not match its shard; delete the files of that shard there and re-run the same command",
    )


def _count_duplicates(data: Path, records: Path, shards: list[dict[str, Any]], problems: Problems) -> None:
    """Count images with the same bytes as an earlier one, and name the first few."""
    rows, originals = prescan.duplicates(np.load(data / "hashes.npy", allow_pickle=False))
    if not len(rows):
        return
    labels = np.load(data / "labels.npy", mmap_mode="r", allow_pickle=False)
    known = np.load(data / "known.npy", mmap_mode="r", allow_pickle=False)
    differ = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 4096):
        a, b = rows[start : start + 4096], originals[start : start + 4096]
        differ[start : start + 4096] = (labels[a] != labels[b]).any(axis=1) | (known[a] != known[b]).any(axis=1)
    for other_label in (False, True):
        found = rows[differ == other_label]
        _name(problems, prescan.duplicate_code("kept", other_label), found, records, shards)


def _count_shared(made: Plan, build: Path, data: Path, problems: Problems) -> None:
    """Count validation images whose bytes also occur in the training part, which is in ``data``."""
    trained = np.load(data / "hashes.npy", allow_pickle=False)
    for part in made.parts[1:]:
        validation = np.load(part.below(build / "data") / "hashes.npy", allow_pickle=False)
        rows, originals = prescan.duplicates(np.concatenate([trained, validation]))
        if count := int(np.count_nonzero((rows >= len(trained)) & (originals < len(trained)))):
            problems.add("image-in-both-splits", count=count)


def _name(problems: Problems, code: str, rows: np.ndarray, records: Path, shards: list[dict[str, Any]]) -> None:
    """Count samples as a problem, and name the first few as in the source."""
    bounds = np.cumsum([0, *(shard["samples"] for shard in shards)])
    for row in rows[:NAMES_KEPT].tolist():
        problems.add(code, _id(records, shards, bounds, row))
    if len(rows) > NAMES_KEPT:
        problems.add(code, count=len(rows) - NAMES_KEPT)


def _id(records: Path, shards: list[dict[str, Any]], bounds: np.ndarray, row: int) -> str:
    """Return the id of a sample in the source."""
    number = int(np.searchsorted(bounds, row, side="right")) - 1
    try:
        return str(text_files.read_json(shard_writer.ids_path(records, shards[number]["file"]))[row - bounds[number]])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return shard_writer.key(row)
