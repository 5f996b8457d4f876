"""Variety: pairs of one label, real and generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.launching import make_dataset
from trainer.tracking.variety import Variety, nearest_pairs, pair_distance


def test_pairs_have_the_same_label_where_there_is_one() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]], np.float32)
    assert nearest_pairs(labels, np.ones((6, 1), bool), 3).tolist() == [0, 3, 1, 4, 2, 5], (
        "the last is the most similar"
    )


def test_an_unknown_attribute_is_not_the_same_as_a_known_one() -> None:
    labels, known = np.zeros((4, 1), np.float32), np.array([[True], [False], [True], [False]])
    assert nearest_pairs(labels, known, 2).tolist() == [0, 2, 1, 3]


def test_distance_is_the_root_mean_square_over_pixels() -> None:
    images = np.zeros((4, 3, 2, 2), np.uint8)
    images[1] = 30
    images[2:] = 200  # a pair without a difference
    assert pair_distance(images) == pytest.approx((30**2 / 2) ** 0.5)


class Painter(nn.Module):
    """Paints each image in one grey, that of its noise times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map z (B, noise), label and known to images (B, 3, 16, 16)."""
        return (self.factor * z[:, :1, None, None]).expand(len(z), 3, 16, 16).clamp(-1, 1)


def test_variety_is_zero_for_one_image_per_label_and_grows_with_what_noise_does(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, count=60)
    variety = Variety(dataset, noise_size=8, seed=0, device=torch.device("cpu"))
    none, some, more = (variety.measure(Painter(factor)) for factor in (0.0, 0.1, 0.2))
    assert none == 0
    assert 0 < some < more
    assert more == pytest.approx(2 * some, rel=0.05)
    assert variety.measure(Painter(0.1)) == some, "the same pairs and the same noise each time"


def test_a_dataset_of_one_image_has_no_variety_to_compare_with(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, count=1)
    assert np.isnan(Variety(dataset, 8, 0, torch.device("cpu")).measure(Painter(1.0)))
