"""Measure the time to resume at position 10^8 of a dataset of ten million images, against starting at 0.

The dataset is generated: 10,000 shards that are sparse files with one real image each, to which all entries of the
shard point, so it takes little disk space and seconds to make; index, labels and masks have their full size. Each
measurement runs in a separate process, and its clock starts after Python has imported the packages: open the dataset,
and read the first batch. The last line, `ratio: X`, is the median time at 10^8 divided by that at 0.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from shards.dataset import sidecars, tar_index
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import MANIFEST
from shards.dataset.schema import Attribute, Schema

SIZE, WORDS = 96, 16
SCHEMA = Schema((Attribute("hair", "exclusive", tuple(f"hair {i}" for i in range(WORDS))),))


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--position", type=int, default=10**8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("DATA", "POSITION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(Path(options.once[0]), int(options.once[1]), options.batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        make(Path(folder), options.samples, options.shards)
        print(f"{options.samples:,} images in {options.shards:,} shards, made in {time.perf_counter() - begun:.1f} s")
        positions = (0, options.position)
        found: dict[int, list[dict[str, float]]] = {position: [] for position in positions}
        for _ in range(options.pairs):
            for position in positions:
                found[position].append(run(Path(folder), position, options.batch))
    medians = {p: {part: statistics.median(t[part] for t in times) for part in times[0]} for p, times in found.items()}
    for position, parts in medians.items():
        each = ", ".join(f"{part} {seconds:.3f} s" for part, seconds in parts.items())
        print(f"position {position:,}: {sum(parts.values()):.3f} s ({each})")
    totals = [sum(medians[position].values()) for position in positions]
    if options.json:
        options.json.write_text(json.dumps({"seconds": totals, "parts": medians, "ratio": totals[1] / totals[0]}))
    print(f"ratio: {totals[1] / totals[0]:.2f}")


def run(data: Path, position: int, batch: int) -> dict[str, float]:
    """Run `measure` in a separate process."""
    command = [sys.executable, str(Path(__file__)), "--batch", str(batch), "--once", str(data), str(position)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(data: Path, position: int, batch: int) -> dict[str, float]:
    """Return the seconds to open the dataset, and to read the batch at a position of the stream."""
    from shards.stream.stream import Stream

    begun = time.perf_counter()
    dataset = Dataset.open(data)
    opened = time.perf_counter()
    images = Stream(dataset, batch, seed=0)[position // batch].images
    done = time.perf_counter()
    assert images.shape == (batch, 3, SIZE, SIZE) and len(images.unique()) > 1
    return {"open": opened - begun, "first batch": done - opened}


def make(folder: Path, samples: int, shards: int) -> None:
    """Write a dataset with an index of full size, and images where it points."""
    rng = np.random.default_rng(0)
    jpeg = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((SIZE, SIZE)).save(jpeg, "JPEG", quality=95)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("000000000.jpg")
        info.size = jpeg.tell()
        archive.addfile(info, io.BytesIO(jpeg.getvalue()))
    content = tar.getvalue()
    counts = np.full(shards, samples // shards)
    counts[: samples % shards] += 1
    records = []
    for number, count in enumerate(counts.tolist()):
        path = folder / f"big-{number:06d}.tar"
        size = max(len(content), count * 4096)
        with path.open("wb") as file:
            file.write(content)
            file.truncate(size)
        sha256 = hashlib.sha256(path.name.encode()).hexdigest()  # not verified when a folder is opened
        records.append({"file": path.name, "samples": count, "bytes": size, "sha256": sha256})
    member = next(tar_index.members(folder / "big-000000.tar"))
    entries = np.empty(samples, sidecars.ENTRY)
    entries["shard"] = np.repeat(np.arange(shards), counts)
    entries["format"] = sidecars.FORMATS.index("jpg")
    entries["offset"], entries["length"] = member.offset, member.length
    sidecars.save_array(folder / "index.npy", entries)
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.float32, (samples, WORDS))
    for start in range(0, samples, 1 << 20):
        part = labels[start : start + (1 << 20)]
        part[np.arange(len(part)), rng.integers(0, WORDS, len(part))] = 1
    sidecars.save_array(folder / "known.npy", np.ones((samples, 1), bool))
    manifest = {"format_version": 1, "picture_size": SIZE, "samples": samples, "shards": records}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "schema": SCHEMA.to_json()}))


if __name__ == "__main__":
    main()
