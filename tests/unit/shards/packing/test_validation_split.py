"""Setting images aside: a fraction of them, or the part that the source itself keeps for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, main, pack
from support.errors import raises
from support.source_files import png_files, write_files


def _parts(folder: Path, *parts: str) -> Path:
    """Write class folders in parts: four images of two classes each."""
    names = [f"{part}/{label}/{part}{i}.png" for part in parts for label in ("cat", "dog") for i in range(2)]
    return write_files(folder, png_files(*names))


def _words(dataset: Dataset) -> list[str]:
    labels, known = dataset.labels, dataset.known
    return sorted(" ".join(dataset.schema.words(labels[i], known[i])) for i in range(len(dataset)))


@pytest.mark.parametrize(("folder", "asked"), [("test", "test"), ("val", "val"), ("valid", "validation")])
def test_a_part_of_the_source_becomes_the_validation_part(tmp_path: Path, folder: str, asked: str) -> None:
    src, out = _parts(tmp_path / "src", "train", folder), tmp_path / "out"
    main([str(src), str(out), "--validation", asked, "--workers", "1"])
    dataset, aside = Dataset.open(out), Dataset.open(out / "validation")
    assert (dataset.manifest["split"], aside.manifest["split"]) == ("train", "validation")
    assert _words(dataset) == _words(aside) == ["cat", "cat", "dog", "dog"]


def test_parts_that_are_packed_to_be_trained_on_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = _parts(tmp_path / "src", "train", "val", "test")
    assert len(pack(Pack(src, tmp_path / "a", workers=1))) == 12
    assert "images of the part test (packed to be trained on; --validation test sets them aside): 4" in (
        capsys.readouterr().out
    )
    assert len(pack(Pack(src, tmp_path / "b", workers=1, validation="val"))) == 8
    shown = capsys.readouterr().out
    assert "part test" in shown
    assert "part validation" not in shown


def test_a_part_that_the_source_lacks_is_an_error(tmp_path: Path) -> None:
    src = _parts(tmp_path / "src", "train", "test")
    with raises("part-missing", "--validation val", "train (4 images)", "test (4 images)"):
        pack(Pack(src, tmp_path / "out", workers=1, validation="val"))


@pytest.mark.parametrize("wrong", ["0.7", "-0.1", "some", "nan"])
def test_other_values_are_refused(tmp_path: Path, wrong: str) -> None:
    with raises("invalid-value", "--validation"):
        main([str(tmp_path), str(tmp_path / "out"), "--validation", wrong])
