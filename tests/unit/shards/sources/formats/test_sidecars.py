"""Text files next to images: tags or captions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import CAPTIONS, by_id, png_bytes, png_files, scan_source, tags_by_id, write_files


def test_tags_and_problems(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{i}.png": png_bytes() for i in range(6)})
    texts = {"0.txt": "1girl, Blue_Hair, smile", "1.txt": "1girl, red hair", "2.png.txt": "1girl, smile\nhat"}
    write_files(tmp_path, {**texts, "3.caption": "", "4.txt": b"\0\1", "readme.txt": "nothing"})
    source = scan_source(tmp_path)
    assert source.kind == "sidecars" and not source.one_class
    assert tags_by_id(source) == {
        "0.png": ("1girl", "blue hair", "smile"),
        "1.png": ("1girl", "red hair"),
        "2.png": ("1girl", "smile", "hat"),
        "3.png": None,
        "4.png": None,
        "5.png": None,
    }
    assert source.problems.found == {
        "text-file-not-utf8": ["4.txt"],
        "text-file-without-image": ["readme.txt"],
        "image-unlabelled text": ["4.png", "5.png"],
    }


def test_captions_are_recognised_and_either_kind_can_be_forced(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a.png", "b.png"))
    write_files(tmp_path, {"a.txt": CAPTIONS[0], "b.txt": f"{CAPTIONS[1]}\n"})
    captions = {item.id: (item.tags, item.caption) for item in scan_source(tmp_path).items}
    assert captions == {"a.png": (None, CAPTIONS[0]), "b.png": (None, CAPTIONS[1])}
    forced = {item.id: (item.tags, item.caption) for item in scan_source(tmp_path, labels="tags").items}
    assert forced["a.png"] == (("a red fox sits in the snow.",), None)
    write_files(tmp_path, {"a.txt": "fox, snow", "b.txt": "fox, lake"})
    assert tags_by_id(scan_source(tmp_path)) == {"a.png": ("fox", "snow"), "b.png": ("fox", "lake")}
    assert [item.caption for item in scan_source(tmp_path, labels="caption").items] == ["fox, snow", "fox, lake"]


def test_pipes_among_the_files_do_not_block(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.txt": "hat, wig", **png_files("a.png", "c.png")})
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "c.txt")
    source = scan_source(tmp_path)
    assert source.problems.counts()["text-file-unreadable"] == 1
    with pytest.raises(OSError, match="not a regular file"):
        by_id(source)["b.png"].image.read()


def test_files_too_large_for_an_image_are_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png_bytes(1), "a.txt": "hat"})
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776"):
        by_id(scan_source(tmp_path))["big.png"].image.read()


def test_endings_in_any_case(tmp_path: Path) -> None:
    names = ("a.TXT", "b.tags", "c.label", "d.png.Txt")
    write_files(tmp_path, dict.fromkeys(names, "hat, wig") | png_files("a.png", "b.png", "c.png", "d.png"))
    assert set(tags_by_id(scan_source(tmp_path)).values()) == {("hat", "wig")}


def test_boxes_are_no_tags(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{i}.txt": f"{i % 2} 0.5 0.5 0.1 0.2\n" for i in range(4)})
    write_files(tmp_path, png_files(*(f"{i}.png" for i in range(4))))
    with raises("texts-are-boxes", "classes.txt", "--source"):
        scan_source(tmp_path)
    write_files(tmp_path, {"2.txt": "0 0.1 0.1 0.1 0.1\n1 0.1 0.1 0.1 0.1\n", "3.txt": "", "obj.names": "cat\ndog\n"})
    source = scan_source(tmp_path)
    assert tags_by_id(source) == {"0.png": ("cat",), "1.png": ("dog",), "2.png": ("cat", "dog"), "3.png": ()}
    assert source.problems.counts()["boxes-are-tags obj.names"] == 4


def test_boxes_in_a_folder_of_labels(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"images/train/{i}.png" for i in range(4))))
    write_files(tmp_path, {f"labels/train/{i}.txt": f"{i % 2} 0.5 0.5 0.1 0.2\n" for i in range(4)})
    write_files(tmp_path, {"data.yaml": "train: images/train\nnames: {0: cat, 1: dog}\n"})
    assert tags_by_id(scan_source(tmp_path))["images/train/1.png"] == ("dog",)


def test_texts_with_a_number_each_are_classes(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{i}.txt": str(i % 3) for i in range(9)} | png_files(*(f"{i}.png" for i in range(9))))
    source = scan_source(tmp_path)
    assert source.evidence.endswith("text file: numbers")
    assert tags_by_id(source)["4.png"] == ("1",) and source.problems.counts() == {"texts-are-numbers": 9}


def test_first_of_several_captions_counts(tmp_path: Path) -> None:
    texts = {f"{i}.txt": f"{CAPTIONS[i % 2]}\nAnother caption.\nA third one." for i in range(4)}
    source = scan_source(write_files(tmp_path, {**texts, **png_files(*(f"{i}.png" for i in range(4)))}))
    assert {item.caption for item in source.items} == set(CAPTIONS)
    assert source.problems.counts() == {"caption-first-of-several": 4}


def test_prompts_with_weights_escapes_and_kept_tokens(tmp_path: Path) -> None:
    texts = {
        "0.txt": r"alice, red shoes ||| (blue hair:1.2), artoria \(fate\), ^_^",
        "1.txt": "alice ||| red hair, ((smile))",
        "2.txt": "alice ||| red hair, smile",
    }
    source = scan_source(write_files(tmp_path, {**texts, **png_files("0.png", "1.png", "2.png")}))
    assert tags_by_id(source)["0.png"] == ("alice", "red shoes", "blue hair", "artoria (fate)", "^ ^")
    assert tags_by_id(source)["1.png"] == ("alice", "red hair", "smile")


def test_texts_in_other_encodings_are_read_and_said(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{i}.png" for i in range(12))))
    write_files(tmp_path / "wide", png_files("0.png", "1.png"))
    for i in range(12):
        (tmp_path / f"{i}.txt").write_bytes(f"{('青い', '赤い')[i % 2]}髪, smile, 女の子\r\n".encode("cp932"))
    for i in range(2):
        (tmp_path / "wide" / f"{i}.txt").write_bytes(f"{('blue', 'red')[i]} hair, smile".encode("utf-16"))
    source = scan_source(tmp_path)
    tags = tags_by_id(source)
    assert tags["0.png"] == ("青い髪", "smile", "女の子") and tags["wide/1.png"] == ("red hair", "smile")
    assert source.problems.counts() == {"text-decoded cp932": 12, "text-decoded utf-16-le": 2}
    assert tags_by_id(scan_source(tmp_path / "wide", encoding="utf-16"))["0.png"] == ("blue hair", "smile")


def test_evidence_says_how_texts_are_read(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a.png", "b.png", "c.png"))
    write_files(tmp_path, {"a.txt": "hat, wig", "b.txt": "hat"})
    assert scan_source(tmp_path).evidence == "2 of 3 images have a text file: tags separated by ','"
    write_files(tmp_path, {"a.txt": CAPTIONS[0], "b.txt": CAPTIONS[1]})
    assert scan_source(tmp_path).evidence == "2 of 3 images have a text file: captions"


def test_further_text_files_of_an_image_are_counted(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a.png", "b.png"))
    write_files(tmp_path, {"a.txt": "hat, wig", "a.caption": "A hat.", "b.txt": "hat", "readme.txt": "hello"})
    source = scan_source(tmp_path)
    assert tags_by_id(source) == {"a.png": ("hat", "wig"), "b.png": ("hat",)}
    assert source.problems.found == {"text-file-not-first": ["a.caption"], "text-file-without-image": ["readme.txt"]}


def test_trap_two_images_of_one_name_share_their_text(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(4)), "0.jpg"))
    write_files(tmp_path, {f"{n}.txt": ("blue hair, smile", "red hair, hat")[n % 2] for n in range(4)})
    source = scan_source(tmp_path)
    found = tags_by_id(source)
    assert found["0.jpg"] == found["0.png"] == ("blue hair", "smile")
    assert source.problems.found == {"text-file-shared": ["0.jpg", "0.png"]}


def test_trap_one_class_with_a_score_is_a_class(tmp_path: Path) -> None:
    texts = {f"{n}.txt": f"{('cat', 'dog')[n % 2]} 0.{n + 10}" for n in range(12)}
    source = scan_source(write_files(tmp_path, {**texts, **png_files(*(f"{n}.png" for n in range(12)))}))
    assert tags_by_id(source)["1.png"] == ("dog",)
    assert source.problems.counts() == {"tags-weighted": 12}
