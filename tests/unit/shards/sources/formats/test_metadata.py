"""metadata.jsonl and metadata.csv, as Hugging Face's ImageFolder has them."""

from __future__ import annotations

import json
from pathlib import Path

from shards.dataset.schema import Attribute
from support.source_files import CAPTIONS, by_id, png_bytes, png_files, scan_source, tags_by_id, write_files


def test_tables_in_split_folders(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "tags": ["Red_Hair", "smile"], "caption": CAPTIONS[0], "n": 1},
        {"file_name": "sub/b.png", "tags": "red hair, hat"},
    ]
    write_files(tmp_path, {"train/metadata.jsonl": "\n".join(map(json.dumps, rows))})
    write_files(tmp_path, {"test/metadata.jsonl": '\ufeff{"file_name": "a.png", "tags": []}\n'})
    write_files(tmp_path, png_files("train/a.png", "test/a.png", "train/sub/b.png", "test/more.png"))
    source = scan_source(tmp_path)
    assert source.kind == "metadata"
    assert tags_by_id(source) == {
        "test/a.png": (),
        "test/more.png": None,
        "train/a.png": ("red hair", "smile"),
        "train/sub/b.png": ("red hair", "hat"),
    }
    assert by_id(source)["train/a.png"].caption == CAPTIONS[0]
    assert source.problems.counts() == {"column-left-out metadata.jsonl": 1, "image-unlabelled row": 1}


def test_label_column_is_the_only_class(tmp_path: Path) -> None:
    table = {"metadata.csv": "file_name,label\na.png,3\nb.png,Red_Fox\n"}
    source = scan_source(write_files(tmp_path, png_files("a.png", "b.png") | table))
    assert source.one_class and tags_by_id(source) == {"a.png": ("3",), "b.png": ("red fox",)}


def test_class_with_tags_and_text(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "label": 3, "tags": ["hat"], "text": CAPTIONS[0]},
        {"file_name": "b.png", "label": 4, "tags": ["smile"]},
    ]
    write_files(tmp_path, png_files("a.png", "b.png") | {"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    source = scan_source(tmp_path)
    assert source.attributes == (Attribute("class", "exclusive", ("3", "4")),) and not source.one_class
    assert tags_by_id(source) == {"a.png": ("hat", "3"), "b.png": ("smile", "4")}
    assert [item.caption for item in source.items] == [CAPTIONS[0], None]


def test_unreadable_lines_are_counted_and_named_by_line(tmp_path: Path) -> None:
    lines = [
        b'{"file_name": "a.png", "label": "fox"}',
        b"{broken",
        b"[1]",
        b'{"file_name": "caf\xe9.png"}',
        b'{"file_name": "gone.png"}',
        b'{"file_name": 7}',
        b"[" * 100_000,
        b'{"file_name": "b.png", "label": {"x": 1}}',
        b'{"file_name": "c.png", "label": ' + b"9" * 5000 + b"}",
        b'{"file_name": "d.png", "label": ' + b"9" * 400 + b"}",
        b'{"file_name": "../e.png", "label": "\\ud800"}',
        b'{"file_name": "f.png", "label": [1, NaN]}',
    ]
    write_files(tmp_path, {f"{name}.png": png_bytes() for name in "abcdf"} | {"metadata.jsonl": b"\n".join(lines)})
    source = scan_source(tmp_path)
    assert tags_by_id(source) == {"a.png": ("fox",)} | {f"{name}.png": None for name in "bcdf"}
    counts = source.problems.counts()
    assert counts["line-unreadable"] == 4
    assert counts["label-unreadable"] == 3
    assert counts["row-without-image"] == 4
    assert any("metadata.jsonl, line 2: " in line for line in source.problems.lines())
    json.dumps(source.problems.found, ensure_ascii=False).encode()


def test_light_tags_in_objects_are_left_out(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "a.png", "tags": {"hat": 0.9, "wig": 0.1}}',
        '{"file_name": "b.png", "tags": [{"name": "hat", "score": 0.2}, "smile"]}',
    ]
    write_files(tmp_path, png_files("a.png", "b.png") | {"metadata.jsonl": "\n".join(lines)})
    source = scan_source(tmp_path, min_weight=0.5)
    assert tags_by_id(source) == {"a.png": ("hat",), "b.png": ("smile",)}
    assert source.problems.counts() == {"tags-weighted": 3, "tags-light 0.5": 2}


def test_lists_of_numbers_in_cells_are_vectors(tmp_path: Path) -> None:
    table = {"metadata.csv": 'file_name,label\na.png,"[0.5, 1]"\nb.png,[2.  3. ]\n'}
    source = scan_source(write_files(tmp_path, png_files("a.png", "b.png") | table))
    assert {id: item.vector for id, item in by_id(source).items()} == {"a.png": (0.5, 1.0), "b.png": (2.0, 3.0)}
