"""Non-finite steps are skipped, counted one step late, and reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from support.errors import assert_printed
from support.launching import ROOT, TINY, environment, make_dataset, metrics, tensors
from trainer.nonfinite import NonFiniteGuard

GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))


def observe(guard: NonFiniteGuard, d: torch.Tensor = GOOD, g: torch.Tensor = GOOD) -> None:
    guard.observe({"loss/d": d, "loss/g": g}, {"grad/d": d, "grad/g": g})


def test_skipped_steps_are_counted_one_step_late() -> None:
    guard = NonFiniteGuard()
    observe(guard, g=BAD)
    assert (guard.skipped, guard.consecutive) == (0, 0), "nothing has waited for it yet"
    observe(guard, d=BAD)
    assert (guard.skipped, guard.consecutive, guard.terms) == (1, 1, ["loss/g", "grad/g"])
    guard.flush()
    assert (guard.skipped, guard.consecutive, guard.terms) == (2, 2, ["loss/d", "grad/d"])
    guard.flush()
    assert guard.skipped == 2
    observe(guard)
    guard.flush()
    assert (guard.skipped, guard.consecutive) == (2, 0)


def test_a_non_finite_loss_with_finite_gradients_is_not_a_skipped_step() -> None:
    guard = NonFiniteGuard()
    guard.observe({"loss/d": BAD}, {"grad/d": GOOD})
    guard.flush()
    assert guard.skipped == 0


def test_overflows_of_a_loss_scaler_that_searches_its_scale_are_no_trouble() -> None:
    """They are skipped and counted, but nothing to warn of: the losses, which are not scaled, are finite."""
    guard, unscaled = NonFiniteGuard(scaled=True), NonFiniteGuard()
    for each in (guard, unscaled):
        each.observe({"loss/g": GOOD}, {"grad/g": BAD})
        each.flush()
    assert (guard.skipped, guard.consecutive, guard.unexpected) == (1, 1, 0)
    assert (unscaled.unexpected, unscaled.unexpected_terms) == (1, ["grad/g"])
    observe(guard, d=BAD)
    guard.observe({"loss/g": GOOD}, {"grad/g": BAD})
    guard.flush()
    assert (guard.skipped, guard.consecutive, guard.unexpected) == (3, 3, 1)
    assert guard.unexpected_terms == ["loss/d", "grad/d"] and guard.terms == ["grad/g"]


BREAK = """
import sys
from trainer.state import TrainingState

original = TrainingState.step

def broken(self, batch):
    if self.images_seen in (32, 48):
        batch = batch._replace(labels=batch.labels * float("nan"))
    return original(self, batch)

TrainingState.step = broken
sys.argv = ["main.py", *sys.argv[1:]]
from trainer.main import main
main()
"""


def test_a_run_skips_non_finite_steps_and_warns(tmp_path: Path) -> None:
    """NaN labels in two steps: neither changes a weight, both are counted, and the run continues."""
    data = make_dataset(tmp_path / "d").path
    (tmp_path / "break.py").write_text(BREAK)
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 96, "--log-every", 16]
    env = environment(0, {"PYTHONPATH": str(ROOT)})
    command = [sys.executable, str(tmp_path / "break.py"), *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert_printed(done.stdout, "non-finite-step", "loss/d", "grad/d", "64 images", "2 so far")
    assert [row["guard/skipped"] for row in metrics(tmp_path / "run")] == [0, 0, 1, 2, 2, 2]
    assert all(torch.from_numpy(value).isfinite().all() for value in tensors(tmp_path / "run").values())
