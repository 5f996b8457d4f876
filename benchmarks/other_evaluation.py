"""Evaluate a run of `other_run.py` as `cgan evaluate` does a run of the trainer: the same options, judges and metrics.

    python benchmarks/other_evaluation.py RUN --count 600 --metrics fidelity,fid --features lite2

The result is in RUN/evaluation.json, and a grid of generated images in RUN/grid.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from other_methods import run_files
from other_methods.registry import METHODS, require_size
from PIL.Image import Image

from shards.core import cli
from shards.core.errors import UserError, exit_status
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer.distributed.process_group import Distributed
from trainer.evaluation.run_evaluation import Candidate, EvaluateOptions, evaluate_generator
from trainer.generation import image_grid
from trainer.generation.sharded import generate_at
from trainer.reporting import evaluation_table
from trainer.run import evaluation_file
from trainer.run.lineage import Influence

_TIMEOUT = 3600.0  # seconds, for the process group of one
_DEVICES = ("auto", "cpu")
_ROWS, _COLUMNS = 6, 8


def candidate_of(run: Path, shards: str | None = None) -> tuple[Candidate, int]:
    """Return the generator of a run of `other_run.py`, and the images that it has seen.

    Args:
        run: run directory.
        shards: dataset; None: where it was during training.

    Raises:
        UserError: there is no such run, or a package is missing.
    """
    saved = run_files.read(run)
    if saved is None:
        raise UserError("run-missing", f"{run} has nothing saved; train with: python benchmarks/other_run.py")
    dataset = Dataset.open(shards or saved.shards)
    require_size(dataset)
    method = METHODS[saved.method](dataset)
    try:
        method.load(run_files.tensors_of(run), saved.images_seen)
    except (RuntimeError, KeyError):  # as torch says that shapes or names differ
        raise UserError(
            "wrong-dataset", f"{dataset.where}: its images or labels are not those that {run} was trained on"
        ) from None
    influences = (Influence("images", "training images", "", saved.data),)
    generator = method.generator().requires_grad_(False)
    return Candidate(generator, method.noise_size, dataset, saved.data, influences), saved.images_seen


def main(argv: Sequence[str]) -> None:
    """Evaluate what is saved; print and store the values, and draw the grid."""
    options = cli.parse(EvaluateOptions, argv, command="python benchmarks/other_evaluation.py")
    for name, ignored in (("checkpoint", options.checkpoint is not None), ("device", options.device not in _DEVICES)):
        if ignored:
            raise UserError("option-without-effect", f"--{name}: what is saved is evaluated, on the CPU; omit it")
    with Distributed("cpu", "no", options.threads, _TIMEOUT) as env:
        candidate, seen = candidate_of(options.run, options.shards)
        torch.manual_seed(options.seed)  # for layers that add noise of their own
        found = evaluate_generator(candidate, options, env)
        assert found is not None
        evaluation_file.add(options.run, seen, found.entry)
        image_grid.save(grid(candidate), options.run / "grid.png")
        print(evaluation_table.table(seen, found.entry))


def grid(candidate: Candidate) -> Image:
    """Return a grid of generated images for labels of the dataset."""
    dataset, count = candidate.dataset, _ROWS * _COLUMNS
    labels = sample_labels(dataset.labels, dataset.known, count, 0, "labels of a grid")
    noise = 0, "noise of a grid", np.arange(count)
    return image_grid.grid(generate_at(candidate.generator, candidate.noise_size, labels, *noise), _COLUMNS)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
