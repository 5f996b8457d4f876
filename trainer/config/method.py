"""Options of the training method: the loss, its terms and their weights."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option
from shards.stream.wrong_labels import WRONG_LABELS
from trainer.config.registries import registry_keys

# The names in `trainer.losses.LOSSES` that --updates joint supports, without torch.
JOINT_LOSSES = ("matching-aware", "relativistic")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The adversarial loss and everything that is added to it."""

    classifier_weight: float = option(
        1.0, "weight of the classification loss of both networks (with --conditioning classifier)", minimum=0
    )
    label_loss: float = option(
        0.0,
        "weight of the cross-entropy of real images' labels under the projection head's embedding, for the "
        "discriminator alone; 0: off",
        minimum=0,
    )
    pseudo_labels: float = option(
        0.0,
        "probability from which a value that the discriminator recognizes stands in for an unknown one, such as 0.95 "
        "(with --label-loss or a classifier); 0: off",
        minimum=0,
        maximum=1,
    )
    loss: str = option(
        "relativistic",
        "adversarial loss; matching-aware is the non-saturating logistic loss",
        choices=registry_keys("losses.py", "LOSSES"),
    )
    mismatch: str = option(
        "real",
        "images that the discriminator learns to reject under a wrong label",
        choices=("real", "generated", "none"),
    )
    wrong: str = option(
        "sample",
        "sample: a wrong label is that of another image; hard: the true label with few attributes swapped",
        choices=WRONG_LABELS,
    )
    mismatch_weight: float = option(1.0, "weight of the --mismatch term in the discriminator's loss", minimum=0)
    interpolate: float = option(
        0.0,
        "weight of the generator's loss on labels half way between a true and a wrong one (GAN-INT); 0: off",
        minimum=0,
    )
    mode_seeking: float = option(
        0.0, "weight of a term by which the generator draws different images of one label; 0: off", minimum=0
    )
    gamma: float = option(1.0, "weight of the R1 and R2 gradient penalties; 0: off", minimum=0)
    d_steps: int = option(1, "discriminator updates per generator update", minimum=1)
    updates: str = option(
        "alternating",
        "alternating: the discriminator's update, then the generator's; joint: both from one pass through each network",
        choices=("alternating", "joint"),
    )
    penalty_every: int = option(16, "apply the penalty every N steps, scaled by N (lazy regularization)", minimum=1)

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds.
        """
        cli.validate(self)
