"""A film of a training: the sample grids of a run, in the order of images seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shards.core.errors import UserError, warn
from trainer.exhibits.film_frame import framed
from trainer.reporting.run_report import SampleGrid, sample_grids

_LARGEST = 1920  # pixels per side; larger grids are scaled down
_DAMAGED = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises


@dataclass(frozen=True)
class SavedGrids:
    """Intact sample grids of a run.

    Attributes:
        grids: in the order of images seen.
        size: width and height that hold each of them.
    """

    grids: Sequence[SampleGrid]
    size: tuple[int, int]


def saved_grids(run: Path, most: int) -> SavedGrids:
    """Return the sample grids of a run, at most ``most``, evenly spaced. Those that cannot be read are left out.

    Prints:
        A warning about each grid that is left out.

    Raises:
        UserError: the run has no grid that can be read.
    """
    sizes = {grid: size for grid in sample_grids(run / "samples") if (size := _size(grid.path)) is not None}
    if not sizes:
        raise UserError(
            "samples-missing", f"{run} has no sample grids in samples/; a training writes one every --grid-every images"
        )
    grids = _evenly(list(sizes), most)
    return SavedGrids(grids, (max(sizes[grid][0] for grid in grids), max(sizes[grid][1] for grid in grids)))


def training_frames(saved: SavedGrids, held: int) -> Iterator[Image.Image]:
    """Yield a frame per grid, captioned with the images seen, and the last one ``held`` more times.

    Smaller grids are padded with white, so that all frames have one size.
    """
    scale = min(1.0, _LARGEST / max(saved.size))
    size = round(saved.size[0] * scale), round(saved.size[1] * scale)
    frame = Image.new("RGB", size)
    for grid in saved.grids:
        with Image.open(grid.path) as image:
            shown = image.convert("RGB")
        if scale < 1:
            shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
        frame = framed(shown, f"{grid.images_seen:,} images seen", size)
        yield frame
    for _ in range(held):
        yield frame


def _size(path: Path) -> tuple[int, int] | None:
    """Return the size of an image, after it was decoded; None, with a warning, if that is not possible."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.size
    except _DAMAGED as error:
        warn("damaged-images", f"{path} cannot be read and is left out of the film: {' '.join(str(error).split())}")
        return None


def _evenly(grids: Sequence[SampleGrid], most: int) -> list[SampleGrid]:
    """Return at most ``most`` grids, evenly spaced, including the first and the last."""
    if len(grids) <= most:
        return list(grids)
    return [grids[round(number * (len(grids) - 1) / max(1, most - 1))] for number in range(most)]
