"""`cgan exhibits RUN`: image grids that show what labels and noise do.

Each exhibit changes one thing along its columns and keeps everything else bit-identical. Attribute grids cross the
values of two attributes, with one noise vector. Paths interpolate between two noise vectors or two labels, or scale the
noise down.
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
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.prompts import Vocabulary
from trainer.generation.sampler import default_output, load
from trainer.noise import normal
from trainer.reporting.run_report import write_report
from trainer.run.exported import ExportedGenerator

_MAX_VALUES = 12  # of an attribute in a grid: the most frequent ones
_MAX_TAGS = 16  # rows
_NOISES = 4  # noise vectors per label, in grids with several
_CROSSED = 3  # attributes that are crossed if none are named
_STEPS, _ROWS = 9, 6  # of the paths
_LABELS = "labels of exhibits"  # key of the random labels
TRUNCATION = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class Exhibit(NamedTuple):
    """An image grid before it is generated, row by row."""

    name: str
    z: Tensor  # (n, noise_size)
    labels: Labels  # n rows
    columns: int
    row_titles: list[str]
    column_titles: list[str]


@dataclass(frozen=True)
class ExhibitsOptions:
    """Show what labels and noise do: attributes crossed with each other, paths between noise vectors and labels."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    out: Path | None = option(
        None, "folder for the images (default: RUN/exhibits; of an exported generator: ./exhibits)"
    )
    attributes: tuple[str, ...] = option(
        (), "names of attributes to cross with each other (default: those with the most values)"
    )
    seed: int = option(0, "determines the noise and the labels", minimum=0)
    checkpoint: str | None = option(None, "checkpoint to load: its images seen, or best (default: the newest)")
    device: str = option("auto", "device", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Check the values."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan exhibits`.

    Raises:
        UserError: there is no such run, checkpoint or attribute; nothing was written.
    """
    options = cli.parse(ExhibitsOptions, argv, command="cgan exhibits")
    sampler = load(options.run, options.checkpoint, options.device)
    folder = options.out or default_output(sampler, options.run, "exhibits")
    if folder.exists() and not folder.is_dir():
        raise UserError("not-a-directory", f"--out {folder} is a file; give a folder")
    for exhibit in exhibits(sampler.vocabulary, sampler.noise_size, options.seed, sampler.device, options.attributes):
        images = generate_images(sampler.generator, exhibit.z, exhibit.labels)
        image = image_grid.grid(images, exhibit.columns, exhibit.row_titles, exhibit.column_titles)
        image_grid.save(image, folder / f"{exhibit.name}.png")
        print(folder / f"{exhibit.name}.png", flush=True)
    if options.out is None and not isinstance(sampler.saved, ExportedGenerator):
        write_report(options.run)  # which shows them


def exhibits(
    vocabulary: Vocabulary, noise_size: int, seed: int, device: torch.device, attributes: Sequence[str] = ()
) -> Iterator[Exhibit]:
    """Yield all exhibits of a run.

    If labels have a vector or a caption, there are no attribute grids: it would contradict what a grid changes.

    Args:
        noise_size: length of z.
        seed: determines the noise and the labels.
        device: of z.
        attributes: names of attributes to cross; () for the exclusive ones with the most values, and a grid of tags.

    Raises:
        UserError: an attribute does not exist, or cannot be changed by words.
    """
    source = _Source(vocabulary, noise_size, seed, device)
    chosen = [_attribute_index(vocabulary.schema, name) for name in dict.fromkeys(attributes)]
    grids = list(_attribute_grids(source, chosen))  # raises before anything is generated
    names: set[str] = set()
    for exhibit in (*grids, noise_path(source), *label_paths(source), truncation(source)):
        name, number = exhibit.name, 2
        while name in names:
            name, number = f"{exhibit.name}-{number}", number + 1
        names.add(name)
        yield exhibit._replace(name=name)


@dataclass(frozen=True)
class _Source:
    """Noise and labels of all exhibits."""

    vocabulary: Vocabulary
    noise_size: int
    seed: int
    device: torch.device

    @property
    def schema(self) -> Schema:
        return self.vocabulary.schema

    def z(self, count: int) -> Tensor:
        """Return the first noise vectors, (count, noise_size); they are the same in every exhibit."""
        return normal(self.seed, "noise of exhibits", torch.arange(count, device=self.device), self.noise_size)

    def labels(self, count: int) -> Labels:
        """Return up to ``count`` distinct labels of the dataset."""
        drawn = self.random_labels(len(self.vocabulary.labels.label))
        rows = np.concatenate([drawn.label, drawn.known], 1)
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])[:count]
        return Labels(drawn.label[first], drawn.known[first])

    def random_labels(self, count: int) -> Labels:
        """Return ``count`` labels of the dataset, as frequent as they are there."""
        return sample_labels(*self.vocabulary.labels, count, self.seed, _LABELS)

    def title(self, label: np.ndarray, known: np.ndarray) -> str:
        return ", ".join(self.schema.words(label, known)) or "(as an image of the dataset)"


# ---------------------------------------------------------------- attributes


def _attribute_index(schema: Schema, name: str) -> int:
    names = [attribute.name for attribute in schema.attributes if attribute.kind not in WORDLESS]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none with words'}"
        raise UserError("unknown-attribute", f"--attributes: the run has no attribute {name!r}; {hint}")
    return [attribute.name for attribute in schema.attributes].index(name)


def _attribute_grids(source: _Source, chosen: Sequence[int]) -> Iterator[Exhibit]:
    attributes = source.schema.attributes
    if any(attribute.kind in WORDLESS for attribute in attributes):
        if chosen:
            raise UserError(
                "option-conflict",
                "--attributes: this run's labels have a caption or vector, which would contradict what the grid "
                "changes; omit the option",
            )
        return
    wide = [i for i, a in enumerate(attributes) if a.kind == "exclusive" and len(a.values) > 1]
    tags = [i for i, a in enumerate(attributes) if a.kind == "tag"]
    pairs = chosen or sorted(sorted(wide, key=lambda i: -attributes[i].width)[:_CROSSED])
    if len(pairs) == 1:
        yield _cross_with_noise(source, pairs[0])
    for one, other in combinations(pairs, 2):
        yield _cross(source, one, other)
    if tags and not chosen:
        yield _tag_grid(source, tags)


def _values(source: _Source, attribute: int) -> list[tuple[str, np.ndarray]]:
    """Return (title, entries) for each value of an attribute; a tag is absent or present."""
    a, start = source.schema.attributes[attribute], int(source.schema.starts[attribute])
    if a.kind == "tag":
        return [(f"no {a.values[0]}", np.zeros(1, np.float32)), (a.values[0], np.ones(1, np.float32))]
    count = source.vocabulary.labels.label[:, start : start + a.width].sum(0)
    shown = np.sort(np.argsort(-count, kind="stable")[:_MAX_VALUES])
    return [(a.values[v], np.eye(a.width, dtype=np.float32)[v]) for v in shown]


def _set(source: _Source, labels: Labels, row: int, attribute: int, entries: np.ndarray) -> None:
    start = int(source.schema.starts[attribute])
    labels.label[row, start : start + len(entries)], labels.known[row, attribute] = entries, True


def _repeated(labels: Labels, count: int) -> Labels:
    """Return the first label ``count`` times."""
    return Labels(labels.label[:1].repeat(count, 0), labels.known[:1].repeat(count, 0))


def _cross(source: _Source, one: int, other: int) -> Exhibit:
    """Cross two attributes: values in rows and in columns; one noise vector, and one label for the other attributes."""
    rows, columns = _values(source, one), _values(source, other)
    labels = _repeated(source.labels(1), len(rows) * len(columns))
    for number in range(len(labels.label)):
        row, column = divmod(number, len(columns))
        _set(source, labels, number, one, rows[row][1])
        _set(source, labels, number, other, columns[column][1])
    titles = [[title for title, _ in values] for values in (rows, columns)]
    z = source.z(1).repeat(len(labels.label), 1)
    return Exhibit(f"attributes-{_slug(source, one)}-by-{_slug(source, other)}", z, labels, len(columns), *titles)


def _cross_with_noise(source: _Source, attribute: int) -> Exhibit:
    """Cross an attribute with noise: values in rows, noise vectors in columns, each with one label for the rest."""
    rows, columns = _values(source, attribute), 2 * _NOISES
    drawn = source.random_labels(columns)
    labels = Labels(np.tile(drawn.label, (len(rows), 1)), np.tile(drawn.known, (len(rows), 1)))
    for number in range(len(labels.label)):
        _set(source, labels, number, attribute, rows[number // columns][1])
    z, titles = source.z(columns).repeat(len(rows), 1), [title for title, _ in rows]
    return Exhibit(f"attributes-{_slug(source, attribute)}-by-noise", z, labels, columns, titles, [])


def _tag_grid(source: _Source, tags: Sequence[int]) -> Exhibit:
    """Show tags in rows; columns are pairs of images without and with the tag, one noise vector per pair."""
    count = source.vocabulary.labels.label[:, source.schema.starts[list(tags)]].sum(0)
    shown = [tags[i] for i in np.sort(np.argsort(-count, kind="stable")[:_MAX_TAGS])]
    columns = 2 * _NOISES
    drawn = source.random_labels(_NOISES)
    each = [array.repeat(2, 0) for array in drawn]
    labels = Labels(*(np.tile(array, (len(shown), 1)) for array in each))
    for number in range(len(labels.label)):
        _set(source, labels, number, shown[number // columns], np.full(1, number % 2, np.float32))
    z = source.z(_NOISES).repeat_interleave(2, 0).repeat(len(shown), 1)
    titles = [source.schema.attributes[i].values[0] for i in shown]
    return Exhibit("tags", z, labels, columns, titles, ["without", "with"] * _NOISES)


def _slug(source: _Source, attribute: int) -> str:
    """Return an attribute's name as part of a file name."""
    return re.sub(r"[^\w]+", "-", source.schema.attributes[attribute].name).strip("-")[:40] or f"attribute-{attribute}"


# ---------------------------------------------------------------- paths


def noise_path(source: _Source) -> Exhibit:
    """Interpolate between two noise vectors, the same in every row; each row has one label."""
    drawn = source.labels(_ROWS)
    rows = len(drawn.label)
    a, b = source.z(2)
    path = torch.stack([slerp(a, b, t) for t in np.linspace(0, 1, _STEPS).tolist()])
    labels = Labels(drawn.label.repeat(_STEPS, 0), drawn.known.repeat(_STEPS, 0))
    titles = [source.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("noise", path.repeat(rows, 1), labels, _STEPS, titles, _percentages())


def label_paths(source: _Source) -> Iterator[Exhibit]:
    """Interpolate linearly between two labels with the same known attributes, with one noise vector.

    A generator was trained on the ends only, unless with ``--interpolate``. There is no such exhibit if no two labels
    have the same known attributes.
    """
    labels = source.labels(len(source.vocabulary.labels.label))
    pairs = _pairs_with_same_known(labels, _ROWS)
    if not pairs:
        return
    t = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    label = np.concatenate([(1 - t) * labels.label[i] + t * labels.label[j] for i, j in pairs])
    known = labels.known[[i for i, _ in pairs]].repeat(_STEPS, 0)
    titles = [" to ".join(source.title(labels.label[i], labels.known[i]) for i in pair) for pair in pairs]
    z = source.z(1).repeat(len(label), 1)
    yield Exhibit("labels", z, Labels(label, known), _STEPS, titles, _percentages())


def truncation(source: _Source) -> Exhibit:
    """Scale the noise down: each column multiplies z by ψ.

    StyleGAN moves the output of its mapping network towards its mean (Karras et al. 2019, arXiv 1812.04948). There is
    no mapping network here and the mean of z is 0, so ψz does the same. Images become more typical and more alike, as
    with BigGAN's truncated z (Brock et al. 2019, arXiv 1809.11096); below about 0.5, z is shorter than any in training.
    """
    drawn = source.random_labels(_ROWS)
    psi = torch.tensor(TRUNCATION, device=source.device)[None, :, None]
    z = (psi * source.z(_ROWS)[:, None]).flatten(0, 1)
    labels = Labels(drawn.label.repeat(len(TRUNCATION), 0), drawn.known.repeat(len(TRUNCATION), 0))
    titles = [source.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("truncation", z, labels, len(TRUNCATION), titles, [f"psi {psi:g}" for psi in TRUNCATION])


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate spherically between a (t = 0) and b (t = 1) (White 2016, arXiv 1609.04468).

    A straight line would pass through vectors much shorter than normal noise. Lengths are interpolated linearly.

    Args:
        a, b: (noise_size,), not 0.
        t: in [0, 1].
    """
    length = torch.lerp(a.norm(), b.norm(), t)
    one, other = a / a.norm(), b / b.norm()
    angle = torch.arccos((one @ other).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # collinear (as all noise of size 1 is): the great circle is not determined
        return torch.lerp(a, b, t)
    return length * (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)


def _pairs_with_same_known(labels: Labels, most: int) -> list[tuple[int, int]]:
    """Return disjoint pairs of rows with the same known attributes (at least one)."""
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


def _percentages() -> list[str]:
    return [f"{t:.0%}" for t in np.linspace(0, 1, _STEPS)]
