"""The studies of labels run, go on where they were, and keep their promises about the data."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import ImageFont

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from support import ROOT

SCALE = "--faces 400 --images 128 --every 64 --size 16 --preset smoke --pictures 120"


def run(study: str, out: Path, *words: str) -> list[str]:
    pytest.importorskip("dicebear", reason="needs the demo extra")
    command = [sys.executable, str(ROOT / "benchmarks" / "studies" / study), "--out", str(out), *SCALE.split(), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.exhaustive
def test_rare_values(tmp_path: Path) -> None:
    said = run("rare_values.py", tmp_path, "--percent", "2")
    assert [line for line in said if line.startswith("training")] == [
        "training green-2_plain_0",
        "training green-2_balanced_0",
    ]
    everything, few = (Dataset.open(tmp_path / "data" / name) for name in ("all", "green-2"))
    attribute, value = everything.schema.places["green hair"]
    assert few.schema == everything.schema
    column = int(everything.schema.starts[attribute]) + value
    assert len(everything) == 400 and few.labels[:, column].mean() == pytest.approx(0.02, abs=0.002)
    assert len(few) - few.labels[:, column].sum() == 400 - everything.labels[:, column].sum()
    assert not [line for line in run("rare_values.py", tmp_path, "--percent", "2") if line.startswith("training")]


@pytest.mark.exhaustive
def test_many_attributes(tmp_path: Path) -> None:
    said = run("many_attributes.py", tmp_path, "--attributes", "3,9")
    assert [line for line in said if line.startswith("training")] == ["training 3_0", "training 9_0"]
    few, many = (Dataset.open(tmp_path / "data" / name) for name in ("3", "9"))
    assert (len(few.schema.attributes), len(many.schema.attributes)) == (3, 9)
    assert (many.labels[:, : few.schema.width] == few.labels[:, :]).all(), "the visible ones come first"
    assert not [line for line in run("many_attributes.py", tmp_path, "--attributes", "3,9") if "training" in line]


def test_letters_of_packages(tmp_path: Path) -> None:
    """In Pillow's own font, packed as npm does; what pack infers is what was drawn."""
    default = ImageFont.load_default(20)
    assert isinstance(default, ImageFont.FreeTypeFont)
    fonts = tmp_path / "fontsource-own-1.0.0.tgz"
    with tarfile.open(fonts, "w:gz") as archive:
        for name in ("own-latin-400-normal.woff", "own-latin-700-italic.woff", "own-latin-ext-400-normal.woff"):
            member = tarfile.TarInfo(f"package/files/{name}")
            member.size = len(default.font_bytes)
            archive.addfile(member, io.BytesIO(default.font_bytes))

    def draw(*packages: Path, expect: int = 0) -> str:
        command = [sys.executable, ROOT / "benchmarks" / "studies" / "letters.py", tmp_path / "letters", *packages]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stderr
        return done.stderr if expect else done.stdout

    assert "drew 104 letters of 32 x 32" in draw(fonts)
    data = pack(Pack(tmp_path / "letters", tmp_path / "data", size=32, workers=1))
    found = {attribute.name: len(attribute.values) for attribute in data.schema.attributes}
    assert found == {"letter": 26, "weight": 2, "slant": 2, "ink": 6}
    assert data.known.all() and len(data) == 104
    assert "not empty" in draw(fonts, expect=2)
    shutil.rmtree(tmp_path / "letters")
    (tmp_path / "empty.tgz").write_bytes(b"")
    assert "empty.tgz: cannot be read" in draw(tmp_path / "empty.tgz", expect=2)
    assert not (tmp_path / "letters" / "letters.csv").exists()
