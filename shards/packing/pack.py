"""``shards pack``: tagged pictures become a data set.

The order is shuffled by seed and cut into shards; processes write shards; a finished shard has a record
beside OUT, so that the same command goes on after any interruption, and several jobs can share the work.
When all shards are there, `shards.packing.merge` writes the sidecars and gives the whole its name in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io, process_pool, rng
from shards.core.cli import argument, option, parse, validate
from shards.core.errors import UserError
from shards.core.permutation import permute
from shards.core.version import __version__
from shards.dataset import dataset, images
from shards.dataset.manifest import MANIFEST
from shards.packing import merge, plan, prescan, shard_writer, validation_split
from shards.packing.build_lock import building
from shards.packing.labelling import LabelOptions, labelling
from shards.sources import registry
from shards.sources.item import Source


@dataclass(frozen=True)
class Pack(LabelOptions):
    """Turn tagged pictures into a data set: WebDataset tars with an index, a label schema and label matrices.

    SRC is a folder with tags.csv (columns id,tags) and pictures, a folder of pictures per class, or another layout
    of --source. The same command goes on where an earlier one was interrupted, and gives the same bytes for any
    number of workers and parts.
    """

    src: Path = argument("folder (or zip, parquet, tar file) of pictures and what is known of them")
    out: Path = argument("folder to make; it must not hold anything")
    size: int | None = option(
        None,
        "height and width of the packed pictures in pixels; left out: theirs, if all are alike",
        minimum=4,
        maximum=4096,
    )
    source: str = option("auto", f"format of SRC. {registry.describe_formats()}", choices=registry.NAMES)
    columns: tuple[str, ...] = option((), "further columns of a table that are labels, or all")
    group: str | None = option(None, "column, or folder, whose pictures stay on one side of --validation")
    fit: str = option("crop", "how a picture becomes square", choices=images.FITS)
    background: str = option("white", "colour behind transparent pictures and beside padded ones: a name or #rrggbb")
    min_size: int = option(1, "leave out pictures whose shorter side has fewer pixels", minimum=1)
    format: str = option("auto", "encoding; auto keeps pictures that fit and makes jpg of others", choices=images.FORMS)
    duplicates: str = option(
        "report",
        "pictures that are the same bytes: count and name them, drop all but the first, or keep them",
        choices=("report", "drop", "keep"),
    )
    validation: float = option(0.0, "share of the pictures to set aside in OUT/validation", minimum=0, maximum=0.5)
    per_shard: int = option(1000, "pictures in a shard", minimum=1, maximum=1_000_000)
    workers: int = option(0, "processes; 0: one a core", minimum=0, maximum=1024)
    part: str | None = option(None, "I/N: be the I-th of N jobs that share the work; then: shards merge OUT")
    seed: int = option(0, "of the order in which the pictures are packed", minimum=0)
    name: str | None = option(None, "beginning of the shards' file names (left out: SRC's name)")
    licence: str | None = option(None, "noted in the manifest (left out: what SRC/source.json says)")

    def __post_init__(self) -> None:
        validate(self)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", self.name):
            raise UserError(
                "invalid-value",
                f"--name {self.name!r}: use letters, digits, '.', '_' and '-' (file names begin with it)",
            )
        images.colour(self.background)
        self.share()

    def share(self) -> tuple[int, int]:
        """(I, N) of ``part``, 1 of 1 if it is left out.

        Raises:
            UserError: it is none.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", self.part or "1/1")
        if not found or int(found[1]) > int(found[2]):
            raise UserError("invalid-value", f"--part {self.part!r}: write I/N with I from 1 to N, like 1/4")
        return int(found[1]), int(found[2])


def main(argv: Sequence[str]) -> None:
    """``python -m shards pack``."""
    options = parse(Pack, argv, command="python -m shards pack")
    if options.part is None:
        pack(options)
    else:
        print(pack_part(options))


def pack(options: Pack) -> dataset.Dataset:
    """Pack a data set (whatever ``part`` says), print what it holds, and return it opened.

    Raises:
        UserError: nothing usable in SRC, OUT holds something, or an unfinished packing differs.
        Failure: the disk refuses, or a worker was killed.
    """
    options = replace(options, part=None)
    if (packed := _packed(options)) is not None:
        return packed
    with building(options.out, _share(options)) as (build, out):
        _pack_shards(options, build)
        return merge.finish(build, out)


def _packed(options: Pack) -> dataset.Dataset | None:
    """The data set, if this command was killed when OUT had its name already, and the build folder was still there."""
    out = Path(os.path.abspath(options.out))  # noqa: PTH100 - a link as OUT keeps its own name
    build = plan.build_folder(out)
    if not build.is_dir() or (build / "data").exists() or not (out / MANIFEST).exists():
        return None
    if (build / "plan.json").exists():
        decided = plan.load(build).decides
        if any(decided.get(key) != value for key, value in _asked(options).items() if value is not None):
            return None
    dataset = merge.finish(build, out)
    print(
        f"{out} was whole when packing it was stopped: {len(dataset):,} pictures; {options.src} was not looked at "
        "again (to pack what is there now, choose another OUT)"
    )
    return dataset


def pack_part(options: Pack) -> str:
    """Pack one job's share of the shards, and return what is to be done next; raises as `pack` does."""
    with building(options.out, _share(options)) as (build, out):
        _pack_shards(options, build)
        return _still_missing(options, build, out)


def _share(options: Pack) -> tuple[int, int] | None:
    """Which of how many jobs this is; None: the only one."""
    return None if options.part is None else options.share()


def _pack_shards(options: Pack, build: Path) -> None:
    """Write this job's shards, as far as an earlier run has not."""
    source = _read(options, build)
    processes = options.workers or process_pool.available_cores()
    size = options.size
    if size is None or options.duplicates == "drop":
        seen = prescan.survey(source.items, processes, sizes=size is None, hashes=options.duplicates == "drop")
        size = size or prescan.common_size(source.items, seen)
        if options.duplicates == "drop":
            prescan.drop_duplicates(source, seen)
    recipe = shard_writer.Recipe(
        labelling(source, options), size, options.fit, options.format, options.background, options.min_size
    )
    aside = validation_split.validation(source.items, options.validation, options.seed)
    parts = [plan.Part("train", int(np.count_nonzero(~aside)))]
    if options.validation:
        parts.append(plan.Part("validation", int(np.count_nonzero(aside))))
    made = plan.Plan(
        decides=_decides(options, source, recipe),
        name=_name(options),
        per_shard=options.per_shard,
        parts=tuple(parts),
        manifest=_manifest(options, source, recipe),
        problems=source.problems.noted(),
    )
    plan.begin(build, made)
    _write(options, source, recipe, aside, made, build, processes)


# ---------------------------------------------------------------- before


def _read(options: Pack, build: Path) -> Source:
    return registry.scan_source(
        options.src,
        options.source,
        columns=options.columns,
        group=options.group,
        labels=options.labels,
        spool=build / "spool",
    )


def _decides(options: Pack, source: Source, recipe: shard_writer.Recipe) -> dict[str, Any]:
    """All that the bytes of the shards depend on. Two plans that are equal may share finished shards."""
    digest = hashlib.sha256()
    for item in source.items:
        try:
            stamp = item.image.stamp()
        except OSError:
            stamp = "missing"
        said = [item.tags, item.denied, item.caption, item.vector, item.group]
        digest.update(json.dumps([item.id, said, stamp]).encode())
    return {
        **_asked(options),
        "size": recipe.size,
        **recipe.labelling.identity,
        "pictures and tags": digest.hexdigest(),
    }


def _asked(options: Pack) -> dict[str, Any]:
    """What of `_decides` the options say by themselves; size None: as the pictures are."""
    return {
        "version": __version__,
        "size": options.size,
        "fit": options.fit,
        "background": options.background,
        "format": options.format,
        "min-size": options.min_size,
        "duplicates": options.duplicates,
        "validation": options.validation,
        "per-shard": options.per_shard,
        "seed": options.seed,
        "name": _name(options),
    }


def _manifest(options: Pack, source: Source, recipe: shard_writer.Recipe) -> dict[str, Any]:
    """What the manifests say of the whole packing."""
    notes = _notes(options.src)
    src = options.src.resolve()
    return {
        "picture_size": recipe.size,
        "resize_policy": images.policy(recipe.fit, recipe.background),
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


def _name(options: Pack) -> str:
    src = options.src.resolve()
    plain = src.stem.removesuffix(".tar") if src.is_file() else src.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:64]
    return options.name or name or "pictures"


def _notes(src: Path) -> dict[str, str]:
    """What SRC/source.json says of the pictures' origin and licence, if there is one."""
    try:
        notes = json.loads((src / "source.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: value for key, value in notes.items() if isinstance(value, str)} if isinstance(notes, dict) else {}


# ---------------------------------------------------------------- shards


def _write(
    options: Pack,
    source: Source,
    recipe: shard_writer.Recipe,
    aside: np.ndarray,
    made: plan.Plan,
    build: Path,
    processes: int,
) -> None:
    """Write the shards of this job that are not there yet."""
    import webdataset.writer  # noqa: F401 - here once, before the workers are forked and each imports it by itself

    number, jobs = options.share()
    tasks = _Tasks(options.seed, source, recipe, aside, made, build)
    mine = [i for i in range(len(tasks)) if i % jobs == number - 1]
    left = [i for i in mine if plan.record(made, build, *tasks.places[i]) is None]
    if len(left) < len(mine):
        print(f"going on: {len(mine) - len(left)} of {len(mine)} shards were finished before", file=sys.stderr)
    names: dict[plan.Part, set[str]] = {part: set() for part in made.parts}
    for i in mine:
        part, name = tasks.places[i]
        names[part].add(name)
    _sweep(build, names)
    total = sum(map(tasks.count, mine))
    written = process_pool.run(
        shard_writer.write_shard,
        map(tasks.task, left),
        workers=max(1, min(processes, len(left))),
        total=total,
        doing="packing",
        finished=total - sum(map(tasks.count, left)),
    )
    finished = len(mine) - len(left)
    try:
        for _ in written:
            finished += 1
    except KeyboardInterrupt:
        kept = f"{finished} of {len(mine)} shards are finished and kept in {build}"
        print(f"\nstopped: {kept}; the same command goes on", file=sys.stderr)
        raise
    finally:
        written.close()
        _sweep(build, names)


def _sweep(build: Path, names: Mapping[plan.Part, set[str]]) -> None:
    """Remove what stopped processes had half written of this job's shards; others may be writing theirs."""
    for part, of_part in names.items():
        plan.sweep(build, part, of_part)


class _Tasks:
    """The shards of all parts, in order; the items of a part are shuffled by seed across its shards."""

    def __init__(
        self,
        seed: int,
        source: Source,
        recipe: shard_writer.Recipe,
        aside: np.ndarray,
        made: plan.Plan,
        build: Path,
    ) -> None:
        self.items, self.recipe, self.build, self.per_shard = source.items, recipe, build, made.per_shard
        self.places = list(made.every())  # part and file name of each shard
        self.first = {part.split: i for i, (part, _) in reversed(list(enumerate(self.places)))}
        self.shuffled: dict[str, np.ndarray] = {}
        for part in made.parts:
            rows = np.flatnonzero(aside if part.split == "validation" else ~aside)
            key = rng.key(seed, "pack" if part.split == "train" else "pack validation")
            self.shuffled[part.split] = rows[permute(key, len(rows), np.arange(len(rows)))]

    def __len__(self) -> int:
        return len(self.places)

    def _rows(self, i: int) -> tuple[int, np.ndarray]:
        part = self.places[i][0]
        start = (i - self.first[part.split]) * self.per_shard
        return start, self.shuffled[part.split][start : start + self.per_shard]

    def count(self, i: int) -> int:
        """Items of shard i."""
        return len(self._rows(i)[1])

    def task(self, i: int) -> shard_writer.Task:
        """What is to be done for shard i."""
        part, name = self.places[i]
        start, rows = self._rows(i)
        items = tuple(self.items[row] for row in rows)
        data, records = part.below(self.build / "data"), part.below(self.build / "records")
        return shard_writer.Task(self.recipe, data, records, name, start, items)


def _still_missing(options: Pack, build: Path, out: Path) -> str:
    """What a job that has done its part ends with."""
    made = plan.load(build)
    jobs = options.share()[1]
    lacking = set(plan.missing(made, build))
    waiting = []
    for i, (part, name) in enumerate(made.every()):
        if (part.below(Path()) / name).as_posix() in lacking and i % jobs + 1 not in waiting:
            waiting.append(i % jobs + 1)
    merging = f"python -m shards merge {out}"
    if not waiting:
        return f"part {options.part} is packed, and so are all others; now: {merging}"
    others = atomic_io.join_names([f"{i}/{jobs}" for i in sorted(waiting)])
    return (
        f"part {options.part} is packed; {len(waiting)} of {jobs} parts are still missing ({others}); then: {merging}"
    )
