"""Tables as programs, spreadsheets and people write them, beside the images that they label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shards.sources.file_tree import FileTree
from shards.sources.item import Item
from shards.sources.labelled_tables import candidates
from support.source_files import Files, by_id, png_files, scan_source, tags_by_id, write_files, write_parquet

HAIR = ("aqua hair", "pink hair", "blonde hair")
EYES = ("red eyes", "blue eyes")
NUMBERS = range(12)
IMAGES = png_files(*(f"{n:04}.png" for n in NUMBERS))
RIGHT = {f"{n:04}.png": (HAIR[n % 3], "smile") for n in NUMBERS}


def scanned(folder: Path, files: Files, columns: tuple[str, ...] = ()) -> dict[str, Item]:
    return by_id(scan_source(write_files(folder, files), columns=columns))


def labels(folder: Path, table: str, text: str, encoding: str = "utf-8", images: Files = IMAGES) -> dict[str, object]:
    """Return the tags of the images beside a table."""
    return dict(tags_by_id(scan_source(write_files(folder, {**images, table: text.encode(encoding)}))))


@pytest.mark.parametrize("header", ["", "id,tags\n"])
def test_counts_between_tabs_in_the_second_cell(tmp_path: Path, header: str) -> None:
    images = png_files(*(f"faces/{n}.jpg" for n in NUMBERS))
    text = header + "".join(f"{n},{HAIR[n % 3]}:{n}\t{EYES[n % 2]}:120\t\n" for n in NUMBERS)
    found = labels(tmp_path, "tags.csv" if header else "tags_clean.csv", text, images=images)
    assert found == {f"faces/{n}.jpg": (HAIR[n % 3], EYES[n % 2]) for n in NUMBERS}


@pytest.mark.parametrize("spelling", ["{}", "{}.0", "{:04}", "{}.png", "C:\\faces\\{:04}.png", "/home/a/{:04}.png"])
def test_ids_as_programs_change_them(tmp_path: Path, spelling: str) -> None:
    rows = "".join(f'{spelling.format(n)},"{HAIR[n % 3]}, smile"\n' for n in NUMBERS)
    assert labels(tmp_path, "tags.csv", "id,tags\n" + rows) == RIGHT


def test_addresses_with_a_query_and_other_capitals(tmp_path: Path) -> None:
    rows = "".join(f'https://example.org/x/{n:04}.PNG?size=1,"{HAIR[n % 3]}, smile"\n' for n in NUMBERS)
    assert labels(tmp_path, "tags.csv", "id,tags\n" + rows) == RIGHT


@pytest.mark.parametrize(
    ("start", "delimiter", "end", "encoding"),
    [
        ("", ";", "\r\n", "utf-8-sig"),
        ("sep=;\r\n", ";", "\r\n", "utf-8"),
        ("", "\t", "\r\n", "utf-16"),
        ("", ",", "\r", "utf-8"),
        ("", "|", "\n", "utf-8"),
    ],
)
def test_spreadsheets_write_many_dialects(tmp_path: Path, start: str, delimiter: str, end: str, encoding: str) -> None:
    rows = [f"id{delimiter}tags", *(f'{n:04}.png{delimiter}"{HAIR[n % 3]}, smile"' for n in NUMBERS)]
    assert labels(tmp_path, "tags.csv", start + end.join(rows) + end, encoding) == RIGHT


@pytest.mark.parametrize(
    ("word", "encoding"), [("lächeln", "cp1252"), ("微笑", "gbk"), ("笑顔", "cp932"), ("미소", "cp949")]
)
def test_words_in_the_encodings_before_unicode(tmp_path: Path, word: str, encoding: str) -> None:
    rows = "".join(f'{n:04},"{HAIR[n % 3]}, {word}"\n' for n in NUMBERS)
    found = labels(tmp_path, "tags.csv", "id,tags\n" + rows, encoding)
    assert found["0001.png"] == ("pink hair", word)


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    rows = "".join(
        f"{n:04}.png;{HAIR[n % 3]};{n / 8 - 1:.3f}\n".replace(".", ",").replace(",png", ".png") for n in NUMBERS
    )
    found = scanned(tmp_path, {**IMAGES, "tags.csv": "id;tags;yaw\n" + rows}, columns=("yaw",))
    assert [found[f"{n:04}.png"].vector for n in (0, 4)] == [(-1.0,), (-0.5,)]


def test_rows_with_a_comma_too_many_are_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n:04}.png,{HAIR[n % 3]},shirt{', navy' if n == 5 else ''}\n" for n in NUMBERS)
    source = scan_source(write_files(tmp_path, {**IMAGES, "metadata.csv": "file_name,label,name\n" + rows}))
    assert tags_by_id(source) == {f"{n:04}.png": None if n == 5 else (HAIR[n % 3],) for n in NUMBERS}
    assert source.problems.counts()["row-too-long metadata.csv"] == 1


@pytest.mark.parametrize("shape", ["lines", "list", "wrapped", "columns", "by image"])
def test_json_in_any_shape(tmp_path: Path, shape: str) -> None:
    rows = [{"file_name": f"{n:04}.png", "tags": [HAIR[n % 3], "smile"]} for n in NUMBERS]
    written = {
        "lines": "\n".join(map(json.dumps, rows)),
        "list": json.dumps(rows),
        "wrapped": json.dumps({"data": rows}),
        "columns": json.dumps({key: {str(n): row[key] for n, row in enumerate(rows)} for key in rows[0]}),
        "by image": json.dumps({row["file_name"]: row["tags"] for row in rows}),
    }
    name = "metadata.jsonl" if shape == "lines" else "labels.json"
    assert labels(tmp_path, name, written[shape]) == RIGHT


def test_parquet_table_beside_the_images(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"train/{n:04}.png" for n in NUMBERS)))
    columns = {"file_name": [f"{n:04}.png" for n in NUMBERS], "label": [HAIR[n % 3] for n in NUMBERS]}
    write_parquet(tmp_path / "train/metadata.parquet", columns)
    assert tags_by_id(scan_source(tmp_path)) == {f"train/{n:04}.png": (HAIR[n % 3],) for n in NUMBERS}


def test_list_of_files_and_numbers(tmp_path: Path) -> None:
    images = png_files(*(f"images/{n:04}.png" for n in NUMBERS))
    rows = "".join(f"images/{n:04}.png {n % 3}\n" for n in NUMBERS)
    found = labels(tmp_path, "train.txt", rows, images=images)
    assert found == {f"images/{n:04}.png": (str(n % 3),) for n in NUMBERS}


def test_numbers_of_classes_are_named_by_a_numbered_list(tmp_path: Path) -> None:
    styles = ("Baroque", "Cubism", "Pop_Art")
    images = png_files(*(f"paintings/{n}.jpg" for n in NUMBERS))
    text = "".join(f"paintings/{n}.jpg,{n % 3}\n" for n in NUMBERS)
    names = {"style_class.txt": "".join(f"{n} {style}\n" for n, style in enumerate(styles))}
    found = labels(tmp_path, "style_train.csv", text, images={**images, **names})
    assert found == {f"paintings/{n}.jpg": (styles[n % 3].lower().replace("_", " "),) for n in NUMBERS}


def test_a_list_that_numbers_the_folders_adds_nothing_to_them(tmp_path: Path) -> None:
    paths = [f"{domain}/{kind}/{n}.jpg" for domain in ("real", "sketch") for kind in ("bus", "car") for n in range(4)]
    lists = {
        f"{domain}_train.txt": "".join(f"{p} {int('/car/' in p)}\n" for p in paths if p.startswith(domain))
        for domain in ("real", "sketch")
    }
    source = scan_source(write_files(tmp_path, {**png_files(*paths), **lists}))
    assert source.kind == "classes"
    assert {item.id: set(item.tags or ()) for item in source.items} == {
        path: {f"{path.split('/')[0]}", path.split("/")[1]} for path in paths
    }


def test_a_table_of_a_few_other_images_is_not_the_one_with_the_labels(tmp_path: Path) -> None:
    """Such as a table of the signs themselves, with more columns, beside that of the photographs."""
    photos, signs = [f"Train/{n}.png" for n in range(30)], [f"Meta/{n}.png" for n in range(3)]
    tables = {
        "Train.csv": "Width,ClassId,Path\n" + "".join(f"{30 + n},{n % 3},{p}\n" for n, p in enumerate(photos)),
        "Meta.csv": "Path,ClassId,ShapeId\n" + "".join(f"{p},{n},{n % 2}\n" for n, p in enumerate(signs)),
    }
    source = scan_source(write_files(tmp_path, {**png_files(*photos, *signs), **tables}))
    tags = tags_by_id(source)
    assert [tags[p] for p in photos] == [(str(n % 3),) for n in range(30)] and not any(tags[p] for p in signs)
    assert source.problems.found["table-not-used"] == ["Meta.csv"]


def test_each_table_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def inspect(tree: FileTree, name: str, *rest: Any) -> candidates.Candidate | None:
        looked.append(name)
        return inspect_table(tree, name, *rest)

    inspect_table = candidates.inspect_table
    monkeypatch.setattr(candidates, "inspect_table", inspect)
    rows = "".join(f"{n:04},{HAIR[n % 3]}\n" for n in NUMBERS)
    assert labels(tmp_path, "list.csv", f"image,class\n{rows}")["0001.png"] == ("pink hair",)
    assert looked == ["list.csv"]


def test_a_table_with_a_row_per_label_gives_tags(tmp_path: Path) -> None:
    """As Open Images has them; a name that is repeated by mistake is counted, and its first row is read."""
    labels_of = [["cat"], ["cat", "outdoor"], ["dog"], ["dog", "outdoor", "night"]]
    rows = "".join(f"{n:04}.png,{label},0.9\n" for n in NUMBERS for label in labels_of[n % 4])
    source = scan_source(write_files(tmp_path / "a", {**IMAGES, "labels.csv": "ImageID,LabelName,Confidence\n" + rows}))
    assert tags_by_id(source) == {f"{n:04}.png": tuple(labels_of[n % 4]) for n in NUMBERS}
    assert source.problems.counts()["rows-combined LabelName"] == 6
    rows = "".join(f"{n:04}.png,{'cat' if n % 2 else 'dog'}\n" for n in NUMBERS) + "0003.png,dog\n"
    source = scan_source(write_files(tmp_path / "b", {**IMAGES, "labels.csv": "image,label\n" + rows}))
    assert tags_by_id(source)["0003.png"] == ("cat",) and source.problems.counts()["id-repeated"] == 1
