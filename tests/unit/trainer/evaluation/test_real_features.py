"""Features of real pictures are computed once, and never taken for those of other pictures or another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.launching import decoded, make_dataset
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.evaluation.metrics.real_features import pictures, real_features


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


def test_too_many_pictures_are_said(dataset: Dataset, means: Extractor) -> None:
    with pytest.raises(UserError, match="has 40 pictures; features of 41"):
        real_features(dataset, means, 41)


def spoil(dataset: Dataset, rows: list[int], kind: str, patch: pytest.MonkeyPatch) -> None:
    """Let some pictures be damaged, as a broken file or a broken disk is."""
    read = dataset.read

    def spoiled(row: int) -> bytes:
        if row not in rows:
            return read(row)
        if kind == "file":
            return b"no picture"
        raise Failure("the disk is broken")

    patch.setattr(dataset, "read", spoiled)


@pytest.mark.parametrize("kind", ["file", "disk"])
def test_damaged_pictures_are_left_out_and_tried_again(
    dataset: Dataset,
    means: Extractor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    whole = real_features(dataset, means, 30, cache=tmp_path / "whole")
    lost = [3, 17, 29]  # places among those asked for
    with monkeypatch.context() as patch:
        spoil(dataset, whole.rows[lost].tolist(), kind, patch)
        for _ in range(2):
            found = real_features(dataset, means, 30, cache=tmp_path / "spoiled")
            assert found.damaged == 3 and np.array_equal(found.rows, np.delete(whole.rows, lost))
            assert np.array_equal(found.features, np.delete(whole.features, lost, 0))
            assert "3 damaged pictures were left out" in capsys.readouterr().err
        images, there = pictures(dataset, whole.rows)
        assert np.flatnonzero(~there).tolist() == lost and (images[lost] == 255).all()
    assert means.compute.seen == 30 + 27, "what could be read is not read again"  # type: ignore[attr-defined]
    mended = real_features(dataset, means, 30, cache=tmp_path / "spoiled")
    assert mended.damaged == 0 and not capsys.readouterr().err
    assert np.array_equal(mended.rows, whole.rows) and np.array_equal(mended.features, whole.features)


def test_where_nothing_can_be_read_a_sentence_says_so(
    dataset: Dataset, means: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(dataset, list(range(40)), "file", monkeypatch)
    with pytest.raises(Failure, match=r"none of 10 pictures could be read; .*shards verify"):
        real_features(dataset, means, 10, cache=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing to keep"


def test_pixels_packed_raw_are_read_too(means: Extractor, tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 20, 16)
    for form in ("png", "raw"):
        pack(Pack(src=tmp_path / "source", out=tmp_path / form, size=16, workers=1, format=form))
    found = [real_features(Dataset.open(tmp_path / form), means, 20, cache=tmp_path) for form in ("png", "raw")]
    assert np.array_equal(found[0].features, found[1].features)
