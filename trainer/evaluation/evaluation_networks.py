"""The networks that an evaluation measures images with: the judge of labels and a feature extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels
from trainer.distributed.process_group import Distributed
from trainer.evaluation.judge.judge import SECOND, Judge, judge_of
from trainer.evaluation.metrics.feature_extractors import (
    Extractor,
    efficientnet_lite,
    inception_v3,
    load_efficientnet_lite,
    spectrum,
)
from trainer.evaluation.metrics.measurements import ImageSet
from trainer.evaluation.metrics.registry import METRICS, Needs

FEATURES = ("auto", "lite0", "lite1", "lite2", "judge", "inception")
_JUDGED, _JUDGED_AGAIN = "judge's logits", "second judge's logits"


@dataclass(frozen=True)
class EvaluationNetworks:
    """Networks that measure images.

    Attributes:
        judge: None if no metric needs logits.
        second: a judge of another architecture and seed, which confirms the first; None without one.
        extractors: the first one's values have plain keys, as ``fid``, the others' the network's name, as
            ``fid@lite2``; none if no metric needs features.
        spectrum: None if no metric needs spectra.
        metrics: names of the requested metrics that these networks make possible.
        judged: fingerprint of the dataset that the judges learned from; "" without one.
    """

    judge: Judge | None
    second: Judge | None
    extractors: tuple[Extractor, ...]
    spectrum: Extractor | None
    metrics: tuple[str, ...]
    judged: str = ""

    def extractor_of(self, key: str) -> Extractor | None:
        """Return the extractor behind the key of a figure, such as ``fid`` or ``fid@lite2``; None without one."""
        _, at, name = key.rpartition("@")
        named = [extractor for extractor in self.extractors if at and extractor.short_name == name]
        return next(iter(named or self.extractors), None)

    @property
    def of_real_images(self) -> tuple[Extractor, ...]:
        """Return the extractors whose output is compared between generated and real images."""
        return self.extractors if self.spectrum is None else (*self.extractors, self.spectrum)

    def measure(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what each network finds in images uint8 (n, C, H, W), n rows each."""
        return tuple(network(images) for network in self._by_name().values())

    def image_set(
        self, labels: Labels, measured: Mapping[str, np.ndarray], extractor: Extractor | None = None
    ) -> ImageSet:
        """Return images with what `named` gives of them.

        Args:
            extractor: whose features to take; None: the first one's.
        """
        extractor = extractor or (self.extractors[0] if self.extractors else None)
        features = None if extractor is None else measured.get(extractor.name)
        spectra = None if self.spectrum is None else measured.get(self.spectrum.name)
        return ImageSet.of(*labels, features, measured.get(_JUDGED), measured.get(_JUDGED_AGAIN), spectra)

    def named(self, measured: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        """Return by network what `measure` returned."""
        return dict(zip(self._by_name(), measured, strict=True))

    def _by_name(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        networks: dict[str, Callable[[np.ndarray], np.ndarray]] = {e.name: e for e in self.of_real_images}
        for name, judge in ((_JUDGED, self.judge), (_JUDGED_AGAIN, self.second)):
            if judge is not None:
                networks[name] = judge.logits
        return networks


def open_evaluation_networks(
    env: Distributed,
    dataset: Dataset,
    requested: Sequence[str],
    features: Sequence[str],
    inception: Path | None,
    notes: list[str],
    *,
    progress: bool = True,
) -> EvaluationNetworks:
    """Load the networks that the metrics need; the same call on every process.

    Args:
        dataset: that judges learn from.
        requested: names of metrics; () for all that the dataset allows.
        features: names of `FEATURES`; () for "auto".
        inception: file of Inception's weights, to use its features.
        notes: takes sentences about networks that are not available.
        progress: show bars on a terminal.

    Raises:
        UserError: a network that was requested by name is not available, or no features are.
    """
    names = tuple(requested) or tuple(METRICS)
    by_logits = {name for name in names if Needs.LOGITS in METRICS[name].needs}
    by_features = any(Needs.FEATURES in METRICS[name].needs for name in names)
    chosen = _resolve_auto(env, features or ("auto",), inception, notes) if by_features else []
    found = env.on_all_ranks(lambda: _open_extractors(env, chosen, inception))
    judge, second, trouble = None, None, None
    if by_logits or None in found.values():
        judge, trouble = _judge_or_error(env, dataset, progress)
    if trouble is not None:
        if by_logits & set(requested) or "judge" in features:
            raise trouble
        names = tuple(name for name in names if name not in by_logits)
        notes.append(f"labels were not judged: {trouble}")
    elif by_logits:
        second, doubt = _judge_or_error(env, dataset, progress, second=True)
        if doubt is not None:
            notes.append(f"no second judge confirms the first: {doubt}")
    if None in found.values() and judge is None:
        raise UserError(
            "no-extractor",
            f"no features to compare images by: {trouble}; EfficientNet is not available either "
            "(--features lite0 says why)",
        )
    by_judge = [] if judge is None else [judge.extractor()]
    extractors = [extractor for each in found.values() for extractor in ([each] if each is not None else by_judge)]
    spectra = spectrum(dataset.shape) if any(Needs.SPECTRA in METRICS[name].needs for name in names) else None
    judged = dataset.fingerprint if judge is not None else ""
    return EvaluationNetworks(judge if by_logits else None, second, tuple(extractors), spectra, names, judged)


def _resolve_auto(env: Distributed, features: Sequence[str], inception: Path | None, notes: list[str]) -> list[str]:
    """Return names of features without "auto", the same on every process, whatever is installed where."""
    default = "lite0" if inception is None else "inception"
    if "auto" in features and inception is None:
        missing = next(filter(None, env.all_gather(_why_lite0_is_missing())), None)
        if missing is not None:
            notes.append(f"features are the judge's, which depend on what the labels describe: {missing}")
            default = "judge"
    return list(dict.fromkeys(default if name == "auto" else name for name in features))


def _why_lite0_is_missing() -> str | None:
    try:
        load_efficientnet_lite(0)
    except UserError as error:
        return str(error)
    return None


def _open_extractors(env: Distributed, names: Sequence[str], inception: Path | None) -> dict[str, Extractor | None]:
    """Return the extractors by name, in the given order; None for the judge's features."""
    found: dict[str, Extractor | None] = {}
    for name in names:
        if name == "judge":
            found[name] = None
        elif name == "inception":
            assert inception is not None  # EvaluateOptions checks it
            found[name] = inception_v3(inception, env.device)
        else:
            found[name] = efficientnet_lite(int(name.removeprefix("lite")), env.device)
    return found


def _judge_or_error(
    env: Distributed, dataset: Dataset, progress: bool, second: bool = False
) -> tuple[Judge | None, UserError | None]:
    try:
        return shared_judge(env, dataset, progress=progress, second=second), None
    except Failure:
        raise
    except UserError as error:
        return None, error


def shared_judge(env: Distributed, dataset: Dataset, *, progress: bool = True, second: bool = False) -> Judge:
    """Return the same judge of a dataset on every process: rank 0 loads or trains it and broadcasts it.

    Otherwise machines with separate caches could each train their own and judge differently.

    Args:
        second: another judge, of another architecture and seed, to confirm what the first one finds.

    Raises:
        UserError, Failure: on every process, see `judge_of`.
    """
    kind = SECOND if second else {}
    judge = env.on_rank0(lambda: judge_of(dataset, device=str(env.device), progress=progress, **kind))
    if env.world_size == 1:
        assert judge is not None
        return judge
    if judge is not None:
        judge.net.cpu()  # otherwise every process would receive it on rank 0's GPU
    judge = env.broadcast(judge)
    assert judge is not None
    return replace(judge, net=judge.net.to(env.device))
