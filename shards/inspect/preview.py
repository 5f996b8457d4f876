"""``cgan preview``: show how a source would be read and labelled, in seconds and without packing it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from shards.core.cli import argument, option, parse, validate
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import ImageError, pixels
from shards.inspect import contact_sheet
from shards.packing import preview as packing_preview
from shards.packing.labels.labelling import LabelOptions
from shards.packing.packed_shape import ShapeOptions, check_shape
from shards.sources.item import Item
from shards.sources.options import SourceOptions

_CELL = 96  # pixels of an image on the sheet


@dataclass(frozen=True)
class Preview(SourceOptions, LabelOptions, ShapeOptions):
    """Show how a source would be read: its format and why, columns, labels with counts, and the labels of ten images.

    Nothing is written, except the files of --sheet and --schema-out.
    """

    OPTION_ORDER: ClassVar[tuple[str, ...]] = ("src", "images", "size", "channels", "aspect", "sheet")

    src: Path = argument("folder (or archive, Parquet file or arrays) of images and their labels")
    images: int = option(10, "number of images to show", minimum=1, maximum=1000)
    size: int | None = option(None, "longer side to pack at, for the estimate", minimum=4, maximum=4096)
    sheet: Path | None = option(None, "draw these images with their labels: a .png to write")
    schema_out: Path | None = option(None, "write the inferred schema, to edit and pack with --schema: a .yaml")

    def __post_init__(self) -> None:
        validate(self)
        check_shape(self, self.size, "white")
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise UserError("invalid-value", f"--sheet {self.sheet}: a contact sheet is a .png file; give such a name")
        if self.schema_out is not None and self.schema_out.suffix.lower() not in (".yaml", ".yml"):
            raise UserError("invalid-value", f"--schema-out {self.schema_out}: a schema is a .yaml file")


def main(argv: Sequence[str]) -> None:
    """Run ``cgan preview``."""
    preview(parse(Preview, argv, command="cgan preview"))


def preview(options: Preview) -> None:
    """Print what a source contains and would become; write the sheet and the schema if they are requested.

    Raises:
        UserError: the source cannot be read, its labels are unclear, or a file to be written exists.
        Failure: a file cannot be written.
    """
    if options.sheet:
        contact_sheet.check_path(options.sheet)
    if options.schema_out and options.schema_out.exists():
        raise UserError("output-exists", f"--schema-out {options.schema_out}: the file exists; give another name")
    with tempfile.TemporaryDirectory(prefix="cgan-preview-") as spool:
        look = packing_preview.look_at(options.src, options, Path(spool), options.images)
        print("\n".join(packing_preview.lines(options.src, look, options)))
        if options.sheet:
            _draw(options.sheet, options.src.name, look)
    if look.unclear:
        raise look.unclear
    if options.schema_out and look.labelling:
        look.labelling.schema.save(options.schema_out)
        print(f"wrote {options.schema_out}; edit it and pack with --schema {options.schema_out}")


def _draw(path: Path, name: str, look: packing_preview.SourceLook) -> None:
    titles = [packing_preview.describe_label(item, look.labelling) for item in look.examples]
    shape = look.shape.scaled(_CELL)
    rows = [[_tile(item, shape)] for item in look.examples]
    contact_sheet.save(contact_sheet.draw(name, f"{name}: {len(look.source.items):,} images", titles, rows), path)
    print(f"wrote {path}")


def _tile(item: Item, shape: ImageShape) -> np.ndarray | None:
    try:
        return pixels(item.image.read(), shape)
    except (ImageError, OSError):
        return None
