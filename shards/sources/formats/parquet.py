"""Parquet tables that contain the bytes of images, as Hugging Face stores datasets.

Random access to a table is slow, so its images are copied once, a few at a time, into a plain file (the spool). Labels
are read from the table itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io, text_files
from shards.core.errors import UserError
from shards.sources.archives.arrow_files import ArrowFile
from shards.sources.cells import sanitize, shorten_names
from shards.sources.file_tree import FileTree
from shards.sources.foreign import url_column, urls_only_error
from shards.sources.image_refs import SpooledImage, file_stamp
from shards.sources.item import MAX_BYTES, ImageRef, Source
from shards.sources.labelled_tables.facts import ColumnFacts, gather_facts, with_names
from shards.sources.labelled_tables.roles import decide_roles
from shards.sources.labelled_tables.scan import collector_of
from shards.sources.labelled_tables.selection import select_columns
from shards.sources.options import ScanOptions
from shards.sources.source_format import SourceFormat
from shards.sources.text.parquet_rows import class_names

_NAMES = ("image", "img", "picture", "jpg", "png", "image_bytes", "bytes")  # of the column with images
_BATCH = 32  # images in memory
_SPOOL, _RECORD = "pictures.bin", "pictures.npy"


def detect(tree: FileTree, options: ScanOptions) -> str:
    return "Parquet or Arrow files" if not tree.images and _files(tree).keys() - _of_tars(tree) else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    files = _files(tree)
    if not files:
        raise UserError("format-mismatch", f"{tree.root}: contains no Parquet files (.parquet, .arrow)")
    if options.spool is None:
        raise UserError("pack-only-source", f"{tree.root}: Parquet files can only be packed (cgan pack)")
    tables = [(name, _Table(path)) for name, path in files.items()]
    ranges = _spool_images(options.spool, [table for _, table in tables])
    where = str(tree.root)
    facts = _facts([table for _, table in tables])
    roles = decide_roles(facts.values(), "")
    chosen = select_columns(where, roles, facts, options, with_label=True)
    names = {column: words for _, table in tables for column, words in table.names.items()}
    all_rows = partial(_all_rows, [table for _, table in tables])
    rows, converter = collector_of(where, options, tree, chosen, roles, facts, all_rows, names)
    found = _find_by_path(tree, [table for _, table in tables], ranges)
    images: list[tuple[str, ImageRef, int | None]] = []
    position = 0
    for name, table in tables:
        stamp = file_stamp(table.path)
        for number, row in enumerate(table.rows()):
            offset, length = ranges[position].tolist()
            position += 1
            at = f"{name}/{number}"
            image = SpooledImage(options.spool / _SPOOL, offset, length, stamp) if length >= 0 else None
            path = _image_path(row, table)
            if image is None and (name_in_tree := found.get(path)):
                image = tree.images[name_in_tree]
            if image is None:
                tree.problems.add("row-without-image", at)
            else:
                images.append((at, image, rows.add(converter.convert(row, at), at, None, converter.part(row), row)))
    if not images:
        raise UserError("no-images", f"{tree.root}: no row of its Parquet files contains an image")
    converter.report()
    for use in chosen.uses:
        if not use.becomes:
            tree.problems.add("column-left-out", shorten_names([use.name]), detail="the Parquet files")
    return rows.build_source("parquet", images)


def _find_by_path(tree: FileTree, tables: list[_Table], ranges: np.ndarray) -> dict[str, str | None]:
    """Return path → image of the source, of the rows without bytes."""
    if not tree.images:
        return {}
    paths = (_image_path(row, table) for table in tables for row in table.rows())
    lengths = ranges[:, 1].tolist()
    return tree.image_names.find(
        (path for path, length in zip(paths, lengths, strict=True) if length < 0), tree.problems
    )


def _image_path(row: dict[str, Any], table: _Table) -> str:
    """Remove the path of the image from a row and return it; "" if there is none."""
    return sanitize(row.pop(table.image, None) or "")


def _all_rows(tables: list[_Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for row in table.rows():
            row.pop(table.image, None)
            yield row


def _facts(tables: list[_Table]) -> dict[str, ColumnFacts]:
    """Return what the cells of all columns are, with the names of classes in place of their numbers."""
    columns = dict.fromkeys(name for table in tables for name in table.label_columns())
    names = {column: words for table in tables for column, words in table.names.items()}
    return {
        fact.name: fact for fact in gather_facts(list(columns), (with_names(row, names) for row in _all_rows(tables)))
    }


def _files(tree: FileTree) -> dict[str, Path]:
    return {
        name: path
        for name, path in tree.containers.items()
        if path.suffix.lower() in (".parquet", ".arrow")
        and not path.name.startswith("cache-")  # of intermediate results
    }


def _of_tars(tree: FileTree) -> set[str]:
    """Return the tables that only repeat what a tar of the same name has, as img2dataset writes them."""
    tars = {name.removesuffix(".tar") for name in tree.containers if name.endswith(".tar")}
    return {name for name in tree.containers if name.removesuffix(".parquet") in tars}


def _names_beside(path: Path) -> dict[str, dict[int, str]]:
    """Return the names of classes from the notes that ``save_to_disk`` writes beside its files."""
    try:
        return class_names(b'{"info": ' + (path.parent / "dataset_info.json").read_bytes() + b"}")
    except OSError:
        return {}


class _Table:
    """A Parquet file.

    Attributes:
        image: the column with images.
        nested: True if the images are in a struct's field ``bytes``.
        names: column → number → name of its classes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            from pyarrow import parquet
        except ImportError:
            raise UserError(
                "package-missing", f'{path}: reading Parquet needs pyarrow: pip install "cgan-trainer[parquet]"'
            ) from None
        with _readable(path):
            self.file: Any = ArrowFile(path) if path.suffix.lower() == ".arrow" else parquet.ParquetFile(path)
            schema = self.file.schema_arrow
        self.image, self.nested = self._image_column(schema)
        self.names = class_names((schema.metadata or {}).get(b"huggingface", b"null")) or _names_beside(path)

    def _image_column(self, schema: Any) -> tuple[str, bool]:
        from pyarrow import types

        def binary(kind: Any) -> bool:
            return types.is_binary(kind) or types.is_large_binary(kind)

        found: dict[str, bool] = {}
        for column in schema:
            if binary(column.type):
                found[column.name] = False
            elif types.is_struct(column.type) and any(f.name == "bytes" and binary(f.type) for f in column.type):
                found[column.name] = True
        named = [name for name in _NAMES if name in found]
        if not found:
            columns = shorten_names(schema.names, 20)
            if url := url_column(schema.names):
                raise urls_only_error(self.path, url, schema.names)
            raise UserError(
                "no-image-column",
                f"{self.path}: none of its columns ({columns}) contains images (bytes, or a struct with a field bytes)",
            )
        if len(found) > 1 and not named:
            columns = shorten_names(found)
            raise UserError(
                "ambiguous-image-column",
                f"{self.path}: several columns may contain images ({columns}); rename one of them to image",
            )
        name = named[0] if named else next(iter(found))
        return name, found[name]

    def label_columns(self) -> list[str]:
        """Return the columns of words, numbers, and lists of them."""
        schema = self.file.schema_arrow
        return [name for name in schema.names if name != self.image and _is_simple(schema.field(name).type)]

    def images(self) -> Iterator[bytes | None]:
        """Yield the bytes of the images row by row, with a few in memory at a time."""
        for batch in self._batches([f"{self.image}.bytes" if self.nested else self.image], _BATCH):
            column = batch.column(0)
            if self.nested:
                column = column.flatten()[0]  # a row without a struct is a row without bytes
            for value in column:
                yield value.as_py()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all columns but the bytes of the images; the image column has the image's path if there is one."""
        schema = self.file.schema_arrow
        columns = self.label_columns()
        has_path = self.nested and schema.field(self.image).type.get_field_index("path") >= 0
        selected = [*columns, *([f"{self.image}.path"] if has_path else [])]
        if not selected:
            yield from ({} for _ in range(self._count()))
            return
        for batch in self._batches(selected, 256):
            with _readable(self.path):
                rows = batch.to_pylist()
            for row in rows:
                if isinstance(inner := row.get(self.image), dict):
                    row[self.image] = inner["path"] if isinstance(inner.get("path"), str) else None
                yield row

    def _count(self) -> int:
        with _readable(self.path):
            return self.file.count_rows() if isinstance(self.file, ArrowFile) else self.file.metadata.num_rows

    def _batches(self, columns: list[str], size: int) -> Iterator[Any]:
        with _readable(self.path):
            yield from self.file.iter_batches(size, columns=columns, use_threads=False)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn Arrow's errors on a damaged file into a UserError."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("file-damaged", f"{path}: not a readable Parquet or Arrow file ({reason})") from None


def _is_simple(kind: Any) -> bool:
    """Return True if a column contains words, numbers, or lists of them."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )


def _spool_images(spool: Path, tables: list[_Table]) -> np.ndarray:
    """Copy all images into the spool unless an earlier run did.

    Returns:
        int64 (rows, 2): offset and length of each row's image; the length is -1 if the row has none.
    """
    stamps = json.dumps([[str(table.path), file_stamp(table.path), table.image] for table in tables])
    with atomic_io.explain_disk_errors(spool):
        spool.mkdir(parents=True, exist_ok=True)
    earlier = _load_record(spool, stamps)
    if earlier is not None:
        return earlier
    ranges: list[tuple[int, int]] = []
    offset = 0
    with atomic_io.atomic_writer(spool / _SPOOL) as out:
        for table in tables:
            for data in table.images():
                length = len(data) if data and len(data) <= MAX_BYTES else -1
                ranges.append((offset, length))
                if data and length >= 0:
                    out.write(data)
                    offset += length
    record = np.array(ranges, np.int64).reshape(-1, 2)
    with atomic_io.atomic_writer(spool / _RECORD) as out:
        np.save(out, record, allow_pickle=False)
    atomic_io.write_json(spool / "pictures.json", {"tables": stamps, "bytes": offset})
    return record


def _load_record(spool: Path, stamps: str) -> np.ndarray | None:
    """Return what an earlier run recorded for the same tables; None if there is none or the spool is incomplete."""
    try:
        content = text_files.read_json(spool / "pictures.json")
        record = np.load(spool / _RECORD, allow_pickle=False)
        complete = content["tables"] == stamps and os.path.getsize(spool / _SPOOL) == content["bytes"]  # noqa: PTH202
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return record if complete and record.dtype == np.int64 and record.ndim == 2 and record.shape[1] == 2 else None


FORMAT = SourceFormat(
    "parquet",
    "Parquet or Arrow tables with a column of images",
    detect,
    scan,
    has_columns=True,
    in_containers=True,
)
