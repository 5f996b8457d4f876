"""Interpolation between noise vectors and between labels."""

from __future__ import annotations

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate spherically between a (t = 0) and b (t = 1) (White 2016, arXiv 1609.04468).

    A straight line would pass through vectors much shorter than normal noise. Lengths are interpolated linearly.

    Args:
        a, b: (noise_size,), not 0.
        t: in [0, 1].
    """
    length = torch.lerp(a.norm(), b.norm(), t)
    one, other = a / a.norm(), b / b.norm()
    angle = torch.arccos((one @ other).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # collinear (as all noise of size 1 is): the great circle is not determined
        return torch.lerp(a, b, t)
    return length * (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)
