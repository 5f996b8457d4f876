"""Check one file of a dataset against the manifest and the sidecars; runs in any process."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io, process_pool
from shards.core.errors import UserError
from shards.dataset import tar_index
from shards.dataset.decode import decode_into, fit_into
from shards.dataset.image_shape import ImageShape
from shards.dataset.schema import Schema
from shards.dataset.sidecars import FORMATS
from shards.sources.cells import InvalidValue, parse_json, sanitize

_LARGEST = 1 << 26  # bytes of a sample's label or JSON
_WORDS = 8  # of a label quoted in a message
_ALIASES = {"jpeg": "jpg", "image.npy": "raw"}
_AGAIN = "copy it again, or pack again"


@dataclass
class Findings:
    """Problems and notes (not problems), one line each."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add a problem; make anything that it quotes printable."""
        self.problems.append(sanitize(" ".join(line.split())))

    def named(self, line: str, names: list[str]) -> None:
        """Add one problem for several items of a kind and name the first few; do nothing if there are none."""
        if names:
            self.add(f"{line}: {atomic_io.join_names(names)}")


@dataclass(frozen=True)
class Sidecar:
    """A sidecar file and its hash in the manifest."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Shard:
    """A shard and its record in the manifest.

    Attributes:
        path, bytes, sha256: the file's path, size and hash in the manifest.
        number: index of the shard.
        start, samples: first row and number of rows in the sidecars.
        readable: the sidecars ("index.npy", "labels.npy", "known.npy") whose dtype and shape are right.
        schema: the attributes; None if the schema cannot be read.
        shape: of the images; None: do not decode them.
        in_place: True for foreign tars, which hold no label vectors and images of any size and encoding.
        fit, background: how a foreign image is fitted.
    """

    path: Path
    bytes: int
    sha256: str
    number: int
    start: int
    samples: int
    readable: frozenset[str]
    schema: Schema | None
    shape: ImageShape | None
    in_place: bool = False
    fit: str = "crop"
    background: str = "white"

    def rows(self, name: str) -> np.ndarray | None:
        """Return its rows of a sidecar, memory-mapped."""
        if name not in self.readable:
            return None
        return np.load(self.path.parent / name, mmap_mode="r", allow_pickle=False)[
            self.start : self.start + self.samples
        ]


def check(task: Sidecar | Shard) -> Findings:
    """Return the problems of one file."""
    found = Findings()
    try:
        if isinstance(task, Sidecar):
            _check_hash(task.path, task.sha256, found)
        else:
            _check_shard(task, found)
    except FileNotFoundError:
        found.add(f"{task.path.name}: missing; copy it back, or pack again")
    except OSError as error:
        found.add(f"{task.path.name}: cannot be read ({error.strerror}); {_AGAIN}")
    if isinstance(task, Shard):
        process_pool.advance(task.samples)
    return found


def _check_hash(path: Path, sha256: str, found: Findings) -> None:
    if not path.is_file():
        raise FileNotFoundError
    if atomic_io.sha256(path) != sha256:
        found.add(f"{path.name}: content altered (its sha256 differs from the manifest's); {_AGAIN}")


def _check_shard(shard: Shard, found: Findings) -> None:
    size = shard.path.stat().st_size
    if not shard.path.is_file():
        raise FileNotFoundError
    if size != shard.bytes:
        how = "truncated" if size < shard.bytes else "too long"
        found.add(f"{shard.path.name}: {size:,} bytes instead of {shard.bytes:,} ({how}); {_AGAIN}")
    else:
        _check_hash(shard.path, shard.sha256, found)
    if (members := _members(shard, found)) is None:
        return
    with shard.path.open("rb", buffering=0) as tar:
        keys = _check_entries(shard, members, found)
        if not shard.in_place:
            _check_labels(shard, tar.fileno(), {(m.key, m.extension): m for m in members}, keys, found)
        if shard.shape:
            _check_images(shard, shard.shape, tar.fileno(), keys, found)


def _members(shard: Shard, found: Findings) -> list[tar_index.Member] | None:
    """Return the members of the tar; None if it cannot be listed to its end."""
    listed: list[tar_index.Member] = []
    try:
        for member in tar_index.members(shard.path):
            listed.append(member)  # noqa: PERF402 - keep the members before an error
    except UserError:
        last = f"after sample {listed[-1].key}" if listed else "at its start"
        found.add(f"{shard.path.name}: the tar is damaged {last}; {_AGAIN}")
        return None
    return listed


# ---------------------------------------------------------------- index


def _check_entries(shard: Shard, members: list[tar_index.Member], found: Findings) -> dict[int, str]:
    """Compare index entries with members; return row -> key of the sample, for the rows that match."""
    entries = shard.rows("index.npy")
    if entries is None:
        return {}
    by_end = {member.offset + member.length: member for member in members}
    keys: dict[int, str] = {}
    wrong, taken = [], set()
    for row, (number, form, offset, length) in enumerate(entries.tolist(), shard.start):
        member = by_end.get(offset + length)
        fits = member is not None and number == shard.number and offset not in taken
        if member is None or not (fits and _is_image(member, form, offset, length, shard.in_place)):
            wrong.append(f"entry {row}")
        else:
            keys[row] = member.key
            taken.add(offset)
    found.named(f"index.npy: entries do not match the images in {shard.path.name}; pack again", wrong)
    if not shard.in_place and not wrong:
        ours = {member.key for member in members if _form(member) in FORMATS[:4]}
        lost = sorted(ours - set(keys.values()))
        found.named(f"{shard.path.name}: contains images that are not in the index; pack again", lost)
    return keys


def _form(member: tar_index.Member) -> str:
    return _ALIASES.get(member.extension, member.extension)


def _is_image(member: tar_index.Member, form: int, offset: int, length: int, in_place: bool) -> bool:
    """Return whether an index entry describes this member."""
    if form >= len(FORMATS):
        return False
    named = FORMATS[form]
    if named == "raw":  # the pixels, after the header of an array
        return _form(member) == "raw" and member.offset < offset <= member.offset + 4096
    # Foreign tars may use any extension: a "jpeg" may be a PNG.
    return (member.offset, member.length) == (offset, length) and (in_place or _form(member) == named)


# ---------------------------------------------------------------- labels


def _check_labels(
    shard: Shard, tar: int, members: dict[tuple[str, str], tar_index.Member], keys: dict[int, str], found: Findings
) -> None:
    """Compare the rows of labels and masks with those stored in the tar."""
    labels, known = shard.rows("labels.npy"), shard.rows("known.npy")
    differ: list[str] = []
    masks: list[str] = []
    for row, key in keys.items():
        at = row - shard.start
        notes = _content(tar, members.get((key, "json")))
        if labels is not None and shard.schema is not None and shard.schema.is_wide and (key, "npy") not in members:
            if _list(notes, "ones") != np.flatnonzero(labels[at]).tolist():
                differ.append(f"{key} (row {row})")
        elif labels is not None:
            expected = _npy(np.asarray(labels[at], np.float32))
            if (there := _content(tar, members.get((key, "npy")))) != expected:
                differ.append(_difference(shard, key, row, expected, there))
        if known is not None and _known(notes) != known[at].tolist():
            masks.append(f"{key} (row {row})")
    name = shard.path.name
    found.named(f"labels.npy: labels differ from those in {name}; copy both again, or pack again", differ)
    found.named(f"known.npy: masks differ from KEY.json in {name}; copy both again, or pack again", masks)


def _difference(shard: Shard, key: str, row: int, expected: bytes, there: bytes) -> str:
    """Describe a sample whose label in the tar differs from that in labels.npy."""
    if shard.schema is None or len(there) != len(expected) or shard.schema.width * 4 >= len(there):
        return f"{key} (row {row}: the tar has no vector of this size)"
    everything = np.ones(len(shard.schema.attributes), bool)
    said = []
    for data in (expected, there):
        label = np.frombuffer(data, np.float32, offset=len(data) - 4 * shard.schema.width)
        words = shard.schema.words(label, everything)
        said.append(" + ".join(words[:_WORDS]) + (" …" if len(words) > _WORDS else "") or "nothing")
    other = "other numbers" if said[0] == said[1] else f"{said[1]!r}, not {said[0]!r}"
    return f"{key} (row {row}: the tar says {other})"


def _content(tar: int, member: tar_index.Member | None) -> bytes:
    if member is None or member.length > _LARGEST:
        return b""
    return os.pread(tar, member.length, member.offset)


def _known(notes: bytes) -> list[bool] | None:
    known = _list(notes, "known")
    if known is None or not all(entry in (0, 1) for entry in known):
        return None
    return [bool(entry) for entry in known]


def _list(notes: bytes, name: str) -> list[Any] | None:
    """Return a list in the JSON of a sample; None if it has none of this name."""
    try:
        content = parse_json(notes)
    except InvalidValue:
        return None
    found = content.get(name) if isinstance(content, dict) else None
    return found if isinstance(found, list) else None


def _npy(row: np.ndarray) -> bytes:
    """Return a label as packing writes it."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(row), (1, 0), allow_pickle=False)
    return out.getvalue()


# ---------------------------------------------------------------- images


def _check_images(shard: Shard, shape: ImageShape, tar: int, keys: dict[int, str], found: Findings) -> None:
    """Decode the images whose index entries match."""
    out = np.empty(shape.pixels_shape, np.uint8)
    damaged = list(_damaged(shard, tar, keys, out))
    what = "index again with --check to leave them out" if shard.in_place else _AGAIN
    found.named(f"{shard.path.name}: images that cannot be decoded; {what}", damaged)


def _damaged(shard: Shard, tar: int, keys: dict[int, str], out: np.ndarray) -> Iterable[str]:
    for key, form, data in _images(shard, tar, keys):
        try:
            if form == "raw" and len(data) != out.nbytes:
                raise ValueError(f"{len(data):,} bytes of pixels, not {out.nbytes:,}")
            if form == "other":
                fit_into(data, out, shard.fit, shard.background)
            elif form != "raw":
                decode_into(data, out)
        except (ValueError, UserError) as error:
            yield f"{key} ({error})"


def _images(shard: Shard, tar: int, keys: dict[int, str]) -> Iterator[tuple[str, str, bytes]]:
    """Yield (key, format, content) of each image whose index entry matches."""
    entries = shard.rows("index.npy")
    assert entries is not None or not keys
    for row, key in keys.items():
        _, form, offset, length = entries[row - shard.start].item() if entries is not None else (0, 0, 0, 0)
        yield key, FORMATS[form], os.pread(tar, length, offset)
