"""Train with the article's published loop as a run like the trainer's: it logs, saves and can be evaluated.

    python benchmarks/published_run.py --shards DATA --run RUN --total-images N

Its steps are those of `benchmarks/published.py`, in float32 with PyTorch's defaults. A call saves when it ends, and not
before; the next one, with a larger --total-images, goes on from there. Images are in memory, and the logged seconds
exclude saving. Checkpoints have the trainer's format, with the generator in place of the EMA, which the article does
not use.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from published import SIZE, PublishedLoop
from quality.in_memory import batches, images_of, require_a_batch
from quality.run_options import RunOptions

from shards.core import cli, rng
from shards.core.cli import option
from shards.core.errors import Failure, UserError, exit_status
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer import config
from trainer.models import architecture_of
from trainer.run import checkpoint, state_dicts
from trainer.run.directory import LABELS_KEPT, RunDirectory
from trainer.run.metrics_file import MetricsFile


@dataclass(frozen=True)
class PublishedOptions(RunOptions):
    """Train the article's networks with its published loop; a call saves at its end, where the next goes on.

    The dataset must have 96x96 images, whose attributes are all exclusive and known.
    """

    run: Path = option(Path("runs/published"), "run directory")
    batch: int = option(16, "images per step", minimum=1)
    log_every: int = option(160, "images between two log lines", minimum=1)


def main(argv: Sequence[str]) -> None:
    """Train from the newest checkpoint, or from scratch, to ``total_images``, and save."""
    options = cli.parse(PublishedOptions, argv, command="python benchmarks/published_run.py")
    dataset = Dataset.open(options.shards)
    if dataset.size != SIZE or {a.kind for a in dataset.schema.attributes} != {"exclusive"}:
        raise UserError(
            "wrong-dataset",
            f"{dataset.where}: the article's loop requires {SIZE}x{SIZE} images and exclusive attributes only",
        )
    require_a_batch(len(dataset), options.batch, dataset.where)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    directory = RunDirectory(options.run)
    with directory.lock():
        saved, _ = checkpoint.newest(options.run)
        if saved is not None and (seed := saved.state.config.get("seed")) != options.seed:
            raise UserError("run-options-differ", f"{options.run} has --seed {seed}; give that, or another --run")
        seen = saved.images_seen if saved else 0
        torch.manual_seed(rng.key(options.seed, f"noise from image {seen} on"))
        loop = PublishedLoop(tuple(a.width for a in dataset.schema.attributes), device)
        if saved is not None:
            _load(loop, saved)
        values = _values(options, dataset, directory)
        x, y = images_of(dataset), torch.from_numpy(np.array(dataset.labels, np.float32))
        with MetricsFile(directory.metrics, keep_until=seen) as log:
            seen = _train(loop, options, x, y, seen, log)
        checkpoint.save(options.run, {**values, "images_seen": seen}, _files(loop), keep=1)


def _train(loop: PublishedLoop, options: PublishedOptions, x: Tensor, y: Tensor, seen: int, log: MetricsFile) -> int:
    """Train until the requested number of images is seen; return the number.

    Raises:
        Failure: a loss is no number, as the published logarithm of a rounded probability can be.
    """
    since, began = seen, time.perf_counter()
    for rows in batches(len(x), options.batch, seen, options.seed):
        if seen >= options.total_images:
            break
        images = (x[rows].to(loop.device).float() / 127.5 - 1).contiguous()
        d_loss, g_loss = loop.step(images, y[rows].to(loop.device))
        seen += options.batch
        if seen - since >= options.log_every or seen >= options.total_images:
            losses = {"loss/d": float(d_loss), "loss/g": float(g_loss)}  # waits for the device
            speed = (seen - since) / (time.perf_counter() - began)
            log.write(seen, {**losses, "speed/images_per_second": speed})
            print(
                f"{seen:>9,} images  {speed:.2f} img/s  d {losses['loss/d']:.3f}  g {losses['loss/g']:.3f}", flush=True
            )
            if not all(np.isfinite(list(losses.values()))):
                raise Failure(
                    "non-finite",
                    f"{options.run}: a loss is not finite at {seen:,} images; the last checkpoint is older",
                )
            since, began = seen, time.perf_counter()
    return seen


def _values(options: PublishedOptions, dataset: Dataset, directory: RunDirectory) -> dict[str, Any]:
    """Return the metadata of a checkpoint; also write the run's description."""
    words = ["--preset", "article96", "--shards", str(options.shards), "--run", str(options.run)]
    described = config.load(
        [*words, "--batch", str(options.batch), "--seed", str(options.seed), "--mixed-precision", "no"]
    )
    count = min(LABELS_KEPT, len(dataset))
    labels = sample_labels(dataset.labels, dataset.known, count, described.seed, "labels kept by a run")
    directory.write_identity(described, dataset, labels)
    widths = tuple(attribute.width for attribute in dataset.schema.attributes)
    architecture = dataclasses.asdict(architecture_of(described.network, dataset.shape, widths))
    values = {"architecture": architecture, "config": described.to_dict(), "data": dataset.fingerprint}
    return {**values, "scaler": {}}  # float32 needs none


def _parts(loop: PublishedLoop) -> Iterator[tuple[str, nn.Module, Optimizer]]:
    yield "generator", loop.g, loop.g_optimizer
    yield "discriminator", loop.d, loop.d_optimizer


def _files(loop: PublishedLoop) -> dict[str, dict[str, Tensor]]:
    files = {"ema": state_dicts.module_tensors(loop.g)}
    for name, module, optimizer in _parts(loop):
        files[name] = state_dicts.module_tensors(module)
        files[f"optimizer_{name[0]}"] = state_dicts.optimizer_tensors(module, optimizer)
    return files


def _load(loop: PublishedLoop, saved: checkpoint.Checkpoint) -> None:
    with state_dicts.explain_load_errors(saved.path):
        for name, module, optimizer in _parts(loop):
            state_dicts.load_module(module, saved.tensors(name))
            state_dicts.load_optimizer(module, optimizer, saved.tensors(f"optimizer_{name[0]}"))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
