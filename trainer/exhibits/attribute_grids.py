"""Attribute grids: the values of two attributes crossed with each other, and tags with and without."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.exhibits.source import Exhibit, Source

_MAX_VALUES = 12  # of an attribute in a grid: the most frequent ones
_MAX_TAGS = 16  # rows
_NOISES = 4  # noise vectors per label, in grids with several
_CROSSED = 3  # attributes that are crossed if none are named


def attribute_index(schema: Schema, name: str) -> int:
    names = [attribute.name for attribute in schema.attributes if attribute.kind not in WORDLESS]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none with words'}"
        raise UserError("unknown-attribute", f"--attributes: the run has no attribute {name!r}; {hint}")
    return [attribute.name for attribute in schema.attributes].index(name)


def attribute_grids(source: Source, chosen: Sequence[int]) -> Iterator[Exhibit]:
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


def _values(source: Source, attribute: int) -> list[tuple[str, np.ndarray]]:
    """Return (title, entries) for each value of an attribute; a tag is absent or present."""
    a, start = source.schema.attributes[attribute], int(source.schema.starts[attribute])
    if a.kind == "tag":
        return [(f"no {a.values[0]}", np.zeros(1, np.float32)), (a.values[0], np.ones(1, np.float32))]
    count = source.vocabulary.labels.label[:, start : start + a.width].sum(0)
    shown = np.sort(np.argsort(-count, kind="stable")[:_MAX_VALUES])
    return [(a.values[v], np.eye(a.width, dtype=np.float32)[v]) for v in shown]


def _set(source: Source, labels: Labels, row: int, attribute: int, entries: np.ndarray) -> None:
    start = int(source.schema.starts[attribute])
    labels.label[row, start : start + len(entries)], labels.known[row, attribute] = entries, True


def _repeated(labels: Labels, count: int) -> Labels:
    """Return the first label ``count`` times."""
    return Labels(labels.label[:1].repeat(count, 0), labels.known[:1].repeat(count, 0))


def _cross(source: Source, one: int, other: int) -> Exhibit:
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


def _cross_with_noise(source: Source, attribute: int) -> Exhibit:
    """Cross an attribute with noise: values in rows, noise vectors in columns, each with one label for the rest."""
    rows, columns = _values(source, attribute), 2 * _NOISES
    drawn = source.random_labels(columns)
    labels = Labels(np.tile(drawn.label, (len(rows), 1)), np.tile(drawn.known, (len(rows), 1)))
    for number in range(len(labels.label)):
        _set(source, labels, number, attribute, rows[number // columns][1])
    z, titles = source.z(columns).repeat(len(rows), 1), [title for title, _ in rows]
    return Exhibit(f"attributes-{_slug(source, attribute)}-by-noise", z, labels, columns, titles, [])


def _tag_grid(source: Source, tags: Sequence[int]) -> Exhibit:
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


def _slug(source: Source, attribute: int) -> str:
    """Return an attribute's name as part of a file name."""
    return re.sub(r"[^\w]+", "-", source.schema.attributes[attribute].name).strip("-")[:40] or f"attribute-{attribute}"
