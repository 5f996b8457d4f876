"""How good a run's pictures are: `python -m trainer evaluate runs/first`.

Pictures are drawn with labels as the data has them; a judge says whether they show their labels, and their features are
held against those of real pictures. Several processes share the drawing (`accelerate launch … -m trainer evaluate`);
labels and noise are keyed by a picture's number, so what is drawn does not depend on how many there are.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from shards.core import cli
from shards.core.cli import argument, option
from shards.core.errors import Failure, UserError
from shards.core.version import __version__, revision
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.distributed.process_group import Distributed
from trainer.evaluation import image_panels
from trainer.evaluation.judge.judge import Judge
from trainer.evaluation.measures import METRICS, Findings, Seen, combined, distances, newness, obedience, variety
from trainer.evaluation.measuring_networks import EXTRACTORS, Eyes, open_eyes
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.evaluation.metrics.fidelity import fidelity, weakness
from trainer.evaluation.metrics.real_features import RealFeatures, real_features
from trainer.generation import image_grid
from trainer.generation.sampler import Sampler, load
from trainer.generation.sharded import Look, examine, redraw
from trainer.reporting import evaluation_table
from trainer.reporting.run_report import write_report
from trainer.run import checkpoint, evaluation_file

_PATIENCE = 24 * 3600.0  # seconds that processes wait for the first, which trains a judge and reads real pictures
_TRAINING = 20_000  # training pictures that generated ones are looked for among, unless distances need more
_NEW = 500  # pictures of combinations that the data lacks
_NOISE, _NOISE_NEW = "noise to evaluate", "noise to evaluate, of new combinations"


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure how good a run's pictures are, and whether they show their labels."""

    run: Path = argument("directory of a run")
    count: int = option(5000, "pictures to draw", minimum=16)
    metrics: tuple[str, ...] = option((), "some of these; all that the data allow if not given", choices=METRICS)
    checkpoint: str | None = option(None, "images seen of the checkpoint to evaluate, or best; the newest if not given")
    seed: int = option(0, "decides labels, noise and which real pictures are compared with", minimum=0)
    extractor: str = option(
        "auto",
        "features to compare by; auto: efficientnet where it is installed, else the judge's",
        choices=EXTRACTORS,
    )
    inception: Path | None = option(
        None, "file of Inception's weights (weights-inception-2015-12-05-6726825d.pth), for figures as papers have them"
    )
    shards: str | None = option(None, "where the run's data set is now; where it was in training if not given")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    threads: int = option(0, "CPU threads of each process; 0: the machine's cores shared out", minimum=0)

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)
        if self.inception is not None and self.extractor not in ("auto", "inception"):
            raise UserError(f"--inception and --extractor {self.extractor}: leave one of the two out")
        if self.extractor == "inception" and self.inception is None:
            raise UserError(
                "--extractor inception needs its weights: --inception weights-inception-2015-12-05-6726825d.pth"
            )


def main(argv: Sequence[str]) -> None:
    """`python -m trainer evaluate`, on every process of the job.

    Raises:
        UserError: what was asked for cannot be measured; the run is as it was.
    """
    asked = cli.parse(EvaluateOptions, argv, command="python -m trainer evaluate")
    with Distributed(asked.device, "no", asked.threads, _PATIENCE) as env, env.coordinate_errors():
        images_seen, entry = evaluate(asked, env)
        env.print(evaluation_table.table(images_seen, entry))
        env.print(f"\n{evaluation_file.path_of(asked.run)}, {asked.run / 'report.html'}")


def evaluate(asked: EvaluateOptions, env: Distributed) -> tuple[int, dict[str, Any]]:
    """Evaluate a run and keep what was found with it; the same call on every process.

    Returns:
        Images seen by the checkpoint, and the evaluation as `evaluations.add` takes it.

    Raises:
        UserError: see `main`.
    """
    newest = env.on_rank0(lambda: checkpoint.find(asked.run, asked.checkpoint).images_seen)
    chosen = str(env.broadcast(newest))  # for all: a training that goes on meanwhile saves newer ones
    sampler, dataset = env.on_all_ranks(lambda: _open(asked, chosen, env))
    env.on_rank0(lambda: evaluation_file.ready(asked.run))
    findings = Findings()
    eyes = open_eyes(env, dataset, asked.metrics, asked.extractor, asked.inception, findings)
    labels = sample_labels(dataset.labels, dataset.known, asked.count, asked.seed, "labels to evaluate")
    found = _examined(env, sampler, labels, asked.seed, _NOISE, eyes.look, "drawing")
    new = judged_new = None
    if eyes.judge is not None:
        doubted = {attribute.name for attribute in eyes.judge.real.attributes if weakness(attribute)}
        new = new_combinations(dataset, min(_NEW, asked.count), asked.seed, doubted)
    if new is not None and eyes.judge is not None:
        look = Eyes(eyes.judge, None, ("fidelity",)).look
        (judged_new,) = _examined(env, sampler, new, asked.seed, _NOISE_NEW, look, "drawing new combinations")
    drawn = _Drawn(labels, *eyes.sorted(found), new, judged_new)
    entry = env.broadcast(env.on_rank0(lambda: _conclude(asked, env, sampler, dataset, eyes, drawn, findings)))
    return sampler.saved.images_seen, entry or {}


@dataclass(frozen=True)
class _Drawn:
    """What was seen in the drawn pictures."""

    labels: Labels
    features: np.ndarray | None  # float32 (n, F)
    logits: np.ndarray | None  # float32 (n, L)
    new: Labels | None  # of combinations that the data lacks
    new_logits: np.ndarray | None


def _examined(
    env: Distributed, sampler: Sampler, labels: Labels, seed: int, purpose: str, look: Look, doing: str
) -> tuple[np.ndarray, ...]:
    hidden = not (env.is_rank0 and sys.stderr.isatty())
    with tqdm(total=len(labels.label), desc=doing, unit="img", dynamic_ncols=True, disable=hidden) as bar:
        return examine(env, sampler.generator, sampler.noise_size, labels, seed, purpose, look, bar.update)


# ---------------------------------------------------------------- what is evaluated, and by what


def _open(asked: EvaluateOptions, chosen: str, env: Distributed) -> tuple[Sampler, Dataset]:
    """The run's generator and its data set, once it is sure that they fit each other."""
    sampler = load(asked.run, chosen, str(env.device))
    config: dict[str, Any] = sampler.saved.state["config"]
    where = asked.shards or config.get("shards") or str(asked.run / "data")  # the smoke preset draws its own
    cache = config.get("cache")
    limit = int(float(config.get("cache_limit", 50)) * 1e9)
    try:
        dataset = Dataset.open(where, cache=Path(cache) if cache else None, cache_limit=limit)
    except Failure:
        raise
    except UserError as error:
        hint = "" if asked.shards else "; if the run's data set lies elsewhere now, give --shards"
        raise UserError(f"{error}{hint}") from None
    size = sampler.saved.state["architecture"]["size"]
    if dataset.size != size:
        raise UserError(
            f"{dataset.where}: its pictures are {dataset.size}x{dataset.size}, and {asked.run} draws {size}x{size}; "
            "give the data set that it was trained on by --shards"
        )
    if dataset.schema != sampler.schema:
        raise UserError(
            f"{dataset.where}: its labels ({_names(dataset.schema)}) are not those that {asked.run} was trained on "
            f"({_names(sampler.schema)}); give its own data set by --shards"
        )
    return sampler, dataset


def _names(schema: Schema) -> str:
    names = [f"{a.name} of {a.width}" for a in schema.attributes]
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def new_combinations(dataset: Dataset, count: int, seed: int, doubted: Collection[str] = ()) -> Labels | None:
    """Labels that combine values which never met in the data, made by recombining its labels; None: there are none.

    Every exclusive attribute is taken from another picture of the data, so each value is as frequent as it is there.

    Args:
        doubted: attributes that stay as they are: no judge could tell whether a picture shows a new one of theirs.
    """
    schema = dataset.schema
    exclusive = [
        number
        for number, attribute in enumerate(schema.attributes)
        if attribute.kind == "exclusive" and attribute.name not in doubted
    ]
    if len(exclusive) < 2 or any(attribute.kind in WORDLESS for attribute in schema.attributes):
        return None
    labels, known = np.asarray(dataset.labels), np.asarray(dataset.known)
    seen = Combinations.of(schema, labels, known, exclusive)
    tried = sample_labels(labels, known, 20 * count, seed, "labels to recombine")
    for a in exclusive:
        other = sample_labels(labels, known, 20 * count, seed, f"labels to recombine, attribute {a}")
        start = int(schema.starts[a])
        entries = slice(start, start + schema.attributes[a].width)
        tried.label[:, entries], tried.known[:, a] = other.label[:, entries], other.known[:, a]
    new, _ = seen.unseen(tried.label, tried.known)
    rows = np.flatnonzero(new)[:count]
    return Labels(tried.label[rows], tried.known[rows]) if len(rows) else None


# ---------------------------------------------------------------- what comes of it


def _conclude(
    asked: EvaluateOptions,
    env: Distributed,
    sampler: Sampler,
    dataset: Dataset,
    eyes: Eyes,
    drawn: _Drawn,
    findings: Findings,
) -> dict[str, Any]:
    """On the first process: figures, pictures, evaluation.json and the report."""
    images_seen, images = sampler.saved.images_seen, {}
    again = _redrawing(sampler, drawn.labels, asked.seed, _NOISE)
    if eyes.judge is not None and drawn.logits is not None:
        images |= _judged(eyes.judge, drawn, again, findings)
    compared = 0
    if eyes.extractor is not None and drawn.features is not None:
        same_data = sampler.saved.state["data"] == dataset.fingerprint
        compared, more = _compared(asked, eyes, dataset, drawn, again, findings, same_data=same_data)
        images |= more
    names = []
    for name, image in images.items():
        path = image_panels.path(asked.run, images_seen, name)
        image_grid.save(image, path)
        names.append(path.name)
    entry = {
        **_circumstances(asked, env, sampler, dataset, eyes),
        "compared": compared,
        "figures": findings.figures,
        "real": findings.real,
        "notes": findings.notes,
        "pictures": names,
        "details": findings.details,
    }
    evaluation_file.add(asked.run, images_seen, entry)
    write_report(asked.run)
    return entry


def _redrawing(sampler: Sampler, labels: Labels, seed: int, purpose: str) -> image_panels.Redraw:
    def again(numbers: np.ndarray) -> np.ndarray:
        part = Labels(labels.label[numbers], labels.known[numbers])
        return redraw(sampler.generator, sampler.noise_size, part, seed, purpose, numbers)

    return again


def _judged(judge: Judge, drawn: _Drawn, again: image_panels.Redraw, findings: Findings) -> dict[str, Image.Image]:
    """Label fidelity, and pictures of what fails most."""
    assert drawn.logits is not None
    found = fidelity(judge.schema, drawn.logits, *drawn.labels, real=judge.real)
    obedience(found, judge.real, findings)
    if drawn.new is not None and drawn.new_logits is not None:
        combined(fidelity(judge.schema, drawn.new_logits, *drawn.new, real=judge.real), findings)
    image = image_panels.worst(found.worst, again)
    return {} if image is None else {"worst": image}


def _compared(
    asked: EvaluateOptions,
    eyes: Eyes,
    dataset: Dataset,
    drawn: _Drawn,
    again: image_panels.Redraw,
    findings: Findings,
    *,
    same_data: bool,
) -> tuple[int, dict[str, Image.Image]]:
    """All that is measured in features; how many pictures a side distances are between, and what is to be seen."""
    assert eyes.extractor is not None and drawn.features is not None
    real = _real(dataset, eyes.extractor, min(len(dataset), max(2 * asked.count, _TRAINING)), asked.seed)
    if real.damaged:
        findings.notes.append(f"{real.damaged:,} damaged pictures of the data set were left out")
    count = min(asked.count, len(real.rows) // 2)
    if count < 2:
        raise UserError(f"{dataset.where}: {len(real.rows)} pictures are too few to compare with; a distance needs 4")
    if count < asked.count:
        findings.notes.append(
            f"distances are between {count:,} pictures a side: of {len(real.rows):,} real ones half are "
            "what the others are held against"
        )
    labels = Labels(np.asarray(dataset.labels[real.rows], np.float32), np.asarray(dataset.known[real.rows], bool))
    everything, generated = Seen(real.features, labels), Seen(drawn.features, drawn.labels)
    one = everything.first(count)
    other = Seen(real.features[count : 2 * count], Labels(*(part[count : 2 * count] for part in labels)))
    distances(dataset.schema, generated.first(count), one, other, eyes.metrics, findings)
    if "diversity" in eyes.metrics:
        variety(generated, everything, findings)
    if "novelty" not in eyes.metrics:
        return count, {}
    if not same_data:
        findings.notes.append(f"novelty is left out: {dataset.where} is not what the run was trained on")
        return count, {}
    if len(real.rows) + real.damaged < len(dataset):
        findings.notes.append(f"copies were looked for among {len(real.rows):,} of {len(dataset):,} training pictures")
    novelty = newness(drawn.features, real.features, findings)
    return count, {"nearest": image_panels.nearest(novelty, again, dataset, real.rows)}


def _real(dataset: Dataset, extractor: Extractor, count: int, seed: int) -> RealFeatures:
    """Features of real pictures, with a bar while they are computed."""
    with tqdm(
        total=count, desc="real pictures", unit="img", dynamic_ncols=True, disable=not sys.stderr.isatty()
    ) as bar:

        def watched(images: np.ndarray) -> Any:
            bar.update(len(images))
            return extractor.compute(images)

        return real_features(dataset, dataclasses.replace(extractor, compute=watched), count, seed)


def _circumstances(
    asked: EvaluateOptions, env: Distributed, sampler: Sampler, dataset: Dataset, eyes: Eyes
) -> dict[str, Any]:
    """By what, when and of what: all that it takes to measure the same again."""
    extractor = eyes.extractor
    kept = ("name", "identity", "comparable", "dimensions")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": revision(),
        "torch": torch.__version__,
        "checkpoint": sampler.saved.path.name,
        "data": dataset.fingerprint,
        "metrics": list(eyes.metrics),
        "extractor": None if extractor is None else {key: getattr(extractor, key) for key in kept},
        "judge": None if eyes.judge is None else dict(eyes.judge.identity),
        "count": asked.count,
        "seed": asked.seed,
        "processes": env.world_size,
        "threads": env.threads,
        "device": env.device.type,
    }
