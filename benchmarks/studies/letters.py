"""Draw a dataset that shows no faces: letters of many fonts, labelled by letter, weight, slant and ink.

    npm pack @fontsource/lato@5.3.0 @fontsource/lora@5.3.0 …
    python benchmarks/studies/letters.py letters fontsource-*.tgz
    cgan pack letters data/letters --size 32

Fonts are read from the npm packages of Fontsource. Each font draws every capital letter twice, regular and bold,
upright and italic as far as the package has them, in an ink, on a paper and at a place that are drawn at random.
"""

from __future__ import annotations

import csv
import io
import itertools
import random
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image, ImageDraw, ImageFont

from shards.core import atomic_io, cli
from shards.core.cli import argument, option
from shards.core.errors import UserError, exit_status

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
INKS = {
    "black": "#111111",
    "red": "#c62828",
    "blue": "#1e4fd0",
    "green": "#2e7d32",
    "orange": "#ef7d00",
    "purple": "#7b1fa2",
}
PAPERS = ("#ffffff", "#fbf3dc", "#e8eef7", "#f2e6e9")
WEIGHTS = {"400": "regular", "700": "bold"}
SLANTS = {"normal": "upright", "italic": "italic"}
_FONT = re.compile(r"files/[\w-]+?-latin-(400|700)-(normal|italic)\.woff$")
_LARGE = 4  # times the size of the images, in which letters are drawn


class Font(NamedTuple):
    """A font of a package."""

    font: ImageFont.FreeTypeFont
    weight: str
    slant: str


@dataclass(frozen=True)
class LetterOptions:
    """Draw letters in the fonts of npm packages, with a table of their labels."""

    out: Path = argument("new folder for the images and letters.csv")
    packages: tuple[str, ...] = argument("packages of @fontsource, as `npm pack` saves them")
    size: int = option(32, "height and width of the images in pixels", minimum=8)
    seed: int = option(0, "determines ink, paper and place of each letter")


def fonts(package: Path, height: int) -> Iterator[Font]:
    """Yield the Latin fonts of a package, for images ``height`` pixels high, in the order of its files.

    Raises:
        UserError: it cannot be read, or has none.
    """
    found = False
    try:
        with tarfile.open(package) as archive:
            for member in archive.getmembers():
                if (name := _FONT.search(member.name)) and (file := archive.extractfile(member)):
                    found = True
                    font = ImageFont.truetype(io.BytesIO(file.read()), 3 * height // 4)
                    yield Font(font, WEIGHTS[name[1]], SLANTS[name[2]])
    except (OSError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError("file-unreadable", f"{package}: cannot be read as a package of fonts ({reason})") from None
    if not found:
        raise UserError("file-unreadable", f"{package}: has no Latin font; give packages of @fontsource")


def draw(options: LetterOptions, found: Sequence[Font]) -> int:
    """Draw all letters in each font, write their table, and return how many there are."""
    images = options.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    chance, large = random.Random(options.seed), _LARGE * options.size
    with (options.out / "letters.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "letter", "weight", "slant", "ink"])
        for number, (font, letter, _) in enumerate(itertools.product(found, LETTERS, range(2))):
            ink = chance.choice(list(INKS))
            image = Image.new("RGB", (large, large), chance.choice(PAPERS))
            x, y = (large // 2 + chance.randint(-large // 32, large // 32) for _ in "xy")
            ImageDraw.Draw(image).text((x, y), letter, INKS[ink], font.font, anchor="mm")
            name = f"images/{number:05d}.png"
            image.resize((options.size, options.size), Image.Resampling.LANCZOS).save(options.out / name)
            table.writerow([name, letter, font.weight, font.slant, ink])
    return 2 * len(LETTERS) * len(found)


def main(argv: Sequence[str]) -> None:
    """Draw, and say what was drawn."""
    options = cli.parse(LetterOptions, argv, command="python benchmarks/studies/letters.py")
    atomic_io.require_unused(options.out)
    found = [font for package in sorted(options.packages) for font in fonts(Path(package), _LARGE * options.size)]
    print(f"drew {draw(options, found):,} letters of {options.size} x {options.size} into {options.out}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
