"""The image to invert, as a generator's own images are shaped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import ImageError, pixels
from trainer.augment.pixels import weigh_by_alpha


def read_target(path: Path, shape: ImageShape, fit: str, background: str) -> np.ndarray:
    """Read an image of any format, size and mode, and fit it as `cgan pack` does.

    Args:
        path: the image.
        shape: of the result.
        fit, background: see `shards.dataset.images.prepare`.

    Returns:
        uint8 (C, H, W).

    Raises:
        UserError: there is no such image, or it cannot be read.
    """
    try:
        if not path.is_file():
            raise UserError("image-missing", f"{path}: there is no such image")
        data = path.read_bytes()
        return np.ascontiguousarray(pixels(data, shape, fit, background).transpose(2, 0, 1))
    except OSError as error:
        raise UserError("image-unusable", f"{path}: cannot be read ({error.strerror or error})") from None
    except ImageError as error:
        raise UserError("image-unusable", f"{path}: {error}") from None


def to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return images uint8 (N, C, H, W) as float32 in [-1, 1]."""
    return torch.tensor(images, device=device).float() / 127.5 - 1


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two images uint8 (C, H, W), in dB; 58.9, that of rounding, at most.

    With alpha, colours are weighted by it: those of transparent pixels are not seen.
    """
    one, other = (weigh_by_alpha(to_tensor(image[None], torch.device("cpu")).double()) for image in (a, b))
    error = float((one - other).square().mean()) * 127.5**2
    return 10 * math.log10(255**2 / max(error, 1 / 12))
