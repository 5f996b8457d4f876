"""``cgan faces``: draw an example dataset of labelled cartoon faces, offline.

Each face depends only on a hash of (seed, number), so the same seed gives the same bytes with any number of processes.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from shards.core import atomic_io, file_lock, process_pool, rng
from shards.core.cli import argument, option, parse, seed_option, validate
from shards.core.errors import UserError
from shards.dataset import images

HAIR = {
    "aqua": "#58d3d8",
    "black": "#2b2930",
    "blonde": "#f2d66b",
    "blue": "#3f6fe0",
    "brown": "#7a4a26",
    "gray": "#9a9aa6",
    "green": "#3fa65a",
    "orange": "#f08a2c",
    "pink": "#f58fbc",
    "purple": "#8a4fc7",
    "red": "#cf3b2f",
    "white": "#eeeef4",
}
EYES = {
    "aqua": "#14b8c4",
    "black": "#111111",
    "blue": "#1f5fe0",
    "brown": "#6b3a12",
    "green": "#1f9b45",
    "orange": "#f27a1a",
    "pink": "#ff4fa0",
    "purple": "#8a2be2",
    "red": "#d8242f",
    "yellow": "#f0c000",
}
SKIN = ("#fdebdc", "#f9dcc4", "#f2d3b1", "#ecad80", "#c98a5a")


class Style(NamedTuple):
    """A drawing style: hair variants by length, eye variants that show their colour, and fixed options."""

    licence: str
    credit: str
    hair: dict[str, tuple[str, ...]]
    eyes: tuple[str, ...]
    zoom: tuple[int, int]  # percent
    fixed: dict[str, int]


def _numbered(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number:02d}" for number in numbers)


STYLES = {
    "lorelei": Style(
        "CC0 1.0",
        '"Lorelei" by Lisa Wischofsky',
        {
            "long": _numbered("variant", 13, 15, 16, 18, 19, 21, 23, 24, 32, 33, 35, 40, 41),
            "short": _numbered("variant", 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 22, 39, 43, 44, 47),
            "tied": _numbered("variant", 14, 26, 31, 36, 38, 42, 45, 46),
        },
        _numbered("variant", 2, 4, 6, 7, 8, 9, 10, 11, 12, 14, 17, 18, 20, 21, 23, 24),
        (120, 145),
        {"beardProbability": 0, "hairAccessoriesProbability": 0, "glassesProbability": 8, "earringsProbability": 8},
    ),
    "adventurer": Style(
        "CC BY 4.0",
        '"Adventurer" by Lisa Wischofsky',
        {
            "long": _numbered("long", 1, 4, 5, 6, 7, 9, 17, 19, 21, 22, 24, 26),
            "short": _numbered("short", 1, 2, 4, 6, 7, 8, 9, 10, 11, 14, 16, 17),
            "tied": _numbered("long", 10, 11, 12, 13, 14, 15, 23),
        },
        _numbered("variant", 1, 2, 3, 4, 5, 9, 10, 11, 12, 14, 15, 16, 18, 23, 24, 25, 26),
        (105, 120),
        {"detailsProbability": 0, "glassesProbability": 8, "earringsProbability": 8},
    ),
    "pixel-art": Style(
        "CC0 1.0",
        '"Pixel Art" by DiceBear',
        {"long": _numbered("long", *range(1, 22)), "short": _numbered("short", *range(1, 25))},
        (),
        (100, 100),
        {"hatProbability": 0, "beardProbability": 0, "glassesProbability": 0},
    ),
}
_CHUNK = 50  # faces per task


@dataclass(frozen=True)
class Faces:
    """Draw labelled cartoon faces: OUT/images/*.png and OUT/tags.csv (id, tags: hair colour, length, eye colour).

    The art of lorelei and pixel-art is CC0; adventurer's is CC BY 4.0 and requires credit. OUT/LICENCE.txt has the
    terms, and packing records the licence in the dataset.
    """

    out: Path = argument("folder to create; must be empty if it exists")
    count: int = option(6000, "number of faces", minimum=1, maximum=10_000_000)
    size: int = option(32, "height and width in pixels", minimum=8, maximum=2048)
    seed: int = seed_option("random seed; the same seed gives the same bytes")
    style: str = option("lorelei", "drawing style", choices=tuple(STYLES))
    transparent: bool = option(False, "draw no background: PNGs with an alpha channel, to pack with --channels rgba")
    workers: int = option(0, "number of processes; 0: one per core", minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        validate(self)


def main(argv: Sequence[str]) -> None:
    """Run ``cgan faces``."""
    faces(parse(Faces, argv, command="cgan faces"))


def faces(options: Faces) -> None:
    """Draw the faces; OUT appears once it is complete.

    Raises:
        UserError: OUT is not empty, or the drawing libraries are not installed.
        Failure: a file cannot be written.
    """
    out = atomic_io.require_unused(options.out)
    _art(options.style)
    build = out.with_name(f".{out.name}.drawing")
    with atomic_io.explain_disk_errors(build):
        build.mkdir(parents=True, exist_ok=True)
    with file_lock.locked(
        build / "lock", f"{out}: another process is drawing into it; wait for it, or choose another OUT"
    ):
        data = build / "data"
        with atomic_io.explain_disk_errors(build):
            shutil.rmtree(data, ignore_errors=True)  # left by an interrupted run
            (data / "images").mkdir(parents=True)
        tags = _draw_all(options, data / "images")
        _write_notes(options, data, tags)
        os.sync()  # thousands of small files: one flush for all before the rename
        atomic_io.move_directory(data, out)
        shutil.rmtree(build, ignore_errors=True)
    what = f"{options.count:,} faces of {options.size} x {options.size} ({options.style}, seed {options.seed})"
    print(f"drew {what} into {out}")
    print(f"  art: {STYLES[options.style].credit}, {STYLES[options.style].licence}")


class _Chunk(NamedTuple):
    options: Faces
    folder: Path
    start: int
    stop: int


def _draw_all(options: Faces, folder: Path) -> list[str]:
    """Draw every face into a folder; return the tags of each, by number."""
    starts = range(0, options.count, _CHUNK)
    chunks = [_Chunk(options, folder, start, min(start + _CHUNK, options.count)) for start in starts]
    processes = min(options.workers or process_pool.available_cores(), len(chunks))
    tags = dict(process_pool.run(_draw_chunk, chunks, workers=processes, total=options.count, doing="drawing"))
    return [line for start in starts for line in tags[start]]


def _draw_chunk(chunk: _Chunk) -> tuple[int, list[str]]:
    lines = []
    for number in range(chunk.start, chunk.stop):
        image, tags = _draw(chunk.options, number)
        path = chunk.folder / f"{number:06d}.png"
        with atomic_io.explain_disk_errors(path):
            path.write_bytes(image)
        lines.append(tags)
        process_pool.advance()
    return chunk.start, lines


def _write_notes(options: Faces, data: Path, tags: list[str]) -> None:
    style = STYLES[options.style]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("id", "tags"))
    rows.writerows((f"{number:06d}", line) for number, line in enumerate(tags))
    atomic_io.write_bytes(data / "tags.csv", table.getvalue().encode())
    credit = f"{style.credit}, {style.licence}, drawn with DiceBear"
    atomic_io.write_bytes(data / "LICENCE.txt", f"The faces are made from {credit}.\n{_terms(style)}\n".encode())
    atomic_io.write_json(data / "source.json", {"pictures": credit, "licence": style.licence})


def _terms(style: Style) -> str:
    if style.licence == "CC0 1.0":
        return "No rights reserved: https://creativecommons.org/publicdomain/zero/1.0/"
    return (
        "Who passes them on must name the artist and the licence and say that they were changed (recoloured,\n"
        "cropped, combined): https://creativecommons.org/licenses/by/4.0/"
    )


# ---------------------------------------------------------------- one face


class _Draws:
    """Random draws for one face: the n-th is a hash of (seed, number, n)."""

    def __init__(self, seed: int, number: int) -> None:
        self.key, self.number, self.used = rng.key(seed, "faces"), number, 0

    def below(self, limit: int) -> int:
        self.used += 1
        return int(rng.below(limit, rng.bits(self.key, self.number, self.used)))

    def choice(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]


def _draw(options: Faces, number: int) -> tuple[bytes, str]:
    return draw(options.style, options.size, options.seed, number, options.transparent)


def draw(style: str, size: int, seed: int, number: int, transparent: bool = False) -> tuple[bytes, str]:
    """Draw one face.

    Args:
        style: one of `STYLES`.
        size: height and width in pixels.
        seed, number: identify the face.
        transparent: draw no background.

    Returns:
        (a PNG, RGB or, if transparent, RGBA; its tags, such as "blue hair, long hair, yellow eyes").
    """
    import resvg_py
    from dicebear import Avatar

    rules, draws = STYLES[style], _Draws(seed, number)
    colour, eyes, length = draws.choice(tuple(HAIR)), draws.choice(tuple(EYES)), draws.choice(tuple(rules.hair))
    settings: dict[str, Any] = {
        "seed": f"{seed} {number}",
        "hairProbability": 100,
        "hairVariant": draws.choice(rules.hair[length]),
        "hairColor": [HAIR[colour]],
        "eyesColor": [EYES[eyes]],
        "skinColor": [draws.choice(SKIN)],
        "scale": (rules.zoom[0] + draws.below(rules.zoom[1] - rules.zoom[0] + 1)) / 100,
        "translateX": draws.below(9) - 4,
        "translateY": draws.below(9) - 4,
        **rules.fixed,
    }
    if rules.eyes:
        settings["eyesVariant"] = draws.choice(rules.eyes)
    if draws.below(2):
        settings["flip"] = "horizontal"
    background = "#" + "".join(f"{170 + draws.below(86):02x}" for _ in range(3))
    behind = None if transparent else background
    svg = Avatar(_art(style), settings).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background=behind, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA" if transparent else "RGB")
    return images.encode(image, "png"), f"{colour} hair, {length} hair, {eyes} eyes"


@functools.cache
def _art(style: str) -> Any:
    """Return the art of a style, loaded once per process.

    Raises:
        UserError: the drawing libraries are not installed.
    """
    try:
        import resvg_py  # noqa: F401
        from dicebear import Style as Art

        text = resources.files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8")
    except ImportError as error:
        raise UserError(
            "package-missing",
            f"drawing faces needs the demo extra ({error.name} is not installed): pip install 'cgan-trainer[demo]'",
        ) from None
    return Art(json.loads(text))
