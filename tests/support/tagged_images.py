"""Small tagged images, in a folder or in tars, and a way to recognise them again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset.writer import ShardWriter

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0), "green": (0, 255, 0)}
LENGTHS = ("long", "short")


def tagged(folder: Path, count: int = 24, size: int = 8) -> Path:
    """Images in one of three colours; the tags name the colour, a length, and "odd" for odd numbers."""
    (folder / "images").mkdir(parents=True)
    rows = ["id,tags"]
    for i in range(count):
        colour = list(COLOURS)[i % 3]
        Image.new("RGB", (size, size), COLOURS[colour]).save(folder / "images" / f"{i:04d}.png")
        rows.append(f'{i:04d},"{colour} hair, {LENGTHS[i // 3 % 2]} hair{", odd" if i % 2 else ""}"')
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return folder


def colour_of(data: bytes) -> str:
    pixel = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0]
    return next(name for name, value in COLOURS.items() if np.abs(pixel.astype(int) - value).max() < 30)


def written(folder: Path, samples: Iterator[dict[str, Any]] | list[dict[str, Any]], per_shard: int = 5) -> Path:
    """Shards as webdataset itself writes them."""
    folder.mkdir()
    with ShardWriter(f"{folder}/part-%04d.tar", maxcount=per_shard, verbose=0) as writer:
        for i, sample in enumerate(samples):
            writer.write({"__key__": f"{i:05d}", **sample})
    return folder
