"""A small evaluation during training: label accuracy, and the kernel distance from real images.

Labels and noise are the same each time and images come from the averaged generator, so the values of a run compare.
Training is not affected: draws are counter-based, no gradient is recorded, and networks in training are not run.
"""

from __future__ import annotations

import math

from torch import nn

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer import metric_names
from trainer.config import EvaluationConfig
from trainer.distributed.process_group import Distributed
from trainer.evaluation.evaluation_networks import shared_judge
from trainer.evaluation.metrics.distances import kernel_distance
from trainer.evaluation.metrics.label_accuracy import label_accuracy, reason_to_doubt
from trainer.evaluation.metrics.measurements import Results
from trainer.evaluation.metrics.registry import add_label_accuracy, describe
from trainer.evaluation.real_features import real_features
from trainer.generation.sharded import generate_and_measure
from trainer.run import checkpoint
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory

COUNT = 512  # images
_MAX_DOUBTS = 3  # attributes named in a warning


class PeriodicEvaluator:
    """Evaluates a training run at intervals; the same calls on every process.

    Creating it trains the judge if it is not cached (`cgan judge` caches it before a large job).

    Args:
        config: the run's options of evaluation.
        dataset: that the run is trained on.
        noise_size: length of the generator's noise vector.
        seed: determines labels, noise and the real images to compare with.
        env: the processes of the job.

    Raises:
        UserError: no attribute of the dataset can be judged, or it has too few images.
    """

    def __init__(
        self, config: EvaluationConfig, dataset: Dataset, *, noise_size: int, seed: int, env: Distributed
    ) -> None:
        self.best_by, self.noise_size, self.seed, self.env = config.best_by, noise_size, seed, env
        self.judge = shared_judge(env, dataset)
        self._warn_of_doubts()
        self.labels = sample_labels(dataset.labels, dataset.known, COUNT, seed, "labels of a checkup")
        count = min(COUNT, len(dataset))
        self.real = env.on_rank0(lambda: real_features(dataset, self.judge.extractor(), count, seed))

    def _warn_of_doubts(self) -> None:
        """Say at the start what the judge cannot recognise."""
        attributes = self.judge.accuracy.attributes
        doubts = [f"{a.name} ({why})" for a in attributes if (why := reason_to_doubt(a))]
        if doubts:
            more = f" and {len(doubts) - _MAX_DOUBTS} more" if len(doubts) > _MAX_DOUBTS else ""
            self.env.print(f"warning: evaluations leave out {', '.join(doubts[:_MAX_DOUBTS])}{more}")
        if len(doubts) == len(attributes) and self.best_by == "fidelity":
            self.env.print(
                "warning: no checkpoint can be the best by fidelity, as no attribute is left; try --best-by kid"
            )

    def evaluate(self, generator: nn.Module) -> dict[str, float]:
        """Return the metrics of a generator by the keys that they are logged under.

        Args:
            generator: the averaged one, in eval mode. Its BatchNorm statistics become the means over all processes, as
                in checkpoints.
        """
        self.env.average_buffers(generator)
        judge = self.judge
        inputs = (generator, self.noise_size, self.labels, self.seed, "noise of a checkup")
        features, logits = generate_and_measure(
            self.env, *inputs, lambda images: (judge.features(images), judge.logits(images))
        )

        def compute() -> dict[str, float]:
            results = Results()
            found = label_accuracy(judge.schema, logits, *self.labels, real=judge.accuracy)
            add_label_accuracy(found, judge.accuracy, results)
            assert self.real is not None
            results.add("kid", kernel_distance(self.real.features, features).mean)
            return {metric_names.EVALUATE + key: value for key, value in results.values.items()}

        return self.env.broadcast(self.env.on_rank0(compute)) or {}

    def best_of(self, values: dict[str, float], images_seen: int, run: RunDirectory) -> Best | None:
        """Return the mark of a checkpoint with these values if it is the best so far; the same on every process.

        Wait for a checkpoint in progress first: it may be about to be marked itself.
        """
        metric = self.best_by
        value = values.get(metric_names.EVALUATE + metric, math.nan)
        before = checkpoint.read_best(run.path) if self.env.is_rank0 else None
        better = before is None or before.metric != metric or _is_better(value, before)
        return self.env.broadcast(Best(images_seen, metric, value) if math.isfinite(value) and better else None)


def _is_better(value: float, before: Best) -> bool:
    return value < before.value if describe(before.metric).lower_is_better else value > before.value
