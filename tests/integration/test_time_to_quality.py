"""The benchmark of quality over time: who trains next, when a leg is done, what is printed, and that it goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import time_to_quality
import torch
from other_methods.registry import METHODS
from published import PublishedGenerator
from quality.course import Course, first_right, table
from quality.in_memory import batches
from quality.legs import LEGS, PUBLISHED, Leg
from quality.pace import ProcessorTime, measure, pace_of
from time_to_quality import QualityOptions, Schedule

from shards.examples.faces import Faces, faces
from shards.packing.pack import Pack, pack
from support import ROOT
from support.errors import raises
from trainer import config
from trainer.generation.sampler import load
from trainer.run.metrics_file import MetricsFile, read

ASKED = QualityOptions(legs=(PUBLISHED, "residual96", "residual32"), minutes=10)


def course(pace: float, *hair: float) -> Course:
    """A leg with a checkpoint every 100 images."""
    found = {100 * n: {"fidelity/hair": share, "fid": 1_000.0 - n} for n, share in enumerate(hair, start=1)}
    return Course(100 * len(hair), pace, found)


NOT_BEGUN = Course(0, 0.0, {})


@pytest.fixture
def pieces_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate legs every 100 images, as `course` does."""
    for name in ASKED.legs:
        monkeypatch.setitem(LEGS, name, dataclasses.replace(LEGS[name], every=100))


def test_our_legs_are_commands_that_the_trainer_understands() -> None:
    for name, leg in LEGS.items():
        if leg.other:
            assert name == f"{leg.command[-1]}{leg.size}" and leg.command[-1] in METHODS
        elif name != PUBLISHED:
            config.load([str(word) for word in leg.command[1:]])


def test_a_package_that_is_missing_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightweight_gan.lightweight_gan", None)
    with raises("package-missing", "lightweight_gan"):
        time_to_quality.main(["--out", str(tmp_path / "out"), "--legs", "faces32,lightweight-gan32"])
    assert not (tmp_path / "out").exists()
    assert not [name for name in QualityOptions().legs if "lightweight" in name]


def test_the_first_half_of_hair_colours() -> None:
    assert first_right(course(2.0, 0.1, 0.5, 0.9)) == 400
    assert first_right(course(2.0, 0.1, 0.4)) is None
    assert first_right(Course(100, 1.0, {100: {"fid": 3.0}})) is None, "the judge was too weak to say"


@pytest.mark.usefixtures("pieces_of_100")
def test_a_leg_of_ours_is_done_after_its_minutes() -> None:
    courses = {"residual96": course(2.9, 0.1, 0.2), "residual32": course(2.9, 0.1, 0.2), PUBLISHED: NOT_BEGUN}
    assert not time_to_quality.done(ASKED, "residual96", courses), "580 of 600 s"
    assert time_to_quality.done(ASKED, "residual32", courses), "240 s are 0.4 of it: 83 images, so one piece"
    slower = courses | {"residual32": course(1.0, 0.1, 0.2)}
    assert not time_to_quality.done(ASKED, "residual32", slower), "200 of 240 s"
    assert not time_to_quality.done(ASKED, PUBLISHED, courses)


def test_the_published_loop_is_cut_off_at_ten_times_our_time() -> None:
    courses = {"residual96": course(1.0, 0.5), "residual32": course(0.1, 0.9), PUBLISHED: course(9.0, 0.1)}
    assert not time_to_quality.done(ASKED, PUBLISHED, courses), "900 of 1,000 s; other sizes do not count"
    assert time_to_quality.done(ASKED, PUBLISHED, courses | {PUBLISHED: course(10.0, 0.1)})
    assert time_to_quality.done(ASKED, PUBLISHED, courses | {PUBLISHED: course(1.0, 0.5)}), "it got there"
    nobody = {"residual96": course(1.0, 0.4), PUBLISHED: course(6.1, 0.1)}
    assert time_to_quality.done(ASKED, PUBLISHED, nobody), "nobody got there: as long as the others"


def test_a_leg_whose_learning_rates_fall_is_one_piece() -> None:
    whole, pieces = (dataclasses.replace(LEGS["faces32"], every=100, whole=whole) for whole in (True, False))
    assert [whole.next_end(seen, 250.1) for seen in (0, 100, 200)] == [300, 300, 300]
    assert [pieces.next_end(seen, 250.1) for seen in (0, 100, 250)] == [100, 200, 300]


@pytest.mark.usefixtures("pieces_of_100")
def test_the_leg_with_the_least_time_goes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {PUBLISHED: 4.0, "residual96": 2.0, "residual32": 1.0}
    pieces = dict.fromkeys(paces, 0)
    taken: list[str] = []

    def train(_: QualityOptions, name: str, __: object) -> None:
        pieces[name] += 1
        taken.append(name)

    def come(_: QualityOptions, name: str) -> Course:
        return course(paces[name], *[0.1] * pieces[name])

    monkeypatch.setattr(time_to_quality, "piece", train)
    monkeypatch.setattr(QualityOptions, "course", come)
    Schedule(ASKED).work()
    assert taken[:6] == [PUBLISHED, "residual96", "residual32", "residual32", "residual96", "residual32"]
    assert pieces == {PUBLISHED: 2, "residual96": 3, "residual32": 3}, "until 600, 600 and 240 s are over"


def test_the_pace_is_measured_by_turns_and_without_the_first_line_of_a_piece(tmp_path: Path) -> None:
    rows = {"one": 512, "two": 64}
    trained: list[tuple[str, object]] = []

    def train(name: str, run: Path, words: Sequence[object]) -> None:
        _, images, _, every = words
        trained.append((name, images))
        with MetricsFile(run / "metrics.jsonl") as log:
            for row in range(4):
                log.write(row * int(str(every)), {"speed/images_per_second": 1.0 if row == 0 else 10.0 + row})

    measure(tmp_path, rows, 1, train)
    assert trained == [("one", 2_048), ("two", 256)]
    measure(tmp_path, rows, 2, train)
    assert trained[2:] == [("one", 4_096), ("two", 512)], "what was measured is not measured again"
    assert pace_of(tmp_path / "one") == 1 / 12


def test_processor_time_leaves_waiting_out(tmp_path: Path) -> None:
    burn = (
        "import sys, time; from pathlib import Path; from trainer.run.metrics_file import MetricsFile\n"
        "with MetricsFile(Path(sys.argv[1]) / 'metrics.jsonl') as log:\n"
        "    for row in range(1, 5):\n"
        "        until = time.process_time() + 0.3\n"
        "        while time.process_time() < until: pass\n"
        "        log.write(10 * row, {'speed/images_per_second': 1.0})\n"
        "        time.sleep(0.5)\n"
    )
    clock = ProcessorTime(tmp_path)
    with subprocess.Popen([sys.executable, "-c", burn, str(tmp_path)], cwd=ROOT) as process:
        while process.poll() is None:
            clock.watch(psutil.Process(process.pid))
            time.sleep(0.01)
    assert process.returncode == 0
    assert pace_of(tmp_path, "processor") == pytest.approx(0.03, rel=0.3), "0.3 s each 10 images; the wall's is 0.08"
    with raises("pace-missing", "--clock processor"):
        pace_of(tmp_path / "other", "processor")


def test_a_table_says_what_was_not_reached_or_not_judged() -> None:
    one, two = (96, course(0.5, 0.25, 0.75)), (32, course(6.0, 0.25))
    lines = list(table({"one": one, "two": two}, {"one": 0.1384}))
    assert lines[2:] == [
        "| one | 96 | 2 | 1.7 | 200 | 75 | – | – | 998 | – | – | – | 1.7 | 138 |",
        "| two | 32 | 0.167 | 10.0 | 100 | 25 | – | – | 999 | – | – | – | not reached | – |",
    ]
    assert {line.count("|") for line in lines} == {15}


def test_the_published_loop_goes_on_in_the_order_it_left() -> None:
    whole = list(itertools.islice(batches(70, 16, 0, seed=3), 10))
    later = list(itertools.islice(batches(70, 16, 5 * 16, seed=3), 5))
    assert all(torch.equal(a, b) for a, b in zip(whole[5:], later, strict=True))
    epoch = torch.cat(whole[:4])
    assert len(set(epoch.tolist())) == 64, "each image once an epoch"
    assert not torch.equal(epoch, torch.cat(whole[4:8]))


@pytest.mark.exhaustive
def test_the_published_loop_is_a_run_that_can_be_drawn_from(tmp_path: Path) -> None:
    pytest.importorskip("dicebear", reason="needs the demo extra")
    faces(Faces(out=tmp_path / "faces", count=96, size=96))
    pack(Pack(src=tmp_path / "faces", out=tmp_path / "data", size=96))

    def train(images: int) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "published_run.py"), "--shards", str(tmp_path / "data")]
        words = ["--run", str(tmp_path / "run"), "--total-images", str(images), "--batch", "4", "--log-every", "4"]
        subprocess.run([*command, *words], capture_output=True, text=True, check=True)

    train(8)
    before = load(tmp_path / "run", device="cpu").sample("blue hair", count=2)
    train(12)
    sampler = load(tmp_path / "run", device="cpu")
    assert [row["images_seen"] for row in read(tmp_path / "run" / "metrics.jsonl")] == [4, 8, 12]
    assert (sampler.sample("blue hair", count=2) != before).any(), "it has learned on"
    published = PublishedGenerator(sum(a.width for a in sampler.schema.attributes)).eval()
    published.load_state_dict(sampler.saved.tensors("ema"))
    z, labels = torch.randn(2, sampler.noise_size), sampler.labels_for("blue hair", 2)
    label, known = torch.from_numpy(labels.label), torch.from_numpy(labels.known).float()
    with torch.no_grad():
        difference = published(z, label) - sampler.generator(z, label, known)
    assert difference.abs().max() < 1e-4, "the published networks and ours are the same function"


@pytest.mark.exhaustive
def test_the_benchmark_prints_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dicebear", reason="needs the demo extra")
    every, evaluated = {"faces32": 320, "flow-matching32": 256}, {"faces32": [320, 640], "flow-matching32": [256]}
    for name, images in every.items():
        monkeypatch.setitem(LEGS, name, dataclasses.replace(LEGS[name], every=images, row=64))

    def seconds(self: QualityOptions, leg: Leg) -> float:
        return 321 * self.course("faces32").pace if leg.whole else 0.001

    monkeypatch.setattr(
        QualityOptions, "seconds", seconds
    )  # whatever the pace, two evaluations of one and one of the other

    def run() -> list[str]:
        scale = "--minutes 0.01 --faces 100 --count 16 --turns 1 --threads 1 --clock processor --features judge"
        time_to_quality.main(["--out", str(tmp_path), "--legs", ",".join(every), *scale.split()])
        return capsys.readouterr().out.splitlines()

    first = run()
    for name, moments in evaluated.items():
        assert [line.split(" images")[0] for line in first if line.startswith(f"{name}: ")] == [
            f"{name}: {images:,}" for images in moments
        ]
    assert (tmp_path / "faces32.log").read_text().count("training from 0 of 640 images") == 1
    assert [line.split("|")[1].strip() for line in first[-2:]] == list(every)

    def without_sampling(lines: list[str]) -> list[str]:
        return [line.rsplit("|", 2)[0] for line in lines[-2:]]

    assert without_sampling(run()) == without_sampling(first), "nothing is trained again"
    results = json.loads((tmp_path / "results.json").read_text())
    for name, moments in evaluated.items():
        assert list(results["legs"][name]["figures"]) == [str(images) for images in moments]
        assert 0 < results["legs"][name]["seconds_to_generate_an_image"] < 10
    assert (tmp_path / "32.png").stat().st_size > 1_000
