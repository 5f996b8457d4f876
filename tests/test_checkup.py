"""Evaluation during training: it changes nothing, goes on after a stop, and keeps the best checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from launching import TINY, checkpoints, make_dataset, metrics, tensors, train

import trainer.sample
from shards.errors import UserError
from trainer import checkpoint
from trainer.checkpoint import Best

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
    assert trainer.sample.load(tmp_path / "watched", "best").saved.images_seen == least
    with pytest.raises(UserError, match="has no best checkpoint: it takes --evaluate-every"):
        trainer.sample.load(tmp_path / "plain", "best")


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


def test_the_best_is_spared_and_survives_damage(tmp_path: Path) -> None:
    for seen in (1, 2, 3, 4):
        checkpoint.directory(tmp_path, seen).mkdir(parents=True)
    checkpoint.mark_best(tmp_path, Best(2, "kid", 0.5))
    checkpoint.prune(tmp_path, 1)
    assert checkpoints(tmp_path) == [f"{seen:012d}" for seen in (2, 4)]
    (tmp_path / "checkpoints" / "best.json").write_text("{")
    assert checkpoint.read_best(tmp_path) is None
