"""Measure packing speed: ours with one and two workers, and webdataset's ShardWriter in a typical script.

All sides read the same JPEG files, resize them to the same size and write tars of image, label and JSON. They alternate
within each repetition; medians and ratios of medians are printed.

    python benchmarks/pack.py --images 2000 --repetitions 5
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset.writer import ShardWriter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shards.packing.pack import Pack, pack


def photograph(draws: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw smooth shapes of all sizes with some grain, which compress about as well as a photograph."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 9, 27):
        coarse = Image.fromarray(draws.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 3
    total += draws.normal(0, 6, total.shape)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def write_images(folder: Path, count: int) -> None:
    """Write JPEGs of 256 to 512 pixels per side, and their tags.csv."""
    draws = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["id,tags"]
    for number in range(count):
        width, height = (int(side) for side in draws.integers(256, 513, 2))
        photograph(draws, width, height).save(folder / "images" / f"{number:06d}.jpg", quality=90)
        rows.append(f'{number:06d},"{("blue", "red")[number % 2]} hair"')
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")


def ours(src: Path, out: Path, size: int, workers: int) -> None:
    """Run `cgan pack` completely: reading tags, shards, hashes, index, manifest."""
    with contextlib.redirect_stdout(io.StringIO()):
        pack(Pack(src, out, size=size, workers=workers, per_shard=100))


def shard_writer(src: Path, out: Path, size: int) -> None:
    """Run a typical script: Pillow opens, crops, resizes; ShardWriter encodes and writes."""
    out.mkdir()
    with ShardWriter(str(out / "shard-%06d.tar"), maxcount=100, verbose=0) as sink:
        for number, path in enumerate(sorted((src / "images").iterdir())):
            image = Image.open(path).convert("RGB")
            side = min(image.size)
            left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((size, size), Image.Resampling.LANCZOS)
            notes = {"id": path.name, "tags": [f"{('blue', 'red')[number % 2]} hair"]}
            label = np.eye(2, dtype=np.float32)[number % 2]
            sink.write({"__key__": f"{number:09d}", "jpg": image, "npy": label, "json": notes})


def main() -> None:
    """Draw the images, run the sides in alternation, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=96, help="height and width of the packed images in pixels")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    sides: dict[str, Callable[[Path, Path], None]] = {
        "ours, 1 worker": lambda src, out: ours(src, out, options.size, 1),
        "ours, 2 workers": lambda src, out: ours(src, out, options.size, 2),
        "wds.ShardWriter": lambda src, out: shard_writer(src, out, options.size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        src = Path(folder) / "src"
        write_images(src, options.images)
        for repetition in range(options.repetitions):
            for number, (name, run) in enumerate(sides.items()):
                start = time.perf_counter()
                run(src, Path(folder) / f"out-{repetition}-{number}")
                seconds[name].append(time.perf_counter() - start)
    report(options, seconds)


def report(options: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    """Print medians and ratios, and write all results as JSON if requested."""
    rates = {name: options.images / statistics.median(times) for name, times in seconds.items()}
    one, two, theirs = rates.values()
    print(f"{options.images} JPEGs of 256 to 512 pixels to {options.size}, {os.cpu_count()} cores, medians")
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} images/s")
    ratios: dict[str, Any] = {
        "2 workers / 1 worker": two / one,
        "1 worker / ShardWriter": one / theirs,
        "2 workers / ShardWriter": two / theirs,
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "ratios": ratios, "seconds": seconds}))


if __name__ == "__main__":
    main()
