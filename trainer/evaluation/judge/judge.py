"""The judge: a small classifier of a dataset's labels, which says whether an image shows what its label says.

``judge_of(dataset)`` trains one on the dataset's own images in about a minute and caches it. Its accuracy on held-out
images says how far to trust it; ``cgan judge DATASET`` prints that accuracy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from tqdm import tqdm

from shards.core import format_version, self_hash, text_files
from shards.core.atomic_io import explain_disk_errors, move_directory, require_unused, write_bytes, write_json
from shards.core.errors import UserError, warn
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema
from shards.remote.cache import default_cache
from trainer.distributed.device import choose
from trainer.evaluation.judge import classifier
from trainer.evaluation.judge.classifier import ARCHITECTURES, Classifier, train_classifier
from trainer.evaluation.judge.data import LabelledImages, load_split, shrink, shrunk, validation_part
from trainer.evaluation.metrics.appearance import visible
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.feature_extractors import Extractor, judge_features
from trainer.evaluation.metrics.label_accuracy import LabelAccuracy, judgeable_attributes, label_accuracy
from trainer.run.state_dicts import weights_hash

FORMAT_VERSION = 1
METHOD = 1  # version of the training method; part of the cache key
SECOND: Mapping[str, Any] = {"seed": 1, "architecture": "pooled"}  # of `judge_of`: the judge that confirms the first
_WEIGHTS, _NOTES = "judge.safetensors", "judge.json"
_TEMPERATURES = np.geomspace(0.5, 10, 60)  # not lower: a judge that was always right would become certain of anything


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge.

    Attributes:
        schema: of the labels (L entries, A attributes).
        shape: of the images that it judges.
        accuracy: its label accuracy on held-out real images.
        identity: dataset, seed and method that it was trained with.
        temperatures: float32 (L,), divisors of the logits that calibrate their probabilities (Guo et al. 2017,
            arXiv 1706.04599); the same for all entries of an attribute.
        net: the classifier, in eval mode.
    """

    schema: Schema
    shape: ImageShape
    accuracy: LabelAccuracy
    identity: Mapping[str, Any]
    temperatures: np.ndarray
    net: Classifier = field(repr=False)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return calibrated logits: the softmax of an exclusive attribute, or the sigmoid of a tag, is a probability.

        Args:
            images: uint8 (N, C, H, W).

        Returns:
            float32 (N, L); 0 for vectors and texts.

        Raises:
            ValueError: images of another shape or dtype.
        """
        return classifier.logits(self.net, self._shrink(images)) / self.temperatures * _judgeable_mask(self.schema)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the inputs of its last layer, for distances of images: float32 (N, F); arguments as `logits`'s."""
        return classifier.features(self.net, self._shrink(images))

    def extractor(self) -> Extractor:
        """Return `features` as an extractor, identified by the hash of the weights."""
        return judge_features(self.features, classifier.FEATURES, weights_hash(self.net)[:16])

    def label_accuracy(
        self, images: np.ndarray, label: np.ndarray, known: np.ndarray, seen: Combinations | None = None
    ) -> LabelAccuracy:
        """Return the label accuracy of images uint8 (N, C, H, W), with doubts; see `label_accuracy`."""
        return label_accuracy(self.schema, self.logits(images), label, known, real=self.accuracy, seen=seen)

    def _shrink(self, images: np.ndarray) -> np.ndarray:
        channels, height, width = dataclasses.astuple(self.shape)
        if images.dtype != np.uint8 or images.shape[1:] != (channels, height, width):
            raise ValueError(
                f"the judge takes uint8 (N, {channels}, {height}, {width}), not {images.dtype} {images.shape}"
            )
        return shrink(visible(images))

    def save(self, folder: Path) -> None:
        """Write it to a new folder, atomically.

        Raises:
            UserError: the folder exists.
            Failure: it cannot be written.
        """
        folder = require_unused(folder)
        building = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        tensors = {name: value.cpu().contiguous() for name, value in self.net.state_dict().items()}
        weights = save(tensors | {"temperatures": torch.from_numpy(self.temperatures)})
        notes = {
            "format_version": FORMAT_VERSION,
            "identity": dict(self.identity),
            "schema": self.schema.to_json(),
            "size": self.shape.size,
            "shape": list(dataclasses.astuple(self.shape)),
            "real": self.accuracy.to_json(),
            "sha256": {_WEIGHTS: hashlib.sha256(weights).hexdigest()},
        }
        try:
            with explain_disk_errors(building):
                building.mkdir(parents=True)
            write_bytes(building / _WEIGHTS, weights)
            write_json(building / _NOTES, self_hash.with_hash(notes))
            move_directory(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Judge:
        """Load what `save` wrote.

        Raises:
            UserError: there is no judge, it is damaged, or a later version wrote it.
        """
        folder = Path(folder)
        if not (folder / _NOTES).is_file():
            raise UserError("judge-missing", f"{folder} has no judge ({_NOTES}); train one with: cgan judge DATASET")
        try:
            notes = text_files.read_json(folder / _NOTES)
            format_version.check(notes, FORMAT_VERSION, f"{folder} has judge format")
            weights = (folder / _WEIGHTS).read_bytes()
            if not self_hash.is_intact(notes) or hashlib.sha256(weights).hexdigest() != notes["sha256"][_WEIGHTS]:
                raise ValueError("its hash does not match")
            schema = Schema.from_json(notes["schema"], str(folder / _NOTES))
            tensors = load(weights)
            temperatures = tensors.pop("temperatures").numpy()
            architecture = ARCHITECTURES[notes["identity"].get("architecture", "strided")]
            size = notes["size"]
            shape = ImageShape(*notes.get("shape", (3, size, size)))  # older versions knew squares in RGB alone
            net = architecture(shrunk(shape), schema.width)
            net.load_state_dict(tensors)
            net = net.to(choose(device)).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            accuracy = LabelAccuracy.from_json(notes["real"])
            return cls(schema, shape, accuracy, notes["identity"], temperatures, net)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                "judge-damaged", f"the judge in {folder} is damaged ({reason}); delete it and train it again"
            ) from None


def judge_of(
    dataset: Dataset,
    *,
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    progress: bool = True,
    architecture: str = "strided",
) -> Judge:
    """Return the judge of a dataset, from the cache or trained and cached.

    The same images, labels and seed give the same judge (bit for bit on one kind of CPU with one number of threads).

    Args:
        seed: determines which images are held out, and the training.
        cache: directory of the cache; None: ~/.cache/cgan-trainer/judges. Any number of processes may share it.
        progress: show bars, on a terminal.
        architecture: of the classifier, one of `ARCHITECTURES`.

    Raises:
        UserError: no attribute can be judged, or too few images are labelled.
        Failure: the images cannot be read.
    """
    if not judgeable_attributes(dataset.schema):
        kinds = " and ".join(sorted({a.kind for a in dataset.schema.attributes}))
        raise UserError(
            "not-judgeable",
            f"{dataset.where}: its labels are of kind {kinds}, which cannot be judged; "
            "a judge needs tags or exclusive attributes of two values or more",
        )
    where = choose(device)
    validation = validation_part(dataset)
    identity = _identity(dataset, validation, seed, architecture)
    folder = _cached(identity, cache)
    if folder.is_dir():
        try:
            return Judge.load(folder, str(where))
        except UserError:  # a damaged one is trained again
            shutil.rmtree(folder, ignore_errors=True)
    judge = _train(dataset, validation, identity, where, progress)
    _write_to_cache(judge, folder)
    return judge


def read_held_out(judge: Judge, dataset: Dataset, *, progress: bool = True) -> tuple[np.ndarray, Labels]:
    """Return what a judge reads in the real images that it was tested on and has not learned from.

    Args:
        dataset: that `judge_of` was called with.
        progress: show a bar, on a terminal.

    Returns:
        Calibrated logits float32 (n, L), and the labels of the same images.

    Raises:
        UserError, Failure: as `judge_of`.
    """
    with _bar("judge: reading held-out images", progress) as bar:
        split = load_split(
            dataset, validation_part(dataset), int(judge.identity["seed"]), lambda more: bar.update(more)
        )
    images = split.held_out
    logits = classifier.logits(judge.net, images.images) / judge.temperatures * _judgeable_mask(judge.schema)
    return logits, Labels(images.label, images.known)


def cached_judge(dataset: Dataset, device: str = "auto", cache: Path | None = None) -> Judge | None:
    """Return the judge of a dataset if `judge_of` has trained and cached it; None otherwise, or if it is damaged."""
    folder = _cached(_identity(dataset, validation_part(dataset), 0, "strided"), cache)
    with contextlib.suppress(UserError):
        return Judge.load(folder, device)
    return None


def _identity(dataset: Dataset, validation: Dataset | None, seed: int, architecture: str) -> dict[str, Any]:
    """Return what decides about a judge."""
    identity = {
        "method": METHOD,
        "data": dataset.fingerprint,
        "validation": validation.fingerprint if validation is not None else None,
        "seed": seed,
    }
    return identity if architecture == "strided" else identity | {"architecture": architecture}


def _cached(identity: Mapping[str, Any], cache: Path | None) -> Path:
    """Return the folder of a judge in the cache."""
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    return (cache or default_cache().parent / "judges") / name


def _train(
    dataset: Dataset, validation: Dataset | None, identity: Mapping[str, Any], device: torch.device, progress: bool
) -> Judge:
    schema, seed = dataset.schema, int(identity["seed"])
    with _bar("judge: reading", progress) as bar:
        split = load_split(dataset, validation, seed, lambda more: bar.update(more))
    with _bar("judge: training", progress) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        architecture = ARCHITECTURES[identity.get("architecture", "strided")]
        net = train_classifier(schema, split.train, split.tune, seed, device, show, architecture)
    temperatures = _temperatures(schema, classifier.logits(net, split.tune.images), split.tune)
    logits = classifier.logits(net, split.held_out.images) / temperatures
    accuracy = label_accuracy(schema, logits, split.held_out.label, split.held_out.known)
    if split.damaged:
        warn("damaged-images", f"{split.damaged:,} damaged images were left out of the training of the judge")
    return Judge(schema, dataset.shape, accuracy, dict(identity), temperatures, net)


def _temperatures(schema: Schema, logits: np.ndarray, images: LabelledImages) -> np.ndarray:
    """Return for each attribute the temperature that makes the labels of ``images`` most likely, float32 (L,)."""
    found = np.ones(schema.width, np.float32)
    for a in judgeable_attributes(schema):
        start, known = int(schema.starts[a]), images.known[:, a]
        entries = slice(start, start + schema.attributes[a].width)
        scores, label = logits[known, entries].astype(np.float64), images.label[known, entries]
        if schema.attributes[a].kind == "tag":  # a sigmoid is the softmax of (x, 0)
            scores, label = np.pad(scores, ((0, 0), (0, 1))), np.hstack([label, 1 - label])
        if len(scores):
            found[entries] = min(_TEMPERATURES, key=lambda t: _cross_entropy(scores / t, label))
    return found


def _cross_entropy(scores: np.ndarray, label: np.ndarray) -> float:
    """Return the mean cross-entropy of softmax scores with labels, both (n, V)."""
    scores = scores - scores.max(1, keepdims=True)
    return float(np.log(np.exp(scores).sum(1)).mean() - (scores * label).sum(1).mean())


def _judgeable_mask(schema: Schema) -> np.ndarray:
    """Return 1 for label entries that can be judged, else 0: float32 (L,)."""
    return np.repeat([float(a.kind not in WORDLESS) for a in schema.attributes], schema.widths).astype(np.float32)


def _write_to_cache(judge: Judge, folder: Path) -> None:
    """Write a judge to the cache, unless another process has; warn if it cannot be written."""
    try:
        judge.save(folder)
    except UserError as error:
        if not folder.exists():
            warn("not-cached", f"the judge could not be cached ({error})")


@contextlib.contextmanager
def _bar(title: str, progress: bool) -> Iterator[Any]:
    hidden = not (progress and sys.stderr.isatty())
    with tqdm(desc=title, unit="img", unit_scale=True, dynamic_ncols=True, disable=hidden) as bar:
        yield bar
