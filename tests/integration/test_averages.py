"""Averages of a run's generator: written while it trains, resumed exactly, rebuilt afterwards by `cgan ema`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer
from support.errors import raises
from support.launching import make_dataset
from support.launching import train as train_processes
from trainer.averages import command, rebuild, snapshots
from trainer.run import checkpoint

OPTIONS = {"preset": "smoke", "batch": 16, "log_with": "none", "workers": 0, "threads": 1, "ema_snapshots": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("averages")).path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    return trainer.train(run=folder, shards=str(data), total_images=768, **OPTIONS)


def test_snapshots_of_a_resumed_run_are_those_of_an_uninterrupted_one(data: Path, run: Path, tmp_path: Path) -> None:
    resumed = tmp_path / "run"
    trainer.train(run=resumed, shards=str(data), total_images=400, **OPTIONS)
    assert snapshots.moments(resumed) == [128, 256, 384, 400]
    killed = checkpoint.directory(snapshots.folder(resumed), 512)  # made after the newest checkpoint, before a kill
    checkpoint.directory(snapshots.folder(resumed), 384).rename(killed)
    trainer.train(run=resumed, shards=str(data), total_images=768, **OPTIONS)
    assert snapshots.moments(run) == [128, 256, 384, 512, 640, 768]
    assert snapshots.moments(resumed) == [128, 256, 512, 640, 768]
    for name in ("generator", "ema", "averages"):
        ours, theirs = (checkpoint.find(folder).tensors(name) for folder in (resumed, run))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), name
    for moment in (512, 640):
        ours, theirs = (
            checkpoint.read(checkpoint.directory(snapshots.folder(folder), moment)).tensors("averages")
            for folder in (resumed, run)
        )
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_rebuilt_average_samples_evaluates_and_does_not_train(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main([str(run), "--length", "0.1"])
    out = run / "ema" / "0.1"
    assert str(out) in capsys.readouterr().out
    assert (out / "lineage.json").read_bytes() == (run / "lineage.json").read_bytes()
    sampler = trainer.load(out)
    kept = checkpoint.find(run).tensors("averages")
    for name, p in sampler.generator.named_parameters():  # 0.1 is a length that was kept
        assert np.allclose(p, kept[f"0.10/{name}"], atol=1e-6), name
    assert sampler.sample("anything", count=2).shape == (2, 3, 16, 16)
    modified = (out / "checkpoints").stat().st_mtime_ns
    command.main([str(run), "--length", "0.1"])
    assert (out / "checkpoints").stat().st_mtime_ns == modified
    with raises("not-trainable", out):
        trainer.train(run=out, shards=str(data), total_images=1024, **OPTIONS)
    trainer.train(run=tmp_path / "new", init_from=out, shards=str(data), total_images=32, **OPTIONS)
    assert "the discriminator is fresh" in capsys.readouterr().out
    with raises("output-exists", out):
        command.main([str(run), "--length", "0.07", "--out", str(out)])


def test_a_moment_and_a_directory_can_be_chosen(run: Path, tmp_path: Path) -> None:
    command.main([str(run), "--length", "0.08", "--at", "512", "--out", str(tmp_path / "chosen")])
    assert checkpoint.find(tmp_path / "chosen").images_seen == 512
    assert checkpoint.find(tmp_path / "chosen").state.average_length == 0.08


def test_a_directory_holds_the_average_of_the_moment_last_asked_for(run: Path) -> None:
    out = run / "ema" / "0.09"
    for words, moment in (((), 768), (("--at", "512"), 512), ((), 768), (("--at", "640"), 640)):
        command.main([str(run), "--length", "0.09", *words])
        assert checkpoint.find(out).images_seen == moment
        assert [path.name for path in checkpoint.directories(out)] == [f"{moment:012d}"]


def test_a_snapshot_that_a_training_run_removed_is_explained(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    averages = rebuild.open_averages(copy)
    removed = checkpoint.directory(snapshots.folder(copy), 256)
    checkpoint.remove(removed)
    with raises("file-unreadable", removed):
        rebuild.write(averages, 0.1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_snapshot_of_other_networks_is_explained(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    other = checkpoint.read(checkpoint.directory(snapshots.folder(copy), 256))
    tensors = {key: torch.cat([value, value]) for key, value in other.tensors(snapshots.FILE).items()}
    checkpoint.remove(other.path)
    checkpoint.save(snapshots.folder(copy), dataclasses.asdict(other.state), {snapshots.FILE: tensors}, keep=100)
    with raises("wrong-weights"):
        rebuild.open_averages(copy).rebuild(0.1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "option-missing"),
        (["--length", "0.1", "--lengths", "0.1,0.2"], "option-conflict"),
        (["--length", "0.5"], "invalid-value"),
        (["--length", "0.01"], "length-out-of-range"),
        (["--lengths", "0.1,0.01"], "length-out-of-range"),
        (["--length", "0.1", "--at", "100"], "moment-missing"),
        (["--length", "0.1", "--best-by", "kid"], "option-without-effect"),
        (["--length", "0.1", "--count", "16"], "option-without-effect"),
        (["--length", "0.1", "--seed", "1"], "option-without-effect"),
        (["--length", "0.1", "--shards", "data"], "option-without-effect"),
        (["--length", "0.1", "--device", "cpu"], "option-without-effect"),
    ],
)
def test_mistakes_are_refused(run: Path, words: list[str], code: str) -> None:
    with raises(code):
        command.main([str(run), *words])


@pytest.mark.long
def test_the_best_length_is_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main([str(run), "--lengths", "0.06,0.12", "--best-by", "kid", "--count", "32"])
    best = json.loads((run / "ema" / "best.json").read_text())
    assert best["values"].keys() == {"0.06", "0.12"}
    assert best["best"] == min((0.06, 0.12), key=lambda length: best["values"][str(length)])
    assert str(run / "ema" / str(best["best"])) in capsys.readouterr().out
    assert trainer.load(run / "ema" / str(best["best"])).saved.images_seen == 768


@pytest.mark.long
def test_two_processes_write_one_set_of_snapshots(data: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"shards": str(data), "total_images": 256}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    train_processes(*words, "--run", tmp_path / "run", processes=2)
    assert snapshots.moments(tmp_path / "run") == [128, 256]
    assert "averages" in {path.stem for path in checkpoint.find(tmp_path / "run").path.glob("*.safetensors")}
