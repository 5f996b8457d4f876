"""The mode-seeking term by hand, and when a run applies it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from support.training import make_state
from trainer.mode_seeking import mode_seeking_loss


def images(*levels: float) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.float64)[:, None, None, None].expand(-1, 3, 2, 2)


def test_it_is_the_logarithm_of_a_ratio_of_mean_differences() -> None:
    z, second_z = torch.zeros(2, 4, dtype=torch.float64), torch.full((2, 4), 2.0, dtype=torch.float64)
    found = mode_seeking_loss(images(0.5, 0.0), images(-0.5, 0.2), z, second_z)
    assert found.item() == pytest.approx(-math.log(0.5 + 1e-3) - math.log(0.1 + 1e-3))


def test_its_slope_grows_as_images_become_alike_and_stays_finite() -> None:
    z, second_z = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    slopes = []
    for difference in (0.8, 0.4, 0.0):
        x_hat = images(difference).clone().requires_grad_()
        mode_seeking_loss(x_hat, images(0.0), z, second_z).backward()
        assert x_hat.grad is not None
        slopes.append(x_hat.grad.sum().abs().item())
    assert slopes[1] == pytest.approx(2 * slopes[0], rel=0.01)
    assert math.isfinite(slopes[2])


def test_colours_under_transparent_pixels_are_no_difference() -> None:
    z, second_z = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    one, other = (torch.full((1, 4, 2, 2), level, dtype=torch.float64) for level in (-0.5, 0.5))
    one[:, 3] = other[:, 3] = -1.0  # transparent
    assert mode_seeking_loss(one, other, z, second_z).item() == pytest.approx(-math.log(1e-3))


@pytest.mark.parametrize(
    ("options", "seeking"), [("", [1, 3, 5]), ("--updates joint", [1, 3, 5]), ("--d-steps 2", [3])]
)
def test_a_run_seeks_modes_in_every_second_update_of_its_generator(
    tmp_path: Path, options: str, seeking: list[int]
) -> None:
    state, stream = make_state(tmp_path, *f"--mode-seeking 0.3 {options}".split())
    assert [step for step in range(6) if "loss/modes" in state.step(stream[step]).metrics] == seeking


def test_modes_are_no_longer_sought_when_the_weight_has_fallen_to_zero(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, *"--mode-seeking 0.3 --mode-seeking-end 0 --decay-images 32".split())
    found, weights = [], []
    for step in range(6):  # of 8 images
        found.append("loss/modes" in state.step(stream[step]).metrics)
        weights.append(state.method.mode_seeking)
    assert found == [False, True, False, False, False, False]
    assert weights[1] == pytest.approx(0.15) and weights[3:] == [0, 0, 0]
