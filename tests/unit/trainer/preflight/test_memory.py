"""The estimate of a step's peak memory: what it counts, and what it advises."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from support.training import KINDS, WIDTHS, make_env
from trainer import config
from trainer.fresh_state import build_state
from trainer.preflight import memory
from trainer.preflight.memory import GIGABYTE, LiveBytes, PeakEstimator
from trainer.state import TrainingState

SIZE = 16


def state(*words: str) -> TrainingState:
    """A training state of preset smoke."""
    return build_state(config.load(["--preset", "smoke", *words]), make_env(), ImageShape.of(SIZE), WIDTHS, KINDS)


def batch(samples: int) -> Batch:
    """A batch of black images."""
    images = torch.zeros(samples, 3, SIZE, SIZE, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    labels, known, positions = (
        torch.zeros(samples, sum(WIDTHS)),
        torch.ones(samples, len(WIDTHS)),
        torch.arange(samples),
    )
    return Batch(images, labels, known, labels, known, torch.ones(samples), positions, samples)


def test_live_bytes_counts_storages_while_they_live() -> None:
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100)[:, :50]  # the same storage
        assert live.now == live.peak == 4000
        c = a + 1
        del a, b
        assert (live.now, live.peak) == (4000, 8000)
        del c
    assert (live.now, live.peak) == (0, 8000)


@pytest.mark.parametrize(
    "words", ["--gamma 0.2 --penalty-every 1", "--gamma 0 --loss hinge --family r3gan --augment ada"]
)
def test_estimate_is_the_peak_of_the_tensors_of_a_real_step(words: str) -> None:
    """From the second step on, when there are moments, real and fake tensors live and die alike."""
    trained = state(*words.split())
    estimated = PeakEstimator(trained, "no").peak(1)
    taken = batch(trained.batch_size)
    trained.step(taken)
    with LiveBytes() as live:
        for player in (trained.g, trained.d):
            live.count(player.module.state_dict().values())
            live.count(weight.grad for weight in player.module.parameters())
            live.count(tensor for moments in player.optimizer.state.values() for tensor in moments.values())
        live.count(trained.ema.module.state_dict().values())
        trained.images_seen = 0
        trained.step(taken)
    assert estimated == pytest.approx(live.peak, rel=0.02)
    assert PeakEstimator(trained, "no").peak(1) == estimated, "a state that has trained is as good"


@pytest.mark.parametrize("words", ["--updates joint --penalty-every 3", "--gamma 0 --loss hinge"])
def test_second_images_of_mode_seeking_count(words: str) -> None:
    plain, seeking = (
        PeakEstimator(state("--family", "r3gan", *words.split(), *more), "no").peak(1)
        for more in ((), ("--mode-seeking", "0.3"))
    )
    assert seeking > 1.05 * plain


def test_estimate_changes_nothing() -> None:
    trained = state()
    before = copy.deepcopy(trained.tensors())
    PeakEstimator(trained, "bf16").peak(2)
    after = trained.tensors()
    assert trained.images_seen == 0
    assert all(torch.equal(after[file][name], tensor) for file in before for name, tensor in before[file].items())


def test_bf16_needs_less_and_less_still_with_bf16_penalties() -> None:
    trained = state("--batch", "64", "--channels", "32,32,32")
    full, mixed = (PeakEstimator(trained, precision).peak(1) for precision in ("no", "bf16"))
    penalties = PeakEstimator(trained, "bf16", mixed_penalty=True).peak(1)
    assert penalties < 0.8 * mixed
    assert mixed <= full


def test_processes_hold_another_copy_of_gradients() -> None:
    trained = state()
    one = PeakEstimator(trained, "no")
    with mock.patch.object(trained.env, "world_size", 2):
        two = PeakEstimator(trained, "no")
    gradients = sum(4 * p.numel() for player in (trained.g, trained.d) for p in player.module.parameters())
    assert two.samples == one.samples / 2
    assert two.fixed == one.fixed + gradients
    assert two.peak(1) < one.peak(1) + gradients, "half of the images"


class Proportional(PeakEstimator):
    """1 GB, and 2 GB per image at a time."""

    def __init__(self, samples: int) -> None:
        self.samples, self.fixed, self.measured = samples, GIGABYTE, 0

    def peak(self, accumulate: int) -> int:
        self.measured += 1
        return GIGABYTE + 2 * GIGABYTE * (self.samples // accumulate)


def test_advice_names_the_smallest_accumulation_that_fits() -> None:
    card = 24 * GIGABYTE
    assert "fits a GPU of 24 GB" in memory.advise(Proportional(8), 1, card)
    assert "use --accumulate 3 " in memory.advise(Proportional(24), 1, card)  # 8 images: 17 GB and room; 12: 25 GB
    assert "use --accumulate 4 " in memory.advise(Proportional(24), 3, 16 * GIGABYTE), "more than there is already"
    assert "no --accumulate" in memory.advise(Proportional(24), 1, 3 * GIGABYTE)


def test_advice_measures_little() -> None:
    many = Proportional(4096)
    assert memory.fitting_accumulation(many, 1, 24 * GIGABYTE) == 512
    assert many.measured == 2, "once as it is, and once where it may fit"


def test_failure_of_the_estimate_is_a_sentence() -> None:
    with mock.patch.object(memory, "PeakEstimator", side_effect=NotImplementedError("aten::new")):
        line = memory.describe(mock.Mock(), make_env(), config.load(["--preset", "smoke"]))
    assert line == "memory: not estimated (NotImplementedError)"
