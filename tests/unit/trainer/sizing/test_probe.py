"""The speed of a machine, measured by steps without content."""

from __future__ import annotations

import pytest
import torch

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from support.training import KINDS, WIDTHS, make_env
from trainer import config
from trainer.fresh_state import build_state
from trainer.sizing.probe import Probe, speeds
from trainer.step import StepResult

SHAPE = ImageShape.of(16)


def probe_of(*words: str) -> Probe:
    return Probe(config.load(["--preset", "smoke", "--batch", "8", *words]), make_env(), SHAPE, WIDTHS, KINDS)


@pytest.mark.parametrize(
    ("words", "speed"),
    [
        ("--penalty-every 16", 8 * 16 / (10 + 15)),
        ("--penalty-every 4", 8 * 4 / (10 + 3)),
        ("--penalty-every 1", 8 / 10),
        ("--loss hinge --gamma 0", 8 / 1),
        ("--penalty-every 16 --d-steps 2", 8 * 16 / (10 + 15)),
    ],
)
def test_penalties_count_as_often_as_in_a_run(monkeypatch: pytest.MonkeyPatch, words: str, speed: float) -> None:
    """On a machine whose steps take a second, and ten with a penalty."""
    probe = probe_of(*words.split())

    def train(steps: int) -> float:
        penalized = probe._state.method.gamma > 0 and (steps == 1 or probe._every == 1)
        return steps * (10.0 if penalized else 1.0)

    monkeypatch.setattr(probe, "_train", train)
    for _ in range(3):
        probe.measure()
    assert probe.images_per_second == pytest.approx(speed)


def test_networks_without_content_are_measured() -> None:
    env = make_env()
    found = speeds([probe_of(), probe_of("--channels", "64,32,32")], env, 0.0)
    assert len(found) == 2
    assert all(speed > 0 for speed in found)


def test_a_probe_trains_nothing_until_it_is_told_to() -> None:
    """All ranks make probes first: one that is out of memory would leave the others waiting in a step."""
    probe = probe_of()
    assert probe._state.images_seen == 0
    probe.warm_up()
    assert probe._state.images_seen == 16


def test_a_run_starts_from_the_same_weights_after_a_probe() -> None:
    def weights() -> list[torch.Tensor]:
        options = config.load(["--preset", "smoke", "--batch", "8"])
        state = build_state(options, make_env(), SHAPE, WIDTHS, KINDS)
        return [*state.g.module.parameters(), *state.d.module.parameters()]

    before = weights()
    speeds([probe_of("--augment", "ada")], make_env(), 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(), strict=True))


def test_a_batch_without_content_is_what_the_rank_would_read() -> None:
    batch = probe_of("--accumulate", "2")._batch
    assert batch.images.shape == (8, 3, 16, 16) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.shape == (8, sum(WIDTHS)) and batch.known.shape == (8, len(WIDTHS))
    assert batch.wrong_count == 8


@pytest.mark.parametrize("words", ["--penalty-every 16", "--gamma 0 --loss hinge", "--penalty-every 1 --d-steps 2"])
def test_half_of_the_plain_updates_that_are_measured_seek_modes(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    probe = probe_of("--mode-seeking", "0.3", *words.split())
    sought: list[bool] = []
    step = probe._state.step

    def watched(batch: Batch) -> StepResult:
        result = step(batch)
        if "loss/g" in result.metrics and ("loss/penalty" not in result.metrics or "--d-steps" in words):
            sought.append("loss/modes" in result.metrics)
        return result

    monkeypatch.setattr(probe._state, "step", watched)
    probe.measure()
    assert len(sought) >= 2 and sum(sought) * 2 == len(sought)
