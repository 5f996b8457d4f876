"""Preview of packing a source: how it is read, and which label each image gets."""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.cli import flag
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape, parse_aspect
from shards.dataset.images import FITS, ImageError, dimensions, prepare
from shards.dataset.schema import WORDLESS
from shards.dataset.summary import Tally, label_lines
from shards.packing import packed_shape
from shards.packing.labels.doubts import Doubt, find_doubts
from shards.packing.labels.labelling import Labelling, LabelOptions, build_labelling
from shards.packing.packed_shape import ShapeOptions, largest_trainable, trainable_sizes
from shards.sources.item import Item, Source
from shards.sources.options import ScanOptions, SourceOptions
from shards.sources.registry import scan_source

_SAMPLE, _ENCODED = 64, 8  # images whose sizes are read, and that are encoded to estimate the size of the dataset
_TAR_BYTES = 2560  # of headers and padding of a sample's three members in a tar
_LARGEST = 256  # suggested without being asked
_LETTERS = 100  # of a row or caption
_COLUMNS, _SIZES = 40, 4  # shown at most


@dataclass(frozen=True)
class SourceLook:
    """A source as it would be packed.

    Attributes:
        source: all items, with the rows that the shown ones came from.
        labelling: what becomes their labels; None if that is unclear.
        unclear: why there is no labelling.
        doubts: what looks wrong about the labels.
        examples: a few items, spread over the source.
        sizes: (width, height) of a sample of images → how many have it.
        shape: the shape that would be packed, with the suggested size if none is given.
        hints: what of the images that shape discards, see `packed_shape.hints`.
        image_bytes: the estimated mean size of a packed image.
    """

    source: Source
    labelling: Labelling | None
    unclear: UserError | None
    doubts: list[Doubt]
    examples: list[Item]
    sizes: Counter[tuple[int, int]]
    shape: ImageShape
    hints: list[str]
    image_bytes: float


def look_at(src: Path, options: Any, spool: Path, count: int = 10) -> SourceLook:
    """Read a source as `cgan pack` does, without packing it.

    Args:
        src: the source.
        options: `SourceOptions`, `LabelOptions` and `ShapeOptions`, and the size and fit of `cgan pack` if it has them.
        spool: a folder for images of archives that cannot be read in place.
        count: number of examples.

    Raises:
        UserError: the source cannot be read.
    """
    source = scan_source(src, ScanOptions.of(options, labels=options.labels, spool=spool, keep_rows=True))
    labelling, unclear, doubts = None, None, []
    try:
        labelling = build_labelling(source, options)
        doubts = find_doubts(source, labelling.schema, given=options.schema is not None)
        for name, number in _conflicts(labelling, source.items).items():
            source.problems.add("values-conflicting", detail=repr(name), count=number)
    except UserError as error:
        unclear = error
    samples, sizes = _sampled(source)
    size = getattr(options, "size", None) or _suggested_size(sizes, packed_shape.plain_aspect(options))
    return SourceLook(
        source,
        labelling,
        unclear,
        doubts,
        _examples(source, count),
        sizes,
        shape := packed_shape.shape_of(options, size),
        packed_shape.hints(samples, sizes, options),
        _image_bytes(samples, shape, options),
    )


def shape_hints(source: Source, options: Any) -> list[str]:
    """Return what of the images of a source the default shape discards, see `packed_shape.hints`."""
    return packed_shape.hints(*_sampled(source), options)


def _sampled(source: Source) -> tuple[list[bytes], Counter[tuple[int, int]]]:
    """Return a sample of the images, and how many of them have which width and height."""
    samples = [data for item in spread(source.items, _SAMPLE) if (data := _read(item)) is not None]
    return samples, Counter(shape for data in samples if (shape := _dimensions(data)))


def show(src: Path, options: Any) -> None:
    """Print what `cgan pack` would make of a source. Raises as `look_at` does."""
    with tempfile.TemporaryDirectory(prefix="cgan-preview-") as spool:
        look = look_at(src, options, Path(spool))
        print("\n".join(lines(src, look, options)))
    if look.unclear:
        raise look.unclear


def lines(src: Path, look: SourceLook, options: Any) -> list[str]:
    """Return everything that is known of a source, one fact per line."""
    return [
        *summary_lines(src, look.source),
        *_section("columns", _column_lines(look.source)),
        *_section("labels", _label_lines(look)),
        *_section(f"{len(look.examples)} images", [_example_line(item, look) for item in look.examples]),
        *_section("left out, or interpreted", look.source.problems.lines()),
        *_section("sizes", _size_lines(look)),
        *_section("doubts: packing needs --yes", [doubt.sentence for doubt in look.doubts]),
        *_section("to pack it", [] if look.unclear else [_command(src, look, options)]),
    ]


def summary_lines(src: Path, source: Source) -> list[str]:
    """Return how a source is read and what it consists of, in two or three lines."""
    labelled = sum(bool(item.tags or item.denied or item.vector or item.caption) for item in source.items)
    parts = Counter(item.part for item in source.items if item.part)
    found = [
        f"{src}: read as {source.kind}" + (f" ({source.evidence})" if source.evidence else ""),
        f"  {len(source.items):,} images, {labelled:,} of them with labels",
    ]
    if len(parts) > 1 or "unlabelled" in parts:
        counts = ", ".join(f"{part} {count:,}" for part, count in parts.items())
        held_out = [part for part in ("validation", "test") if part in parts]
        option = f"; --validation {held_out[0]} sets that part aside" if held_out else ""
        found.append(f"  parts: {counts} (packed together{option})")
    return found


def label_counts(labelling: Labelling, items: Sequence[Item]) -> Tally:
    """Count the values of the labels of all items, without encoding captions."""
    schema = labelling.schema
    present, known = np.zeros(schema.width, np.int64), np.zeros(len(schema.attributes), np.int64)
    sums, squares, unlabelled = np.zeros(schema.width), np.zeros(schema.width), 0
    numbers = {attribute.kind: i for i, attribute in enumerate(schema.attributes) if attribute.kind in WORDLESS}
    alike = Counter((item.tags, item.denied, _measured(item, numbers)) for item in items)
    for (tags, denied, measured), count in alike.items():
        encoded = schema.encode(tags, labelling.absent, denied=denied, explicit=labelling.explicit)
        encoded.known[[numbers[kind] for kind in measured]] = True
        present += count * (encoded.label > 0.5)
        known += count * encoded.known
        unlabelled += 0 if encoded.known.any() else count
    if "vector" in numbers and (vectors := [item.vector for item in items if item.vector is not None]):
        start = int(schema.starts[numbers["vector"]])
        values = np.array(vectors, np.float64)
        sums[start : start + values.shape[1]] = values.sum(axis=0)
        squares[start : start + values.shape[1]] = np.square(values).sum(axis=0)
    return Tally(len(items), present, known, sums, squares, unlabelled)


def _conflicts(labelling: Labelling, items: Sequence[Item]) -> Counter[str]:
    """Return how many items have two values of an exclusive attribute, by its name."""
    found: Counter[str] = Counter()
    for (tags, denied), count in Counter((item.tags, item.denied) for item in items).items():
        encoded = labelling.schema.encode(tags, labelling.absent, denied=denied, explicit=labelling.explicit)
        for name in encoded.conflicts:
            found[name] += count
    return found


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return up to ``count`` items at equal distances."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)) if items else ()
    return [items[number] for number in chosen]


def describe_label(item: Item, labelling: Labelling | None) -> str:
    """Return the label of an item in words."""
    if labelling is None:
        said = list(item.tags or ())
    else:
        plain = Labelling(labelling.schema, labelling.absent, labelling.explicit)  # encodes no caption
        rows = plain.rows([item])
        said = labelling.schema.words(rows.labels[0], rows.known[0])
    if item.vector is not None:
        said.append(f"({', '.join(f'{number:.4g}' for number in item.vector[:6])}{', …' * (len(item.vector) > 6)})")
    if item.caption:
        said.append(f'"{_short(item.caption)}"')
    return ", ".join(said) or "no label"


# ---------------------------------------------------------------- lines


def _section(title: str, content: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {line.strip()}" for line in content)] if content else []


def _column_lines(source: Source) -> list[str]:
    shown = source.columns[:_COLUMNS]
    width = min(max((len(column.name) for column in shown), default=0), 32)
    found = [
        f"{column.name:<{width}}  {column.becomes or 'left out'}" + (f" ({column.why})" if column.why else "")
        for column in shown
    ]
    more = len(source.columns) - len(shown)
    return [*found, *([f"… and {more:,} more columns"] if more else [])]


def _label_lines(look: SourceLook) -> list[str]:
    if look.labelling is None:
        return []
    return label_lines(look.labelling.schema, label_counts(look.labelling, look.source.items))


def _example_line(item: Item, look: SourceLook) -> str:
    line = f"{item.id}: {describe_label(item, look.labelling)}"
    where, row = look.source.rows.get(item.id, ("", ""))
    came_from = f"{where}: {_short(row)}" if row else where
    return f"{line}  ← {came_from}" if where else line


def _size_lines(look: SourceLook) -> list[str]:
    total = look.sizes.total()
    if not total:
        return ["none of a sample of the images can be read"]
    shown = [f"{width} x {height} ({count})" for (width, height), count in look.sizes.most_common(_SIZES)]
    more = f" and {len(look.sizes) - _SIZES} other sizes" if len(look.sizes) > _SIZES else ""
    found = [f"{', '.join(shown)}{more}, of a sample of {total}"]
    if said := packed_shape.advice(look.shape):
        found.append(said)
    found += look.hints
    megabytes = len(look.source.items) * (look.image_bytes + _TAR_BYTES + _label_bytes(look)) / 1e6
    found.append(f"packed at {look.shape}{look.shape.kind}: about {megabytes:,.1f} MB")
    return found


def _label_bytes(look: SourceLook) -> int:
    if look.labelling is None:
        return 0
    schema = look.labelling.schema
    return schema.width * schema.label_dtype.itemsize * (1 if schema.is_wide else 2)  # in labels.npy, and in the tars


def _command(src: Path, look: SourceLook, options: Any) -> str:
    words = ["cgan", "pack", str(src), str(getattr(options, "out", "OUT")), "--size", str(look.shape.size)]
    for field in (*fields(ShapeOptions), *fields(SourceOptions), *fields(LabelOptions)):
        value = getattr(options, field.name)
        if value is True:
            words.append(flag(field.name))
        elif value != field.default:
            words += [flag(field.name), ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join([*words, *(["--yes"] if look.doubts and "--yes" not in words else [])])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LETTERS else f"{line[:_LETTERS]}…"


# ---------------------------------------------------------------- samples


def _examples(source: Source, count: int) -> list[Item]:
    """Return labelled items, and one without a label if there is any."""
    labelled = [item for item in source.items if item.tags or item.denied or item.vector or item.caption]
    rest = [item for item in source.items if not (item.tags or item.denied or item.vector or item.caption)]
    return spread(labelled, count - bool(rest)) + spread(rest, 1 if labelled else count)


def _measured(item: Item, numbers: dict[str, int]) -> tuple[str, ...]:
    has = {"vector": item.vector is not None, "text": bool(item.caption)}
    return tuple(kind for kind in numbers if has[kind])


def _read(item: Item) -> bytes | None:
    try:
        return item.image.read()
    except OSError:
        return None


def _dimensions(data: bytes) -> tuple[int, int] | None:
    try:
        return dimensions(data)
    except ImageError:
        return None


def _suggested_size(sizes: Counter[tuple[int, int]], aspect: str) -> int:
    """Return the common size of all, or the largest that fits nine of ten images and can be trained on."""
    across, down = parse_aspect(aspect)
    if len(sizes) == 1:
        width, height = next(iter(sizes))
        if width * down == height * across and (across == down or max(width, height) in trainable_sizes(aspect)):
            return max(width, height)
    unit = max(across, down)
    longer = sorted(min(width * unit // across, height * unit // down) for width, height in sizes.elements())
    fits = longer[len(longer) // 10] if longer else 64
    return largest_trainable(min(fits, _LARGEST), aspect)


def _image_bytes(samples: Sequence[bytes], shape: ImageShape, options: Any) -> float:
    """Return the mean number of bytes of some packed images."""
    fit, form = getattr(options, "fit", None) or FITS[0], getattr(options, "format", "auto")
    found = []
    for data in samples[:: max(1, len(samples) // _ENCODED)]:
        try:
            found.append(len(prepare(data, shape, fit, form).data))
        except ImageError:
            continue
    return sum(found) / len(found) if found else 0.0
