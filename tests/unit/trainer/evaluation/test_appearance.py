"""What networks see of grey and transparent images, against values by hand."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.metrics.appearance import to_rgb, visible
from trainer.evaluation.metrics.feature_extractors import Extractor


def pixel(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, -1, 1, 1)


def test_transparent_colors_are_mixed_with_mid_grey() -> None:
    assert visible(pixel(200, 0, 90, 255)).ravel().tolist() == [200, 0, 90, 255]
    assert visible(pixel(200, 0, 90, 0)).ravel().tolist() == [128, 128, 128, 0]
    assert visible(pixel(255, 0, 128, 51)).ravel().tolist() == [153, 102, 128, 51]  # a fifth
    assert to_rgb(pixel(255, 0, 128, 51)).ravel().tolist() == [153, 102, 128]


def test_grey_becomes_three_equal_channels_and_rgb_stays() -> None:
    assert visible(pixel(7)).ravel().tolist() == [7] and to_rgb(pixel(7)).ravel().tolist() == [7, 7, 7]
    assert to_rgb(pixel(1, 2, 3)).ravel().tolist() == [1, 2, 3]


def test_networks_get_squares_of_rgb() -> None:
    shapes = []

    def compute(images: np.ndarray) -> np.ndarray:
        shapes.append(images.shape)
        return images.mean((2, 3))

    extractor = Extractor("means", False, 3, "means", compute, size=8)
    for shape in ((4, 16, 12), (1, 8, 8), (3, 8, 6)):
        assert extractor(np.full((2, *shape), 77, np.uint8)).shape == (2, 3)
    assert shapes == [(2, 3, 8, 8)] * 3
