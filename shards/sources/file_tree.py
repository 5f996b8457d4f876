"""What lies below a folder or in a zip, by name; readers of pictures with tables beside them see no difference."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import clean
from shards.sources.compressed import COMPRESSED
from shards.sources.image_refs import Place, ZipMember
from shards.sources.item import LARGEST, Picture, PictureFile

TEXTS = frozenset({".txt", ".caption", ".csv", ".json", ".jsonl"})
PACKED = frozenset({".parquet", ".tar"})

STRANGE = frozenset(  # pictures that are not read
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".psd", ".xcf", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".svg", ".exr", ".hdr", ".dds", ".pcx", ".cr2", ".nef", ".arw", ".dng"}
)
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 98: "ppmd"}
_HIDDEN = ("__MACOSX", "Thumbs.db")


@dataclass
class Tree:
    """The files of a source, by their paths below it.

    Attributes:
        root: the folder or file.
        pictures: files with a picture's extension.
        texts: files that may say something of pictures.
        packed: tars and Parquet files (none in a zip).
        problems: what cannot be looked at.
    """

    root: Path
    pictures: dict[str, Picture] = field(default_factory=dict)
    texts: dict[str, Picture] = field(default_factory=dict)
    packed: dict[str, Path] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def pass_over(self, name: str, extension: str) -> None:
        """Count a file that is not read if it looks like a picture."""
        if extension in STRANGE:
            self.problems.add("extension-not-read", name, detail=extension)

    def where(self, name: str) -> str:
        """A file of it for a sentence."""
        return f"{self.root}/{name}" if name else str(self.root)

    def text(self, name: str) -> bytes:
        """A table's or note's content.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return self.texts[name].read()
        except OSError as error:
            raise UserError(f"{self.where(name)}: cannot be read ({error.strerror})") from None


def packed_as(name: str) -> str:
    """What a file with pictures in it is, ".parquet" or ".tar" (compressed or not); "": none."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - many files
    return extension if extension in PACKED else ".tar" if COMPRESSED.search(name) else ""


def plant(src: Path) -> Tree:
    """Look at a source.

    Raises:
        UserError: no such folder, or a file that is no zip, tar or Parquet file.
    """
    tree = Tree(src)
    if src.is_dir():
        _folder(tree)
    elif not src.exists():
        raise UserError(f"{src}: no such folder or file; SRC is a folder, a zip, a tar or a Parquet file")
    elif packed_as(src.name) and src.is_file():
        tree.packed[src.name] = src
    elif src.suffix.lower() == ".zip" and src.is_file():
        _zip(tree)
    else:
        raise UserError(f"{src}: not a folder, nor a .zip, .tar or .parquet file; SRC is one of these")
    return tree


def _folder(tree: Tree) -> None:
    def closed(error: OSError) -> None:
        tree.problems.add("folder-unreadable", str(error.filename))

    for path, name in _walk(tree.root, closed):
        extension = os.path.splitext(path)[1].lower()  # noqa: PTH122 - many files
        name = clean(os.fsencode(name).decode("utf-8", "replace"))
        if packed_as(name):
            tree.packed.setdefault(name, Path(path))
            continue
        files = tree.pictures if extension in EXTENSIONS else tree.texts
        if name in files:
            tree.problems.add("file-name-repeated", name)
        elif extension in EXTENSIONS or extension in TEXTS:
            files[name] = PictureFile(path, name)
        else:
            tree.pass_over(name, extension)


def _walk(root: Path, closed: Callable[[OSError], None]) -> Iterator[tuple[str, str]]:
    """(path, path below the root) of all files, by name, through links but not in loops."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root, onerror=closed, followlinks=True):
        try:
            status = os.stat(place)  # noqa: PTH116
        except OSError as error:
            closed(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        below = os.path.relpath(place, root)
        for name in sorted(names):
            if not _hidden(name):
                yield os.path.join(place, name), name if below == "." else f"{below}/{name}"  # noqa: PTH118


def _zip(tree: Tree) -> None:
    try:
        with zipfile.ZipFile(tree.root) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError, OverflowError) as e:
        raise UserError(f"{tree.root}: not a readable zip ({e}); make it anew") from None
    names = [clean(member.filename.replace("\\", "/")) for member in members]
    top = _wrapper(names)
    for member, name in sorted(zip(members, names, strict=True), key=lambda pair: pair[1]):
        name, extension = name.removeprefix(top), os.path.splitext(name)[1].lower()  # noqa: PTH122
        if any(_hidden(part) for part in name.split("/")):
            continue
        if extension not in EXTENSIONS | TEXTS:
            tree.pass_over(name, extension)
        elif member.flag_bits & 1:
            tree.problems.add("zip-member-encrypted", name)
        elif (method := member.compress_type) not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = _METHODS.get(method, f"method {method}")
            tree.problems.add("zip-member-compression", name, detail=how)
        elif member.file_size > LARGEST:
            tree.problems.add("zip-member-too-large", name)
        else:
            deflated = member.compress_type == zipfile.ZIP_DEFLATED
            place = Place(member.header_offset, deflated, member.compress_size, member.file_size, member.CRC)
            files = tree.pictures if extension in EXTENSIONS else tree.texts
            if name in files:
                tree.problems.add("zip-member-repeated", name)
            files.setdefault(name, ZipMember(tree.root, place))


def _wrapper(names: list[str]) -> str:
    """The one folder around all else in a zip, as packers like to add it; "": there is none, or it may be a class."""
    tops = {name.partition("/")[0] for name in names if not _hidden(name.partition("/")[0])}
    inside = {name.partition("/")[2] for name in names}
    tables = any("/" not in name and os.path.splitext(name)[1].lower() in TEXTS for name in inside)  # noqa: PTH122
    return f"{next(iter(tops))}/" if len(tops) == 1 and (tables or any("/" in name for name in inside)) else ""


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


def without_pictures(tree: Tree) -> UserError:
    """What to say of a source that holds no pictures."""
    looked = f"looked for {', '.join(sorted(EXTENSIONS))}, in all folders below"
    lost = tree.problems.described(1)[:3]
    return UserError("; ".join([f"{tree.root}: no pictures in it ({looked})", *lost]))
