"""Names of numbered classes: from which number a list counts, and which lists and tables are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.packing.labels.doubts import find_doubts
from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from support.source_files import merged, npy_bytes, png_files, scan_source, tags_by_id, write_files, write_tar

NAMES = "cat\ndog\nowl\n"
COUNT = 24


def write_source(folder: Path, files: dict[str, str], first: int, header: str = "file,label") -> Path:
    """Write images with the classes first, first + 1 and first + 2, and the files."""
    rows = "".join(f"{at:03}.png,{first + at % 3}\n" for at in range(COUNT))
    images = png_files(*(f"{at:03}.png" for at in range(COUNT)))
    return write_files(folder, images | {"labels.csv": f"{header}\n{rows}"} | files)


def first_three(source: Source) -> list[str]:
    """Return the labels of the first three images."""
    return [(tags_by_id(source)[f"{at:03}.png"] or ("",))[0] for at in range(3)]


def doubts_of(source: Source) -> list[str]:
    """Return the codes of the doubts about a source."""
    return [doubt.code for doubt in find_doubts(source, build_labelling(source, LabelOptions()).schema)]


@pytest.mark.parametrize(("names", "first"), [(NAMES, 0), (NAMES + "fox\n", 0), (NAMES, 1)])
def test_a_list_counts_as_the_labels_do(tmp_path: Path, names: str, first: int) -> None:
    source = scan_source(write_source(tmp_path, {"classes.txt": names}, first))
    assert first_three(source) == ["cat", "dog", "owl"] and doubts_of(source) == []


@pytest.mark.parametrize("file", ["classes.txt", "class_names.json"])
def test_names_are_not_guessed_where_a_list_may_count_from_0_or_1(tmp_path: Path, file: str) -> None:
    names = ["cat", "dog", "owl", "fox"]
    text = json.dumps(names) if file.endswith(".json") else "\n".join(names)
    source = scan_source(write_source(tmp_path, {file: text}, 1))
    assert first_three(source) == ["1", "2", "3"]
    assert doubts_of(source) == ["class-list-unclear"]
    (key,) = (key for key in source.problems.counts() if key.startswith("class-list-unclear"))
    assert all(word in key for word in (file, "'dog' if it counts from 0", "'cat' if from 1"))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "1 cat\n2 dog\n3 owl\n4 fox\n"),
        ("classes.txt", "4: fox\n3: owl\n2: dog\n1: cat\n"),
        ("cat_to_name.json", '{"1": "cat", "2": "dog", "3": "owl", "9": "fox"}'),
        ("class_to_idx.json", '{"cat": 1, "dog": 2, "owl": 3, "fox": 9}'),
        ("categories.json", '[{"id": 1, "name": "cat"}, {"id": 3, "name": "owl"}, {"id": 2, "name": "dog"}]'),
        ("config_labels.json", '{"id2label": {"1": "cat", "2": "dog", "3": "owl", "4": "fox"}}'),
    ],
)
def test_numbers_in_a_list_are_those_of_the_classes(tmp_path: Path, file: str, text: str) -> None:
    source = scan_source(write_source(tmp_path, {file: text}, 1))
    assert first_three(source) == ["cat", "dog", "owl"] and doubts_of(source) == []
    assert any(key == f"class-named-by-list {file}" for key in source.problems.counts())
    assert not any(key.startswith("table-not-used") for key in source.problems.counts())


def test_lists_that_do_not_fit_are_named(tmp_path: Path) -> None:
    source = scan_source(write_source(tmp_path, {"classes.txt": "cat\ndog\n"}, 1))
    assert first_three(source) == ["1", "2", "3"]
    assert source.problems.counts()["class-list-not-used classes.txt"] == 1


def test_lists_that_differ_are_doubted(tmp_path: Path) -> None:
    files = {"classes.txt": NAMES, "label_map.json": '{"owl": 0, "dog": 1, "cat": 2}'}
    source = scan_source(write_source(tmp_path, files, 0))
    assert first_three(source) == ["0", "1", "2"] and doubts_of(source) == ["class-lists-differ"]
    source = scan_source(write_files(tmp_path, {"label_map.json": '{"Cat": 0, "Dog": 1, "Owl": 2}'}))
    assert first_three(source) == ["cat", "dog", "owl"] and doubts_of(source) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.csv", "class_id,class_name\n1,cat\n2,dog\n3,owl\n"),
        (
            "kinds.jsonl",
            '{"class_id": 1, "name": "cat"}\n{"class_id": 2, "name": "dog"}\n{"class_id": 3, "name": "owl"}\n',
        ),
        ("classes.csv", "name\ncat\ndog\nowl\n"),
        ("kinds.tsv", "name\tclass_id\nowl\t3\ndog\t2\ncat\t1\n"),
        ("meta.csv", "class_id,order,name,size\n1,mammals,cat,4\n2,mammals,dog,9\n3,birds,owl,4\n"),
        ("list_class_kind.txt", "3\nclass_name  class_type\ncat  1\ndog  1\nowl  2\n"),
    ],
)
def test_a_table_of_numbers_and_names_names_the_classes(tmp_path: Path, file: str, text: str) -> None:
    source = scan_source(write_source(tmp_path, {file: text}, 1, "file,class_id"))
    assert first_three(source) == ["cat", "dog", "owl"]
    assert not any(key.startswith("table-not-used") for key in source.problems.counts())


def test_a_table_of_something_else_names_no_classes(tmp_path: Path) -> None:
    people = "number,person\n" + "".join(f"{at},person {at}x\n" for at in range(20))
    source = scan_source(write_source(tmp_path, {"people.csv": people}, 1))
    assert first_three(source) == ["1", "2", "3"]


def test_names_of_classes_in_arrays(tmp_path: Path) -> None:
    labels = [1 + at % 3 for at in range(COUNT)]
    images = {"x.npy": npy_bytes([[[[at] * 3] * 8] * 8 for at in range(COUNT)]), "y.npy": npy_bytes(labels)}

    def first(names: str) -> tuple[list[str | None], Source]:
        source = scan_source(write_files(tmp_path, images | {"class_names.txt": names}), spool=tmp_path.parent)
        return [item.tags[0] if item.tags else None for item in source.items[:3]], source

    assert first(NAMES)[0] == ["cat", "dog", "owl"]
    assert first("1 cat\n2 dog\n3 owl\n4 fox\n")[0] == ["cat", "dog", "owl"]
    words, source = first(NAMES + "fox\n")
    assert words == ["1", "2", "3"] and doubts_of(source) == ["class-list-unclear"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cat_to_name.json", '{"1": "cat", "2": "dog", "3": "owl"}'),
        ("signs.csv", "ClassId,Name\n1,cat\n2,dog\n3,owl\n"),
    ],
)
def test_folders_that_are_numbers_have_the_names_of_a_list(tmp_path: Path, file: str, text: str) -> None:
    names = [f"{kind}/{at}x.png" for kind in ("1", "2", "3") for at in range(6)]
    source = scan_source(write_files(tmp_path, png_files(*names) | {file: text}))
    assert source.kind == "classes" and tags_by_id(source)["2/0x.png"] == ("dog",)


@pytest.mark.parametrize(("first", "names"), [(0, NAMES), (1, NAMES), (1, "1 cat\n2 dog\n3 owl\n4 fox\n")])
def test_names_of_classes_beside_tars(tmp_path: Path, first: int, names: str) -> None:
    samples: dict[str, str | bytes] = {f"{at:03}.cls": str(first + at % 3) for at in range(COUNT - 1)}
    samples["023.cls"] = "-1"
    write_tar(tmp_path / "a.tar", merged(samples, png_files(*(f"{at:03}.png" for at in range(COUNT)))))
    source = scan_source(write_files(tmp_path, {"classes.txt": names}))
    assert [item.tags for item in source.items[:3]] == [("cat",), ("dog",), ("owl",)]
    assert source.items[23].tags is None and source.problems.counts()["label-negative"] == 1
