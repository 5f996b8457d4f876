"""Features of real pictures are computed once, and never taken for those of other pictures or another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launching import decoded, make_dataset

from shards.errors import Failure, UserError
from shards.index import Dataset
from trainer.metrics.extractors import Extractor
from trainer.metrics.realstats import pictures, real_features


class Counting:
    """The mean colour of pictures, and how many were asked for."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.seen += len(images)
        return images.mean((2, 3))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("real"), count=40)


@pytest.fixture
def means() -> Extractor:
    return Extractor("means", False, 3, "means-1", Counting())


def test_features_are_computed_once(dataset: Dataset, means: Extractor, tmp_path: Path) -> None:
    first = real_features(dataset, means, 30, cache=tmp_path)
    again = real_features(dataset, means, 30, cache=tmp_path)
    assert means.compute.seen == 30  # type: ignore[attr-defined]
    assert np.array_equal(first.features, again.features) and np.array_equal(first.rows, again.rows)
    assert len(set(first.rows.tolist())) == 30
    one = decoded(dataset.read(int(first.rows[7])), dataset.size)
    assert np.allclose(first.features[7], one.mean((1, 2)), rtol=1e-6)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_others_have_entries_of_their_own(dataset: Dataset, means: Extractor, tmp_path: Path) -> None:
    real_features(dataset, means, 10, cache=tmp_path)
    real_features(dataset, means, 11, cache=tmp_path)
    real_features(dataset, means, 10, seed=1, cache=tmp_path)
    real_features(dataset, replace(means, identity="means-2"), 10, cache=tmp_path)
    other = make_dataset(tmp_path / "other", count=20)
    real_features(other, means, 10, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_computed_anew(dataset: Dataset, means: Extractor, tmp_path: Path, damage: str) -> None:
    first = real_features(dataset, means, 10, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes({"cut": whole[:-5], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}[damage])
    for _ in range(2):
        assert np.array_equal(real_features(dataset, means, 10, cache=tmp_path).features, first.features)
    assert means.compute.seen == 20  # type: ignore[attr-defined]


def test_a_cache_that_cannot_be_written_costs_only_time(
    dataset: Dataset, means: Extractor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    found = real_features(dataset, means, 10, cache=tmp_path / "file" / "below")
    assert found.features.shape == (10, 3) and "are not kept" in capsys.readouterr().err


def test_it_lies_where_the_project_keeps_things(
    dataset: Dataset, means: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    real_features(dataset, means, 10)
    assert list((tmp_path / "cgan-trainer" / "features").glob("means-*.safetensors"))


def test_too_many_pictures_and_damaged_ones_are_said(
    dataset: Dataset, means: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has 40 pictures; features of 41"):
        real_features(dataset, means, 41)
    monkeypatch.setattr(dataset, "read", lambda row: b"no picture")
    with pytest.raises(Failure, match=r"picture 3: .*shards verify"):
        pictures(dataset, np.array([3]))
