"""Evaluation during training: it does not affect training, resumes, and keeps the best checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainer.generation.sampler
from shards.dataset.dataset import Dataset
from support.errors import raises
from support.launching import TINY, checkpoints, metrics, tensors, train
from trainer.config import EvaluationConfig
from trainer.distributed.process_group import Distributed
from trainer.evaluation.metrics import label_accuracy
from trainer.evaluation.periodic import PeriodicEvaluator
from trainer.run import checkpoint
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory

pytestmark = pytest.mark.usefixtures("evaluation_cache")
EVERY = ("--evaluate-every", 64)


def evaluator(small_dataset: Path, env: Distributed) -> PeriodicEvaluator:
    config = EvaluationConfig(evaluate_every=64)
    return PeriodicEvaluator(config, Dataset.open(small_dataset), noise_size=64, seed=0, env=env)


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    rows = (
        (int(row["images_seen"]), {k: v for k, v in row.items() if k.startswith("evaluate/")}) for row in metrics(run)
    )
    return {seen: row for seen, row in rows if row}


def test_evaluation_changes_no_weight_and_the_best_checkpoint_is_kept(small_dataset: Path, tmp_path: Path) -> None:
    words = (*TINY, "--shards", small_dataset, "--total-images", 320, "--keep", 1)
    train(*words, "--run", tmp_path / "plain")
    train(*words, "--run", tmp_path / "watched", *EVERY, "--best-by", "kid")
    plain, watched = tensors(tmp_path / "plain"), tensors(tmp_path / "watched")
    assert plain.keys() == watched.keys() and all(np.array_equal(plain[name], watched[name]) for name in plain)
    found = evaluations(tmp_path / "watched")
    assert list(found) == [64, 128, 192, 256, 320] and found[64].keys() >= {"evaluate/fidelity", "evaluate/kid"}
    best = checkpoint.read_best(tmp_path / "watched")
    least = min(found, key=lambda seen: found[seen]["evaluate/kid"])
    assert best == Best(least, "kid", found[least]["evaluate/kid"])
    assert set(checkpoints(tmp_path / "watched")) == {f"{seen:012d}" for seen in (least, 320)}
    assert trainer.generation.sampler.load(tmp_path / "watched", "best").saved.images_seen == least
    with raises("checkpoint-missing", "--evaluate-every"):
        trainer.generation.sampler.load(tmp_path / "plain", "best")


@pytest.mark.long
def test_evaluations_resume_and_agree_between_processes(small_dataset: Path, tmp_path: Path) -> None:
    words = (*TINY, "--shards", small_dataset, *EVERY, "--mixed-precision", "no")
    train(*words, "--run", tmp_path / "whole", "--total-images", 320)
    train(*words, "--run", tmp_path / "parts", "--total-images", 128)
    train(*words, "--run", tmp_path / "parts", "--total-images", 320)
    assert evaluations(tmp_path / "parts") == evaluations(tmp_path / "whole")
    assert checkpoint.read_best(tmp_path / "parts") == checkpoint.read_best(tmp_path / "whole")
    train(*words, "--run", tmp_path / "two", "--total-images", 128, processes=2)
    first = evaluations(tmp_path / "two")[64]
    assert first.keys() == evaluations(tmp_path / "whole")[64].keys()
    assert first["evaluate/kid"] == pytest.approx(evaluations(tmp_path / "whole")[64]["evaluate/kid"], rel=0.05)


class Grey(nn.Module):
    """A generator of one shade, which is a buffer like BatchNorm's statistics."""

    def __init__(self, shade: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("shade", torch.tensor(shade))

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return self.get_buffer("shade").expand(len(z), 3, 16, 16)


def test_processes_generate_with_the_buffers_that_a_checkpoint_has(
    small_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Distributed("cpu", "no", 1) as env:
        periodic = evaluator(small_dataset, env)
        dark, light = periodic.evaluate(Grey(-0.5)), periodic.evaluate(Grey(0.5))
        assert dark != light
        # As if other processes had seen other images: the mean over processes is another.
        monkeypatch.setattr(env, "average_buffers", lambda module: module.get_buffer("shade").fill_(-0.5))
        assert periodic.evaluate(Grey(0.5)) == dark


def test_attributes_that_the_judge_cannot_recognise_are_reported_at_the_start(
    small_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(label_accuracy, "MIN_JUDGE_ACCURACY", 1.01)  # no judge is as good as that
    with Distributed("cpu", "no", 1) as env:
        periodic = evaluator(small_dataset, env)
    printed = capsys.readouterr().out
    assert "warning: evaluations leave out ink (" in printed and "--best-by kid" in printed
    assert periodic.best_of({"evaluate/kid": 0.1}, 64, RunDirectory(small_dataset / "no run")) is None


def test_best_checkpoint_is_not_pruned_and_a_damaged_mark_is_ignored(tmp_path: Path) -> None:
    for seen in (1, 2, 3, 4):
        checkpoint.directory(tmp_path, seen).mkdir(parents=True)
    checkpoint.mark_best(tmp_path, Best(2, "kid", 0.5))
    checkpoint.prune(tmp_path, 1)
    assert checkpoints(tmp_path) == [f"{seen:012d}" for seen in (2, 4)]
    (tmp_path / "checkpoints" / "best.json").write_text("{")
    assert checkpoint.read_best(tmp_path) is None


def test_run_killed_between_the_best_checkpoint_and_its_mark_marks_it_on_resume(
    small_dataset: Path, tmp_path: Path
) -> None:
    """The mark is written after the checkpoint, and the evaluation is not repeated, so the checkpoint has it too."""
    words = (*TINY, "--shards", small_dataset, *EVERY, "--best-by", "kid", "--run", tmp_path / "run")
    train(*words, "--total-images", 64)
    best = checkpoint.read_best(tmp_path / "run")
    assert best == Best(64, "kid", evaluations(tmp_path / "run")[64]["evaluate/kid"])
    (tmp_path / "run" / "checkpoints" / "best.json").unlink()
    train(*words, "--total-images", 80)
    assert checkpoint.read_best(tmp_path / "run") == best
