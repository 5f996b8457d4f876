"""Rows of Parquet tables that hold no images, such as metadata.parquet beside the images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import InvalidValue, parse_json

_BATCH = 1024


class ParquetRows:
    """The rows of a Parquet file.

    Attributes:
        where: its path, for messages.
        columns: those of plain values; nested ones and bytes are left out.
        left_out: the other columns.
        names: column → number → name of its classes, if Hugging Face stored them.
        place: what the numbers of rows count.
    """

    place = "row"

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError:
            raise UserError(
                "package-missing", f'{path}: reading Parquet needs pyarrow: pip install "cgan-trainer[parquet]"'
            ) from None
        self.where = str(path)
        with _readable(self.where):
            self._file = parquet.ParquetFile(path)
            schema = self._file.schema_arrow
        self.columns = [column.name for column in schema if _is_plain(column.type)]
        self.left_out = [name for name in schema.names if name not in self.columns]
        self.names = class_names((schema.metadata or {}).get(b"huggingface", b"null"))

    def __str__(self) -> str:
        return "a Parquet table"

    def dicts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (row, from 1, column → value) of each row."""
        number = 0
        with _readable(self.where):
            for batch in self._file.iter_batches(_BATCH, columns=self.columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


def class_names(features: bytes) -> dict[str, dict[int, str]]:
    """Return column → number → name of its classes, from the features that Hugging Face stores with a table."""
    try:
        names_of: dict[str, dict[int, str]] = {}
        for column, feature in parse_json(features)["info"]["features"].items():
            inner = feature[0] if isinstance(feature, list) and feature else feature
            inner = inner.get("feature", inner) if isinstance(inner, dict) else {}
            names = inner.get("names") if isinstance(inner, dict) else None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                names_of[column] = dict(enumerate(names))
        return names_of
    except (InvalidValue, KeyError, TypeError, AttributeError):
        return {}


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind)
    return text or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn Arrow's errors on a damaged file into a UserError."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("file-damaged", f"{where}: not a readable Parquet file ({reason})") from None
