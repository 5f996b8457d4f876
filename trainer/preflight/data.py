"""Reading the data set from here: is it the same everywhere, does it open and decode, how fast do its bytes come?

Nothing is kept: of a data set behind a URL manifest and parts of shards are read as the trainer's cache would, and
thrown away. So it takes seconds, and says nothing of what lies between the parts (`python -m shards verify` does).
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import decode_into, fit_into
from shards.dataset.manifest import MANIFEST, read_manifest
from shards.dataset.schema import Schema
from shards.dataset.sidecars import ENTRY, FORMATS
from shards.remote.cache import LARGEST_MANIFEST
from shards.remote.fetch import Connection, Patience
from shards.remote.location import Location, locate

_PATIENCE = Patience(tries=2, stall=10, deadline=15)
_SECONDS = 2.0  # of reading
_MOST = 1 << 29  # bytes read
_BLOCK = 1 << 22
_DECODING = 0.5  # seconds
_ROWS = 64  # entries of the index
_LARGEST = 1 << 28  # bytes of a picture
_RUN = 1 << 20  # bytes of neighbouring pictures to decode


def look(where: str, node: int, nodes: int) -> dict[str, Any]:
    """Open a data set, decode pictures of its first and last shard, and measure how fast its bytes come.

    Args:
        where: a folder, or a URL.
        node, nodes: which of how many nodes this is: each begins at another shard, so that no server's memory helps.

    Returns:
        "where", "local", "manifest" (its hash), "pictures", "bytes", "size", "widths" (see `schema`),
        "decoded": pictures/s of one process from memory, "read" bytes in "seconds", of which "stored" came from
        storage by the system's count (None: it does not count).

    Raises:
        UserError: there is no data set, or a part of it is missing, damaged or out of reach.
    """
    place = locate(where)
    local = isinstance(place, Path)
    if isinstance(place, Path):
        Dataset.open(place)  # index, labels, and the sizes of all shards
        place = Location.of_folder(place)
    connection = Connection(place, _PATIENCE)
    content = connection.read(MANIFEST, LARGEST_MANIFEST)
    manifest = _checked(content, place)
    schema = Schema.from_json(manifest.get("schema"), f"{place}/{MANIFEST}")
    pictures = _Pictures(connection, manifest)
    number = len(manifest["shards"])
    filled = [at for at, shard in enumerate(manifest["shards"]) if shard["samples"]]
    pictures.decode(filled[0])
    speed = pictures.decode(filled[-1])
    begin = node * number // max(nodes, 1)
    order = [*range(begin, number), *range(begin)]
    return {
        "where": str(place),
        "local": local,
        "manifest": hashlib.sha256(content).hexdigest(),
        "pictures": manifest["samples"],
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        "shards": number,
        "size": manifest["picture_size"],
        "widths": list(schema.widths),
        "decoded": speed,
        **_speed(_local(Path(where), manifest, order) if local else _remote(connection, manifest, order)),
    }


def _checked(content: bytes, place: Location) -> dict[str, Any]:
    """The manifest, held against its rules as when it is opened."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, MANIFEST).write_bytes(content)
        return read_manifest(Path(folder), str(place))


class _Pictures:
    """Single pictures of a data set that may lie elsewhere, read by ranges of index and shards."""

    def __init__(self, connection: Connection, manifest: dict[str, Any]) -> None:
        self.connection, self.manifest = connection, manifest
        head = io.BytesIO(self._read("index.npy", 0, 256))
        try:
            version = np.lib.format.read_magic(head)
            shape, _, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(head)
        except (ValueError, AttributeError):
            shape, dtype = None, None
        if dtype != ENTRY or shape != (manifest["samples"],):
            raise UserError(f"{connection.location}/index.npy: not the index of this data set; copy it there again")
        self._begin = head.tell()

    def _read(self, name: str, start: int, length: int) -> bytes:
        return b"".join(self.connection.stream(name, start, start + length, exact=False))

    def decode(self, shard: int) -> float:
        """Decode the first pictures of a shard, again and again for half a second; pictures/s.

        Raises:
            UserError: one cannot be read or decoded.
        """
        row = sum(before["samples"] for before in self.manifest["shards"][:shard])
        entries = self._entries(row)
        record = self.manifest["shards"][int(entries[0]["shard"])]
        start = int(entries["offset"].min())
        stop = max(min(max(map(_end, entries)), start + _RUN), _end(entries[0]))
        data = self._read(record["file"], start, stop - start)
        whole = [entry for entry in entries if _end(entry) <= stop]
        out = np.empty((self.manifest["picture_size"],) * 2 + (3,), np.uint8)
        done, begun = 0, time.perf_counter()
        while done < len(whole) or time.perf_counter() - begun < _DECODING:
            entry = whole[done % len(whole)]
            at = int(entry["offset"]) - start
            try:
                self._decode(FORMATS[entry["format"]], data[at : at + int(entry["length"])], out)
            except ValueError as error:
                raise UserError(
                    f"{self.connection.location}/{record['file']}: sample {row + done}: {error}; "
                    "`python -m shards verify` lists all that is wrong"
                ) from None
            done += 1
        return done / (time.perf_counter() - begun)

    def _entries(self, row: int) -> np.ndarray:
        """The index from a row on, as far as it stays in one shard; a few entries, held against what can be.

        Raises:
            UserError: it ends before, or points where no picture can be.
        """
        rows = self._read("index.npy", self._begin + row * ENTRY.itemsize, _ROWS * ENTRY.itemsize)
        entries = np.frombuffer(rows[: len(rows) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        entries = entries[entries["shard"] == entries["shard"][0]] if len(entries) else entries
        shards = self.manifest["shards"]
        if not len(entries) or not 0 <= entries[0]["shard"] < len(shards):
            raise UserError(f"{self.connection.location}/index.npy: row {row} leads nowhere; copy it there again")
        most = shards[entries[0]["shard"]]["bytes"]
        if any(
            e["offset"] < 0 or _end(e) > most or e["length"] > _LARGEST or e["format"] >= len(FORMATS) for e in entries
        ):
            raise UserError(f"{self.connection.location}/index.npy: an entry after row {row} points outside its shard")
        return entries

    def _decode(self, form: str, data: bytes, out: np.ndarray) -> None:
        if form == "raw":
            out[:] = np.frombuffer(data, np.uint8).reshape(out.shape)
        elif form == "other":
            fit_into(data, out, str(self.manifest.get("fit", "crop")), str(self.manifest.get("background", "white")))
        else:
            decode_into(data, out)


def _end(entry: Any) -> int:
    return int(entry["offset"]) + int(entry["length"])


# ---------------------------------------------------------------- speed


def _speed(blocks: Iterator[bytes]) -> dict[str, Any]:
    """How many bytes come within the time, and how many of them from storage."""
    before, begun, count = _stored(), time.perf_counter(), 0
    for block in blocks:
        count += len(block)
        if count >= _MOST or time.perf_counter() - begun > _SECONDS:
            break
    seconds, after = time.perf_counter() - begun, _stored()
    stored = min(after - before, count) if before is not None and after is not None else None
    return {"read": count, "seconds": seconds, "stored": stored}


def _local(folder: Path, manifest: dict[str, Any], order: list[int]) -> Iterator[bytes]:
    """The shards' bytes, after the system was asked to forget what it has of them in memory."""
    for shard in order:
        with (folder / manifest["shards"][shard]["file"]).open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while block := file.read(_BLOCK):
                yield block


def _remote(connection: Connection, manifest: dict[str, Any], order: list[int]) -> Iterator[bytes]:
    for shard in order:
        record = manifest["shards"][shard]
        yield from connection.stream(record["file"], 0, record["bytes"])


def _stored() -> int | None:
    """Bytes that this process has had read from storage so far; the page cache's are not among them."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(next(line.split(":")[1] for line in lines if line.startswith("read_bytes:")))
    except (OSError, StopIteration, ValueError):
        return None
