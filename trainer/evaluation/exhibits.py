"""Pictures of what labels and noise do: `python -m trainer exhibits runs/first`.

Each exhibit changes one thing along its columns, and what it does not change stays the same to the bit. Attribute
grids set the values of one attribute against those of another, under one noise. The others go from one noise to
another, from one label to another, and from full noise to little.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shards.core import cli
from shards.core.cli import argument, option
from shards.core.errors import UserError
from shards.dataset.label_rows import Labels, sample_labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.generation import generate, image_grid
from trainer.generation.prompts import Vocabulary
from trainer.generation.sampler import load
from trainer.noise import normal
from trainer.reporting.run_report import write_report

_MOST_VALUES = 12  # of an attribute that a grid shows, the most frequent ones
_MOST_TAGS = 16  # rows
_NOISES = 4  # pictures of one label, where a grid shows several
_PAIRED = 3  # attributes that are set against each other if nobody names any
_STEPS, _ROWS = 9, 6  # of the paths
TRUNCATION = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class Exhibit(NamedTuple):
    """What one picture grid shows, row by row, before it is drawn."""

    name: str
    z: Tensor  # (n, noise)
    labels: Labels  # n rows
    columns: int
    row_titles: list[str]
    column_titles: list[str]


@dataclass(frozen=True)
class ExhibitsOptions:
    """Draw what labels and noise do: attributes against each other, and paths between noises and between labels."""

    run: Path = argument("directory of a run")
    out: Path | None = option(None, "folder for the pictures; RUN/exhibits if not given")
    attributes: tuple[str, ...] = option(
        (), "attributes to set against each other, by their names; those with the most values if not given"
    )
    seed: int = option(0, "decides the noise and the labels that are shown", minimum=0)
    checkpoint: str | None = option(None, "images seen of the checkpoint to take, or best; the newest if not given")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """`python -m trainer exhibits`.

    Raises:
        UserError: there is no such run, checkpoint or attribute; nothing has been written.
    """
    asked = cli.parse(ExhibitsOptions, argv, command="python -m trainer exhibits")
    sampler = load(asked.run, asked.checkpoint, asked.device)
    folder = asked.out or asked.run / "exhibits"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: that is a file; give a folder")
    for exhibit in exhibits(sampler.vocabulary, sampler.noise_size, asked.seed, sampler.device, asked.attributes):
        pictures = generate.generate_images(sampler.generator, exhibit.z, exhibit.labels)
        image = image_grid.grid(pictures, exhibit.columns, exhibit.row_titles, exhibit.column_titles)
        image_grid.save(image, folder / f"{exhibit.name}.png")
        print(folder / f"{exhibit.name}.png", flush=True)
    if asked.out is None:
        write_report(asked.run)


def exhibits(
    vocabulary: Vocabulary, noise: int, seed: int, device: torch.device, attributes: Sequence[str] = ()
) -> Iterator[Exhibit]:
    """All exhibits of a run, each small enough to look at.

    Labels that hold a vector or a caption have no attribute grids: a caption would go on saying what the grid changes.

    Args:
        noise: length of z.
        attributes: names; () chooses the exclusive ones with the most values, and shows tags beside.

    Raises:
        UserError: no attribute of that name, or one that words cannot change.
    """
    room = _Room(vocabulary, noise, seed, device)
    chosen = [_named(vocabulary.schema, name) for name in dict.fromkeys(attributes)]
    grids_of_attributes = list(_attribute_grids(room, chosen))  # a mistake shows before anything is drawn
    names: set[str] = set()
    for exhibit in (*grids_of_attributes, noise_path(room), *label_paths(room), truncation(room)):
        name, number = exhibit.name, 2
        while name in names:
            name, number = f"{exhibit.name}-{number}", number + 1
        names.add(name)
        yield exhibit._replace(name=name)


@dataclass(frozen=True)
class _Room:
    """What all exhibits draw from."""

    vocabulary: Vocabulary
    noise: int
    seed: int
    device: torch.device

    @property
    def schema(self) -> Schema:
        return self.vocabulary.schema

    def z(self, count: int) -> Tensor:
        """The exhibits' first noises: (count, noise), the same in every exhibit."""
        return normal(self.seed, "noise of exhibits", torch.arange(count, device=self.device), self.noise)

    def labels(self, count: int) -> Labels:
        """Labels as the data has them, as different ones as there are."""
        kept = self.vocabulary.labels
        drawn = sample_labels(*kept, len(kept.label), self.seed, "labels of exhibits")
        rows = np.concatenate([drawn.label, drawn.known], 1)
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])[:count]
        return Labels(drawn.label[first], drawn.known[first])

    def title(self, label: np.ndarray, known: np.ndarray) -> str:
        return ", ".join(self.schema.words(label, known)) or "(as a picture of the data)"


# ---------------------------------------------------------------- attributes


def _named(schema: Schema, name: str) -> int:
    words = [attribute.name for attribute in schema.attributes if attribute.kind not in WORDLESS]
    if name not in words:
        near = difflib.get_close_matches(name, words, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words) or 'none that words name'}"
        raise UserError(f"--attributes: the run has no attribute {name!r}; {hint}")
    return [attribute.name for attribute in schema.attributes].index(name)


def _attribute_grids(room: _Room, chosen: Sequence[int]) -> Iterator[Exhibit]:
    attributes = room.schema.attributes
    if any(attribute.kind in WORDLESS for attribute in attributes):
        if chosen:
            raise UserError(
                "--attributes: this run's labels hold a caption or vector, which would go on saying what the grid "
                "changes; leave it out"
            )
        return
    wide = [i for i, a in enumerate(attributes) if a.kind == "exclusive" and len(a.values) > 1]
    tags = [i for i, a in enumerate(attributes) if a.kind == "tag"]
    pairs = chosen or sorted(sorted(wide, key=lambda i: -attributes[i].width)[:_PAIRED])
    if len(pairs) == 1:
        yield _against_noise(room, pairs[0])
    for one, other in combinations(pairs, 2):
        yield _against_each_other(room, one, other)
    if tags and not chosen:
        yield _tag_grid(room, tags)


def _values(room: _Room, attribute: int) -> list[tuple[str, np.ndarray]]:
    """(title, entries) of what an attribute can be: its values, or a tag that is not there and there."""
    a, start = room.schema.attributes[attribute], int(room.schema.starts[attribute])
    if a.kind == "tag":
        return [(f"no {a.values[0]}", np.zeros(1, np.float32)), (a.values[0], np.ones(1, np.float32))]
    count = room.vocabulary.labels.label[:, start : start + a.width].sum(0)
    shown = np.sort(np.argsort(-count, kind="stable")[:_MOST_VALUES])
    return [(a.values[v], np.eye(a.width, dtype=np.float32)[v]) for v in shown]


def _set(room: _Room, labels: Labels, row: int, attribute: int, entries: np.ndarray) -> None:
    start = int(room.schema.starts[attribute])
    labels.label[row, start : start + len(entries)], labels.known[row, attribute] = entries, True


def _repeated(labels: Labels, count: int) -> Labels:
    """The first label, ``count`` times."""
    return Labels(labels.label[:1].repeat(count, 0), labels.known[:1].repeat(count, 0))


def _against_each_other(room: _Room, one: int, other: int) -> Exhibit:
    """Rows: what one attribute can be; columns: what the other can; one noise, and one label for the rest."""
    rows, columns = _values(room, one), _values(room, other)
    labels = _repeated(room.labels(1), len(rows) * len(columns))
    for number in range(len(labels.label)):
        row, column = divmod(number, len(columns))
        _set(room, labels, number, one, rows[row][1])
        _set(room, labels, number, other, columns[column][1])
    titles = [[title for title, _ in values] for values in (rows, columns)]
    z = room.z(1).repeat(len(labels.label), 1)
    return Exhibit(f"attributes-{_slug(room, one)}-by-{_slug(room, other)}", z, labels, len(columns), *titles)


def _against_noise(room: _Room, attribute: int) -> Exhibit:
    """Rows: what the attribute can be; columns: noises, each with one label for the rest."""
    rows, columns = _values(room, attribute), 2 * _NOISES
    drawn = sample_labels(*room.vocabulary.labels, columns, room.seed, "labels of exhibits")
    labels = Labels(np.tile(drawn.label, (len(rows), 1)), np.tile(drawn.known, (len(rows), 1)))
    for number in range(len(labels.label)):
        _set(room, labels, number, attribute, rows[number // columns][1])
    z, titles = room.z(columns).repeat(len(rows), 1), [title for title, _ in rows]
    return Exhibit(f"attributes-{_slug(room, attribute)}-by-noise", z, labels, columns, titles, [])


def _tag_grid(room: _Room, tags: Sequence[int]) -> Exhibit:
    """Rows: tags; columns: pairs of pictures without and with the tag, a noise a pair."""
    count = room.vocabulary.labels.label[:, room.schema.starts[list(tags)]].sum(0)
    shown = [tags[i] for i in np.sort(np.argsort(-count, kind="stable")[:_MOST_TAGS])]
    columns = 2 * _NOISES
    drawn = sample_labels(*room.vocabulary.labels, _NOISES, room.seed, "labels of exhibits")
    each = [array.repeat(2, 0) for array in drawn]
    labels = Labels(*(np.tile(array, (len(shown), 1)) for array in each))
    for number in range(len(labels.label)):
        _set(room, labels, number, shown[number // columns], np.full(1, number % 2, np.float32))
    z = room.z(_NOISES).repeat_interleave(2, 0).repeat(len(shown), 1)
    titles = [room.schema.attributes[i].values[0] for i in shown]
    return Exhibit("tags", z, labels, columns, titles, ["without", "with"] * _NOISES)


def _slug(room: _Room, attribute: int) -> str:
    """An attribute's name as a part of a file's."""
    return re.sub(r"[^\w]+", "-", room.schema.attributes[attribute].name).strip("-")[:40] or f"attribute-{attribute}"


# ---------------------------------------------------------------- paths


def noise_path(room: _Room) -> Exhibit:
    """From one noise to another, the same two in every row; each row has one label throughout."""
    drawn = room.labels(_ROWS)
    rows = len(drawn.label)
    a, b = room.z(2)
    path = torch.stack([slerp(a, b, t) for t in np.linspace(0, 1, _STEPS).tolist()])
    labels = Labels(drawn.label.repeat(_STEPS, 0), drawn.known.repeat(_STEPS, 0))
    titles = [room.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("noise", path.repeat(rows, 1), labels, _STEPS, titles, _shares())


def label_paths(room: _Room) -> Iterator[Exhibit]:
    """From one label of the data to another of which the same is known, in a straight line, under one noise.

    A generator has seen the ends only, unless it was trained with `--interpolate`. There is no such path where no two
    labels are comparable.
    """
    labels = room.labels(len(room.vocabulary.labels.label))
    pairs = _comparable(labels, _ROWS)
    if not pairs:
        return
    t = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    label = np.concatenate([(1 - t) * labels.label[i] + t * labels.label[j] for i, j in pairs])
    known = labels.known[[i for i, _ in pairs]].repeat(_STEPS, 0)
    titles = [" to ".join(room.title(labels.label[i], labels.known[i]) for i in pair) for pair in pairs]
    z = room.z(1).repeat(len(label), 1)
    yield Exhibit("labels", z, Labels(label, known), _STEPS, titles, _shares())


def truncation(room: _Room) -> Exhibit:
    """From full noise to little: each column scales z by ψ.

    StyleGAN pulls the output of its mapping network to its mean (Karras et al. 2019, arXiv 1812.04948); here is none,
    and the mean of z itself is 0, so ψz is that pull. Pictures become more usual and more alike, as by BigGAN's
    truncated z (Brock et al. 2019, arXiv 1809.11096); below about 0.5 z is shorter than any that was trained on.
    """
    rows = _ROWS
    drawn = sample_labels(*room.vocabulary.labels, rows, room.seed, "labels of exhibits")
    psi = torch.tensor(TRUNCATION, device=room.device)[None, :, None]
    z = (psi * room.z(rows)[:, None]).flatten(0, 1)
    labels = Labels(drawn.label.repeat(len(TRUNCATION), 0), drawn.known.repeat(len(TRUNCATION), 0))
    titles = [room.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("truncation", z, labels, len(TRUNCATION), titles, [f"psi {psi:g}" for psi in TRUNCATION])


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share ``t`` of the way from a to b, on the great circle (White 2016, arXiv 1609.04468).

    A straight line would pass through vectors much shorter than normal noise ever is. Lengths are interpolated.

    Args:
        a, b: (noise,), neither of them 0.
        t: in [0, 1].
    """
    length = torch.lerp(a.norm(), b.norm(), t)
    one, other = a / a.norm(), b / b.norm()
    angle = torch.arccos((one @ other).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # one line (as all noise of one number is): the circle is not determined
        return torch.lerp(a, b, t)
    return length * (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)


def _comparable(labels: Labels, most: int) -> list[tuple[int, int]]:
    """Pairs of rows of which the same is known, and something; no row stands in two."""
    waiting: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    for row, known in enumerate(labels.known):
        if len(pairs) == most:
            break
        if not known.any():
            continue
        if (other := waiting.pop(known.tobytes(), None)) is None:
            waiting[known.tobytes()] = row
        else:
            pairs.append((other, row))
    return pairs


def _shares() -> list[str]:
    return [f"{share:.0%}" for share in np.linspace(0, 1, _STEPS)]
