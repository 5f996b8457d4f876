"""The studies of labels and of the recipe run, go on where they were, and keep their promises about the data."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import ablation
import pytest
from PIL import ImageFont
from quality.jobs import run_all

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from support import ROOT
from support.errors import raises
from trainer import config

SCALE = "--faces 400 --images 128 --every 64 --size 16 --preset smoke --count 120"


def run(study: str, out: Path, *words: str, scale: str = SCALE) -> list[str]:
    pytest.importorskip("dicebear", reason="needs the demo extra")
    command = [sys.executable, str(ROOT / "benchmarks" / "studies" / study), "--out", str(out), *scale.split(), *words]
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


def test_each_variant_of_the_ablation_leaves_one_ingredient_out() -> None:
    def options(words: str) -> dict[str, Any]:
        return config.load(["--preset", "faces32", *words.split()]).to_dict()

    whole = options("")
    for name, words in ablation.WITHOUT.items():
        without = options(words)
        named = {word[2:].replace("-", "_") for word in words.split() if word.startswith("--")}
        differ = {key for key in whole if whole[key] != without[key]}
        assert named <= differ <= named | {f"{key}_end" for key in named}, name


def test_jobs_that_wait_are_not_begun_after_a_failure() -> None:
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise Failure("process-failed", "number 1")
        return number

    assert run_all([functools.partial(call, number) for number in (0, 2, 3)], 2) == [0, 2, 3]
    with raises("process-failed", "number 1"):
        run_all([functools.partial(call, number) for number in (1, 4, 5, 6)], 1)
    assert 6 not in begun

    def fail_while_another_works(number: int) -> int:
        time.sleep({0: 2.0, 1: 0.0}.get(number, 0.02))
        return call(number)

    begun.clear()
    with raises("process-failed", "number 1"):
        run_all([functools.partial(fail_while_another_works, number) for number in range(42)], 2)
    assert len(begun) < 42, "a failure counts at once, although an earlier job still works"


def test_the_table_of_an_ablation_has_medians_and_extremes() -> None:
    found = {
        ablation.WHOLE: [{"fid": 900.0, "fidelity/eyes": 0.5}, {"fid": 1200.0}, {"fid": 1000.0}],
        "cooldown": [{"fid": 1500.0, "fidelity/eyes": 0.25, "recall": 0.125}],
    }
    _, _, whole, without = ablation.table(found, {ablation.WHOLE: 4_000, "cooldown": 5_000})
    assert whole == "| *nothing: everything* | 4,000 | 3 | – | – | 50.0 | 1,000 (900–1,200) | – | – | – |"
    assert without == "| cooldown | 5,000 | 1 | – | – | 25.0 | 1,500 | – | 12.5 | – |"


@pytest.mark.exhaustive
def test_ablation(tmp_path: Path) -> None:
    scale = "--faces 400 --size 16 --minutes 0.02 --turns 1 --count 120 --seeds 2 --without cooldown"
    said = run("ablation.py", tmp_path, scale=scale)
    trained = {line for line in said if line.startswith("training")}
    assert trained == {f"training {name}_{seed}" for name in ("everything", "cooldown") for seed in (0, 1)}
    row = next(line for line in reversed(said) if line.startswith("| cooldown"))
    assert row.split(" | ")[2] == "2" and float(row.split(" | ")[6].split(" ")[0].replace(",", "")) > 0
    again = run("ablation.py", tmp_path, scale=scale)
    assert again[-3:] == said[-3:] and not [line for line in again if line.startswith("training")]


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
