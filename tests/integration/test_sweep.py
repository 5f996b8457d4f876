"""The sweep that launch/wandb-sweep.yaml describes, with the command lines that W&B's own agent makes of it."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb.wandb_agent import Agent

from shards.core import cli
from support.errors import raises
from support.launching import MAIN, ROOT, checkpoints, make_dataset, metrics
from trainer import config, metric_names
from trainer.config import Config

SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "launch" / "wandb-sweep.yaml").read_text(encoding="utf-8"))
VALUES = {name: rule["values"] for name, rule in SWEEP["parameters"].items()}
COMBINATIONS = [dict(zip(VALUES, drawn, strict=True)) for drawn in itertools.product(*VALUES.values())]


def words(drawn: dict[str, Any]) -> list[str]:
    """The words after the program, as the agent makes them."""
    macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in drawn.items()}})
    command = create_sweep_command(SWEEP["command"])
    after = command[command.index("${program}") + 1 :]
    return [word for part in after for word in (macros["args"] if part == "${args}" else [part])]


def load(monkeypatch: pytest.MonkeyPatch, argv: list[str], sweep: str = "sw33p", run: str = "r1") -> Config:
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    monkeypatch.setenv("WANDB_RUN_ID", run)
    return config.load(argv)


def test_every_combination_is_a_different_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [load(monkeypatch, words(drawn), run=f"r{n}") for n, drawn in enumerate(COMBINATIONS)]
    for drawn, asked in zip(COMBINATIONS, made, strict=True):
        assert {name: cli.flatten(asked)[name] for name in drawn} == drawn
    assert len(made) == 27 and len({(c.network.noise_size, c.network.label_size, c.seed) for c in made}) == 27
    assert len({c.run_directory for c in made}) == 27
    others = [{k: v for k, v in c.to_dict().items() if k not in (*VALUES, "run")} for c in made]
    assert all(other == others[0] for other in others), "they do not differ in anything else"


def test_the_metric_of_the_sweep_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load(monkeypatch, words(COMBINATIONS[0]))
    assert SWEEP["metric"] == {"name": metric_names.FIDELITY, "goal": "maximize"}
    total, every = asked.schedule.total_images, asked.evaluation.evaluate_every
    assert every is not None and total % every == 0
    evaluations = total // every
    assert SWEEP["early_terminate"]["type"] == "hyperband"
    assert SWEEP["early_terminate"]["min_iter"] < evaluations, "otherwise it never stops a run early"
    assert (ROOT / SWEEP["program"]).samefile(MAIN)


def test_each_run_of_a_sweep_has_its_own_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["--preset", "smoke"]
    assert load(monkeypatch, argv).run_directory == Path("runs/sweep-sw33p/r1")
    assert load(monkeypatch, [*argv, "--run", "elsewhere"]).run_directory == Path("elsewhere")
    with raises("sweep-id", "../r1", "--run"):
        load(monkeypatch, argv, run="../r1")
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert config.load(argv).run_directory == Path("runs/smoke"), "a run id alone does not make a sweep"


def test_trap_the_agent_expands_the_id_of_the_previous_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's command must not set --run: the agent builds the command before it sets the run's id."""
    monkeypatch.setenv("WANDB_RUN_ID", "before")
    assert create_sweep_command(["--run=runs/${envvar:WANDB_RUN_ID}"]) == ["--run=runs/before"]
    assert not [word for word in SWEEP["command"] if "--run" in word or "envvar" in word]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """W&B's agent with the sweep's command, in a directory with data; its changes to the environment are undone."""
    make_dataset(tmp_path, 160)
    (tmp_path / "data" / "faces32").mkdir()
    for file in [p for p in (tmp_path / "data").iterdir() if p.is_file()]:
        file.rename(tmp_path / "data" / "faces32" / file.name)
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "set by the agent")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw33p")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    made = Agent(api=None, queue=None, sweep_id="sw33p")
    # The same command with a smaller budget.
    small = {"--total-images": "64", "--evaluate-every": "32"}
    made._sweep_command = [
        f"{word.split('=')[0]}={small[word.split('=')[0]]}" if word.split("=")[0] in small else word
        for word in SWEEP["command"]
    ]
    yield made
    for process in made._run_processes.values():
        process.kill()


def run(agent: Agent, run_id: str, drawn: dict[str, Any], further: dict[str, Any]) -> None:
    """Start a run as the agent does when the server assigns one; ``further`` options keep it small."""
    args = {name: {"value": value} for name, value in {**drawn, **further}.items()}
    agent._command_run({"run_id": run_id, "program": str(MAIN), "args": args})
    assert agent._run_processes[run_id].wait(timeout=300) == 0


@pytest.mark.exhaustive
def test_runs_of_the_agent_are_separate_and_resume(agent: Agent, tmp_path: Path) -> None:
    further = {"batch": 16, "channels": "16,8,8", "log_every": 32, "workers": 0, "threads": 1, "grid_every": 10000}
    runs = tmp_path / "runs" / "sweep-sw33p"
    for run_id, drawn in (("aaa", COMBINATIONS[0]), ("bbb", COMBINATIONS[-1])):
        run(agent, run_id, drawn, further)
        kept = yaml.safe_load((runs / run_id / "config.yaml").read_text(encoding="utf-8"))
        assert {name: kept[name] for name in drawn} == drawn
        assert json.loads((runs / run_id / "tracking.json").read_text())["wandb_run_id"] == run_id
        rows = metrics(runs / run_id)
        assert [row[metric_names.CLOCK] for row in rows if metric_names.FIDELITY in row] == [32, 64]
    assert sorted(p.name for p in runs.iterdir()) == ["aaa", "bbb"]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["sweep-sw33p"]

    before = metrics(runs / "aaa")
    agent._sweep_command = [word.replace("--total-images=64", "--total-images=96") for word in agent._sweep_command]
    run(agent, "aaa", COMBINATIONS[0], further)  # started again, as after a preemption
    assert metrics(runs / "aaa")[: len(before)] == before and len(metrics(runs / "aaa")) > len(before)
    assert checkpoints(runs / "aaa")[-1] == f"{96:012d}"
    assert sorted(p.name for p in runs.iterdir()) == ["aaa", "bbb"]
