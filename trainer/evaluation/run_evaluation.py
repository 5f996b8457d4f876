"""The evaluation of a run, step by step: open, generate, measure, compute the metrics, write the result.

`evaluate_generator` does the middle part for any module that maps noise and labels to images, so that other methods can
be measured in the same way.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn
from tqdm import tqdm

from shards.core import cli
from shards.core.cli import argument, option, seed_option
from shards.core.errors import UserError, warn
from shards.core.version import __version__, revision
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_images
from shards.dataset.label_rows import Labels, sample_labels
from trainer.distributed.process_group import Distributed
from trainer.evaluation import image_panels
from trainer.evaluation.apartness import influences_of, judged_dataset, marks
from trainer.evaluation.evaluation_networks import FEATURES, EvaluationNetworks, open_evaluation_networks
from trainer.evaluation.generated_images import GeneratedImages, new_combinations
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.evaluation.metrics.label_accuracy import reason_to_doubt
from trainer.evaluation.metrics.measurements import ImageSet, Measurements, Results
from trainer.evaluation.metrics.registry import METRICS, Needs
from trainer.evaluation.real_features import RealImages, real_images
from trainer.evaluation.run_and_dataset import open_run_and_dataset
from trainer.generation import image_grid
from trainer.reporting.run_report import write_report
from trainer.run import evaluation_file, exported
from trainer.run.lineage import Influence
from trainer.run.redaction import public_evaluation

_MIN_TRAINING_IMAGES = 20_000  # real images to read, if the dataset has them and distances do not need more
_MAX_NEW_COMBINATIONS = 500  # images
_ANYTHING = Needs(0)
_INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure the images of a trained generator, and whether they show their labels."""

    run: Path = argument("run directory, or the folder of an exported generator")
    count: int = option(5000, "number of images to generate", minimum=16)
    metrics: tuple[str, ...] = option(
        (), "metrics to compute (default: all that the dataset allows)", choices=tuple(METRICS)
    )
    checkpoint: str | None = option(None, "images seen of the checkpoint to evaluate, or best (default: the newest)")
    seed: int = seed_option("determines the labels, the noise and the real images to compare with")
    features: tuple[str, ...] = option(
        (),
        "networks whose features distances use, the first under plain names (default: auto, which is lite0 if it is "
        "installed, otherwise the judge's features)",
        choices=FEATURES,
    )
    inception: Path | None = option(
        None, f"file of Inception's weights ({_INCEPTION_WEIGHTS}), for values that compare with those in papers"
    )
    shards: str | None = option(None, "dataset of the run (default: where it was during training)", literal=True)
    device: str = option("auto", "compute device", choices=("auto", "cpu", "cuda", "mps"))
    threads: int = option(0, "CPU threads per process (0: divide the machine's cores among its processes)", minimum=0)

    def __post_init__(self) -> None:
        """Check the values."""
        cli.validate(self)
        if self.inception is not None and self.features and not {"auto", "inception"} & set(self.features):
            raise UserError(
                "option-conflict",
                f"--inception is not used with --features {','.join(self.features)}; add inception to them, or omit it",
            )
        if "inception" in self.features and self.inception is None:
            raise UserError(
                "option-missing", f"--features inception needs its weights: --inception {_INCEPTION_WEIGHTS}"
            )


@dataclass(frozen=True)
class Candidate:
    """A generator to evaluate, and what touched its training.

    Attributes:
        generator: maps z (B, noise_size), label (B, L) and known (B, A) to images (B, C, H, W) in [-1, 1]; in eval
            mode, with at least one parameter. One that ignores the label can be evaluated by metrics of features.
        noise_size: length of z, standard normal noise.
        dataset: whose labels it is given, and whose images its own are compared with.
        trained_on: fingerprint of the dataset that it was trained on.
        influences: every network and data that touched its training; empty: nothing is known of it.
    """

    generator: nn.Module
    noise_size: int
    dataset: Dataset
    trained_on: str
    influences: tuple[Influence, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """The result of `evaluate_generator`.

    Attributes:
        entry: of ``evaluation.json``.
        panels: images for people to look at, by name.
    """

    entry: dict[str, Any]
    panels: dict[str, Image]


@dataclass(frozen=True)
class _Inputs:
    """Options, processes, generator and networks of an evaluation."""

    options: EvaluateOptions
    env: Distributed
    candidate: Candidate
    networks: EvaluationNetworks
    progress: bool


def evaluate_run(options: EvaluateOptions, env: Distributed, *, progress: bool) -> tuple[int, dict[str, Any]]:
    """Evaluate a run and write the result to its directory; the same call on every process.

    Args:
        progress: show bars on a terminal.

    Returns:
        Images seen by the checkpoint, and the entry of ``evaluation.json``.

    Raises:
        UserError: the run cannot be evaluated as requested; it is unchanged.
        Failure: images cannot be read, or the result cannot be written.
    """
    newest = env.on_rank0(lambda: exported.find(options.run, options.checkpoint).images_seen)
    chosen = str(env.broadcast(newest))  # one for all processes: a training run in progress may write newer ones
    run = env.on_all_ranks(lambda: open_run_and_dataset(options.run, chosen, options.shards, str(env.device)))
    env.on_rank0(lambda: evaluation_file.check_writable(options.run))
    results = Results()
    influences = env.on_all_ranks(lambda: influences_of(options.run, run.sampler.saved, results.notes))
    sampler, saved = run.sampler, run.sampler.saved
    candidate = Candidate(sampler.generator, sampler.noise_size, run.dataset, saved.state.data, influences)
    evaluated = evaluate_generator(candidate, options, env, results, progress=progress)

    def write() -> dict[str, Any]:
        assert evaluated is not None
        return write_evaluation(options.run, saved.images_seen, saved.path.name, evaluated)

    return saved.images_seen, env.broadcast(env.on_rank0(write)) or {}


def write_evaluation(run: Path, images_seen: int, checkpoint: str, evaluated: Evaluated) -> dict[str, Any]:
    """Write panels, ``evaluation.json`` and the report of a run; return the entry.

    An export is given to others: of panels, which show real images, of the report and of paths it gets nothing.

    Raises:
        UserError: ``evaluation.json`` is damaged, or another process is writing it.
        Failure: a file cannot be written.
    """
    entry = evaluated.entry | {"checkpoint": checkpoint}
    if exported.is_export(run):
        entry = public_evaluation(entry)
        evaluation_file.add(run, images_seen, entry)
        return entry
    entry["pictures"] = []
    for name, image in evaluated.panels.items():
        path = image_panels.path(run, images_seen, name)
        image_grid.save(image, path)
        entry["pictures"].append(path.name)
    evaluation_file.add(run, images_seen, entry)
    write_report(run)
    return entry


def evaluate_generator(
    candidate: Candidate,
    options: EvaluateOptions,
    env: Distributed,
    results: Results | None = None,
    *,
    progress: bool = False,
) -> Evaluated | None:
    """Measure the images of a generator; the same call on every process. Nothing is written.

    Args:
        options: all but those that name a run, its checkpoint and its dataset.
        results: takes the values; may have notes.
        progress: show bars on a terminal.

    Returns:
        The result on rank 0, None on other ranks.

    Raises:
        UserError: the generator cannot be evaluated as requested.
        Failure: real images cannot be read.
    """
    results = results or Results()
    dataset = candidate.dataset
    networks = open_evaluation_networks(
        env,
        judged_dataset(dataset, candidate.influences),
        options.metrics,
        options.features,
        options.inception,
        results.notes,
        progress=progress,
    )
    by_judge = any(extractor.name == "judge" for extractor in networks.extractors)
    if by_judge and networks.judged == dataset.fingerprint:
        results.notes.append(
            "the judge was trained on most real images, so their baseline is better than new images can reach"
        )
    inputs = _Inputs(options, env, candidate, networks, progress)
    labels = sample_labels(dataset.labels, dataset.known, options.count, options.seed, "labels to evaluate")
    generated = _generated(inputs, labels, "noise to evaluate")
    measured = generated.measure(env, networks, "generating", progress)
    new = _measure_new_combinations(inputs)
    return env.on_rank0(lambda: _finish(inputs, generated, measured, new, results))


def _generated(inputs: _Inputs, labels: Labels, purpose: str) -> GeneratedImages:
    candidate = inputs.candidate
    return GeneratedImages(candidate.generator, candidate.noise_size, labels, inputs.options.seed, purpose)


def _measure_new_combinations(inputs: _Inputs) -> ImageSet | None:
    """Generate and judge combinations that do not occur in the dataset; None if there are none, or no judge."""
    judge, options = inputs.networks.judge, inputs.options
    if judge is None:
        return None
    doubted = {attribute.name for attribute in judge.accuracy.attributes if reason_to_doubt(attribute)}
    new = new_combinations(inputs.candidate.dataset, min(_MAX_NEW_COMBINATIONS, options.count), options.seed, doubted)
    if new is None:
        return None
    judge_alone = dataclasses.replace(inputs.networks, second=None, extractors=(), spectrum=None)
    generated = _generated(inputs, new, "noise to evaluate, of new combinations")
    return judge_alone.image_set(
        new, generated.measure(inputs.env, judge_alone, "generating new combinations", inputs.progress)
    )


def _finish(
    inputs: _Inputs,
    generated: GeneratedImages,
    measured: dict[str, np.ndarray],
    new: ImageSet | None,
    results: Results,
) -> Evaluated:
    """Compute the metrics and draw the panels; on rank 0."""
    real = _real_images(inputs, results)
    networks, dataset = inputs.networks, inputs.candidate.dataset
    judge, second = networks.judge, networks.second
    real_labels = Labels(np.asarray(dataset.labels[real.rows], np.float32), np.asarray(dataset.known[real.rows], bool))
    measurements = Measurements(
        schema=dataset.schema,
        generated=networks.image_set(generated.labels, measured),
        real=networks.image_set(real_labels, real.measured),
        count=_compared_count(inputs, real, results),
        size=min(dataset.shape.height, dataset.shape.width),
        judge_accuracy=judge.accuracy if judge is not None else None,
        second_accuracy=second.accuracy if second is not None else None,
        new_combinations=new,
    )
    _compute_metrics(inputs, measurements, real, results)
    for extractor in networks.extractors[1:]:
        others = dataclasses.replace(
            measurements,
            generated=networks.image_set(generated.labels, measured, extractor),
            real=networks.image_set(real_labels, real.measured, extractor),
        )
        found = Results()
        _compute_metrics(inputs, others, real, found, Needs.FEATURES)
        results.join(found, extractor.short_name)
    for code, warning in results.warnings:
        warn(code, warning)
        results.notes.append(warning)
    entry = _circumstances(inputs) | {
        "compared": measurements.count,
        "figures": results.values,
        "real": results.real,
        "notes": results.notes,
        "marks": marks(inputs.candidate.influences, dataset, networks, results.values),
        "details": results.details,
    }
    return Evaluated(entry, _draw_panels(dataset, generated, real, results))


# ---------------------------------------------------------------- real images


def _real_images(inputs: _Inputs, results: Results) -> RealImages:
    """Measure real images, twice as many as are generated or more; no images if no metric needs them."""
    dataset, extractors, options = inputs.candidate.dataset, inputs.networks.of_real_images, inputs.options
    if not extractors:
        return RealImages(np.empty(0, np.int64), {})
    count = min(len(dataset), max(2 * options.count, _MIN_TRAINING_IMAGES))
    hidden = not (inputs.progress and sys.stderr.isatty())
    total = count * len(extractors)
    with tqdm(total=total, desc="real images", unit="img", dynamic_ncols=True, disable=hidden) as bar:

        def shown(extractor: Extractor) -> Extractor:
            def compute(images: np.ndarray) -> Any:
                bar.update(len(images))
                return extractor.compute(images)

            return dataclasses.replace(extractor, compute=compute)

        real = real_images(dataset, [shown(extractor) for extractor in extractors], count, options.seed)
    if real.damaged:
        results.notes.append(f"{real.damaged:,} damaged images of the dataset were left out")
    return real


def _compared_count(inputs: _Inputs, real: RealImages, results: Results) -> int:
    """Return the number of images per set when distributions are compared; 0 if no metric needs real images.

    Raises:
        UserError: there are too few real images.
    """
    if not inputs.networks.of_real_images:
        return 0
    count, where = min(inputs.options.count, len(real.rows) // 2), inputs.candidate.dataset.where
    if count < 2:
        raise UserError(
            "too-few-images",
            f"{where}: {len(real.rows)} images are too few to compare with; a distance needs 4",
        )
    if count < inputs.options.count:
        results.notes.append(
            f"distances compare {count:,} images per set: half of the {len(real.rows):,} real images are the "
            "real-vs-real baseline"
        )
    return count


# ---------------------------------------------------------------- results


def _compute_metrics(
    inputs: _Inputs, measurements: Measurements, real: RealImages, results: Results, needing: Needs = _ANYTHING
) -> None:
    """Compute the metrics in the order of their needs; those alone that need all of ``needing``."""
    dataset = inputs.candidate.dataset
    same_data = inputs.candidate.trained_on == dataset.fingerprint
    chosen = [m for m in METRICS.values() if m.name in inputs.networks.metrics and m.needs & needing == needing]
    for metric in sorted(chosen, key=lambda metric: metric.needs):
        if Needs.TRAINING_IMAGES in metric.needs:
            if not same_data:
                results.notes.append(f"{metric.name} is left out: the run was not trained on {dataset.where}")
                continue
            if len(real.rows) + real.damaged < len(dataset):
                results.notes.append(f"{metric.name}: {len(real.rows):,} of {len(dataset):,} training images were used")
        metric.compute(measurements, results)


def _draw_panels(dataset: Dataset, generated: GeneratedImages, real: RealImages, results: Results) -> dict[str, Image]:
    def read(numbers: np.ndarray) -> np.ndarray:
        return read_images(dataset, real.rows[numbers])[0]

    return {panel.name: image_panels.draw(panel, generated.images, read) for panel in results.panels}


def _circumstances(inputs: _Inputs) -> dict[str, Any]:
    """Return everything that is needed to reproduce the measurement."""
    options, env, networks = inputs.options, inputs.env, inputs.networks
    kept = ("name", "identity", "comparable", "dimensions")
    extractors = [{key: getattr(extractor, key) for key in kept} for extractor in networks.extractors]
    judges = [dict(judge.identity) for judge in (networks.judge, networks.second) if judge is not None]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": revision(),
        "torch": torch.__version__,
        "data": inputs.candidate.dataset.fingerprint,
        "metrics": list(networks.metrics),
        "extractor": extractors[0] if extractors else None,
        "other_extractors": extractors[1:] or None,
        "judge": judges[0] if judges else None,
        "second_judge": judges[1] if judges[1:] else None,
        "count": options.count,
        "seed": options.seed,
        "processes": env.world_size,
        "threads": env.threads,
        "device": env.device.type,
    }
