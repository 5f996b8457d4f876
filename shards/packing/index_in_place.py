"""``shards index``: tars that others wrote become a data set where they lie; no picture is copied.

Beside the tars appear the sidecars and the manifest that a packed data set has. They are written in a folder of their
own and then take their places, the manifest last: an indexing that fails leaves the old index as it was, and one that
is killed at the very end leaves no data set behind, and the same command makes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.core import atomic_io, process_pool, self_hash
from shards.core.cli import argument, option, parse, validate
from shards.core.errors import Failure, UserError
from shards.core.version import __version__, revision
from shards.dataset import dataset, images, summary
from shards.dataset.manifest import FORMAT_VERSION, MANIFEST
from shards.dataset.sidecars import ENTRY, FORMATS
from shards.packing.labelling import Labelling, LabelOptions, labelling
from shards.sources.compressed import COMPRESSED
from shards.sources.image_refs import TarMember
from shards.sources.item import Item, Source
from shards.sources.registry import scan_source

_SIDECARS = ("index.npy", "labels.npy", "known.npy", "schema.yaml")
_COMPRESSED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_ROWS = 4096  # labelled together
_STAGE = ".indexing"  # where a new index is written; while it is there, sidecars without a manifest are ours
_SMALL = 16  # pixels; what --check makes of each picture, only to have it decoded


@dataclass(frozen=True)
class IndexInPlace(LabelOptions):
    """Make a data set of WebDataset tars where they lie, without copying: train on the folder as it is.

    SRC is a folder of .tar files whose members share a name up to its first dot: KEY.jpg (or any other kind of
    picture) and KEY.cls, KEY.json, KEY.txt or KEY.npy. Index, labels, schema and manifest are written beside them.
    """

    src: Path = argument("folder of .tar files that others wrote")
    size: int | None = option(
        None,
        "height and width to read the pictures at, in pixels; left out: theirs, if all are alike",
        minimum=4,
        maximum=4096,
    )
    fit: str = option("crop", "how a picture becomes square when it is read", choices=images.FITS)
    background: str = option("white", "colour behind transparent pictures and beside padded ones: a name or #rrggbb")
    check: bool = option(False, "decode every picture once and leave damaged ones out")
    workers: int = option(0, "processes; 0: one a core", minimum=0, maximum=1024)
    licence: str | None = option(None, "noted in the manifest")

    def __post_init__(self) -> None:
        validate(self)
        images.colour(self.background)


class Tar(NamedTuple):
    """A tar to look at: its pictures by place, in its order."""

    path: Path
    members: tuple[TarMember, ...]
    check: bool


class Look(NamedTuple):
    """What was seen in a tar, and of each of its pictures.

    Attributes:
        path, members: as in the `Tar`.
        bytes, sha256: of the tar.
        shapes: width and height as the picture is to be seen; zeros for one that is damaged.
        forms: the format where it needs no conversion at its own size ("jpg", "png", "webp", "raw"), else "other";
            and the bytes before its pixels if it is raw.
        damage: why it cannot be used; "" if it can.
    """

    path: Path
    members: tuple[TarMember, ...]
    bytes: int
    sha256: str
    shapes: list[tuple[int, int]]
    forms: list[tuple[str, int]]
    damage: list[str]


def main(argv: Sequence[str]) -> None:
    """``python -m shards index``."""
    index_in_place(parse(IndexInPlace, argv, command="python -m shards index"))


def index_in_place(options: IndexInPlace) -> dataset.Dataset:
    """Index tars where they lie, print what they hold, and return the data set opened.

    Raises:
        UserError: no tars, compressed ones, a folder that already is a packed data set, nothing usable.
        Failure: the disk refuses, a tar changed meanwhile, or a worker was killed.
    """
    src = Path(os.path.abspath(options.src))  # noqa: PTH100 - the name that was given
    names = _tars(src)
    lock = src / ".indexing.lock"
    with atomic_io.file_lock(lock, f"{src}: another process is indexing it now; wait for it"):
        try:
            _sweep(src)
            return _index(options, src, names)
        finally:
            lock.unlink(missing_ok=True)


def _index(options: IndexInPlace, src: Path, names: list[str]) -> dataset.Dataset:
    source = scan_source(src, "webdataset", labels=options.labels)
    rule = labelling(source, options)
    looks = _look(src, names, source, options)
    size = options.size or _common_size(src, looks)
    entries, kept = _entries(looks, source, size)
    if not kept:
        why = source.problems.named("image-unusable", 3)
        raise UserError("no-images", f"{src}: none of the {len(source.items):,} images can be used: {why}")
    stage = src / _STAGE
    with atomic_io.explain_disk_errors(stage):
        stage.mkdir(exist_ok=True)
    try:
        _write_sidecars(stage, source, rule, entries, kept)
        _write_manifest(stage, options, src, source, rule, size, entries, looks)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _put_in_place(stage, src)
    made = dataset.Dataset.open(src)
    print("\n".join(summary.lines(made, source.problems)))
    return made


def _put_in_place(stage: Path, src: Path) -> None:
    """The new index takes the old one's place; from its first moment to its last there is no manifest."""
    with atomic_io.explain_disk_errors(src):
        (src / MANIFEST).unlink(missing_ok=True)
        atomic_io.fsync_directory(src)
        for name in _SIDECARS:
            (stage / name).replace(src / name)
        atomic_io.fsync_directory(src)
        (stage / MANIFEST).replace(src / MANIFEST)
        stage.rmdir()
        atomic_io.fsync_directory(src)


# ---------------------------------------------------------------- before


def _tars(src: Path) -> list[str]:
    """The tars in a folder by name, when they can be indexed where they lie.

    Raises:
        UserError: they cannot.
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
    """Nothing that bears one of our names and is not ours may be replaced."""
    path = src / MANIFEST
    if not path.exists():
        theirs = [] if (src / _STAGE).exists() else [name for name in _SIDECARS if (src / name).exists()]
        if theirs:
            what = f"{atomic_io.join_names(theirs)} {'was' if len(theirs) == 1 else 'were'} not written by `cgan index`"
            raise UserError("output-exists", f"{src}: {what}; nothing was changed; move that away first")
        return
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
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
    """Remove what a killed indexing had written and not put in its place."""
    for leftover in (src / _STAGE).iterdir() if (src / _STAGE).exists() else ():
        leftover.unlink(missing_ok=True)


# ---------------------------------------------------------------- looking


def _look(src: Path, names: list[str], source: Source, options: IndexInPlace) -> list[Look]:
    """What is in each tar, in the order of names; the source's items are brought into the order of the looks."""

    def place(item: Item) -> tuple[str, int]:
        assert isinstance(item.image, TarMember)
        return item.image.tar.name, item.image.offset

    source.items.sort(key=place)
    members: dict[str, tuple[TarMember, ...]] = dict.fromkeys(names, ())
    for name, items in groupby(source.items, key=lambda item: place(item)[0]):
        members[name] = tuple(item.image for item in items if isinstance(item.image, TarMember))
    tasks = [Tar(src / name, members[name], options.check) for name in names]
    processes = min(options.workers or process_pool.available_cores(), len(tasks))
    seen = process_pool.run(look, tasks, workers=processes, total=len(source.items), doing="indexing")
    return sorted(seen, key=lambda seen: seen.path.name)


def look(tar: Tar) -> Look:
    """Look at every picture of a tar, and hash the tar.

    Raises:
        Failure: it cannot be read.
    """
    shapes: list[tuple[int, int]] = []
    forms: list[tuple[str, int]] = []
    damage: list[str] = []
    try:
        sha256, size = atomic_io.sha256(tar.path), tar.path.stat().st_size
    except OSError as error:
        raise Failure("file-unreadable", f"{tar.path}: cannot be read ({error.strerror})") from None
    for member in tar.members:
        shape, form, why = (0, 0), ("other", 0), ""
        try:
            data = member.read()
            shape, form = images.dimensions(data), images.native(data)
            if tar.check:
                images.pixels(data, _SMALL)
        except (images.ImageError, OSError) as error:
            why = str(error.strerror if isinstance(error, OSError) else error) or "cannot be read"
        shapes.append(shape)
        forms.append(form)
        damage.append(why)
        process_pool.advance()
    return Look(tar.path, tar.members, size, sha256, shapes, forms, damage)


def _common_size(src: Path, looks: list[Look]) -> int:
    """The size that all pictures have.

    Raises:
        UserError: they differ, or are not square.
    """
    found = sorted({shape for seen in looks for shape, why in zip(seen.shapes, seen.damage, strict=True) if not why})
    if len(found) == 1 and found[0][0] == found[0][1]:
        return found[0][0]
    if not found:
        raise UserError("no-images", f"{src}: none of its images can be read")
    shown = atomic_io.join_names([f"{width} x {height}" for width, height in found], 3)
    raise UserError("option-missing", f"{src}: set --size: the images are not all square and of one size ({shown})")


# ---------------------------------------------------------------- writing


def _entries(looks: list[Look], source: Source, size: int) -> tuple[np.ndarray, list[Item]]:
    """The index, and the items that are in it."""
    parts: list[np.ndarray] = []
    kept: list[Item] = []
    items: Iterator[Item] = iter(source.items)
    for shard, seen in enumerate(looks):
        rows: list[tuple[int, int, int, int]] = []
        for member, shape, (form, header), why in zip(seen.members, seen.shapes, seen.forms, seen.damage, strict=True):
            item = next(items)
            if why:
                source.problems.add("image-unusable", f"{item.id}: {why}")
                continue
            if shape != (size, size):
                form, header = "other", 0
            rows.append((shard, FORMATS.index(form), member.offset + header, member.length - header))
            kept.append(item)
        parts.append(np.array(rows, ENTRY))
    return np.concatenate(parts), kept


def _write_sidecars(folder: Path, source: Source, rule: Labelling, entries: np.ndarray, kept: list[Item]) -> None:
    """index.npy, labels.npy, known.npy and schema.yaml, each in one step."""
    labels = np.zeros((len(kept), rule.schema.width), np.float32)
    known = np.zeros((len(kept), len(rule.schema.attributes)), bool)
    for start in range(0, len(kept), _ROWS):
        rows = rule.rows(kept[start : start + _ROWS])
        labels[start : start + _ROWS], known[start : start + _ROWS] = rows.labels, rows.known
        for name, count in rows.conflicts.items():
            source.problems.add("values-conflicting", detail=repr(name), count=count)
    for name, array in (("index.npy", entries), ("labels.npy", labels), ("known.npy", known)):
        with atomic_io.atomic_writer(folder / name) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
    rule.schema.save(folder / "schema.yaml")


def _write_manifest(
    folder: Path,
    options: IndexInPlace,
    src: Path,
    source: Source,
    rule: Labelling,
    size: int,
    entries: np.ndarray,
    looks: list[Look],
) -> None:
    """manifest.json, by the sidecars in the folder."""
    identity = rule.identity
    samples = np.bincount(entries["shard"], minlength=len(looks)).tolist()
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": src.name,
        "created_by": {"version": __version__, "commit": revision()},
        "in_place": True,
        "picture_size": size,
        "resize_policy": images.policy(options.fit, options.background),
        "fit": options.fit,
        "background": options.background,
        "absent": rule.absent,
        "text_encoder": identity["text_encoder"],
        "aliases": identity["aliases"],
        "source": {"kind": source.kind, "folder": src.name, "pictures": None},
        "licence": options.licence,
        "samples": len(entries),
        "copied": int(np.count_nonzero(entries["format"] != FORMATS.index("other"))),
        "problems": source.problems.sentences(),
        "sidecars": {name: atomic_io.sha256(folder / name) for name in _SIDECARS},
        "shards": [
            {"file": look.path.name, "samples": count, "bytes": look.bytes, "sha256": look.sha256}
            for look, count in zip(looks, samples, strict=True)
        ],
        "schema": rule.schema.to_json(),
    }
    atomic_io.write_json(folder / MANIFEST, self_hash.with_hash(manifest))
