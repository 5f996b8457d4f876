"""Advice: each kind for what it names, once, when it lasts, and none for a sound training."""

from __future__ import annotations

import re

import pytest

from shards.core import cli
from trainer.config import Config
from trainer.tracking.diagnostics import Adviser, advice

SOUND = {"loss/d": 0.6, "logit/real": 0.4, "logit/fake": -0.3, "grad/g": 0.05, "samples/spread": 0.8}
TROUBLE = {
    "saturated": {"loss/d": 0.001, "logit/real": 6.0, "logit/fake": -7.0},
    "vanishing": {"grad/g": 1e-6},
    "alike": {"samples/spread": 0.02},
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_each_kind_names_options_that_there_are(kind: str) -> None:
    found = advice(SOUND | TROUBLE[kind], usual_gradient=0.05)
    assert list(found) == [kind]
    options = re.findall(r"--([a-z-]+)", found[kind])
    assert options and all(name.replace("-", "_") in cli.interface(Config).fields for name in options)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {name: float("nan") for name in SOUND},
        SOUND,
        SOUND | {"loss/d": 0.25, "logit/real": 0.5, "logit/fake": 0.5},  # least squares that know nothing
        SOUND | {"loss/d": 0.0, "logit/real": 0.0, "logit/fake": 0.0},
        SOUND | {"grad/g": 0.001},
        SOUND | {"samples/spread": 0.15},
    ],
)
def test_what_is_sound_or_unknown_gives_none(row: dict[str, float]) -> None:
    assert advice(row, usual_gradient=0.05) == {}


@pytest.mark.parametrize("kind", TROUBLE)
def test_it_is_said_once_when_it_has_lasted(kind: str) -> None:
    adviser = Adviser()
    bad = SOUND | TROUBLE[kind]
    rows = [SOUND] * 12 + [bad, bad, SOUND] + [bad] * 5
    said = [adviser.look(row) for row in rows]
    assert [len(sentences) for sentences in said] == [0] * 17 + [1, 0, 0]


def test_the_first_rows_of_a_run_are_not_judged() -> None:
    adviser = Adviser()
    said = [adviser.look(TROUBLE["alike"]) for _ in range(20)]
    assert [number for number, sentences in enumerate(said) if sentences] == [12]
