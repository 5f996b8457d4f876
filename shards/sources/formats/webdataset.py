"""WebDataset tars, of others or our own: members that share a key, the name without its ending, are a sample."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.dataset.tar_index import Member, has_end_mark, members
from shards.sources.archives.compressed import COMPRESSED, decompressed
from shards.sources.archives.sample_keys import Split, best_split, rekeyed
from shards.sources.cells import InvalidValue, parse_json, parse_npy, sanitize, short_repr
from shards.sources.class_lists.class_names import find_names
from shards.sources.file_tree import FileTree, container_type
from shards.sources.image_refs import TarMember
from shards.sources.item import ImageRef, Source
from shards.sources.layout.junk import in_junk
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

PICKLED = frozenset({"pyd", "pickle", "pkl", "pth", "pt", "ten", "joblib"})

_IMAGES = frozenset(extension[1:] for extension in EXTENSIONS)
_RAW = "image.npy"
_TEXTS = ("txt", "caption", "text")
_LABELS = frozenset({"json", "cls", "npy", *_TEXTS})
_MAX_BYTES = 1 << 24  # of a label
_HEAD = 2000  # members that show how their names are split into key and ending


def detect(tree: FileTree, options: ScanOptions) -> str:
    return "tar files" if not tree.images and _tars(tree) else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    tars = [(name, decompressed(path, options.spool)) for name, path in _tars(tree)]
    if not tars:
        raise UserError("format-mismatch", f"{tree.root}: contains no tars (.tar)")
    rows = RowCollector(str(tree.root), options, tree.problems, ("id", "known", "key", "__key__"))
    images: list[tuple[str, ImageRef, int | None]] = []
    ids: set[str] = set()
    split = best_split(itertools.islice((member.name for _, path in tars for member in _members(path)), _HEAD))
    arrays_are_labels = _arrays_are_labels([path for _, path in tars], split)
    for name, path in tars:
        for member in members(path):
            if in_junk(member.name) and member.extension.rpartition(".")[2] in _IMAGES:
                tree.problems.add("junk-left-out", member.name)
        folder = COMPRESSED.sub("", name).removesuffix(".tar").removesuffix(".TAR")
        for key, sample, handle in _samples(path, split):
            id = sanitize(f"{folder}/{key}")
            if id in ids:
                tree.problems.add("sample-key-repeated", id)
                continue
            ids.add(id)
            image = _image(path, sample, id, tree.problems)
            if image is None:
                tree.problems.add("sample-without-image", id)
                for member in sample:
                    tree.note_unread(f"{id}.{member.extension}", f".{member.extension.rpartition('.')[2]}")
                continue
            row = _row(sample, handle, id, tree.problems, arrays_are_labels)
            if not row:
                tree.problems.add("image-unlabelled", id, detail="label")
            images.append((id, image, rows.add(row, id) if row else None))
        if not has_end_mark(path):
            tree.problems.add("tar-without-end-mark", name)
    if not images:
        expected = ", ".join(sorted(_IMAGES))
        raise UserError("no-images", f"{tree.root}: its tars contain no images (looked for {expected}, {_RAW})")
    listed = find_names(tree, "label", rows.class_numbers())
    listed.report(tree.problems)
    rows.name_classes(listed.names)
    return rows.build_source("webdataset", images)


def _tars(tree: FileTree) -> list[tuple[str, Path]]:
    return [(name, path) for name, path in tree.containers.items() if container_type(name) == ".tar"]


def _image(tar: Path, sample: list[Member], id: str, problems: Problems) -> TarMember | None:
    """Return the image of a sample, the first if there are several; names like "png" win over "seg.png"."""
    simple = [member for member in sample if member.extension in _IMAGES or member.extension == _RAW]
    found = simple or [member for member in sample if member.extension.rpartition(".")[2] in _IMAGES]
    if len(found) > 1:
        problems.add("sample-with-several-images", id)
    return TarMember(tar, found[0].offset, found[0].length, found[0].extension) if found else None


def _members(tar: Path) -> Iterator[Member]:
    """Yield the members of a tar but those that a system left behind, such as ._0001.jpg."""
    for member in members(tar):
        if not in_junk(member.name):
            yield member


def _samples(tar: Path, split: Split) -> Iterator[tuple[str, list[Member], int]]:
    """Yield (key, members, file descriptor of the tar) of each run of members with one key.

    Raises:
        UserError: the tar cannot be read.
    """
    try:
        handle = os.open(tar, os.O_RDONLY)
    except OSError as error:
        raise UserError("file-unreadable", f"{tar}: cannot be read ({error.strerror})") from None
    try:
        keyed = (rekeyed(member, split) for member in _members(tar))
        for key, sample in itertools.groupby(keyed, key=lambda member: member.key):
            yield key, list(sample), handle
    finally:
        os.close(handle)


def _arrays_are_labels(tars: list[Path], split: Split) -> bool:
    """Return False if the .json of one of the first samples has tags: .npy members only repeat them as vectors then."""
    for path in tars:
        for _, sample, handle in itertools.islice(_samples(path, split), 1000):
            note = next((member for kind, member in _label_members(sample) if kind == "json"), None)
            try:
                content = parse_json(_bytes(note, handle)) if note else None
            except InvalidValue:
                continue
            if isinstance(content, dict) and content.get("tags"):
                return False
    return True


def _row(sample: list[Member], handle: int, id: str, problems: Problems, arrays_are_labels: bool) -> dict[str, Any]:
    """Return the labels of a sample as columns; pickled members are never loaded."""
    row: dict[str, Any] = {}
    for kind, member in _label_members(sample):
        name = sanitize(member.extension)
        if kind in PICKLED:
            problems.add("member-pickled", id, detail=f".{name}")
            continue
        if not kind:
            problems.add("member-not-read", id, detail=f".{name}")
        try:
            if kind == "json":
                row = {**_note(parse_json(_bytes(member, handle))), **row}
            elif kind == "cls":
                row["label"] = _class(_bytes(member, handle))
            elif kind in _TEXTS:
                row["text"] = _bytes(member, handle).decode("utf-8-sig").strip()
            elif kind == "npy" and arrays_are_labels:
                row["vector"] = parse_npy(_bytes(member, handle))
        except UnicodeDecodeError:
            problems.add("text-not-utf8", f"{id}.{name}")
        except InvalidValue as error:
            problems.add("label-unreadable", f"{id}.{name}: {error}")
    vector = row.pop("vector", None)
    if vector is not None and "label" not in row and any(row.get("known") or [True]):
        row["label"] = vector
    return {name: value for name, value in row.items() if value is not None}


def _label_members(sample: list[Member]) -> Iterator[tuple[str, Member]]:
    """Yield (kind, member) of all members but the images.

    The kind is the last part of the extension ("label.cls" is a .cls) if no other member has that kind; "" if the
    member is not read. An array must have the plain extension .npy: "mask.npy" is not a label.
    """
    taken = {member.extension for member in sample}
    for member in sample:
        kind = member.extension.rpartition(".")[2]
        if kind in _IMAGES or member.extension == _RAW:
            continue
        if kind != member.extension and kind in _LABELS:
            if kind in taken or kind == "npy":
                kind = ""
            taken.add(kind)
        yield kind, member


def _bytes(member: Member, handle: int) -> bytes:
    if member.length > _MAX_BYTES:
        raise InvalidValue(f"{member.length:,} bytes")
    data = os.pread(handle, member.length, member.offset)
    if len(data) != member.length:
        raise InvalidValue("cut off")
    return data


def _note(content: Any) -> dict[str, Any]:
    """Return a .json member as columns: an object, or a single label."""
    if isinstance(content, dict):
        known = content.get("known")
        return content if known is None or isinstance(known, list) else {**content, "known": None}
    if isinstance(content, int | float | str | list):
        return {"label": content}
    raise InvalidValue(short_repr(content))


def _class(data: bytes) -> str:
    text = data.decode("utf-8-sig").strip()
    if len(text) > 200:
        raise InvalidValue("a class name of more than 200 characters")
    return text


FORMAT = SourceFormat("webdataset", "WebDataset tars", detect, scan, has_columns=True, in_containers=True)
