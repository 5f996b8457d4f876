"""`cgan faces`: correct labels, the same bytes for a seed, atomic output."""

from __future__ import annotations

import builtins
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.__main__ import main
from shards.examples import faces as drawing
from shards.examples.faces import EYES, HAIR, STYLES, Faces, draw, faces
from shards.packing.pack import Pack, pack
from support.errors import codes, raises

pytest.importorskip("dicebear", reason="needs the demo extra")


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "out"
    faces(Faces(out, count=120, size=32, workers=1))
    return out


def test_folder_and_table(drawn: Path) -> None:
    with (drawn / "tags.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "tags"] and [row[0] for row in rows[1:]] == [f"{i:06d}" for i in range(120)]
    assert all(re.fullmatch(r"\w+ hair, (long|short|tied) hair, \w+ eyes", row[1]) for row in rows[1:])
    raw = (drawn / "tags.csv").read_text().splitlines()[1]
    assert re.fullmatch(r'000000,"\w+ hair, \w+ hair, \w+ eyes"', raw)
    for row in rows[1:]:
        image = Image.open(drawn / "images" / f"{row[0]}.png")
        assert image.size == (32, 32) and image.mode == "RGB" and image.format == "PNG"
    assert len({path.read_bytes() for path in (drawn / "images").iterdir()}) == 120


@pytest.mark.parametrize("style", STYLES)
def test_image_shows_the_tagged_hair_colour(style: str) -> None:
    """The tagged colour fills more of the image than any other hair colour does, in nearly every face."""
    right = 0
    for number in range(30):
        image, tags = draw(style, 48, 7, number)
        pixels = np.asarray(Image.open(io.BytesIO(image))).astype(int)
        filled = {name: (np.abs(pixels - rgb(code)).max(axis=2) < 20).sum() for name, code in HAIR.items()}
        named = tags.split(" hair")[0]
        filled["brown"] *= named == "brown"  # a dark skin is near it
        right += max(filled, key=lambda name: filled[name]) == named
    assert right >= 26


def test_eyes_of_the_named_colour_are_drawn() -> None:
    with_eyes = 0
    for number in range(20):
        image, tags = draw("lorelei", 128, 3, number)
        pixels = np.asarray(Image.open(io.BytesIO(image))).astype(int)
        colour = rgb(EYES[tags.split(", ")[2].removesuffix(" eyes")])
        with_eyes += (np.abs(pixels - colour).max(axis=2) < 20).sum() >= 8
    assert with_eyes >= 18


def test_values_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [drawing._Draws(0, number) for number in range(6000)]
    counts = np.bincount([one.below(12) for one in draws], minlength=12)
    assert ((counts - 500) ** 2 / 500).sum() < 35  # chi-square, 11 degrees: 1 in 4,000


def test_bytes_depend_on_the_seed_not_on_the_workers(drawn: Path, tmp_path: Path) -> None:
    faces(Faces(tmp_path / "two", count=120, size=32, workers=2))
    assert content(tmp_path / "two") == content(drawn)
    faces(Faces(tmp_path / "fewer", count=60, size=32, workers=1))
    fewer = content(tmp_path / "fewer" / "images")
    assert (
        fewer == {name: data for name, data in content(drawn / "images").items() if name in fewer} and len(fewer) == 60
    )
    faces(Faces(tmp_path / "seed", count=20, size=32, seed=1, workers=1))
    assert not set(content(tmp_path / "seed" / "images").values()) & set(content(drawn / "images").values())


def test_non_empty_output_is_left_unchanged(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(drawn)
    assert main(["faces", str(drawn), "--count", "3"]) == 2
    assert codes(capsys.readouterr().err) == ["output-exists"] and content(drawn) == before


def test_interrupted_drawing_leaves_no_partial_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "_write_notes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            faces(Faces(tmp_path / "out", count=5, workers=1))
    assert not (tmp_path / "out").exists()
    faces(Faces(tmp_path / "out", count=3, workers=1))
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3 and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_missing_demo_extra_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "resvg_py":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    drawing._art.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with raises("package-missing", "resvg_py", "pip install 'cgan-trainer[demo]'"):
        faces(Faces(tmp_path / "out", count=1, workers=1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("style", STYLES)
def test_packing_records_the_licence(tmp_path: Path, style: str) -> None:
    faces(Faces(tmp_path / "faces", count=6, size=16, style=style, workers=1))
    licence = STYLES[style].licence
    assert licence in (tmp_path / "faces" / "LICENCE.txt").read_text()
    assert json.loads((tmp_path / "faces" / "source.json").read_text())["licence"] == licence
    manifest = pack(Pack(tmp_path / "faces", tmp_path / "packed", workers=1)).manifest
    assert manifest["licence"] == licence and STYLES[style].credit in manifest["source"]["pictures"]


def test_faces_pack_into_three_attributes(drawn: Path, tmp_path: Path) -> None:
    dataset = pack(Pack(drawn, tmp_path / "packed", workers=1))
    assert [a.name for a in dataset.schema.attributes] == ["eyes", "hair", "hair (long/short/tied)"]
    assert dataset.schema.widths == (10, 12, 3) and dataset.known.all() and dataset.manifest["copied"] == 120


@pytest.mark.parametrize("style", STYLES)
def test_transparent_faces_have_no_background_and_are_copied(style: str, tmp_path: Path) -> None:
    faces(Faces(tmp_path / "faces", count=6, size=32, style=style, transparent=True, workers=1))
    dataset = pack(Pack(tmp_path / "faces", tmp_path / "packed", channels="rgba", workers=1))
    assert dataset.manifest["copied"] == 6
    for i in range(6):
        alpha = np.asarray(dataset[i].image)[..., 3]
        assert (alpha == 0).mean() > 0.1 and (alpha == 255).mean() > 0.2
        assert ((alpha > 0) & (alpha < 255)).any() == (style != "pixel-art")  # soft edges
    opaque, tags = draw(style, 32, 0, 3)
    clear, same = draw(style, 32, 0, 3, transparent=True)
    assert tags == same
    drawn = np.asarray(Image.open(io.BytesIO(clear)))
    solid = drawn[..., 3] == 255
    assert (drawn[solid][:, :3] == np.asarray(Image.open(io.BytesIO(opaque)))[solid]).all()
