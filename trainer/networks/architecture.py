"""The shape of both networks, and what it resolves to."""

from dataclasses import dataclass, replace

_TOP_CHANNELS = (16, 32, 48, 64, 96, 128, 192, 256)  # from the full size down; affordable on two CPU cores


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides the shape of the weights.

    Args:
        family: one of `FAMILIES`.
        size: side of the images in pixels.
        widths: entries of each label attribute; their sum is the label size L.
        noise: length of z.
        embedding: length of the label's embedding in the generator (levelled families only).
        channels: channels per level, from the base to the full size; (): chosen by size.
        blocks: residual blocks per level; None: the family's default.
        expansion, group_width: shape of r3gan's bottlenecks.
        resize: how the residual networks change the size between levels: "average", bilinear in the generator and an
            average pooling in the discriminator, or "filter", r3gan's [1, 2, 1] filter.
        conditioning: how the discriminator uses the label, one of `CONDITIONINGS`; "auto": the family's default.
        spectral_norm: normalize the discriminator's weights spectrally. Generators then end in a tanh, as published:
            the slope of such a discriminator does not decrease, and unbounded images would follow it without end.
        modulation: noise and label scale and shift the channels of every block of the generator (levelled families).
    """

    family: str
    size: int
    widths: tuple[int, ...]
    noise: int
    embedding: int
    channels: tuple[int, ...] = ()
    blocks: int | None = None
    expansion: int = 2
    group_width: int = 16
    conditioning: str = "auto"
    spectral_norm: bool = False
    modulation: bool = False
    resize: str = "average"

    @property
    def base(self) -> int:
        """The side of the lowest level, 4 or 6 pixels; for an architecture whose channels are resolved."""
        return self.size >> (len(self.channels) - 1)

    @property
    def code(self) -> int:
        """The length of w = [z, e(y)]."""
        return self.noise + self.embedding


def levels(size: int) -> int:
    """Return the number of sizes from the base (4 or 6 pixels) to ``size``, inclusive; 0 if it is not 3·2ⁿ or 4·2ⁿ."""
    for base in (4, 6):
        doublings = (size // base).bit_length() - 1
        if doublings >= 0 and base << doublings == size:
            return doublings + 1
    return 0


def resolve_levels(a: Architecture, blocks: int) -> Architecture:
    """Return the architecture with its channels and blocks per level filled in.

    Args:
        a: an architecture of a levelled family.
        blocks: the family's default number of blocks per level.

    Raises:
        ValueError: the family does not support this size, or the channels do not match it.
    """
    count = levels(a.size)
    if not count:
        raise ValueError(f"{a.family} networks support sizes 3·2ⁿ and 4·2ⁿ (32, 48, 64, 96, 128, …), not {a.size}")
    channels = a.channels or tuple(_TOP_CHANNELS[min(i, len(_TOP_CHANNELS) - 1)] for i in reversed(range(count)))
    if len(channels) != count:
        raise ValueError(
            f"{a.size}x{a.size} images have {count} levels, but --channels names {len(channels)}; give {count} numbers "
            "or use another preset (one with --channels is for one size)"
        )
    return replace(a, channels=channels, blocks=a.blocks or blocks)
