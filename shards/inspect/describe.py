"""``cgan describe``: summarize a dataset as text and draw a contact sheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shards.core import rng
from shards.core.cli import argument, option, parse, seed_option, validate
from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import fit_into
from shards.dataset.manifest import MANIFEST
from shards.dataset.schema import WORDLESS
from shards.dataset.sidecars import FORMATS
from shards.dataset.summary import Tally, chunks, label_lines, tally
from shards.inspect import contact_sheet
from shards.sources.cells import sanitize

SHEET = "contact-sheet.png"

_WORDS = 256  # the most frequent words, whose pairs are counted
_PAIRS = 5  # printed of each kind
_LEAST = 5  # minimum number of images, observed or expected by chance, for a pair to be reported
_SURE = 4.0  # minimum distance from chance, in standard deviations
_ROWS = 24  # maximum number of rows of a contact sheet
_REMOTE_SHARDS = 8  # read for the contact sheet of a remote dataset


@dataclass(frozen=True)
class Describe:
    """Summarize a dataset (labels and their counts, co-occurrences, formats, sizes) and draw a contact sheet."""

    data: str = argument("folder or URL of the dataset")
    sheet: Path | None = option(None, f"contact sheet to write, a .png (default: {SHEET} in the dataset's folder)")
    columns: int = option(12, "images per row of the contact sheet; 0: no sheet", minimum=0, maximum=100)
    seed: int = seed_option("seed of the random choice of images")

    def __post_init__(self) -> None:
        validate(self)
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise UserError("invalid-value", f"--sheet {self.sheet}: a contact sheet is a .png file; give such a name")


def main(argv: Sequence[str]) -> None:
    """Run ``cgan describe``."""
    describe(parse(Describe, argv, command="cgan describe"))


def describe(options: Describe) -> None:
    """Print the summary of a dataset and draw its contact sheet.

    Raises:
        UserError: the dataset is missing, the sheet's folder is missing, or the sheet's path is another file.
        Failure: the sheet cannot be written, or a shard cannot be read.
    """
    if options.sheet and options.columns:
        contact_sheet.check_path(options.sheet)
    dataset = Dataset.open(options.data)
    counts = tally(dataset)
    print("\n".join(sanitize(line) for line in lines(dataset, counts)), flush=True)
    if not options.columns:
        return
    local = Path(f"{re.sub('[^A-Za-z0-9._-]+', '-', _name(dataset))[:64].lstrip('.-')}-{SHEET}")
    path = options.sheet or (local if dataset.remote else dataset.path / SHEET)
    try:
        contact_sheet.save(_sheet(dataset, counts, options), path)
    except Failure as error:
        if options.sheet:
            raise
        print(f"note: no contact sheet ({error}); choose another path with --sheet FILE.png")
    else:
        print(f"contact sheet: {path}")


# ---------------------------------------------------------------- text


def lines(dataset: Dataset, counts: Tally) -> list[str]:
    """Return the lines of the summary."""
    manifest, schema = dataset.manifest, dataset.schema
    source, encoder = _table(manifest, "source"), _table(manifest, "text_encoder")
    part = ", validation split" if manifest.get("split") == "validation" else ""
    part += ", indexed in place" if dataset.in_place else ""
    total = int(dataset.shard_bytes.sum())
    text = [
        f"{_name(dataset)}: {len(dataset):,} images of {dataset.shape}{dataset.shape.kind}{part}",
        f"  {len(dataset.shards):,} shards, {total / 1e6:,.1f} MB; {_formats(dataset)}",
        f"  resized by: {manifest.get('resize_policy', 'not recorded')}",
        f"  source: {source.get('folder', 'not recorded')} ({source.get('kind', '?')})",
        f"  images: {source.get('pictures') or 'not recorded'}; licence: {manifest.get('licence') or 'not recorded'}",
    ]
    if encoder:
        text.append(f"  captions encoded by {encoder.get('name', '?')} ({encoder.get('size', '?')} numbers)")
    if not dataset.remote and (dataset.path / "validation" / MANIFEST).is_file():
        text.append(f"  validation split: {dataset.path / 'validation'}")
    noted = _table(manifest, "problems")
    text += [f"  recorded when packed: {kind}: {number}" for kind, number in noted.items()]
    text.append(
        f"labels: {len(schema.values):,} words, {len(schema.attributes):,} attributes, vectors of {schema.width:,}"
    )
    return [*text, *label_lines(dataset.schema, counts), *_pair_lines(pairs(dataset, counts.present))]


def _table(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def _name(dataset: Dataset) -> str:
    return str(dataset.manifest.get("name") or dataset.where)


def _formats(dataset: Dataset) -> str:
    """Return the number of images of each format and their sizes in bytes."""
    many, total = np.zeros(len(FORMATS), np.int64), np.zeros(len(FORMATS))
    least, most = 1 << 32, 0
    for start in range(0, len(dataset), 1 << 20):
        part = np.asarray(dataset.entries[start : start + (1 << 20)])
        many += np.bincount(part["format"], minlength=len(FORMATS))
        total += np.bincount(part["format"], part["length"], minlength=len(FORMATS))
        least, most = min(least, int(part["length"].min())), max(most, int(part["length"].max()))
    each = [
        f"{number:,} {name} of {size / number:,.0f} bytes on average"
        for name, number, size in zip(FORMATS, many.tolist(), total.tolist(), strict=True)
        if number
    ]
    return f"{', '.join(each)} ({least:,} to {most:,})"


class Pair(NamedTuple):
    """Two words of different attributes: the number of images with both, and the number expected by chance."""

    one: str
    other: str
    together: int
    chance: float


def pairs(dataset: Dataset, present: np.ndarray) -> list[Pair]:
    """Return pairs of words that co-occur more or less often than by chance, the most unusual first.

    Chance is computed from the images for which both attributes are known. Only the `_WORDS` most frequent words
    are considered, and only pairs at least `_SURE` standard deviations from chance are returned.

    Args:
        present: int64 (L,), number of images with each word.
    """
    schema = dataset.schema
    owner = np.repeat(np.arange(len(schema.attributes)), schema.widths)
    worded = np.array([attribute.kind not in WORDLESS for attribute in schema.attributes], bool)[owner]
    names = np.zeros(schema.width, np.int64)
    names[worded] = np.arange(len(schema.values))
    chosen = np.flatnonzero(worded)[np.argsort(-present[worded], kind="stable")[:_WORDS]]
    if len(chosen) < 2:
        return []
    shape = (len(chosen), len(chosen))
    both, single, known = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for rows in chunks(dataset):
        mask = np.asarray(dataset.known[rows])[:, owner[chosen]].astype(np.float32)
        word = (np.asarray(dataset.labels[rows])[:, chosen] > 0.5).astype(np.float32)
        both += word.T @ word
        single += word.T @ mask  # images with the word for which the other word's attribute is known
        known += mask.T @ mask
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.nan_to_num(single * single.T / known)
        spread = np.sqrt(np.maximum(chance * (1 - single / known) * (1 - single.T / known), 1e-9))
    unusual = (np.abs(both - chance) > _SURE * spread) & (np.maximum(both, chance) >= _LEAST)
    unusual &= owner[chosen][:, None] < owner[chosen][None, :]
    unusual &= chance > 0
    ratio = (both + 0.5) / (chance + 0.5)
    found = [(abs(np.log(ratio[a, b])), a, b) for a, b in np.argwhere(unusual).tolist()]
    words = [schema.values[names[entry]] for entry in chosen]
    return [Pair(words[a], words[b], int(both[a, b]), float(chance[a, b])) for _, a, b in sorted(found, reverse=True)]


def _pair_lines(found: list[Pair]) -> list[str]:
    if not found:
        return ["no two words of different attributes co-occur more or less often than by chance"]
    text = []
    for direction, some in (
        ("more", [pair for pair in found if pair.together > pair.chance]),
        ("less", [pair for pair in found if pair.together <= pair.chance]),
    ):
        if some:
            text.append(
                f"words that co-occur {direction} often than by chance (top {min(_PAIRS, len(some))} of {len(some):,}):"
            )
            text += [f"  {p.one} + {p.other}: {p.together:,} images, by chance {p.chance:,.0f}" for p in some[:_PAIRS]]
    return text


# ---------------------------------------------------------------- contact sheet


def _sheet(dataset: Dataset, counts: Tally, options: Describe) -> contact_sheet.Image.Image:
    titles, rows = _chosen(dataset, counts, options.columns, options.seed)
    images = [[_pixels(dataset, i) for i in row] for row in rows]
    name = _name(dataset)
    return contact_sheet.draw(name, f"{name}: {len(dataset):,} images", titles, images)


def _chosen(dataset: Dataset, counts: Tally, columns: int, seed: int) -> tuple[list[str], list[list[int]]]:
    """Return the title and sample numbers of each row: a value of the attribute with most values, or a common word."""
    entries, titles = _row_words(dataset, counts)
    base = rng.key(seed, "contact sheet")
    lots = [np.zeros((2, 0), np.int64) for _ in range(len(entries) + 1)]  # (draw, sample): the smallest draws win
    shards = min(len(dataset.shards), _REMOTE_SHARDS)
    limit = int(dataset.shard_bounds[shards]) if dataset.remote else len(dataset)
    for rows in chunks(dataset):
        samples = np.arange(rows.start, min(rows.stop, limit))
        if not len(samples):
            break
        draws = rng.bits(base, samples)
        labels = np.asarray(dataset.labels[rows])[: len(samples)]
        silent = ~np.asarray(dataset.known[rows])[: len(samples)].any(axis=1)
        having = [*(labels[:, entry] > 0.5 for entry in entries), silent if titles else np.full_like(silent, True)]
        for number, has in enumerate(having):
            if lots[number].shape[1] == columns:
                has = has & (draws < lots[number][0, -1])  # no others can win
            lot = np.concatenate([lots[number], np.stack([draws[has], samples[has]])], axis=1)
            lots[number] = lot[:, np.argsort(lot[0], kind="stable")[:columns]]
    titles = [*titles, "unlabelled" if titles else "any"]
    filled = [(title, lot[1].tolist()) for title, lot in zip(titles, lots, strict=True) if lot.shape[1]]
    return [title for title, _ in filled], [row for _, row in filled]


def _row_words(dataset: Dataset, counts: Tally) -> tuple[list[int], list[str]]:
    """Return the label entries that the rows of the sheet show, and their titles."""
    schema = dataset.schema
    worded = [a for a, attribute in enumerate(schema.attributes) if attribute.kind not in WORDLESS]
    if not worded:
        return [], []
    widest = max(worded, key=lambda a: schema.widths[a])
    use = [widest] if schema.widths[widest] > 1 else worded
    entries = [int(schema.starts[a]) + v for a in use for v in range(schema.widths[a])]
    words = [word for a in use for word in schema.attributes[a].values]
    present = counts.present[entries]
    order = np.argsort(-present, kind="stable")[:_ROWS].tolist()
    return [entries[i] for i in order], [f"{words[i]} ({int(present[i]):,})" for i in order]


def _pixels(dataset: Dataset, i: int) -> np.ndarray | None:
    """Return the pixels of sample ``i``, uint8 (H, W, C); None if it is damaged."""
    data, out = dataset.read(i), np.empty(dataset.shape.pixels_shape, np.uint8)
    if dataset.format(i) == "raw":
        return np.frombuffer(data, np.uint8).reshape(out.shape) if len(data) == out.nbytes else None
    try:
        fit_into(data, out, dataset.fit, dataset.background)
    except (ValueError, UserError):
        return None
    return out
