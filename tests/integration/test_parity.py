"""Parity of one, two and four processes, with and without accumulation, at the same global batch.

Weights cannot be compared after many float32 steps (Adam amplifies rounding), so trajectories are compared in float64,
and float32 by the gradients of single steps. Under a relativistic loss D's last bias cancels out: its gradient is
identically zero, Adam turns its rounding error into noise, and it is not compared.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from shards.examples.shapes import draw
from shards.packing.pack import Pack, pack
from support.carrying import Case
from support.errors import assert_printed
from support.launching import ROOT, TINY, command, environment, free_port, make_dataset, metrics, tensors, train
from trainer import config as configuration
from trainer.losses import LOSSES

pytestmark = pytest.mark.timeout(900)  # the first test of a split runs all of its cases

CANCELS = "head.psi.bias"
SMALL = "--preset smoke --order full --batch 16 --threads 1 --penalty-every 4"
EXACT = f"{SMALL} --dtype float64"

# Twenty float64 steps each, five of them with penalties; D is frozen during updates of G.
TRAJECTORIES = {
    **{loss: f"--loss {loss}" for loss in LOSSES},
    "generated": "--loss matching-aware --mismatch generated",
    "between": "--interpolate 0.5 --d-steps 2",
    "ada": "--augment ada --flip --ada-speed 200 --ada-target 0.05",
    "scheduled": "--warmup-images 64 --decay cosine --decay-images 320 --gamma-end 0.05 --beta2-end 0.99",
    "r3gan": "--family r3gan --channels 16,16,16 --group-width 8",
    "late": "--conditioning concatenation --loss hinge",
    "classifier": "--conditioning classifier",
    "label-loss": "--label-loss 0.5",
    "pseudo-labels": "--label-loss 0.5 --pseudo-labels 0.4 --spectral-norm",
    "joint": "--updates joint --label-loss 0.5 --augment ada --flip",
    "modes": "--mode-seeking 0.3 --d-steps 2",
    "joint-modes": "--updates joint --mode-seeking 0.3 --mode-seeking-end 0.1 --decay-images 320 --mismatch generated",
    "joint-generated": "--updates joint --loss matching-aware --mismatch generated",
}
EXACTLY = [Case(name, f"{EXACT} {words}") for name, words in TRAJECTORIES.items()]
# Single float32 steps, with and without penalties. Adam's first moment after it with beta1 = 0 *is* the gradient.
SINGLE = [
    Case(f"{loss}-float32-{step}", f"{SMALL} --loss {loss} --mixed-precision no", steps=1, first=step)
    for loss in LOSSES
    for step in (0, 1)
]
CASES = [
    *EXACTLY,
    *SINGLE,
    Case("fifty", f"{SMALL} --mixed-precision no --augment ada --ada-speed 500", steps=50),
    Case("normalised", f"{SMALL} --mixed-precision no --spectral-norm --loss hinge", steps=50),
    Case("bf16", f"{SMALL} --mixed-precision bf16 --penalty-precision full", steps=4, first=2),
]
# Enough to detect a regression; the others run in `make test-all`.
QUICK = {"relativistic", "hinge", "relativistic-float32-0", "relativistic-float32-1", "fifty", "bf16"}
ONE, TWO = (1, 1), (2, 2)  # processes, micro-batches of each
SPLITS = [
    TWO,
    pytest.param((4, 1), marks=pytest.mark.long),
    *(pytest.param(split, marks=pytest.mark.exhaustive) for split in ((1, 2), (2, 1), (4, 2))),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("parity"), count=50).path


@pytest.fixture(scope="module")
def partly_labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty images: some have only one known attribute, a quarter have none.

    Five attributes, of which images show two: the loss of labels weighs them.
    """
    folder = tmp_path_factory.mktemp("partly")
    (folder / "images").mkdir()
    with (folder / "tags.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "tags"])
        for number in range(50):
            image, tags = draw(number, 16)
            image.save(folder / "images" / f"{number:03d}.png")
            if number % 4:
                more = [word for place, word in enumerate(("signed", "sold", "framed")) if number >> place & 1]
                words = [tags.split(", ")[number % 2]] if number % 3 == 0 else [tags, *more]
                writer.writerow([f"{number:03d}", ", ".join(words)])
    pack(Pack(src=folder, out=folder / "data", size=16, workers=1, per_shard=20))
    return folder / "data"


def some(names: Iterable[str]) -> list[Any]:
    """Return the cases as parameters; those that are not in `QUICK` are marked `long`."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in names]


class Carried(NamedTuple):
    """Results of a case."""

    tensors: dict[str, np.ndarray]  # all at the end, as file/name
    rows: list[dict[str, float]]  # metrics of each step
    processes: list[dict[str, Any]]  # records of each process, see `carrying.carry`


Carry = Callable[[str, tuple[int, int]], Carried]


@pytest.fixture(scope="module")
def carried(partly_labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Carry:
    """Run a case on a number of processes and micro-batches; one launch runs all quick cases."""

    @functools.cache
    def start(split: tuple[int, int], quick: bool) -> tuple[Path, subprocess.CompletedProcess[str]]:
        processes, accumulate = split
        folder = tmp_path_factory.mktemp(f"{processes}x{accumulate}")
        cases = [case for case in CASES if (case.name in QUICK) == quick]
        cases = [dataclasses.replace(case, words=f"{case.words} --accumulate {accumulate}") for case in cases]
        words = [str(partly_labelled), str(folder), json.dumps([dataclasses.asdict(case) for case in cases])]
        line = command(words, processes, program=ROOT / "tests" / "support" / "carrying.py")
        # As `accelerate launch --mixed_precision bf16` sets it: it must not change the precision of any module.
        env = environment(processes, {"ACCELERATE_MIXED_PRECISION": "bf16"})
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=600, check=False)
        return folder, done

    def carry(name: str, split: tuple[int, int]) -> Carried:
        folder, done = start(split, name in QUICK)
        assert done.returncode == 0, done.stderr
        return Carried(
            load_file(folder / f"{name}.safetensors"), **json.loads((folder / f"{name}.json").read_text("utf-8"))
        )

    return carry


def cancels(name: str, key: str) -> bool:
    """Return whether a tensor's gradient is identically zero in a case."""
    words = next(case.words for case in CASES if case.name == name)
    return configuration.load(words.split()).method.loss == "relativistic" and CANCELS in key


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", some(TRAJECTORIES))
def test_float64_weights_agree_after_twenty_steps(carried: Carry, name: str, split: tuple[int, int]) -> None:
    one, other = carried(name, ONE), carried(name, split)
    expected, found = one.tensors, other.tensors
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        if not cancels(name, key):
            assert np.allclose(found[key], value, rtol=0, atol=1e-8), (key, np.abs(found[key] - value).max())
    assert len(one.rows) == 20 and sum("loss/penalty" in row for row in one.rows) == 5
    for row, ours in zip(one.rows, other.rows, strict=True):
        assert row == pytest.approx(ours, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", some(case.name for case in SINGLE))
def test_float32_gradients_agree_after_one_step(carried: Carry, name: str, split: tuple[int, int]) -> None:
    one, other = carried(name, ONE).tensors, carried(name, split).tensors
    gradients = [key for key in one if key.endswith("/exp_avg") and not cancels(name, key)]
    assert len(gradients) >= 40
    for key in gradients:
        assert np.linalg.norm(one[key]) > 0, key
        assert np.linalg.norm(one[key] - other[key]) <= 1e-4 * np.linalg.norm(one[key]), key
    (row,) = carried(name, split).rows
    assert ("loss/penalty" in row) == name.endswith("-0")


def test_processes_have_unequal_counts_of_wrong_labels(carried: Carry) -> None:
    shares = [np.array(process["contradicted"]) for process in carried("hinge", TWO).processes]
    assert (shares[0] != shares[1]).sum() > 10
    assert (shares[0] + shares[1] < 16).sum() > 10


@pytest.mark.long
def test_schedules_and_ada_probability_change(carried: Carry) -> None:
    assert len({row["augment/p"] for row in carried("ada", TWO).rows}) >= 3
    assert len({row["schedule/lr_g"] for row in carried("scheduled", TWO).rows}) > 10
    assert sum("loss/between" in row for row in carried("between", TWO).rows) == 10


@pytest.mark.parametrize("name", some(case.name for case in CASES))
def test_all_processes_have_identical_weights(carried: Carry, name: str) -> None:
    """Weights, EMA and Adam moments agree bit for bit, for `fifty` and `normalised` after fifty steps."""
    one, other = (process["digest"] for process in carried(name, TWO).processes)
    assert one == other


@pytest.mark.parametrize("name", some(case.name for case in CASES))
def test_trap_one_all_reduce_per_player_and_step_and_none_of_the_frozen_d(carried: Carry, name: str) -> None:
    """With two micro-batches, on penalty steps, and with two updates of D per update of G.

    More all-reduces would mean that D is reduced in G's step, per loss term or per micro-batch.
    """
    updates = 2 if "--d-steps 2" in TRAJECTORIES.get(name, "") else 1
    for process in carried(name, TWO).processes:
        assert process["happened"]
        for number, happened in enumerate(process["happened"], 1):
            assert happened["d"]["reductions"] == 1
            assert happened["g"]["reductions"] == (number % updates == 0)


def test_trap_autocast_is_not_entered_inside_the_wrapped_forward(carried: Carry) -> None:
    """A module prepared under mixed precision would enter autocast again inside its forward, on penalty steps too."""
    for process in carried("bf16", TWO).processes:
        inside = [happened["d"]["dtypes"] for happened in process["happened"]]
        assert inside == [["torch.bfloat16"]] * 2 + [["torch.bfloat16", "torch.float32"]] + [["torch.bfloat16"]]
    for process in carried("fifty", TWO).processes:
        assert all(
            happened[player]["dtypes"] == ["torch.float32"] for happened in process["happened"] for player in "dg"
        )


def test_trap_processes_draw_different_images_and_noise(carried: Carry) -> None:
    """Draws are keyed by position: processes have disjoint positions, whose union is that of one process."""
    one, two = (carried("hinge", split).processes for split in (ONE, TWO))
    apart = [set(process["positions"]) for process in two]
    assert not apart[0] & apart[1]
    assert apart[0] | apart[1] == set(one[0]["positions"]) == set(range(320))


@pytest.mark.long
def test_trap_nodes_draw_different_images(partly_labelled: Path, tmp_path: Path) -> None:
    """On two machines with one process each, both have local rank 0."""
    case = Case("nodes", f"{SMALL} --mixed-precision no", steps=3)
    words = [str(partly_labelled), str(tmp_path), json.dumps([dataclasses.asdict(case)])]
    line = command(words, program=ROOT / "tests" / "support" / "carrying.py")
    port = str(free_port())
    nodes = []
    for rank in range(2):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        env = environment(2, place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
        nodes.append(subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True))
    for node in nodes:
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    one, other = json.loads((tmp_path / "nodes.json").read_text("utf-8"))["processes"]
    assert not set(one["positions"]) & set(other["positions"])
    assert set(one["positions"]) | set(other["positions"]) == set(range(48))
    assert one["digest"] == other["digest"]


def finished(folder: Path, data: Path, processes: int, accumulate: int, *words: object) -> Path:
    run = folder / f"{processes}x{accumulate}"
    split = ("--accumulate", accumulate)
    train(*TINY, "--shards", data, "--run", run, "--log-every", 16, *split, *words, processes=processes)
    return run


@pytest.mark.long
def test_whole_runs_agree(data: Path, tmp_path: Path) -> None:
    """Compare complete runs of the command line, with workers, logs and checkpoints."""
    words = ("--dtype", "float64", "--total-images", 320, "--penalty-every", 4, "--workers", 1)
    one, other = finished(tmp_path, data, 1, 1, *words), finished(tmp_path, data, 2, 2, *words)
    expected, found = tensors(one), tensors(other)
    assert expected.keys() == found.keys()
    assert all(np.allclose(found[k], v, rtol=0, atol=1e-8) for k, v in expected.items() if CANCELS not in k)
    assert len(metrics(one)) == 20
    for row, ours in zip(metrics(one), metrics(other), strict=True):
        assert row == pytest.approx(ours, rel=1e-7, abs=1e-9)


def test_trap_multi_gpu_config_without_a_gpu_trains_two_processes_together(data: Path, tmp_path: Path) -> None:
    """By default, Accelerate would start two processes that each train alone."""
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    done = train(*words, processes=2, ACCELERATE_USE_CPU="false")
    assert done.stdout.count("2 processes of 1 thread") == 1
    assert done.stdout.count("done: 16 images seen") == 1


def test_trap_launcher_that_starts_too_few_processes_is_an_error(data: Path, tmp_path: Path) -> None:
    """`accelerate launch --cpu --num_processes 2` silently starts one."""
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    line = command(words, processes=1)
    line[line.index("--config_file") : line.index("--config_file")] = ["--cpu", "--num_processes", "2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert_printed(done.stderr, "launcher-mismatch", 2, 1)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_trap_processes_without_a_rendezvous_do_not_train_alone(data: Path, tmp_path: Path) -> None:
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    done = train(*words, expect=2, WORLD_SIZE="2")
    assert_printed(done.stderr, "launcher-mismatch", "MASTER_ADDR")
    done = train(*words, expect=2, SLURM_STEP_NUM_TASKS="4")
    assert_printed(done.stderr, "launcher-mismatch", "srun", 4)
    assert "Traceback" not in done.stderr


def test_trap_user_error_under_the_launcher_is_one_line(data: Path, tmp_path: Path) -> None:
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--batch", 15]
    done = train(*words, processes=2, expect=None)
    assert done.returncode != 0
    assert_printed(done.stderr, "batch-not-divisible", "--batch 15", "2 processes", "14 or 16")
