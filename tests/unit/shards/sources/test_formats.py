"""Each layout that pictures come in: a real one of each kind is read, and what is amiss in it is counted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.core.errors import UserError
from shards.dataset.schema import Attribute
from shards.sources import Item, Source, TarMember, read
from shards.sources.cells import tag_like

CAPTIONS = ("A red fox sits in the snow.", "Two wolves are running over a frozen lake, and one howls.")


def png(shade: int = 200, side: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 30, 30)).save(out, "PNG")
    return out.getvalue()


def put(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def zipped(path: Path, files: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def npy(values: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(values), allow_pickle=False)
    return out.getvalue()


def by_id(source: Source) -> dict[str, Item]:
    assert len({item.id for item in source.items}) == len(source.items)
    return {item.id: item for item in source.items}


def tags(source: Source) -> dict[str, tuple[str, ...] | None]:
    return {item.id: item.tags for item in source.items}


# ---------------------------------------------------------------- texts beside pictures


def test_sidecar_tags_and_what_is_amiss(tmp_path: Path) -> None:
    put(tmp_path, {f"{i}.png": png() for i in range(6)})
    put(tmp_path, {"0.txt": "1girl, Blue_Hair, smile", "1.txt": "1girl, red hair", "2.png.txt": "1girl, smile\nhat"})
    put(tmp_path, {"3.caption": "", "4.txt": b"caf\xe9", "readme.txt": "nothing"})
    source = read(tmp_path)
    assert source.kind == "sidecars" and not source.one_class
    assert tags(source) == {
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


def test_sidecar_captions_and_forcing(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(), "b.png": png(), "a.txt": CAPTIONS[0], "b.txt": f"{CAPTIONS[1]}\n"})
    captions = {item.id: (item.tags, item.caption) for item in read(tmp_path).items}
    assert captions == {"a.png": (None, CAPTIONS[0]), "b.png": (None, CAPTIONS[1])}
    forced = {item.id: (item.tags, item.caption) for item in read(tmp_path, labels="tags").items}
    assert forced["a.png"] == (("a red fox sits in the snow.",), None)
    put(tmp_path, {"a.txt": "fox, snow", "b.txt": "fox, lake"})
    assert tags(read(tmp_path)) == {"a.png": ("fox", "snow"), "b.png": ("fox", "lake")}
    assert [item.caption for item in read(tmp_path, labels="caption").items] == ["fox, snow", "fox, lake"]


@pytest.mark.parametrize(
    ("texts", "are_tags"),
    [
        (["blue hair, smile"] * 2 + ["red hair, smile"] * 3, True),
        ([f"tag{i}, tag{i + 1}, tag{i % 3}" for i in range(50)], True),
        (["smile", "smile, hat", "hat"] * 5, True),
        (["smile", "smile, hat", "smile"], True),
        (["red fox"] * 5, False),
        (list(CAPTIONS), False),
        (["a red fox", "a wolf", "a red fox"] * 5, False),
        (["a dog, in the rain", "a cat, in the sun"] * 5, False),
        ([], False),
    ],
)
def test_what_texts_look_like(texts: list[str], are_tags: bool) -> None:
    assert tag_like(texts) is are_tags


def test_tags_between_blanks(tmp_path: Path) -> None:
    rows = ["1girl long_hair blue_eyes", "1girl long_hair", "solo blue_eyes", "solo", ""]
    said = [("1girl", "long hair", "blue eyes"), ("1girl", "long hair"), ("solo", "blue eyes"), ("solo",)]
    pictures = {f"{i}.png": png() for i in range(5)}
    table = "id,tags\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows))
    source = read(put(tmp_path / "table", {**pictures, "tags.csv": table}))
    assert [item.tags for item in source.items] == [*said, ()]
    note = "tags-split-at-blanks"
    assert source.problems.counts() == {note: 5}
    texts = {f"{i}.txt": row for i, row in enumerate(rows)}
    source = read(put(tmp_path / "texts", {**pictures, **texts}))
    assert [item.tags for item in source.items] == [*said, None] and source.problems.counts() == {note: 4}
    assert read(tmp_path / "texts", labels="caption").items[0].caption == rows[0]
    put(tmp_path / "table", {"tags.csv": table.replace("\n4,", '\n4,"a, b"')})
    source = read(tmp_path / "table")
    assert [item.tags for item in source.items][:2] == [("1girl long hair blue eyes",), ("1girl long hair",)]
    put(tmp_path / "table", {"tags.csv": "id,tags\n0,blue hair\n1,blue hair\n2,red_hair\n"})
    assert read(tmp_path / "table").items[0].tags == ("blue hair",)


# ---------------------------------------------------------------- metadata.jsonl, metadata.csv


def test_metadata_lines_in_split_folders(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "tags": ["Red_Hair", "smile"], "caption": CAPTIONS[0], "n": 1},
        {"file_name": "sub/b.png", "tags": "red hair, hat"},
    ]
    put(tmp_path, {"train/metadata.jsonl": "\n".join(map(json.dumps, rows)), "train/a.png": png()})
    put(tmp_path, {"test/metadata.jsonl": '\ufeff{"file_name": "a.png", "tags": []}\n', "test/a.png": png()})
    put(tmp_path, {"train/sub/b.png": png(), "test/more.png": png()})
    source = read(tmp_path)
    assert source.kind == "metadata"
    assert tags(source) == {
        "test/a.png": (),
        "test/more.png": None,
        "train/a.png": ("red hair", "smile"),
        "train/sub/b.png": ("red hair", "hat"),
    }
    assert by_id(source)["train/a.png"].caption == CAPTIONS[0]
    assert source.problems.counts() == {"image-unlabelled row": 1}


def test_metadata_with_one_class(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(), "b.png": png(), "metadata.csv": "file_name,label\na.png,3\nb.png,Red_Fox\n"})
    source = read(tmp_path)
    assert source.one_class and tags(source) == {"a.png": ("3",), "b.png": ("red fox",)}


CLASSES = ([3.0, 0, "3", None, "3.0"], ["3", "0", "3", None, "3"])
MEASURED = ([2.5, 3, "3.0", None, 1e-9], [(2.5,), (3.0,), (3.0,), None, (1e-9,)])
WORDS = ([2.5, "1.5", "v2", "007", "1e3"], [(2.5,), "1.5", "v2", "007", "1e3"])


def together(*files: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    """Files in the order of their names, as the samples of a tar need it."""
    return dict(sorted((name, data) for some in files for name, data in some.items()))


def said_of(source: Source) -> list[Any]:
    """The one class or the vector of each picture."""
    return [item.vector or (item.tags and item.tags[0]) for item in sorted(source.items, key=lambda item: item.id)]


@pytest.mark.parametrize(("labels", "said"), [CLASSES, MEASURED, WORDS])
def test_single_numbers_are_classes_if_all_are_whole(tmp_path: Path, labels: list[Any], said: list[Any]) -> None:
    pictures = {f"{i}.png": png() for i in range(5)}
    lines = [json.dumps({"file_name": f"{i}.png", "label": label}) for i, label in enumerate(labels)]
    assert said_of(read(put(tmp_path / "lines", {**pictures, "metadata.jsonl": "\n".join(lines)}))) == said
    content = json.dumps({"labels": [[f"{i}.png", label] for i, label in enumerate(labels)]})
    assert said_of(read(put(tmp_path / "stylegan", {**pictures, "dataset.json": content}))) == said
    notes = {f"{i}.json": json.dumps({"label": label}) for i, label in enumerate(labels)}
    assert said_of(read(tarred(tmp_path / "notes.tar", together(pictures, notes)))) == said
    alone = {f"{i}.json": json.dumps(label) for i, label in enumerate(labels) if label is not None}
    assert said_of(read(tarred(tmp_path / "alone.tar", together(pictures, alone)))) == said


def test_whole_numbers_are_classes_in_text_arrays_and_tables(tmp_path: Path) -> None:
    pictures = {f"{i}.png": png() for i in range(3)}
    rows = "file_name,label\n0.png,3.0\n1.png,\n2.png,1.0\n"
    assert said_of(read(put(tmp_path / "csv", {**pictures, "metadata.csv": rows}))) == ["3", None, "1"]
    arrays = {f"{i}.npy": npy(np.float32(i)) for i in range(3)}
    assert said_of(read(tarred(tmp_path / "whole.tar", together(pictures, arrays)))) == ["0", "1", "2"]
    arrays["1.npy"] = npy(np.float32(0.5))
    assert said_of(read(tarred(tmp_path / "measured.tar", together(pictures, arrays)))) == [(0.0,), (0.5,), (2.0,)]
    vectors = {f"{i}.npy": npy([float(i)]) for i in range(3)}
    assert said_of(read(tarred(tmp_path / "vectors.tar", together(pictures, vectors)))) == [(0.0,), (1.0,), (2.0,)]
    parquet = table(tmp_path / "a.parquet", {"image": [png()] * 3, "label": [1.0, None, 0.0]})
    assert said_of(read(parquet, spool=tmp_path / "spool")) == ["1", None, "0"]
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    parquet = table(tmp_path / "b.parquet", {"image": [png()] * 3, "label": [1.0, None, 0.0]}, names)
    assert said_of(read(parquet, spool=tmp_path / "spool")) == ["dog", None, "cat"]
    source = read(put(tmp_path / "folders", {"1.0/a.png": png(), "1.5/b.png": png(), "01/c.png": png()}))
    assert said_of(source) == ["01", "1.0", "1.5"]


def test_metadata_with_class_and_tags_and_text(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "label": 3, "tags": ["hat"], "text": CAPTIONS[0]},
        {"file_name": "b.png", "label": 4, "tags": ["smile"]},
    ]
    put(tmp_path, {"a.png": png(), "b.png": png(), "metadata.jsonl": "\n".join(map(json.dumps, rows))})
    source = read(tmp_path)
    assert source.given == (Attribute("class", "exclusive", ("3", "4")),) and not source.one_class
    assert tags(source) == {"a.png": ("hat", "3"), "b.png": ("smile", "4")}
    assert [item.caption for item in source.items] == [CAPTIONS[0], None]


def test_metadata_lines_that_cannot_be_read_are_counted_by_line(tmp_path: Path) -> None:
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
    put(tmp_path, {f"{name}.png": png() for name in "abcdf"} | {"metadata.jsonl": b"\n".join(lines)})
    source = read(tmp_path)
    assert tags(source) == {"a.png": ("fox",)} | {f"{name}.png": None for name in "bcdf"}
    counts = source.problems.counts()
    assert counts["line-unreadable"] == 5
    assert counts["label-unreadable"] == 3
    assert counts["row-without-image"] == 2
    assert any("metadata.jsonl, line 2: " in line for line in source.problems.lines())
    json.dumps(source.problems.found, ensure_ascii=False).encode()


# ---------------------------------------------------------------- columns


CELEBA = "id,tags,hair,Eye_Glasses,pose,yaw,film\na,hat,Blue,1,-1,0.5,x\nb,,blond hair,-1,1,-2,x\nc,,,,,,y\n"


def celeba(tmp_path: Path) -> Path:
    return put(tmp_path, {"tags.csv": CELEBA} | {f"{name}.png": png() for name in "abcd"})


def test_columns_become_attributes_tags_and_numbers(tmp_path: Path) -> None:
    source = read(celeba(tmp_path), columns=("hair", "Eye_Glasses", "yaw", "pose"), group="film")
    assert source.given == (
        Attribute("hair", "exclusive", ("blue hair", "blond hair")),
        Attribute("eye glasses", "tag", ("eye glasses",)),
        Attribute("pose", "tag", ("pose",)),
    )
    a, b, c, d = source.items
    assert a.tags == ("hat", "blue hair", "eye glasses") and a.denied == ("pose",) and a.vector == (0.5,)
    assert b.tags == ("blond hair", "pose") and b.denied == ("eye glasses",) and b.vector == (-2.0,)
    assert (c.tags, c.denied, c.vector) == ((), (), None)
    assert (d.tags, d.denied, d.vector, d.group) == (None, (), None, None)
    assert [item.group for item in source.items] == ["x", "x", "y", None]


def test_all_columns_but_free_text(tmp_path: Path) -> None:
    rows = "".join(f"{i},,{'blue red'.split()[i % 2]},{i % 3 / 2},note number {i} of many\n" for i in range(40))
    put(tmp_path, {"tags.csv": "id,tags,hair,x,note\n" + rows} | {f"{i}.png": png() for i in range(40)})
    source = read(tmp_path, columns=("all",))
    assert [(a.name, a.kind) for a in source.given] == [("hair", "exclusive")]
    assert by_id(source)["2.png"].vector == (1.0,)


@pytest.mark.parametrize("gap", ["NA", "nan", "None", "null", "N/A", ""])
def test_gaps_in_columns_of_numbers_and_yes_and_no_are_unknown(tmp_path: Path, gap: str) -> None:
    rows = f"0,,0.5,yes,1,blue\n1,,{gap},no,{gap},none\n2,,2,{gap},0,red\n"
    put(tmp_path, {"tags.csv": "id,tags,x,hat,smile,bow\n" + rows} | {f"{i}.png": png() for i in range(3)})
    for columns in (("x", "hat", "smile", "bow"), ("all",)):
        source = read(tmp_path, columns=columns)
        kinds = {"hat": ("hat",), "smile": ("smile",), "bow": ("blue bow", "none bow", "red bow")}
        assert {a.name: a.values for a in source.given} == kinds
        assert [item.vector for item in source.items] == [(0.5,), None, (2.0,)]
        assert [item.denied for item in source.items] == [(), ("hat",), ("smile",)]


def test_a_word_among_numbers_is_named(tmp_path: Path) -> None:
    rows = [f"{i},,{'?' if i == 7 else i}" for i in range(20)]
    put(tmp_path, {"tags.csv": "id,tags,x\n" + "\n".join(rows)} | {f"{i}.png": png() for i in range(20)})
    for columns in (("x",), ("all",)):
        with pytest.raises(UserError, match=r"--columns x: .*tags\.csv: line 9 has '\?' where 19 of 20 cells are num"):
            read(tmp_path, columns=columns)


@pytest.mark.parametrize(
    ("columns", "group", "sentence"),
    [
        (("hairs",), None, "--columns hairs: .*tags.csv has no such column; it has id, tags, hair"),
        ((), "movie", "--group movie: .*no such column"),
        (("hair", "hair"), None, "a column stands twice"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, columns: tuple[str, ...], group: str | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read(celeba(tmp_path), columns=columns, group=group)


def test_columns_that_say_the_same_or_too_much(tmp_path: Path) -> None:
    put(tmp_path, {f"{i}.png": png() for i in range(1100)})
    put(tmp_path, {"tags.csv": "id,tags,a,a_\n" + "".join(f"{i},,word {i},w a\n" for i in range(1100))})
    with pytest.raises(UserError, match="1,100 different values"):
        read(tmp_path, columns=("a",))
    put(tmp_path, {"tags.csv": "id,tags,a,A\n0,,x,x\n"})
    with pytest.raises(UserError, match=r"two columns .* for 'a'"):
        read(tmp_path, columns=("a", "A"))
    put(tmp_path, {"tags.csv": "id,tags,hair,old hair\n0,,old hair,1\n1,,new,0\n"})
    with pytest.raises(UserError, match="both say 'old hair'"):
        read(tmp_path, columns=("hair", "old hair"))


def test_groups_by_folder_and_columns_where_there_are_none(tmp_path: Path) -> None:
    put(tmp_path, {"x/1.png": png(), "y/deep/2.png": png()})
    assert [item.group for item in read(tmp_path, group="folder").items] == ["x", "y/deep"]
    put(tmp_path / "loose", {"1.png": png(), "2.png": png(), "x/3.png": png()})
    assert [item.group for item in read(tmp_path / "loose", "pictures", group="folder").items] == [".", ".", "x"]
    with pytest.raises(UserError, match=r"--columns: .* is read as classes, which has no columns"):
        read(tmp_path, columns=("x",))
    with pytest.raises(UserError, match=r"--group: .* has no columns"):
        read(tmp_path, group="x")


# ---------------------------------------------------------------- dataset.json, zips


def test_stylegan_zip_with_classes(tmp_path: Path) -> None:
    labels = [["00000/img0.png", 3], ["00000/img1.png", 5], ["gone.png", 1], ["x"], ["00000/img2.png", None]]
    files = {f"00000/img{i}.png": png(i) for i in range(4)}
    path = zipped(tmp_path / "a.zip", files | {"dataset.json": json.dumps({"labels": labels})})
    source = read(path)
    assert source.kind == "stylegan" and source.one_class
    assert list(tags(source).values()) == [("3",), ("5",), None, None]
    assert sorted(source.problems.counts().values()) == [1, 1, 1]
    assert [item.picture.read() for item in source.items] == [png(i) for i in range(4)]


def test_stylegan_folder_with_vectors(tmp_path: Path) -> None:
    labels: list[list[Any]] = [["a.png", [0.5, -1]], ["b.png", [1, 2.5]], ["c.png", [1, "x"]]]
    put(tmp_path, {f"{name}.png": png() for name in "abc"} | {"dataset.json": json.dumps({"labels": labels})})
    source = read(tmp_path)
    assert [item.vector for item in source.items] == [(0.5, -1.0), (1.0, 2.5), None]
    assert source.problems.counts() == {"label-unreadable": 1}
    put(tmp_path, {"dataset.json": json.dumps({"labels": [*labels, ["c.png", [1]]][:2] + [["c.png", [1]]]})})
    with pytest.raises(UserError, match=r"c\.png: its vector has 1 numbers and that of a\.png 2"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"labels": null}', '{"labels": [["z.png", 1]]}', "[" * 100_000])
def test_a_broken_dataset_json_is_one_sentence(tmp_path: Path, content: str) -> None:
    put(tmp_path, {"a.png": png(), "dataset.json": content})
    with pytest.raises(UserError, match=r"dataset\.json"):
        read(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_layout_may_be_a_zip(tmp_path: Path, method: int) -> None:
    files: dict[str, str | bytes] = {"faces/tags.csv": "id,tags\na,smile\n", "faces/images/a.png": png(7, 64)}
    source = read(zipped(tmp_path / "a.zip", files | {"__MACOSX/faces/._a.png": b"x"}, method))
    assert source.kind == "tags" and tags(source) == {"images/a.png": ("smile",)}
    assert source.items[0].picture.read() == png(7, 64)
    source = read(zipped(tmp_path / "b.zip", {"fox/1.png": png(), "wolf/1.png": png()}, method))
    assert source.kind == "classes" and tags(source) == {"fox/1.png": ("fox",), "wolf/1.png": ("wolf",)}
    metadata = {"metadata.jsonl": '{"file_name": "a.png", "label": 1}', "a.png": png()}
    assert tags(read(zipped(tmp_path / "c.zip", metadata, method))) == {"a.png": ("1",)}


def test_a_zip_bomb_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"x/1.png": bytes(80 << 20), "y/1.png": png()})
    bomb, good = read(path).items
    with pytest.raises(OSError, match=r"refused: .* that unpack to"):
        bomb.picture.read()
    assert good.picture.read() == png()


def test_zip_members_that_cannot_be_read_are_named_by_why(tmp_path: Path) -> None:
    files = {"x/1.png": png(), "y/2.png": png()}
    for method, how in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        with pytest.raises(UserError, match=rf"no pictures in it .*zip members that are packed by {how} \(left out"):
            read(zipped(tmp_path / f"{how}.zip", files, method))
    data = bytearray(zipped(tmp_path / "a.zip", files).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert read(tmp_path / "a.zip", "classes").problems.found == {"zip-member-encrypted": ["y/2.png"]}


def test_zip_members_that_are_damaged_are_noticed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"x/1.png": png(1, 64), "y/1.png": png(2, 64)}, zipfile.ZIP_STORED)
    source = read(path)
    data = bytearray(path.read_bytes())
    data[data.index(png(1, 64)) + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged"):
        source.items[0].picture.read()


def test_stylegan_without_labels_points_to_pictures(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(), "dataset.json": '{"labels": null}'})
    with pytest.raises(UserError, match=r"no labels .*--source pictures --schema OTHER/schema.yaml"):
        read(tmp_path)


# ---------------------------------------------------------------- tars


def test_a_tar_that_was_cut_between_two_members_is_named(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)}).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:1024])
    source = read(tmp_path)
    assert [item.id for item in source.items] == ["a/1"]
    assert source.problems.found["tar-without-end-mark"] == ["a.tar"]


def test_a_file_that_is_too_large_to_be_a_picture_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(1), "a.txt": "hat"})
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(1 << 40)
    (big,) = [item.picture for item in read(tmp_path).items if item.id.startswith("big")]
    with pytest.raises(OSError, match=r"refused: 1,099,511,627,776 bytes"):
        big.read()


def test_foreign_tars_with_every_form_of_label(tmp_path: Path) -> None:
    tarred(
        tmp_path / "a.tar",
        {"s/1.JPEG": png(1), "s/1.cls": "3", "s/2.tiff": png(2), "s/2.cls": "red_fox\n", "s/3.bmp": png(3)},
    )
    source = read(tmp_path)
    assert source.kind == "webdataset" and source.one_class
    assert tags(source) == {"a/s/1": ("3",), "a/s/2": ("red fox",), "a/s/3": None}
    picture = source.items[0].picture
    assert isinstance(picture, TarMember) and picture.extension == "jpeg" and picture.tar == tmp_path / "a.tar"
    assert picture.read() == png(1) and (tmp_path / "a.tar").read_bytes()[picture.offset :][: picture.length] == png(1)
    texts = {"1.png": png(), "1.txt": "smile, hat", "2.png": png(), "2.txt": "smile, red hair"}
    assert tags(read(tarred(tmp_path / "b.tar", texts))) == {"b/1": ("smile", "hat"), "b/2": ("smile", "red hair")}
    notes = {"1.png": png(), "1.json": '{"tags": ["hat"], "caption": "A hat."}', "2.png": png(), "2.json": "7"}
    source = read(tarred(tmp_path / "c.tar", notes))
    assert (source.items[0].tags, source.items[0].caption) == (("hat",), "A hat.")
    assert source.items[1].tags == ("7",) and source.given == (Attribute("class", "exclusive", ("7",)),)
    vectors = {"1.png": png(), "1.npy": npy(np.array([1, 0.5], np.float32)), "2.png": png(), "2.npy": npy([[1, 2]])}
    source = read(tarred(tmp_path / "d.tar", vectors))
    assert [item.vector for item in source.items] == [(1.0, 0.5), None]
    assert source.problems.counts()["label-unreadable"] == 1


def test_endings_of_several_parts_in_tars(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for i in range(2):
        files |= {f"{i}.image.png": png(i), f"{i}.label.cls": f"c{i}", f"{i}.note.json": '{"caption": "A hat."}'}
        files |= {f"{i}.mask.npy": npy([1.0, 2.0])}
    files |= {"2.png": png(), "2.cls": "plain", "2.coarse.cls": "other"}
    source = read(tarred(tmp_path / "a.tar", files))
    assert tags(source) == {"a/0": ("c0",), "a/1": ("c1",), "a/2": ("plain",)}
    assert [(item.caption, item.vector) for item in source.items] == [("A hat.", None)] * 2 + [(None, None)]
    assert source.problems.counts() == {"member-not-read .mask.npy": 2, "member-not-read .coarse.cls": 1}


def test_what_is_pickled_in_a_tar_is_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    trap = pickle.dumps(Trap())
    objects = io.BytesIO()
    np.save(objects, np.array([Trap()], object), allow_pickle=True)
    files = {"1.png": png(), "1.pyd": trap, "1.pickle": trap, "1.seg.pkl": trap, "1.npy": objects.getvalue()}
    source = read(tarred(tmp_path / "a.tar", files))
    assert not (tmp_path / "sprung").exists()
    assert tags(source) == {"a/1": None}
    for kind in ("pyd", "pickle", "seg.pkl"):
        assert source.problems.found[f"member-pickled .{kind}"] == ["a/1"]


def test_tars_that_webdataset_wrote_and_raw_pixels(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with webdataset.writer.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=3, verbose=0) as writer:
        for i in range(5):
            writer.write(
                {
                    "__key__": f"{i:04d}",
                    "png": np.full_like(pixels, i),
                    "cls": i,
                    "json": {"id": i, "mood": "glad sad".split()[i % 2]},
                }
            )
    source = read(tmp_path, columns=("mood",))
    assert [item.tags for item in source.items][:2] == [("0", "glad mood"), ("1", "sad mood")]
    assert Image.open(io.BytesIO(source.items[4].picture.read())).getpixel((0, 0)) == (4, 4, 4)
    raw = tarred(
        tmp_path / "raw.tar", {"1.image.npy": npy(pixels), "1.npy": npy([0, 1]), "1.json": '{"tags": ["hat"]}'}
    )
    (item,) = read(raw).items
    assert item.tags == ("hat",) and item.vector is None
    assert np.array_equal(np.load(io.BytesIO(item.picture.read())), pixels)


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tbz", "tbz2", "TAR.XZ", "txz"])
def test_compressed_tars_are_unpacked_once(tmp_path: Path, ending: str) -> None:
    spool, packed = tmp_path / "spool", tmp_path / "src" / f"a.{ending}"
    whole = tarred(tmp_path / "a.tar", {"1.png": png(), "1.cls": "fox", "2.cls": "fox", "2.png": png(7)}).read_bytes()
    make = {"g": gzip.compress, "b": bz2.compress, "x": lzma.compress}
    put(tmp_path / "src", {packed.name: next(make[c] for c in ending.lower().replace("tar", "") if c in make)(whole)})
    with pytest.raises(UserError, match="compressed tars can only be packed"):
        read(tmp_path / "src")
    source = read(tmp_path / "src", spool=spool)
    assert tags(source) == {"a/1": ("fox",), "a/2": ("fox",)} == tags(read(packed, spool=spool))
    assert [item.picture.read() for item in source.items] == [png(), png(7)]
    stamps = [item.picture.stamp() for item in source.items]
    (copy,) = spool.iterdir()
    inode = copy.stat().st_ino
    assert [item.picture.stamp() for item in read(tmp_path / "src", spool=spool).items] == stamps
    assert copy.stat().st_ino == inode
    copy.unlink()
    assert [item.picture.stamp() for item in read(tmp_path / "src", spool=spool).items] == stamps
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{packed.name}: cannot be unpacked"):
        read(packed, spool=spool)
    packed.write_bytes(b"no tar")
    with pytest.raises(UserError, match=f"{packed.name}: cannot be unpacked"):
        read(packed, spool=spool)


def test_a_tar_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(gzip.compress(bytes(80 << 20)))
    with pytest.raises(UserError, match=r"a\.tgz: refused: .* bytes that unpack to more than"):
        read(tmp_path, spool=tmp_path / "spool")
    assert not list((tmp_path / "spool").iterdir())


def test_our_own_tars_read_back(tmp_path: Path) -> None:
    from shards.packing.pack import Pack, pack

    files: dict[str, str | bytes] = {f"{i}.png": png(40 * i, 8) for i in range(5)}
    put(tmp_path / "src", files | {"tags.csv": 'id,tags\n0,"smile, red hair"\n1,blue hair\n2,"smile, hat"\n3,\n'})
    pack(Pack(src=tmp_path / "src", out=tmp_path / "out", workers=1))
    source = read(tmp_path / "out")
    assert source.kind == "webdataset" and all(item.vector is None for item in source.items)
    there = sorted(item.tags or () for item in source.items)
    assert there == [(), (), ("blue hair",), ("smile", "hat"), ("smile", "red hair")]
    assert sorted(item.picture.read() for item in source.items) == sorted(png(40 * i, 8) for i in range(5))


def test_samples_without_a_picture_or_with_several(tmp_path: Path) -> None:
    files = {"1.seg.png": png(9), "1.jpg": png(1), "2.cls": "3", "3.a.png": png(3), "4.png": png(4), "4.webp": png(5)}
    source = read(tarred(tmp_path / "a.tar", files))
    assert {item.id: item.picture.read() for item in source.items} == {"a/1": png(1), "a/3": png(3), "a/4": png(4)}
    assert source.problems.found["sample-without-image"] == ["a/2"]
    assert source.problems.found["sample-with-several-images"] == ["a/4"]


# ---------------------------------------------------------------- Parquet


def table(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, group: int = 2) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    made = pyarrow.table(columns)
    if features:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, path, row_group_size=group)
    return path


def test_parquet_as_huggingface_writes_it(tmp_path: Path) -> None:
    image = [{"bytes": png(i), "path": f"{i}.png"} for i in range(4)] + [{"bytes": None, "path": "x.png"}, None]
    features = {"label": {"names": ["Red_Fox", "wolf"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    columns = {"image": image, "label": [0, 1, None, 2, 0, 1], "mood": ["glad", "sad", "", None, "", ""]}
    table(tmp_path / "src/train-0.parquet", columns, features)
    put(tmp_path / "src", {"other/x.png": png(77)})
    with pytest.raises(UserError, match="can only be packed"):
        read(tmp_path / "src", "parquet")
    source = read(tmp_path / "src", "parquet", spool=tmp_path / "spool", columns=("mood",))
    assert source.given[0].values == ("glad mood", "sad mood") and source.problems.counts() == {
        "label-unreadable": 1,
        "row-without-image": 1,
    }
    assert [item.id for item in source.items] == [f"train-0.parquet/{i}" for i in range(5)]
    assert [item.picture.read() for item in source.items] == [png(0), png(1), png(2), png(3), png(77)]
    words = [item.tags for item in source.items]
    assert words == [("red fox", "glad mood"), ("wolf", "sad mood"), None, None, ("red fox",)]


def test_parquet_with_plain_bytes_tags_and_texts(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"img": [png(1), png(2)], "tags": [["hat"], []], "text": [CAPTIONS[0], None]})
    source = read(path, spool=tmp_path / "spool")
    assert source.kind == "parquet"
    assert [(i.tags, i.caption) for i in source.items] == [(("hat",), CAPTIONS[0]), ((), None)]
    assert [item.picture.read() for item in source.items] == [png(1), png(2)]


def test_the_spool_is_kept_while_the_tables_stay_as_they_are(tmp_path: Path) -> None:
    path, spool = tmp_path / "a.parquet", tmp_path / "spool"
    stamps = [item.picture.stamp() for item in read(table(path, {"image": [png(1), png(2)]}), spool=spool).items]
    made = (spool / "pictures.bin").stat().st_mtime_ns
    assert [item.picture.stamp() for item in read(path, spool=spool).items] == stamps
    assert (spool / "pictures.bin").stat().st_mtime_ns == made
    with (spool / "pictures.bin").open("ab") as file:
        file.write(b"more")
    table(path, {"image": [png(3), png(4), png(5)]})
    assert [item.picture.read() for item in read(path, spool=spool).items] == [png(3), png(4), png(5)]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"x": [1, 2]}, "none with pictures"),
        ({"a": [b"x"], "b": [b"y"]}, r"several that may hold pictures \(a, b\)"),
        ({"image": [b"", None]}, "no row of its Parquet files holds a picture"),
    ],
)
def test_parquet_without_pictures(tmp_path: Path, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read(table(tmp_path / "a.parquet", columns), spool=tmp_path / "spool")


def test_a_broken_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"image": [png(1), png(2)]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read(path, spool=tmp_path / "spool")


# ---------------------------------------------------------------- whichever it is


def test_pictures_alone(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(), "b.png": png()})
    assert tags(read(tmp_path, "pictures")) == {"a.png": None, "b.png": None}


def test_several_tables_are_unclear(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": png(), "tags.csv": "id,tags\na,hat\n", "metadata.csv": "file_name,label\na.png,1\n"})
    with pytest.raises(UserError, match="say --source tags or --source metadata"):
        read(tmp_path)
    assert tags(read(tmp_path, "metadata")) == {"a.png": ("1",)}


@pytest.mark.parametrize("kind", ["tags", "sidecars", "metadata", "stylegan", "parquet", "webdataset", "classes"])
def test_a_forced_kind_that_is_not_there_is_one_sentence(tmp_path: Path, kind: str) -> None:
    put(tmp_path, {"a.png": png()})
    with pytest.raises(UserError) as caught:
        read(tmp_path, kind)
    assert "\n" not in str(caught.value)


def test_a_pipe_among_the_files_is_no_reason_to_wait(tmp_path: Path) -> None:
    os.mkfifo(put(tmp_path, {"a.png": png(), "a.txt": "hat, wig", "c.png": png()}) / "b.png")
    os.mkfifo(tmp_path / "c.txt")
    source = read(tmp_path)
    assert source.problems.counts()["text-file-unreadable"] == 1
    with pytest.raises(OSError, match="not a regular file"):
        by_id(source)["b.png"].picture.read()


def test_names_that_are_no_utf8_stay_apart(tmp_path: Path) -> None:
    try:
        for number in (0xE9, 0xEA):
            (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + bytes([number]) + b".png"))).write_bytes(png())
    except OSError:
        pytest.skip("this disk has UTF-8 names only")
    source = read(tmp_path, "pictures")
    assert [item.id for item in source.items] == ["\N{REPLACEMENT CHARACTER}.png"]
    assert list(source.problems.counts().values()) == [1]


def _contents(items: list[Item]) -> list[bytes]:
    return [item.picture.read() for item in items]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_pictures_are_read_in_other_processes(tmp_path: Path, method: str) -> None:
    files: dict[str, str | bytes] = {"x/1.png": png(1), "y/1.png": png(2)}
    sources = [
        read(put(tmp_path / "folder", files)),
        read(zipped(tmp_path / "a.zip", files)),
        read(tarred(tmp_path / "a.tar", files)),
        read(table(tmp_path / "a.parquet", {"image": [png(1), png(2)]}), spool=tmp_path / "spool"),
    ]
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        for source in sources:
            assert pool.submit(_contents, source.items).result() == [png(1), png(2)]
            assert all(item.picture.stamp() for item in source.items)
