"""Radially averaged power spectra: are generated images as sharp as real ones, and do they hide a fine pattern?

A generator that blurs lacks power at high frequencies, one that upsamples carelessly repeats a pattern every second
pixel (Durall, Keuper & Keuper 2020, arXiv 2003.01826; Schwarz, Liao & Geiger 2021, arXiv 2111.02447). Both are easily
overlooked, and features of networks that shrink images hardly notice them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.metrics.appearance import visible

_FLOOR = 1e-8  # power far below that of rounding to 8 bits
_PIXELS = 1 << 18  # transformed at once, per channel


@dataclass(frozen=True)
class Spectra:
    """Mean spectra of two sets of images.

    Attributes:
        frequencies: float64 (R,), in cycles per pixel, from 0 to that of a checkerboard, √½.
        generated, real: float64 (R,), power in dB.
        gap: mean of |generated - real| over the upper half of the frequencies up to ½, and those above it, in dB.
        period2: how much more power generated images have in patterns that repeat every second pixel, in dB: the
            largest excess among stripes across, stripes down and a checkerboard; negative if all three lack power.
    """

    frequencies: np.ndarray
    generated: np.ndarray
    real: np.ndarray
    gap: float
    period2: float


def bins(height: int, width: int) -> int:
    """Return the number of values that `radial_power` gives of an image of these sides."""
    return _radius(height, width).max().item() + 4


def radial_power(images: np.ndarray) -> np.ndarray:
    """Return the power of each image by radial frequency, and that of its three patterns of period 2.

    Power is the squared magnitude of the discrete Fourier transform after a Hann window, which keeps the seam between
    opposite borders from looking like detail; it is averaged over the channels and over each ring of a width of one
    cycle per shorter side of the image. Alpha is a channel like the others (see `visible`).

    Args:
        images: uint8 (n, C, H, W).

    Returns:
        float32 (n, R + 3), not negative: R rings, then stripes down, stripes across, checkerboard.
    """
    height, width = images.shape[2:]
    ring = _radius(height, width).ravel()
    members = np.bincount(ring)
    order, starts = np.argsort(ring, kind="stable"), np.concatenate([[0], np.cumsum(members)[:-1]])
    window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (height, width)))
    tall, wide = height // 2, width // 2
    found = np.empty((len(images), len(members) + 3), np.float32)
    chunk = max(1, _PIXELS // (height * width))
    for start in range(0, len(images), chunk):
        x = visible(images[start : start + chunk]) / 127.5 - 1
        x = (x - x.mean((2, 3), keepdims=True)) * window
        power = (np.abs(np.fft.fft2(x)) ** 2).mean(1) / (window**2).sum()
        rings = np.add.reduceat(power.reshape(len(x), -1)[:, order], starts, axis=1) / members
        points = [power[:, tall, 0], power[:, 0, wide], power[:, tall, wide]]
        found[start : start + chunk] = np.column_stack([rings, *points])
    return found


def compare_spectra(generated: np.ndarray, real: np.ndarray, size: int) -> Spectra:
    """Compare the mean spectra of two sets.

    Args:
        generated, real: of `radial_power`, (N, R + 3) and (M, R + 3), N, M ≥ 1.
        size: shorter side of the images.
    """
    a, b = (10 * np.log10(np.maximum(power.mean(0, dtype=np.float64), _FLOOR)) for power in (generated, real))
    frequencies = np.arange(len(a) - 3) / size
    upper = frequencies >= 0.25
    excess = (a - b)[-3:]
    gap = float(np.abs(a - b)[:-3][upper].mean())
    return Spectra(frequencies, a[:-3], b[:-3], gap, float(excess.max()))


def _radius(height: int, width: int) -> np.ndarray:
    """Return the number of each frequency's ring, int64 (H, W), ascending from 0 to ⌊S/√2⌋; S is the shorter side."""
    size = min(height, width)
    down, across = (np.fft.fftfreq(side) * size for side in (height, width))
    distance = np.rint(np.hypot(down[:, None], across[None])).astype(np.int64)
    return np.minimum(distance, math.floor(size / math.sqrt(2)))
