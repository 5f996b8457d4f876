"""Conversion of grey and transparent images to the RGB that measuring networks take.

The colour of a transparent pixel is arbitrary, so nothing may depend on it. Transparent images are measured on
mid-grey, on which white and black both stand out. Alone that would be blind to a generator that paints the grey itself:
measures that take any number of channels, which are those of the judges and the spectra, see alpha as a fourth one.
"""

from __future__ import annotations

import numpy as np

BACKGROUND = 128  # of 255, below transparent images


def visible(images: np.ndarray) -> np.ndarray:
    """Return images without the colours that cannot be seen: those of RGBA on mid-grey, and alpha.

    Args:
        images: uint8 (n, C, H, W), grey, RGB or RGBA with straight alpha.

    Returns:
        uint8 of the same shape; other images than RGBA unchanged.
    """
    if images.shape[1] != 4:
        return images
    colors, alpha = images[:, :3].astype(np.uint32), images[:, 3:].astype(np.uint32)
    composite = (colors * alpha + BACKGROUND * (255 - alpha) + 127) // 255
    return np.concatenate([composite.astype(np.uint8), images[:, 3:]], 1)


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Return images as networks of RGB see them, uint8 (n, 3, H, W): RGBA on mid-grey, grey in all three channels."""
    if images.shape[1] == 1:
        return np.repeat(images, 3, 1)
    return visible(images)[:, :3]
