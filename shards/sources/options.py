"""The options that say how a source is read; all commands that read one share them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shards.core.cli import option


def _source_doc() -> str:
    from shards.sources.registry import FORMATS  # which imports this module

    return f"format of SRC: {', '.join(FORMATS)} (default: detected); see docs/data.md for what each one reads"


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read. Every default means: find out, and say what was found."""

    source: str = option("auto", _source_doc)
    table: str | None = option(
        None, "file below SRC that has the labels (default: the one whose rows name the images)", literal=True
    )
    id: str | None = option(None, "column of the table that names the images", literal=True)
    class_: tuple[str, ...] = option((), "columns whose values exclude each other, such as hair,breed")
    numbers: tuple[str, ...] = option((), "columns of measured numbers, which become a vector")
    columns: tuple[str, ...] = option((), "further columns to use as labels, or all")
    group: str | None = option(None, "column, or folder, whose images stay on one side of --validation", literal=True)
    from_name: str | None = option(None, "pattern of labels in file names, such as '{age}_{gender}_*'")
    encoding: str | None = option(None, "encoding of tables, texts and names in archives (default: detected)")
    min_weight: float = option(0.0, "leave out weighted tags, such as 'hair:0.3' or 'hair:7000', below this", minimum=0)


@dataclass(frozen=True, kw_only=True)
class ScanOptions(SourceOptions):
    """`SourceOptions`, and what the caller of a scan decides.

    Attributes:
        labels: "tags" or "caption" decides what texts are; with any other value it is detected.
        spool: a folder to extract images of Parquet files and compressed tars into; a second call reuses it.
        keep_rows: True to keep the row that each item came from (`Source.rows`), to show it to a person.
    """

    labels: str = "auto"
    spool: Path | None = None
    keep_rows: bool = False

    @classmethod
    def of(cls, options: SourceOptions, **decided: Any) -> ScanOptions:
        """Return the source options of a command together with what the caller decides."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(SourceOptions)}, **decided)
