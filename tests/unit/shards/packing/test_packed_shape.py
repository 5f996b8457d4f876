"""Images with transparency, grey images and images of another aspect, from packing to the stream."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.__main__ import main
from shards.core.errors import UserError
from shards.dataset import images
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import CHANNELS, ImageShape
from shards.inspect import contact_sheet
from shards.inspect.verify import findings
from shards.packing import plan
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.merge import Merge, merge
from shards.packing.pack import Pack, pack, pack_part
from shards.packing.packed_shape import check_shape, hints, largest_trainable, nearest_aspects, trainable_sizes
from shards.packing.prescan import ImageFacts, common_size
from shards.sources.item import ImageFile, Item
from shards.stream.decoded_cache import plan_cache
from shards.stream.stream import Stream
from support.errors import assert_printed, raises
from support.tagged_images import written


def sprite(number: int, width: int = 48, height: int = 64, hidden: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A disc with soft edges on nothing, uint8 (H, W, 4)."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = number * 37 % 256, x * 5 % 256, y * 3 % 256
    pixels[..., 3] = np.clip((0.4 - distance) * 1000, 0, 255)
    pixels[..., :3][pixels[..., 3] == 0] = hidden
    return pixels


def png(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(out, form, **options)
    return out.getvalue()


def write(folder: Path, files: list[bytes]) -> Path:
    folder.mkdir(parents=True)
    for number, data in enumerate(files):
        (folder / f"{number:02d}.png").write_bytes(data)
    rows = [f'{number:02d},"{("blue", "red")[number % 2]} hair"' for number in range(len(files))]
    (folder / "tags.csv").write_text("\n".join(["id,tags", *rows, ""]))
    return folder


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sprites") / "src", [png(sprite(n, 60, 90)) for n in range(12)])


def originals(dataset: Dataset, src: Path) -> list[bytes]:
    """Return the source's image of each sample."""
    found: list[bytes] = []
    for shard in dataset.shards:
        with tarfile.open(shard) as tar:
            notes = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
            found += [(src / json.load(file)["id"]).read_bytes() for file in notes if file]
    return found


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("aspect", ["1:1", "3:4", "4:3", "2:5"])
def test_from_packing_to_batches(sprites: Path, tmp_path: Path, channels: str, aspect: str) -> None:
    size = {"2:5": 40}.get(aspect, 32)
    dataset = pack(Pack(sprites, tmp_path / "out", size=size, channels=channels, aspect=aspect, format="png"))
    shape = ImageShape.of(size, channels, aspect)
    assert dataset.shape == shape and dataset.size == size
    batch = Stream(dataset, 12, seed=0).fill(0, pixels := np.empty((12, *shape.pixels_shape), np.uint8))
    assert batch.images.shape == (12, shape.channels, shape.height, shape.width)
    expected = [images.pixels(data, shape) for data in originals(dataset, sprites)]
    order = Stream(dataset, 12, seed=0).order(np.arange(12))
    assert all((pixels[row] == expected[sample]).all() for row, sample in enumerate(order))
    assert dataset[0].image.mode == shape.mode and dataset[0].image.size == (shape.width, shape.height)
    assert (np.asarray(dataset[0].image).reshape(shape.pixels_shape) == expected[0]).all()
    assert not findings(tmp_path / "out").problems


@pytest.mark.parametrize("form", ["auto", "png", "webp", "raw"])
def test_transparency_is_stored_without_loss(sprites: Path, tmp_path: Path, form: str) -> None:
    dataset = pack(Pack(sprites, tmp_path / "out", size=64, channels="rgba", aspect="3:4", format=form))
    assert {dataset.format(i) for i in range(12)} == {"png" if form == "auto" else form}
    for sample, data in enumerate(originals(dataset, sprites)):
        assert (np.asarray(dataset[sample].image) == images.pixels(data, dataset.shape)).all()


@pytest.mark.parametrize("channels", ["rgba", "grey"])
def test_decoded_images_are_kept(sprites: Path, tmp_path: Path, channels: str) -> None:
    dataset = pack(Pack(sprites, tmp_path / "out", size=32, channels=channels, aspect="3:4"))
    rows, _ = plan_cache(dataset, str(tmp_path / "kept")).open()
    assert rows is not None
    first, second = (Stream(dataset, 12, seed=0, decoded=rows)[0] for _ in range(2))
    assert rows.filled == 12 and (first.images == second.images).all()
    assert (first.images == Stream(dataset, 12, seed=0)[0].images).all()


def test_images_that_look_the_same_have_the_same_bytes(tmp_path: Path) -> None:
    """The colours of transparent pixels are not seen, and not stored; images without them are copied."""
    plain, hidden = ([png(sprite(n, hidden=hue)) for n in range(6)] for hue in ((0, 0, 0), (255, 0, 255)))
    one, other = (
        pack(Pack(write(tmp_path / name, made), tmp_path / f"{name} packed", channels="rgba", aspect="3:4", workers=1))
        for name, made in (("plain", plain), ("hidden", hidden))
    )
    assert one.manifest["copied"] == 6 and other.manifest["copied"] == 0
    assert [one[i].image.tobytes() for i in range(6)] == [other[i].image.tobytes() for i in range(6)]
    assert images.prepare(hidden[0], one.shape).data == images.prepare(hidden[0], one.shape, form="png").data


def test_defaults_are_written_as_before(sprites: Path, tmp_path: Path) -> None:
    manifest = pack(Pack(sprites, tmp_path / "out", size=32)).manifest
    assert manifest["format_version"] == 2 and not {"channels", "aspect"} & set(manifest)
    grey = pack(Pack(sprites, tmp_path / "grey", size=32, channels="grey", aspect="6:8")).manifest
    assert grey["format_version"] == 3 and (grey["channels"], grey["aspect"]) == (1, "3:4")


def test_parts_a_split_and_a_cache(sprites: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "size": 32, "channels": "rgba", "aspect": "3:4", "validation": 0.25, "per_shard": 3, "workers": 1,
    }  # fmt: skip
    whole = pack(Pack(sprites, tmp_path / "whole", **options))
    for part in ("1/2", "2/2"):
        pack_part(Pack(sprites, tmp_path / "parts", part=part, **options))
    merged = merge(Merge(tmp_path / "parts"))
    assert merged.fingerprint == whole.fingerprint
    cached = Dataset.open(tmp_path / "parts", cache=tmp_path / "cache")
    assert cached.shape == whole.shape and cached[3].image.tobytes() == whole[3].image.tobytes()
    assert Dataset.open(tmp_path / "whole" / "validation").shape == whole.shape
    square = pack(Pack(sprites, tmp_path / "square", **{**options, "aspect": "1:1"}))
    assert square.fingerprint != whole.fingerprint


# ---------------------------------------------------------------- modes of images


GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_mode_becomes_the_channels(mode: str, channels: str) -> None:
    if mode == "I;16":
        data = png(Image.fromarray(GRADIENT.astype(np.uint16) << 8))
    else:
        data = png(Image.fromarray(GRADIENT).convert("RGB").convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    found = images.pixels(data, ImageShape.of(8, channels))
    assert found.shape == (8, 8, CHANNELS[channels])
    if mode not in ("1", "P"):  # of two and of 216 colours
        assert (found[..., 0] == GRADIENT).all() and (channels != "rgba" or (found[..., 3] == 255).all())


def test_a_transparent_colour_of_a_palette_is_transparent() -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 4, 0), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    for form in ("PNG", "GIF"):
        found = images.pixels(png(image, form, transparency=0), ImageShape(4, 4, 2))
        assert (found[:, 0] == 0).all() and (found[:, 1] == (0, 0, 255, 255)).all()
    assert images.has_transparency(png(image, transparency=0)) and not images.has_transparency(png(image))


@pytest.mark.parametrize(
    ("depth", "values"),
    [
        (1, (0, 1)),
        (2, (1, 2)),
        (4, (3, 10)),
        (8, (9, 10)),
        (16, (0x1234, 0x1235)),
        (8, ((9, 8, 7), (9, 8, 6))),
        (16, ((0x1234, 0x56, 0x78), (0x1234, 0x156, 0x78))),
    ],
)
def test_a_transparent_colour_is_transparent_at_every_depth(depth: int, values: tuple[Any, Any]) -> None:
    """Also where Pillow scales the pixels and not that colour."""
    visible, clear = (np.atleast_1d(value) for value in values)
    data = png_with_clear(depth, np.stack([visible, clear]))
    expected = np.broadcast_to(visible * 255 // (2**depth - 1) if depth < 16 else visible >> 8, 3).tolist()
    assert images.has_transparency(data)
    assert images.pixels(data, ImageShape(4, 1, 2)).tolist() == [[[*expected, 255], [0, 0, 0, 0]]]
    assert images.pixels(data, ImageShape(3, 1, 2), background="#fe0010").tolist() == [[expected, [254, 0, 16]]]
    done = images.prepare(data, ImageShape(4, 1, 2))
    assert not done.copied and np.asarray(Image.open(io.BytesIO(done.data)))[..., 3].tolist() == [[255, 0]]


def png_with_clear(depth: int, pixels: np.ndarray) -> bytes:
    """Return a PNG of one row of pixels, grey (N, 1) or RGB (N, 3), of which the last colour is transparent."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    bits = "".join(f"{value:0{depth}b}" for value in pixels.flat)
    bits += "0" * (-len(bits) % 8)
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(pixels), 1, depth, 0 if pixels.shape[1] == 1 else 2, 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"tRNS": pixels[-1].astype(">u2").tobytes(),
        b"IDAT": zlib.compress(b"\0" + row),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in parts.items())


def test_grey_is_the_luma_of_pillow() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    done = images.prepare(png(colour), ImageShape.of(16, "grey"))
    assert done.format == "png" and not done.copied
    stored = Image.open(io.BytesIO(done.data))
    assert stored.mode == "L" and (np.asarray(stored) == np.asarray(Image.fromarray(colour).convert("L"))).all()
    assert images.prepare(done.data, ImageShape.of(16, "grey")).copied
    assert images.prepare(png(colour), ImageShape.of(8, "grey")).format == "jpg"
    clear = np.zeros((16, 16, 4), np.uint8)
    assert (images.pixels(png(clear), ImageShape.of(16, "grey"), background="#ff0000") == 76).all()
    padded = images.pixels(png(colour[:8]), ImageShape.of(16, "grey"), "pad", "#ff0000")
    assert (padded[:4] == 76).all()


def test_padding_has_the_transparency_of_nothing() -> None:
    opaque = png(np.full((8, 16, 4), 255, np.uint8))
    found = images.pixels(opaque, ImageShape.of(16, "rgba"), "pad")
    assert (found[:4] == 0).all() and (found[4:12] == 255).all() and (found[12:] == 0).all()


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([(3, 4), (4, 3), (2, 5), (1, 1)]))
def test_crops_are_centred_and_as_large_as_possible(width: int, height: int, aspect: tuple[int, int]) -> None:
    """A gradient across the image: the columns of the result show the middles of equal parts of the crop."""
    x = np.linspace(0, 250, width)[None].repeat(height, 0)
    shape = ImageShape(1, aspect[1] * 4, aspect[0] * 4)
    found = images.pixels(png(x.round().astype(np.uint8)), shape)[0, 1:-1, 0]  # edges ring
    kept = min(width, height * aspect[0] / aspect[1])
    middles = (width - kept) / 2 + (np.arange(shape.width) + 0.5) * kept / shape.width
    expected = np.interp(middles - 0.5, np.arange(width), x[0])[1:-1]
    assert np.abs(found - expected).max() <= 250 / max(1, width - 1) + 3  # of a pixel, as crops begin at whole ones


@pytest.mark.parametrize("fit", images.FITS)
@pytest.mark.parametrize("turned", [1, 6])
def test_large_jpegs_of_another_aspect_are_reduced_as_whole_ones(fit: str, turned: int) -> None:
    x, y = np.meshgrid(np.linspace(0, 9, 640), np.linspace(0, 7, 400))
    waves = (np.stack([np.sin(x + y), np.cos(x), np.sin(3 * y)], 2) * 100 + 128).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    data = png(waves, "JPEG", quality=98, subsampling=0, exif=exif)
    shape = ImageShape(3, 24, 72)
    whole, _ = images.upright(Image.open(io.BytesIO(data)))
    expected = np.asarray(images.resized(whole, shape, fit)).astype(int)
    assert np.abs(images.pixels(data, shape, fit).astype(int) - expected).mean() < 1.5


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"aspect": "16:9"}, "invalid-value", ("--aspect 16:9", "7:4", "5:3")),
        ({"aspect": "9:16", "size": 144}, "invalid-value", ("--aspect 9:16", "4:7", "3:5")),
        ({"aspect": "3:4", "size": 60}, "invalid-value", ("--size 60", "--size 32 (24 x 32)", "--size 64 (48 x 64)")),
        ({"aspect": "2:3", "size": 64}, "invalid-value", ("--size 48 (32 x 48)", "--size 96 (64 x 96)")),
        ({"aspect": "3x4"}, "invalid-value", ("--aspect", "3x4")),
        ({"aspect": "0:4"}, "invalid-value", ("--aspect", "0:4")),
        ({"aspect": ""}, "invalid-value", ("--aspect",)),
        ({"channels": "rgbx"}, "invalid-value", ("--channels", "rgba")),
        ({"channels": "rgba", "format": "jpg"}, "invalid-value", ("--format jpg", "png", "webp")),
        ({"channels": "rgba", "background": "red"}, "option-without-effect", ("--background red",)),
    ],
)
def test_shapes_that_cannot_be_are_refused(options: dict[str, Any], code: str, named: tuple[str, ...]) -> None:
    with raises(code, *named):
        Pack(Path("src"), Path("out"), **options)


def test_the_size_of_all_images_is_that_of_the_aspect(tmp_path: Path) -> None:
    src = write(tmp_path / "src", [png(sprite(n)) for n in range(4)])
    assert pack(Pack(src, tmp_path / "a", channels="rgba", aspect="3:4")).shape == ImageShape(4, 64, 48)
    with raises("option-missing", "--size", "48 x 64", "--aspect 3:4"):
        pack(Pack(src, tmp_path / "b"))
    with raises("option-missing", "--size", "48 x 64", "4:3"):
        pack(Pack(src, tmp_path / "b", aspect="4:3"))
    odd = write(tmp_path / "odd", [png(sprite(n, 45, 60)) for n in range(4)])
    with raises("invalid-value", "--size 60", "--size 64"):
        pack(Pack(odd, tmp_path / "c", aspect="3:4"))


def test_an_unfinished_packing_of_another_shape_is_not_resumed(sprites: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": 32, "per_shard": 3, "workers": 1}
    pack_part(Pack(sprites, tmp_path / "out", part="1/2", channels="rgba", **options))
    others: list[dict[str, Any]] = [{}, {"channels": "grey"}, {"channels": "rgba", "aspect": "3:4"}]
    for other in others:
        with raises("packing-differs", "aspect" if "aspect" in other else "channels"):
            pack(Pack(sprites, tmp_path / "out", **options, **other))
    assert pack(Pack(sprites, tmp_path / "out", channels="rgba", **options)).shape.channels == 4


def test_shards_of_another_shape_are_not_merged(sprites: Path, tmp_path: Path) -> None:
    """As when the folders of two machines are copied together."""
    options: dict[str, Any] = {"size": 32, "per_shard": 6, "workers": 1}
    pack_part(Pack(sprites, tmp_path / "out", part="1/2", **options))
    pack_part(Pack(sprites, tmp_path / "other", part="2/2", name="src", channels="rgba", **options))
    build, other = plan.build_folder(tmp_path / "out"), plan.build_folder(tmp_path / "other")
    for path in [*other.glob("data/*"), *other.glob("records/*")]:
        path.rename(build / path.relative_to(other))
    with raises("shapes-differ", "src-000001.tar", "[32, 32, 4]", "[32, 32, 3]"):
        merge(Merge(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- tars of others


@pytest.mark.parametrize("channels", CHANNELS)
def test_tars_are_indexed_at_a_shape(tmp_path: Path, channels: str) -> None:
    hidden = [sprite(n, hidden=(255, 0, 255)) for n in range(3)]
    opaque = [np.full((64, 48, 3), 9 * n, np.uint8) for n in range(3)]
    grey = [np.full((64, 48), 9 * n, np.uint8) for n in range(3)]
    larger = [sprite(n, 96, 100) for n in range(3)]
    raw = [sprite(n, hidden=(1, 2, 3)) for n in range(3)]
    encoded = [("png", png(p)) for p in (*hidden, *opaque, *grey, *larger)]
    encoded += [("image.npy", _npy(p)) for p in raw] + [("jpg", png(opaque[1], "JPEG"))]
    folder = written(tmp_path / "tars", [{form: data, "cls": i % 2} for i, (form, data) in enumerate(encoded)])
    dataset = index_in_place(IndexInPlace(folder, size=64, channels=channels, aspect="3:4", workers=1))
    assert dataset.shape == ImageShape(CHANNELS[channels], 64, 48)
    for sample, (_, data) in enumerate(encoded):
        expected = images.pixels(data, dataset.shape)
        found = np.asarray(dataset[sample].image).reshape(expected.shape)
        assert np.abs(found.astype(int) - expected).max() <= (2 if data.startswith(b"\xff\xd8") else 0)
    kept = {dataset.format(sample) for sample in {"rgb": (3, 4, 5), "rgba": (0, 1, 2), "grey": (6, 7, 8)}[channels]}
    assert kept == {"png"} and dataset.format(9) == "other"
    assert not findings(folder).problems


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


# ---------------------------------------------------------------- what people are told


def test_a_hint_names_what_is_lost(sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pack", str(sprites), str(tmp_path / "a"), "--size", "32", "--workers", "1"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert said.count("hint:") == 1 and "--channels rgba" in said and "--aspect 2:3" in said
    words = ["pack", str(sprites), str(tmp_path / "b"), "--size", "48", "--channels", "rgba", "--aspect", "2:3"]
    assert main([*words, "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert "hint" not in shown.err and "12 images of 32 x 48 RGBA" in shown.out
    assert main(["preview", str(sprites)]) == 0
    assert "--channels rgba" in capsys.readouterr().out
    assert main(["preview", str(sprites), "--channels", "rgba", "--aspect", "2:3"]) == 0
    shown = capsys.readouterr().out
    assert "--size 48 --channels rgba --aspect 2:3" in shown and "keeps" not in shown
    assert main(["preview", str(sprites), "--aspect", "16:9"]) == 2
    assert_printed(capsys.readouterr().err, "invalid-value", "--aspect 16:9")


def test_jobs_that_share_the_work_give_no_hint(
    sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of many would read a sample to say the same."""
    words = ["pack", str(sprites), str(tmp_path / "a"), "--size", "32", "--workers", "1", "--part", "1/2"]
    assert main(words) == 0
    assert "hint" not in capsys.readouterr().err


@pytest.mark.parametrize(("size", "kept"), [((3072, 4096), "--aspect 3:4"), ((6144, 8192), "")])
def test_an_aspect_is_proposed_only_with_a_size_that_packing_accepts(size: tuple[int, int], kept: str) -> None:
    facts = ImageFacts(np.array([size], np.int32), np.zeros((1, 32), np.uint8), "")
    with pytest.raises(UserError) as caught:
        common_size([Item("0", ImageFile("", ""))], facts)
    assert kept in str(caught.value) and ("keep them" in str(caught.value)) is bool(kept)


def test_opaque_squares_get_no_hint() -> None:
    options = Pack(Path("src"), Path("out"))
    opaque = sprite(0)
    opaque[..., 3] = 255
    assert not hints([png(opaque)], Counter({(64, 64): 9, (60, 64): 3}), options)
    assert not hints([b"", b"nothing"], Counter(), options)
    assert not hints([png(opaque)], Counter({(64, 96): 5, (96, 64): 5}), options)  # of two aspects
    assert hints([png(opaque)], Counter({(178, 218): 10}), options) == [
        "of a sample, most images are about 5:6, which --aspect 5:6 keeps"
    ]


def test_what_a_person_chose_gets_no_hint(sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the default, given as an option: they know what it discards."""
    chosen = {
        "--channels rgb": "--aspect",
        "--background white": "--aspect",
        "--aspect 1:1": "--channels",
        "--fit crop": "--channels",
        "--channels rgb --aspect 1:1": None,
    }
    for number, (words, left) in enumerate(chosen.items()):
        more = [*words.split(), "--size", "32", "--workers", "1"]
        assert main(["pack", str(sprites), str(tmp_path / f"{number}"), *more]) == 0
        said = capsys.readouterr().err
        assert [name for name in ("--channels", "--aspect") if name in said] == ([left] if left else []), words
    assert main(["preview", str(sprites), "--channels", "rgb", "--aspect", "1:1"]) == 0
    shown = capsys.readouterr().out
    assert "keeps" not in shown and "--channels rgb --aspect 1:1" in shown


def test_a_contact_sheet_has_the_shape_and_a_checkerboard() -> None:
    tall = np.zeros((64, 48, 4), np.uint8)
    tall[:32] = (255, 0, 0, 255)
    sheet = np.asarray(contact_sheet.draw("d", "d", ["row"], [[tall, None]]))
    red = np.argwhere((sheet == (255, 0, 0)).all(axis=2))
    assert tuple(red.max(axis=0) - red.min(axis=0) + 1) == (32, 48)
    below = sheet[red[:, 0].max() + 1 : red[:, 0].max() + 33, red[:, 1].min() : red[:, 1].max() + 1]
    assert set(np.unique(below)) == {204, 255}
    assert contact_sheet.draw("d", "d", ["row"], [[tall[..., :1]]]).mode == "RGB"


def test_sizes_of_an_aspect() -> None:
    assert trainable_sizes("3:4")[:5] == (4, 8, 16, 32, 64)
    assert trainable_sizes("2:3")[:3] == (6, 12, 24) and not trainable_sizes("16:9")
    assert (largest_trainable(100, "3:4"), largest_trainable(100, "2:3"), largest_trainable(1, "2:3")) == (64, 96, 6)
    assert nearest_aspects(16 / 9) == ["7:4", "5:3"] and nearest_aspects(0.76, 1) == ["3:4"]
    for aspect in nearest_aspects(1.0, 99):
        check_shape(Pack(Path("src"), Path("out"), aspect=aspect), trainable_sizes(aspect)[0], "white")
