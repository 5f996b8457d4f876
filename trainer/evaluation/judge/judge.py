"""The judge: a small classifier of a data set's labels, which says whether a picture shows what its label says.

``judge_of(dataset)`` trains one on the data set's own pictures, in about a minute, and keeps it in the user's cache;
its accuracy on pictures that it never saw says how far to believe it. ``python -m trainer judge SHARDS`` prints that.
"""

from __future__ import annotations

import contextlib
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

from shards.core import self_hash
from shards.core.atomic_io import explained, move_directory, vacant, write_bytes, write_json
from shards.core.errors import UserError, warn
from shards.dataset.dataset import Dataset
from shards.dataset.schema import WORDLESS, Schema
from shards.remote.cache import default_cache
from trainer.distributed.device import choose
from trainer.evaluation.judge import classifier
from trainer.evaluation.judge.classifier import Classifier, learn
from trainer.evaluation.judge.data import Pictures, factor, gather, shrink, validation_part
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.feature_extractors import Extractor, judged
from trainer.evaluation.metrics.fidelity import Fidelity, fidelity, judgeable

FORMAT_VERSION = 1
METHOD = 1  # of choosing pictures and of training; another number trains other judges
_WEIGHTS, _NOTES = "judge.safetensors", "judge.json"
_TEMPERATURES = np.geomspace(0.5, 10, 60)  # no lower: a judge that was always right would be sure of anything


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge.

    Attributes:
        schema: of the labels that it judges (L words, A attributes).
        size: side of the pictures that it is shown, in pixels.
        real: its own result on held-out real pictures.
        identity: the data, seed and method that it was made with.
        temperatures: float32 (L,), what logits are divided by, so that they are as sure as they are right
            (Guo et al. 2017, arXiv 1706.04599); one number for each attribute.
    """

    schema: Schema
    size: int
    real: Fidelity
    identity: Mapping[str, Any]
    temperatures: np.ndarray
    net: Classifier = field(repr=False)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What it sees: the softmax over an exclusive attribute's entries, or the sigmoid of a tag's, is a probability.

        Args:
            images: uint8 (N, 3, S, S).

        Returns:
            float32 (N, L); 0 for vectors and texts.

        Raises:
            ValueError: pictures of another shape or type.
        """
        return classifier.logits(self.net, self._small(images)) / self.temperatures * _seen(self.schema)

    def features(self, images: np.ndarray) -> np.ndarray:
        """What its last layer sees, for distances between pictures: float32 (N, F); arguments as for `logits`."""
        return classifier.features(self.net, self._small(images))

    def extractor(self) -> Extractor:
        """`features`, known by the hash of its weights: one that was trained anew may see other things."""
        digest = hashlib.sha256()
        for name, value in self.net.state_dict().items():
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return judged(self.features, classifier.FEATURES, digest.hexdigest()[:16])

    def fidelity(
        self, images: np.ndarray, label: np.ndarray, known: np.ndarray, seen: Combinations | None = None
    ) -> Fidelity:
        """Whether pictures uint8 (N, 3, S, S) show their labels, with doubts where it judges badly; see `fidelity`."""
        return fidelity(self.schema, self.logits(images), label, known, real=self.real, seen=seen)

    def _small(self, images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8 or images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"the judge sees uint8 (N, 3, {self.size}, {self.size}), not {images.dtype} {images.shape}"
            )
        return shrink(images, factor(self.size))

    def save(self, folder: Path) -> None:
        """Write it as a new folder, in one step.

        Raises:
            UserError: something lies there already.
            Failure: the disk refuses.
        """
        folder = vacant(folder)
        building = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        tensors = {name: value.cpu().contiguous() for name, value in self.net.state_dict().items()}
        weights = save(tensors | {"temperatures": torch.from_numpy(self.temperatures)})
        notes = {
            "format_version": FORMAT_VERSION,
            "identity": dict(self.identity),
            "schema": self.schema.to_json(),
            "size": self.size,
            "real": self.real.to_json(),
            "sha256": {_WEIGHTS: hashlib.sha256(weights).hexdigest()},
        }
        try:
            with explained(building):
                building.mkdir(parents=True)
            write_bytes(building / _WEIGHTS, weights)
            write_json(building / _NOTES, self_hash.sealed(notes))
            move_directory(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Judge:
        """What `save` wrote.

        Raises:
            UserError: there is none, it is damaged, or a later version wrote it.
        """
        folder = Path(folder)
        if not (folder / _NOTES).is_file():
            raise UserError(f"{folder} is no judge: it has no {_NOTES}; make one with: python -m trainer judge SHARDS")
        try:
            notes = json.loads((folder / _NOTES).read_text("utf-8"))
            if notes["format_version"] > FORMAT_VERSION:
                newer = f"judge format {notes['format_version']}, and this version reads up to {FORMAT_VERSION}"
                raise UserError(f"{folder} has {newer}; upgrade, or make the judge anew")
            weights = (folder / _WEIGHTS).read_bytes()
            if not self_hash.whole(notes) or hashlib.sha256(weights).hexdigest() != notes["sha256"][_WEIGHTS]:
                raise ValueError("it was changed, its hash does not fit")
            schema = Schema.from_json(notes["schema"], str(folder / _NOTES))
            tensors = load(weights)
            temperatures = tensors.pop("temperatures").numpy()
            net = Classifier(notes["size"] // factor(notes["size"]), schema.width)
            net.load_state_dict(tensors)
            net = net.to(choose(device)).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            real = Fidelity.from_json(notes["real"])
            return cls(schema, notes["size"], real, notes["identity"], temperatures, net)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the judge in {folder} is damaged ({reason}); delete it and make it anew") from None


def judge_of(
    dataset: Dataset, *, seed: int = 0, device: str = "auto", cache: Path | None = None, progress: bool = True
) -> Judge:
    """The judge of a data set: the one in the cache, or one that is trained now and put there.

    The same pictures, labels and seed give the same judge (to the last bit on one kind of CPU and number of threads).

    Args:
        cache: where judges are kept (left out: ~/.cache/cgan-trainer/judges). Any number of processes may share it.
        progress: show a bar, on a terminal.

    Raises:
        UserError: no attribute can be judged, or too few pictures are labelled.
        Failure: the pictures cannot be read.
    """
    if not judgeable(dataset.schema):
        kinds = " and ".join(sorted({a.kind for a in dataset.schema.attributes}))
        raise UserError(
            f"{dataset.where}: its labels are of kind {kinds}, of which nobody can see whether a picture has them; "
            "a judge needs tags or exclusive attributes of two values or more"
        )
    where = choose(device)
    aside = validation_part(dataset)
    identity = {
        "method": METHOD,
        "data": dataset.fingerprint,
        "validation": aside.fingerprint if aside is not None else None,
        "seed": seed,
    }
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder = (cache or default_cache().parent / "judges") / name
    if folder.is_dir():
        try:
            return Judge.load(folder, str(where))
        except UserError:  # a damaged one is made anew
            shutil.rmtree(folder, ignore_errors=True)
    judge = _train(dataset, aside, identity, where, progress)
    _keep(judge, folder)
    return judge


def _train(
    dataset: Dataset, aside: Dataset | None, identity: Mapping[str, Any], device: torch.device, progress: bool
) -> Judge:
    schema, seed = dataset.schema, int(identity["seed"])
    with _bar("judge: reading", progress) as bar:
        sides = gather(dataset, aside, seed, lambda more: bar.update(more))
    with _bar("judge: learning", progress) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        net = learn(schema, sides.learn, sides.tune, seed, device, show)
    temperatures = _temperatures(schema, classifier.logits(net, sides.tune.images), sides.tune)
    scores = classifier.logits(net, sides.held_out.images) / temperatures
    real = fidelity(schema, scores, sides.held_out.label, sides.held_out.known)
    if sides.damaged:
        warn(f"{sides.damaged:,} damaged pictures were left out of the judge")
    return Judge(schema, dataset.size, real, dict(identity), temperatures, net)


def _temperatures(schema: Schema, logits: np.ndarray, pictures: Pictures) -> np.ndarray:
    """float32 (L,): for each attribute the temperature that makes the labels of ``pictures`` likeliest."""
    found = np.ones(schema.width, np.float32)
    for a in judgeable(schema):
        start, told = int(schema.starts[a]), pictures.known[:, a]
        entries = slice(start, start + schema.attributes[a].width)
        scores, label = logits[told, entries].astype(np.float64), pictures.label[told, entries]
        if schema.attributes[a].kind == "tag":  # a sigmoid is the softmax of (x, 0)
            scores, label = np.pad(scores, ((0, 0), (0, 1))), np.hstack([label, 1 - label])
        if len(scores):
            found[entries] = min(_TEMPERATURES, key=lambda t: _surprise(scores / t, label))
    return found


def _surprise(scores: np.ndarray, label: np.ndarray) -> float:
    """The mean negative logarithm of the probability of the label."""
    scores = scores - scores.max(1, keepdims=True)
    return float(np.log(np.exp(scores).sum(1)).mean() - (scores * label).sum(1).mean())


def _seen(schema: Schema) -> np.ndarray:
    """float32 (L,): 1 for entries that can be judged, else 0."""
    return np.repeat([float(a.kind not in WORDLESS) for a in schema.attributes], schema.widths).astype(np.float32)


def _keep(judge: Judge, folder: Path) -> None:
    """Put a judge into the cache, unless another process has; one that cannot be written is no reason to stop."""
    try:
        judge.save(folder)
    except UserError as error:
        if not folder.exists():
            warn(f"the judge could not be kept ({error})")


@contextlib.contextmanager
def _bar(doing: str, wanted: bool) -> Iterator[Any]:
    hidden = not (wanted and sys.stderr.isatty())
    with tqdm(desc=doing, unit="img", unit_scale=True, dynamic_ncols=True, disable=hidden) as bar:
        yield bar
