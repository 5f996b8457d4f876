"""Options of the networks' architecture."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError

# The names in `trainer.networks.conditioning.CONDITIONINGS`, without torch, those with an auxiliary classifier, and
# those with a vector for each label entry.
CONDITIONINGS = ("projection", "concatenation", "plane", "classifier")
CLASSIFYING = ("classifier",)
EMBEDDING_ENTRIES = ("projection",)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Family and size of the generator and discriminator."""

    family: str = option("r3gan", "architecture of both networks", choices=("residual", "r3gan", "article"))
    noise_size: int = option(64, "length of the noise vector z", minimum=1)
    label_size: int = option(64, "length of the generator's label embedding (not used by article)", minimum=1)
    channels: tuple[int, ...] = option(
        (),
        "channels per resolution level, from the base (4x4, 6x6, 4x3, …) upwards (default: chosen by image size)",
        minimum=1,
    )
    blocks: int | None = option(None, "residual blocks per level (default: 1 for residual, 2 for r3gan)", minimum=1)
    expansion: int = option(2, "width of r3gan's grouped convolutions as a multiple of the level's channels", minimum=1)
    group_width: int = option(16, "channels per group in r3gan's grouped convolutions", minimum=1)
    resize: str = option(
        "average",
        "how residual changes the size between levels: by averages of neighbors, or by r3gan's [1, 2, 1] filter",
        choices=("average", "filter"),
    )
    image_kernel: int = option(
        1,
        "height and width of the convolutions from and to the image, an odd number; 3 avoids patterns that repeat "
        "every second pixel",
        minimum=1,
        maximum=7,
    )
    modulation: bool = option(
        False, "let noise and label scale and shift the channels of every block of the generator, not only its start"
    )
    level_means: bool = option(
        False,
        "let the discriminator's head also see the mean over the image of what each level detects, not only the lowest "
        "level",
    )
    conditioning: str = option(
        "auto",
        "how the discriminator uses the label: projection or concatenation of image features, plane (extra image "
        "channels), or classifier (an auxiliary head predicts it); auto: plane for article, projection otherwise",
        choices=("auto", *CONDITIONINGS),
    )
    spectral_norm: bool = option(
        False, "apply spectral normalization to the discriminator; the generator then ends in a tanh"
    )

    @property
    def resolved_conditioning(self) -> str:
        """The conditioning, with "auto" resolved."""
        if self.conditioning != "auto":
            return self.conditioning
        return "plane" if self.family == "article" else "projection"

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds, or the family does not use an option that was set.
        """
        cli.validate(self)
        if self.image_kernel % 2 == 0:
            raise UserError(
                "invalid-value",
                f"--image-kernel {self.image_kernel}: only odd kernels keep the size of an image; use 1 or 3",
            )
        if self.family == "article":
            for name, value, fixed in (
                ("channels", self.channels, "fixed channels"),
                ("blocks", self.blocks, "no residual blocks"),
                ("modulation", self.modulation, "no residual blocks"),
                ("level_means", self.level_means, "no levels"),
                ("image_kernel", self.image_kernel != NetworkConfig.image_kernel, "fixed kernels"),
            ):
                if value:
                    raise UserError(
                        "option-without-effect",
                        f"{cli.flag(name)}: the article networks have {fixed}; leave it out, or use --family residual",
                    )
        if self.family != "residual" and self.resize != "average":
            raise UserError(
                "option-without-effect",
                f"--resize {self.resize}: r3gan always filters and article never does; leave it out, or use "
                "--family residual",
            )
        for name in ("expansion", "group_width"):
            if self.family != "r3gan" and getattr(self, name) != getattr(NetworkConfig, name):
                raise UserError(
                    "option-without-effect",
                    f"{cli.flag(name)}: only r3gan has grouped convolutions; leave it out, or use --family r3gan",
                )
