"""Parquet tables with the pictures' bytes in them, as HuggingFace keeps data sets.

A table cannot be read at random cheaply, so its pictures are copied once, a few at a time, into a plain file (the
spool); what they are labelled with is read beside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io
from shards.core.errors import UserError
from shards.sources.cells import NotOne, clean, listed, parsed
from shards.sources.file_tree import Tree
from shards.sources.formats.tags import finder
from shards.sources.image_refs import LARGEST, Spooled, file_stamp
from shards.sources.item import Picture, Source
from shards.sources.rows import Asked, Rows

_NAMES = ("image", "img", "picture", "jpg", "png", "image_bytes", "bytes")
_AT_ONCE = 32  # pictures in memory
_SPOOL, _RECORD = "pictures.bin", "pictures.npy"


def read_parquet(tree: Tree, asked: Asked) -> Source:
    tables = {name: path for name, path in tree.packed.items() if path.suffix.lower() == ".parquet"}
    if not tables:
        raise UserError(f"{tree.root}: no Parquet files (.parquet) in it")
    if asked.spool is None:
        raise UserError(f"{tree.root}: pictures in Parquet files can only be packed; use python -m shards pack")
    opened = [(name, _Table(path)) for name, path in tables.items()]
    pieces = _spooled(asked.spool, [table for _, table in opened])
    rows = Rows(str(tree.root), asked, tree.problems, tuple({table.image for _, table in opened}))
    find = finder(tree.pictures)
    pictures: list[tuple[str, Picture, int | None]] = []
    position = 0
    for name, table in opened:
        stamp = file_stamp(table.path)
        for number, row in enumerate(table.rows()):
            offset, length = pieces[position].tolist()
            position += 1
            at = f"{name}/{number}"
            picture = Spooled(asked.spool / _SPOOL, offset, length, stamp) if length >= 0 else None
            if picture is None and (matches := find(clean(row.pop(table.image, None) or ""))) and len(matches) == 1:
                picture = tree.pictures[matches[0]]
            row.pop(table.image, None)
            if picture is None:
                tree.problems.add("row-without-image", at)
            else:
                pictures.append((at, picture, rows.add(row, at, table.names)))
    if not pictures:
        raise UserError(f"{tree.root}: no row of its Parquet files holds a picture")
    return rows.source("parquet", pictures)


class _Table:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            from pyarrow import parquet
        except ImportError:
            raise UserError(f'{path}: reading Parquet needs pyarrow: pip install "cgan-trainer[parquet]"') from None
        with self._explained():
            self.file = parquet.ParquetFile(path)
            schema = self.file.schema_arrow
        self.image, self.inside = self._image(schema)
        self.names = _class_names((schema.metadata or {}).get(b"huggingface", b"null"))

    def _explained(self) -> _Explained:
        return _Explained(self.path)

    def _image(self, schema: Any) -> tuple[str, bool]:
        """The column with the pictures, and whether they are in a struct's field ``bytes``."""
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
        if not found or (len(found) > 1 and not named):
            several = f"several that may hold pictures ({listed(found)}); name one of them image"
            raise UserError(
                f"{self.path}: its columns ({listed(schema.names, 20)}) have "
                + (several if found else "none with pictures (bytes, or a struct with a field bytes)")
            )
        name = named[0] if named else next(iter(found))
        return name, found[name]

    def pictures(self) -> Iterator[bytes | None]:
        """The pictures' bytes, row by row, a few in memory at a time."""
        for batch in self._batches([f"{self.image}.bytes" if self.inside else self.image], _AT_ONCE):
            column = batch.column(0)
            if self.inside:
                column = column.flatten()[0]  # a row without a struct is a row without bytes
            for value in column:
                yield value.as_py()

    def rows(self) -> Iterator[dict[str, Any]]:
        """All but the pictures' bytes, row by row; the picture's path stands in for it where there is one."""
        schema = self.file.schema_arrow
        columns = [name for name in schema.names if name != self.image and _plain(schema.field(name).type)]
        path = self.inside and schema.field(self.image).type.get_field_index("path") >= 0
        asked = [*columns, *([f"{self.image}.path"] if path else [])]
        if not asked:
            yield from ({} for _ in range(self.file.metadata.num_rows))
            return
        for batch in self._batches(asked, 256):
            with self._explained():
                rows = batch.to_pylist()
            for row in rows:
                if isinstance(inner := row.get(self.image), dict):
                    row[self.image] = inner["path"] if isinstance(inner.get("path"), str) else None
                yield row

    def _batches(self, columns: list[str], size: int) -> Iterator[Any]:
        with self._explained():
            yield from self.file.iter_batches(size, columns=columns, use_threads=False)


class _Explained:
    """Turns what Arrow says of a damaged file into one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from pyarrow import ArrowException

        if isinstance(error, ArrowException | OSError | ValueError | MemoryError):
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self.path}: not a readable Parquet file ({reason})") from None


def _plain(kind: Any) -> bool:
    """Whether a column holds words, numbers, or lists of them."""
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


def _class_names(noted: bytes) -> dict[str, list[str]]:
    """Column → names of its classes, from what HuggingFace notes in a table."""
    try:
        features = parsed(noted)["info"]["features"]
        found = {}
        for column, feature in features.items():
            inner = feature[0] if isinstance(feature, list) and feature else feature
            inner = inner.get("feature", inner) if isinstance(inner, dict) else {}
            names = inner.get("names") if isinstance(inner, dict) else None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                found[column] = names
        return found
    except (NotOne, KeyError, TypeError, AttributeError):
        return {}


def _spooled(spool: Path, tables: list[_Table]) -> np.ndarray:
    """Copy all pictures into the spool, unless that was done: int64 (rows, 2), offset and length; -1: no picture."""
    stamps = json.dumps([[str(table.path), file_stamp(table.path), table.image] for table in tables])
    with atomic_io.explained(spool):
        spool.mkdir(parents=True, exist_ok=True)
    done = _recorded(spool, stamps)
    if done is not None:
        return done
    pieces: list[tuple[int, int]] = []
    offset = 0
    with atomic_io.replacing(spool / _SPOOL) as out:
        for table in tables:
            for data in table.pictures():
                length = len(data) if data and len(data) <= LARGEST else -1
                pieces.append((offset, length))
                if data and length >= 0:
                    out.write(data)
                    offset += length
    found = np.array(pieces, np.int64).reshape(-1, 2)
    with atomic_io.replacing(spool / _RECORD) as out:
        np.save(out, found, allow_pickle=False)
    atomic_io.write_json(spool / "pictures.json", {"tables": stamps, "bytes": offset})
    return found


def _recorded(spool: Path, stamps: str) -> np.ndarray | None:
    """What an earlier run of the same tables recorded, if its spool is whole."""
    try:
        record = json.loads((spool / "pictures.json").read_text("utf-8"))
        found = np.load(spool / _RECORD, allow_pickle=False)
        whole = record["tables"] == stamps and os.path.getsize(spool / _SPOOL) == record["bytes"]  # noqa: PTH202
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return found if whole and found.dtype == np.int64 and found.ndim == 2 and found.shape[1] == 2 else None
