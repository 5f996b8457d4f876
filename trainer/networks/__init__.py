"""Families of generators and discriminators, by name.

A family is a pair of plain torch modules that know nothing of files, ranks or trackers:
``G(z, label, known) -> images`` and ``D(images, label, known) -> logits``, each followed by class scores if D
classifies.
"""

from torch import nn

from trainer.networks.architecture import Architecture, levels, resolve_levels
from trainer.networks.article import PUBLISHED, ArticleDiscriminator, ArticleGenerator
from trainer.networks.article import SIZE as ARTICLE_SIZE
from trainer.networks.conditioning import CONDITIONINGS, Conditioning
from trainer.networks.discriminator import Discriminator
from trainer.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from trainer.networks.residual import ResidualDiscriminator, ResidualGenerator
from trainer.networks.spectral import normalize

# Family -> the conditioning that "auto" means.
FAMILIES = {"article": "plane", "residual": "projection", "r3gan": "projection"}

__all__ = ["CONDITIONINGS", "FAMILIES", "Architecture", "build", "conditioning_of", "levels"]


def conditioning_of(a: Architecture) -> Conditioning:
    """Return how the discriminator of an architecture uses the label."""
    return CONDITIONINGS[FAMILIES[a.family] if a.conditioning == "auto" else a.conditioning]


def build(a: Architecture) -> tuple[nn.Module, Discriminator]:
    """Build the generator and discriminator of an architecture, with initial weights from torch's global generator.

    Raises:
        ValueError: the family does not support this size, or the channels do not match it.
    """
    if a.family not in FAMILIES:
        raise ValueError(f"unknown family {a.family!r}; choose one of {', '.join(FAMILIES)}")
    conditioning = conditioning_of(a)
    if a.family == "article":
        generator, discriminator = _article(a, conditioning)
    elif a.family == "residual":
        a = resolve_levels(a, blocks=1)
        generator, discriminator = ResidualGenerator(a), ResidualDiscriminator(a, conditioning)
    else:
        a = resolve_levels(a, blocks=2)
        generator, discriminator = R3GANGenerator(a), R3GANDiscriminator(a, conditioning)
    if a.spectral_norm:
        normalize(discriminator, skip=discriminator.plane)
    return generator, discriminator


def _article(a: Architecture, conditioning: Conditioning) -> tuple[nn.Module, Discriminator]:
    if a.sides != (ARTICLE_SIZE, ARTICLE_SIZE):
        height, width = a.sides
        raise ValueError(
            f"the article's networks support {ARTICLE_SIZE}x{ARTICLE_SIZE}, but the images are {width}x{height}"
        )
    if a.image_channels != 3:
        raise ValueError(
            f"the article's networks support RGB images, but the images have {a.image_channels} channels; use "
            "--family residual or r3gan, or pack the images with --channels rgb"
        )
    if conditioning is CONDITIONINGS[FAMILIES[a.family]]:
        conditioning = PUBLISHED
    return ArticleGenerator(a.noise, a.widths), ArticleDiscriminator(a.widths, conditioning)
