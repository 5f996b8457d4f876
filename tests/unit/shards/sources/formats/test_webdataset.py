"""Tars of samples: foreign ones, compressed ones, and our own."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.dataset.schema import Attribute
from shards.sources.image_refs import TarMember
from support.errors import raises
from support.source_files import (
    by_id,
    merged,
    npy_bytes,
    png_bytes,
    png_files,
    scan_source,
    tags_by_id,
    write_files,
    write_parquet,
    write_tar,
)


def test_tar_cut_between_two_members_is_named(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"1.cls": "x", "1.png": png_bytes(1), "2.png": png_bytes(2)}).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:2048])
    source = scan_source(tmp_path)
    assert [item.id for item in source.items] == ["a/1"]
    assert source.problems.found["tar-without-end-mark"] == ["a.tar"]


def test_classes_in_foreign_tars(tmp_path: Path) -> None:
    images: dict[str, str | bytes] = {"s/1.JPEG": png_bytes(1), "s/2.tiff": png_bytes(2), "s/3.bmp": png_bytes(3)}
    tar = write_tar(tmp_path / "a.tar", dict(sorted((images | {"s/1.cls": "3", "s/2.cls": "red_fox\n"}).items())))
    source = scan_source(tmp_path)
    assert source.kind == "webdataset" and source.one_class
    assert tags_by_id(source) == {"a/s/1": ("3",), "a/s/2": ("red fox",), "a/s/3": None}
    image = source.items[0].image
    assert isinstance(image, TarMember) and image.extension == "jpeg" and image.tar == tar
    assert image.read() == png_bytes(1) == tar.read_bytes()[image.offset :][: image.length]


def test_texts_notes_and_vectors_in_foreign_tars(tmp_path: Path) -> None:
    texts = {"1.png": png_bytes(), "1.txt": "smile, hat", "2.png": png_bytes(), "2.txt": "smile, red hair"}
    tagged = tags_by_id(scan_source(write_tar(tmp_path / "b.tar", texts)))
    assert tagged == {"b/1": ("smile", "hat"), "b/2": ("smile", "red hair")}
    notes = {"1.json": '{"tags": ["hat"], "caption": "A hat."}', "1.png": png_bytes()}
    source = scan_source(write_tar(tmp_path / "c.tar", notes | {"2.png": png_bytes(), "2.json": "7"}))
    assert (source.items[0].tags, source.items[0].caption) == (("hat",), "A hat.")
    assert source.items[1].tags == ("7",) and source.attributes == (Attribute("class", "exclusive", ("7",)),)
    vectors = {"1.png": png_bytes(), "1.npy": npy_bytes(np.array([1, 0.5], np.float32))}
    vectors |= {"2.png": png_bytes(), "2.npy": npy_bytes([[1, 2]])}
    source = scan_source(write_tar(tmp_path / "d.tar", vectors))
    assert [item.vector for item in source.items] == [(1.0, 0.5), None]
    assert source.problems.counts()["label-unreadable"] == 1


def test_extensions_of_several_parts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for i in range(2):
        files |= {f"{i}.image.png": png_bytes(i), f"{i}.label.cls": f"c{i}", f"{i}.note.json": '{"caption": "A hat."}'}
        files |= {f"{i}.mask.npy": npy_bytes([1.0, 2.0])}
    files |= {"2.png": png_bytes(), "2.cls": "plain", "2.coarse.cls": "other"}
    source = scan_source(write_tar(tmp_path / "a.tar", files))
    assert tags_by_id(source) == {"a/0": ("c0",), "a/1": ("c1",), "a/2": ("plain",)}
    assert [(item.caption, item.vector) for item in source.items] == [("A hat.", None)] * 2 + [(None, None)]
    assert source.problems.counts() == {"member-not-read .mask.npy": 2, "member-not-read .coarse.cls": 1}


def test_pickled_members_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    trap = pickle.dumps(Trap())
    objects = io.BytesIO()
    np.save(objects, np.array([Trap()], object), allow_pickle=True)
    files = {"1.png": png_bytes(), "1.pyd": trap, "1.pickle": trap, "1.seg.pkl": trap, "1.npy": objects.getvalue()}
    source = scan_source(write_tar(tmp_path / "a.tar", files))
    assert not (tmp_path / "sprung").exists()
    assert tags_by_id(source) == {"a/1": None}
    for kind in ("pyd", "pickle", "seg.pkl"):
        assert source.problems.found[f"member-pickled .{kind}"] == ["a/1"]


def test_tars_written_by_webdataset(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    with webdataset.writer.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=3, verbose=0) as writer:
        for i in range(5):
            note = {"id": i, "mood": "glad sad".split()[i % 2]}
            writer.write({"__key__": f"{i:04d}", "png": np.full_like(pixels, i), "cls": i, "json": note})
    source = scan_source(tmp_path, columns=("mood",))
    assert [item.tags for item in source.items][:2] == [("0", "glad mood"), ("1", "sad mood")]
    assert Image.open(io.BytesIO(source.items[4].image.read())).getpixel((0, 0)) == (4, 4, 4)


def test_raw_pixels(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    files = {"1.image.npy": npy_bytes(pixels), "1.npy": npy_bytes([0, 1]), "1.json": '{"tags": ["hat"]}'}
    (item,) = scan_source(write_tar(tmp_path / "raw.tar", files)).items
    assert item.tags == ("hat",) and item.vector is None
    assert np.array_equal(np.load(io.BytesIO(item.image.read())), pixels)


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tbz", "tbz2", "TAR.XZ", "txz"])
def test_compressed_tars_are_unpacked_once(tmp_path: Path, ending: str) -> None:
    spool, packed = tmp_path / "spool", tmp_path / "src" / f"a.{ending}"
    files = {"1.png": png_bytes(), "1.cls": "fox", "2.cls": "fox", "2.png": png_bytes(7)}
    whole = write_tar(tmp_path / "a.tar", files).read_bytes()
    compress = {"g": gzip.compress, "b": bz2.compress, "x": lzma.compress}
    data = next(compress[c] for c in ending.lower().replace("tar", "") if c in compress)(whole)
    write_files(tmp_path / "src", {packed.name: data})
    with raises("pack-only-source", packed.name):
        scan_source(tmp_path / "src")
    source = scan_source(tmp_path / "src", spool=spool)
    assert tags_by_id(source) == {"a/1": ("fox",), "a/2": ("fox",)} == tags_by_id(scan_source(packed, spool=spool))
    assert [item.image.read() for item in source.items] == [png_bytes(), png_bytes(7)]
    stamps = [item.image.stamp() for item in source.items]
    (copy,) = spool.iterdir()
    inode = copy.stat().st_ino
    assert [item.image.stamp() for item in scan_source(tmp_path / "src", spool=spool).items] == stamps
    assert copy.stat().st_ino == inode
    copy.unlink()
    assert [item.image.stamp() for item in scan_source(tmp_path / "src", spool=spool).items] == stamps
    for damaged in (packed.read_bytes()[:-20], b"no tar"):
        packed.write_bytes(damaged)
        with raises("file-damaged", packed.name):
            scan_source(packed, spool=spool)


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(gzip.compress(bytes(80 << 20)))
    with raises("decompression-bomb", "a.tgz"):
        scan_source(tmp_path, spool=tmp_path / "spool")
    assert not list((tmp_path / "spool").iterdir())


def test_our_own_tars(tmp_path: Path) -> None:
    from shards.packing.pack import Pack, pack

    files: dict[str, str | bytes] = {f"{i}.png": png_bytes(40 * i, 8) for i in range(5)}
    table = 'id,tags\n0,"smile, red hair"\n1,blue hair\n2,"smile, hat"\n3,\n'
    write_files(tmp_path / "src", files | {"tags.csv": table})
    pack(Pack(src=tmp_path / "src", out=tmp_path / "out", workers=1))
    source = scan_source(tmp_path / "out")
    assert source.kind == "webdataset" and all(item.vector is None for item in source.items)
    tags = sorted(item.tags or () for item in source.items)
    assert tags == [(), (), ("blue hair",), ("smile", "hat"), ("smile", "red hair")]
    assert sorted(item.image.read() for item in source.items) == sorted(png_bytes(40 * i, 8) for i in range(5))


def test_samples_without_an_image_or_with_several(tmp_path: Path) -> None:
    files = {"1.seg.png": png_bytes(9), "1.jpg": png_bytes(1), "2.cls": "3", "3.a.png": png_bytes(3)}
    files |= {"4.png": png_bytes(4), "4.webp": png_bytes(5)}
    source = scan_source(write_tar(tmp_path / "a.tar", files), "webdataset")
    images = {item.id: item.image.read() for item in source.items}
    assert images == {"a/1": png_bytes(1), "a/3": png_bytes(3), "a/4": png_bytes(4)}
    assert source.problems.found["sample-without-image"] == ["a/2"]
    assert source.problems.found["sample-with-several-images"] == ["a/4"]


def test_tables_that_repeat_the_tars_of_img2dataset_are_not_read(tmp_path: Path) -> None:
    sample = {"00000.json": '{"caption": "A red car.", "key": "00000"}', "00000.txt": "A red car."}
    src = tmp_path / "src"
    for name in ("00000", "00001"):
        write_parquet(src / f"{name}.parquet", {"url": ["https://example.org/1.png"], "caption": ["A red car."]})
        write_tar(src / f"{name}.tar", merged(png_files("00000.png"), sample))
        write_files(src, {f"{name}_stats.json": '{"count": 1}'})
    source = scan_source(src)
    assert source.kind == "webdataset" and len(source.items) == 2
    assert by_id(source)["00001/00000"].caption == "A red car."
