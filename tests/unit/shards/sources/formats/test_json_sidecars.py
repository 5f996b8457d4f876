"""A JSON file per image, by downloaders and annotation tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shards.sources.item import Source
from support.errors import raises
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files, write_zip

POST = {
    "id": 12,
    "rating": "g",
    "tags": ["alice", "blue_hair", "by_someone", "highres", "smile"],
    "tags_general": ["blue_hair", "smile"],
    "tags_character": ["alice"],
    "tags_artist": ["by_someone"],
    "tags_meta": ["highres"],
}


def scan(folder: Path, notes: dict[str, Any], **options: Any) -> Source:
    """Scan images with notes, whose names are those of the images without .json."""
    files = {f"{name}.json": json.dumps(note) for name, note in notes.items()}
    images = png_files(*(name if name.endswith(".png") else f"{name}.png" for name in notes))
    return scan_source(write_files(folder, {**files, **images}), **options)


def test_gallery_dl_tags_of_the_artist_and_of_the_file_are_left_out(tmp_path: Path) -> None:
    source = scan(tmp_path, {"danbooru/12.png": POST, "danbooru/13.png": {**POST, "tags_general": ["red_hair"]}})
    assert tags_by_id(source) == {
        "danbooru/12.png": ("blue hair", "smile", "alice"),
        "danbooru/13.png": ("red hair", "alice"),
    }
    assert source.problems.counts() == {"tag-of-category artist": 2, "tag-of-category meta": 2}


@pytest.mark.parametrize(
    "note",
    [
        {"tags": ["blue_hair", "smile"]},
        {"tags": "blue_hair, smile"},
        {"tag_string": "blue_hair smile"},
        {"tag_string_general": "blue_hair smile", "tag_string_artist": "someone"},
        {"tags": {"general": ["blue_hair", "smile"], "artist": ["someone"]}},
        {"tags": {"general": "blue_hair smile", "meta": "highres"}},
        {"tags": [{"id": "1", "name": "blue_hair", "category": "0"}, {"name": "smile", "category": 0}]},
        {"tags": [{"name": "blue_hair"}, {"name": "smile"}, {"name": "someone", "category": "1"}]},
        ["blue hair", "smile", "creator:someone"],
        {"tags": ["blue hair", "smile", "creator:someone", "title:untitled"]},
        {"shapes": [{"label": "blue hair", "points": [[0, 1]]}, {"label": "smile"}], "imageData": None},
    ],
)
def test_all_ways_to_write_tags(tmp_path: Path, note: Any) -> None:
    other = {"tags": ["red_hair", "smile"]}
    assert tags_by_id(scan(tmp_path, {"a": note, "b": other})) == {
        "a.png": ("blue hair", "smile"),
        "b.png": ("red hair", "smile"),
    }


def test_namespaces_of_what_is_shown_are_dropped_and_other_colons_stay(tmp_path: Path) -> None:
    source = scan(tmp_path, {"a": ["character:alice", "re:zero", "smile"], "b": ["bob"]})
    assert tags_by_id(source)["a.png"] == ("alice", "re:zero", "smile")


def test_captions_of_img2dataset_with_text_files_beside(tmp_path: Path) -> None:
    notes = {
        f"00000/{i:09}": {"caption": f"A red car, number {i}.", "url": "https://x", "key": str(i)} for i in range(3)
    }
    write_files(tmp_path, {f"{name}.txt": str(note["caption"]) for name, note in notes.items()})
    source = scan(tmp_path, notes)
    assert by_id(source)["00000/000000002.png"].caption == "A red car, number 2."
    assert source.kind == "json" and all(item.tags is None for item in source.items)


def test_tags_in_text_files_and_in_json_files_stop(tmp_path: Path) -> None:
    write_files(tmp_path, {"12.txt": "1girl, hat", "13.txt": "1boy, hat"})
    with raises("ambiguous-source", "--source sidecars", "--source json"):
        scan(tmp_path, {"12": POST, "13": POST})
    assert tags_by_id(scan_source(tmp_path, "json"))["12.png"] == ("blue hair", "smile", "alice")
    assert tags_by_id(scan_source(tmp_path, "sidecars"))["12.png"] == ("1girl", "hat")


def test_records_without_labels_stop_and_name_their_keys(tmp_path: Path) -> None:
    notes = {f"{i:05}": [{"faceAttributes": {"gender": g, "age": 30.5}}] for i, g in enumerate(["male", "female"] * 3)}
    files = {f"json/{name}.json": json.dumps(note) for name, note in notes.items()}
    write_files(tmp_path, {**files, **png_files(*(f"thumbs/00000/{name}.png" for name in notes))})
    with raises("no-labels", "faceAttributes.gender", "--columns"):
        scan_source(tmp_path)
    source = scan_source(tmp_path, columns=("faceAttributes.gender",))
    assert tags_by_id(source)["thumbs/00000/00001.png"] == ("female faceattributes.gender",)


def test_a_column_of_records_is_a_label_on_request(tmp_path: Path) -> None:
    source = scan(tmp_path, {"a": POST, "b": {**POST, "rating": "e"}}, columns=("rating",))
    assert tags_by_id(source)["b.png"] == ("blue hair", "smile", "alice", "e rating")


def test_records_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    write_files(tmp_path, {**png_files("a.png", "b.png", "c.png"), "c.json": "{cut", "b.json": "[" * 100_000})
    source = scan(tmp_path, {"a": POST})
    assert source.problems.counts()["json-file-unreadable"] == 2 and len(source.items) == 3


def test_json_files_in_a_zip(tmp_path: Path) -> None:
    files = {**png_files("x/1.png", "x/2.png"), "x/1.png.json": json.dumps(POST), "x/2.png.json": json.dumps(POST)}
    assert len(tags_by_id(scan_source(write_zip(tmp_path / "a.zip", files)))) == 2


def test_traits_of_tokens_are_tags_with_their_type(tmp_path: Path) -> None:
    def note(hair: str, level: int) -> dict[str, Any]:
        traits = [{"trait_type": "Hair", "value": hair}, {"trait_type": "Level", "value": level}, "rare"]
        return {"name": f"Ape #{level}", "description": "One of many apes.", "attributes": traits}

    source = scan(tmp_path, {"1": note("Mohawk", 1), "2": note("Bob", 2)})
    assert tags_by_id(source) == {"1.png": ("mohawk hair",), "2.png": ("bob hair",)}
