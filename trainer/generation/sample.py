"""The command `cgan sample RUN "blue long hair and yellow eyes"`: write generated images to a grid or a folder."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.core import cli
from shards.core.atomic_io import explain_disk_errors, move_directory, require_unused
from shards.core.cli import argument, option
from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from trainer.generation import image_grid
from trainer.generation.sampler import Sampler, default_output, load

COLUMNS = 8

_LARGEST_GRID = 4096  # images
_CHUNK = 1024  # images generated before they are written


@dataclass(frozen=True)
class SampleOptions:
    """Generate images from phrases with a trained run; attributes that a phrase does not name follow the dataset."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    phrases: tuple[str, ...] = argument(
        'what to generate, such as "blue long hair and yellow eyes", or "anything"; one grid row per phrase'
    )
    count: int = option(16, "images per phrase", minimum=1, maximum=1_000_000)
    seed: int = option(0, "seed of the noise and of the attributes that a phrase does not name", minimum=0)
    out: Path | None = option(
        None,
        "a .png file (grid), or a folder/ for single images and tags.csv (default: RUN/sample.png, and sample.png here "
        "for an exported generator)",
    )
    checkpoint: str | None = option(None, "images seen of the checkpoint to load, or best (default: the newest)")
    columns: int = option(COLUMNS, "images per row of a grid of one phrase", minimum=1)
    text_encoder: str | None = option(
        None, "folder of the text encoder of the captions (default: the folder it had when the dataset was packed)"
    )
    device: str = option("auto", "compute device", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan sample`.

    Raises:
        UserError: a phrase cannot be read or the output is not valid; nothing has been written.
    """
    options = cli.parse(SampleOptions, argv, command="cgan sample")
    sampler = load(options.run, options.checkpoint, options.device, options.text_encoder)
    labels = [sampler.labels_for(phrase, options.count, options.seed) for phrase in options.phrases]
    out = options.out or default_output(sampler, options.run, "sample.png")
    if out.suffix.lower() == ".png":
        _write_grid(sampler, options, labels, out)
    elif out.suffix and not out.is_dir() and not str(options.out).endswith("/"):
        raise UserError(
            "invalid-output-name", f"--out {out}: give a .png file for a grid, or a folder/ for single images"
        )
    else:
        _write_folder(sampler, options, labels, out)


def _write_grid(sampler: Sampler, options: SampleOptions, labels: Sequence[Labels], out: Path) -> None:
    if options.count * len(labels) > _LARGEST_GRID:
        total = options.count * len(labels)
        raise UserError(
            "grid-too-large", f"a grid of {total:,} images is above the limit of {_LARGEST_GRID:,}; give --out FOLDER/"
        )
    images = np.concatenate([sampler.generate(part, options.seed) for part in labels])
    single = len(labels) == 1
    columns = min(options.columns, options.count) if single else options.count
    titles = [] if single else list(options.phrases)
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    image_grid.save(image_grid.grid(images, columns, row_titles=titles), out, captions=list(options.phrases))
    print(f"{len(images)} images from the checkpoint at {sampler.saved.images_seen:,} images seen: {out}")


def _write_folder(sampler: Sampler, options: SampleOptions, labels: Sequence[Labels], out: Path) -> None:
    out = require_unused(out)
    building = out.with_name(f".{out.name}.partial")
    with explain_disk_errors(out):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            count = _write_images(sampler, options, labels, building)
            move_directory(building, out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    print(f"{count} images and tags.csv from the checkpoint at {sampler.saved.images_seen:,} images seen: {out}")


def _write_images(sampler: Sampler, options: SampleOptions, labels: Sequence[Labels], folder: Path) -> int:
    """Generate and write images in chunks, so that any number fits into memory; return their number."""
    number = 0
    captioned = sampler.vocabulary.text is not None
    with (folder / "tags.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["id", "tags", *(["caption"] if captioned else [])])
        for phrase, part in zip(options.phrases, labels, strict=True):
            for start in range(0, len(part.label), _CHUNK):
                chunk = Labels(part.label[start : start + _CHUNK], part.known[start : start + _CHUNK])
                for image, label, known in zip(sampler.generate(chunk, options.seed, start), *chunk, strict=True):
                    (folder / f"{number:06d}.png").write_bytes(image_grid.encode_single(image))
                    tags = ", ".join(sampler.schema.words(label, known))
                    writer.writerow([f"{number:06d}", tags, *([phrase] if captioned else [])])
                    number += 1
    return number
