"""Folders of classes as datasets unpack: with parts, buckets, levels, numbers, ids, masks, and files left behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from support.errors import raises
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files


def schema(source: Source) -> dict[str, tuple[str, ...]]:
    """Return attribute → values of the schema that is inferred for a source."""
    return {a.name: a.values for a in build_labelling(source, LabelOptions()).schema.attributes}


def numbered(folder: str, numbers: Iterable[int], form: str = "{}.png") -> list[str]:
    return [f"{folder}/{form.format(number)}" for number in numbers]


def test_tiny_imagenet(tmp_path: Path) -> None:
    ids = ("n01443537", "n01629819")
    names = [name for wnid in ids for name in numbered(f"train/{wnid}/images", range(2), wnid + "_{}.png")]
    names += [*numbered("val/images", range(3), "val_{}.png"), *numbered("test/images", range(2), "test_{}.png")]
    texts = {
        "wnids.txt": "n01443537\nn01629819\n",
        "words.txt": "n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\n",
        "val/val_annotations.txt": "val_0.png\tn01443537\t0\t0\t9\t9\nval_1.png\tn01629819\t0\t0\t9\t9\n",
        "train/n01443537/n01443537_boxes.txt": "n01443537_0.png\t0\t0\t9\t9\n",
    }
    source = scan_source(write_files(tmp_path, png_files(*names) | texts))
    assert schema(source) == {"class": ("european fire salamander", "goldfish")}
    items = by_id(source)
    assert items["train/n01443537/images/n01443537_0.png"].tags == ("goldfish",)
    assert items["val/images/val_0.png"].tags == ("goldfish",)
    assert items["val/images/val_1.png"].tags == ("european fire salamander",)
    assert items["val/images/val_2.png"].tags is None and items["test/images/test_0.png"].tags is None
    assert {item.part for item in source.items} == {"train", "validation", "test"}
    counts = source.problems.counts()
    assert counts["class-named-by-synset"] == 2 and counts["image-outside-class-folder"] == 3


def test_imagenet_with_its_list_of_names(tmp_path: Path) -> None:
    names = ("train/n01440764/1.png", "train/n02084071/2.png", "val/ILSVRC2012_val_00000001.png")
    top = "ILSVRC/Data/CLS-LOC"
    texts = {
        "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\nn02084071 dog\n",
        "LOC_val_solution.csv": "ImageId,PredictionString\nILSVRC2012_val_00000001,n02084071 1 2 3 4\n",
    }
    source = scan_source(write_files(tmp_path, png_files(*(f"{top}/{name}" for name in names)) | texts))
    assert tags_by_id(source) == {
        f"{top}/{names[0]}": ("tench",),
        f"{top}/{names[1]}": ("dog",),
        f"{top}/{names[2]}": ("dog",),
    }


def test_unlabelled_part_beside_classes(tmp_path: Path) -> None:
    names = ["seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/2.png", "seg_test/seg_test/sea/3.png"]
    source = scan_source(write_files(tmp_path, png_files(*names, "seg_pred/seg_pred/4.png")))
    assert schema(source) == {"class": ("ice", "sea")}
    assert [(item.id, item.tags, item.part) for item in source.items] == [
        ("seg_pred/seg_pred/4.png", None, "unlabelled"),
        ("seg_test/seg_test/sea/3.png", ("sea",), "test"),
        ("seg_train/seg_train/ice/2.png", ("ice",), "train"),
        ("seg_train/seg_train/sea/1.png", ("sea",), "train"),
    ]


def test_two_domains(tmp_path: Path) -> None:
    source = scan_source(write_files(tmp_path, png_files("trainA/1.png", "trainB/2.png", "testA/3.png")))
    assert tags_by_id(source) == {"trainA/1.png": ("a",), "trainB/2.png": ("b",), "testA/3.png": ("a",)}
    assert [item.part for item in source.items] == ["test", "train", "train"]


def test_leaves_below_first_letters_are_classes(tmp_path: Path) -> None:
    names = ("a/airfield/1.png", "a/apartment_building/outdoor/2.png", "b/beach/3.png")
    source = scan_source(write_files(tmp_path, png_files(*(f"data_256/{name}" for name in names))))
    assert schema(source) == {"class": ("airfield", "apartment building outdoor", "beach")}
    assert source.problems.counts() == {"folder-names-joined": 1, "folder-divides-files": 2}


def test_two_levels_are_two_attributes(tmp_path: Path) -> None:
    names = [
        f"{style}/{animal}/{i}.png" for style in ("photo", "sketch") for animal in ("dog", "owl") for i in range(2)
    ]
    source = scan_source(write_files(tmp_path, png_files(*names)))
    assert schema(source) == {"folder": ("photo", "sketch"), "class": ("dog", "owl")}
    assert tags_by_id(source)["sketch/owl/1.png"] == ("owl", "sketch")
    assert source.problems.found == {"folder-level-is-attribute 'folder'": ["photo", "sketch"]}


def test_groups_of_classes_are_an_attribute(tmp_path: Path) -> None:
    source = scan_source(write_files(tmp_path, png_files("pets/cat/1.png", "pets/dog/2.png", "cars/dog/3.png")))
    assert schema(source) == {"folder": ("cars", "pets"), "class": ("cat", "dog")}
    same = scan_source(write_files(tmp_path / "same", png_files("fox/red/1.png", "red/fox/2.png")))
    assert schema(same) == {"folder": ("fox (folder)", "red (folder)"), "class": ("fox", "red")}
    assert tags_by_id(same)["red/fox/2.png"] == ("fox", "red (folder)")


def test_names_that_differ_by_case_alone(tmp_path: Path) -> None:
    source = scan_source(write_files(tmp_path, png_files("A/1.png", "a/2.png", "C/3.png", "7/4.png")))
    assert tags_by_id(source) == {
        "A/1.png": ("capital a",),
        "a/2.png": ("small a",),
        "C/3.png": ("c",),
        "7/4.png": ("7",),
    }
    assert source.problems.counts() == {"case-kept-apart": 2}
    parts = scan_source(
        write_files(tmp_path / "parts", png_files("train/Cat/1.png", "train/dog/2.png", "test/cat/3.png"))
    )
    assert tags_by_id(parts)["test/cat/3.png"] == tags_by_id(parts)["train/Cat/1.png"] == ("cat",)
    assert parts.problems.counts()["class-names-merged"] == 1


def test_numbers_before_names(tmp_path: Path) -> None:
    birds = write_files(tmp_path / "birds", png_files("images/001.Black_Albatross/1.png", "images/002.Gull/2.png"))
    assert schema(scan_source(birds)) == {"class": ("black albatross", "gull")}
    dogs = write_files(tmp_path / "dogs", png_files("n02085620-Chihuahua/1.png", "n02086240-Shih-Tzu/2.png"))
    assert schema(scan_source(dogs)) == {"class": ("chihuahua", "shih-tzu")}
    repeats = write_files(tmp_path / "kohya", png_files("10_artoria/1.png", "10_artoria (2)/2.png", "5_jeanne/3.png"))
    source = scan_source(repeats)
    assert tags_by_id(source)["10_artoria (2)/2.png"] == ("artoria",)
    assert source.problems.counts() == {"folder-is-copy": 1, "folder-number-removed": 2}
    money = write_files(tmp_path / "money", png_files("10_euro/1.png", "20_euro/2.png"))
    assert schema(scan_source(money)) == {"class": ("10 euro", "20 euro")}


def test_buckets_alone_are_a_question(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("00000/00003.png", "01000/01003.png", "02000/02003.png"))
    with raises("unclear-source", "00000/", "--source classes", "--source pictures"):
        scan_source(tmp_path)
    assert schema(scan_source(tmp_path, "classes")) == {"class": ("00000", "01000", "02000")}


def test_masks_beside_images_are_left_out(tmp_path: Path) -> None:
    birds = [f"001.Gull/{i}.png" for i in range(3)] + [f"002.Tern/{i}.png" for i in range(3, 6)]
    names = [f"{top}/{name}" for top in ("images", "segmentations") for name in birds]
    source = scan_source(write_files(tmp_path, png_files(*names)))
    assert schema(source) == {"class": ("gull", "tern")} and len(source.items) == 6
    assert source.problems.counts()["mask-left-out"] == 6


def test_oxford_pets(tmp_path: Path) -> None:
    names = ("Abyssinian_1", "american_bulldog_12", "american_bulldog_13")
    files = png_files(*(f"images/{name}.png" for name in names), *(f"annotations/trimaps/{name}.png" for name in names))
    files |= {f"annotations/trimaps/._{name}.png": "x" for name in names}
    table = (
        "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\namerican_bulldog_12 2 2 1\namerican_bulldog_13 2 2 1\n"
    )
    source = scan_source(write_files(tmp_path, files | {"annotations/list.txt": table}))
    assert tags_by_id(source) == {
        "images/Abyssinian_1.png": ("abyssinian", "cat"),
        "images/american_bulldog_12.png": ("american bulldog", "dog"),
        "images/american_bulldog_13.png": ("american bulldog", "dog"),
    }
    assert schema(source) == {"breed": ("abyssinian", "american bulldog"), "species": ("cat", "dog")}
    assert source.problems.counts() == {"junk-left-out": 3, "mask-left-out": 3}


@pytest.mark.parametrize(
    "junk",
    [
        ("@eaDir/1.png", "cats/@eaDir/1.png/SYNOPHOTO_THUMB_M.png"),
        (".ipynb_checkpoints/1-checkpoint.png", "cats/.ipynb_checkpoints/1-checkpoint.png"),
        ("$RECYCLE.BIN/x.png", "lost+found/x.png", "#recycle/y.png"),
        ("__MACOSX/cats/._1.png", "cats/._1.png"),
    ],
)
def test_files_that_systems_leave_behind(tmp_path: Path, junk: tuple[str, ...]) -> None:
    source = scan_source(write_files(tmp_path, png_files("cats/1.png", "dogs/2.png", *junk)))
    assert tags_by_id(source) == {"cats/1.png": ("cats",), "dogs/2.png": ("dogs",)}
    assert source.problems.counts() == {"junk-left-out": len(junk)}


def test_preview_beside_class_folders(tmp_path: Path) -> None:
    source = scan_source(write_files(tmp_path, png_files("cats/1.png", "dogs/2.png", "preview.png")))
    assert set(tags_by_id(source)) == {"cats/1.png", "dogs/2.png"}
    assert source.problems.found == {"image-is-preview": ["preview.png"]}


def test_folders_that_a_table_leaves_unread_are_counted(tmp_path: Path) -> None:
    files = png_files("train/fox/1.png", "test/owl/2.png") | {"tags.csv": "id,tags\n1,snow\n2,night\n"}
    source = scan_source(write_files(tmp_path, files))
    assert source.kind == "tags" and source.problems.found["folder-not-read"] == ["fox", "owl"]
    assert [(item.tags, item.part) for item in source.items] == [(("night",), "test"), (("snow",), "train")]
