"""What every discriminator has in common: it looks at a picture once, and may score it against several labels."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainer.networks.conditioning import HEADS, LabelPlane
from trainer.networks.spectral import work_out_weights


class Discriminator(nn.Module):
    """A discriminator in two parts, h = features(x) and logit = score(h, y, known).

    A late-conditioned one runs its trunk once for a real picture that is scored against its own label and a wrong
    one; where the label enters early, as a plane of the picture, `features` is the identity. Every part treats
    the samples of a batch independently, so that one concatenated pass equals several: D(cat)[:B] == D(real).

    One with a classifier gives more than logits (M,): behind each logit, in (M, 1 + L), a score for every entry of the
    label. They come out of the one `forward` together, since that is what DDP reduces gradients for.
    """

    plane: nn.Module | None
    head: nn.Module

    def condition(self, conditioning: str, widths: tuple[int, ...], size: int, channels: int) -> None:
        """Make the parts that know the label; a subclass calls this once its trunk is there.

        Args:
            conditioning: one of `HEADS`.
            widths: entries of each label attribute.
            size: picture side.
            channels: c, length of the trunk's features.
        """
        self.plane = LabelPlane(widths, size) if conditioning == "plane" else None
        self.head = HEADS[conditioning](widths, channels)

    def trunk(self, x: Tensor) -> Tensor:
        """x (N, 3, S, S), or with a fourth plane -> (N, c)."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """x (N, 3, S, S) in [-1, 1] -> features with N rows."""
        return self.trunk(x) if self.plane is None else x

    def score(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h with M rows, label (M, L), known (M, A) -> logits (M,), or (M, 1 + L); positive means real and matching."""
        if self.plane is not None:
            h = self.trunk(torch.cat([h, self.plane(label, known).to(h.dtype)], 1))
        return self.head(h, label, known)

    def forward(self, x: Tensor, label: Tensor, known: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits of pictures under labels, or of pictures alone and beside them what a classifier makes of these.

        Args:
            x: pictures (N, 3, S, S) in [-1, 1].
            label: (M, L); known: (M, A).
            rows: int64 (M,), which picture each label is held against; without it M = N, one by one.

        Returns:
            (M,) logits; of a classifier (M, 1 + L), a logit and the scores of the label's entries.
        """
        with parametrize.cached():
            work_out_weights(self)
            h = self.features(x)
            return self.score(h if rows is None else h[rows], label, known)
