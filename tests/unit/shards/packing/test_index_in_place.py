"""Tars that others wrote, indexed where they lie; and ours, read by webdataset."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webdataset.compat import WebDataset
from webdataset.writer import TarWriter

from shards.core import process_pool
from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.inspect.verify import findings
from shards.packing import index_in_place as indexing
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.tagged_images import COLOURS, colour_of, tagged, written

NAMES = tuple(COLOURS)


def image_of(i: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    """The image of sample i, in one of three colours."""
    return Image.new("RGB", size, COLOURS[NAMES[i % 3]]).convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
@pytest.mark.parametrize("label", ["cls", "json", "txt", "npy"])
def test_whatever_webdataset_writes(tmp_path: Path, extension: str, label: str) -> None:
    def samples() -> Iterator[dict[str, Any]]:
        for i in range(13):
            said: dict[str, Any] = {
                "cls": i % 3,
                "json": {"tags": [f"{NAMES[i % 3]} hair", *(["odd"] if i % 2 else [])]},
                "txt": f"{NAMES[i % 3]} hair{', odd' if i % 2 else ''}",
                "npy": np.array([i % 3, i % 2, 0.5], np.float32),
            }
            # webdataset cannot write WebP.
            shown = encoded(image_of(i), "WEBP") if extension == "webp" else image_of(i)
            yield {extension: shown, label: said[label]}

    folder = written(tmp_path / "tars", samples())
    before = content(folder)
    dataset = index_in_place(IndexInPlace(folder, workers=1))
    after = content(folder)
    assert all(after[name] == data for name, data in before.items())
    assert set(after) - set(before) == {"manifest.json", "index.npy", "labels.npy", "known.npy", "schema.yaml"}
    assert len(dataset) == 13 and len(dataset.shards) == 3 and dataset.size == 8 and dataset.in_place
    assert dataset.shard_bounds.tolist() == [0, 5, 10, 13] and dataset.known.all()
    for i in range(13):
        colour = NAMES[i % 3]
        assert colour_of(dataset.read(i)) == colour and dataset.format(i) == extension
        words = dataset.schema.words(dataset.labels[i], dataset.known[i])
        if label == "npy":
            assert dataset.schema.attributes[0].kind == "vector"
            assert dataset.labels[i].tolist() == [i % 3, i % 2, 0.5]
        else:
            expected = [str(i % 3)] if label == "cls" else [f"{colour} hair", *(["odd"] if i % 2 else [])]
            assert words == expected
    assert findings(folder).problems == [] and findings(folder).notes == []


def test_images_of_any_kind_and_size(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[dict[str, Any]] = [
        {"jpeg": encoded(image_of(0), "JPEG", quality=95)},
        {"JPG": encoded(image_of(1, (20, 12)), "JPEG", quality=95)},
        {"png": encoded(image_of(2, mode="P"), "PNG")},
        {"bmp": encoded(image_of(3), "BMP")},
        {"tif": encoded(image_of(4, mode="CMYK"), "TIFF")},
        {"gif": encoded(image_of(5), "GIF")},
        {"webp": encoded(image_of(6, (30, 8)), "WEBP", lossless=True)},
        {"jpg": encoded(image_of(7), "JPEG", quality=95, exif=turned)},
        {"png": encoded(image_of(8).convert("RGBA"), "PNG")},
    ]
    folder = written(tmp_path / "tars", [{**kind, "cls": i % 3} for i, kind in enumerate(kinds)])
    with raises("option-missing", "--size"):
        index_in_place(IndexInPlace(folder, workers=1))
    assert not (folder / "manifest.json").exists() and not (folder / ".indexing.lock").exists()
    dataset = index_in_place(IndexInPlace(folder, size=8, fit="stretch", background="black", workers=1))
    assert [dataset.format(i) for i in range(9)] == ["jpg", *["other"] * 8]
    assert (dataset.fit, dataset.background, dataset.manifest["copied"]) == ("stretch", "black", 1)
    assert [colour_of(dataset.read(i)) for i in (0, 1, 2, 3, 5, 6, 7, 8)] == [
        NAMES[i % 3] for i in (0, 1, 2, 3, 5, 6, 7, 8)
    ]
    assert findings(folder).problems == []


def test_damaged_images_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    images = [encoded(noise, "JPEG") for _ in range(6)]
    images[1] = b"no image"
    images[3] = images[3][:-10]  # the header is whole, the pixels are not
    images[4] = b""
    folder = written(tmp_path / "tars", [{"jpg": data, "cls": i % 2} for i, data in enumerate(images)], per_shard=4)
    dataset = index_in_place(IndexInPlace(folder, size=8, workers=1))
    assert "(left out): 2 " in (said := capsys.readouterr().out) and "part-0000/00001" in said
    assert "part-0000.tar: images that cannot be decoded; index again with --check" in findings(folder).problems[0]
    assert len(dataset) == 4 and dataset.manifest["problems"] == {"images that cannot be used (left out)": 2}
    dataset = index_in_place(IndexInPlace(folder, check=True, workers=1))
    assert len(dataset) == 3 and findings(folder).problems == []
    assert [dataset.schema.words(dataset.labels[i], dataset.known[i]) for i in range(3)] == [["0"], ["0"], ["1"]]


def test_indexing_again_replaces_the_index(tmp_path: Path) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(7)])
    one = index_in_place(IndexInPlace(folder, workers=1)).fingerprint
    first = content(folder)
    assert index_in_place(IndexInPlace(folder, workers=2)).fingerprint == one and content(folder) == first
    with TarWriter(str(folder / "a.tar")) as tar:
        tar.write({"__key__": "new", "png": image_of(1), "cls": 4})
    dataset = index_in_place(IndexInPlace(folder, size=4, workers=1))
    assert len(dataset) == 8 and dataset.size == 4 and dataset.schema.values == ("0", "1", "2", "4")
    assert findings(folder).problems == []


def test_a_failed_indexing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(7)])
    index_in_place(IndexInPlace(folder, workers=1))
    expected = content(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(indexing.np.lib.format, "write_array", full)
        with raises("disk-full", kind=Failure):
            index_in_place(IndexInPlace(folder, workers=1))
    assert content(folder) == expected and not list(folder.glob(".*"))


@pytest.mark.parametrize("at", [1, 3, 5])
def test_an_indexing_that_is_stopped_while_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """There is no data set then, and the same command makes it of what it knows to be its own."""
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(7)])
    index_in_place(IndexInPlace(folder, workers=1))
    expected, replace, moved = content(folder), Path.replace, []

    def torn(path: Path, target: Path) -> Path:
        moved.append(path)
        if len(moved) - 5 == at:  # five files are written, then moved
            raise OSError(5, "Input/output error")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", torn)
        with pytest.raises(Failure, match="Input/output error"):
            index_in_place(IndexInPlace(folder, workers=1))
    assert not (folder / "manifest.json").exists()
    index_in_place(IndexInPlace(folder, workers=1))
    assert content(folder) == expected and not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["labels.npy", "index.npy", "known.npy", "schema.yaml"])
def test_others_files_of_our_names_are_not_replaced(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(7)])
    (folder / name).write_bytes(b"a year of work")
    with raises("output-exists", name):
        index_in_place(IndexInPlace(folder, workers=1))
    assert (folder / name).read_bytes() == b"a year of work" and not (folder / "manifest.json").exists()


@pytest.mark.parametrize("after", [0.6, 0.9, 1.2, 1.5])
def test_a_killed_indexing_is_made_good_by_the_same_command(tmp_path: Path, after: float) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i, (64, 64)), "cls": i % 3} for i in range(300)], 100)
    command = [sys.executable, "-m", "shards", "index", str(folder), "--size", "32", "--check", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(after)
        process.kill()
    time.sleep(1.5)  # its workers see that it is gone within half a second, and until then hold its lock
    dataset = index_in_place(IndexInPlace(folder, size=32, workers=1))
    assert len(dataset) == 300 and findings(folder).problems == [] and not list(folder.glob(".*"))


def test_spawned_workers_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(9)], per_shard=3)
    index_in_place(IndexInPlace(folder, workers=1))
    expected = content(folder)
    monkeypatch.setattr(process_pool, "_start_method", lambda: "spawn")
    index_in_place(IndexInPlace(folder, workers=2))
    assert content(folder) == expected and findings(folder, processes=2).problems == []


def test_what_cannot_be_indexed_in_place(tmp_path: Path) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(3)])
    tar = folder / "part-0000.tar"

    def refused(code: str, *named: str) -> None:
        names = sorted(path.name for path in folder.rglob("*"))
        with raises(code, *named):
            index_in_place(IndexInPlace(folder, workers=1))
        assert sorted(path.name for path in folder.rglob("*")) == names

    for name, unpack in (("x.tar.gz", ""), ("x.tgz", ""), ("x.TAR.ZST", "unpacking")):
        (folder / name).write_bytes(b"")
        refused("compressed-tars", name, "cgan pack", unpack)
        (folder / name).unlink()
    (folder / "below").mkdir()
    (folder / "below" / "x.tar").write_bytes(b"")
    refused("tars-in-subfolders", "below/x.tar")
    (folder / "below" / "x.tar").unlink()
    os.link(tar, folder / "x.TAR")
    refused("invalid-shard-name", "x.TAR")
    (folder / "x.TAR").unlink()
    (folder / "x.tar").write_bytes(b"\0" * 100 + b"x" * 1000)
    refused("tar-damaged", "x.tar")
    (folder / "x.tar").unlink()
    (folder / "manifest.json").write_text('{"others": 1}')
    refused("output-exists", "manifest.json")
    (folder / "manifest.json").unlink()
    with raises("no-shards", "below"):
        index_in_place(IndexInPlace(folder / "below"))
    with raises("source-missing", "gone"):
        index_in_place(IndexInPlace(folder / "gone"))
    with raises("invalid-value", "--background"):
        IndexInPlace(folder, background="blurple")
    pack(Pack(tagged(tmp_path / "src", 6), tmp_path / "packed", workers=1))
    with raises("output-exists", "packed"):
        index_in_place(IndexInPlace(tmp_path / "packed"))


def test_damaged_exif_is_no_talk_of_pillow(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"  # five entries are promised, and a half is there
    samples = [{"jpg": encoded(image_of(i), "JPEG", exif=exif), "cls": i % 2} for i in range(4)]
    folder = written(tmp_path / "tars", samples)
    command = [sys.executable, "-m", "shards", "index", str(folder), "--size", "4", "--workers", "2"]
    for more in (command, [sys.executable, "-m", "shards", "describe", str(folder)]):
        done = subprocess.run(more, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


def test_trap_pickled_members_are_never_read(tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    with TarWriter(str(folder / "x.tar")) as tar:
        tar.write({"__key__": "a", "png": image_of(0), "cls": 1, "pyd": {"x": 1}})
    dataset = index_in_place(IndexInPlace(folder, workers=1))
    assert any("pickled" in kind for kind in dataset.manifest["problems"])


def test_our_own_tars_without_their_index(tmp_path: Path) -> None:
    """Raw pixels too: a data set whose sidecars were lost is indexed from its tars, with the same labels."""
    for form in ("png", "raw"):
        packed = pack(Pack(tagged(tmp_path / f"src-{form}"), tmp_path / form, format=form, workers=1, per_shard=10))
        assert packed is not None
        words = [packed.schema.words(packed.labels[i], packed.known[i]) for i in range(24)]
        data = [packed.read(i) for i in range(24)]
        entries = np.array(packed.entries)
        for path in (tmp_path / form).iterdir():
            if path.suffix != ".tar":
                path.unlink()
        again = index_in_place(IndexInPlace(tmp_path / form, workers=1))
        assert np.array_equal(again.entries, entries) and [again.read(i) for i in range(24)] == data
        assert [again.schema.words(again.labels[i], again.known[i]) for i in range(24)] == words
        assert findings(tmp_path / form).problems == []


@pytest.mark.parametrize("form", ["jpg", "png", "webp", "raw"])
def test_webdataset_reads_what_we_packed(tmp_path: Path, form: str) -> None:
    dataset = pack(Pack(tagged(tmp_path / "src"), tmp_path / "out", format=form, workers=1, per_shard=10))
    assert dataset is not None
    reader: Any = WebDataset([str(path) for path in dataset.shards], shardshuffle=False)
    samples = list(reader.decode("rgb8"))
    name = "image.npy" if form == "raw" else form
    assert len(samples) == 24
    for i, sample in enumerate(samples):
        pixels = sample[name]
        assert pixels.dtype == np.uint8 and pixels.shape == (8, 8, 3)
        if form == "raw":
            assert pixels.tobytes() == dataset.read(i)
        assert f"{nearest(pixels)} hair" in sample["json"]["tags"]
        assert np.array_equal(sample["npy"], dataset.labels[i])


def nearest(pixels: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: int(np.abs(pixels[0, 0].astype(int) - COLOURS[name]).sum()))


def test_trap_names_of_every_kind(tmp_path: Path) -> None:
    """Keys in folders, long names, links and other kinds of members; nothing is ever unpacked."""
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as archive:
        for name in ("../../out/a", "/abs/b", "deep/" * 40 + "c", "d\udcff", "e f"):
            for extension, data in (("png", encoded(image_of(0), "PNG")), ("cls", b"3")):
                info = tarfile.TarInfo(f"{name}.{extension}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("link.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    dataset = index_in_place(IndexInPlace(folder, workers=1))
    assert len(dataset) == 5 and {dataset.schema.values} == {("3",)}
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["tars", "x.tar", "manifest.json", "index.npy", "labels.npy", "known.npy", "schema.yaml"]
    )
    assert findings(folder).problems == []
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["in_place"] is True


def test_a_data_set_indexed_in_place_opens_anywhere(tmp_path: Path) -> None:
    folder = written(tmp_path / "tars", [{"png": image_of(i), "cls": i % 3} for i in range(7)])
    index_in_place(IndexInPlace(folder, size=4, workers=1))
    folder.rename(tmp_path / "moved")
    assert colour_of(Dataset.open(tmp_path / "moved").read(4)) == NAMES[1]
