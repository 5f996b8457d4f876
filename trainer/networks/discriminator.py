"""The base class of all discriminators: features of an image, scored under one or more labels."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainer.networks.conditioning import Conditioning
from trainer.networks.spectral import evaluate_normalized_weights


class Discriminator(nn.Module):
    """A discriminator in two parts: h = features(x) and logit = score(h, y, known).

    With a late conditioning, the trunk runs once for a real image that is scored under its own label and a wrong one.
    With an early conditioning the trunk needs the label: `features` is the identity, and `score` runs the trunk. Every
    part treats the samples of a batch independently, so one concatenated pass equals several: D(cat)[:B] == D(real).

    One that classifies, or whose head scores labels, returns (M, 1 + L) in place of logits (M,): behind each logit, a
    score for every label entry. Both come out of one `forward`, as DDP reduces the gradients of a single forward pass.

    Attributes:
        conditioning: how the label is used.
        plane: the module that puts the label into the image; None with a late conditioning. (The name is that of saved
            weights.)
        head: the module that scores features.
    """

    conditioning: Conditioning
    plane: nn.Module | None
    head: nn.Module
    _frozen: Sequence[nn.Module] = ()

    def trunk_levels(self) -> list[list[nn.Module]]:
        """Return the modules of each level of the trunk, from the image on; what ends the trunk is in none of them."""
        raise NotImplementedError

    def freeze(self, count: int) -> None:
        """Freeze the first ``count`` levels of the trunk for good (FreezeD: Mo et al. 2020, arXiv 2002.10964).

        What they compute never changes: they get no gradients, and the power iterations of spectral normalization stop.

        Raises:
            ValueError: there are fewer levels.
        """
        levels = self.trunk_levels()
        if count > len(levels):
            raise ValueError(f"this discriminator has {len(levels)} levels that can be frozen, and not {count}")
        self._frozen = [module for level in levels[:count] for module in level]
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules that are not frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def condition(
        self, conditioning: Conditioning, widths: tuple[int, ...], sides: tuple[int, int], channels: int
    ) -> None:
        """Build the modules that use the label; a subclass calls this after it has built its trunk.

        Args:
            conditioning: one of `CONDITIONINGS`.
            widths: entries of each label attribute.
            sides: height and width of the images.
            channels: c, length of the trunk's feature vector.
        """
        self.conditioning = conditioning
        self.plane = conditioning.early(widths, sides) if conditioning.early is not None else None
        self.head = conditioning.head(widths, channels)

    def score_labels(self) -> None:
        """From now on, return the scores of the label entries behind each logit.

        Raises:
            ValueError: this conditioning has no vector for each label entry.
        """
        if not self.conditioning.embeds_entries:
            raise ValueError("this conditioning has no vector for each label entry; use projection")
        self.head.scores_labels = True  # type: ignore[assignment]

    def trunk(self, x: Tensor) -> Tensor:
        """Map x (N, image channels + conditioning.planes, H, W) to features (N, c)."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) in [-1, 1] to features with N rows."""
        return self.trunk(x) if self.plane is None else x

    def score(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map M rows of features, label (M, L) and known (M, A) to (M,) or (M, 1 + L); positive: real and matching."""
        if self.plane is not None:
            h = self.trunk(self.plane(h, label, known))
        return self.head(h, label, known)

    def forward(self, x: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Score images under labels.

        Args:
            x: images (N, C, H, W) in [-1, 1].
            label: (M, L), N ≤ M ≤ 2N; label m is scored with image m, or m - N if there are more labels than images.
            known: (M, A).

        Returns:
            Logits (M,); if labels are scored (M, 1 + L), the logit and the scores of the label entries.
        """
        with parametrize.cached():
            evaluate_normalized_weights(self)
            h = self.features(x)
            second = h[: len(label) - len(h)]  # not `h[rows]`, whose gradient is a sort and a scattering
            return self.score(torch.cat([h, second]) if len(second) else h, label, known)
