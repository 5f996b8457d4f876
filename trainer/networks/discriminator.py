"""What every discriminator has in common: it looks at a picture once, and may score it against several labels."""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """A discriminator in two parts, h = features(x) and logit = score(h, y, known).

    Late-conditioned families run the trunk once for a real picture that is scored against its own label
    and a wrong one; families that mix the label in early make `features` the identity. Every part treats
    the samples of a batch independently, so that one concatenated pass equals several: D(cat)[:B] == D(real).
    """

    def features(self, x: Tensor) -> Tensor:
        """x (N, 3, S, S) in [-1, 1] -> features with N rows."""
        raise NotImplementedError

    def score(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h with M rows, label (M, L), known (M, A) -> logits (M,); positive means real and matching."""
        raise NotImplementedError

    def forward(self, x: Tensor, label: Tensor, known: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits of pictures under labels.

        Args:
            x: pictures (N, 3, S, S) in [-1, 1].
            label: (M, L); known: (M, A).
            rows: int64 (M,), which picture each label is held against; without it M = N, one by one.

        Returns:
            (M,) logits.
        """
        h = self.features(x)
        return self.score(h if rows is None else h[rows], label, known)
