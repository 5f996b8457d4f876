"""Diagnostics: each problem is reported once, when it lasts, and nothing in a healthy training."""

from __future__ import annotations

import re

import pytest

from shards.core import cli
from trainer.config import Config
from trainer.tracking.diagnostics import Diagnostics, diagnose

HEALTHY = {
    "loss/d": 0.6,
    "logit/real": 0.4,
    "logit/fake": -0.3,
    "grad/g": 0.05,
    "samples/spread": 0.8,
    "samples/variety": 0.5,
}
PROBLEMS = {
    "discriminator-saturated": {"loss/d": 0.001, "logit/real": 6.0, "logit/fake": -7.0},
    "gradient-vanished": {"grad/g": 1e-6},
    "mode-collapse": {"samples/spread": 0.02},
    "images-alike": {"samples/variety": 0.05},
}


@pytest.mark.parametrize("code", PROBLEMS)
def test_messages_name_existing_options(code: str) -> None:
    found = diagnose(HEALTHY | PROBLEMS[code], usual_gradient=0.05)
    assert list(found) == [code]
    options = re.findall(r"--([a-z-]+)", found[code])
    assert options and all(name.replace("-", "_") in cli.interface(Config).fields for name in options)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {name: float("nan") for name in HEALTHY},
        HEALTHY,
        HEALTHY | {"loss/d": 0.25, "logit/real": 0.5, "logit/fake": 0.5},  # least squares that cannot discriminate
        HEALTHY | {"loss/d": 0.0, "logit/real": 0.0, "logit/fake": 0.0},
        HEALTHY | {"grad/g": 0.001},
        HEALTHY | {"samples/spread": 0.15},
        HEALTHY | {"samples/variety": 0.2},
    ],
)
def test_healthy_or_missing_metrics_are_not_reported(row: dict[str, float]) -> None:
    assert diagnose(row, usual_gradient=0.05) == {}


@pytest.mark.parametrize("code", PROBLEMS)
def test_problem_is_reported_once_when_it_lasts(code: str) -> None:
    diagnostics = Diagnostics()
    bad = HEALTHY | PROBLEMS[code]
    rows = [HEALTHY] * 12 + [bad, bad, HEALTHY] + [bad] * 5
    found = [diagnostics.update(row) for row in rows]
    assert [len(messages) for messages in found] == [0] * 17 + [1, 0, 0]


def test_first_rows_of_a_run_are_ignored() -> None:
    diagnostics = Diagnostics()
    found = [diagnostics.update(PROBLEMS["mode-collapse"]) for _ in range(20)]
    assert [number for number, messages in enumerate(found) if messages] == [12]


def test_rows_without_a_metric_do_not_end_a_problem_that_it_showed() -> None:
    diagnostics = Diagnostics()
    between = {name: value for name, value in HEALTHY.items() if name != "samples/variety"}
    rows = [between] * 10 + [HEALTHY | PROBLEMS["images-alike"], between, between] * 3
    found = [diagnostics.update(row) for row in rows]
    assert [number for number, messages in enumerate(found) if messages] == [16], "the third row with it"
