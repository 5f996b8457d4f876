"""Tars, of others or our own: members that share a name up to its first dot are a picture and what is said of it."""

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
from shards.sources.cells import NotOne, array_of, clean, parsed, shown
from shards.sources.compressed import COMPRESSED, plain
from shards.sources.file_tree import Tree, packed_as
from shards.sources.image_refs import TarMember
from shards.sources.item import Picture, Source
from shards.sources.rows import Asked, Rows

PICKLED = frozenset({"pyd", "pickle", "pkl", "pth", "pt", "ten", "joblib"})

_PICTURES = frozenset(extension[1:] for extension in EXTENSIONS)
_RAW = "image.npy"
_TEXTS = ("txt", "caption", "text")
_READ = frozenset({"json", "cls", "npy", *_TEXTS})
_LARGEST = 1 << 24  # bytes of a label


def read_webdataset(tree: Tree, asked: Asked) -> Source:
    tars = [(name, plain(path, asked.spool)) for name, path in tree.packed.items() if packed_as(name) == ".tar"]
    if not tars:
        raise UserError(f"{tree.root}: no tars (.tar) in it")
    rows = Rows(str(tree.root), asked, tree.problems, ("id", "known", "key", "__key__"))
    pictures: list[tuple[str, Picture, int | None]] = []
    ids: set[str] = set()
    vectors = _vectors_count([path for _, path in tars])
    for name, path in tars:
        folder = COMPRESSED.sub("", name).removesuffix(".tar").removesuffix(".TAR")
        for key, sample, handle in _samples(path):
            id = clean(f"{folder}/{key}")
            if id in ids:
                tree.problems.add("sample-key-repeated", id)
                continue
            ids.add(id)
            picture = _picture(path, sample, id, tree.problems)
            if picture is None:
                tree.problems.add("sample-without-image", id)
                for member in sample:
                    tree.pass_over(f"{id}.{member.extension}", f".{member.extension.rpartition('.')[2]}")
                continue
            row = _row(sample, handle, id, tree.problems, vectors)
            if not row:
                tree.problems.add("image-unlabelled", id, detail="label")
            pictures.append((id, picture, rows.add(row, id) if row else None))
        if not has_end_mark(path):
            tree.problems.add("tar-without-end-mark", name)
    if not pictures:
        raise UserError(f"{tree.root}: no pictures in its tars (looked for {', '.join(sorted(_PICTURES))}, {_RAW})")
    return rows.source("webdataset", pictures)


def picture_member(sample: list[Member]) -> tuple[Member | None, bool]:
    """The member of a sample that is its picture, and whether others might be: plain names win over "seg.png"."""
    plain = [member for member in sample if member.extension in _PICTURES or member.extension == _RAW]
    found = plain or [member for member in sample if member.extension.rpartition(".")[2] in _PICTURES]
    return (found[0] if found else None), len(found) > 1


def _picture(tar: Path, sample: list[Member], id: str, problems: Problems) -> TarMember | None:
    member, several = picture_member(sample)
    if several:
        problems.add("sample-with-several-images", id)
    return TarMember(tar, member.offset, member.length, member.extension) if member else None


def _samples(tar: Path) -> Iterator[tuple[str, list[Member], int]]:
    """(key, members, the tar opened) of each run of members with one key.

    Raises:
        UserError: no readable tar.
    """
    try:
        handle = os.open(tar, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{tar}: cannot be read ({error.strerror})") from None
    try:
        for key, sample in itertools.groupby(members(tar), key=lambda member: member.key):
            yield key, list(sample), handle
    finally:
        os.close(handle)


def _vectors_count(tars: list[Path]) -> bool:
    """Whether .npy members are labels: not where the first samples' .json names tags (a label vector repeats them)."""
    for path in tars:
        for _, sample, handle in itertools.islice(_samples(path), 1000):
            note = next((member for kind, member in _said(sample) if kind == "json"), None)
            try:
                content = parsed(_bytes(note, handle)) if note else None
            except NotOne:
                continue
            if isinstance(content, dict) and content.get("tags"):
                return False
    return True


def _row(sample: list[Member], handle: int, id: str, problems: Problems, vectors: bool) -> dict[str, Any]:
    """What a sample's other members say, as columns; what is pickled is never read."""
    row: dict[str, Any] = {}
    for kind, member in _said(sample):
        name = clean(member.extension)
        if kind in PICKLED:
            problems.add("member-pickled", id, detail=f".{name}")
            continue
        if not kind:
            problems.add("member-not-read", id, detail=f".{name}")
        try:
            if kind == "json":
                row = {**_note(parsed(_bytes(member, handle))), **row}
            elif kind == "cls":
                row["label"] = _class(_bytes(member, handle))
            elif kind in _TEXTS:
                row["text"] = _bytes(member, handle).decode("utf-8-sig").strip()
            elif kind == "npy" and vectors:
                row["vector"] = array_of(_bytes(member, handle))
        except UnicodeDecodeError:
            problems.add("text-not-utf8", f"{id}.{name}")
        except NotOne as error:
            problems.add("label-unreadable", f"{id}.{name}: {error}")
    vector = row.pop("vector", None)
    if vector is not None and "label" not in row and any(row.get("known") or [True]):
        row["label"] = vector
    return {name: value for name, value in row.items() if value is not None}


def _said(sample: list[Member]) -> Iterator[tuple[str, Member]]:
    """The members of a sample but its pictures, each with what it is read as: the last part of its ending ("label.cls"
    is a .cls) where no other is that; "": nothing. An array must be plainly .npy: "mask.npy" is no label."""
    taken = {member.extension for member in sample}
    for member in sample:
        kind = member.extension.rpartition(".")[2]
        if kind in _PICTURES or member.extension == _RAW:
            continue
        if kind != member.extension and kind in _READ:
            if kind in taken or kind == "npy":
                kind = ""
            taken.add(kind)
        yield kind, member


def _bytes(member: Member, handle: int) -> bytes:
    if member.length > _LARGEST:
        raise NotOne(f"{member.length:,} bytes")
    data = os.pread(handle, member.length, member.offset)
    if len(data) != member.length:
        raise NotOne("cut off")
    return data


def _note(content: Any) -> dict[str, Any]:
    """A .json member as columns: an object, or a label alone."""
    if isinstance(content, dict):
        known = content.get("known")
        return content if known is None or isinstance(known, list) else {**content, "known": None}
    if isinstance(content, int | float | str | list):
        return {"label": content}
    raise NotOne(shown(content))


def _class(data: bytes) -> str:
    text = data.decode("utf-8-sig").strip()
    if len(text) > 200:
        raise NotOne("a class of more than 200 letters")
    return text
