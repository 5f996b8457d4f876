"""``cgan pack``: pack tagged images into a dataset.

The items are shuffled by seed and divided into shards, which processes write. Each finished shard has a record in the
build folder next to OUT, so the same command resumes after any interruption, and several jobs can share the work. When
all shards exist, `shards.packing.merge` writes the sidecars and renames the result to OUT.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shards.core import atomic_io, process_pool, text_files
from shards.core.cli import argument, option, parse, seed_option, validate
from shards.core.errors import UserError, warn
from shards.core.version import __version__
from shards.dataset import dataset as datasets
from shards.dataset import images
from shards.dataset.manifest import MANIFEST
from shards.packing import merge, packed_shape, plan, prescan, preview, shard_writer, validation_split
from shards.packing.build_lock import building
from shards.packing.labels import doubts
from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.packing.packed_shape import ShapeOptions
from shards.packing.shard_tasks import ShardTasks, write_unfinished
from shards.sources import registry
from shards.sources.item import Source
from shards.sources.options import ScanOptions, SourceOptions


@dataclass(frozen=True)
class Pack(SourceOptions, LabelOptions, ShapeOptions):
    """Pack tagged images into a dataset: WebDataset tars with an index, a label schema and label arrays.

    SRC is a folder with images and a tags.csv (columns id,tags), one folder per class, or another layout of --source.
    Re-run the same command to resume. The number of workers and parts does not change the result.
    """

    OPTION_ORDER: ClassVar[tuple[str, ...]] = (
        "src",
        "out",
        "size",
        "channels",
        "aspect",
        "validation",
        "dry_run",
        "yes",
        "source",
        "table",
        "id",
        "class_",
        "numbers",
        "columns",
    )

    src: Path = argument("folder (or zip, Parquet or tar file) of images and their labels")
    out: Path = argument("dataset directory to create; it must be empty or not exist")
    size: int | None = option(
        None,
        "longer side of the packed images in pixels (default: their size, if it is the same for all)",
        minimum=4,
        maximum=4096,
    )
    fit: str | None = option(None, "how images of another aspect are fitted (default: crop)", choices=images.FITS)
    background: str | None = option(
        None, "colour behind transparent and padded images: a name or #rrggbb (default: white)"
    )
    min_size: int = option(1, "leave out images whose shorter side has fewer pixels", minimum=1)
    format: str = option(
        "auto",
        "image encoding; auto keeps images that fit and encodes others as JPEG (rgba: PNG)",
        choices=images.FORMS,
    )
    duplicates: str = option(
        "report",
        "images with identical bytes: report counts and names them, drop keeps only the first, keep does not check",
        choices=("report", "drop", "keep"),
    )
    validation: float | str = option(
        0.0, "fraction of the images, or the source's own part (validation, test), to set aside in OUT/validation"
    )
    per_shard: int = option(1000, "images per shard", minimum=1, maximum=1_000_000)
    workers: int = option(0, "number of processes; 0: one per core", minimum=0, maximum=1024)
    part: str | None = option(
        None, "I/N: pack as the I-th of N jobs that share the work; afterwards run: cgan merge OUT"
    )
    seed: int = seed_option("seed of the order in which the images are packed")
    name: str | None = option(None, "prefix of the shards' file names (default: name of SRC)")
    licence: str | None = option(None, "licence to store in the manifest (default: that of SRC/source.json)")
    dry_run: bool = option(False, "only show how SRC would be read and labelled, as cgan preview does")

    def __post_init__(self) -> None:
        validate(self)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", self.name):
            raise UserError(
                "invalid-value",
                f"--name {self.name!r}: use letters, digits, '.', '_' and '-' (file names begin with it)",
            )
        images.colour(_background(self))
        packed_shape.check_shape(self, self.size, _background(self))
        if self.channels == "rgba" and self.format == "jpg":
            raise UserError(
                "invalid-value", "--format jpg: JPEG has no transparency; set png, webp or auto with --channels rgba"
            )
        validation_split.check_validation(self.validation)
        self.job()

    def job(self) -> tuple[int, int]:
        """Return (I, N) of ``part``, (1, 1) by default.

        Raises:
            UserError: ``part`` is malformed.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", self.part or "1/1")
        if not found or int(found[1]) > int(found[2]):
            raise UserError("invalid-value", f"--part {self.part!r}: write I/N with I from 1 to N, like 1/4")
        return int(found[1]), int(found[2])


def main(argv: Sequence[str]) -> None:
    """Run ``cgan pack``."""
    options = parse(Pack, argv, command="cgan pack")
    if options.dry_run:
        preview.show(options.src, options)
    elif options.part is None:
        pack(options)
    else:
        print(pack_part(options))


def pack(options: Pack) -> datasets.Dataset:
    """Pack a whole dataset, ignoring ``part``, print a summary, and return the opened dataset.

    Raises:
        UserError: SRC has no usable images, OUT is not empty, or an unfinished packing differs.
        Failure: a disk error, or a killed worker.
    """
    options = replace(options, part=None)
    if (packed := _packed(options)) is not None:
        return packed
    with building(options.out, _part(options)) as (build, out):
        _pack_shards(options, build)
        return merge.finish(build, out)


def _packed(options: Pack) -> datasets.Dataset | None:
    """Return the dataset if this command was killed when OUT was complete but the build folder not yet removed."""
    out = Path(os.path.abspath(options.out))  # noqa: PTH100 - keep the name of a link
    build = plan.build_folder(out)
    if not build.is_dir() or (build / "data").exists() or not (out / MANIFEST).exists():
        return None
    if (build / "plan.json").exists():
        decided = plan.load(build).decides
        if any(decided.get(key) != value for key, value in _options_that_decide(options).items() if value is not None):
            return None
    packed = merge.finish(build, out)
    print(
        f"{out} was already complete: {len(packed):,} images; {options.src} was not read again (to pack its present "
        "contents, choose another OUT)"
    )
    return packed


def pack_part(options: Pack) -> str:
    """Pack one job's shards, and return what to do next. Raises as `pack` does."""
    with building(options.out, _part(options)) as (build, out):
        _pack_shards(options, build)
        return _still_missing(options, build, out)


def _part(options: Pack) -> tuple[int, int] | None:
    """Return (I, N) if this is one of several jobs, else None."""
    return None if options.part is None else options.job()


def _still_missing(options: Pack, build: Path, out: Path) -> str:
    """Return the last line that a job of --part prints."""
    made = plan.load(build)
    jobs = options.job()[1]
    lacking = set(plan.missing(made, build))
    waiting = []
    for i, (part, name) in enumerate(made.every()):
        if (part.below(Path()) / name).as_posix() in lacking and i % jobs + 1 not in waiting:
            waiting.append(i % jobs + 1)
    merging = f"cgan merge {out}"
    if not waiting:
        return f"part {options.part} and all others are packed; now run: {merging}"
    others = atomic_io.join_names([f"{i}/{jobs}" for i in sorted(waiting)])
    return f"part {options.part} is packed; {len(waiting)} of {jobs} parts are missing ({others}); then run: {merging}"


def _pack_shards(options: Pack, build: Path) -> None:
    """Write this job's unfinished shards."""
    source = _read(options, build)
    if sys.stderr.isatty():
        print("\n".join(preview.summary_lines(options.src, source)), file=sys.stderr)
    processes = options.workers or process_pool.available_cores()
    size = options.size
    if size is None or options.duplicates == "drop":
        facts = prescan.prescan(source.items, processes, sizes=size is None, hashes=options.duplicates == "drop")
        size = size or prescan.common_size(source.items, facts, packed_shape.plain_aspect(options))
        packed_shape.check_shape(options, size, _background(options))
        if options.duplicates == "drop":
            prescan.drop_duplicates(source, facts)
    labelling = build_labelling(source, options)
    doubts.check_labels(source, labelling.schema, options)
    shape = packed_shape.shape_of(options, size)
    if said := packed_shape.advice(shape):
        warn("size-not-trainable", said)
    for hint in preview.shape_hints(source, options) if _part(options) is None else ():
        print(f"hint: {hint}", file=sys.stderr)
    recipe = shard_writer.Recipe(
        labelling, shape, _fit(options), options.format, _background(options), options.min_size
    )
    held_out = validation_split.select_validation(source, options.validation, options.seed)
    made = _plan(options, source, recipe, int(np.count_nonzero(held_out)))
    plan.begin(build, made)
    plan.write_left_out(build, source.rare)
    tasks = ShardTasks(options.seed, source, recipe, held_out, made, build)
    write_unfinished(tasks, options.job(), processes)


# ---------------------------------------------------------------- the plan


def _read(options: Pack, build: Path) -> Source:
    return registry.scan_source(options.src, ScanOptions.of(options, labels=options.labels, spool=build / "spool"))


def _plan(options: Pack, source: Source, recipe: shard_writer.Recipe, held_out: int) -> plan.Plan:
    """Return the plan of all jobs; ``held_out`` images go to the validation part."""
    parts = [plan.Part("train", len(source.items) - held_out)]
    if options.validation:
        parts.append(plan.Part("validation", held_out))
    return plan.Plan(
        decides=_decides(options, source, recipe),
        name=_name(options),
        per_shard=options.per_shard,
        parts=tuple(parts),
        manifest=_manifest(options, source, recipe),
        problems=source.problems.noted(),
        reasons=dict(recipe.labelling.reasons),
    )


def _decides(options: Pack, source: Source, recipe: shard_writer.Recipe) -> dict[str, Any]:
    """Return everything that the bytes of the shards depend on; plans with equal values share finished shards."""
    digest = hashlib.sha256()
    for item in source.items:
        try:
            stamp = item.image.stamp()
        except OSError:
            stamp = "missing"
        labels = [item.tags, item.denied, item.caption, item.vector, item.group]
        digest.update(json.dumps([item.id, labels, stamp]).encode())
    return {
        **_options_that_decide(options),
        "size": recipe.shape.size,
        **recipe.labelling.identity,
        "label format": recipe.labelling.schema.label_dtype.name,
        "pictures and tags": digest.hexdigest(),
    }


def _options_that_decide(options: Pack) -> dict[str, Any]:
    """Return the part of `_decides` that follows from the options; size None: the size of the images."""
    return {
        "version": __version__,
        "size": options.size,
        "channels": packed_shape.channels_of(options),
        "aspect": packed_shape.plain_aspect(options),
        "fit": _fit(options),
        "background": _background(options),
        "format": options.format,
        "min-size": options.min_size,
        "duplicates": options.duplicates,
        "validation": options.validation,
        "per-shard": options.per_shard,
        "seed": options.seed,
        "name": _name(options),
    }


def _manifest(options: Pack, source: Source, recipe: shard_writer.Recipe) -> dict[str, Any]:
    """Return the content that the manifests of all parts share."""
    notes = _notes(options.src)
    src = options.src.resolve()
    return {
        **recipe.shape.manifest_fields,
        "resize_policy": images.policy(recipe.fit, recipe.background, recipe.shape.channels),
        "fit": recipe.fit,
        "background": recipe.background,
        "format": recipe.format,
        "min_size": recipe.min_size,
        "seed": options.seed,
        "absent": recipe.labelling.absent,
        "text_encoder": recipe.labelling.identity["text_encoder"],
        "aliases": recipe.labelling.identity["aliases"],
        "validation": options.validation,
        "group": options.group,
        "duplicates_policy": options.duplicates,
        "source": {"kind": source.kind, "folder": src.name, "pictures": notes.get("pictures")},
        "licence": options.licence or notes.get("licence"),
        "schema": recipe.labelling.schema.to_json(),
    }


def _fit(options: Pack) -> str:
    return options.fit or images.FITS[0]


def _background(options: Pack) -> str:
    return "white" if options.background is None else options.background


def _name(options: Pack) -> str:
    src = options.src.resolve()
    plain = src.stem.removesuffix(".tar") if src.is_file() else src.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:64]
    return options.name or name or "pictures"


def _notes(src: Path) -> dict[str, str]:
    """Return the origin and licence of the images in SRC/source.json, if it exists."""
    try:
        notes = text_files.read_json(src / "source.json", text_files.MAX_LINE)
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in notes.items() if isinstance(value, str)} if isinstance(notes, dict) else {}
