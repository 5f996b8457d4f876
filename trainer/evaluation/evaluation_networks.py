"""The networks that an evaluation measures images with: the judge of labels and a feature extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from trainer.distributed.process_group import Distributed
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.feature_extractors import Extractor, efficientnet_lite, inception_v3
from trainer.evaluation.metrics.registry import METRICS, Needs

EXTRACTORS = ("auto", "efficientnet", "judge", "inception")


@dataclass(frozen=True)
class EvaluationNetworks:
    """Networks that measure images.

    Attributes:
        judge: None if no metric needs logits.
        extractor: None if no metric needs features.
        metrics: names of the requested metrics that these networks make possible.
    """

    judge: Judge | None
    extractor: Extractor | None
    metrics: tuple[str, ...]

    def measure(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return features and logits (those that the networks give) of images uint8 (n, 3, S, S), n rows each."""
        networks: list[Callable[[np.ndarray], np.ndarray]] = []
        networks += [self.extractor] if self.extractor is not None else []
        networks += [self.judge.logits] if self.judge is not None else []
        return tuple(network(images) for network in networks)

    def split(self, measured: tuple[np.ndarray, ...]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return features and logits from what `measure` returned; None for those that the networks do not give."""
        features = measured[0] if self.extractor is not None else None
        return features, measured[-1] if self.judge is not None else None


def open_evaluation_networks(
    env: Distributed,
    dataset: Dataset,
    requested: Sequence[str],
    extractor: str,
    inception: Path | None,
    notes: list[str],
    *,
    progress: bool = True,
) -> EvaluationNetworks:
    """Load the networks that the metrics need; the same call on every process.

    Args:
        requested: names of metrics; () for all that the dataset allows.
        extractor: one of `EXTRACTORS`.
        inception: file of Inception's weights, to use its features.
        notes: takes sentences about networks that are not available.
        progress: show bars on a terminal.

    Raises:
        UserError: a network that was requested by name is not available, or no features are.
    """
    names = tuple(requested) or tuple(METRICS)
    by_logits = {name for name in names if Needs.LOGITS in METRICS[name].needs}
    by_features = any(Needs.FEATURES in METRICS[name].needs for name in names)
    network = env.on_all_ranks(lambda: _open_extractor(env, extractor, inception, notes)) if by_features else None
    judge, trouble = None, None
    if by_logits or (by_features and network is None):
        judge, trouble = _judge_or_error(env, dataset, progress)
    if trouble is not None:
        if by_logits & set(requested) or extractor == "judge":
            raise trouble
        names = tuple(name for name in names if name not in by_logits)
        notes.append(f"labels were not judged: {trouble}")
    if by_features and network is None:
        if judge is None:
            raise UserError(
                "no-extractor",
                f"no features to compare images by: {trouble}; EfficientNet is not available either "
                "(--extractor efficientnet says why)",
            )
        network = judge.extractor()
        notes.append("the judge was trained on most real images, so their baseline is better than new images can reach")
    return EvaluationNetworks(judge if by_logits else None, network, names)


def _open_extractor(env: Distributed, extractor: str, inception: Path | None, notes: list[str]) -> Extractor | None:
    """Return the extractor; None for the judge's features."""
    if extractor == "judge":
        return None
    if inception is not None:
        return inception_v3(inception, env.device)
    try:
        return efficientnet_lite(0, env.device)
    except UserError as error:
        if extractor != "auto":
            raise
        notes.append(f"features are the judge's, which depend on what the labels describe: {error}")
        return None


def _judge_or_error(env: Distributed, dataset: Dataset, progress: bool) -> tuple[Judge | None, UserError | None]:
    try:
        return shared_judge(env, dataset, progress=progress), None
    except Failure:
        raise
    except UserError as error:
        return None, error


def shared_judge(env: Distributed, dataset: Dataset, *, progress: bool = True) -> Judge:
    """Return the same judge of a dataset on every process: rank 0 loads or trains it and broadcasts it.

    Otherwise machines with separate caches could each train their own and judge differently.

    Raises:
        UserError, Failure: on every process, see `judge_of`.
    """
    judge = env.on_rank0(lambda: judge_of(dataset, device=str(env.device), progress=progress))
    if env.world_size == 1:
        assert judge is not None
        return judge
    if judge is not None:
        judge.net.cpu()  # otherwise every process would receive it on rank 0's GPU
    judge = env.broadcast(judge)
    assert judge is not None
    return replace(judge, net=judge.net.to(env.device))
