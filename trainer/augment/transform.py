"""The augmentation of a run: its options, and its probability, which may change between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trainer.augment import augment
from trainer.augment.adaptive import AdaptiveProbability


@dataclass
class Transform:
    """T: applies the same kind of augmentation to every image that D sees.

    Attributes:
        seed: the run's seed.
        policy: "ada", or the transformations of DiffAugment to apply.
        flip: mirror images horizontally, too.
        p: probability, which a schedule may set before each step; not used if it is adaptive.
        adaptive: ADA's probability; None: ``p`` is used.
    """

    seed: int
    policy: str | tuple[str, ...]
    flip: bool
    p: float = 1.0
    adaptive: AdaptiveProbability | None = None

    def __call__(self, images: Tensor, purposes: Sequence[str], positions: Tensor) -> Tensor:
        """Transform a batch for each purpose, (P·B, 3, S, S), at int64 positions (B,) of the stream; see `augment`."""
        p = self.p if self.adaptive is None else self.adaptive.p
        return augment(images, self.seed, purposes, positions, policy=self.policy, p=p, flip=self.flip)
