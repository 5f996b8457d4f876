"""Tell files by their first bytes, without reading the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from shards.sources.image_refs import TarMember, ZipMember
from shards.sources.item import ImageFile, ImageRef

_SAMPLE = 20  # files whose first bytes are looked at
_START = 1 << 16  # bytes by which a file is told

_KNOWN = frozenset(  # endings of files that are no images, whatever they begin with
    "xml yaml yml toml ini cfg html htm md rst pdf tsv log lst list names json jsonl ndjson npy npz mat h5 hdf5 "
    "pkl pickle pt pth ckpt onnx safetensors py ipynb m sh c h cpp js ts css zip tar gz tgz bz2 xz zst 7z rar lz4 "
    "parquet arrow feather lmdb mdb db sqlite tfrecord rec idx beton mds mp4 avi mkv webm mov wav mp3 ogg flac ply obj "
    "xlsx xls xlsm ods doc docx bib srt vtt xmp url lnk md5 sha256 part crdownload jxl jp2 j2k jpx tga psd xcf svg exr "
    "hdr dds pcx cr2 nef arw dng".split()
)
_MAGIC = (
    re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*", re.DOTALL),
    re.compile(
        rb"BM.{4}\x00{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00{3}", re.DOTALL
    ),  # BMP, with the size of its header
    re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s"),  # PPM, PGM, PBM
    re.compile(rb"....ftyp(?:avif|avis|heic|heix|mif1|msf1)", re.DOTALL),
)
_IMAGE_ENDING = re.compile(r"\.(?:jpe?g|png|gif|webp|bmp|tiff?)(?![a-z0-9])", re.IGNORECASE)
_GOLDEN = 0.6180339887
_SURE = 64  # files of one ending that are all images, so that the others are too
_MOST = 4096  # files that are looked at


def find_files(
    files: Mapping[str, ImageRef],
    endings: str | tuple[str, ...],
    fits: Callable[[str, bytes], bool],
    most: int,
    start: int = _START,
) -> list[str]:
    """Return the files that begin as those of a format do.

    Args:
        files: by name.
        endings: of their names, in lower case.
        fits: told a name and the first bytes, whether the file is of the format.
        most: if more files have the endings, they are notes of single images, and none is returned.
        start: bytes that ``fits`` is told.
    """
    names = [name for name in files if name.lower().endswith(endings)]
    return [name for name in names if fits(name, head(files[name], start))] if len(names) <= most else []


def images_among(files: Mapping[str, ImageRef]) -> tuple[list[str], list[str]]:
    """Find files that begin as images do though their endings say nothing: none, ``.jpg_large``, ``.jpg?w=100``.

    A few files of each ending are looked at, and all of an ending of which some are images and others are not, but no
    more than some thousands.

    Returns:
        The images, and the files beside images that were too many to be looked at.
    """
    groups: dict[str, list[str]] = {}
    for name in files:
        if (ending := _ending(name)) not in _KNOWN:
            groups.setdefault(ending, []).append(name)
    found: list[str] = []
    unseen: list[str] = []
    left = _MOST
    many = sum(map(len, groups.values())) > _MOST
    for names in groups.values():
        some = _some(names)[:left] if many else names
        left -= len(some)
        images = [name for name in some if is_image(head(files[name]))]
        if images and len(images) == len(some):
            images = names
        elif images:
            rest = sorted(set(names) - set(some))
            unseen += rest[left:]
            images += [name for name in rest[:left] if is_image(head(files[name]))]
            left -= len(rest[:left])
        found += sorted(images)
    return found, unseen


def _some(names: list[str]) -> list[str]:
    """Return some of many names, spread over them without a period."""
    chosen = {int(number * _GOLDEN % 1 * len(names)) for number in range(_SURE)}
    return [names[at] for at in sorted(chosen)]


def is_image(start: bytes) -> bool:
    """Return True if these are the first bytes of an image in a format that is read."""
    return any(magic.match(start) for magic in _MAGIC)


def _ending(name: str) -> str:
    """Return a file's ending in lower case; what follows ``.jpg`` in names of downloads is no part of it."""
    file = name.rpartition("/")[2].lower()
    ending = file.rpartition(".")[2] if "." in file else ""
    downloaded = _IMAGE_ENDING.search(file) if ending not in _KNOWN else None
    return f"{downloaded[0]}…" if downloaded else ending


def head(file: ImageRef, count: int = 64) -> bytes:
    """Return the first bytes of a file; nothing if it cannot be read."""
    try:
        if isinstance(file, TarMember | ZipMember):
            return file.start(count)
        if not isinstance(file, ImageFile):
            return file.read()[:count]
        if not os.path.isfile(file.path):  # noqa: PTH113 - many files
            return b""
        with open(file.path, "rb", buffering=0) as opened:  # noqa: PTH123
            return opened.read(count)
    except OSError:
        return b""


def spread(names: Iterable[str]) -> Iterator[str]:
    """Yield a few names, spread over all of them."""
    listed = list(names)
    yield from listed[:: max(1, len(listed) // _SAMPLE)][:_SAMPLE]
