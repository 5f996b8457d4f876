"""Labels that look wrong stop a command until a person confirms them; labels that only look unusual do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.labels.doubts import find_doubts
from shards.packing.labels.infer_schema import infer_schema
from shards.packing.pack import Pack, pack, pack_part
from shards.sources.item import ImageFile, Item, Source
from support.errors import raises
from support.source_files import merged, png_files, write_files, write_tar


def _doubts(rows: Iterable[Sequence[str]], kind: str = "tags", one_class: bool = True) -> list[str]:
    """Return the codes of the doubts about images with these tags."""
    items = [Item(f"{i}.png", ImageFile(f"{i}.png", f"{i}.png"), tuple(tags)) for i, tags in enumerate(rows)]
    schema = infer_schema([item.tags for item in items], one_class=one_class)
    return [doubt.code for doubt in find_doubts(Source(kind, items), schema)]


def _each(values: Iterable[str], images: int = 5) -> list[tuple[str]]:
    return [(value,) for value in values for _ in range(images)]


def test_an_id_as_class_is_doubted() -> None:
    assert _doubts([(f"photo {i}",) for i in range(30)]) == ["class-per-image"]


def test_a_long_tail_of_single_images_is_doubted_with_its_count() -> None:
    rows = [*_each(map(str, range(12))), *[(f"rare {i}",) for i in range(7)]]
    assert _doubts(rows) == ["values-of-one-image"]
    assert _doubts(rows[:-2]) == []  # 5 of 17


@pytest.mark.parametrize("separator", ["|", ";", "/", "+", "，", "、", " / "])
def test_combinations_joined_by_a_separator_are_doubted(separator: str) -> None:
    values = [separator.join(pair) for pair in itertools.combinations(("action", "comedy", "drama", "war"), 2)]
    assert _doubts(_each(values)) == ["values-joined"]


def test_tags_of_one_image_each_are_doubted() -> None:
    rows = [("animal" if i % 2 else "plant", f"name {i}", "seen") for i in range(60)]
    assert "tags-of-one-image" in _doubts(rows, one_class=False)
    rows = [("animal" if i % 2 else "plant", f"name {i % 12}", "seen") for i in range(60)]
    assert "tags-of-one-image" not in _doubts(rows, one_class=False)


def test_trap_numbers_with_units_are_doubted() -> None:
    assert _doubts(_each([*(f"{n} cm" for n in range(165, 170)), "1 7 m", "1.8 m"])) == ["values-not-words"]
    assert _doubts(_each(["1 pound", "2 pounds", "penny"])) == []


def test_combinations_joined_by_blanks_are_doubted() -> None:
    values = map(" ".join, itertools.product(("young", "old", "teen"), ("male", "female"), ("smiling", "sad")))
    assert _doubts(_each(values)) == ["values-joined"]
    values = map(
        " ".join, itertools.product(("clear", "haze"), ("primary", "farm water", "primary road", "water road"))
    )
    assert _doubts(_each(values)) == ["values-joined"]


@pytest.mark.parametrize(
    "values",
    [
        ["cat;outdoor", "dog", "dog;indoor", "cat;night"],
        ["scab", "rust", "scab rust", "mildew", "mildew rust"],
        ["16 0", "7 1", "0", "1 16"],
    ],
)
def test_values_that_join_other_values_are_doubted(values: list[str]) -> None:
    assert _doubts(_each(values)) == ["values-joined"]


@pytest.mark.parametrize(
    "values",
    [
        ("['blue hair', 'smile']", "['red hair']", "['smile']"),
        ('{"hair": "blue"}', '{"hair": "red"}'),
        ("0 0.5 0.5 0.2 0.1", "1 0.25 0.5 0.2 0.1"),
        ("d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661"),
        ("/home/me/cats", "/home/me/dogs"),
        ("a/001.jpg", "b/002.jpg"),
        ("https://example.org/1", "https://example.org/2"),
        ("2019-05-01", "2020-06-02"),
        ("0.25", "0.75", "1.0"),
    ],
)
def test_values_that_are_not_words_are_doubted(values: tuple[str, ...]) -> None:
    assert "values-not-words" in _doubts(_each(values))


@pytest.mark.parametrize(
    "values",
    [
        list("0123456789"),
        [str(age) for age in range(1, 90)],
        ["1998", "1999", "2000", "2001"],
        ["001 black footed albatross", "002 laysan albatross", "003 sooty albatross", "004 black tern"],
        ["a/b testing", "unit testing", "c++", "c", "rock & roll", "him/her"],
        [f"{shade} {colour} hair" for shade in ("light", "dark") for colour in ("red", "blue", "green", "pink", "tan")],
        [
            "great white shark",
            "tiger shark",
            "tiger cat",
            "white wolf",
            "red wolf",
            "grey wolf",
            "red fox",
            "arctic fox",
        ],
        [f"id {number:05}" for number in range(300)],
        ["t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"],
        ["train", "car", "bus", "bicycle"],
        ["20 29", "30 39", "40 49", "50 59"],
        ["tiger", "cat", "tiger cat", "tiger shark"],
        ["with mask", "without mask", "mask worn incorrectly"],
        ["1girl", "2girls", "solo", ":d", ">:)", "(o) (o)", "^ ^"],
    ],
)
def test_unusual_classes_are_not_doubted(values: list[str]) -> None:
    assert _doubts(_each(values), kind="classes") == []


@pytest.mark.parametrize(
    "folders", [("train", "test"), ("part1", "part2"), ("images", "masks"), ("images", "annotations")]
)
def test_folders_that_are_no_classes_are_doubted(folders: tuple[str, str]) -> None:
    assert "folders-not-classes" in _doubts(_each(folders), kind="classes")


def test_few_images_are_not_doubted() -> None:
    assert _doubts([("blue hair", "smile"), ("red hair", "smile"), ("green hair",)], one_class=False) == []


def _ids_as_tags(folder: Path) -> Path:
    names = [f"{i}.png" for i in range(12)]
    rows = "".join(f"{i},photo {i}\n" for i in range(12))
    return write_files(folder, {**png_files(*names), "tags.csv": f"id,tags\n{rows}"})


def test_doubtful_labels_stop_packing_and_nothing_is_left(tmp_path: Path) -> None:
    options = {"src": _ids_as_tags(tmp_path / "src"), "out": tmp_path / "out", "workers": 1}
    with raises("labels-doubtful", "12 values", "'photo 0'", "--yes", "tags.csv"):
        pack(Pack(**options))
    with raises("labels-doubtful"):
        pack_part(Pack(**options, part="1/2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]
    assert len(pack(Pack(**options, yes=True)).schema.values) == 12


def test_a_schema_of_ones_own_is_a_confirmation(tmp_path: Path) -> None:
    options = {"src": _ids_as_tags(tmp_path / "src"), "workers": 1}
    made = pack(Pack(**options, out=tmp_path / "first", yes=True))
    again = pack(Pack(**options, out=tmp_path / "second", schema=made.path / "schema.yaml"))
    assert again.schema == made.schema


def test_a_schema_that_no_label_is_in_is_doubted(tmp_path: Path) -> None:
    other = write_files(tmp_path, {"s.yaml": "attributes:\n- {name: hair, kind: exclusive, values: [red, blue]}\n"})
    with raises("labels-doubtful", "12 images"):
        pack(Pack(_ids_as_tags(tmp_path / "src"), tmp_path / "out", workers=1, schema=other / "s.yaml"))


def test_doubtful_labels_stop_indexing_in_place(tmp_path: Path) -> None:
    images = png_files(*(f"{i}.png" for i in range(12)))
    (tmp_path / "t").mkdir()
    write_tar(tmp_path / "t" / "a.tar", merged(images, {f"{i}.cls": f"photo {i}" for i in range(12)}))
    with raises("labels-doubtful"):
        index_in_place(IndexInPlace(tmp_path / "t", workers=1))
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["a.tar"]
    assert len(index_in_place(IndexInPlace(tmp_path / "t", workers=1, yes=True))) == 12
