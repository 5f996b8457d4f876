"""The exponential moving average, measured in images seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.averages.ema import ExponentialMovingAverage, decay


def test_half_life() -> None:
    assert decay(10**9, 100, half_life=100, ramp=0) == pytest.approx(0.5)
    assert decay(10**9, 50, half_life=100, ramp=0) ** 2 == pytest.approx(0.5)
    assert decay(0, 50, half_life=0, ramp=0) == 0


def test_the_ramp_caps_the_half_life() -> None:
    assert decay(0, 50, half_life=100, ramp=0.1) == 0
    assert decay(500, 50, half_life=100, ramp=0.1) == pytest.approx(0.5)
    assert decay(10**6, 50, half_life=100, ramp=0.1) == decay(10**6, 50, half_life=100, ramp=0)


@given(st.integers(1, 8), st.integers(1, 20))
def test_decay_depends_on_images_not_on_steps(parts: int, steps: int) -> None:
    whole = decay(10**9, 64 * steps, 500, 0)
    assert decay(10**9, 64 * steps / parts, 500, 0) ** parts == pytest.approx(whole)  # type: ignore[arg-type]


def test_update_by_hand() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.zeros_(net[0].weight)  # type: ignore[arg-type]
    average = ExponentialMovingAverage(net, half_life=10, ramp=0)
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    net[1].running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
    average.update(net, images_seen=0, batch=20)  # two half-lives: a quarter of the old weights remains
    average.update(net, images_seen=20, batch=20)
    assert average.module[0].weight.item() == pytest.approx(1 - 0.25**2)  # type: ignore[index,union-attr]
    assert average.module[1].running_mean.item() == 3.0  # type: ignore[index,union-attr]
    assert not average.module.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert net.training
    assert torch.equal(net[0].weight, torch.ones(1, 1))  # type: ignore[arg-type]


def test_constant_buffers_are_left_alone() -> None:
    """Each copy is one more operation of a step."""
    net = nn.Sequential(nn.BatchNorm1d(1))
    net.register_buffer("kernel", torch.ones(1))
    average = ExponentialMovingAverage(net, half_life=10, ramp=0)
    before = [buffer._version for buffer in average.module.buffers()]
    average.update(net, images_seen=0, batch=20)
    changed = [buffer._version > version for buffer, version in zip(average.module.buffers(), before, strict=True)]
    assert dict(zip(dict(net.named_buffers()), changed, strict=True)) == {
        "kernel": False,
        "0.running_mean": True,
        "0.running_var": True,
        "0.num_batches_tracked": True,
    }
