"""Averages rebuilt from snapshots, against averages of the same length that were tracked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.errors import raises
from support.training import make_state, plain_values
from trainer.averages import snapshots
from trainer.averages.power_averages import PowerAverages, key_of, snapshot
from trainer.averages.profiles import decay
from trainer.averages.rebuild import open_averages
from trainer.run import checkpoint

TRACKED = (0.03, 0.07, 0.15, 0.2)
Weights = dict[str, Tensor]


def record(
    run: Path, network: nn.Module, steps: int, batch: int, limit: int, advance: Callable[[int], Any]
) -> dict[int, dict[float, Weights]]:
    """Train with snapshots, and return the tracked averages at each of them by images seen and length."""
    (run / "checkpoints").mkdir(parents=True)
    averages = PowerAverages(network)
    tracked = {length: [p.detach().double() for p in network.parameters()] for length in TRACKED}
    names, found = [name for name, _ in network.named_parameters()], {}
    for seen in range(batch, steps * batch + 1, batch):
        advance(seen)
        averages.update(network, seen, batch)
        for length, tensors in tracked.items():
            for tensor, p in zip(tensors, network.parameters(), strict=True):
                tensor.lerp_(p.detach().double(), 1 - decay(seen, batch, length))
        if snapshots.is_due(seen, batch, limit):
            snapshots.save(run, plain_values(seen), snapshot(averages, network), batch, limit)
            found[seen] = {length: copied(names, tensors) for length, tensors in tracked.items()}
    return found


def copied(names: Sequence[str], tensors: Sequence[Tensor]) -> Weights:
    return {name: tensor.clone() for name, tensor in zip(names, tensors, strict=True)}


def distance(a: Weights, b: Weights) -> float:
    """Return the L2 distance of the weights named in ``b``, relative to their norm."""
    difference = torch.cat([(a[name].double() - b[name]).flatten() for name in b])
    return float(difference.norm() / torch.cat([tensor.flatten() for tensor in b.values()]).norm())


def nearest_kept(run: Path, seen: int, wanted: Weights) -> float:
    """Return the distance of the nearer of the two averages that were kept at this moment."""
    tensors = checkpoint.read(checkpoint.directory(snapshots.folder(run), seen)).tensors(snapshots.FILE)
    kept = [{name: tensors[key_of(length, name)] for name in wanted} for length in (0.05, 0.1)]
    return min(distance(weights, wanted) for weights in kept)


@pytest.fixture(scope="module")
def drift(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, dict[int, dict[float, Weights]]]:
    """Return a run whose weights move by their own size, part trend and part noise; 25 snapshots are left."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))

    def advance(seen: int) -> None:
        for p in network.parameters():
            p.data += 0.004 + 0.03 * torch.randn(p.shape, generator=generator)
        network[1].running_mean.fill_(seen)  # type: ignore[union-attr,operator]

    run = tmp_path_factory.mktemp("drift") / "run"
    return run, network, record(run, network, steps=400, batch=16, limit=32, advance=advance)


@pytest.mark.parametrize("length", TRACKED)
def test_rebuilt_average_is_the_tracked_one(drift: Any, length: float) -> None:
    run, _, tracked = drift
    last, middle = snapshots.moments(run)[-1], snapshots.moments(run)[-9]
    for moment in (last, middle):
        wanted = tracked[moment][length]
        error = distance(open_averages(run, moment).rebuild(length), wanted)
        assert error < 0.01
        assert error < nearest_kept(run, moment, wanted) / 4


def test_buffers_are_those_of_the_moment(drift: Any) -> None:
    run, network, _ = drift
    moment = snapshots.moments(run)[-3]
    tensors = open_averages(run, moment).rebuild(0.07)
    assert tensors["1.running_mean"].tolist() == [moment] * 16
    assert tensors.keys() == network.state_dict().keys()
    assert {tensors[name].dtype for name, _ in network.named_parameters()} == {torch.float32}


def test_weights_that_stand_still_come_out_as_they_are(tmp_path: Path) -> None:
    network = nn.Linear(4, 4)
    record(tmp_path / "run", network, steps=64, batch=16, limit=8, advance=lambda seen: None)
    rebuilt = open_averages(tmp_path / "run").rebuild(0.15)
    assert torch.allclose(rebuilt["weight"], network.weight, rtol=1e-6, atol=1e-7)


def test_a_length_that_two_averages_cannot_express_is_refused(drift: Any) -> None:
    with raises("length-out-of-range", "0.01", "--ema-snapshots", "0.025"):
        open_averages(drift[0]).rebuild(0.01)


def test_missing_snapshots_and_moments_are_named(drift: Any, tmp_path: Path) -> None:
    with raises("moment-missing", "--at 5", "256"):
        open_averages(drift[0], 5)
    with raises("run-missing", str(tmp_path)):
        open_averages(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with raises("snapshots-missing", "--ema-snapshots"):
        open_averages(tmp_path)


def test_a_damaged_snapshot_is_left_out(drift: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(drift[0], run := tmp_path / "run")
    moments = snapshots.moments(run)
    damaged = checkpoint.directory(snapshots.folder(run), moments[-2])
    (damaged / "averages.safetensors").write_bytes(b"")
    averages = open_averages(run)
    assert averages.moments == [*moments[:-2], moments[-1]]
    assert damaged.name in capsys.readouterr().err
    with raises("checkpoint-damaged", damaged.name):
        open_averages(run, moments[-2])


@pytest.mark.long
def test_rebuilt_average_of_a_real_run_is_the_tracked_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke preset from its initial weights, at a high learning rate."""
    monkeypatch.setattr(snapshots, "_FIRST_SPACING", 32)  # the run is short
    state, stream = make_state(tmp_path, "--lr-g", "0.004", "--lr-d", "0.004")
    network, run = state.g.module, tmp_path / "run"
    start = {name: p.detach().double().clone() for name, p in network.named_parameters()}
    tracked = record(run, network, 140, 8, 32, lambda seen: state.step(stream[seen // 8 - 1]))
    moment = snapshots.moments(run)[-1]
    for length in TRACKED[1:]:
        wanted = tracked[moment][length]
        error = distance(open_averages(run).rebuild(length), wanted)
        print(f"length {length}: {error:.5f}, nearest kept {nearest_kept(run, moment, wanted):.5f}")
        assert error < 0.01
        assert error < nearest_kept(run, moment, wanted) / 4
    assert distance(dict(network.named_parameters()), start) > 0.1
