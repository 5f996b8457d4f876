"""Features of real images are computed once, and never confused with those of other images or another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_images
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.launching import decoded, make_dataset
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.evaluation.real_features import real_features, real_images


class Counting:
    """Computes the mean colour of images, and counts the images."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.count += len(images)
        return images.mean((2, 3))


@pytest.fixture
def dataset(small_dataset: Path) -> Dataset:
    return Dataset.open(small_dataset)


@pytest.fixture
def means() -> Extractor:
    return Extractor("means", False, 3, "means-1", Counting())


def test_features_are_computed_once(dataset: Dataset, means: Extractor, tmp_path: Path) -> None:
    first = real_features(dataset, means, 30, cache=tmp_path)
    again = real_features(dataset, means, 30, cache=tmp_path)
    assert means.compute.count == 30  # type: ignore[attr-defined]
    assert np.array_equal(first.features, again.features) and np.array_equal(first.rows, again.rows)
    assert len(set(first.rows.tolist())) == 30
    one = decoded(dataset.read(int(first.rows[7])), dataset.size)
    assert np.allclose(first.features[7], one.mean((1, 2)), rtol=1e-6)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_cache_has_one_entry_per_dataset_extractor_count_and_seed(
    dataset: Dataset, means: Extractor, tmp_path: Path
) -> None:
    real_features(dataset, means, 10, cache=tmp_path)
    real_features(dataset, means, 11, cache=tmp_path)
    real_features(dataset, means, 10, seed=1, cache=tmp_path)
    real_features(dataset, replace(means, identity="means-2"), 10, cache=tmp_path)
    other = make_dataset(tmp_path / "other", count=20)
    real_features(other, means, 10, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_entry_is_computed_again(dataset: Dataset, means: Extractor, tmp_path: Path, damage: str) -> None:
    first = real_features(dataset, means, 10, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes({"cut": whole[:-5], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}[damage])
    for _ in range(2):
        assert np.array_equal(real_features(dataset, means, 10, cache=tmp_path).features, first.features)
    assert means.compute.count == 20  # type: ignore[attr-defined]


def test_unwritable_cache_is_a_warning(
    dataset: Dataset, means: Extractor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    found = real_features(dataset, means, 10, cache=tmp_path / "file" / "below")
    assert found.features.shape == (10, 3) and "not cached" in capsys.readouterr().err


def test_default_cache_is_below_xdg_cache_home(
    dataset: Dataset, means: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    real_features(dataset, means, 10)
    assert list((tmp_path / "cgan-trainer" / "features").glob("means-*.safetensors"))


def test_too_many_images_are_an_error(dataset: Dataset, means: Extractor) -> None:
    with raises("too-few-images", 160, 161):
        real_features(dataset, means, 161)


def spoil(dataset: Dataset, rows: list[int], kind: str, patch: pytest.MonkeyPatch) -> None:
    """Make some images unreadable, by a broken file or a broken disk."""
    read = dataset.read

    def spoiled(row: int) -> bytes:
        if row not in rows:
            return read(row)
        if kind == "file":
            return b"no image"
        raise Failure("disk-error", "the disk is broken")

    patch.setattr(dataset, "read", spoiled)


@pytest.mark.parametrize("kind", ["file", "disk"])
def test_damaged_images_are_left_out_and_tried_again(
    dataset: Dataset,
    means: Extractor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    whole = real_features(dataset, means, 30, cache=tmp_path / "whole")
    lost = [3, 17, 29]  # positions among the requested images
    with monkeypatch.context() as patch:
        spoil(dataset, whole.rows[lost].tolist(), kind, patch)
        for _ in range(2):
            found = real_features(dataset, means, 30, cache=tmp_path / "spoiled")
            assert found.damaged == 3 and np.array_equal(found.rows, np.delete(whole.rows, lost))
            assert np.array_equal(found.features, np.delete(whole.features, lost, 0))
            assert "3 damaged images" in capsys.readouterr().err
        images, intact = read_images(dataset, whole.rows)
        assert np.flatnonzero(~intact).tolist() == lost and (images[lost] == 255).all()
    assert means.compute.count == 30 + 27, "images that could be read are not read again"  # type: ignore[attr-defined]
    repaired = real_features(dataset, means, 30, cache=tmp_path / "spoiled")
    assert repaired.damaged == 0 and not capsys.readouterr().err
    assert np.array_equal(repaired.rows, whole.rows) and np.array_equal(repaired.features, whole.features)


def test_several_extractors_share_the_decoded_images_and_the_warning(
    dataset: Dataset,
    means: Extractor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, third = (replace(means, name=name, identity=name, compute=Counting()) for name in ("other", "third"))
    alone = real_features(dataset, other, 30, cache=tmp_path / "alone")
    spoil(dataset, alone.rows[[3, 17]].tolist(), "file", monkeypatch)
    real_features(dataset, third, 30, cache=tmp_path / "cache")
    capsys.readouterr()
    reads: list[int] = []
    read = dataset.read
    monkeypatch.setattr(dataset, "read", lambda row: reads.append(row) or read(row))
    found = real_images(dataset, [third, means, other], 30, cache=tmp_path / "cache")
    assert sorted(reads) == sorted(alone.rows.tolist()) and found.damaged == 2
    assert capsys.readouterr().err.count("[damaged-images]") == 1
    assert np.array_equal(found.rows, np.delete(alone.rows, [3, 17]))
    for features in found.measured.values():
        assert np.array_equal(features, np.delete(alone.features, [3, 17], 0))
    assert third.compute.count == 28, "what is cached is not computed again"  # type: ignore[attr-defined]


def test_dataset_without_readable_images_is_an_error(
    dataset: Dataset, means: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(dataset, list(range(160)), "file", monkeypatch)
    with raises("damaged-images", 10, "cgan verify", kind=Failure):
        real_features(dataset, means, 10, cache=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing to keep"


def test_raw_pixels_give_the_same_features(means: Extractor, tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 20, 16)
    for form in ("png", "raw"):
        pack(Pack(src=tmp_path / "source", out=tmp_path / form, size=16, workers=1, format=form))
    found = [real_features(Dataset.open(tmp_path / form), means, 20, cache=tmp_path) for form in ("png", "raw")]
    assert np.array_equal(found[0].features, found[1].features)
