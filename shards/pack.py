"""``shards pack``: a folder of tagged pictures becomes a data set.

The order is shuffled by seed and cut into shards; processes write shards; a finished shard has a record
beside OUT, so that the same command goes on after any interruption. When all are there the sidecars are
written and the whole takes its name in one step.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards import __version__, files, index, keyed, order, pictures, revision, sources, summary, workers, writer
from shards.errors import Failure, UserError
from shards.options import argument, option, parse, validate
from shards.schema import Schema, infer


@dataclass(frozen=True)
class Pack:
    """Turn tagged pictures into a data set: WebDataset tars with an index, a label schema and label matrices.

    SRC is a folder with tags.csv (columns id,tags) and pictures, or a folder of pictures per class. The same
    command goes on where an earlier one was interrupted, and gives the same bytes for any number of workers.
    """

    src: Path = argument("folder of pictures, with a tags.csv or in class folders")
    out: Path = argument("folder to make; it must not hold anything")
    size: int | None = option(
        None,
        "height and width of the packed pictures in pixels; left out: theirs, if all are alike",
        minimum=4,
        maximum=4096,
    )
    source: str = option("auto", "how SRC is laid out", choices=sources.KINDS)
    schema: Path | None = option(None, "YAML file of attributes to use (left out: worked out from the tags)")
    absent: str = option(
        "false", "what a missing independent tag means in a row that has tags", choices=("false", "unknown")
    )
    fit: str = option("crop", "how a picture becomes square", choices=pictures.FITS)
    format: str = option(
        "auto", "encoding; auto keeps pictures that fit and makes jpg of others", choices=("auto", "jpg", "png", "webp")
    )
    per_shard: int = option(1000, "pictures in a shard", minimum=1, maximum=1_000_000)
    workers: int = option(0, "processes; 0: one a core", minimum=0, maximum=1024)
    seed: int = option(0, "of the order in which the pictures are packed", minimum=0)
    name: str | None = option(None, "beginning of the shards' file names (left out: SRC's name)")
    licence: str | None = option(None, "noted in the manifest (left out: what SRC/source.json says)")

    def __post_init__(self) -> None:
        validate(self)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", self.name):
            raise UserError(f"--name {self.name!r}: use letters, digits, '.', '_' and '-' (it begins file names)")


def main(argv: Sequence[str]) -> None:
    """``python -m shards pack``."""
    pack(parse(Pack, argv, command="python -m shards pack"))


def pack(options: Pack) -> index.Dataset:
    """Pack a data set, print what it holds, and return it opened.

    Raises:
        UserError: nothing usable in SRC, OUT holds something, or an unfinished packing differs.
        Failure: the disk refuses, or a worker was killed.
    """
    out = files.vacant(options.out)
    source = sources.read(options.src, options.source)
    size = options.size or _common_size(source)
    schema = _schema(options, source)
    recipe = writer.Recipe(schema, options.absent, size, options.fit, options.format)
    build = out.with_name(f".{out.name}.packing")
    with files.explained(build):
        build.mkdir(parents=True, exist_ok=True)
    with files.locked(
        build / "lock", f"{out}: another process is packing into it now; wait for it, or choose another OUT"
    ):
        files.vacant(out)  # another process may have finished it before the lock was free
        _begin(build, _plan(options, source, recipe))
        tasks = list(_tasks(options, source, recipe, build))
        records = _write_shards(tasks, options.workers or workers.count(), build)
        dataset = _finish(options, source, recipe, records, tasks, build, out)
    return dataset


# ---------------------------------------------------------------- before


def _common_size(source: sources.Source) -> int:
    """The size that all pictures have.

    Raises:
        UserError: they differ, or are not square.
    """
    found: tuple[int, int] | None = None
    for item in source.items:
        try:
            dimensions = pictures.dimensions(item.picture.read())
        except (pictures.PictureError, OSError):
            continue  # reported when it is packed
        if dimensions[0] != dimensions[1]:
            raise UserError(
                f"--size is missing, and {item.id} is {dimensions[0]} x {dimensions[1]}; say what size to make"
            )
        if found and found != dimensions:
            raise UserError(
                f"--size is missing, and the pictures' sizes differ ({found[0]} and {dimensions[0]}); say one"
            )
        found = dimensions
    if not found:
        raise UserError(_none_usable(source, "no picture in it can be read"))
    return found[0]


def _schema(options: Pack, source: sources.Source) -> Schema:
    """The schema that was given, or else the one that the tags imply."""
    if not options.schema:
        return infer((item.tags for item in source.items), one_class=source.one_class)
    schema = Schema.load(options.schema)
    strange = {tag for item in source.items for tag in item.tags or () if tag not in schema.places}
    for tag in sorted(strange):
        source.problems.add(f"tags that {options.schema.name} lacks (left out)", tag)
    return schema


def _none_usable(source: sources.Source, why: str) -> str:
    return f"none of the {len(source.items):,} pictures can be packed: {why}"


def _plan(options: Pack, source: sources.Source, recipe: writer.Recipe) -> dict[str, Any]:
    """All that the bytes of the shards depend on. Two plans that are equal may share finished shards."""
    digest = hashlib.sha256()
    for item in source.items:
        try:
            stamp = item.picture.stamp()
        except OSError:
            stamp = "missing"
        digest.update(json.dumps([item.id, item.tags, stamp]).encode())
    return {
        "version": __version__,
        "size": recipe.size,
        "fit": recipe.fit,
        "format": recipe.format,
        "absent": recipe.absent,
        "per-shard": options.per_shard,
        "seed": options.seed,
        "name": _name(options),
        "schema": recipe.schema.to_json(),
        "pictures and tags": digest.hexdigest(),
    }


def _begin(build: Path, plan: dict[str, Any]) -> None:
    """Make the build folder, or see that the one there is of the same plan.

    Raises:
        UserError: it is of another.
    """
    path = build / "plan.json"
    if path.exists():
        try:
            old = json.loads(path.read_text("utf-8"))
        except ValueError:
            old = {}
        if different := [key for key in plan if old.get(key) != plan[key]]:
            raise UserError(
                f"{build} holds an unfinished packing that differs in {files.first(different)}; "
                "go on with its own command, or delete that folder to start anew"
            )
    with files.explained(build):
        for folder in (build / "data", build / "records"):
            folder.mkdir(exist_ok=True)
        _sweep(build)
    files.write_json(path, plan)


def _sweep(build: Path) -> None:
    """Remove what stopped workers had half written."""
    for leftover in build.glob("*/.*.tmp"):
        leftover.unlink(missing_ok=True)


def _name(options: Pack) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", options.src.resolve().name).strip("-.")[:64]
    return options.name or name or "pictures"


# ---------------------------------------------------------------- shards


def _tasks(options: Pack, source: sources.Source, recipe: writer.Recipe, build: Path) -> Iterator[writer.Task]:
    """The shards, in order; items are shuffled by seed across all of them."""
    count = len(source.items)
    shuffled = order.permute(keyed.key(options.seed, "pack"), count, np.arange(count))
    for number, start in enumerate(range(0, count, options.per_shard)):
        items = tuple(source.items[i] for i in shuffled[start : start + options.per_shard])
        name = f"{_name(options)}-{number:06d}.tar"
        yield writer.Task(recipe, build / "data", build / "records", name, start, items)


def _write_shards(tasks: list[writer.Task], processes: int, build: Path) -> list[dict[str, Any]]:
    """Records of all shards, in order; those that an earlier run finished are not written again."""
    records = {task.name: record for task in tasks if (record := _finished(task))}
    left = [task for task in tasks if task.name not in records]
    if records:
        print(f"going on: {len(records)} of {len(tasks)} shards were finished before", file=sys.stderr)
    total = sum(len(task.items) for task in tasks)
    done = total - sum(len(task.items) for task in left)
    processes = min(processes, max(1, len(left)))
    written = workers.run(writer.write_shard, left, workers=processes, total=total, doing="packing", finished=done)
    try:
        for record in written:
            records[record["file"]] = record
    except KeyboardInterrupt:
        kept = f"{len(records)} of {len(tasks)} shards are finished and kept in {build}"
        print(f"\nstopped: {kept}; the same command goes on", file=sys.stderr)
        raise
    finally:
        written.close()
        _sweep(build)
    return [records[task.name] for task in tasks]


def _finished(task: writer.Task) -> dict[str, Any] | None:
    """The record of a shard that is whole on the disk."""
    try:
        record = json.loads(writer.record_path(task.records, task.name).read_text("utf-8"))
        whole = (task.data / task.name).stat().st_size == record["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


# ---------------------------------------------------------------- after


def _finish(
    options: Pack,
    source: sources.Source,
    recipe: writer.Recipe,
    records: list[dict[str, Any]],
    tasks: list[writer.Task],
    build: Path,
    out: Path,
) -> index.Dataset:
    """Write sidecars and manifest, give the whole its name, and say what it holds."""
    for record in records:
        for kind, names in record["problems"].items():
            for name in names:
                source.problems.add(kind, name)
    if not any(record["samples"] for record in records):
        shutil.rmtree(build)
        raise UserError(_none_usable(source, files.first(source.problems.found[writer.UNREADABLE], 3)))
    data = build / "data"
    conflicts = _write_sidecars(data, recipe, records, tasks)
    for name, count in conflicts.items():
        source.problems.found[f"pictures with two values of {name!r} (unknown there)"] = [""] * count
    names = ("index.npy", "labels.npy", "known.npy", "schema.yaml")
    notes = _notes(options.src)
    manifest = {
        "format_version": index.FORMAT_VERSION,
        "name": _name(options),
        "created_by": {"version": __version__, "commit": revision()},
        "picture_size": recipe.size,
        "resize_policy": pictures.policy(recipe.fit),
        "seed": options.seed,
        "absent": recipe.absent,
        "samples": sum(record["samples"] for record in records),
        "copied": sum(record["copied"] for record in records),
        "problems": source.problems.counts(),
        "source": {"kind": source.kind, "folder": options.src.resolve().name, "pictures": notes.get("pictures")},
        "licence": options.licence or notes.get("licence"),
        "shards": [{key: record[key] for key in ("file", "samples", "bytes", "sha256")} for record in records],
        "sidecars": {name: files.sha256(data / name) for name in names},
        "schema": recipe.schema.to_json(),
    }
    files.write_json(data / index.MANIFEST, manifest)
    index.Dataset.open(data)  # what cannot be opened does not get the name
    files.move_directory(data, out)
    shutil.rmtree(build, ignore_errors=True)
    dataset = index.Dataset.open(out)
    print("\n".join(summary.lines(dataset, source.problems)))
    return dataset


def _write_sidecars(
    data: Path, recipe: writer.Recipe, records: list[dict[str, Any]], tasks: list[writer.Task]
) -> dict[str, int]:
    """index.npy, labels.npy, known.npy and schema.yaml; returns attribute → rows with two of its values."""
    schema, count = recipe.schema, sum(record["samples"] for record in records)
    entries = np.empty(count, index.ENTRY)
    labels = np.empty((count, schema.width), np.float32)
    known = np.empty((count, len(schema.attributes)), bool)
    conflicts: dict[str, int] = {}
    row = 0
    for number, (record, task) in enumerate(zip(records, tasks, strict=True)):
        for position, entry in zip(record["positions"], record["entries"], strict=True):
            encoded = schema.encode(task.items[position - task.start].tags, recipe.absent)
            entries[row] = (number, *entry)
            labels[row], known[row] = encoded.label, encoded.known
            for name in encoded.conflicts:
                conflicts[name] = conflicts.get(name, 0) + 1
            row += 1
    if row != count:
        raise Failure(
            f"{data}: the shards' records hold {row} pictures where {count} were expected; delete it and pack anew"
        )
    for name, array in (("index.npy", entries), ("labels.npy", labels), ("known.npy", known)):
        index.save_array(data / name, array)
    schema.save(data / "schema.yaml")
    return conflicts


def _notes(src: Path) -> dict[str, str]:
    """What SRC/source.json says of the pictures' origin and licence, if there is one."""
    try:
        notes = json.loads((src / "source.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in notes.items() if isinstance(value, str)} if isinstance(notes, dict) else {}
