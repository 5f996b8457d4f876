"""The training state's own clock: when penalties fall, and what moves when."""

from __future__ import annotations

from pathlib import Path

import torch
from launching import make_dataset

from shards.stream import Stream
from trainer import config
from trainer.distributed import Distributed
from trainer.state import TrainingState, architecture_of


def make_state(tmp_path: Path, *words: str) -> tuple[TrainingState, Stream]:
    dataset = make_dataset(tmp_path)
    asked = config.load(["--preset", "smoke", "--batch", "8", *words])
    env = Distributed("cpu", "no", 1)
    architecture = architecture_of(asked, dataset.size, dataset.schema.widths)
    return TrainingState(asked, architecture, env), Stream(dataset, asked.batch, asked.seed)


def test_penalties_fall_by_the_clock(tmp_path: Path) -> None:
    """By images seen, so that a resumed run keeps their rhythm."""
    state, stream = make_state(tmp_path, "--penalty-every", "3")
    fell = ["loss/penalty" in state.step(stream[number], measure=False) for number in range(7)]
    assert fell == [True, False, False, True, False, False, True]
    state.images_seen = 9 * 8
    assert "loss/penalty" in state.step(stream[9], measure=False)
    assert state.images_seen == 10 * 8


def test_without_gamma_there_is_no_penalty(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, "--loss", "hinge", "--gamma", "0")
    assert "loss/penalty" not in state.step(stream[0], measure=False)


def test_the_average_follows_and_is_what_starts_equal(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path)
    pairs = list(zip(state.ema.module.parameters(), state.g.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    for number in range(4):
        state.step(stream[number], measure=False)
    moved = [(a - b).abs().max().item() for a, b in pairs]
    assert max(moved) > 0, "an average is not the newest weights"
    assert max(moved) < 0.1


def test_a_mismatch_of_no_weight_is_not_computed(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, "--mismatch-weight", "0")
    assert "loss/mismatch" not in state.step(stream[0], measure=False)
    state, stream = make_state(tmp_path / "again")
    assert "loss/mismatch" in state.step(stream[0], measure=False)
