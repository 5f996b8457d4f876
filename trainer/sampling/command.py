"""The command `cgan sample RUN "blue long hair and yellow eyes"`: write generated images to a grid or a folder.

With --verified and --best-of images are chosen among several (`trainer.sampling.drawings`), and a receipt is written.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.core import cli
from shards.core.atomic_io import explain_disk_errors, join_names, move_directory, require_unused, write_json
from shards.core.cli import argument, option, section, seed_option
from shards.core.errors import Failure, UserError
from shards.dataset.label_rows import Labels
from trainer.generation import image_grid
from trainer.generation.load_options import LoadOptions
from trainer.generation.sampler import Sampler, default_output
from trainer.run import hub
from trainer.sampling import receipt
from trainer.sampling.candidates import Chosen
from trainer.sampling.drawings import (
    HIGHEST_PROMISE,
    LARGEST_MOST_DRAWS,
    LOWEST_PROMISE,
    MOST_DRAWS,
    MOST_RANKED,
    PROMISE,
    Choice,
    verified_choice,
)
from trainer.sampling.receipt import PhraseRecord

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
    seed: int = seed_option("seed of the noise and of the attributes that a phrase does not name")
    out: Path | None = option(
        None,
        "a .png file (grid), or a folder/ for single images and tags.csv (default: RUN/sample.png, and sample.png here "
        "for an exported generator)",
    )
    columns: int = option(image_grid.COLUMNS, "images per row of a grid of one phrase", minimum=1)
    verified: bool = option(
        False,
        "draw each image until a judge of the run's dataset sees every word of its phrase, and write a receipt; the "
        "first time on a dataset trains two judges, a minute or so each",
    )
    promise: float | None = option(
        None,
        f"with --verified: fraction of the images that show every word, as docs/evaluation.md defines it; the judge "
        f"must be as certain as that takes (default: {PROMISE})",
        minimum=LOWEST_PROMISE,
        maximum=HIGHEST_PROMISE,
    )
    most_draws: int | None = option(
        None,
        f"with --verified: tries for an image, before it is given up (default: {MOST_DRAWS})",
        minimum=1,
        maximum=LARGEST_MOST_DRAWS,
    )
    shards: str | None = option(
        None, "with --verified: dataset that judges learn from (default: where it was during training)", literal=True
    )
    best_of: int = option(
        1,
        "draw so many candidates for each image, or for each of its tries, and keep the one that the run's "
        "discriminator finds most real and true to its label",
        minimum=1,
        maximum=MOST_RANKED,
    )
    load: LoadOptions = section(LoadOptions)

    def __post_init__(self) -> None:
        """Check every value against its bounds, and that options of --verified have it."""
        cli.validate(self)
        for name in ("promise", "most_draws", "shards"):
            if getattr(self, name) is not None and not self.verified:
                raise UserError(
                    "option-conflict", f"{cli.flag(name)} is only used with --verified; add it, or omit the option"
                )


def main(argv: Sequence[str]) -> None:
    """Run `cgan sample`.

    Raises:
        UserError: a phrase cannot be read or verified, or the output is not valid; nothing has been written.
        Failure: some images were never accepted; the others have been written.
    """
    options = cli.parse(SampleOptions, argv, command="cgan sample")
    folder = hub.located(options.run)
    sampler = options.load.open(folder)
    labels = [sampler.labels_for(phrase, options.count, options.seed) for phrase in options.phrases]
    out = options.out or default_output(sampler, options.run, "sample.png")
    is_grid = out.suffix.lower() == ".png"
    target = _checked_output(options, out, is_grid)
    choice = _choice(options, sampler, folder)
    records = [PhraseRecord(phrase, choice.calibrate(phrase)) for phrase in options.phrases]
    drawing = Drawing(options, choice, labels, records)
    kept = _write_grid(drawing, target) if is_grid else _write_folder(drawing, target)
    for line in drawing.summary():
        print(line)
    if kept:
        seen, table = sampler.saved.images_seen, "" if is_grid else " and tags.csv"
        print(f"{kept} images{table} from the checkpoint at {seen:,} images seen: {out}")
    drawing.require_all()


def _checked_output(options: SampleOptions, out: Path, is_grid: bool) -> Path:
    """Return where to write, after checking that nothing is in the way."""
    total = options.count * len(options.phrases)
    if not is_grid:
        if out.suffix.lower() in {*Image.registered_extensions(), ".svg"} and not out.is_dir():
            raise UserError(
                "invalid-output-name", f"--out {out}: give a .png file for a grid, or a folder/ for single images"
            )
        return require_unused(out)
    if total > _LARGEST_GRID:
        raise UserError(
            "grid-too-large", f"a grid of {total:,} images is above the limit of {_LARGEST_GRID:,}; give --out FOLDER/"
        )
    if out.is_dir():
        raise UserError("output-exists", f"{out} is a folder; give a .png file for a grid, or a folder without .png")
    beside = receipt.path_of(out)
    if (options.verified or options.best_of > 1) and os.path.lexists(beside) and not receipt.is_receipt(beside):
        raise UserError(
            "output-exists", f"{beside} exists and is no receipt; choose another --out (nothing was changed)"
        )
    return out


def _choice(options: SampleOptions, sampler: Sampler, folder: Path) -> Choice:
    choice = Choice(sampler, None, options.promise or PROMISE, options.best_of, options.most_draws or MOST_DRAWS)
    return verified_choice(choice, folder, options.shards) if options.verified else choice


@dataclass(frozen=True)
class Drawing:
    """The images that are drawn: labels and a record for each phrase."""

    options: SampleOptions
    choice: Choice
    labels: Sequence[Labels]
    records: Sequence[PhraseRecord]

    def chunks(self) -> Iterator[tuple[int, Labels, Chosen]]:
        """Yield phrase, labels and choices of up to `_CHUNK` images at a time, so that any number fits into memory."""
        for phrase, part in enumerate(self.labels):
            record = self.records[phrase]
            for start in range(0, len(part.label), _CHUNK):
                chunk = Labels(part.label[start : start + _CHUNK], part.known[start : start + _CHUNK])
                chosen = self.choice.choose(chunk, self.options.seed, record.calibration, start)
                record.add(chosen, start)
                yield phrase, chunk, chosen

    def receipt(self, image: Path | None = None) -> dict[str, Any]:
        """Return the receipt's content; ``image``: of the grid."""
        return receipt.content(self.choice, self.options.seed, self.options.count, self.records, image)

    def summary(self) -> Iterator[str]:
        """Yield for each phrase that is verified how many images were drawn and how many were kept."""
        for record in self.records:
            if record.calibration is not None:
                certainty = record.calibration.rung.threshold
                at_least = f", {certainty:g} certain or more" if certainty else ""
                yield f"{record.phrase!r}: drew {record.drawn:,}, the judge accepted {len(record.numbers):,}{at_least}"

    def require_all(self) -> None:
        """Check that no image was given up.

        Raises:
            Failure: some were; it says how many, and that the others were written.
        """
        missing = [f"{len(r.missing):,} of {self.options.count:,} of {r.phrase!r}" for r in self.records if r.missing]
        if missing:
            written = any(record.numbers for record in self.records)
            raise Failure(
                "never-accepted",
                f"no image was accepted in {self.choice.most_draws:,} tries for {join_names(missing, 3)}; "
                f"{'the others were written' if written else 'nothing was written'}; give a larger --most-draws, a "
                "lower --promise or fewer words, or train longer",
            )


def _write_grid(drawing: Drawing, out: Path) -> int:
    """Write the grid with its receipt, and return the number of images; those that are missing leave white cells."""
    options, chunks = drawing.options, []
    for _, labels, chosen in drawing.chunks():
        images = np.full((len(labels.label), *chosen.images.shape[1:]), 255, np.uint8)
        images[chosen.rows] = chosen.images
        chunks.append(images)
    images = np.concatenate(chunks)
    kept = sum(len(record.numbers) for record in drawing.records)
    if not kept:
        return 0
    single = len(options.phrases) == 1
    columns = min(options.columns, options.count) if single else options.count
    titles = [] if single else list(options.phrases)
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    beside = receipt.path_of(out)
    receipt.remove(beside)  # first: at no time is there a receipt of other drawings
    image_grid.save(image_grid.grid(images, columns, row_titles=titles), out, captions=list(options.phrases))
    if drawing.choice.is_made:
        write_json(beside, drawing.receipt(out))
    return kept


def _write_folder(drawing: Drawing, out: Path) -> int:
    """Write single images, tags.csv and a receipt, and return the number of images; missing ones leave a gap."""
    building = out.with_name(f".{out.name}.partial")
    with explain_disk_errors(out):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            kept = _write_images(drawing, building)
            if not kept:
                return 0
            if drawing.choice.is_made:
                write_json(building / receipt.IN_FOLDER, drawing.receipt())
            move_directory(building, out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return kept


def _write_images(drawing: Drawing, folder: Path) -> int:
    """Write the images, and return how many."""
    sampler, number, kept = drawing.choice.sampler, 0, 0
    captioned = sampler.vocabulary.text is not None
    with (folder / "tags.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["id", "tags", *(["caption"] if captioned else [])])
        for phrase, labels, chosen in drawing.chunks():
            for row, image in zip(chosen.rows.tolist(), chosen.images, strict=True):
                name = f"{number + row:06d}"
                (folder / f"{name}.png").write_bytes(image_grid.encode_single(image))
                tags = ", ".join(sampler.schema.words(labels.label[row], labels.known[row]))
                writer.writerow([name, tags, *([drawing.options.phrases[phrase]] if captioned else [])])
            number, kept = number + len(labels.label), kept + len(chosen.rows)
    return kept
