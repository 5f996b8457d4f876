"""Tables as people have them: the columns they use, and the labels that come of these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import by_id, png_bytes, png_files, scan_source, tags_by_id, write_files, write_parquet

TEX = ("\\Pi", "\\pi", "\\Sigma", "\\sigma", "\\Delta", "\\delta")


def numbered(count: int, folder: str = "", extension: str = "png") -> list[str]:
    return [f"{folder}{number:06}.{extension}" for number in range(1, count + 1)]


def test_attributes_of_faces_with_their_partition_and_identity(tmp_path: Path) -> None:
    names = numbered(6)
    rows = [(1, -1), (-1, 1), (1, 1), (-1, -1), (1, -1), (-1, 1)]
    files = {
        "list_attr_celeba.txt": "6\nSmiling Young \n"
        + "".join(f"{name}  {a:2d} {b:2d}\n" for name, (a, b) in zip(names, rows, strict=True)),
        "list_eval_partition.txt": "".join(f"{name} {at % 3}\n" for at, name in enumerate(names)),
        "identity_CelebA.txt": "".join(f"{name} {at // 2 + 7}\n" for at, name in enumerate(names)),
    }
    source = scan_source(write_files(tmp_path, files | png_files(*(f"img_align_celeba/{name}" for name in names))))
    assert [(attribute.name, attribute.kind) for attribute in source.attributes] == [
        ("smiling", "tag"),
        ("young", "tag"),
    ]
    first, second, third, fourth, *_ = source.items
    assert (first.tags, first.denied, first.part, first.group) == (("smiling",), ("young",), "train", "7")
    assert (second.tags, second.denied, second.part, second.group) == (("young",), ("smiling",), "validation", "7")
    assert third.tags == ("smiling", "young") and third.part == "test"
    assert (fourth.tags, fourth.denied) == ((), ("smiling", "young"))


def test_one_table_of_classes_in_each_part(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for part in ("train", "valid"):
        rows = "".join(f"{at}_{part}.png, {at % 2}, {1 - at % 2}, {int(at < 2)}\n" for at in range(4))
        files[f"{part}/_classes.csv"] = f"filename, blue hair, red hair, smile\n{rows}"
        files |= png_files(*(f"{part}/{at}_{part}.png" for at in range(4)))
    source = scan_source(write_files(tmp_path, files))
    assert [(one.name, one.kind, one.values) for one in source.attributes] == [
        ("hair", "exclusive", ("blue hair", "red hair")),
        ("smile", "tag", ("smile",)),
    ]
    item = by_id(source)["valid/1_valid.png"]
    assert item.tags == ("blue hair", "smile") and item.part == "validation"
    assert source.problems.counts()["columns-one-hot hair"] == 2


def test_catalogue_with_a_comma_too_many_and_cells_that_are_empty(tmp_path: Path) -> None:
    colours = ["Red", "Blue", "NA"]
    rows = [f"{at},{['Men', 'Women'][at % 2]},{colours[at % 3]},{2010 + at % 3},Shirt {at}" for at in range(12)]
    rows[5] += ", navy"
    table = "id,gender,colour,year,name\n" + "\n".join(rows)
    source = scan_source(
        write_files(tmp_path, {"styles.csv": table} | png_files(*(f"images/{at}.png" for at in range(12))))
    )
    assert source.kind == "table" and "styles.csv: column id names 11 of 12 images" in source.evidence
    assert tags_by_id(source)["images/0.png"] == ("men gender", "red colour")
    assert tags_by_id(source)["images/2.png"] == ("men gender",)
    assert tags_by_id(source)["images/5.png"] is None
    uses = {use.name: use for use in source.columns}
    assert uses["year"].becomes == "" and "--class year" in uses["year"].why
    assert uses["name"].becomes == ""
    chosen = scan_source(tmp_path, class_=("year",))
    assert tags_by_id(chosen)["images/0.png"] == ("2010 year",)


def test_list_of_files_with_their_classes(tmp_path: Path) -> None:
    table = "".join(f"images/{at}.png {at % 2}\n" for at in range(6))
    source = scan_source(
        write_files(tmp_path, {"train.txt": table} | png_files(*(f"images/{at}.png" for at in range(6))))
    )
    assert source.one_class and tags_by_id(source)["images/1.png"] == ("1",)
    source = scan_source(write_files(tmp_path, {"synsets.txt": "blue\nred\n"}))
    assert tags_by_id(source)["images/1.png"] == ("red",)
    assert source.problems.counts()["class-named-by-list synsets.txt"] == 2


def test_named_table_and_column_of_ids(tmp_path: Path) -> None:
    images = png_files("a.png", "b.png")
    table = "code,photo,kind\nb,a.png,cat\na,b.png,dog\n"  # either column may name the images
    write_files(tmp_path, images | {"one.csv": table, "two.csv": "id,kind\na,owl\nb,bat\n"})
    with raises("ambiguous-table", "--table one.csv", "--table two.csv"):
        scan_source(tmp_path)
    assert tags_by_id(scan_source(tmp_path, table="two.csv"))["a.png"] == ("owl",)
    by_photo = scan_source(tmp_path, table="one.csv", id="photo", class_=("kind",))
    assert tags_by_id(by_photo)["a.png"] == ("cat kind",)
    by_code = scan_source(tmp_path, table="one.csv", id="code", class_=("kind",))
    assert tags_by_id(by_code)["a.png"] == ("dog kind",)
    with raises("table-missing", "--table three.csv", "one.csv, two.csv"):
        scan_source(tmp_path, table="three.csv")


def test_table_wins_over_folders_if_it_has_labels(tmp_path: Path) -> None:
    images = png_files("x/1.png", "x/2.png", "y/3.png", "y/4.png")
    write_files(tmp_path, images | {"list.csv": "id,mood\n1,glad\n2,sad\n3,glad\n4,sad\n"})
    assert tags_by_id(scan_source(tmp_path))["x/2.png"] == ("sad",)
    write_files(tmp_path, {"list.csv": "id,size\n1,17\n2,18\n3,19\n4,20\n"})
    assert scan_source(tmp_path).kind == "classes"


def test_classes_by_name_in_parquet(tmp_path: Path) -> None:
    fine, coarse = ["apple", "bear", "bee"], ["food", "animal"]
    columns = {"img": [png_bytes(at) for at in range(6)], "fine_label": [0, 1, 2] * 2, "coarse_label": [0, 1, 1] * 2}
    features = {
        "fine_label": {"names": fine, "_type": "ClassLabel"},
        "coarse_label": {"names": coarse, "_type": "ClassLabel"},
    }
    path = write_parquet(tmp_path / "train-00000-of-00001.parquet", columns, features)
    source = scan_source(path, spool=tmp_path / "spool")
    assert [(one.name, one.values) for one in source.attributes] == [
        ("fine label", ("apple", "bear", "bee")),
        ("coarse label", ("animal", "food")),
    ]
    assert [item.tags for item in source.items][:2] == [("apple", "food"), ("bear", "animal")]


def test_named_columns_of_numbered_classes_in_parquet(tmp_path: Path) -> None:
    images = [{"bytes": png_bytes(at)} for at in range(8)]
    columns = {
        "image": images,
        "breed_label": [0, 1, 2, 0, 1, 2, 0, 1],
        "kind_label": [0, 0, 1, 0, 0, 1, 0, 0],
        "colour": [0, 1, 0, 1, 0, 1, -1, 0],
        "wild": [0, 1, 0, 1, 0, 1, 0, 1],
    }
    names = {
        "breed_label": ["beagle", "pug", "manx"],
        "kind_label": ["dogs", "cats"],
        "colour": ["black", "white"],
        "wild": ["yes", "no"],
    }
    features: dict[str, object] = {name: {"names": words, "_type": "ClassLabel"} for name, words in names.items()}
    write_parquet(tmp_path / "src/train.parquet", columns, features)

    def first_two(*named: str) -> list[tuple[str, ...] | None]:
        source = scan_source(tmp_path / "src", spool=tmp_path / "spool", columns=named)
        assert not any(item.vector for item in source.items)
        return [item.tags for item in source.items[:2]]

    assert first_two("breed_label") == [("beagle",), ("pug",)]  # and not the other column of labels
    source = scan_source(tmp_path / "src", spool=tmp_path / "spool", columns=("breed_label",))
    assert source.problems.counts()["column-left-out the Parquet files"] == 3
    assert first_two("breed_label", "colour") == [("beagle", "black colour"), ("pug", "white colour")]
    assert first_two("wild", "breed_label") == [("wild", "beagle"), ("pug",)]


def test_lists_of_numbered_classes_in_parquet_are_tags(tmp_path: Path) -> None:
    images = [{"bytes": png_bytes(at)} for at in range(4)]
    features = {"seen": {"feature": {"names": ["grass", "snow"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    columns = {"image": images, "seen": [[0], [0, 1], [1], []]}
    write_parquet(tmp_path / "src/train.parquet", columns, features)
    source = scan_source(tmp_path / "src", spool=tmp_path / "spool")
    assert [item.tags for item in source.items] == [("grass",), ("grass", "snow"), ("snow",), ()]


def test_named_column_of_labels_is_read_as_without_the_option(tmp_path: Path) -> None:
    columns = {"file_name": [f"{at}.png" for at in range(4)], "label": [[0], [0, 1], [1], []]}
    write_files(tmp_path, png_files(*(f"{at}.png" for at in range(4))))
    write_parquet(tmp_path / "metadata.parquet", columns, {"label": {"feature": {"names": ["grass", "snow"]}}})
    items = scan_source(tmp_path, columns=("label",)).items
    assert [item.tags for item in items[:3]] == [("grass",), ("grass", "snow"), ("snow",)]
    (tmp_path / "metadata.parquet").unlink()
    for cells, expected in (
        (('"[0, 0.5]"', '"[1, 0.5]"', '"[2, 0.5]"', '"[3, 0.5]"'), (None, (1.0, 0.5))),
        (("0.5", "0.25", "1", "2"), (None, (0.25,))),
        (("3", "3.0", "2", "2"), (("3",), None)),
    ):
        table = "".join(f"{at}.png,{cell}\n" for at, cell in enumerate(cells))
        write_files(tmp_path, {"metadata.csv": f"file_name,label\n{table}"})
        item = scan_source(tmp_path, columns=("label",)).items[1]
        assert (item.tags, item.vector) == expected


def test_two_numbered_classes_in_a_parquet_table_beside_images(tmp_path: Path) -> None:
    columns = {"file_name": [f"{at}.png" for at in range(6)], "animal": [0, 1, 0, 1, 0, -1]}
    write_files(tmp_path, png_files(*(f"{at}.png" for at in range(6))))
    write_parquet(tmp_path / "metadata.parquet", columns, {"animal": {"names": ["cat", "dog"]}})
    source = scan_source(tmp_path)
    assert [item.tags for item in source.items[:2]] == [("cat",), ("dog",)] and source.items[5].tags is None
    assert source.problems.counts()["class-negative 'animal'"] == 1


def test_labels_that_differ_by_one_capital_letter_are_one_and_counted(tmp_path: Path) -> None:
    rows = "".join(f"{at}.png,{['Cat', 'cat', 'dog'][at % 3]}\n" for at in range(12))
    files = {"labels.csv": f"file,label\n{rows}"} | png_files(*(f"{at}.png" for at in range(12)))
    source = scan_source(write_files(tmp_path, files))
    assert tags_by_id(source)["0.png"] == tags_by_id(source)["1.png"] == ("cat",)
    assert source.problems.counts()["class-names-merged"] == 1


def test_commands_of_tex_are_classes(tmp_path: Path) -> None:
    rows = "".join(f"{at}.png,{TEX[at % 6]}\n" for at in range(12))
    files = {"labels.csv": f"file,label\n{rows}"} | png_files(*(f"{at}.png" for at in range(12)))
    source = scan_source(write_files(tmp_path, files))
    assert tags_by_id(source)["0.png"] == ("capital \\pi",)
    assert tags_by_id(source)["1.png"] == ("small \\pi",)


def test_parquet_table_beside_images(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("train/a.png", "train/b.png"))
    write_parquet(tmp_path / "train/metadata.parquet", {"file_name": ["a.png", "b.png"], "label": ["cat", "dog"]})
    assert tags_by_id(scan_source(tmp_path)) == {"train/a.png": ("cat",), "train/b.png": ("dog",)}


def test_table_without_a_label_is_named_with_its_columns(tmp_path: Path) -> None:
    table = "id,age\n" + "".join(f"{at},{20 + at % 3}\n" for at in range(6))
    write_files(tmp_path, {"ages.csv": table} | png_files(*(f"{at}.png" for at in range(6))))
    with raises("no-label-column", "ages.csv", "age: 3 different numbers", "--class or --numbers"):
        scan_source(tmp_path)
    assert [item.vector for item in scan_source(tmp_path, table="ages.csv", numbers=("age",)).items][:2] == [
        (20.0,),
        (21.0,),
    ]


def test_names_of_single_images_are_no_tags_though_they_are_written_as_lists(tmp_path: Path) -> None:
    """As lists of emoji have them; the category is the label."""
    kinds = ("flag", "keycap", "person")
    rows = "".join(f"{n}.png,\"['word{n}', 'thing{n}']\",{kinds[n % 3]}s\n" for n in range(60))
    images = png_files(*(f"{n}.png" for n in range(60)))
    source = scan_source(write_files(tmp_path, {**images, "emoji.csv": "image,name,category\n" + rows}))
    assert tags_by_id(source) == {f"{n}.png": (f"{kinds[n % 3]}s",) for n in range(60)}


def test_lists_of_names_are_no_tags_if_the_names_hardly_recur(tmp_path: Path) -> None:
    rows = [{"image": f"{n}.png", "short_names": [f"name{n}"], "category": "ab"[n % 2]} for n in range(60)]
    images = png_files(*(f"{n}.png" for n in range(60)))
    source = scan_source(write_files(tmp_path / "a", {**images, "emoji.json": json.dumps(rows)}))
    assert tags_by_id(source) == {f"{n}.png": ("ab"[n % 2],) for n in range(60)}
    rows = [{"image": f"{n}.png", "kinds": [f"kind{n % 4}", f"sort{n % 3}"]} for n in range(60)]
    source = scan_source(write_files(tmp_path / "b", {**images, "emoji.json": json.dumps(rows)}))
    assert tags_by_id(source)["5.png"] == ("kind1", "sort2")


@pytest.mark.parametrize("columns", [(), ("glasses", "region", "yaw", "hat")])
@pytest.mark.parametrize("table", ["list.csv", "tags.csv"])
def test_none_is_a_value_among_words_and_a_gap_elsewhere(tmp_path: Path, table: str, columns: tuple[str, ...]) -> None:
    if table == "tags.csv" and not columns:
        columns = ("all",)
    glasses, regions = ("None", "round", "None", "square"), ("NA", "EU", "EU", "AS")
    yaws, hats = ("0.5", "none", "1.25", "2"), ("yes", "no", "none", "yes")
    rows = [f"{at:06}.png,{glasses[at % 4]},{regions[at % 4]},{yaws[at % 4]},{hats[at % 4]}\n" for at in range(16)]
    files = {table: "id,glasses,region,yaw,hat\n" + "".join(rows)} | png_files(*(f"{at:06}.png" for at in range(16)))
    source = scan_source(write_files(tmp_path, files), columns=columns)
    kinds = {attribute.name: (attribute.kind, set(attribute.values)) for attribute in source.attributes}
    assert kinds["glasses"] == ("exclusive", {"none glasses", "round glasses", "square glasses"})
    assert kinds["region"] == ("exclusive", {"eu region", "as region"}) and kinds["hat"][0] == "tag"
    first, second, third, _ = source.items[:4]
    assert set(first.tags or ()) == {"none glasses", "hat"} and set(third.tags or ()) == {"none glasses", "eu region"}
    assert second.denied == ("hat",) and third.denied == () and second.vector is None
    said = source.problems.counts()
    assert (said["cell-none 'glasses'"], said["cell-not-known 'region'"]) == (8, 4)
    assert not [code for code in said if code.startswith("cell-") and ("yaw" in code or "hat" in code)]


def test_none_and_one_word_are_two_classes(tmp_path: Path) -> None:
    rows = "".join(f"{at:06}.png,{'none' if at % 3 else 'glasses'}\n" for at in range(12))
    files = {"list.csv": "file,eyewear\n" + rows} | png_files(*(f"{at:06}.png" for at in range(12)))
    tags = tags_by_id(scan_source(write_files(tmp_path, files)))
    assert (tags["000000.png"], tags["000001.png"]) == (("glasses",), ("none",))


def test_a_label_that_says_none_is_a_class(tmp_path: Path) -> None:
    rows = "".join(f"{at:06}.png,{('none', 'cat', 'dog')[at % 3]}\n" for at in range(12))
    files = {"list.csv": "file,label\n" + rows} | png_files(*(f"{at:06}.png" for at in range(12)))
    source = scan_source(write_files(tmp_path, files))
    assert tags_by_id(source)["000000.png"] == ("none",)
    assert source.problems.counts()["cell-none 'label'"] == 4
