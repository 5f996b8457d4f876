"""The dataset: the same on all nodes, readable and decodable, and fast enough for a rate.

Nothing is stored: of a remote dataset, the manifest and parts of shards are read as by the trainer's cache, and
discarded. So this takes seconds, but does not check everything else (`cgan verify` does).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import decode_into, fit_into
from shards.dataset.image_shape import ImageShape, manifest_shape
from shards.dataset.manifest import MANIFEST, read_manifest
from shards.dataset.schema import Schema
from shards.dataset.sidecars import ENTRY, FORMATS
from shards.remote.cache import LARGEST_MANIFEST
from shards.remote.fetch import Connection, RetryPolicy
from shards.remote.location import Location, parse_location
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, format_bytes, group_by, nodes, split_errors

NAME = "data"
_MOSTLY = 0.9
_RETRIES = RetryPolicy(tries=2, stall=10, deadline=15)
_READ_SECONDS = 2.0
_MAX_READ = 1 << 29  # bytes
_BLOCK = 1 << 22
_DECODE_SECONDS = 0.5
_ROWS = 64  # entries of the index
_MAX_IMAGE = 1 << 28  # bytes
_SPAN = 1 << 20  # bytes of consecutive images to decode


def gather(where: str, node: int, nodes: int) -> dict[str, Any]:
    """Open a dataset, decode images of its first and last shard, and measure the read speed.

    Args:
        where: a directory or a URL.
        node, nodes: index and number of nodes; each starts at another shard, so that a server's cache does not help.

    Returns:
        "where", "local", "manifest" (its hash), "pictures", "bytes", "shards", "shape" (channels, height, width),
        "widths" (see `schema`), "decoded" (images/s decoded by one process from memory), "read" (bytes) in "seconds",
        and "stored", the bytes of these that came from storage as counted by the system (None: unknown).

    Raises:
        UserError: the dataset does not exist, or a part of it is missing, damaged or unreachable.
    """
    location = parse_location(where)
    local = isinstance(location, Path)
    if isinstance(location, Path):
        Dataset.open(location)  # checks index, labels and the sizes of all shards
        location = Location.of_folder(location)
    connection = Connection(location, _RETRIES)
    content = connection.read(MANIFEST, LARGEST_MANIFEST)
    manifest = _parse_manifest(content, location)
    shape = manifest_shape(manifest, f"{location}/{MANIFEST}")
    schema = Schema.from_json(manifest.get("schema"), f"{location}/{MANIFEST}")
    images = _ImageReader(connection, manifest)
    number = len(manifest["shards"])
    filled = [at for at, shard in enumerate(manifest["shards"]) if shard["samples"]]
    images.decode(filled[0])
    speed = images.decode(filled[-1])
    first = node * number // max(nodes, 1)
    order = [*range(first, number), *range(first)]
    return {
        "where": str(location),
        "local": local,
        "manifest": hashlib.sha256(content).hexdigest(),
        "pictures": manifest["samples"],
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        "shards": number,
        "shape": list(dataclasses.astuple(shape)),
        "widths": list(schema.widths),
        "decoded": speed,
        **_speed(_local(Path(where), manifest, order) if local else _remote(connection, manifest, order)),
    }


def _parse_manifest(content: bytes, location: Location) -> dict[str, Any]:
    """Parse and validate a manifest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, MANIFEST).write_bytes(content)
        return read_manifest(Path(folder), str(location))


class _ImageReader:
    """Reads single images of a dataset, which may be remote, by byte ranges of index and shards."""

    def __init__(self, connection: Connection, manifest: dict[str, Any]) -> None:
        self.connection, self.manifest = connection, manifest
        self.shape = manifest_shape(manifest, f"{connection.location}/{MANIFEST}")
        head = io.BytesIO(self._read("index.npy", 0, 256))
        try:
            version = np.lib.format.read_magic(head)
            shape, _, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(head)
        except (ValueError, AttributeError):
            shape, dtype = None, None
        if dtype != ENTRY or shape != (manifest["samples"],):
            raise UserError(
                "damaged-index", f"{connection.location}/index.npy is not the index of this dataset; copy it again"
            )
        self._begin = head.tell()

    def _read(self, name: str, start: int, length: int) -> bytes:
        return b"".join(self.connection.stream(name, start, start + length, exact=False))

    def decode(self, shard: int) -> float:
        """Decode the first images of a shard repeatedly for half a second, and return images/s.

        Raises:
            UserError: an image cannot be read or decoded.
        """
        row = sum(before["samples"] for before in self.manifest["shards"][:shard])
        entries = self._entries(row)
        record = self.manifest["shards"][int(entries[0]["shard"])]
        start = int(entries["offset"].min())
        stop = max(min(max(map(_end, entries)), start + _SPAN), _end(entries[0]))
        data = self._read(record["file"], start, stop - start)
        whole = [entry for entry in entries if _end(entry) <= stop]
        out = np.empty(self.shape.pixels_shape, np.uint8)
        done, started = 0, time.perf_counter()
        while done < len(whole) or time.perf_counter() - started < _DECODE_SECONDS:
            entry = whole[done % len(whole)]
            at = int(entry["offset"]) - start
            try:
                self._decode(FORMATS[entry["format"]], data[at : at + int(entry["length"])], out)
            except ValueError as error:
                raise UserError(
                    "damaged-image",
                    f"{self.connection.location}/{record['file']}: sample {row + done}: {error}; "
                    "`cgan verify` lists all damage",
                ) from None
            done += 1
        return done / (time.perf_counter() - started)

    def _entries(self, row: int) -> np.ndarray:
        """Read a few validated index entries from a row on, all of one shard.

        Raises:
            UserError: the index is too short, or an entry is outside of its shard.
        """
        rows = self._read("index.npy", self._begin + row * ENTRY.itemsize, _ROWS * ENTRY.itemsize)
        entries = np.frombuffer(rows[: len(rows) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        entries = entries[entries["shard"] == entries["shard"][0]] if len(entries) else entries
        shards = self.manifest["shards"]
        if not len(entries) or not 0 <= entries[0]["shard"] < len(shards):
            raise UserError(
                "damaged-index", f"{self.connection.location}/index.npy: row {row} names no shard; copy it again"
            )
        most = shards[entries[0]["shard"]]["bytes"]
        if any(
            e["offset"] < 0 or _end(e) > most or e["length"] > _MAX_IMAGE or e["format"] >= len(FORMATS)
            for e in entries
        ):
            raise UserError(
                "damaged-index",
                f"{self.connection.location}/index.npy: an entry after row {row} is outside of its shard",
            )
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
    """Return how many bytes are read within the time limit, and how many of them come from storage."""
    before, started, count = _bytes_from_storage(), time.perf_counter(), 0
    for block in blocks:
        count += len(block)
        if count >= _MAX_READ or time.perf_counter() - started > _READ_SECONDS:
            break
    seconds, after = time.perf_counter() - started, _bytes_from_storage()
    stored = min(after - before, count) if before is not None and after is not None else None
    return {"read": count, "seconds": seconds, "stored": stored}


def _local(folder: Path, manifest: dict[str, Any], order: list[int]) -> Iterator[bytes]:
    """Yield the bytes of the shards, after asking the system to drop them from the page cache."""
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


def _bytes_from_storage() -> int | None:
    """Return the bytes that this process has read from storage so far, without those from the page cache."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
        return int(next(line.split(":")[1] for line in lines if line.startswith("read_bytes:")))
    except (OSError, StopIteration, ValueError):
        return None


# ---------------------------------------------------------------- assessment


def assess(reports: Sequence[Report], rate: float | None, world: int) -> list[Finding]:
    """Assess whether all nodes see the same dataset, and whether storage and CPUs deliver the expected rate.

    Args:
        reports: facts of all ranks.
        rate: expected images/s of the whole job; None: unknown.
        world: ranks of the job.
    """
    how = "pack or copy the dataset to storage that all nodes see; `cgan verify` lists damage"
    good, found = split_errors(reports, NAME, NAME, how, nodes)
    if not good:
        return found
    same = group_by(good, lambda report: report[NAME]["manifest"])
    if len(same) > 1:
        counts = [
            f"{them[0][NAME]['pictures']:,} images, manifest {h[:8]}… on {nodes(them)}" for h, them in same.items()
        ]
        how = "ranks would train on different data: copy one dataset to all nodes, or use one that all nodes see"
        found.append(Finding(RED, NAME, f"the datasets differ: {'; '.join(counts)}", how))
    else:
        facts = good[0][NAME]
        says = (
            f"{facts['where']}: {facts['pictures']:,} images of {ImageShape(*facts['shape']).describe()} in "
            f"{facts['shards']:,} shards, {format_bytes(facts['bytes'])}; first and last shard decode"
        )
        found.append(Finding(FINE, NAME, says + (f"; the same on {len(good)} nodes" if len(good) > 1 else "")))
    slowest = min(good, key=lambda report: report[NAME]["read"] / report[NAME]["seconds"])
    found.append(_storage(slowest, len(good), rate, world))
    found.append(_decoding(min(good, key=lambda report: report[NAME]["decoded"]), rate, world))
    return found


def _storage(report: Report, count: int, rate: float | None, world: int) -> Finding:
    """Assess the read speed of the slowest node against the expected rate."""
    facts = report[NAME]
    speed = facts["read"] / facts["seconds"]
    each = facts["bytes"] / facts["pictures"]  # bytes of a shard per image
    enough_for = speed / each * world / report["ranks_here"]
    who = f"{report['node']}, the slowest of {count} nodes" if count > 1 else report["node"]
    small = f" (only {format_bytes(facts['read'])} available to read)" if facts["read"] < 50e6 else ""
    says = f"{speed / 1e6:,.0f} MB/s to {who}{small}; enough for {enough_for:,.0f} images/s of the job."
    says += f" {_describe_source(facts)}"
    if rate is None:
        return Finding(FINE, "reading", says)
    if enough_for < rate:
        how = "use faster storage, smaller images, or --cache on a local disk, which serves all epochs after the first"
        return Finding(RED, "reading", f"{says} --rate {rate:g} needs more", how)
    return Finding(FINE, "reading", f"{says} --rate {rate:g} needs {rate * each / 1e6:,.1f} MB/s in total")


def _describe_source(facts: dict[str, Any]) -> str:
    """Say how much of the data came from the page cache."""
    if not facts["local"]:
        return "Read over the network; the part that the server had in memory is unknown."
    if facts["stored"] is None:
        return "The part that the system had in memory (page cache) is unknown."
    fraction = facts["stored"] / max(facts["read"], 1)
    if fraction >= _MOSTLY:
        return "Read from storage, as counted by the system (the part that a file server had in memory is unknown)."
    return (
        f"{1 - fraction:.0%} of it came from this machine's page cache, as counted by the system: "
        "the first epoch may be slower."
    )


def _decoding(report: Report, rate: float | None, world: int) -> Finding:
    """Assess whether the cores of a rank can decode its part of the rate."""
    speed = report[NAME]["decoded"]
    cores = report["limits"].get("mine", 1) if "limits" in report else 1
    says = f"{speed:,.0f} images/s decoded by one process on {report['node']}"
    if rate is None:
        return Finding(FINE, "decoding", says)
    needed = rate / world / max(speed, 1e-9)
    says += f"; --rate {rate:g} needs {needed:.2g} of each rank's {cores} cores"
    if needed >= cores:
        return Finding(
            RED,
            "decoding",
            says,
            "use more cores per rank and as many --workers, or pack smaller images, or pack with --format raw",
        )
    if needed > 1:
        return Finding(YELLOW, "decoding", says, f"train with --workers {int(needed) + 1} or more")
    return Finding(FINE, "decoding", says)
