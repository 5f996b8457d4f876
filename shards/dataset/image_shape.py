"""The shape of a dataset's images: channels, height and width, and how users write it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.core.errors import UserError

CHANNELS = {"rgb": 3, "rgba": 4, "grey": 1}  # by the names that options take
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's modes, by the number of channels
SQUARE = "1:1"
LARGEST_SIZE = 1 << 14  # pixels of the longer side in a manifest; what says more is not allocated

_BASES = range(4, 8)  # pixels of the longer side, doubled level by level; of a square only the even ones
_SHORTEST = 2  # pixels of the shorter side of a base


@dataclass(frozen=True)
class ImageShape:
    """The shape of every image of a dataset.

    Attributes:
        channels: 3 for RGB, 4 for RGBA (straight alpha), 1 for grey.
        height, width: in pixels.
    """

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, size: int, channels: str | int = 3, aspect: str = SQUARE) -> ImageShape:
        """Return the shape of images whose longer side is ``size``.

        Args:
            size: the longer side, in pixels.
            channels: a name of `CHANNELS`, or a number of channels.
            aspect: width:height, such as 3:4.

        Raises:
            ValueError: the aspect is malformed, or its shorter side is not a whole number of pixels.
        """
        across, down = parse_aspect(aspect)
        longer = max(across, down)
        if size % longer:
            raise ValueError(f"{aspect} images of {size} pixels do not have whole sides")
        number = CHANNELS[channels] if isinstance(channels, str) else channels
        return cls(number, size * down // longer, size * across // longer)

    @classmethod
    def of_pixels(cls, pixels: np.ndarray) -> ImageShape:
        """Return the shape of an image from its pixels, (H, W, C)."""
        height, width, channels = pixels.shape
        return cls(channels, height, width)

    @property
    def size(self) -> int:
        """The longer side, in pixels."""
        return max(self.height, self.width)

    @property
    def aspect(self) -> str:
        """Width:height in lowest terms, such as 3:4."""
        common = math.gcd(self.width, self.height)
        return f"{self.width // common}:{self.height // common}"

    @property
    def base(self) -> tuple[int, int] | None:
        """Height and width of the lowest level of networks for this shape; None if no networks support it.

        The sides are the base's, doubled n times. The longer side of a base has 4 to 7 pixels (of a square: 4 or 6),
        and the shorter one at least 2.
        """
        height, width = self.height, self.width
        while max(height, width) >= _BASES.stop and height % 2 == width % 2 == 0:
            height, width = height // 2, width // 2
        odd_square = height == width and height % 2
        fits = max(height, width) in _BASES and min(height, width) >= _SHORTEST and not odd_square
        return (height, width) if fits else None

    @property
    def pixels_shape(self) -> tuple[int, int, int]:
        """(height, width, channels): the memory layout of an image's pixels."""
        return self.height, self.width, self.channels

    @property
    def nbytes(self) -> int:
        """Bytes of an image's pixels."""
        return math.prod(self.pixels_shape)

    @property
    def mode(self) -> str:
        """Pillow's mode of these images."""
        return MODES[self.channels]

    @property
    def kind(self) -> str:
        """Suffix of the sides in messages: nothing for RGB, " grey" or " RGBA"."""
        return {1: " grey", 4: " RGBA"}.get(self.channels, "")

    def describe(self) -> str:
        """Return the shape for people, such as "64x64", "48x64 RGBA" or "32x32 grey"."""
        return f"{self.width}x{self.height}{self.kind}"

    @property
    def manifest_fields(self) -> dict[str, Any]:
        """The shape's fields in a manifest, see `manifest_shape`."""
        fields: dict[str, Any] = {"picture_size": self.size}
        if self.channels != CHANNELS["rgb"]:
            fields["channels"] = self.channels
        if self.aspect != SQUARE:
            fields["aspect"] = self.aspect
        return fields

    def scaled(self, size: int) -> ImageShape:
        """Return the nearest shape whose longer side is ``size``, for showing such images at that size."""
        height, width = (max(1, round(side * size / self.size)) for side in (self.height, self.width))
        return ImageShape(self.channels, height, width)

    def __str__(self) -> str:
        """Return the sides as messages name them: width x height."""
        return f"{self.width} x {self.height}"


def parse_aspect(aspect: str) -> tuple[int, int]:
    """Return (width, height) of an aspect in lowest terms.

    Raises:
        ValueError: it is not two whole numbers above 0, like 3:4.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", aspect)
    if not found:
        raise ValueError(f"{aspect!r} is not width:height, like 3:4")
    width, height = int(found[1]), int(found[2])
    common = math.gcd(width, height)
    return width // common, height // common


def manifest_shape(manifest: dict[str, Any], where: str) -> ImageShape:
    """Return the shape of the images according to a manifest; ``channels`` and ``aspect`` are absent for square RGB.

    Raises:
        UserError: a field is not valid, or the images are implausibly large.
    """
    size, channels, aspect = manifest["picture_size"], manifest.get("channels", 3), manifest.get("aspect", SQUARE)
    if size > LARGEST_SIZE:
        raise UserError(
            "manifest-invalid", f"{where}: picture_size {size} is implausible: at most {LARGEST_SIZE} pixels"
        )
    if type(channels) is not int or channels not in MODES:
        raise UserError("manifest-invalid", f"{where}: channels must be 1, 3 or 4, not {str(channels)[:60]!r}")
    try:
        return ImageShape.of(size, channels, str(aspect)[:60])
    except ValueError as error:
        raise UserError("manifest-invalid", f"{where}: {error}; pack the dataset again") from None
