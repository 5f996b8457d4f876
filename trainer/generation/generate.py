"""Generate images from labels and noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from shards.dataset.label_rows import Labels
from shards.dataset.transparency import hide_colours

_CHUNK = 128  # images per forward pass


@torch.no_grad()
def generate_images(generator: nn.Module, z: Tensor, labels: Labels) -> np.ndarray:
    """Generate one image per label.

    Args:
        generator: in eval mode.
        z: noise (n, noise_size), on the generator's device.
        labels: n label vectors with their masks.

    Returns:
        uint8 (n, C, H, W). With alpha it is straight, and transparent pixels are black, as in a dataset.
    """
    device, dtype = z.device, next(generator.parameters()).dtype
    label = torch.from_numpy(np.ascontiguousarray(labels.label, np.float32)).to(device, dtype)
    known = torch.from_numpy(np.ascontiguousarray(labels.known, np.float32)).to(device, dtype)
    chunks = []
    for rows in torch.arange(len(z), device=device).split(_CHUNK):
        x = generator(z[rows].to(dtype), label[rows], known[rows])
        chunks.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    images = torch.cat(chunks).contiguous().numpy()
    if images.shape[1] == 4:
        hide_colours(images.transpose(0, 2, 3, 1))
    return images
