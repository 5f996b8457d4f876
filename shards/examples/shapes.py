"""Draw and pack 64 small labelled images: the smoke test's default dataset."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from shards.core import rng
from shards.core.atomic_io import write_bytes
from shards.packing.pack import Pack, pack

INKS = {"red": (214, 60, 50), "green": (60, 160, 80), "blue": (60, 90, 210), "yellow": (235, 200, 40)}
FORMS = ("round", "square", "tall")
_TIME = 1_000_000_000


def draw(number: int, size: int) -> tuple[Image.Image, str]:
    """Return image ``number`` and its tags, such as "blue ink, round shape"."""
    ink, form, dx, dy = (int(rng.bits(rng.key(0, "shapes"), number, i)) for i in range(4))
    name, shape = list(INKS)[ink % len(INKS)], FORMS[form % len(FORMS)]
    image = Image.new("RGB", (size, size), (236, 236, 230))
    middle, radius = (size // 2 + dx % 3 - 1, size // 2 + dy % 3 - 1), size // 3
    half_width = radius // 2 if shape == "tall" else radius
    box = (middle[0] - half_width, middle[1] - radius, middle[0] + half_width, middle[1] + radius)
    brush = ImageDraw.Draw(image)
    (brush.ellipse if shape == "round" else brush.rectangle)(box, fill=INKS[name])
    return image, f"{name} ink, {shape} shape"


def write_folder(folder: Path, count: int, size: int) -> None:
    """Write ``count`` images and their tags.csv, as in a user's folder."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "tags"])
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        image, tags = draw(number, size)
        image.save(folder / "images" / f"{number:03d}.png")
        writer.writerow([f"{number:03d}", tags])
    write_bytes(folder / "tags.csv", table.getvalue().encode())


def smoke_dataset(out: Path, count: int = 64, size: int = 16) -> None:
    """Draw and pack the smoke test's dataset unless it exists."""
    if (out / "manifest.json").exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "shapes"
        write_folder(source, count, size)
        for path in source.rglob("*"):  # a packing is resumed from a source of the same names, sizes and times
            os.utime(path, (_TIME, _TIME))
        pack(Pack(src=source, out=out, size=size, workers=1, name="shapes"))
