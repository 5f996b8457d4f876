"""Generator and discriminator families, by name.

A family is a pair of plain torch modules that know nothing of files, ranks or trackers:
``G(z, label, known) -> pictures`` and ``D(pictures, label, known, rows) -> logits``, a classifier's scores behind each.
"""

from dataclasses import dataclass

from torch import nn

from trainer.networks.article import SIZE as ARTICLE_SIZE
from trainer.networks.article import ArticleDiscriminator, ArticleGenerator
from trainer.networks.conditioning import HEADS
from trainer.networks.discriminator import Discriminator
from trainer.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from trainer.networks.residual import ResidualDiscriminator, ResidualGenerator
from trainer.networks.spectral import normalise

FAMILIES = ("article", "residual", "r3gan")
CONDITIONINGS = tuple(HEADS)
_TOP_CHANNELS = (16, 32, 48, 64, 96, 128, 192, 256)  # from the full size down; what two CPU cores can carry


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What decides the shape of every weight.

    Args:
        family: one of `FAMILIES`.
        size: picture side in pixels.
        widths: entries of each label attribute; their sum is the label size L.
        noise: length of z.
        embedding: length of the label's embedding in the generator (families that embed it).
        channels: of each level from the base to the full size; () chooses by size.
        blocks: residual blocks of each level; None: 1 in residual, 2 in r3gan.
        expansion, group_width: of r3gan's bottlenecks.
        conditioning: how the label enters the discriminator, one of `CONDITIONINGS`; "auto" is the family's own,
            plane in article and projection elsewhere.
        spectral_norm: whether the discriminator's weights are spectrally normalised. Generators then end in a tanh, as
            published: the slope of such a discriminator does not fall off, and pictures could follow it without end.
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


def levels(size: int) -> int:
    """How many sizes lie between the base (4 or 6 pixels) and ``size``, both counted; 0 if it is no 3·2ⁿ or 4·2ⁿ."""
    for base in (4, 6):
        doublings = (size // base).bit_length() - 1
        if doublings >= 0 and base << doublings == size:
            return doublings + 1
    return 0


def build(architecture: Architecture) -> tuple[nn.Module, Discriminator]:
    """The generator and discriminator of an architecture, with fresh weights from torch's global generator.

    Raises:
        ValueError: the family does not do this size, or the channels do not fit it; the message says what would.
    """
    if architecture.family not in FAMILIES:
        raise ValueError(f"unknown family {architecture.family!r}; there are {', '.join(FAMILIES)}")
    generator, discriminator = _article(architecture) if architecture.family == "article" else _levelled(architecture)
    if architecture.spectral_norm:
        normalise(discriminator, spared=discriminator.plane)
    return generator, discriminator


def _article(a: Architecture) -> tuple[nn.Module, Discriminator]:
    if a.size != ARTICLE_SIZE:
        raise ValueError(
            f"the article's networks draw {ARTICLE_SIZE}x{ARTICLE_SIZE}, the pictures are {a.size}x{a.size}"
        )
    conditioning = "plane" if a.conditioning == "auto" else a.conditioning
    return ArticleGenerator(a.noise, a.widths), ArticleDiscriminator(a.widths, conditioning)


def _levelled(a: Architecture) -> tuple[nn.Module, Discriminator]:
    """The families that go from a base to the full size by doublings."""
    channels = _channels(a)
    conditioning = "projection" if a.conditioning == "auto" else a.conditioning
    if a.family == "residual":
        blocks = a.blocks or 1
        generator = ResidualGenerator(a.size, a.noise, a.widths, a.embedding, channels, blocks, bounded=a.spectral_norm)
        return generator, ResidualDiscriminator(a.size, a.widths, channels[::-1], conditioning, blocks)
    for c in channels:
        if c * a.expansion % a.group_width:
            raise ValueError(
                f"groups of {a.group_width} do not divide the {c * a.expansion} channels ({c} times {a.expansion}) "
                f"of a grouped convolution; choose another --group-width, or --channels that it divides"
            )
    shape = (a.blocks or 2, a.expansion, a.group_width)
    generator = R3GANGenerator(a.size, a.noise, a.widths, a.embedding, channels, *shape, bounded=a.spectral_norm)
    return generator, R3GANDiscriminator(a.size, a.widths, channels[::-1], conditioning, *shape)


def _channels(a: Architecture) -> tuple[int, ...]:
    count = levels(a.size)
    if not count:
        raise ValueError(f"{a.family} networks draw sizes 3·2ⁿ and 4·2ⁿ (32, 48, 64, 96, 128, …), not {a.size}")
    channels = a.channels or tuple(_TOP_CHANNELS[min(i, len(_TOP_CHANNELS) - 1)] for i in reversed(range(count)))
    if len(channels) != count:
        raise ValueError(f"{a.size}x{a.size} pictures have {count} levels, the channels name {len(channels)}")
    return channels
