"""Previewing a source: how it is read, what becomes the label of which image, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.__main__ import main
from shards.dataset.schema import Schema
from shards.inspect.preview import Preview, preview
from shards.packing.packed_shape import largest_trainable, trainable_sizes
from shards.packing.preview import label_counts, spread
from support.errors import assert_printed, codes, raises
from support.source_files import png_bytes, png_files, scan_source, write_files, write_parquet, write_zip
from trainer.networks.architecture import levels

ROWS = [f'{i},"{"red" if i % 3 else "blue"} hair{", smile" if i % 2 else ""}"' for i in range(12)]
TAGS = "\n".join(["id,tags", *ROWS, ""])
IMAGES = [f"{i}.png" for i in range(12)]


def _tagged(folder: Path) -> Path:
    return write_files(folder, {**png_files(*IMAGES, "none.png"), "tags.csv": TAGS})


def _contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_format_evidence_labels_and_images_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = _tagged(tmp_path / "faces")
    before = _contents(tmp_path)
    preview(Preview(src))
    shown = capsys.readouterr().out
    for expected in (
        "read as tags (",
        "13 images, 12 of them with labels",
        "hair: red 8, blue 4; unknown 1",
        "smile: present 6, absent 6; unknown 1",
        "1.png: red hair, smile",
        "none.png: no label",
        "4 x 4 (13), of a sample of 13",
        f"cgan pack {src} OUT --size 4",
    ):
        assert expected in shown
    assert _contents(tmp_path) == before


def test_dry_run_of_pack_shows_the_same_and_packs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = _tagged(tmp_path / "faces")
    assert main(["preview", str(src)]) == 0
    shown = capsys.readouterr().out
    assert main(["pack", str(src), str(tmp_path / "OUT"), "--dry-run"]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path / "OUT"), "OUT") == shown
    assert not (tmp_path / "OUT").exists()


def test_counts_of_labels_are_those_of_the_packed_dataset(tmp_path: Path) -> None:
    from shards.dataset.summary import tally
    from shards.packing.labels.labelling import LabelOptions, build_labelling
    from shards.packing.pack import Pack, pack

    src = _tagged(tmp_path / "faces")
    source = scan_source(src)
    counts = label_counts(build_labelling(source, LabelOptions()), source.items)
    packed = tally(pack(Pack(src, tmp_path / "out", workers=1)))
    assert counts.present.tolist() == packed.present.tolist()
    assert counts.known.tolist() == packed.known.tolist()
    assert counts.unlabelled == packed.unlabelled == 1


def test_doubts_are_shown_and_the_command_confirms_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{i}.png" for i in range(12)]
    rows = "".join(f"{i},photo {i}\n" for i in range(12))
    preview(Preview(write_files(tmp_path / "s", {**png_files(*names), "tags.csv": f"id,tags\n{rows}"})))
    shown = capsys.readouterr().out
    assert "doubts" in shown
    assert "12 values for 12 images" in shown
    assert "--size 4 --yes" in shown


def test_options_of_the_preview_are_in_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preview(Preview(_tagged(tmp_path / "my faces"), min_count=2, group="folder", source="tags"))
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command == f"cgan pack '{tmp_path}/my faces' OUT --size 4 --source tags --group folder --min-count 2"


def test_labels_that_are_unclear_end_the_preview_after_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = write_files(
        tmp_path / "s",
        {**png_files("a.png", "b.png"), "a.txt": "A red fox sits in the snow.", "b.txt": "Two wolves run home."},
    )
    assert main(["preview", str(src)]) == 2
    shown = capsys.readouterr()
    assert '"A red fox sits in the snow."' in shown.out
    assert codes(shown.err) == ["option-missing"]


def test_sheet_and_schema_are_written_on_request_only(tmp_path: Path) -> None:
    src = _tagged(tmp_path / "faces")
    sheet, schema = tmp_path / "sheet.png", tmp_path / "schema.yaml"
    preview(Preview(src, sheet=sheet, schema_out=schema))
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert [attribute.name for attribute in Schema.load(schema).attributes] == ["hair", "smile"]
    with raises("output-exists", schema):
        preview(Preview(src, schema_out=schema))
    with raises("invalid-value", "--sheet"):
        Preview(src, sheet=tmp_path / "sheet.jpg")


def test_sources_whose_images_are_inside_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preview(Preview(write_zip(tmp_path / "a.zip", {**png_files(*IMAGES), "tags.csv": TAGS})))
    assert "1.png: red hair, smile" in capsys.readouterr().out
    columns = {"image": [{"bytes": png_bytes()}] * 2, "tags": ["red hair", "blue hair"]}
    preview(Preview(write_parquet(tmp_path / "p" / "a.parquet", columns)))
    assert "red 1" in capsys.readouterr().out
    assert _contents(tmp_path) == ["a.zip", "p", "p/a.parquet"]


def test_examples_are_spread_over_the_source(tmp_path: Path) -> None:
    source = scan_source(_tagged(tmp_path))
    assert spread(source.items, 2) == [source.items[0], source.items[-1]]
    assert spread(source.items, 99) == source.items
    assert spread([], 3) == []


def test_sizes_that_networks_support() -> None:
    assert [size for size in trainable_sizes() if size < 600] == [size for size in range(4, 600) if levels(size, size)]
    assert largest_trainable(100) == 96


def test_a_size_that_no_network_supports_is_said_when_packing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = _tagged(tmp_path / "faces")
    assert main(["pack", str(src), str(tmp_path / "a"), "--size", "28", "--workers", "1"]) == 0
    assert_printed(capsys.readouterr().err, "size-not-trainable", "28", "--size 24", "--size 32")
    assert main(["pack", str(src), str(tmp_path / "b"), "--size", "32", "--workers", "1"]) == 0
    assert codes(capsys.readouterr().err) == []
    assert main(["preview", str(src), "--size", "28"]) == 0
    assert "--size 24 or --size 32" in capsys.readouterr().out


def test_two_values_of_one_attribute_are_counted_as_when_packing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f'{n},"{"red" if n % 3 else "blue"} hair{", blue hair" if n == 1 else ""}"' for n in range(60)]
    src = write_files(tmp_path / "faces", png_files(*(f"{n}.png" for n in range(60))))
    write_files(src, {"tags.csv": "\n".join(["id,tags", *rows])})
    said = "images with two values of 'hair' (unknown there): 1"
    for words in (["preview", str(src)], ["pack", str(src), str(tmp_path / "OUT"), "--workers", "1"]):
        assert main(words) == 0
        assert said in capsys.readouterr().out
