"""Zips and tars that are read like folders; nothing in them is unpacked to the disk."""

from __future__ import annotations

import itertools
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.dataset.tar_index import has_end_mark, members
from shards.sources.archives.compressed import COMPRESSED, decompressed
from shards.sources.archives.names import decode_names, is_written_in_unicode
from shards.sources.cells import sanitize
from shards.sources.image_refs import TarMember, ZipEntry, ZipMember
from shards.sources.item import MAX_BYTES, ImageRef
from shards.sources.layout.junk import in_junk
from shards.sources.options import ScanOptions

# files that may hold labels
TEXTS = frozenset(
    {".txt", ".caption", ".tags", ".label", ".text", ".csv", ".tsv", ".lst", ".names", ".json", ".jsonl", ".ndjson"}
)
RAW = ".image.npy"  # ending of pixels that are not encoded
_SAMPLE_LABELS = frozenset({"json", "cls", "npy", "txt", "caption", "text", "pyd", "pickle", "pkl"})

_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 98: "ppmd"}
_DAMAGED = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError),
    *(zlib.error, lzma.LZMAError),
)
_HEAD = 1000  # members that decide what a tar is
_HEAD_BYTES = 1 << 26
_TARS = 8  # of a folder that are looked at


class Member(NamedTuple):
    """A file in an archive; ``refused`` is the code and detail of the problem if it cannot be read."""

    name: str
    file: ImageRef | None
    refused: tuple[str, str] = ("", "")


def is_zip(name: str) -> bool:
    """Return True if a file's name is that of a zip."""
    return name.lower().endswith(".zip")


def stem(name: str) -> str:
    """Return an archive's name without its ending."""
    return COMPRESSED.sub("", name) if COMPRESSED.search(name) else name.rpartition(".")[0]


def are_samples(tars: Mapping[str, Path]) -> bool:
    """Return True if tars are WebDataset: in one of them, an image and a label share a key."""
    paths = list(tars.values())
    return any(_has_samples(path) for path in paths[:: max(1, len(paths) // _TARS)])


def archive_members(path: Path, options: ScanOptions, problems: Problems) -> list[Member]:
    """Return the files in a zip or tar in the order of their names, without junk and without a folder around all.

    Raises:
        UserError: the archive is damaged, or the encoding of its names is unknown.
    """
    found = _zip_members(path, options, problems) if is_zip(path.name) else _tar_members(path, options, problems)
    junk = [member for member in found if in_junk(member.name)]
    for member in junk:
        if os.path.splitext(member.name)[1].lower() in EXTENSIONS:  # noqa: PTH122 - many files
            problems.add("junk-left-out", member.name)
    kept = [member for member in found if not in_junk(member.name)] if junk else found
    top = _wrapper_folder([member.name for member in kept])
    return sorted((member._replace(name=member.name.removeprefix(top)) for member in kept), key=lambda m: m.name)


def _zip_members(path: Path, options: ScanOptions, problems: Problems) -> list[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError, OverflowError) as e:
        raise UserError("file-damaged", f"{path}: not a readable zip ({e}); recreate it") from None
    raw = {
        info.filename: info.orig_filename.encode("cp437")
        for info in infos
        if not is_written_in_unicode(info) and not info.filename.isascii()
    }
    names = decode_names(path, raw, options.encoding, problems)
    return [_zip_member(path, info, names.get(info.filename, info.filename)) for info in infos]


def _zip_member(path: Path, info: zipfile.ZipInfo, name: str) -> Member:
    name = sanitize(name.replace("\\", "/")).removeprefix("./")
    if info.flag_bits & 1:
        return Member(name, None, ("zip-member-encrypted", ""))
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        return Member(name, None, ("zip-member-compression", method))
    if info.file_size > MAX_BYTES:
        return Member(name, None, ("zip-member-too-large", ""))
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    entry = ZipEntry(info.header_offset, deflated, info.compress_size, info.file_size, info.CRC)
    return Member(name, ZipMember(path, entry))


def _tar_members(path: Path, options: ScanOptions, problems: Problems) -> list[Member]:
    tar = decompressed(path, options.spool)
    found = [(member.name.removeprefix("./"), member) for member in members(tar)]
    raw = {name: name.encode("utf-8", "surrogateescape") for name, _ in found if not name.isprintable()}
    names = decode_names(path, raw, options.encoding, problems)
    if not has_end_mark(tar):
        problems.add("tar-without-end-mark", path.name)
    return [
        Member(sanitize(names.get(name, name)), TarMember(tar, member.offset, member.length, member.extension))
        for name, member in found
    ]


def _wrapper_folder(names: list[str]) -> str:
    """Return the one folder around everything in an archive, which many archivers add; "" if there is none.

    A single folder that may be a class is not taken for a wrapper.
    """
    tops = {name.partition("/")[0] for name in names}
    inside = {name.partition("/")[2] for name in names}
    tables = any("/" not in name and os.path.splitext(name)[1].lower() in TEXTS for name in inside)  # noqa: PTH122
    return f"{next(iter(tops))}/" if len(tops) == 1 and (tables or any("/" in name for name in inside)) else ""


def _has_samples(path: Path) -> bool:
    """Return True if, among the first members of a tar, an image and a label share a key."""
    kinds: dict[str, bool] = {}
    for name in _first_names(path):
        folder, _, file = name.lower().rpartition("/")
        key, _, extension = file.rpartition(".")
        is_image = f".{extension}" in EXTENSIONS or file.endswith(RAW)
        if in_junk(name) or not (is_image or extension in _SAMPLE_LABELS):
            continue
        for spelling in {key, key.partition(".")[0]}:
            if kinds.setdefault(f"{folder}/{spelling}", is_image) is not is_image:
                return True
    return False


def _first_names(path: Path) -> Iterator[str]:
    mode = "r|*" if COMPRESSED.search(path.name) else "r:"
    size = 0
    try:
        with tarfile.open(path, mode, encoding="utf-8") as archive:
            for member in itertools.islice(archive, _HEAD):
                size += member.size
                if member.isreg():
                    yield member.name
                if member.size < 0 or (size > _HEAD_BYTES and mode != "r:"):
                    return
    except _DAMAGED:
        return  # told when the tar is read
