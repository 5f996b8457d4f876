"""Which size of networks and batches suits the time of a run.

What is known comes from presets: `MEASURED` names those whose networks, batch and number of images were chosen
together, by whole runs, and the size of the images. The rule says what to do with another amount of time:

- A run in which the preset's own size sees from a 24th to four times the preset's images keeps that size.
- With less time, updates count: half of the channels, if that makes at least a quarter more updates in the same time.
- With more time, half again the channels and batches twice as large, if such a run still sees the preset's images.

The smaller size was measured at 32 pixels: it loses in the time of a sixth of the preset's images, and is about as good
in that of a 24th (docs/benchmarks.md, short runs). That a wider network is better in a long run is an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED = {"faces32": 32, "faces64": 64, "faces96": 96}  # preset -> longer side of the images in pixels

SHORT, LONG = 1 / 24, 4.0  # of the preset's images: less, or more, is time for another size
MORE_UPDATES = 1.25  # that a smaller size must make

_NARROWER, _WIDER = 0.5, 1.5  # times the channels


@dataclass(frozen=True)
class Size:
    """The size of a run.

    Attributes:
        channels: per level, from the base upwards.
        batch: images of a step.
    """

    channels: tuple[int, ...]
    batch: int


def candidate(own: Size, images: float, usual: int, multiple: int) -> Size | None:
    """Return the size to compare a preset's own one with; None if there is none, and the preset's is kept.

    Args:
        own: the preset's size.
        images: that a run of this size would see.
        usual: images of the preset.
        multiple: of which channels must be one.
    """
    if images < SHORT * usual:
        return Size(_scaled(own.channels, _NARROWER, multiple), own.batch)
    if images > LONG * usual:
        return Size(_scaled(own.channels, _WIDER, multiple), 2 * own.batch)
    return None


def is_better(own: Size, own_images: float, other: Size, other_images: float, usual: int) -> bool:
    """Return whether another size is better than a preset's own one, for runs that would see so many images.

    Args:
        own: the preset's size.
        own_images: that a run of this size would see.
        other: another size, from `candidate`.
        other_images: that a run of that size would see.
        usual: images of the preset.
    """
    if other.batch > own.batch or other.channels > own.channels:
        return own_images > LONG * usual and other_images >= usual
    return own_images < SHORT * usual and other_images >= MORE_UPDATES * own_images


def _scaled(channels: tuple[int, ...], factor: float, multiple: int) -> tuple[int, ...]:
    """Return channels times a factor, rounded to a multiple; halves are rounded up."""
    return tuple(multiple * max(1, int(c * factor / multiple + 0.5)) for c in channels)
