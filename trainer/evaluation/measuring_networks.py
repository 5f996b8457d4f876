"""What an evaluation looks at pictures with: a judge of their labels, and a network whose features are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from trainer.distributed.process_group import Distributed
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.measures import METRICS, Findings
from trainer.evaluation.metrics.feature_extractors import Extractor, efficientnet_lite0, inception_v3
from trainer.generation.sharded import Look

EXTRACTORS = ("auto", "efficientnet", "judge", "inception")
_FEATURES = ("fid", "kid", "prdc", "novelty", "diversity")  # metrics that are measured in features


@dataclass(frozen=True)
class Eyes:
    """What pictures are looked at with; ``metrics`` are those that it can measure and that were asked for."""

    judge: Judge | None
    extractor: Extractor | None
    metrics: tuple[str, ...]

    @property
    def look(self) -> Look:
        """What `examine` asks of each picture."""
        seen: list[Callable[[np.ndarray], np.ndarray]] = []
        seen += [self.extractor] if self.extractor is not None else []
        seen += [self.judge.logits] if self.judge is not None else []
        return lambda pictures: tuple(see(pictures) for see in seen)

    def sorted(self, found: tuple[np.ndarray, ...]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Features and logits of what `look` found."""
        features = found[0] if self.extractor is not None else None
        return features, found[-1] if self.judge is not None else None


def open_eyes(
    env: Distributed,
    dataset: Dataset,
    asked: Sequence[str],
    extractor: str,
    inception: Path | None,
    findings: Findings,
) -> Eyes:
    """The judge and the extractor, as far as they are wanted and there; the same on every process.

    Args:
        asked: some of `METRICS`; () for all that the data allow.
        extractor: one of `EXTRACTORS`.
        inception: the file of Inception's weights, to compare by it.
        findings: takes notes of what is not there.

    Raises:
        UserError: what was asked for by its name is not there, or no features are.
    """
    metrics = tuple(asked) or METRICS
    wanted = any(metric in metrics for metric in _FEATURES)
    network = env.on_all_ranks(lambda: _network(env, extractor, inception, findings)) if wanted else None
    judge, trouble = None, None
    if "fidelity" in metrics or (wanted and network is None):
        judge, trouble = _judge_or_why_not(env, dataset)
    if trouble is not None:
        if "fidelity" in asked or extractor == "judge":
            raise trouble
        metrics = tuple(metric for metric in metrics if metric != "fidelity")
        findings.notes.append(f"labels were not judged: {trouble}")
    if wanted and network is None:
        if judge is None:
            raise UserError(
                f"nothing to compare pictures by: {trouble}; EfficientNet's features are not to be had either "
                "(--extractor efficientnet says why)"
            )
        network = judge.extractor()
        findings.notes.append(
            "the judge learned from most real pictures: their own figures are better than those of new ones can be"
        )
    return Eyes(judge if "fidelity" in metrics else None, network, metrics)


def _network(env: Distributed, extractor: str, inception: Path | None, findings: Findings) -> Extractor | None:
    """The network that was asked for; None for the judge's."""
    if extractor == "judge":
        return None
    if inception is not None:
        return inception_v3(inception, env.device)
    try:
        return efficientnet_lite0(env.device)
    except UserError as error:
        if extractor != "auto":
            raise
        findings.notes.append(f"features are those of the judge, which sees what labels are about: {error}")
        return None


def _judge_or_why_not(env: Distributed, dataset: Dataset) -> tuple[Judge | None, UserError | None]:
    try:
        return shared_judge(env, dataset), None
    except Failure:
        raise
    except UserError as error:
        return None, error


def shared_judge(env: Distributed, dataset: Dataset) -> Judge:
    """The judge of a data set, alike on every process: the first takes or trains it, and tells the others.

    Machines that have caches of their own might otherwise judge differently, each by what it trained.

    Raises:
        UserError, Failure: see `judge_of`; on every process.
    """
    judge = env.on_rank0(lambda: judge_of(dataset, device=str(env.device)))
    if env.world_size == 1:
        assert judge is not None
        return judge
    if judge is not None:
        judge.net.cpu()  # or it would arrive on the first process's GPU
    judge = env.broadcast(judge)
    assert judge is not None
    return replace(judge, net=judge.net.to(env.device))
