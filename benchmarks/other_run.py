"""Train another method on the CPU; it logs as the trainer does, and `other_evaluation.py` evaluates it.

    python benchmarks/other_run.py --method flow-matching --shards DATA --run RUN --total-images N

A call saves when it ends, and not before; the next one, with a larger --total-images, goes on from there. Images are in
memory. The logged seconds exclude reading and saving them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from other_methods import run_files
from other_methods.method import Method
from other_methods.registry import METHODS, require_size
from other_methods.run_files import Saved
from quality.in_memory import batches, images_of, require_a_batch
from quality.run_options import RunOptions

from shards.core import cli, rng
from shards.core.cli import option
from shards.core.errors import Failure, UserError, exit_status
from shards.dataset.dataset import Dataset
from trainer.run.directory import RunDirectory
from trainer.run.metrics_file import MetricsFile


@dataclass(frozen=True)
class OtherOptions(RunOptions):
    """Train another method; a call saves at its end, and one with more images goes on from there."""

    method: str = option("flow-matching", "method to train", choices=tuple(METHODS))
    run: Path = option(Path("runs/other"), "run directory")
    log_every: int = option(1_000, "images between two log lines", minimum=1)


def main(argv: Sequence[str]) -> None:
    """Train from what is saved, or from scratch, to ``total_images``, and save."""
    options = cli.parse(OtherOptions, argv, command="python benchmarks/other_run.py")
    if options.threads:
        torch.set_num_threads(options.threads)
    dataset = Dataset.open(options.shards)
    require_size(dataset)
    if (options.run / "config.yaml").exists():
        raise UserError("wrong-run", f"{options.run} is a run of the trainer's; use another --run")
    directory = RunDirectory(options.run)
    with directory.lock():
        saved = run_files.read(options.run)
        if saved is not None and (saved.method, saved.data) != (options.method, dataset.fingerprint):
            raise UserError(
                "wrong-dataset", f"{options.run} has trained {saved.method} on {saved.shards}; use another --run"
            )
        if saved is not None and saved.seed not in (None, options.seed):
            raise UserError("run-options-differ", f"{options.run} has --seed {saved.seed}; give that, or another --run")
        torch.manual_seed(rng.key(options.seed, "initial weights"))
        method = METHODS[options.method](dataset)
        require_a_batch(len(dataset), method.batch, dataset.where)
        seen = saved.images_seen if saved else 0
        if saved is not None:
            method.load(run_files.tensors_of(options.run), seen)
        torch.manual_seed(rng.key(options.seed, f"noise from image {seen} on"))
        with MetricsFile(directory.metrics, keep_until=seen) as log:
            seen = _train(method, dataset, options, seen, log)
        now = Saved(options.method, seen, str(options.shards), dataset.fingerprint, options.seed)
        run_files.write(options.run, now, method.tensors())


def _train(method: Method, dataset: Dataset, options: OtherOptions, seen: int, log: MetricsFile) -> int:
    """Train until the requested number of images is seen; return the number.

    Raises:
        Failure: a loss is not finite.
    """
    images = images_of(dataset)
    label = torch.from_numpy(np.array(dataset.labels, np.float32))
    known = torch.from_numpy(np.array(dataset.known, np.float32))
    since, began = seen, time.perf_counter()
    for rows in batches(len(images), method.batch, seen, options.seed):
        if seen >= options.total_images:
            break
        losses = method.step(images[rows].contiguous(), label[rows], known[rows], seen)
        seen += method.batch
        if not all(np.isfinite(list(losses.values()))):
            raise Failure(
                "non-finite", f"{options.run}: a loss is not finite at {seen:,} images; an older state is kept"
            )
        if seen - since >= options.log_every or seen >= options.total_images:
            speed = (seen - since) / (time.perf_counter() - began)
            log.write(seen, {**losses, "speed/images_per_second": speed})
            shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"{seen:>9,} images  {speed:.2f} img/s  {shown}", flush=True)
            since, began = seen, time.perf_counter()
    return seen


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
