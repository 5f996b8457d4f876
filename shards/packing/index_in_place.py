"""``cgan index``: make a dataset of existing WebDataset tars in place, without copying images.

The sidecars and the manifest of a packed dataset are written to a staging folder and then moved next to the tars, the
manifest last. If indexing fails, the old index stays; if it is killed during the move, there is no dataset until the
command is run again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from shards.core import atomic_io, file_lock, self_hash, text_files
from shards.core.cli import argument, option, parse, validate
from shards.core.errors import UserError
from shards.core.version import __version__, revision
from shards.dataset import dataset, images, summary
from shards.dataset.image_shape import CHANNELS, SQUARE, ImageShape, parse_aspect
from shards.dataset.manifest import MANIFEST, written_version
from shards.dataset.sidecars import ENTRY, FORMATS
from shards.packing.labels import doubts
from shards.packing.labels.labelling import Labelling, LabelOptions, build_labelling
from shards.packing.packed_shape import ShapeOptions, channels_of, check_shape, plain_aspect, shape_of
from shards.packing.tar_contents import TarContents, inspect_tars
from shards.sources.archives.compressed import COMPRESSED
from shards.sources.item import Item, Source
from shards.sources.options import ScanOptions
from shards.sources.registry import scan_source

_SIDECARS = ("index.npy", "labels.npy", "known.npy", "schema.yaml")
_COMPRESSED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_ROWS = 4096  # rows labelled at a time
_STAGE = ".indexing"  # the staging folder; while it exists, sidecars without a manifest are ours


@dataclass(frozen=True)
class IndexInPlace(LabelOptions, ShapeOptions):
    """Make a dataset of existing WebDataset tars in place, without copying them.

    SRC is a folder of .tar files whose members share a name up to its first dot: KEY.jpg (or another image format) and
    KEY.cls, KEY.json, KEY.txt or KEY.npy. Index, labels, schema and manifest are written next to them.
    """

    OPTION_ORDER: ClassVar[tuple[str, ...]] = ("src", "size", "channels", "aspect")

    src: Path = argument("folder of .tar files")
    size: int | None = option(
        None,
        "longer side in pixels that images are read at (default: their size, if it is the same for all)",
        minimum=4,
        maximum=4096,
    )
    fit: str = option("crop", "how images of another aspect are fitted when they are read", choices=images.FITS)
    background: str = option("white", "colour behind transparent and padded images: a name or #rrggbb")
    check: bool = option(False, "decode every image once and leave out damaged ones")
    workers: int = option(0, "number of processes; 0: one per core", minimum=0, maximum=1024)
    licence: str | None = option(None, "licence to store in the manifest")

    def __post_init__(self) -> None:
        validate(self)
        images.colour(self.background)
        check_shape(self, self.size, self.background)


def main(argv: Sequence[str]) -> None:
    """Run ``cgan index``."""
    index_in_place(parse(IndexInPlace, argv, command="cgan index"))


def index_in_place(options: IndexInPlace) -> dataset.Dataset:
    """Index tars in place, print a summary, and return the opened dataset.

    Raises:
        UserError: there are no tars, they are compressed, the folder is a packed dataset, or nothing is usable.
        Failure: a disk error, a tar that changed meanwhile, or a killed worker.
    """
    src = Path(os.path.abspath(options.src))  # noqa: PTH100 - keep the given name
    names = _tars(src)
    lock = src / ".indexing.lock"
    with file_lock.locked(lock, f"{src}: another process is indexing it; wait for it to finish"):
        try:
            _sweep(src)
            return _index(options, src, names)
        finally:
            lock.unlink(missing_ok=True)


def _index(options: IndexInPlace, src: Path, names: list[str]) -> dataset.Dataset:
    source = scan_source(src, ScanOptions(source="webdataset", labels=options.labels))
    rule = build_labelling(source, options)
    doubts.check_labels(source, rule.schema, options)
    channels = CHANNELS[channels_of(options)]
    tars = inspect_tars(src, names, source, check=options.check, channels=channels, workers=options.workers)
    size = options.size or _common_size(src, tars, plain_aspect(options))
    check_shape(options, size, options.background)
    shape = shape_of(options, size)
    entries, kept = _entries(tars, source, shape)
    if not kept:
        why = source.problems.named("image-unusable", 3)
        raise UserError("no-images", f"{src}: none of the {len(source.items):,} images can be used: {why}")
    stage = src / _STAGE
    with atomic_io.explain_disk_errors(stage):
        stage.mkdir(exist_ok=True)
    try:
        _write_sidecars(stage, source, rule, entries, kept)
        _write_manifest(stage, options, src, source, rule, shape, entries, tars)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _put_in_place(stage, src)
    made = dataset.Dataset.open(src)
    print("\n".join(summary.lines(made, source.problems)))
    return made


def _put_in_place(stage: Path, src: Path) -> None:
    """Replace the old index by the new one. While it is replaced, there is no manifest."""
    with atomic_io.explain_disk_errors(src):
        (src / MANIFEST).unlink(missing_ok=True)
        atomic_io.fsync_directory(src)
        for name in _SIDECARS:
            (stage / name).replace(src / name)
        atomic_io.fsync_directory(src)
        (stage / MANIFEST).replace(src / MANIFEST)
        stage.rmdir()
        atomic_io.fsync_directory(src)


# ---------------------------------------------------------------- checks


def _tars(src: Path) -> list[str]:
    """Return the sorted names of the tars in a folder.

    Raises:
        UserError: they cannot be indexed in place.
    """
    if not src.is_dir():
        raise UserError(
            "not-a-directory" if src.exists() else "source-missing",
            f"{src}: {'not a folder' if src.exists() else 'no such folder'}; SRC is a folder of .tar files",
        )
    _refuse_other_files(src)
    names = sorted(path.name for path in src.iterdir() if not path.name.startswith(".") and path.is_file())
    instead = "pack them into a new folder with: cgan pack"
    if packed := [name for name in names if _COMPRESSED.search(name)]:
        raise UserError(
            "compressed-tars",
            f"{src}: compressed tars cannot be read in place ({atomic_io.join_names(packed, 3)}); {instead}"
            + ("" if all(map(COMPRESSED.search, packed)) else ", after unpacking those that are not .gz, .bz2 or .xz"),
        )
    if below := sorted(path.relative_to(src).as_posix() for path in src.glob("*/**/*.tar")):
        raise UserError(
            "tars-in-subfolders",
            f"{src}: tars in subfolders ({atomic_io.join_names(below, 3)}); index each folder, or {instead}",
        )
    found = [name for name in names if name.lower().endswith(".tar")]
    odd = [name for name in found if not name.endswith(".tar") or "\\" in name or not _is_text(name)]
    if odd:
        odd = [name.encode(errors="replace").decode() for name in odd]
        raise UserError(
            "invalid-shard-name",
            f"{src}: rename {atomic_io.join_names(odd, 3)}: shards must end in .tar and have plain names",
        )
    if not found:
        raise UserError(
            "no-shards", f"{src}: contains no .tar files; to make a dataset of other images, use: cgan pack"
        )
    return found


def _refuse_other_files(src: Path) -> None:
    """Raise UserError rather than replace files of our names that this command did not write."""
    path = src / MANIFEST
    if not path.exists():
        theirs = [] if (src / _STAGE).exists() else [name for name in _SIDECARS if (src / name).exists()]
        if theirs:
            what = f"{atomic_io.join_names(theirs)} {'was' if len(theirs) == 1 else 'were'} not written by `cgan index`"
            raise UserError("output-exists", f"{src}: {what}; nothing was changed; move that away first")
        return
    try:
        manifest = text_files.read_json(path)
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("in_place") is not True:
        packed = isinstance(manifest, dict) and "format_version" in manifest
        what = "is already a packed dataset" if packed else f"{path.name} was not written by `cgan index`"
        raise UserError(
            "output-exists", f"{src}: {what}; nothing was changed" + ("" if packed else "; move that file away first")
        )


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _sweep(src: Path) -> None:
    """Remove the staged files of a killed indexing."""
    for leftover in (src / _STAGE).iterdir() if (src / _STAGE).exists() else ():
        leftover.unlink(missing_ok=True)


def _common_size(src: Path, tars: list[TarContents], aspect: str) -> int:
    """Return the longer side of all images.

    Raises:
        UserError: their sizes differ, or they do not have the aspect.
    """
    across, down = parse_aspect(aspect)
    found = sorted({shape for tar in tars for shape, why in zip(tar.shapes, tar.damage, strict=True) if not why})
    if len(found) == 1 and found[0][0] * down == found[0][1] * across:
        return max(found[0])
    if not found:
        raise UserError("no-images", f"{src}: none of its images can be read")
    shown = atomic_io.join_names([f"{width} x {height}" for width, height in found], 3)
    what = "square" if aspect == SQUARE else aspect
    raise UserError("option-missing", f"{src}: set --size: the images are not all {what} and of one size ({shown})")


# ---------------------------------------------------------------- writing


def _entries(tars: list[TarContents], source: Source, shape: ImageShape) -> tuple[np.ndarray, list[Item]]:
    """Return the index, and the items that it contains."""
    parts: list[np.ndarray] = []
    kept: list[Item] = []
    items: Iterator[Item] = iter(source.items)
    for shard, tar in enumerate(tars):
        rows: list[tuple[int, int, int, int]] = []
        for member, found, (form, header), why in zip(tar.members, tar.shapes, tar.forms, tar.damage, strict=True):
            item = next(items)
            if why:
                source.problems.add("image-unusable", f"{item.id}: {why}")
                continue
            if found != (shape.width, shape.height):
                form, header = "other", 0
            rows.append((shard, FORMATS.index(form), member.offset + header, member.length - header))
            kept.append(item)
        parts.append(np.array(rows, ENTRY))
    return np.concatenate(parts), kept


def _write_sidecars(folder: Path, source: Source, rule: Labelling, entries: np.ndarray, kept: list[Item]) -> None:
    """Write index.npy, labels.npy, known.npy and schema.yaml, each atomically."""
    labels = np.zeros((len(kept), rule.schema.width), rule.schema.label_dtype)
    known = np.zeros((len(kept), len(rule.schema.attributes)), bool)
    for start in range(0, len(kept), _ROWS):
        rows = rule.rows(kept[start : start + _ROWS])
        labels[start : start + _ROWS], known[start : start + _ROWS] = rows.labels, rows.known
        for name, count in rows.conflicts.items():
            source.problems.add("values-conflicting", detail=repr(name), count=count)
    for name, array in (("index.npy", entries), ("labels.npy", labels), ("known.npy", known)):
        with atomic_io.atomic_writer(folder / name) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
    rule.schema.save(folder / "schema.yaml", dict(rule.reasons))


def _write_manifest(
    folder: Path,
    options: IndexInPlace,
    src: Path,
    source: Source,
    rule: Labelling,
    shape: ImageShape,
    entries: np.ndarray,
    tars: list[TarContents],
) -> None:
    """Write manifest.json for the sidecars in the folder."""
    identity = rule.identity
    samples = np.bincount(entries["shard"], minlength=len(tars)).tolist()
    manifest = {
        "format_version": written_version(shape.manifest_fields),
        "name": src.name,
        "created_by": {"version": __version__, "commit": revision()},
        "in_place": True,
        **shape.manifest_fields,
        "resize_policy": images.policy(options.fit, options.background, shape.channels),
        "fit": options.fit,
        "background": options.background,
        "absent": rule.absent,
        "text_encoder": identity["text_encoder"],
        "aliases": identity["aliases"],
        "source": {"kind": source.kind, "folder": src.name, "pictures": None},
        "licence": options.licence,
        "samples": len(entries),
        "label_dtype": rule.schema.label_dtype.name,
        "copied": int(np.count_nonzero(entries["format"] != FORMATS.index("other"))),
        "problems": source.problems.sentences(),
        "sidecars": {name: atomic_io.sha256(folder / name) for name in _SIDECARS},
        "shards": [
            {"file": tar.path.name, "samples": count, "bytes": tar.bytes, "sha256": tar.sha256}
            for tar, count in zip(tars, samples, strict=True)
        ],
        "schema": rule.schema.to_json(),
    }
    atomic_io.write_json(folder / MANIFEST, self_hash.with_hash(manifest))
