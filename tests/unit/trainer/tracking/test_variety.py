"""Variety: pairs of one label, real and generated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shards.dataset.dataset import Dataset
from support.launching import make_dataset
from trainer.tracking import variety
from trainer.tracking.variety import Variety, pair_distance, pairs_of_one_label


def pairs(labels: list[int], known: list[bool] | None = None, count: int = 64) -> list[int]:
    mask = np.ones(len(labels), bool) if known is None else np.array(known)
    rows = range(len(labels))
    return pairs_of_one_label(np.array(labels, np.float32)[:, None], mask[:, None], rows, count).tolist()


def test_pairs_have_one_label_and_each_row_is_in_one_of_them() -> None:
    assert pairs([1, 2, 3, 1, 2, 1, 1, 4]) == [0, 3, 1, 4, 5, 6]
    assert pairs([0] * 7) == [0, 1, 2, 3, 4, 5], "no label is a label"
    assert pairs([0] * 7, count=2) == [0, 1, 2, 3]
    assert pairs([1, 2, 3]) == []


def test_an_unknown_attribute_is_not_the_same_as_a_known_one() -> None:
    assert pairs([0, 0, 0, 0], [True, False, True, False]) == [0, 2, 1, 3]


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
    measured = Variety(dataset, noise_size=8, seed=0, device=torch.device("cpu"))
    none, some, more = (measured.measure(Painter(factor)) for factor in (0.0, 0.1, 0.2))
    assert none == 0
    assert 0 < some < more
    assert more == pytest.approx(2 * some, rel=0.05)
    assert measured.measure(Painter(0.1)) == some, "the same pairs and the same noise each time"


def test_a_dataset_of_one_image_has_no_variety_to_compare_with(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, count=1)
    assert np.isnan(Variety(dataset, 8, 0, torch.device("cpu")).measure(Painter(1.0)))


def test_damaged_images_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path, count=60)
    before = Variety(dataset, 8, 0, torch.device("cpu"))
    real, asked = variety.read_images, []

    def read(of: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(rows)
        images, intact = real(of, rows)
        intact[3] = False
        return images, intact

    monkeypatch.setattr(variety, "read_images", read)
    after = Variety(dataset, 8, 0, torch.device("cpu"))
    assert len(after.z) == len(before.z) - 2 == len(asked[0]) - 2
    assert torch.equal(after.z, torch.cat([before.z[:2], before.z[4:]])), "the other pairs have the noise that they had"
    assert 0 < after.measure(Painter(0.1)) < math.inf


def test_only_the_first_shard_of_a_remote_dataset_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path, count=60, per_shard=40)
    monkeypatch.setattr(dataset, "remote", True)
    read: list[int] = []
    monkeypatch.setattr(
        variety, "read_images", lambda _, rows: (read.extend(rows), (np.zeros((len(rows), 1)), rows >= 0))[1]
    )
    Variety(dataset, 8, 0, torch.device("cpu"))
    assert len(read) >= 16
    assert {dataset.shard_of(row) for row in read} == {0}
