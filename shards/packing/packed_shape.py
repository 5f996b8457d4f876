"""The shape of packed images: its options, which shapes networks support, and what a source would lose."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shards.core.cli import option
from shards.core.errors import UserError
from shards.dataset.image_shape import CHANNELS, SQUARE, ImageShape, parse_aspect
from shards.dataset.images import ImageError, has_transparency

_LARGEST = 4096  # pixels of the longer side
_NEAR = 1.03  # ratio of two aspects that count as one
_MOST, _MANY = 0.9, 0.5  # fractions of a sample: of one aspect, with transparent pixels
_DECODED = 16  # images that are searched for transparent pixels


@dataclass(frozen=True, kw_only=True)
class ShapeOptions:
    """Channels and aspect of the images; all commands that make a dataset share them.

    None is the default, of which `hints` may advise against; what a person chose needs no advice.
    """

    channels: str | None = option(
        None, "rgb, rgba (keeps transparency), or grey (default: rgb)", choices=tuple(CHANNELS)
    )
    aspect: str | None = option(
        None, f"width:height of the images, such as 3:4; --size is their longer side (default: {SQUARE})"
    )


def check_shape(options: ShapeOptions, size: int | None, background: str) -> None:
    """Check the shape that is asked for, as far as it is known.

    Args:
        size: the longer side; None if it is not known yet.
        background: the option of that name.

    Raises:
        UserError: there is no such aspect or size, or the background would have no effect.
    """
    try:
        across, down = parse_aspect(aspect_of(options))
    except ValueError as error:
        raise UserError("invalid-value", f"--aspect: {error}") from None
    if options.channels == "rgba" and background != "white":
        raise UserError(
            "option-without-effect",
            f"--background {background}: images keep their transparency with --channels rgba; omit it",
        )
    if across == down:
        return
    aspect = f"{across}:{down}"
    if not trainable_sizes(aspect):
        raise UserError(
            "invalid-value",
            f"--aspect {options.aspect}: networks grow from a base of at most 7 pixels, which has no side in this "
            f"ratio; the nearest aspects are {' and '.join(nearest_aspects(across / down))}",
        )
    if size is not None and size not in trainable_sizes(aspect):
        near = " or ".join(f"--size {n} ({ImageShape.of(n, 3, aspect)})" for n in _neighbours(size, aspect))
        raise UserError("invalid-value", f"--size {size} --aspect {options.aspect}: networks do not support it; {near}")


def shape_of(options: ShapeOptions, size: int) -> ImageShape:
    """Return the shape of images whose longer side is ``size``; `check_shape` accepts it."""
    return ImageShape.of(size, channels_of(options), aspect_of(options))


def channels_of(options: ShapeOptions) -> str:
    """Return the channels: those that were chosen, or the default."""
    return options.channels or "rgb"


def aspect_of(options: ShapeOptions) -> str:
    """Return the aspect that was asked for, or that of a square."""
    return SQUARE if options.aspect is None else options.aspect


def plain_aspect(options: ShapeOptions) -> str:
    """Return the aspect in lowest terms."""
    return ":".join(map(str, parse_aspect(aspect_of(options))))


# ---------------------------------------------------------------- what networks support


@functools.cache
def trainable_sizes(aspect: str = SQUARE) -> tuple[int, ...]:
    """Return the sizes (longer sides) for which there are networks, of images of an aspect in lowest terms."""
    longer = max(parse_aspect(aspect))
    sizes = range(longer, _LARGEST + 1, longer)
    return tuple(size for size in sizes if ImageShape.of(size, 3, aspect).base)


def largest_trainable(size: int, aspect: str = SQUARE) -> int:
    """Return the largest supported size that is not larger than ``size``, or the smallest of all."""
    sizes = trainable_sizes(aspect)
    return max((n for n in sizes if n <= size), default=sizes[0])


def _neighbours(size: int, aspect: str) -> list[int]:
    sizes = trainable_sizes(aspect)
    return [*[n for n in sizes if n < size][-1:], *[n for n in sizes if n > size][:1]]


@functools.cache
def _aspects() -> tuple[str, ...]:
    sides = [(across, down) for across in range(2, 8) for down in range(2, 8)]
    shapes = [ImageShape(3, down, across) for across, down in sides if across != down]
    return tuple(dict.fromkeys(shape.aspect for shape in shapes if shape.base))


def nearest_aspects(ratio: float, count: int = 2) -> list[str]:
    """Return the aspects nearest to a ratio of width to height that networks support, without the square."""

    def distance(aspect: str) -> float:
        across, down = parse_aspect(aspect)
        return abs(math.log(across / down / ratio))

    return sorted(_aspects(), key=distance)[:count]


def advice(shape: ImageShape) -> str:
    """Return what to say about a shape that no network supports; "" if there are networks for it."""
    if shape.base:
        return ""
    near = " or ".join(f"--size {n}" for n in _neighbours(shape.size, shape.aspect))
    return f"images of {shape} cannot be trained on: networks support sizes such as 32, 48, 64, 96 and 128; set {near}"


# ---------------------------------------------------------------- what would be lost


def hints(samples: Sequence[bytes], sizes: Counter[tuple[int, int]], options: ShapeOptions) -> list[str]:
    """Return a sentence on what the images have that the default shape discards, where a person decided nothing.

    Args:
        samples: some encoded images.
        sizes: (width, height) → how many images of a sample have it.
        options: with the fit and background of `cgan pack`, if the command has them.
    """
    decided_aspect, decided_alpha = (getattr(options, name, None) is not None for name in ("fit", "background"))
    found = []
    decoded = samples[:: max(1, len(samples) // _DECODED)]
    if options.channels is None and not decided_alpha:
        clear = sum(map(_transparent, decoded))
        if clear > _MANY * len(decoded):
            found.append(f"{clear} of {len(decoded)} images have transparent pixels, which --channels rgba keeps")
    if options.aspect is None and not decided_aspect and (aspect := _common_aspect(sizes)):
        found.append(f"most images are about {aspect}, which --aspect {aspect} keeps")
    return [f"of a sample, {'; '.join(found)}"] if found else []


def _transparent(data: bytes) -> bool:
    try:
        return has_transparency(data)
    except ImageError:
        return False


def _common_aspect(sizes: Counter[tuple[int, int]]) -> str:
    """Return the supported aspect that most images have, or nearly; "" if they have several, or are square."""
    ratios = sorted(width / height for width, height in sizes.elements())
    if not ratios:
        return ""
    middle = ratios[len(ratios) // 2]
    alike = sum(1 / _NEAR <= ratio / middle <= _NEAR for ratio in ratios)
    aspect = nearest_aspects(middle)[0]
    across, down = parse_aspect(aspect)
    nearer = abs(math.log(across / down / middle)) < abs(math.log(middle))  # than the square
    return aspect if nearer and alike >= _MOST * len(ratios) else ""
