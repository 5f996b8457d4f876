"""The files of a folder or of archives, by name; formats read all of them in the same way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.sources.archives.compressed import COMPRESSED
from shards.sources.archives.git_lfs import check_pointers
from shards.sources.archives.listing import TEXTS, Member, archive_members, are_samples, is_zip, stem
from shards.sources.cells import InvalidValue, parse_json, sanitize
from shards.sources.first_bytes import images_among
from shards.sources.id_ladder import ImageNames
from shards.sources.item import ImageFile, ImageRef
from shards.sources.layout.junk import is_junk
from shards.sources.layout.masks import find_masks
from shards.sources.options import ScanOptions

CONTAINERS = frozenset({".parquet", ".arrow", ".tar"})

UNSUPPORTED = frozenset(  # image formats that are not read
    {".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".psd", ".xcf"}
    | {".svg", ".exr", ".hdr", ".dds", ".pcx", ".cr2", ".nef", ".arw", ".dng"}
)
_SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods"})


@dataclass
class FileTree:
    """The files of a source, by their paths below it.

    Attributes:
        root: the folder or file.
        images: files with an image's extension, or with an unknown one and the first bytes of an image.
        texts: files that may hold labels.
        containers: tars of samples, and Parquet files (none inside an archive).
        others: all other files, such as arrays; they are not read unless a format knows them.
        problems: counts of files that cannot be used.
        doubt: what folders may be besides classes, for messages; "" if that is clear.
        unusable: tables that may be meant to label the images → why they do not, in words that follow the name.
        inspected: what is known of its tables, so that detecting a format and reading it look at them once.
    """

    root: Path
    images: dict[str, ImageRef] = field(default_factory=dict)
    texts: dict[str, ImageRef] = field(default_factory=dict)
    containers: dict[str, Path] = field(default_factory=dict)
    others: dict[str, ImageRef] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    doubt: str = ""
    unusable: dict[str, str] = field(default_factory=dict)
    inspected: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @cached_property
    def image_names(self) -> ImageNames:
        """The names of the images, to match ids with; asked for only when `images` is complete."""
        return ImageNames(self.images)

    def note_unread(self, name: str, extension: str) -> None:
        """Note a file that is not read if its extension is that of an image or of a spreadsheet."""
        if extension in UNSUPPORTED:
            self.problems.add("extension-not-read", name, detail=extension)
        if extension in _SPREADSHEETS:
            self.unusable[name] = ": a spreadsheet; save it as .csv"

    def where(self, name: str) -> str:
        """Return the full path of a file, for messages."""
        return f"{self.root}/{name}" if name else str(self.root)

    def text(self, name: str) -> bytes:
        """Return the content of one of `texts` or `others`.

        Raises:
            UserError: it cannot be read, is larger than 1 GiB, or is a pointer of Git LFS.
        """
        file = self.texts.get(name) or self.others[name]
        try:
            data = file.read()
            check_pointers(self.root, {name: file} if data.startswith(b"version https://git-lfs") else {})
            return data
        except OSError as error:
            raise UserError("file-unreadable", f"{self.where(name)}: cannot be read ({error.strerror})") from None

    def json(self, name: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """Return the value of a file that is one JSON value; ``hook`` is that of `parse_json`.

        Raises:
            UserError: it cannot be read, or is not JSON.
        """
        try:
            return parse_json(self.text(name), hook)
        except InvalidValue as error:
            raise UserError("invalid-json", f"{self.where(name)}: {error}; recreate it") from None


def container_type(name: str) -> str:
    """Return the type of a file with images in it: ".parquet", ".arrow" or ".tar" (compressed or not); else ""."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - many files
    return extension if extension in CONTAINERS else ".tar" if COMPRESSED.search(name) else ""


def list_files(src: Path, options: ScanOptions | None = None) -> FileTree:
    """Return the files of a source. Archives are read like folders, unless images are beside them.

    Raises:
        UserError: the path does not exist, or an archive is damaged.
    """
    tree = FileTree(src)
    found: dict[str, Path] = {}
    if src.is_dir():
        found = _list_folder(tree)
    elif not src.exists():
        raise UserError(
            "source-missing", f"{src}: no such folder or file; SRC is a folder, a zip, a tar or a Parquet file"
        )
    elif container_type(src.name) in (".parquet", ".arrow") and src.is_file():
        tree.containers[src.name] = src
    elif is_archive(src.name) and src.is_file():
        found = {src.name: src}
    else:
        tree.others[src.name] = ImageFile(src, src.name)
    containers = {name: ImageFile(path, name) for name, path in (found | tree.containers).items()}
    check_pointers(src, tree.images or containers or tree.others)
    _read_archives(tree, found, options or ScanOptions())
    if src.is_dir() or found:
        _find_images(tree)
    _drop_masks(tree)
    return tree


def is_archive(name: str) -> bool:
    """Return True if a file's name is that of a zip or of a tar, compressed or not."""
    return is_zip(name) or container_type(name) == ".tar"


def _read_archives(tree: FileTree, found: dict[str, Path], options: ScanOptions) -> None:
    """Add the files in archives to a tree; tars of samples become containers."""
    tars = {name: path for name, path in found.items() if not is_zip(name)}
    if tars and (options.source == "webdataset" or are_samples(tars)):
        tree.containers.update(tars)
        found = {name: path for name, path in found.items() if name not in tars}
    if tree.images or tree.containers:
        for name in found:
            tree.problems.add("archive-not-read", name)
        return
    for name, path in found.items():
        prefix = f"{stem(name)}/" if len(found) > 1 else ""
        for member in archive_members(path, options, tree.problems):
            _add_member(tree, prefix + member.name, member)


def _add_member(tree: FileTree, name: str, member: Member) -> None:
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - many files
    if extension not in EXTENSIONS | TEXTS:
        tree.note_unread(name, extension)
    files = tree.images if extension in EXTENSIONS else tree.texts if extension in TEXTS else tree.others
    if member.file is None:
        tree.problems.add(member.refused[0], name, detail=member.refused[1])
    elif name in files:
        tree.problems.add("zip-member-repeated", name)
    else:
        files[name] = member.file


def _find_images(tree: FileTree) -> None:
    """Take files as images whose endings say nothing, but whose first bytes do."""
    images, unseen = images_among(tree.others)
    for name in images:
        tree.images[name] = tree.others.pop(name)
        tree.problems.add("image-by-content", name)
    for name in unseen:
        tree.problems.add("file-not-looked-at", name)


def _drop_masks(tree: FileTree) -> None:
    masks = find_masks(tree.images)
    for name in sorted(masks.names):
        tree.problems.add("mask-left-out", name)
        del tree.images[name]
    if masks.doubtful:
        tree.doubt = f"{masks.doubtful[0]}/ may be a class (--source classes), or hold masks of the other images"


def _list_folder(tree: FileTree) -> dict[str, Path]:
    """Add the files of a folder to a tree, and return its archives."""
    archives: dict[str, Path] = {}

    def count_unreadable(error: OSError) -> None:
        tree.problems.add("folder-unreadable", str(error.filename))

    for path, name in _walk(tree.root, count_unreadable, tree.problems):
        extension = os.path.splitext(path)[1].lower()  # noqa: PTH122 - many files
        name = sanitize(os.fsencode(name).decode("utf-8", "replace"))
        if is_archive(name):
            archives.setdefault(name, Path(path))
            continue
        if container_type(name):
            tree.containers.setdefault(name, Path(path))
            continue
        files = tree.images if extension in EXTENSIONS else tree.texts
        if name in files:
            tree.problems.add("file-name-repeated", name)
        elif extension in EXTENSIONS or extension in TEXTS:
            files[name] = ImageFile(path, name)
        else:
            tree.others[name] = ImageFile(path, name)
            tree.note_unread(name, extension)
    return archives


def _walk(root: Path, on_error: Callable[[OSError], None], problems: Problems) -> Iterator[tuple[str, str]]:
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
        below = os.path.relpath(folder, root)
        for name in filter(is_junk, subfolders):
            _count_junk(os.path.join(folder, name), problems)  # noqa: PTH118
        subfolders[:] = sorted(name for name in subfolders if not is_junk(name))
        for name in sorted(names):
            shown = name if below == "." else f"{below}/{name}"
            if not is_junk(name):
                yield os.path.join(folder, name), shown  # noqa: PTH118
            elif os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122
                problems.add("junk-left-out", sanitize(shown))


def _count_junk(folder: str, problems: Problems) -> None:
    for _, _, names in os.walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122
                problems.add("junk-left-out", sanitize(f"{os.path.basename(folder)}/{name}"))  # noqa: PTH119
