"""Evaluation during training: it changes nothing, goes on after a stop, and keeps the best checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainer.generation.sampler
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from support.launching import TINY, checkpoints, make_dataset, metrics, tensors, train
from trainer.config.monitoring import EvaluationConfig
from trainer.distributed.process_group import Distributed
from trainer.evaluation.metrics import fidelity
from trainer.evaluation.periodic import Checkup
from trainer.run import checkpoint
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory

EVERY = ("--evaluate-every", 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkup")
    make_dataset(folder, 160)
    return folder / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests here: a judge is trained once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "evaluate-cache"))


def figures(run: Path) -> dict[int, dict[str, float]]:
    rows = (
        (int(row["images_seen"]), {k: v for k, v in row.items() if k.startswith("evaluate/")}) for row in metrics(run)
    )
    return {seen: row for seen, row in rows if row}


def test_it_changes_no_weight_and_keeps_the_best(data: Path, tmp_path: Path) -> None:
    words = (*TINY, "--shards", data, "--total-images", 320, "--keep", 1)
    train(*words, "--run", tmp_path / "plain")
    train(*words, "--run", tmp_path / "watched", *EVERY, "--best-by", "kid")
    plain, watched = tensors(tmp_path / "plain"), tensors(tmp_path / "watched")
    assert plain.keys() == watched.keys() and all(np.array_equal(plain[name], watched[name]) for name in plain)
    found = figures(tmp_path / "watched")
    assert list(found) == [64, 128, 192, 256, 320] and found[64].keys() >= {"evaluate/fidelity", "evaluate/kid"}
    best = checkpoint.read_best(tmp_path / "watched")
    least = min(found, key=lambda seen: found[seen]["evaluate/kid"])
    assert best == Best(least, "kid", found[least]["evaluate/kid"])
    assert set(checkpoints(tmp_path / "watched")) == {f"{seen:012d}" for seen in (least, 320)}
    assert trainer.generation.sampler.load(tmp_path / "watched", "best").saved.images_seen == least
    with pytest.raises(UserError, match="has no best checkpoint: it takes --evaluate-every"):
        trainer.generation.sampler.load(tmp_path / "plain", "best")


@pytest.mark.long
def test_it_goes_on_and_agrees_between_processes(data: Path, tmp_path: Path) -> None:
    words = (*TINY, "--shards", data, *EVERY, "--mixed-precision", "no")
    train(*words, "--run", tmp_path / "whole", "--total-images", 320)
    train(*words, "--run", tmp_path / "parts", "--total-images", 128)
    train(*words, "--run", tmp_path / "parts", "--total-images", 320)
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    assert checkpoint.read_best(tmp_path / "parts") == checkpoint.read_best(tmp_path / "whole")
    train(*words, "--run", tmp_path / "two", "--total-images", 128, processes=2)
    first = figures(tmp_path / "two")[64]
    assert first.keys() == figures(tmp_path / "whole")[64].keys()
    assert first["evaluate/kid"] == pytest.approx(figures(tmp_path / "whole")[64]["evaluate/kid"], rel=0.05)


class Grey(nn.Module):
    """A generator of one shade, which is a buffer, as BatchNorm's statistics are."""

    def __init__(self, shade: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("shade", torch.tensor(shade))

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return self.get_buffer("shade").expand(len(z), 3, 16, 16)


def test_processes_draw_with_the_buffers_that_a_checkpoint_holds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Distributed("cpu", "no", 1) as env:
        checkup = Checkup(EvaluationConfig(evaluate_every=64), Dataset.open(data), env, seed=0)

        def look(shade: float) -> dict[str, float]:
            networks = SimpleNamespace(ema=SimpleNamespace(module=Grey(shade)), architecture=SimpleNamespace(noise=64))
            return checkup.look(networks)  # type: ignore[arg-type]

        dark, light = look(-0.5), look(0.5)
        assert dark != light
        # As if other processes had seen other pictures: their mean is another.
        monkeypatch.setattr(env, "average_buffers", lambda module: module.get_buffer("shade").fill_(-0.5))
        assert look(0.5) == dark


def test_what_the_judge_cannot_see_is_said_at_the_start(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fidelity, "TRUSTED", 1.01)  # no judge is as good as that
    with Distributed("cpu", "no", 1) as env:
        checkup = Checkup(EvaluationConfig(evaluate_every=64), Dataset.open(data), env, seed=0)
    state: Any = SimpleNamespace(images_seen=64)
    said = capsys.readouterr().out
    assert "warning: evaluations leave out ink (the judge sees it in" in said and "try --best-by kid" in said
    assert checkup.best_of({"evaluate/kid": 0.1}, state, RunDirectory(data / "no run")) is None


def test_the_best_is_spared_and_survives_damage(tmp_path: Path) -> None:
    for seen in (1, 2, 3, 4):
        checkpoint.directory(tmp_path, seen).mkdir(parents=True)
    checkpoint.mark_best(tmp_path, Best(2, "kid", 0.5))
    checkpoint.prune(tmp_path, 1)
    assert checkpoints(tmp_path) == [f"{seen:012d}" for seen in (2, 4)]
    (tmp_path / "checkpoints" / "best.json").write_text("{")
    assert checkpoint.read_best(tmp_path) is None


def test_a_run_killed_between_the_best_checkpoint_and_its_mark_marks_it_when_it_goes_on(
    data: Path, tmp_path: Path
) -> None:
    """No mark points to what is not there; and that moment does not come again, so the checkpoint knows it too."""
    words = (*TINY, "--shards", data, *EVERY, "--best-by", "kid", "--run", tmp_path / "run")
    train(*words, "--total-images", 64)
    best = checkpoint.read_best(tmp_path / "run")
    assert best == Best(64, "kid", figures(tmp_path / "run")[64]["evaluate/kid"])
    (tmp_path / "run" / "checkpoints" / "best.json").unlink()
    train(*words, "--total-images", 80)
    assert checkpoint.read_best(tmp_path / "run") == best
