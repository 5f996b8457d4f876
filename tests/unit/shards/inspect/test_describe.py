"""`cgan describe`: counts, co-occurrences, and the contact sheet."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.core.errors import exit_status
from shards.core.problems import Problems
from shards.dataset import summary
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Attribute, Schema
from shards.inspect import contact_sheet, describe
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.tagged_images import COLOURS, tagged, written


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    src = tagged(tmp_path / "src", 60)
    Image.new("RGB", (8, 8), "white").save(src / "images" / "silent.png")
    made = pack(Pack(src, tmp_path / "out", licence="CC0", workers=1, per_shard=20))
    assert made
    return made


def test_summary_of_a_dataset(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    describe.main([str(dataset.path)])
    said = capsys.readouterr().out
    assert "src: 61 images of 8 x 8" in said and "4 shards" in said and "61 png of " in said
    assert "licence: CC0" in said and "source: src (tags)" in said and "resized by: crop, lanczos" in said
    assert "labels: 6 words, 3 attributes, vectors of 6" in said
    assert "hair: blue 20, green 20, red 20; unknown 1 (1.6%)" in said
    assert "odd: present 30, absent 30; unknown 1 (1.6%)" in said
    assert "images without any label: 1 (1.6%)" in said
    assert f"contact sheet: {dataset.path / 'contact-sheet.png'}" in said


def test_counts_do_not_depend_on_chunk_size(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = describe.lines(dataset, summary.tally(dataset)), describe._chosen(dataset, summary.tally(dataset), 5, 0)
    monkeypatch.setattr(summary, "_CHUNK", 7 * 24)
    assert (
        describe.lines(dataset, summary.tally(dataset)),
        describe._chosen(dataset, summary.tally(dataset), 5, 0),
    ) == expected


def test_sheet_shows_images_of_each_value(dataset: Dataset) -> None:
    describe.main([str(dataset.path), "--columns", "4"])
    path = dataset.path / "contact-sheet.png"
    titles, rows = describe._chosen(dataset, summary.tally(dataset), 4, 0)
    assert titles == ["blue hair (20)", "green hair (20)", "red hair (20)", "unlabelled"]
    assert [len(set(row)) for row in rows] == [4, 4, 4, 1]
    with Image.open(path) as sheet:
        assert "Contact sheet of src: blue hair (20); green hair (20)" in sheet.info["Description"]
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    for colour in ("blue", "red", "green"):  # four images of 64 x 64 each
        assert np.count_nonzero((pixels == COLOURS[colour]).all(axis=1)) == 4 * 64 * 64
    first = path.read_bytes()
    describe.main([str(dataset.path), "--columns", "4"])
    assert path.read_bytes() == first
    assert describe._chosen(dataset, summary.tally(dataset), 4, 1)[1] != rows


def test_sheet_replaces_only_a_sheet(dataset: Dataset, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    for content in (b"text", (dataset.path / "manifest.json").read_bytes(), dataset.read(0)):
        mine.write_bytes(content)
        with raises("output-exists", mine):
            describe.main([str(dataset.path), "--sheet", str(mine)])
        assert mine.read_bytes() == content
    with raises("invalid-value", "--sheet", "index.npy"):
        describe.main([str(dataset.path), "--sheet", str(dataset.path / "index.npy")])
    describe.main([str(dataset.path), "--columns", "0"])
    assert not (dataset.path / "contact-sheet.png").exists()


def test_missing_sheet_folder_is_reported_before_the_work(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with raises("output-folder-missing", tmp_path / "gone", "--sheet"):
        describe.describe(describe.Describe(str(dataset.path), sheet=tmp_path / "gone" / "x.png"))
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    dataset.path.chmod(0o555)
    try:
        assert exit_status(lambda: describe.main([str(dataset.path)])) == 0
    finally:
        dataset.path.chmod(0o755)
    assert "note: no contact sheet (" in capsys.readouterr().out


def test_sheet_cannot_be_written(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise describe.Failure("disk-write-failed", f"{path} could not be written: Read-only file system")

    monkeypatch.setattr(contact_sheet, "write_bytes", refuse)
    assert exit_status(lambda: describe.main([str(dataset.path)])) == 0
    assert "note: no contact sheet (" in capsys.readouterr().out
    assert exit_status(lambda: describe.main([str(dataset.path), "--sheet", str(tmp_path / "x.png")])) == 1


def test_co_occurrences(tmp_path: Path) -> None:
    """Smiles go with red hair and never with blue hair; glasses with neither more nor less."""
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(400):
        colour = ("blue", "red", "green")[rng.integers(3)]
        tags = [f"{colour} hair"]
        tags += ["smile"] * bool(rng.random() < {"blue": 0, "red": 0.9, "green": 0.4}[colour])
        tags += ["glasses"] * bool(rng.random() < 0.3)
        samples.append({"png": Image.new("RGB", (4, 4)), "json": {"tags": tags}})
    dataset = index_in_place(IndexInPlace(written(tmp_path / "tars", samples, 100), workers=1))
    found = describe.pairs(dataset, summary.tally(dataset).present)
    assert [{pair.one, pair.other} for pair in found] == [{"smile", "blue hair"}, {"smile", "red hair"}]
    tags = [sample["json"]["tags"] for sample in samples]
    for pair in found:
        one, other = ([word in row for row in tags] for word in (pair.one, pair.other))
        assert pair.together == sum(map(bool, np.array(one) & np.array(other)))
        assert pair.chance == pytest.approx(sum(one) * sum(other) / 400)
    text = "\n".join(describe.lines(dataset, summary.tally(dataset)))
    assert "co-occur more often than by chance (top 1 of 1):\n  red hair + smile" in text
    assert "co-occur less often than by chance (top 1 of 1):\n  blue hair + smile: 0 images" in text


_TWO = (("hair", "blue", "red"), ("tail", "long", "short"))


def test_chance_is_computed_where_both_attributes_are_known(tmp_path: Path) -> None:
    """Two attributes that are never known together have no co-occurrences."""
    samples = [
        {
            "png": Image.new("RGB", (4, 4)),
            "json": {"tags": [["red hair", "blue hair", "long tail", "short tail"][i % 4]]},
        }
        for i in range(200)
    ] + [{"png": Image.new("RGB", (4, 4)), "json": {"tags": ["red hair", "long tail"]}}]
    schema = Schema(tuple(Attribute(n, "exclusive", (f"{a} {n}", f"{b} {n}")) for n, a, b in _TWO))
    schema.save(tmp_path / "two.yaml")
    tars = written(tmp_path / "tars", samples, 300)
    dataset = index_in_place(IndexInPlace(tars, workers=1, schema=tmp_path / "two.yaml"))
    assert len(dataset.schema.attributes) == 2 and dataset.known.sum() == 202
    assert describe.pairs(dataset, summary.tally(dataset).present) == []


def test_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, 2)).astype(np.float32)
    samples = [{"png": Image.new("RGB", (4, 4)), "npy": row} for row in values] + [{"png": Image.new("RGB", (4, 4))}]
    dataset = index_in_place(IndexInPlace(written(tmp_path / "tars", samples, 20), workers=1))
    expected = ", ".join(f"{m:.3g} ± {s:.3g}" for m, s in zip(values.mean(0), values.std(0), strict=True))
    assert f"vector of 2 numbers, mean ± standard deviation {expected}; unknown 1 (2.0%)" in capsys.readouterr().out
    assert expected in "\n".join(describe.lines(dataset, summary.tally(dataset)))
    assert describe._chosen(dataset, summary.tally(dataset), 3, 0)[0] == ["any"]
    describe.main([str(dataset.path)])
    assert contact_sheet.is_sheet(dataset.path / "contact-sheet.png")


def test_damaged_image_leaves_its_cell_empty(dataset: Dataset) -> None:
    data = bytearray(dataset.shards[0].read_bytes())
    for entry in dataset.entries[:20]:
        data[int(entry["offset"]) : int(entry["offset"] + entry["length"])] = bytes(int(entry["length"]))
    dataset.shards[0].write_bytes(data)
    describe.main([str(dataset.path)])
    assert contact_sheet.is_sheet(dataset.path / "contact-sheet.png")
    assert describe._pixels(dataset, 0) is None and describe._pixels(dataset, 30) is not None


def test_titles_of_any_length_and_script() -> None:
    titles = ["é" * 500, "青い髪", "\x00\n", ""]
    black = np.zeros((8, 8, 3), np.uint8)
    sheet = contact_sheet.draw("x", "heading " * 30, titles, [[black], [None, black], [], [black] * 3])
    assert sheet.width < 3000 and sheet.height < 400


def test_lines_of_a_packing_with_many_attributes(dataset: Dataset) -> None:
    problems = Problems()
    for name in ("a", "b"):
        problems.add("row-without-id", name)
    text = summary.lines(dataset, problems)
    assert text[0].startswith("packed 61 images of 8 x 8 into ") and any("2 (a, b)" in line for line in text)
