"""A small evaluation during training: do pictures show their labels, and how far are they from real ones?

The same labels and noises each time, drawn by the averaged generator, so that figures of one run compare. Nothing of
the training is touched: draws are keyed, no gradient is recorded, and networks that learn are not asked.
"""

from __future__ import annotations

import math

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer import metric_names
from trainer.config.monitoring import EvaluationConfig
from trainer.distributed.process_group import Distributed
from trainer.evaluation.measures import Findings, obedience
from trainer.evaluation.measuring_networks import shared_judge
from trainer.evaluation.metrics.distances import kernel
from trainer.evaluation.metrics.fidelity import fidelity, weakness
from trainer.evaluation.metrics.real_features import real_features
from trainer.generation.sharded import examine
from trainer.run import checkpoint
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory
from trainer.state import TrainingState

COUNT = 512  # pictures
_NAMED = 3  # attributes


class Checkup:
    """Evaluates a training now and then; the same calls on every process.

    Making it trains the judge, if it is not in the cache (`python -m trainer judge` puts it there before a large job).

    Raises:
        UserError: no attribute of the data set can be judged, or it has too few pictures.
    """

    def __init__(self, config: EvaluationConfig, dataset: Dataset, env: Distributed, seed: int) -> None:
        self.config, self.env, self.seed = config, env, seed
        self.judge = shared_judge(env, dataset)
        self._tell_doubts()
        self.labels = sample_labels(dataset.labels, dataset.known, COUNT, seed, "labels of a checkup")
        count = min(COUNT, len(dataset))
        self.real = env.on_rank0(lambda: real_features(dataset, self.judge.extractor(), count, seed))

    def _tell_doubts(self) -> None:
        """Say what the judge cannot, before a training waits for it in vain."""
        attributes = self.judge.real.attributes
        doubts = [f"{attribute.name} ({why})" for attribute in attributes if (why := weakness(attribute))]
        if doubts:
            more = f" and {len(doubts) - _NAMED} more" if len(doubts) > _NAMED else ""
            self.env.print(f"warning: evaluations leave out {', '.join(doubts[:_NAMED])}{more}")
        if len(doubts) == len(attributes) and self.config.best_by == "fidelity":
            sentence = "so there is no fidelity by which a checkpoint could be the best; try --best-by kid"
            self.env.print(f"warning: {sentence}")

    def look(self, state: TrainingState) -> dict[str, float]:
        """Figures of the averaged generator, by the names that they are logged under."""
        self.env.average_buffers(state.ema.module)  # each process's own until then; the checkpoint holds the means too
        judge, seed = self.judge, self.seed
        drawn = (state.ema.module, state.architecture.noise, self.labels, seed, "noise of a checkup")
        features, logits = examine(
            self.env, *drawn, lambda pictures: (judge.features(pictures), judge.logits(pictures))
        )

        def figures() -> dict[str, float]:
            found = Findings()
            obedience(fidelity(judge.schema, logits, *self.labels, real=judge.real), judge.real, found)
            assert self.real is not None
            found.add("kid", kernel(self.real.features, features).mean)
            return {metric_names.EVALUATE + name: value for name, value in found.figures.items()}

        return self.env.broadcast(self.env.on_rank0(figures)) or {}

    def best_of(self, values: dict[str, float], state: TrainingState, run: RunDirectory) -> Best | None:
        """The mark of a checkpoint with these figures, if it would be the best so far; the same on every process.

        No save may be under way: it may be about to mark another.
        """
        metric = self.config.best_by
        value = values.get(metric_names.EVALUATE + metric, math.nan)
        before = checkpoint.read_best(run.path) if self.env.is_rank0 else None
        better = before is None or before.metric != metric or _better(value, before)
        return self.env.broadcast(Best(state.images_seen, metric, value) if math.isfinite(value) and better else None)


def _better(value: float, before: Best) -> bool:
    return value < before.value if before.metric == "kid" else value > before.value
