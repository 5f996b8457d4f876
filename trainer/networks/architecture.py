"""The shape of both networks, and what it resolves to."""

from dataclasses import dataclass, replace

_LOWEST = range(4, 8)  # pixels of a base's longer side; of a square only 4 and 6 (`shards.dataset.image_shape`)
_SHORTEST = 2  # pixels of a base's shorter side
_TOP_CHANNELS = (16, 32, 48, 64, 96, 128, 192, 256)  # from the full size down; affordable on two CPU cores


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides the shape of the weights.

    Args:
        family: one of `FAMILIES`.
        size: longer side of the images in pixels.
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
        image_kernel: height and width, an odd number, of the convolutions from and to the image (levelled families).
        level_means: the discriminator's head also sees the mean over the image of what each level but the lowest
            detects (levelled families).
        image_channels: of the images: 3 for RGB, 4 for RGBA, 1 for grey.
        aspect: width and height of the images, in lowest terms.

    Raises:
        ValueError: images of this size and aspect do not have whole sides, or have another number of channels.
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
    image_kernel: int = 1
    level_means: bool = False
    image_channels: int = 3
    aspect: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.image_channels not in (1, 3, 4):
            raise ValueError(f"images have 1, 3 or 4 channels, not {self.image_channels}")
        if len(self.aspect) != 2 or self.size % max(self.aspect):
            raise ValueError(f"images of {self.size} pixels do not have an aspect of {self.aspect}")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        across, down = (self.size * part // max(self.aspect) for part in self.aspect)
        return down, across

    @property
    def base(self) -> tuple[int, int]:
        """Height and width of the lowest level; for an architecture whose channels are resolved."""
        height, width = (side >> (len(self.channels) - 1) for side in self.sides)
        return height, width

    @property
    def code(self) -> int:
        """The length of w = [z, e(y)]."""
        return self.noise + self.embedding


def levels(height: int, width: int) -> tuple[tuple[int, int], int] | None:
    """Return the base of images, as height and width, and how often it is doubled; None if they have no base.

    A base has 4 to 7 pixels along its longer side, and at least 2 along the other. Of squares only 4 and 6 are bases,
    so that their sizes are 3·2ⁿ and 4·2ⁿ.
    """
    doublings = 0
    while max(height, width) >= _LOWEST.stop and height % 2 == width % 2 == 0:
        height, width, doublings = height // 2, width // 2, doublings + 1
    odd_square = height == width and height % 2
    fits = max(height, width) in _LOWEST and min(height, width) >= _SHORTEST and not odd_square
    return ((height, width), doublings) if fits else None


def resolve_levels(a: Architecture, blocks: int) -> Architecture:
    """Return the architecture with its channels and blocks per level filled in.

    Args:
        a: an architecture of a levelled family.
        blocks: the family's default number of blocks per level.

    Raises:
        ValueError: the family does not support this size, or the channels do not match it.
    """
    height, width = a.sides
    found = levels(height, width)
    if found is None:
        raise ValueError(f"{a.family} networks support {_supported(a)}, not {width}x{height}")
    count = found[1] + 1
    channels = a.channels or tuple(_TOP_CHANNELS[min(i, len(_TOP_CHANNELS) - 1)] for i in reversed(range(count)))
    if len(channels) != count:
        raise ValueError(
            f"{width}x{height} images have {count} levels, but --channels names {len(channels)}; give {count} numbers "
            "or use another preset (one with --channels is for one size)"
        )
    return replace(a, channels=channels, blocks=a.blocks or blocks)


def _supported(a: Architecture) -> str:
    """Return which images of this aspect have a base, or which aspects have one if none of these has."""
    if a.aspect == (1, 1):
        return "sizes 3·2ⁿ and 4·2ⁿ (32, 48, 64, 96, 128, …)"
    across, down = a.aspect
    bases = [
        found[0]
        for times in range(1, _LOWEST.stop)
        if (found := levels(down * times, across * times)) is not None and found[1] == 0
    ]
    if not bases:
        return "aspects of two small numbers, such as 1:1, 2:3, 3:4, 4:5, 1:2 and 4:3"
    sizes = sorted({max(base) << n for base in bases for n in range(8)})
    listed = ", ".join(str(size) for size in sizes if 16 <= size <= 512)
    return f"images of {across}:{down} whose longer side is {listed}, …"
