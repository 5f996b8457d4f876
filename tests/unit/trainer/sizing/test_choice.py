"""--fit: what is chosen on which machine, and what never is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from shards.dataset.image_shape import ImageShape
from support.errors import raises
from support.training import make_env
from trainer import config
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.run.directory import RunDirectory
from trainer.sizing import choice
from trainer.sizing.choice import fit_to_time

FAST, USUAL, SLOW = 10_000.0, 300.0, 5.0  # images per second of preset faces32


@dataclass
class Untrained:
    """A probe that trains nothing, but searches a loss scale."""

    options: Config
    env: Distributed

    def warm_up(self) -> None:
        self.env.scaler.scale(torch.zeros(()))
        if self.env.scaler.is_enabled():
            self.env.scaler.update(2.0)


@dataclass
class Machine:
    """A machine on which the cost of an image is in proportion to the widest level."""

    speed: float
    measured: list[Config]

    def speeds(self, probes: Sequence[Untrained], env: object, seconds: float) -> list[float]:
        self.measured[:] = [probe.options for probe in probes]
        return [self.speed * 64 / (options.network.channels or (64,))[0] for options in self.measured]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(USUAL, [])
    monkeypatch.setattr(choice, "speeds", found.speeds)
    monkeypatch.setattr(choice, "Probe", lambda options, env, *_: Untrained(options, env))
    return found


def fit(
    words: str, run: Path = Path("runs/none"), *, pixels: int = 32, starts: bool = True, env: Distributed | None = None
) -> Config:
    """Return the options of a run that starts, or is resumed, on images of ``pixels``."""
    dataset: Any = SimpleNamespace(
        shape=ImageShape.of(pixels), schema=SimpleNamespace(attributes=(), widths=(12, 3, 10))
    )
    return fit_to_time(config.load(words.split()), dataset, env or make_env(), RunDirectory(run), starts=starts)


def size(found: Config) -> tuple[tuple[int, ...], int]:
    return found.network.channels, found.data.batch


@pytest.mark.parametrize(
    ("speed", "chosen"), [(SLOW, ((32, 24, 16, 8), 8)), (USUAL, ((), 8)), (FAST, ((96, 72, 48, 24), 16))]
)
def test_the_size_follows_the_speed(
    machine: Machine, speed: float, chosen: object, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.speed = speed
    assert size(fit("--preset faces32 --minutes 10")) == chosen
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.startswith("size: ")
    assert "faces32" in printed and "fit into --minutes 10" in printed and "110,000" in printed


def test_trap_loss_scale_that_probes_have_found_is_not_the_runs(machine: Machine) -> None:
    env = make_env()
    env.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, enabled=True)
    fit("--preset faces32 --minutes 10", env=env)
    assert machine.measured and env.scaler.get_scale() == 2.0**7


def test_channels_of_the_preset_itself_may_change(machine: Machine) -> None:
    machine.speed = SLOW / 2
    assert size(fit("--preset faces64 --minutes 10", pixels=64)) == ((32, 24, 16, 8, 8), 8)
    machine.speed = FAST
    assert size(fit("--preset faces64 --minutes 10", pixels=64)) == ((96, 72, 48, 24, 16), 16)


def test_a_given_option_wins(machine: Machine) -> None:
    machine.speed = FAST
    assert size(fit("--preset faces32 --minutes 10 --batch 4")) == ((96, 72, 48, 24), 4)
    assert size(fit("--preset faces32 --minutes 10 --channels 64,48,32,16")) == ((64, 48, 32, 16), 16)
    machine.measured.clear()
    assert size(fit("--preset faces32 --minutes 10 --channels 64,48,32,16 --batch 4")) == ((64, 48, 32, 16), 4)
    assert size(fit("--preset faces32 --minutes 10 --fit images")) == ((), 8)
    assert not machine.measured, "nothing is left to choose"
    assert size(fit("--preset faces32 --minutes 10 --fit batch")) == ((), 16)
    assert size(fit("--preset faces32 --minutes 10 --fit channels")) == ((96, 72, 48, 24), 8)


def test_an_option_of_a_file_is_given_too(machine: Machine, tmp_path: Path) -> None:
    machine.speed = FAST
    file = tmp_path / "options.yaml"
    file.write_text("preset: faces32\nbatch: 4\nminutes: 10\n")
    assert size(fit(f"--config {file}")) == ((96, 72, 48, 24), 4)
    assert config.load(["--config", str(file), "--total-images", "640"]).schedule.fit == "size"


def test_weights_to_start_from_keep_their_channels(machine: Machine) -> None:
    machine.speed = FAST
    assert size(fit("--preset faces32 --minutes 10 --init-from runs/other")) == ((), 16)


@pytest.mark.parametrize(
    "words",
    [
        *(f"--preset {name}" for name in ("smoke", "article96", "article96-modern", "sngan64", "r3gan64", "r3gan96")),
        "--preset faces64",  # of 64 pixels, and the images have 32
        "--preset faces32 --blocks 2",
        "--preset faces32 --family residual",
        "--noise-size 32",
    ],
)
def test_where_nothing_is_known_only_the_images_follow_the_time(
    machine: Machine, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.speed = FAST
    asked = config.load([*words.split(), "--minutes", "10"])
    assert fit(f"{words} --minutes 10") == asked
    assert not machine.measured
    assert capsys.readouterr().out == ""


def test_a_run_of_images_keeps_its_size(machine: Machine) -> None:
    assert size(fit("--preset faces32")) == ((), 8)
    assert not machine.measured
    with raises("option-without-effect", "--fit", "--minutes"):
        config.load(["--preset", "faces32", "--fit", "batch"])
    with raises("option-without-effect", "--fit", "--minutes"):
        config.load(["--preset", "faces32", "--fit", "images", "--total-images", "640"])


def test_a_resumed_run_keeps_what_was_chosen(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--preset faces32 --minutes 10"
    machine.speed = SLOW
    started = fit(words)
    (tmp_path / "checkpoints" / "640").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(started.to_dict()))
    capsys.readouterr()
    machine.speed = FAST
    machine.measured.clear()
    resumed = fit(words, tmp_path, starts=False)
    assert resumed == started
    assert config.compare(started.to_dict(), resumed) == []
    assert (machine.measured, capsys.readouterr().out) == ([], "")
    other = fit(f"{words} --batch 64", tmp_path, starts=False)
    assert config.compare(started.to_dict(), other) == ["  batch: 8 in the run, 64 now"]


def test_a_run_that_is_older_than_the_option_keeps_the_size_of_its_preset(machine: Machine, tmp_path: Path) -> None:
    machine.speed = FAST
    words = "--preset faces32 --minutes 10"
    older = {name: value for name, value in config.load(words.split()).to_dict().items() if name != "fit"}
    (tmp_path / "checkpoints" / "640").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(older))
    assert config.compare(older, fit(words, tmp_path, starts=False)) == []
    (tmp_path / "config.yaml").write_text("batch: no\nchannels: {}\n")
    assert size(fit(words, tmp_path, starts=False)) == ((), 8)
