"""The files of a folder or a zip, by name; formats read both in the same way."""

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
from shards.sources.cells import sanitize
from shards.sources.compressed import COMPRESSED
from shards.sources.image_refs import ZipEntry, ZipMember
from shards.sources.item import MAX_BYTES, ImageFile, ImageRef

TEXTS = frozenset({".txt", ".caption", ".csv", ".json", ".jsonl"})
CONTAINERS = frozenset({".parquet", ".tar"})

UNSUPPORTED = frozenset(  # image formats that are not read
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".psd", ".xcf", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".svg", ".exr", ".hdr", ".dds", ".pcx", ".cr2", ".nef", ".arw", ".dng"}
)
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 98: "ppmd"}
_HIDDEN = ("__MACOSX", "Thumbs.db")


@dataclass
class FileTree:
    """The files of a source, by their paths below it.

    Attributes:
        root: the folder or file.
        images: files with an image's extension.
        texts: files that may hold labels.
        containers: tars and Parquet files (none inside a zip).
        problems: counts of files that cannot be used.
    """

    root: Path
    images: dict[str, ImageRef] = field(default_factory=dict)
    texts: dict[str, ImageRef] = field(default_factory=dict)
    containers: dict[str, Path] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def note_unread(self, name: str, extension: str) -> None:
        """Count a file that is not read if its extension is that of an image."""
        if extension in UNSUPPORTED:
            self.problems.add("extension-not-read", name, detail=extension)

    def where(self, name: str) -> str:
        """Return the full path of a file, for messages."""
        return f"{self.root}/{name}" if name else str(self.root)

    def text(self, name: str) -> bytes:
        """Return the content of one of `texts`.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return self.texts[name].read()
        except OSError as error:
            raise UserError("file-unreadable", f"{self.where(name)}: cannot be read ({error.strerror})") from None


def container_type(name: str) -> str:
    """Return the type of a file with images in it, ".parquet" or ".tar" (compressed or not); "" for other files."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - many files
    return extension if extension in CONTAINERS else ".tar" if COMPRESSED.search(name) else ""


def list_files(src: Path) -> FileTree:
    """Return the files of a source.

    Raises:
        UserError: the path does not exist, or is a file other than a zip, tar or Parquet file.
    """
    tree = FileTree(src)
    if src.is_dir():
        _list_folder(tree)
    elif not src.exists():
        raise UserError(
            "source-missing", f"{src}: no such folder or file; SRC is a folder, a zip, a tar or a Parquet file"
        )
    elif container_type(src.name) and src.is_file():
        tree.containers[src.name] = src
    elif src.suffix.lower() == ".zip" and src.is_file():
        _list_zip(tree)
    else:
        raise UserError("source-unsupported", f"{src}: SRC must be a folder or a .zip, .tar or .parquet file")
    return tree


def _list_folder(tree: FileTree) -> None:
    def count_unreadable(error: OSError) -> None:
        tree.problems.add("folder-unreadable", str(error.filename))

    for path, name in _walk(tree.root, count_unreadable):
        extension = os.path.splitext(path)[1].lower()  # noqa: PTH122 - many files
        name = sanitize(os.fsencode(name).decode("utf-8", "replace"))
        if container_type(name):
            tree.containers.setdefault(name, Path(path))
            continue
        files = tree.images if extension in EXTENSIONS else tree.texts
        if name in files:
            tree.problems.add("file-name-repeated", name)
        elif extension in EXTENSIONS or extension in TEXTS:
            files[name] = ImageFile(path, name)
        else:
            tree.note_unread(name, extension)


def _walk(root: Path, on_error: Callable[[OSError], None]) -> Iterator[tuple[str, str]]:
    """Yield (path, path below the root) of all files in the order of their names; follow links, but not in loops."""
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=on_error, followlinks=True):
        try:
            status = os.stat(folder)  # noqa: PTH116
        except OSError as error:
            on_error(error)
            continue
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not _hidden(name))
        below = os.path.relpath(folder, root)
        for name in sorted(names):
            if not _hidden(name):
                yield os.path.join(folder, name), name if below == "." else f"{below}/{name}"  # noqa: PTH118


def _list_zip(tree: FileTree) -> None:
    try:
        with zipfile.ZipFile(tree.root) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError, OverflowError) as e:
        raise UserError("file-damaged", f"{tree.root}: not a readable zip ({e}); recreate it") from None
    names = [sanitize(member.filename.replace("\\", "/")) for member in members]
    top = _wrapper_folder(names)
    for member, name in sorted(zip(members, names, strict=True), key=lambda pair: pair[1]):
        name, extension = name.removeprefix(top), os.path.splitext(name)[1].lower()  # noqa: PTH122
        if any(_hidden(part) for part in name.split("/")):
            continue
        if extension not in EXTENSIONS | TEXTS:
            tree.note_unread(name, extension)
        elif member.flag_bits & 1:
            tree.problems.add("zip-member-encrypted", name)
        elif (method := member.compress_type) not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            tree.problems.add("zip-member-compression", name, detail=_METHODS.get(method, f"method {method}"))
        elif member.file_size > MAX_BYTES:
            tree.problems.add("zip-member-too-large", name)
        else:
            deflated = member.compress_type == zipfile.ZIP_DEFLATED
            entry = ZipEntry(member.header_offset, deflated, member.compress_size, member.file_size, member.CRC)
            files = tree.images if extension in EXTENSIONS else tree.texts
            if name in files:
                tree.problems.add("zip-member-repeated", name)
            files.setdefault(name, ZipMember(tree.root, entry))


def _wrapper_folder(names: list[str]) -> str:
    """Return the one folder around everything in a zip, which many archivers add; "" if there is none.

    A single folder that may be a class is not taken for a wrapper.
    """
    tops = {name.partition("/")[0] for name in names if not _hidden(name.partition("/")[0])}
    inside = {name.partition("/")[2] for name in names}
    tables = any("/" not in name and os.path.splitext(name)[1].lower() in TEXTS for name in inside)  # noqa: PTH122
    return f"{next(iter(tops))}/" if len(tops) == 1 and (tables or any("/" in name for name in inside)) else ""


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN
