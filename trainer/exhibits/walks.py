"""Films of a walk: through noise with fixed labels, or through words with fixed noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from trainer.exhibits.film_frame import framed
from trainer.exhibits.interpolation import interpolate_labels, slerp
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.prompts import Vocabulary
from trainer.generation.sampler import Sampler
from trainer.noise import normal

_MAX_VALUES = 12  # of an attribute, if no words are given
_AT_ONCE = 128  # images generated together


@dataclass(frozen=True)
class Walk:
    """Stops of several images that change together; a film leads from stop to stop.

    Attributes:
        z: (stops, tiles, noise_size).
        labels: per stop, one label per tile.
        captions: one per stop, or none.
        columns: of the grid of tiles.
        row_titles: of that grid, or none.
        eased: slow down at each stop, to show it for longer.
    """

    z: Tensor
    labels: Sequence[Labels]
    captions: Sequence[str]
    columns: int
    row_titles: Sequence[str]
    eased: bool

    @property
    def stops(self) -> int:
        """The number of stops."""
        return len(self.labels)


def noise_walk(sampler: Sampler, phrases: Sequence[str], stops: int, tiles: int, seed: int) -> Walk:
    """Return a walk through noise, with one row of tiles per phrase.

    At the first stop, each row is what `cgan sample` draws of its phrase with this seed and as many images.

    Raises:
        UserError: a phrase cannot be read.
    """
    each = [sampler.labels_for(phrase, tiles, seed) for phrase in phrases]
    labels = Labels(np.concatenate([part.label for part in each]), np.concatenate([part.known for part in each]))
    z = _noise(sampler, seed, stops * tiles).view(stops, tiles, -1).repeat(1, len(phrases), 1)
    titles = list(phrases) if len(phrases) > 1 else []
    return Walk(z, [labels] * stops, [], tiles, titles, eased=False)


def words_walk(sampler: Sampler, phrases: Sequence[str], tiles: int, seed: int) -> Walk:
    """Return a walk through words, with one row of tiles; each tile keeps its noise and what no phrase names.

    At each stop, the tiles are what `cgan sample` draws of the phrase with this seed and as many images.

    Raises:
        UserError: a phrase cannot be read.
    """
    labels = [sampler.labels_for(phrase, tiles, seed) for phrase in phrases]
    z = _noise(sampler, seed, tiles).expand(len(phrases), -1, -1)
    return Walk(z, labels, phrases, tiles, [], eased=True)


def default_words(vocabulary: Vocabulary) -> list[str]:
    """Return the values of the exclusive attribute with the most, its most frequent ones.

    Raises:
        UserError: no attribute has several values.
    """
    schema = vocabulary.schema
    wide = [i for i, a in enumerate(schema.attributes) if a.kind == "exclusive" and len(a.values) > 1]
    if not wide:
        raise UserError(
            "option-missing",
            '--film-of words: this run has no attribute with several values; give --words "PHRASE; PHRASE"',
        )
    chosen = max(wide, key=lambda i: len(schema.attributes[i].values))
    attribute, start = schema.attributes[chosen], int(schema.starts[chosen])
    count = vocabulary.labels.label[:, start : start + attribute.width].sum(0)
    return [attribute.values[v] for v in np.sort(np.argsort(-count, kind="stable")[:_MAX_VALUES])]


def walk_frames(sampler: Sampler, walk: Walk, count: int, loop: bool) -> Iterator[Image.Image]:
    """Yield the frames of a walk.

    Args:
        count: number of frames.
        loop: return to the first stop, whose frame is not repeated; otherwise the last frame is the last stop.
    """
    stops = walk.stops
    legs = stops if loop else stops - 1
    positions = [legs * number / (count if loop else count - 1) for number in range(count)]
    together = max(1, _AT_ONCE // walk.z.shape[1])
    for start in range(0, count, together):
        part = positions[start : start + together]
        found = [_between_stops(walk, position, sampler.schema.widths) for position in part]
        labels = Labels(*(np.concatenate(arrays) for arrays in zip(*(labels for _, labels in found), strict=True)))
        images = generate_images(sampler.generator, torch.cat([z for z, _ in found]), labels)
        for position, tiles in zip(part, np.split(images, len(part)), strict=True):
            grid = image_grid.grid(tiles, walk.columns, walk.row_titles)
            yield framed(grid, walk.captions[round(position) % stops]) if walk.captions else grid


def _between_stops(walk: Walk, position: float, widths: Sequence[int]) -> tuple[Tensor, Labels]:
    """Return noise and labels at a position, of which each whole number is a stop."""
    last, t = int(position), position % 1
    a, b = last % walk.stops, (last + 1) % walk.stops
    if walk.eased:
        t = (1 - math.cos(math.pi * t)) / 2
    if t == 0:
        return walk.z[a], walk.labels[a]
    return slerp(walk.z[a], walk.z[b], t), interpolate_labels(walk.labels[a], walk.labels[b], t, widths)


def _noise(sampler: Sampler, seed: int, count: int) -> Tensor:
    """Return the noise of `cgan sample`."""
    return normal(seed, "noise to sample", torch.arange(count, device=sampler.device), sampler.noise_size)
