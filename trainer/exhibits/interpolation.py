"""Interpolation between noise vectors and between labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shards.dataset.label_rows import Labels


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate spherically between a (t = 0) and b (t = 1) (White 2016, arXiv 1609.04468).

    A straight line would pass through vectors much shorter than normal noise. Lengths are interpolated linearly.

    Args:
        a, b: (…, noise_size), no vector of them 0.
        t: in [0, 1].
    """
    lengths = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    one, other = a / lengths[0], b / lengths[1]
    angle = torch.arccos((one * other).sum(-1, keepdim=True).clamp(-1, 1))
    arc = (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)
    # Between collinear vectors (as all noise of size 1 is) the great circle is not determined.
    return torch.where(torch.sin(angle) < 1e-4, torch.lerp(a, b, t), torch.lerp(*lengths, t) * arc)


def interpolate_labels(a: Labels, b: Labels, t: float, widths: Sequence[int]) -> Labels:
    """Interpolate between the labels a (t = 0) and b (t = 1) such that their embeddings lie on a straight line.

    An embedding is linear in label · known and in known (see `trainer.networks.conditioning.LabelEmbedding`); both are
    interpolated linearly, also where only one of the two labels knows an attribute.

    Args:
        a, b: n labels each.
        t: in [0, 1].
        widths: entries of each attribute.

    Returns:
        n labels, whose masks are float32, in [0, 1].
    """

    def masked(labels: Labels) -> np.ndarray:
        return labels.label * np.repeat(labels.known, widths, axis=1)

    known = ((1 - t) * a.known + t * b.known).astype(np.float32)
    weighted = ((1 - t) * masked(a) + t * masked(b)).astype(np.float32)
    share = np.repeat(known, widths, axis=1)
    return Labels(np.divide(weighted, share, out=np.zeros_like(weighted), where=share > 0), known)
