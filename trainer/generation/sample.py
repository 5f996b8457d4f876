"""Pictures by words: `python -m trainer sample runs/first "blue long hair and yellow eyes"`.

In a notebook: ``sampler = trainer.generation.sample.load("runs/first"); sampler.draw("blue hair", count=4)``.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from shards.core import cli
from shards.core.atomic_io import explained, move_directory, vacant
from shards.core.cli import argument, option
from shards.core.errors import UserError
from shards.dataset.schema import Schema
from trainer.distributed.device import choose
from trainer.generation import generate, image_grid
from trainer.generation.generate import Labels
from trainer.generation.prompts import Vocabulary
from trainer.noise import normal
from trainer.run.checkpoint import Saved, find
from trainer.run.directory import read_vocabulary
from trainer.state import load_generator

_LARGEST_GRID = 4096  # pictures
_PIECE = 1024  # pictures drawn before they are written


@dataclass(frozen=True)
class SampleOptions:
    """Draw pictures by words from a trained run; what is not named is drawn as the data has it."""

    run: Path = argument("directory of a run")
    phrases: tuple[str, ...] = argument(
        'what to draw, like "blue long hair and yellow eyes", or "anything"; several make rows'
    )
    count: int = option(16, "pictures a phrase", minimum=1, maximum=1_000_000)
    seed: int = option(0, "decides the noise and what is not named", minimum=0)
    out: Path | None = option(
        None, "a .png file (a grid) or a folder/ (single pictures and a tags.csv); RUN/sample.png if not given"
    )
    checkpoint: str | None = option(None, "images seen of the checkpoint to take, or best; the newest if not given")
    columns: int = option(8, "pictures a row of a one-phrase grid", minimum=1)
    text_encoder: str | None = option(
        None, "where the folder of the captions' text encoder is now; left out: where it was when the data were packed"
    )
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)


@dataclass(frozen=True)
class Sampler:
    """A trained generator with its vocabulary."""

    generator: nn.Module
    vocabulary: Vocabulary
    noise: int
    device: torch.device
    saved: Saved

    @property
    def schema(self) -> Schema:
        """What the labels are made of."""
        return self.vocabulary.schema

    def labels_for(self, words: str, count: int, seed: int = 0) -> Labels:
        """``count`` labels that say ``words``; attributes that are not named are drawn from the data, together.

        Raises:
            UserError: words that the run cannot read (see `Vocabulary.labels_for`).
        """
        return self.vocabulary.labels_for(words, count, seed)

    def draw(self, words: str, count: int = 16, seed: int = 0) -> np.ndarray:
        """Pictures of ``words``.

        Returns:
            uint8 (count, 3, S, S).

        Raises:
            UserError: see `labels_for`.
        """
        return self.draw_labels(self.labels_for(words, count, seed), seed)

    def draw_labels(self, labels: Labels, seed: int = 0, start: int = 0) -> np.ndarray:
        """One picture a label; picture n of a seed, counted from ``start``, has the same noise under any label."""
        positions = torch.arange(start, start + len(labels.label), device=self.device)
        z = normal(seed, "noise to sample", positions, self.noise)
        return generate.pictures(self.generator, z, labels)


def load(
    run: str | Path, checkpoint: str | None = None, device: str = "auto", text_encoder: str | None = None
) -> Sampler:
    """The averaged generator of a run's newest checkpoint (or the one of ``checkpoint`` images seen), ready to draw.

    Args:
        text_encoder: where the captions' text encoder is, if not where it was when the data were packed.

    Raises:
        UserError: there is no such run or checkpoint, or it is damaged.
    """
    run = Path(run)
    where = choose(device)
    saved = find(run, checkpoint)
    vocabulary = read_vocabulary(run)
    if text_encoder:
        vocabulary = vocabulary.encoded_by(text_encoder)
    generator, architecture = load_generator(saved, where)
    return Sampler(generator, vocabulary, architecture.noise, where, saved)


def main(argv: Sequence[str]) -> None:
    """`python -m trainer sample`.

    Raises:
        UserError: what was asked for cannot be drawn; nothing has been written.
    """
    asked = cli.parse(SampleOptions, argv, command="python -m trainer sample")
    sampler = load(asked.run, asked.checkpoint, asked.device, asked.text_encoder)
    rows = [sampler.labels_for(words, asked.count, asked.seed) for words in asked.phrases]
    out = asked.out or asked.run / "sample.png"
    if out.suffix.lower() == ".png":
        _write_grid(sampler, asked, rows, out)
    elif out.suffix and not out.is_dir() and not str(asked.out).endswith("/"):
        raise UserError(f"--out {out}: a grid is a .png file, single pictures go to a folder/")
    else:
        _write_folder(sampler, asked, rows, out)


def _write_grid(sampler: Sampler, asked: SampleOptions, rows: Sequence[Labels], out: Path) -> None:
    if asked.count * len(rows) > _LARGEST_GRID:
        raise UserError(f"a grid of {asked.count * len(rows):,} pictures is too large to look at; give --out FOLDER/")
    pictures = np.concatenate([sampler.draw_labels(labels, asked.seed) for labels in rows])
    one = len(rows) == 1
    columns = min(asked.columns, asked.count) if one else asked.count
    titles = [] if one else list(asked.phrases)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    image_grid.save(image_grid.grid(pictures, columns, row_titles=titles), out, captions=list(asked.phrases))
    print(f"{len(pictures)} pictures from {sampler.saved.images_seen:,} images seen: {out}")


def _write_folder(sampler: Sampler, asked: SampleOptions, rows: Sequence[Labels], out: Path) -> None:
    out = vacant(out)
    building = out.with_name(f".{out.name}.partial")
    with explained(out):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            number = _write_pictures(sampler, asked, rows, building)
            move_directory(building, out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    print(f"{number} pictures and tags.csv from {sampler.saved.images_seen:,} images seen: {out}")


def _write_pictures(sampler: Sampler, asked: SampleOptions, rows: Sequence[Labels], folder: Path) -> int:
    """Draw a few pictures at a time, so that any number fits into memory."""
    number = 0
    captioned = sampler.vocabulary.text is not None
    with (folder / "tags.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["id", "tags", *(["caption"] if captioned else [])])
        for words, labels in zip(asked.phrases, rows, strict=True):
            for start in range(0, len(labels.label), _PIECE):
                piece = Labels(labels.label[start : start + _PIECE], labels.known[start : start + _PIECE])
                for picture, label, known in zip(sampler.draw_labels(piece, asked.seed, start), *piece, strict=True):
                    Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{number:06d}.png")
                    tags = ", ".join(sampler.schema.words(label, known))
                    writer.writerow([f"{number:06d}", tags, *([words] if captioned else [])])
                    number += 1
    return number
