"""Golden curves: twenty float64 steps of every family and loss, and of every family with a classifier.

The stored curves are valid on any CPU. A difference means that training changed. If that was intended, rewrite the
curves and give the reason in the commit message:

    python tests/contracts/test_golden.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

if __name__ == "__main__":  # run as a script: make the repository importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.losses import LOSSES
from trainer.networks import FAMILIES
from trainer.noise import normal
from trainer.step import discriminator_step, generator_step

CURVES = Path(__file__).resolve().parent / "golden_curves.json"
WIDTHS, STEPS = (3, 1, 2), 20
KINDS = ("exclusive", "tag", "vector")
CASES = [(family, loss, "auto") for family in FAMILIES for loss in LOSSES]
CASES += [(family, "relativistic", "classifier") for family in FAMILIES]
# The article's networks support 96x96 only; their first layer has 552,960 outputs, so a short noise keeps them small.
SIZES, BATCHES = {"article": 96}, {"article": 2}
CHANNELS = {"residual": (8, 6), "r3gan": (16, 8)}


def configuration(family: str, loss: str, conditioning: str) -> Config:
    return Config.from_options(
        family=family,
        loss=loss,
        conditioning=conditioning,
        mismatch="none" if conditioning == "classifier" else "real",
        channels=CHANNELS.get(family, ()),
        noise_size=4,
        label_size=4,
        batch=BATCHES.get(family, 4),
        penalty_every=4,
        gamma=0.2,
        lr_g=2e-4,
        lr_d=2e-4,
        dtype="float64",
        device="cpu",
        threads=1,
    )


def batch_at(step: int, count: int, size: int) -> Batch:
    """Return noise images with every kind of label: one in four is partly known, one not at all."""
    position = torch.arange(step * count, (step + 1) * count)
    x = normal(0, "pictures", position, 3 * size * size, torch.float64).view(count, 3, size, size).tanh()
    y = torch.zeros(count, sum(WIDTHS), dtype=torch.float64)
    y[torch.arange(count), position % 3] = 1
    y[:, 3] = position % 2
    y[torch.arange(count), 4 + position % 2] = 1
    known = torch.ones(count, len(WIDTHS), dtype=torch.float64)
    known[position % 4 == 1, 0] = 0
    known[position % 4 == 2] = 0
    has_wrong = (position % 4 != 2).double()
    return Batch(x, y, known, y.roll(1, 0), known.roll(1, 0), has_wrong, position, int(has_wrong.sum()))


def curve(family: str, loss: str, conditioning: str) -> dict[str, list[float]]:
    """Return the metrics of each step, by name."""
    config = configuration(family, loss, conditioning)
    size = SIZES.get(family, 8)
    env = Distributed("cpu", "no", threads=1)
    state = build_state(config, env, ImageShape.of(size), WIDTHS, KINDS)
    # torch does not guarantee equal random numbers on different CPUs: draw the weights here, in float64.
    for module in (state.g.module, state.d.module):
        for name, weight in module.named_parameters():
            rows, columns = len(weight), weight[0].numel()
            drawn = normal(1, name, torch.arange(rows), columns, torch.float64).view(weight.shape)
            weight.data.copy_(drawn * max(columns, rows) ** -0.5)
    found: dict[str, list[float]] = {}
    for step in range(STEPS):
        batch = batch_at(step, config.data.batch, size)
        players = (state.d, state.g, [batch], config.data.batch, state.method, env)
        values = discriminator_step(*players, penalise=step % config.method.penalty_every == 0).metrics
        values |= generator_step(*players).metrics
        for name, value in values.items():
            found.setdefault(name, []).append(value.item())
    return found


def name_of(family: str, loss: str, conditioning: str) -> str:
    return f"{family} {loss}" + ("" if conditioning == "auto" else f" {conditioning}")


def mark(case: tuple[str, str, str]) -> list[pytest.MarkDecorator]:
    """Return the marks of a case: the article's networks take seconds a step."""
    if case[0] not in SIZES:
        return []
    return [pytest.mark.long if case[1] == "relativistic" else pytest.mark.exhaustive]


@pytest.mark.parametrize("case", [pytest.param(case, marks=mark(case)) for case in CASES])
def test_twenty_steps_equal_the_stored_curves(case: tuple[str, str, str]) -> None:
    stored, found = json.loads(CURVES.read_text())[name_of(*case)], curve(*case)
    assert found.keys() == stored.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, stored[name], rtol=1e-8, atol=1e-8, err_msg=name)
    assert len(set(found["loss/d"])) == STEPS, "every step changed the weights"


def test_every_stored_curve_is_tested() -> None:
    assert set(json.loads(CURVES.read_text())) == {name_of(*case) for case in CASES}


if __name__ == "__main__":
    curves = {name_of(*case): curve(*case) for case in CASES}
    CURVES.write_text(json.dumps(curves, indent=1) + "\n")
