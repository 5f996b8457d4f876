"""``shards describe``: what a data set holds, in words, and a contact sheet of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shards.core import rng
from shards.core.cli import argument, option, parse, validate
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

_WORDS = 256  # whose pairs are counted: the commonest
_PAIRS = 5  # printed of each kind
_LEAST = 5  # pictures that chance must expect, or that there must be, before a pair counts
_SURE = 4.0  # standard deviations from chance
_ROWS = 24  # of a contact sheet
_REMOTE_SHARDS = 8  # that a contact sheet of a remote data set is drawn from


@dataclass(frozen=True)
class Describe:
    """Say what a data set holds: labels and how often each, what stands together, formats, sizes; draw a sheet."""

    data: str = argument("the data set's folder, or its URL")
    sheet: Path | None = option(None, f"contact sheet to write, a .png (left out: {SHEET} in the data set's folder)")
    columns: int = option(12, "pictures a row of the sheet; 0: no sheet", minimum=0, maximum=100)
    seed: int = option(0, "of the choice of pictures", minimum=0)

    def __post_init__(self) -> None:
        validate(self)
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise UserError(f"--sheet {self.sheet}: a contact sheet is a .png file")


def main(argv: Sequence[str]) -> None:
    """``python -m shards describe``."""
    describe(parse(Describe, argv, command="python -m shards describe"))


def describe(options: Describe) -> None:
    """Print what a data set holds, and draw its contact sheet.

    Raises:
        UserError: there is no such data set, or the sheet's folder is missing or its name taken.
        Failure: the disk refuses, or a shard cannot be read.
    """
    if options.sheet and options.columns:
        contact_sheet.refuse(options.sheet)
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
        print(f"note: no contact sheet ({error}); say where with --sheet FILE.png")
    else:
        print(f"contact sheet: {path}")


# ---------------------------------------------------------------- words


def lines(dataset: Dataset, counts: Tally) -> list[str]:
    """What the data set holds, a line each."""
    manifest, schema = dataset.manifest, dataset.schema
    source, encoder = _table(manifest, "source"), _table(manifest, "text_encoder")
    part = ", validation part" if manifest.get("split") == "validation" else ""
    part += ", indexed in place" if dataset.in_place else ""
    total = int(dataset.shard_bytes.sum())
    text = [
        f"{_name(dataset)}: {len(dataset):,} pictures of {dataset.size} x {dataset.size}{part}",
        f"  {len(dataset.shards):,} shards, {total / 1e6:,.1f} MB; {_formats(dataset)}",
        f"  made square and resized by: {manifest.get('resize_policy', 'not noted')}",
        f"  source: {source.get('folder', 'not noted')} ({source.get('kind', '?')})",
        f"  pictures: {source.get('pictures') or 'not noted'}; licence: {manifest.get('licence') or 'not noted'}",
    ]
    if encoder:
        text.append(f"  captions encoded by {encoder.get('name', '?')} ({encoder.get('size', '?')} numbers)")
    if not dataset.remote and (dataset.path / "validation" / MANIFEST).is_file():
        text.append(f"  a validation part lies in {dataset.path / 'validation'}")
    noted = _table(manifest, "problems")
    text += [f"  noted when it was made: {kind}: {number}" for kind, number in noted.items()]
    text.append(
        f"labels: {len(schema.values):,} words, {len(schema.attributes):,} attributes, vectors of {schema.width:,}"
    )
    return [*text, *label_lines(dataset, counts), *_pair_lines(pairs(dataset, counts.present))]


def _table(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def _name(dataset: Dataset) -> str:
    return str(dataset.manifest.get("name") or dataset.where)


def _formats(dataset: Dataset) -> str:
    """How many pictures of each format, and their sizes in bytes."""
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
    """Two words of different attributes: pictures with both, and as many as chance would have."""

    one: str
    other: str
    together: int
    chance: float


def pairs(dataset: Dataset, there: np.ndarray) -> list[Pair]:
    """Pairs of words that stand together more or less often than chance would have it, the most unusual first.

    Chance is counted among the pictures of which both attributes are known. Of many words the `_WORDS` commonest
    are looked at; of pairs those that are too many standard deviations away to be noise.

    Args:
        there: int64 (L,), how many pictures have each word.
    """
    schema = dataset.schema
    owner = np.repeat(np.arange(len(schema.attributes)), schema.widths)
    worded = np.array([attribute.kind not in WORDLESS for attribute in schema.attributes], bool)[owner]
    names = np.zeros(schema.width, np.int64)
    names[worded] = np.arange(len(schema.values))
    chosen = np.flatnonzero(worded)[np.argsort(-there[worded], kind="stable")[:_WORDS]]
    if len(chosen) < 2:
        return []
    shape = (len(chosen), len(chosen))
    both, beside, known = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for rows in chunks(dataset):
        mask = np.asarray(dataset.known[rows])[:, owner[chosen]].astype(np.float32)
        word = (np.asarray(dataset.labels[rows])[:, chosen] > 0.5).astype(np.float32)
        both += word.T @ word
        beside += word.T @ mask  # pictures with the word of which the other's attribute is known
        known += mask.T @ mask
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.nan_to_num(beside * beside.T / known)
        spread = np.sqrt(np.maximum(chance * (1 - beside / known) * (1 - beside.T / known), 1e-9))
    unusual = (np.abs(both - chance) > _SURE * spread) & (np.maximum(both, chance) >= _LEAST)
    unusual &= owner[chosen][:, None] < owner[chosen][None, :]
    unusual &= chance > 0
    ratio = (both + 0.5) / (chance + 0.5)
    found = [(abs(np.log(ratio[a, b])), a, b) for a, b in np.argwhere(unusual).tolist()]
    words = [schema.values[names[entry]] for entry in chosen]
    return [Pair(words[a], words[b], int(both[a, b]), float(chance[a, b])) for _, a, b in sorted(found, reverse=True)]


def _pair_lines(found: list[Pair]) -> list[str]:
    if not found:
        return ["no two words of different attributes stand together more or less often than chance would have it"]
    text = []
    for what, some in (
        ("more", [pair for pair in found if pair.together > pair.chance]),
        ("less", [pair for pair in found if pair.together <= pair.chance]),
    ):
        if some:
            text.append(
                f"words together {what} often than by chance (the {min(_PAIRS, len(some))} most, of {len(some):,}):"
            )
            text += [
                f"  {p.one} + {p.other}: {p.together:,} pictures, by chance {p.chance:,.0f}" for p in some[:_PAIRS]
            ]
    return text


# ---------------------------------------------------------------- pictures


def _sheet(dataset: Dataset, counts: Tally, options: Describe) -> contact_sheet.Image.Image:
    titles, rows = _chosen(dataset, counts, options.columns, options.seed)
    pictures = [[_pixels(dataset, i) for i in row] for row in rows]
    name = _name(dataset)
    return contact_sheet.draw(name, f"{name}: {len(dataset):,} pictures", titles, pictures)


def _chosen(dataset: Dataset, counts: Tally, columns: int, seed: int) -> tuple[list[str], list[list[int]]]:
    """A title and sample numbers for each row: one a value of the attribute with most values, or a common word."""
    entries, titles = _row_words(dataset, counts)
    base = rng.key(seed, "contact sheet")
    lots = [np.zeros((2, 0), np.int64) for _ in range(len(entries) + 1)]  # (draw, sample): the least draws win
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
    """Label entries that rows of the sheet show, and their words."""
    schema = dataset.schema
    worded = [a for a, attribute in enumerate(schema.attributes) if attribute.kind not in WORDLESS]
    if not worded:
        return [], []
    widest = max(worded, key=lambda a: schema.widths[a])
    use = [widest] if schema.widths[widest] > 1 else worded
    entries = [int(schema.starts[a]) + v for a in use for v in range(schema.widths[a])]
    words = [word for a in use for word in schema.attributes[a].values]
    there = counts.present[entries]
    order = np.argsort(-there, kind="stable")[:_ROWS].tolist()
    return [entries[i] for i in order], [f"{words[i]} ({int(there[i]):,})" for i in order]


def _pixels(dataset: Dataset, i: int) -> np.ndarray | None:
    """uint8 (S, S, 3); None if it is damaged."""
    data, out = dataset.read(i), np.empty((dataset.size, dataset.size, 3), np.uint8)
    if dataset.format(i) == "raw":
        return np.frombuffer(data, np.uint8).reshape(out.shape) if len(data) == out.nbytes else None
    try:
        fit_into(data, out, dataset.fit, dataset.background)
    except (ValueError, UserError):
        return None
    return out
