"""Options of the augmentation of what the discriminator sees."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Differentiable augmentation of real and generated images."""

    augment: str = option(
        "none",
        "augmentation of the discriminator's input (DiffAugment, ADA, or ADA's changes with probability --augment-p); "
        "reduces discriminator overfitting on small datasets",
        choices=("none", "diff", "ada", "ada-scheduled"),
    )
    augment_kinds: tuple[str, ...] = option(
        ("color", "translation", "cutout"),
        "transformations applied by --augment diff",
        choices=("color", "translation", "cutout"),
    )
    augment_p: float = option(
        1.0,
        "probability that --augment diff transforms an image, or of each change of ada-scheduled",
        minimum=0,
        maximum=1,
    )
    flip: bool = option(
        False, "let the augmentation mirror images horizontally; not for text, glyphs or left-right labels"
    )
    ada_target: float = option(
        0.6,
        "mean sign of the discriminator's logits on real images that ada aims for; lower values augment more",
        above=-1,
        maximum=1,
    )
    ada_speed: float = option(500_000, "images over which ada's probability can rise from 0 to 1", above=0)

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds, or an option has no effect with this --augment.
        """
        cli.validate(self)
        if self.augment == "diff" and not self.augment_kinds:
            raise UserError(
                "option-conflict",
                "--augment-kinds is empty with --augment diff; name at least one, or use --augment none",
            )
        if self.augment == "none" and self.flip:
            raise UserError(
                "option-without-effect",
                "--flip has no effect without augmentation; add --augment diff, ada or ada-scheduled",
            )
        if self.augment_p != 1:
            self.require_given_p("augment-p")

    def require_given_p(self, name: str) -> None:
        """Raise UserError if option ``name``, about a probability that is given, has no effect."""
        if self.augment in ("diff", "ada-scheduled"):
            return
        why = "ada adapts its own probability" if self.augment == "ada" else "there is no augmentation"
        raise UserError(
            "option-without-effect", f"--{name}: {why}; leave it out, or use --augment diff or ada-scheduled"
        )
