"""One process and two, with and without accumulation: the same global batch gives the same training.

Weights cannot be compared after many float32 steps (Adam amplifies rounding), so the proof runs in float64, and
float32 is held to its single-step gradients. Under a relativistic loss D's last bias cancels out: its gradient is
identically zero, what Adam makes of its rounding is noise, and it is left out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from launching import TINY, command, make_dataset, metrics, tensors, train

CANCELS = "head.psi.bias"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("parity"), count=50).path


def finished(folder: Path, data: Path, processes: int, accumulate: int, *words: object) -> Path:
    run = folder / f"{processes}x{accumulate}"
    split = ("--accumulate", accumulate)
    train(*TINY, "--shards", data, "--run", run, "--log-every", 16, *split, *words, processes=processes)
    return run


def assert_within(one: Path, other: Path, distance: float) -> None:
    """Both ended with the same tensors, and logged the same twenty rows."""
    expected, found = tensors(one), tensors(other)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if CANCELS not in name:
            assert np.allclose(found[name], value, rtol=0, atol=distance), (name, np.abs(found[name] - value).max())
    rows = metrics(one)
    assert len(rows) == 20
    for row, ours in zip(rows, metrics(other), strict=True):
        assert row == pytest.approx(ours, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "mismatch"),
    [
        ("relativistic", "real"),
        pytest.param("matching-aware", "generated", marks=pytest.mark.long),
        pytest.param("hinge", "real", marks=pytest.mark.long),
    ],
)
def test_float64_weights_agree_after_twenty_steps(data: Path, tmp_path: Path, loss: str, mismatch: str) -> None:
    words = ("--dtype", "float64", "--total-images", 320, "--loss", loss, "--mismatch", mismatch, "--penalty-every", 4)
    assert_within(finished(tmp_path, data, 1, 1, *words), finished(tmp_path, data, 2, 2, *words), 1e-8)


@pytest.mark.long
def test_float64_weights_agree_after_twenty_steps_under_ada(data: Path, tmp_path: Path) -> None:
    """Its probability is decided by the whole global batch, and decides what every process does to its pictures."""
    words = ("--dtype", "float64", "--total-images", 320, "--penalty-every", 4)
    words += ("--augment", "ada", "--flip", "--ada-speed", 200, "--ada-target", 0.05)
    one, other = finished(tmp_path, data, 1, 1, *words), finished(tmp_path, data, 2, 2, *words)
    assert_within(one, other, 1e-8)
    probabilities = [row["augment/p"] for row in metrics(one)]
    assert len(set(probabilities)) >= 3, probabilities


@pytest.mark.long
def test_float64_weights_agree_with_learning_between_labels_and_two_updates_of_d(data: Path, tmp_path: Path) -> None:
    words = ("--dtype", "float64", "--total-images", 640, "--penalty-every", 4, "--interpolate", 0.5, "--d-steps", 2)
    one, other = finished(tmp_path, data, 1, 1, *words), finished(tmp_path, data, 2, 2, *words)
    assert_within(one, other, 1e-8)
    assert all("loss/between" in row for row in metrics(one))


@pytest.mark.long
def test_float64_weights_agree_after_twenty_steps_with_a_classifier(data: Path, tmp_path: Path) -> None:
    words = ("--dtype", "float64", "--total-images", 320, "--penalty-every", 4, "--conditioning", "classifier")
    one, other = finished(tmp_path, data, 1, 1, *words), finished(tmp_path, data, 2, 2, *words)
    assert_within(one, other, 1e-8)
    assert all(row["loss/classes"] > 0 and row["loss/classes_g"] > 0 for row in metrics(one))


def test_float32_gradients_of_a_step_agree(data: Path, tmp_path: Path) -> None:
    """Adam's first moment after one step with beta1 = 0 *is* the gradient."""
    words = ("--total-images", 16, "--mixed-precision", "no")  # whatever this machine is quick at
    one = tensors(finished(tmp_path, data, 1, 1, *words))
    two = tensors(finished(tmp_path, data, 2, 1, *words))
    names = [n for n in one if n.endswith("/exp_avg") and CANCELS not in n]
    assert len(names) > 20
    for name in names:
        distance = np.linalg.norm(one[name] - two[name])
        assert distance <= 1e-4 * np.linalg.norm(one[name]) + 1e-12, name
    assert sum(np.linalg.norm(one[name]) > 0 for name in names) > 20


def test_trap_multi_gpu_without_a_gpu_is_two_processes_that_train_together(data: Path, tmp_path: Path) -> None:
    """Left to itself, Accelerate lets two processes each believe that they are alone."""
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    done = train(*words, processes=2, ACCELERATE_USE_CPU="false")
    assert done.stdout.count("2 processes of 1 thread") == 1
    assert done.stdout.count("done: 16 images seen") == 1


def test_trap_a_launcher_that_starts_fewer_processes_than_asked(data: Path, tmp_path: Path) -> None:
    """`accelerate launch --cpu --num_processes 2` silently starts one."""
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    line = command(words, processes=1)
    line[line.index("--config_file") : line.index("--config_file")] = ["--cpu", "--num_processes", "2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "was asked for 2 processes and started 1" in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_trap_processes_that_cannot_find_each_other_do_not_train_alone(data: Path, tmp_path: Path) -> None:
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 16]
    done = train(*words, expect=2, WORLD_SIZE="2")
    assert "the processes of this job cannot find each other" in done.stderr
    done = train(*words, expect=2, SLURM_STEP_NUM_TASKS="4")
    assert "srun started 4 tasks that know nothing of each other" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_that_cannot_be_shared_is_refused(data: Path, tmp_path: Path) -> None:
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--batch", 15]
    done = train(*words, processes=2, expect=None)
    assert done.returncode != 0
    assert "--batch 15 cannot be shared by 2 processes x 1 accumulation steps; use 14 or 16" in done.stderr
