"""Power spectra: blur and patterns of period 2 are seen, and two halves of the same images differ little."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shards.dataset.image_shape import ImageShape
from trainer.evaluation.metrics.feature_extractors import spectrum
from trainer.evaluation.metrics.spectrum import Spectra, _radius, bins, compare_spectra, radial_power

SIZE = 32


def drawings(count: int, seed: int) -> np.ndarray:
    """uint8 (count, 3, 32, 32): discs with sharp outlines."""
    random = np.random.default_rng(seed)
    across = np.arange(SIZE)
    found = np.full((count, 3, SIZE, SIZE), 230, np.uint8)
    for image in found:
        for _ in range(6):
            (x, y), radius = random.uniform(0, SIZE, 2), random.uniform(2, 9)
            inside = np.hypot(across[:, None] - y, across - x) < radius
            image[:, inside] = random.integers(0, 256, (3, 1))
    return found


REAL = drawings(200, 0)


def compared(images: np.ndarray) -> Spectra:
    return compare_spectra(radial_power(images), radial_power(REAL), SIZE)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    filtered = [Image.fromarray(image.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(radius)) for image in images]
    return np.stack([np.asarray(image) for image in filtered]).transpose(0, 3, 1, 2)


def with_pattern(images: np.ndarray, pattern: np.ndarray, amplitude: int) -> np.ndarray:
    return np.clip(images.astype(np.int64) + amplitude * pattern, 0, 255).astype(np.uint8)


def test_other_real_images_differ_little_and_blurred_ones_more_and_more() -> None:
    gaps = [compared(images).gap for images in (drawings(200, 1), *(blurred(REAL, r) for r in (0.3, 0.6)))]
    assert gaps[0] < 0.6 and gaps[1] > 3 * gaps[0] and gaps[2] > 3 * gaps[1]
    assert compared(REAL).gap == 0 and compared(REAL).period2 == 0
    assert compared(blurred(REAL, 0.6)).period2 < -3, "blur leaves less power there"


@pytest.mark.parametrize("pattern", ["checkerboard", "stripes down", "stripes across"])
def test_faint_pattern_of_period_two_is_seen(pattern: str) -> None:
    down, across = np.indices((SIZE, SIZE))
    phase = {"checkerboard": down + across, "stripes down": down, "stripes across": across}[pattern] % 2 * 2 - 1
    images = drawings(200, 1)
    clean, faint, strong = (compared(with_pattern(images, phase, amplitude)) for amplitude in (0, 4, 16))
    assert abs(clean.period2) < 2 and faint.period2 > clean.period2 + 4 and strong.period2 > faint.period2 + 5
    assert strong.gap > clean.gap + 0.2


def test_power_of_a_wave_is_in_the_ring_of_its_frequency() -> None:
    wave = np.broadcast_to(128 + 50 * np.sin(2 * np.pi * 5 * np.arange(SIZE) / SIZE), (1, 3, SIZE, SIZE))
    (power,) = radial_power(wave.astype(np.uint8))
    assert power[:-3].argmax() == 5 and power[:-3].sum() < 1.5 * power[4:7].sum()
    found = compared(REAL)
    assert found.frequencies[0] == 0 and np.isclose(found.frequencies[16], 0.5) and found.frequencies[-1] < 0.71


def test_memory_does_not_grow_with_the_number_or_the_size_of_images() -> None:
    peaks = []
    for count, size in ((2048, 32), (32, 256)):
        images = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
        tracemalloc.start()
        radial_power(images)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 100e6, peaks


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(3, 17, 17), (3, 32, 32), (3, 48, 48), (1, 32, 32), (1, 24, 32), (3, 48, 32), (3, 28, 24), (1, 7, 5)],
)
def test_images_of_any_shape_have_a_spectrum(channels: int, height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, channels, height, width), np.uint8)
    power = spectrum(ImageShape(channels, height, width))(images)
    assert power.shape == (200, bins(height, width)) and (power >= 0).all()
    rings = np.unique(_radius(height, width))
    assert np.array_equal(rings, np.arange(len(rings))), "every ring has a frequency"
    white = compare_spectra(power, power, min(height, width)).generated
    assert np.ptp(white[2:]) < 1.5, "noise has equal power at all frequencies"
