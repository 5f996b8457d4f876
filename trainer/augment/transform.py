"""The augmentation of a run: its options, and its probability, which may change between steps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.augment import Policy, augment, numbers_of
from trainer.augment.adaptive import AdaptiveProbability
from trainer.augment.draws import Draws


@dataclass
class Transform:
    """T: applies the same kind of augmentation to every image that D sees.

    Attributes:
        policy: "ada", or the transformations of DiffAugment to apply.
        flip: mirror images horizontally, too.
        p: probability, which a schedule may set before each step; not used if it is adaptive.
        adaptive: ADA's probability; None: ``p`` is used.
    """

    policy: Policy
    flip: bool
    p: float = 1.0
    adaptive: AdaptiveProbability | None = None

    @property
    def numbers(self) -> tuple[int, int]:
        """How many uniform and how many normal numbers an image takes."""
        return numbers_of(self.policy)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Transform a batch for each purpose of the draws, (P·B, C, H, W); see `augment`."""
        p = self.p if self.adaptive is None else self.adaptive.p
        return augment(images, draws, policy=self.policy, p=p, flip=self.flip)
