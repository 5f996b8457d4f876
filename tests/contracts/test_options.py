"""Options that several commands have take the same values in each."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Sequence

import pytest

from launch.cli import COMMANDS
from shards.core.errors import UserError
from shards.core.rng import LARGEST_SEED
from support.errors import assert_error, raises
from trainer import config


def main_of(command: str) -> Callable[[Sequence[str]], None]:
    module, function = COMMANDS[command][1].split(":")
    return getattr(importlib.import_module(module), function)


def has_seed(command: str, capsys: pytest.CaptureFixture[str]) -> bool:
    with contextlib.suppress(SystemExit):
        main_of(command)(["--help"])
    return "\n  --seed " in capsys.readouterr().out


def test_seeds_have_one_range(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [command for command in COMMANDS if command != "train" and has_seed(command, capsys)]
    assert len(commands) >= 8, commands
    for command, (seed, bound) in itertools.product(commands, ((LARGEST_SEED + 1, LARGEST_SEED), (-1, 0))):
        said = [_said(command, [*places, f"--seed={seed}"]) for places in ([], ["x"], ["x", "y"])]
        errors = [error for error in said if error.code not in ("missing-argument", "unexpected-argument")]
        assert errors, (command, said)
        assert_error(errors[0], "invalid-value", "--seed", seed, bound)


def test_the_seed_of_a_training_has_the_same_range() -> None:
    for seed in (LARGEST_SEED + 1, -1):
        with raises("invalid-value", "--seed", seed):
            config.load(["--preset", "smoke", f"--seed={seed}"])


def _said(command: str, words: list[str]) -> UserError:
    with pytest.raises(UserError) as caught:
        main_of(command)(words)
    return caught.value
