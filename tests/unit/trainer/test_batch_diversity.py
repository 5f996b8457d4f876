"""Diversity of generated images: additive over micro-batches, and equal to the ratio of standard deviations."""

from __future__ import annotations

import pytest
import torch

from trainer.batch_diversity import DISTANCES_FAKE, DISTANCES_REAL, pair_distances, with_spread_ratio


def ratio(real: torch.Tensor, fake: torch.Tensor) -> float:
    values = {DISTANCES_REAL: pair_distances(real).item(), DISTANCES_FAKE: pair_distances(fake).item(), "loss/d": 1.0}
    found = with_spread_ratio(values)
    assert found.keys() == {"loss/d", "samples/spread"}
    return found["samples/spread"]


def test_spread_is_the_ratio_of_standard_deviations() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(512, 3, 8, 8), 0.3 * torch.randn(512, 3, 8, 8) + torch.randn(3, 8, 8)
    assert ratio(real, fake) == pytest.approx(0.3, rel=0.02), "what all images have in common does not count"
    assert ratio(real, real) == 1
    assert ratio(real, fake[:1].expand(512, -1, -1, -1)) == 0


def test_distances_add_over_micro_batches_and_ignore_an_unpaired_image() -> None:
    images = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    parts = torch.stack([pair_distances(part) for part in images.split(2)])
    torch.testing.assert_close(parts.sum(), pair_distances(images))
    torch.testing.assert_close(pair_distances(images[:7]), pair_distances(images[:6]))
    assert pair_distances(images[:1]).item() == 0


def test_there_is_no_ratio_without_differing_real_images() -> None:
    assert with_spread_ratio({DISTANCES_REAL: 0.0, DISTANCES_FAKE: 1.0}) == {}
    assert with_spread_ratio({DISTANCES_REAL: float("nan"), DISTANCES_FAKE: 1.0}) == {}
