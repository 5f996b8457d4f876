"""Generate images from labels and noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from shards.dataset.label_rows import Labels
from shards.dataset.transparency import hide_colours

FEW = 64  # images, up to which they are generated in passes of one shape
PASS = 8  # images of such a pass

_CHUNK = 128  # images per forward pass


@torch.no_grad()
def generate_images(generator: nn.Module, z: Tensor, labels: Labels, per_pass: int | None = None) -> np.ndarray:
    """Generate one image per label.

    Kernels are chosen by the shape of a batch, and each rounds in its own way, which now and then changes a pixel by 1.
    Passes of one shape give an image the same pixels whichever images are generated with it.

    Args:
        generator: in eval mode.
        z: noise (n, noise_size), on the generator's device.
        labels: n label vectors with their masks.
        per_pass: images of every pass; the last one is filled up with copies (default: up to 128, and no copies).

    Returns:
        uint8 (n, C, H, W). With alpha it is straight, and transparent pixels are black, as in a dataset.
    """
    device, dtype = z.device, next(generator.parameters()).dtype
    label = torch.from_numpy(np.ascontiguousarray(labels.label, np.float32)).to(device, dtype)
    known = torch.from_numpy(np.ascontiguousarray(labels.known, np.float32)).to(device, dtype)
    chunks = []
    for rows in torch.arange(len(z), device=device).split(per_pass or _CHUNK):
        filled = rows if per_pass is None else rows[torch.arange(per_pass, device=device) % len(rows)]
        x = generator(z[filled].to(dtype), label[filled], known[filled])[: len(rows)]
        chunks.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    images = torch.cat(chunks).contiguous().numpy()
    if images.shape[1] == 4:
        hide_colours(images.transpose(0, 2, 3, 1))
    return images
